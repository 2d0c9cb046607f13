"""One gradient step against its plain transition-by-transition form, and the pieces of its loss."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from aml100.learning.head_kernel import sum_along_paths
from aml100.learning.learner import Batch, Learner, bias_penalty, double_q_value, multi_step_targets, reference_loss
from aml100.learning.settings import TrainingSettings
from aml100.market.position import POSITION_SIZE
from tests.unit.learning.planted import tiny_settings

CPU = torch.device("cpu")


def make_batch(seed: int, paths: int = 1, ends: bool = True) -> Batch:
    """2 stretches of 3 + 6 + 1 bars, 3 positions; where paths are given their states follow on one another."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    position, following = draw(2, 6, 3, POSITION_SIZE), draw(2, 6, 3, 3, POSITION_SIZE)
    taken = torch.randint(0, 3, (2, 6, paths), generator=generator)
    for b in range(2):
        for bar in range(5):
            for path in range(paths):
                position[b, bar + 1, path] = following[b, bar, path, taken[b, bar, path]]
    discount = torch.full((2, 6, 3, 3), 0.9)
    if ends:
        discount[0, 2, 0] = 0.0
    return Batch(draw(2, 10, 5), position, following, draw(2, 6, 3, 3), discount, torch.tensor([1.0, 0.4]), taken)


@pytest.mark.parametrize(("n_step", "huber_delta"), [(1, 0.3), (3, 0.3), (3, 10.0)])
def test_loss_equals_the_transition_by_transition_form(n_step: int, huber_delta: float) -> None:
    settings = tiny_settings(n_step=n_step, bias_weight=0.5, bias_threshold=0.34, huber_delta=huber_delta)
    learner = Learner(5, settings, seed=1, device=CPU)
    with torch.no_grad():
        for weight in learner.target.parameters():
            weight.add_(0.05)
        learner.online.duel.weight.mul_(10.0)
    for seed in range(3):
        batch = make_batch(seed)
        loss, _, _ = learner.loss(batch)
        plain = reference_loss(learner.online, learner.target, batch, settings)
        assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-5)


def test_multi_step_targets_differ_from_one_step_where_the_path_follows_the_policy() -> None:
    batch = make_batch(0, ends=False)
    losses = []
    for n_step in (1, 4):
        learner = Learner(5, tiny_settings(n_step=n_step, bias_weight=0.0), seed=1, device=CPU)
        best = learner.online(batch.market[:, :-1], _padded(batch))[:, 3:, :1].argmax(dim=-1)
        followed = Batch(*[getattr(batch, name) for name in Batch.__slots__[:-1]], taken=best)
        losses.append(float(learner.loss(followed)[0].detach()))
    assert losses[0] != losses[1]


def _padded(batch: Batch) -> torch.Tensor:
    return torch.cat([torch.zeros(2, 3, 3, POSITION_SIZE), batch.position], dim=1)


def test_targets_carry_no_gradient_and_only_the_online_network_learns() -> None:
    learner = Learner(5, tiny_settings(), seed=0, device=CPU)
    learner.step(make_batch(0))
    assert all(weight.grad is None for weight in learner.target.parameters())
    assert all(weight.grad is not None for weight in learner.online.parameters())


def test_the_online_network_picks_and_the_target_network_prices() -> None:
    online, target = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[10.0, 20.0, 30.0]])
    assert double_q_value(online, target).tolist() == [20.0]


def test_bias_penalty_has_a_gradient_and_is_nothing_below_the_threshold() -> None:
    lopsided = torch.tensor([[5.0, 0.0, 0.0], [4.0, 0.0, 0.0]], requires_grad=True)
    penalty = bias_penalty(lopsided, 0.7)
    expected = np.mean([np.exp(v) / (np.exp(v) + 2) for v in (5.0, 4.0)]) - 0.7
    assert float(penalty.detach()) == pytest.approx(expected, rel=1e-5)
    penalty.backward()  # type: ignore[no-untyped-call]
    assert lopsided.grad is not None
    assert (lopsided.grad[:, 0] > 0).all()  # descent lowers the favoured action
    assert float(bias_penalty(torch.zeros(4, 3), 0.7)) == 0.0


def test_what_is_paid_seldom_and_well_is_worth_its_mean() -> None:
    """Nine draws of ten lose a little and the tenth pays for more than that: its median is a loss, its mean is not."""
    learner = Learner(5, tiny_settings(learning_rate=1e-2, bias_weight=0.0), seed=0, device=CPU)
    generator = torch.Generator().manual_seed(0)
    template = make_batch(0)
    valued = []
    for step in range(400):
        drawn = torch.rand(template.reward.shape, generator=generator)
        reward = torch.where(drawn < 0.1, 5.0, -0.4)
        batch = replace(template, reward=reward, discount=torch.zeros_like(template.discount))
        learner.step(batch)
        if step >= 300:
            valued.append(float(learner.loss(batch)[2].mean()))
    assert np.mean(valued) == pytest.approx(0.1 * 5.0 - 0.9 * 0.4, abs=0.05)


def test_importance_weights_scale_a_stretch() -> None:
    learner = Learner(5, tiny_settings(bias_weight=0.0), seed=0, device=CPU)
    batch = make_batch(0)
    parts = []
    for weight in ([1.0, 0.0], [0.0, 1.0], [1.0, 0.4]):
        weighed = Batch(*[getattr(batch, n) for n in Batch.__slots__ if n not in ("weight", "taken")],
                        weight=torch.tensor(weight), taken=batch.taken)  # fmt: skip
        parts.append(float(learner.loss(weighed)[0].detach()))
    assert parts[2] == pytest.approx(parts[0] + 0.4 * parts[1], rel=1e-5)


def test_repeated_steps_on_one_batch_bring_its_error_down() -> None:
    learner = Learner(5, tiny_settings(learning_rate=1e-2, target_update=0.0, bias_weight=0.0), seed=0, device=CPU)
    batch = make_batch(0)
    first = learner.step(batch)
    for _ in range(60):
        last = learner.step(batch)
    assert last.loss < 0.5 * first.loss
    assert last.td_errors.shape == (2,)
    assert np.isfinite(last.gradient_norm)


def summed_along(reward: list[float], discount: list[float], follows: list[bool], n: int) -> list[float]:
    """Targets of a path that always buys; `follows` says where the policy would as well. A next state is worth 100."""
    shape = (1, len(reward), 1, 3)
    rewards, discounts, q = (np.zeros(shape, np.float32) for _ in range(3))
    rewards[0, :, 0, 1], discounts[0, :, 0, 1] = reward, discount
    q[0, :, 0, 1] = np.where(follows, 1.0, -1.0)
    targets = np.full(shape, -7.0, np.float32)
    taken = np.ones((1, len(reward), 1), np.int64)
    sum_along_paths(targets, rewards, discounts, np.full(shape, 100.0, np.float32), q, taken, n)
    assert (targets[0, :, 0, ::2] == -7.0).all()  # what was not taken keeps its one-step target
    return [float(one) for one in targets[0, :, 0, 1]]


def test_multi_step_sum_by_hand() -> None:
    """It goes on as long as the next action is the policy's, the stretch lasts and the episode has not ended."""
    everywhere = [True] * 4
    sums = summed_along([1, 2, 4, 8], [0.5] * 4, [True, True, True, False], 3)
    assert sums == [1 + 1 + 1 + 12.5, 2 + 2 + 25.0, 4 + 50.0, 8 + 50.0]
    assert summed_along([1, 2, 4, 8], [0.5] * 4, everywhere, 2) == [1 + 1 + 25.0, 2 + 2 + 25.0, 4 + 4 + 25.0, 8 + 50.0]
    assert summed_along([1, 2, 4, 8], [0.5, 0.0, 0.5, 0.5], everywhere, 3)[:2] == [1 + 1, 2]
    assert summed_along([1, 2, 4, 8], [0.5] * 4, everywhere, 1) == [-7.0] * 4  # one step is what came in


@pytest.mark.parametrize(("paths", "n_step"), [(0, 3), (1, 1), (1, 2), (2, 3), (3, 40)])
def test_multi_step_targets_of_torch_are_those_of_the_compiled_form(paths: int, n_step: int) -> None:
    """On long stretches with episodes that end, paths that mostly follow the policy, and sums longer than a stretch."""
    random = np.random.default_rng(paths)
    shape = (3, 30, 4, 3)
    reward, value, q, one_step = (random.standard_normal(shape).astype(np.float32) for _ in range(4))
    discount = np.where(random.random(shape) < 0.05, 0.0, 0.97).astype(np.float32)
    taken = q[:, :, :paths].argmax(axis=-1)
    strays = random.random(taken.shape) < 0.2
    taken[strays] = random.integers(0, 3, int(strays.sum()))
    batch = make_batch(0)
    given = {"reward": reward, "discount": discount, "taken": taken}
    batch = replace(batch, **{name: torch.from_numpy(array) for name, array in given.items()})
    arguments = [torch.from_numpy(array) for array in (one_step, value, q)]
    targets = multi_step_targets(batch, *arguments, n_step).numpy()
    expected = one_step.copy()
    sum_along_paths(expected, reward, discount, value, q, taken, n_step)
    np.testing.assert_allclose(targets, expected, rtol=1e-5, atol=1e-6)
    changed = (targets != one_step).any(axis=(0, 1, 3))
    assert changed.tolist() == [n_step > 1 and path < paths for path in range(4)]


@pytest.mark.parametrize("huber_delta", [0.3, 10.0])
def test_many_steps_of_torch_go_where_the_compiled_ones_go(huber_delta: float) -> None:
    """All that a step moves: online, target and averaged weights, and what it tells."""
    settings = tiny_settings(n_step=3, bias_weight=0.5, huber_delta=huber_delta)
    learners = [Learner(5, settings, seed=1, device=CPU) for _ in range(2)]
    learners[1].compiled = False
    for seed in range(20):
        compiled, torchs = (learner.step(make_batch(seed % 3)) for learner in learners)
        assert torchs.loss == pytest.approx(compiled.loss, rel=1e-4)
        assert torchs.largest_q == pytest.approx(compiled.largest_q, rel=1e-4)
        assert torchs.gradient_norm == pytest.approx(compiled.gradient_norm, rel=1e-3)
        np.testing.assert_allclose(torchs.td_errors, compiled.td_errors, rtol=1e-4)
    for name in ("online", "target", "average"):
        for one, other in zip(*(getattr(learner, name).parameters() for learner in learners), strict=True):
            np.testing.assert_allclose(one.detach(), other.detach(), rtol=0, atol=2e-4)


def test_a_step_of_torch_reads_nothing_back_before_its_end() -> None:
    """On the meta device there are no values: what asked for one, to wait for a GPU, would fail."""
    learner = Learner(5, tiny_settings(n_step=3, bias_weight=0.5), seed=1, device=CPU)
    learner.compiled, meta = False, torch.device("meta")
    for name in ("online", "target", "average"):
        getattr(learner, name).to(meta)
    learner.optimizer = torch.optim.AdamW(learner.online.parameters(), fused=False, foreach=True)
    batch = make_batch(0)
    moved = Batch(**{field.name: getattr(batch, field.name).to(meta) for field in fields(batch)})
    told = learner.step_on_device(moved)
    assert (told.shape, told.dtype) == ((3 + 2,), torch.float64)
    with pytest.raises(NotImplementedError, match="no data"):
        told.cpu()


@pytest.mark.parametrize("average_update", [1e-6, 0.5])
def test_the_kept_average_spans_the_last_fifth_of_the_steps_or_fewer(average_update: float) -> None:
    """The weights stood still at 0 for 30 steps and then at 1 for 10: what of the first the average still holds."""
    learner = Learner(5, tiny_settings(average_update=average_update, learning_rate=1e-12), seed=0, device=CPU)
    batch = make_batch(0)
    for step in range(40):
        with torch.no_grad():
            for weight in (*learner.online.parameters(), *(learner.average.parameters() if step == 0 else ())):
                weight.fill_(0.0 if step < 30 else 1.0)
        learner.step(batch)
    held = float(learner.average.duel.weight.mean())
    # each step takes 5 / steps of the way, or `average_update` where that is more
    expected = 1.0 - np.prod([1.0 - max(average_update, 5.0 / step) for step in range(31, 41)])
    assert held == pytest.approx(expected, abs=1e-3)


def test_schedules_count_epochs() -> None:
    plan = TrainingSettings(epochs=101)
    assert plan.epsilon_at(0) == 1.0
    assert plan.epsilon_at(1) == pytest.approx(0.985)
    assert plan.epsilon_at(400) == 0.03
    assert plan.beta_at(0) == pytest.approx(0.4)
    assert plan.beta_at(50) == pytest.approx(0.7)
    assert plan.beta_at(100) == pytest.approx(1.0)
    assert plan.learning_rate_at(50) == pytest.approx(8e-5)  # warm restart
    assert plan.learning_rate_at(25) == pytest.approx((8e-5 + 1e-6) / 2)
