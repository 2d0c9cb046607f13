"""The training loop: repeatable bit for bit, resumable, stopped early by money in validation."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aml100.domain.clock import ManualClock
from aml100.domain.errors import UsageError
from aml100.learning.bundle import load_bundle
from aml100.learning.checkpoint_files import CHECKPOINT_FILE
from aml100.learning.jobs import TrainingJob, TrainingProgress, TrainingResult
from aml100.learning.trainer import Training, deterministic, train
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings

DATA = (coin_data(mean_reverting(1600, 1)), coin_data(mean_reverting(1400, 2)))


def run(job: TrainingJob, stop_after: int | None = None) -> tuple[TrainingResult, list[TrainingProgress]]:
    """Train to the end; `stop_after` asks to stop at the so-many-th question."""
    asked = itertools.count()
    events = list(train(job, ManualClock(wall_s=0.0), lambda: stop_after is not None and next(asked) >= stop_after))
    result = events.pop()
    assert isinstance(result, TrainingResult)
    return result, [event for event in events if isinstance(event, TrainingProgress)]


def same_weights(one: TrainingResult, other: TrainingResult) -> bool:
    return all(one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights)


def test_same_seed_and_data_give_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    """B17."""
    job = TrainingJob(DATA, tiny_settings(), seed=3)
    (first, _), (again, _), (other, _) = run(job), run(job), run(replace(job, seed=4))
    assert first.curve == again.curve
    assert same_weights(first, again)
    assert first.save(job, tmp_path).name == again.save(job, tmp_path).name
    assert not same_weights(first, other)
    assert other.save(replace(job, seed=4), tmp_path).name != first.save(job, tmp_path).name


def test_a_stopped_training_resumed_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    job = TrainingJob(DATA, tiny_settings(input_noise=0.1), seed=3, folder=tmp_path)
    straight, _ = run(replace(job, folder=None))
    stopped, _ = run(job, stop_after=5)  # in the middle of the second epoch
    assert stopped.ended == "stopped"
    resumed, progress = run(replace(job, resume=True))
    assert progress[0].epoch == 1
    assert (resumed.epochs, resumed.updates, resumed.transitions) == (
        straight.epochs, straight.updates, straight.transitions,
    )  # fmt: skip
    assert resumed.curve == straight.curve
    assert same_weights(resumed, straight)


def test_the_rate_is_high_until_an_edge_is_found_and_the_schedule_begins_there(tmp_path: Path) -> None:
    """Also where the training is resumed, before it was found and after."""
    settings = tiny_settings(epochs=8, selection_sigmas=0.0, search_rate=5.0, cosine_t_0=4)
    for seed in range(30):  # until one finds an edge after a few epochs, neither at once nor never
        job = TrainingJob(DATA, settings, seed=seed, folder=tmp_path)
        straight, progress = run(replace(job, folder=None))
        found = next((epoch for epoch, score in enumerate(straight.curve) if epoch > 0 and score > 0.0), 0)
        if 3 < found < 7:
            break
    assert 3 < found < 7
    for event in progress:
        known = found if event.epoch >= found else None
        assert event.learning_rate == settings.learning_rate_at(event.epoch, known)
    assert {event.learning_rate for event in progress if 3 <= event.epoch < found} == {5.0 * settings.learning_rate}
    for stop_after in (3, 3 * found + 4):
        stopped, _ = run(job, stop_after=stop_after)
        assert stopped.ended == "stopped"
        assert same_weights(run(replace(job, resume=True))[0], straight)


@pytest.mark.parametrize("updates", [1, 3, 7])
def test_d24_a_training_that_vanishes_between_two_updates_goes_on_from_its_last_checkpoint(
    tmp_path: Path, updates: int
) -> None:
    job = TrainingJob(DATA, tiny_settings(input_noise=0.1), seed=3, folder=tmp_path, checkpoint_s=0.0)
    straight, _ = run(replace(job, folder=None))
    asked = itertools.count()

    def vanish() -> bool:
        if next(asked) == updates:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        list(train(job, ManualClock(wall_s=0.0), vanish))
    resumed, progress = run(replace(job, resume=True))
    assert progress[0].updates == updates  # in the middle of an epoch too: nothing was done twice
    assert (resumed.updates, resumed.curve) == (straight.updates, straight.curve)
    assert same_weights(resumed, straight)


def test_a_checkpoint_of_another_seed_or_version_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    job = TrainingJob(DATA, tiny_settings(epochs=1), seed=3, folder=tmp_path, resume=True)
    with pytest.raises(UsageError, match="no checkpoint"):
        run(job)
    run(replace(job, resume=False))
    with pytest.raises(UsageError, match="other data, settings, seed or version"):
        run(replace(job, seed=4))
    file = tmp_path / CHECKPOINT_FILE
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"top_epoch", b"tip_epoch"))
    with pytest.raises(UsageError, match=r"of another version .*`top_epoch`.*without --resume"):
        run(job)
    file.write_bytes(whole[:1000])
    with pytest.raises(UsageError, match="not a checkpoint"):
        run(job)


def test_a_disk_that_takes_no_checkpoint_costs_the_checkpoint_not_the_model(caplog: pytest.LogCaptureFixture) -> None:
    job = TrainingJob(DATA, tiny_settings(epochs=1), seed=3)
    (whole, _), (kept, _) = run(job), run(replace(job, folder=Path("/dev/full/training")))
    assert kept.ended == "finished"
    assert same_weights(kept, whole)
    assert "no checkpoint" in caplog.text
    with pytest.raises(UsageError, match="cannot be written"):  # told to stop, there is nothing else to go on from
        run(replace(job, folder=Path("/dev/full/training")), stop_after=1)


def test_patience_ends_a_training_that_no_longer_gets_better() -> None:
    result, _ = run(TrainingJob(DATA, tiny_settings(epochs=60, early_stop_patience=2, learning_rate=1e-9), seed=1))
    assert result.ended == "early"
    assert result.epochs - result.best_epoch == 2


def test_the_best_checkpoint_is_kept_not_the_last() -> None:
    job = TrainingJob(DATA, tiny_settings(epochs=6), seed=0)
    found = (run(replace(job, seed=seed))[0] for seed in range(20))
    result = next(one for one in found if 0 < int(np.argmax(one.curve)) < 6)
    assert result.best_epoch == int(np.argmax(result.curve))
    assert result.validation.score == max(result.curve)


def test_a_later_checkpoint_that_is_as_good_as_the_best_is_kept_whether_or_not_stopped_between(tmp_path: Path) -> None:
    job = TrainingJob(DATA, tiny_settings(epochs=8, selection_sigmas=0.0), seed=0, folder=tmp_path)
    found = ((seed, run(replace(job, folder=None, seed=seed))[0]) for seed in range(40))
    seed, straight = next(
        (seed, one)
        for seed, one in found
        if one.best_epoch > int(np.argmax(one.curve)) > 0 and one.validation.score < max(one.curve)
    )
    top = int(np.argmax(straight.curve))
    assert straight.validation.score == straight.curve[straight.best_epoch] > 0.0
    per_epoch = straight.updates // straight.epochs
    stopped, _ = run(replace(job, seed=seed), stop_after=per_epoch * top + 1)
    assert (stopped.ended, stopped.best_epoch) == ("stopped", top)
    resumed, _ = run(replace(job, seed=seed, resume=True))
    assert resumed.best_epoch == straight.best_epoch
    assert same_weights(resumed, straight)


def test_a_spent_budget_ends_training_with_what_it_has() -> None:
    result, _ = run(TrainingJob(DATA, tiny_settings(), seed=1, budget_s=0.0))
    assert (result.ended, result.updates) == ("budget", 0)
    assert result.weights


def test_progress_counts_and_the_process_settings_come_back() -> None:
    threads = torch.get_num_threads()
    result, progress = run(TrainingJob(DATA, tiny_settings(epochs=2), seed=1))
    assert [event.epoch for event in progress] == [0, 1, 2]
    assert progress[-1].loss is not None
    assert result.transitions == result.updates * 4 * 24 * 4 * 3
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_nothing_reads_memory_that_nobody_wrote() -> None:
    """On a GPU where there is one."""
    job = TrainingJob(DATA, tiny_settings(epochs=2, n_step=3, bias_weight=0.5, input_noise=0.1), seed=3)

    def learned(filled: bool) -> TrainingResult:
        filling: Any = torch.utils.deterministic
        with deterministic(1):
            assert not filling.fill_uninitialized_memory
            filling.fill_uninitialized_memory = filled  # with NaN and the like, wherever a tensor is allocated
            *_, last = Training(job, ManualClock(wall_s=0.0), lambda: False).run()
        assert filling.fill_uninitialized_memory
        assert isinstance(last, TrainingResult)
        return last

    assert same_weights(learned(filled=False), learned(filled=True))


def test_an_ensemble_is_its_members_and_resumes_after_a_stop(tmp_path: Path) -> None:
    """Members are the trainings of consecutive seeds; a stop in the second one loses nothing of the first."""
    job = TrainingJob(DATA, tiny_settings(members=2, epochs=2), seed=3)
    single = replace(job, settings=tiny_settings(epochs=2))
    (first, _), (second, _), (both, progress) = run(single), run(replace(single, seed=4)), run(job)
    for member, alone in zip(both.members, (first, second), strict=True):
        assert all(member[name].tobytes() == alone.weights[name].tobytes() for name in member)
    assert {(event.member, event.members) for event in progress} == {(0, 2), (1, 2)}
    assert both.updates == first.updates + second.updates
    bundle = load_bundle(both.save(job, tmp_path / "models"))
    assert bundle.record.members == 2
    stopped, _ = run(replace(job, folder=tmp_path), stop_after=10)
    assert stopped.ended == "stopped"
    resumed, _ = run(replace(job, folder=tmp_path, resume=True))
    for member, again in zip(both.members, resumed.members, strict=True):
        assert all(member[name].tobytes() == again[name].tobytes() for name in member)
    assert resumed.validation == both.validation
    at_once, _ = run(replace(job, settings=tiny_settings(members=2, epochs=2, threads=2)))
    for member, again in zip(both.members, at_once.members, strict=True):
        assert all(member[name].tobytes() == again[name].tobytes() for name in member)
