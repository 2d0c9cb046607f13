"""One gradient step: exact targets for all three actions of many positions from a single reading of the market.

A batch holds B stretches of burn-in + L bars (and one more, whose encoding prices the next states). At every bar K
position states are given; the kernel has priced their three actions and produced the 3 states that follow. So one pass
of the encoder serves B x L x K x 3 targets, none of which is an estimate of what another action would have brought:

    target(t, k, a) = r(t, k, a) + discount x Q_target(s', argmax Q_online(s'))

Multi-step: where the actions taken along a path are given, the target of the taken action sums up to n rewards, and
stops summing where the next action taken is not the one that the online network now prefers, so it stays on-policy.

On a CPU the head's part is compiled (head_kernel.py). On a GPU the same is done by torch, and nothing waits for the GPU
before the step's one reading: loss, priorities, largest Q and gradient norm come back together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aml100.learning.head_kernel import HeadWeights, backward, forward, next_values, sum_along_paths
from aml100.learning.network import ACTIONS, QNetwork, blend_into
from aml100.learning.settings import TrainingSettings

AVERAGED_PART: Final = 5.0
"""The average of the weights spans a part of the steps so far: one in so many."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one step learns from; B stretches of T = burn-in + L + 1 bars, K positions at each of L bars.

    Attributes:
        market: scaled features [B, T, F].
        position: states at the close of the L learned bars [B, L, K, P].
        following: the states that each action leads to, one bar later [B, L, K, 3, P].
        reward: of each action [B, L, K, 3], in reward units.
        discount: gamma, 0 where the step truly ended the episode [B, L, K, 3].
        weight: importance of each stretch [B].
        taken: int64 [B, L, R], the actions taken on the first R of the K positions, which are paths: the state at
            l + 1 is the one that the action taken at l led to. R may be 0.
    """

    market: Tensor
    position: Tensor
    following: Tensor
    reward: Tensor
    discount: Tensor
    weight: Tensor
    taken: Tensor


@dataclass(frozen=True, slots=True)
class StepResult:
    """`loss` of the step, `td_errors` float64 [B] as priorities, the largest |Q| seen, and the gradient's norm."""

    loss: float
    td_errors: npt.NDArray[np.float64]
    largest_q: float
    gradient_norm: float


def double_q_value(q_online: Tensor, q_target: Tensor) -> Tensor:
    """Value of a state: the online network picks the action, the target network prices it; [..., A] to [...]."""
    best = q_online.argmax(dim=-1, keepdim=True)
    return q_target.gather(-1, best).squeeze(-1)


def bias_penalty(q: Tensor, threshold: float) -> Tensor:
    """What the batch's mean action probabilities (softmax of Q [..., 3]) exceed `threshold` by, summed; a scalar.

    It has a gradient: a policy that answers everything with one action is pulled back.
    """
    mean = torch.softmax(q, dim=-1).reshape(-1, ACTIONS).mean(dim=0)  # [3]
    return torch.relu(mean - threshold).sum()


def multi_step_targets(batch: Batch, one_step: Tensor, value: Tensor, q_online: Tensor, n: int) -> Tensor:
    """Replace the targets of the actions taken on paths by sums of up to `n` rewards.

    Args:
        one_step: targets of all actions [B, L, K, 3]; `value` what each next state is worth, same shape.
        q_online: the online network's view of the states [B, L, K, 3], which says where a path left the policy.
    """
    length, paths = batch.taken.shape[1:]
    if n <= 1 or paths == 0:
        return one_step
    picked = batch.taken.unsqueeze(-1)  # [B, L, R, 1]

    def along(values: Tensor) -> Tensor:
        return values[:, :, :paths].gather(-1, picked).squeeze(-1)  # [B, L, R]

    gain, factor, worth = along(batch.reward), along(batch.discount), along(value)
    follows = batch.taken == q_online[:, :, :paths].argmax(dim=-1)  # [B, L, R]
    total, left, last_worth = gain.clone(), factor.clone(), worth.clone()
    going = torch.ones_like(follows)  # [B, L - i, R]: the sum from l on takes in another; after an end it adds nothing
    for i in range(1, min(n, length)):
        going = going[:, : length - i] & follows[:, i:]
        so_far = left[:, : length - i]
        total[:, : length - i] += torch.where(going, so_far * gain[:, i:], 0.0)
        last_worth[:, : length - i] = torch.where(going, worth[:, i:], last_worth[:, : length - i])
        so_far *= torch.where(going, factor[:, i:], 1.0)
    returns = total + left * last_worth
    targets = one_step.clone()
    is_taken = picked == torch.arange(ACTIONS, device=picked.device)  # [B, L, R, 3]
    targets[:, :, :paths] = torch.where(is_taken, returns.unsqueeze(-1), one_step[:, :, :paths])
    return targets


class Learner:
    """Online and target network, the running average of the online weights, optimiser and the step itself.

    The average is the policy that is validated and kept: gradient noise makes single weights see gaps between actions
    that are not there, and every such gap is a trade that costs. It spans about the last fifth of the steps so far, and
    1 / `average_update` steps at most: early weights are forgotten soon, and the longer one learns the calmer it gets.
    """

    def __init__(self, features: int, settings: TrainingSettings, seed: int, device: torch.device) -> None:
        self.settings = settings
        shape = (features, settings.lstm_hidden, settings.lstm_layers, settings.head_hidden)
        self.online = QNetwork(*shape, seed=seed).to(device)
        self.target = QNetwork(*shape, seed=seed).to(device)
        self.target.load_state_dict(self.online.state_dict())
        self.target.requires_grad_(False)
        self.average = QNetwork(*shape, seed=seed).to(device)
        self.average.requires_grad_(False)
        self.steps = 0
        self.compiled = device.type == "cpu"
        self.optimizer = torch.optim.AdamW(
            self.online.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def set_learning_rate(self, learning_rate: float) -> None:
        """The schedule's rate for the steps to come."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def targets(self, batch: Batch, share: Tensor, q: Tensor) -> Tensor:
        """What the Q values [B, L, K, 3] are regressed towards; no gradient flows through it.

        `share` [B, L + 1, D] is the online head's share of the learned bars and the one after; `q` its Q values.
        """
        with torch.no_grad():
            first = batch.market.shape[1] - share.shape[1]
            b, length, k = batch.reward.shape[:3]
            position = batch.following.reshape(b, length, k * ACTIONS, -1)
            slow_share, _ = self.target.encode(batch.market)
            q_online = self.online.q_values(share[:, 1:].detach(), position)
            q_target = self.target.q_values(slow_share[:, first + 1 :], position)
            value = double_q_value(q_online, q_target).reshape(b, length, k, ACTIONS)
            one_step = batch.reward + batch.discount * value
            return multi_step_targets(batch, one_step, value, q.detach(), self.settings.n_step)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The scalar loss, the TD errors [B, L, K, 3] and the Q values, all at once from one encoder pass."""
        length = batch.reward.shape[1]
        encoded, _ = self.online.encode(batch.market)
        share = encoded[:, -(length + 1) :]  # [B, L + 1, D]
        q = self.online.q_values(share[:, :-1], batch.position)  # [B, L, K, 3]
        targets = self.targets(batch, share, q)
        each = nn.functional.huber_loss(q, targets, reduction="none", delta=self.settings.huber_delta)
        loss = (batch.weight[:, None, None, None] * each).mean()
        if self.settings.bias_weight > 0.0:
            loss = loss + self.settings.bias_weight * bias_penalty(q, self.settings.bias_threshold)
        return loss, (targets - q).detach(), q.detach()

    def step(self, batch: Batch) -> StepResult:
        """Learn from one batch: loss, clipped gradient, AdamW, soft target update."""
        told = self.step_on_device(batch).cpu().numpy()
        return StepResult(float(told[0]), told[3:], float(told[1]), float(told[2]))

    def step_on_device(self, batch: Batch) -> Tensor:
        """`step` without waiting for it: loss, largest |Q|, the gradient's norm and the priorities, float64 [3 + B]."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, errors, largest_q = self._backward_compiled(batch) if self.compiled else self._backward_torch(batch)
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), self.settings.gradient_clip_norm)
        self.optimizer.step()
        blend_into(self.target, self.online, self.settings.target_update)
        self.steps += 1
        blend_into(self.average, self.online, max(self.settings.average_update, min(1.0, AVERAGED_PART / self.steps)))
        priority = 0.9 * errors.amax(dim=1) + 0.1 * errors.mean(dim=1)
        return torch.cat([torch.stack([loss.double(), largest_q.double(), norm.double()]), priority.double()])

    def _backward_torch(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Fill the gradients; returns the loss, the mean |TD error| of each bar [B, L] and the largest |Q|."""
        loss, td, q = self.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), td.abs().mean(dim=(2, 3)), q.abs().amax()

    def _backward_compiled(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The same with the head's part compiled; only the encoder's gradient is torch's."""
        settings = self.settings
        length = batch.reward.shape[1]
        encoded, _ = self.online.encode(batch.market)
        with torch.no_grad():
            slow, _ = self.target.encode(batch.market)
        share = np.ascontiguousarray(encoded.detach()[:, -(length + 1) :].numpy())
        head = HeadWeights.of(self.online)
        position, following, reward, discount, weight, taken = (
            tensor.numpy()
            for tensor in (batch.position, batch.following, batch.reward, batch.discount, batch.weight, batch.taken)
        )
        value = next_values(share, slow[:, -(length + 1) :].numpy(), following, head, HeadWeights.of(self.target))
        q, mean = forward(share, position, head)
        goals = reward + discount * value
        sum_along_paths(goals, reward, discount, value, q, taken, settings.n_step)
        limits = (settings.bias_threshold, settings.bias_weight, settings.huber_delta)
        flow = backward(share, position, head, q, goals, weight, mean, *limits)
        whole = torch.zeros_like(encoded)
        whole[:, -(length + 1) :] = torch.from_numpy(flow.share)
        encoded.backward(whole)  # type: ignore[no-untyped-call]
        self.online.position_share.weight.grad = torch.from_numpy(flow.position.T.copy())
        self.online.duel.weight.grad = torch.from_numpy(flow.duel)
        self.online.duel.bias.grad = torch.from_numpy(flow.bias)
        return (
            torch.tensor(flow.loss, dtype=torch.float64),
            torch.from_numpy(flow.errors),
            torch.tensor(np.abs(q).max()),
        )


def reference_loss(online: QNetwork, target: QNetwork, batch: Batch, settings: TrainingSettings) -> Tensor:
    """The same loss, one transition at a time, as the plain form that `Learner.loss` is tested against.

    Every transition reads its own bars from the beginning of the stretch, and sums its own multi-step return.
    """
    stretches, length, k = batch.reward.shape[:3]
    paths = batch.taken.shape[-1]
    burn_in = batch.market.shape[1] - length - 1

    def q_at(network: QNetwork, b: int, bar: int, position: Tensor) -> Tensor:
        q: Tensor = network(batch.market[b : b + 1, : burn_in + bar + 1], _at_last(position, burn_in + bar + 1))
        return q[0, -1, 0]

    def value_after(b: int, bar: int, row: int, action: int) -> Tensor:
        following = batch.following[b, bar, row, action]
        best = int(q_at(online, b, bar + 1, following).argmax())
        return q_at(target, b, bar + 1, following)[best]

    losses: list[Tensor] = []
    all_q: list[Tensor] = []
    for b in range(stretches):
        for bar in range(length):
            for row in range(k):
                q = q_at(online, b, bar, batch.position[b, bar, row])
                all_q.append(q)
                for action in range(ACTIONS):
                    gain, factor, step, act = torch.zeros(()), torch.ones(()), bar, action
                    with torch.no_grad():
                        while True:
                            gain = gain + factor * batch.reward[b, step, row, act]
                            factor = factor * batch.discount[b, step, row, act]
                            follows = row < paths and act == int(batch.taken[b, step, row])
                            if not follows or step + 1 >= length or step + 1 - bar >= settings.n_step or factor == 0.0:
                                break
                            preferred = int(q_at(online, b, step + 1, batch.position[b, step + 1, row]).argmax())
                            if preferred != int(batch.taken[b, step + 1, row]):
                                break
                            step, act = step + 1, preferred
                        goal = gain + factor * value_after(b, step, row, act)
                    each = nn.functional.huber_loss(q[action], goal, delta=settings.huber_delta)
                    losses.append(batch.weight[b] * each)
    loss = torch.stack(losses).mean()
    if settings.bias_weight > 0.0:
        loss = loss + settings.bias_weight * bias_penalty(torch.stack(all_q), settings.bias_threshold)
    return loss


def _at_last(position: Tensor, length: int) -> Tensor:
    """One position [P] as [1, length, 1, P]; only its last row is read."""
    return position.expand(1, length, 1, -1)
