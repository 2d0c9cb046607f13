"""B17: every trial is written down before it begins, aborted ones too, and deflates the Sharpe ratio of the best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml100.domain.clock import ManualClock
from aml100.domain.errors import DataFileError, StateError, UsageError
from aml100.evaluation.statistics import deflated_sharpe, moments_of
from aml100.learning.jobs import TrainingJob
from aml100.learning.trainer import train
from aml100.learning.trials import KnownTrials, TrialRegistry, deflation_of
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings

FULL = Path("/dev/full/training")
"""No folder of this name can be made: what a disk that takes nothing more looks like, for root too."""

JOB = TrainingJob((coin_data(mean_reverting(6000, 1)),), tiny_settings(epochs=1), seed=1)


def finish(job: TrainingJob) -> None:
    list(train(job, ManualClock(wall_s=0.0)))


def test_done_aborted_and_failed_trainings_are_all_trials(tmp_path: Path) -> None:
    """B17."""
    registry = TrialRegistry.beside(tmp_path)
    job = replace(JOB, registry=registry)
    finish(job)
    finish(job)  # the same trial again
    left = train(replace(job, seed=2), ManualClock(wall_s=0.0))
    next(left)
    assert [trial.state for trial in registry.read()] == ["done", "aborted"]  # begun: killed now, it would count
    left.close()  # type: ignore[attr-defined]
    with pytest.raises(DataFileError, match=r"checkpoint\.safetensors: cannot be written"):
        list(train(replace(job, seed=3, folder=FULL), ManualClock(wall_s=0.0), lambda: True))
    trials = registry.read()
    assert [(trial.seed, trial.state, trial.source) for trial in trials] == [
        (1, "done", "train"), (2, "aborted", "train"), (3, "failed", "train"),
    ]  # fmt: skip
    assert '"gamma":0.998' in trials[0].parameters
    assert registry.deflation().count == 3


def test_a_resumption_that_is_refused_is_no_trial(tmp_path: Path) -> None:
    """B17: nothing was looked at."""
    registry = TrialRegistry.beside(tmp_path)
    with pytest.raises(UsageError, match="no checkpoint"):
        finish(replace(JOB, resume=True, folder=tmp_path / "nothing", registry=registry))
    assert registry.read() == ()


def test_more_trials_deflate_the_same_record_further(tmp_path: Path) -> None:
    """E7: the count and the variance of the Sharpe ratios tried are what the deflation uses."""
    registry = TrialRegistry.beside(tmp_path)
    random = np.random.default_rng(5)
    moments = moments_of(0.002 + 0.01 * random.standard_normal(200))
    assert moments is not None
    found = []
    for count in (2, 20):
        for number in range(count):
            daily = 0.01 * random.standard_normal(200)
            registry.begin(f"{count}-{number}", source="optimize", seed=number, parameters={})
            registry.finish(f"{count}-{number}", "done", daily)
        tried = registry.deflation()
        found.append(deflated_sharpe(moments, tried.count, tried.sharpe_variance))
    assert registry.deflation().count == 22
    assert found[0] is not None
    assert found[1] is not None
    assert found[1] < found[0]


def test_a_line_cut_short_by_a_kill_loses_nothing_and_garbage_is_named(tmp_path: Path) -> None:
    registry = TrialRegistry.beside(tmp_path)
    registry.begin("a", source="train", seed=1, parameters={})
    whole = registry.path.read_bytes()
    registry.path.write_bytes(whole + whole[:40])
    assert [trial.id for trial in registry.read()] == ["a"]
    registry.begin("b", source="train", seed=1, parameters={})
    assert [trial.id for trial in registry.read()] == ["a", "b"]
    registry.path.write_bytes(whole + b"no json\n")
    with pytest.raises(StateError, match="line 2 is no trial"):
        registry.read()
    with pytest.raises(StateError, match="never begun"):
        TrialRegistry.beside(tmp_path / "other").finish("a", "done")


def test_who_asks_often_sees_what_others_write(tmp_path: Path) -> None:
    """The engine's cycles ask at every look; trainings in other processes append."""
    registry = TrialRegistry.beside(tmp_path)
    known = KnownTrials(registry)
    assert known().count == 1
    for number in range(3):
        registry.begin(str(number), source="train", seed=number, parameters={})
        assert known().count == number + 1
    assert known() is known()
    registry.finish("0", "done", np.array([0.01, 0.02, 0.0]))
    registry.finish("1", "done", np.array([0.01, -0.02, 0.0]))
    assert known().sharpe_variance is not None


def test_a_trial_that_stands_in_two_places_counts_once(tmp_path: Path) -> None:
    registry = TrialRegistry.beside(tmp_path)
    registry.begin("a", source="train", seed=1, parameters={})
    registry.begin("b", source="train", seed=2, parameters={})
    kept = registry.read()[:1]
    assert deflation_of(kept, registry.read()).count == 2


def test_trials_judged_by_the_same_days_tell_how_likely_overfitting_is_e8(tmp_path: Path) -> None:
    """E8: of twenty trials one is better in every stretch of time, so the best inside is the best outside as well."""
    registry = TrialRegistry.beside(tmp_path)
    random = np.random.default_rng(3)
    for number in range(20):
        daily = 0.01 * random.standard_normal(160) + (0.02 if number == 7 else 0.0)
        registry.begin(f"s-{number}", source="optimize", seed=0, parameters={}, group="study")
        registry.finish(f"s-{number}", "done", daily)
    assert registry.deflation().pbo == 0.0
    registry.begin("s-20", source="optimize", seed=0, parameters={}, group="study")
    registry.finish("s-20", "aborted", np.full(40, 0.5))  # pruned: it has no days beside the others
    registry.begin("alone", source="train", seed=0, parameters={}, group="other data")
    registry.finish("alone", "done", np.full(160, 0.5))
    assert registry.deflation().pbo == 0.0
    assert registry.deflation().count == 22


def test_trials_that_share_no_days_say_nothing_about_overfitting(tmp_path: Path) -> None:
    registry = TrialRegistry.beside(tmp_path)
    for number in range(3):
        registry.begin(str(number), source="train", seed=number, parameters={}, group=f"data {number}")
        registry.finish(str(number), "done", np.random.default_rng(number).standard_normal(90))
    known = registry.deflation()
    assert known.pbo is None
    assert known.pbo_note == "n/a (3 trials, no two of them judged by the same days)"


def test_seeds_of_one_training_lie_side_by_side(tmp_path: Path) -> None:
    """B17: two seeds on the same bars are two trials of one group, with the daily returns they are judged by."""
    registry = TrialRegistry.beside(tmp_path)
    for seed in (1, 2):
        finish(replace(JOB, seed=seed, registry=registry))
    one, other = registry.read()
    assert one.group == other.group != ""
    assert len(one.daily) == len(other.daily) == one.observations
