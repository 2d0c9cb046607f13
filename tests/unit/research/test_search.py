"""A study is the same whatever the order, place and number of interruptions in which its trials are evaluated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest

from aml100.domain.errors import UsageError
from aml100.learning.trials import TrialRegistry
from aml100.research.search import GENERATION, LocalRunner, Outcome, Study, Task, TrialFile, is_pruned

KEY = "0123456789abcdef"
TRIALS = 14


def judge(task: Task) -> Outcome:
    """Three folds of a made-up market on which a middling learning rate is best."""
    quality = 1.0 - abs(math.log10(float(task.changes["training.learning_rate"])) + 3.0)
    random = np.random.default_rng(int(1e6 * float(task.changes["training.weight_decay"])))
    values, returns = [], []
    for fold in range(3):
        returns += (0.001 * quality + random.normal(0, 0.002, 20)).tolist()
        values.append(quality + 0.01 * fold)
        if is_pruned(values[-1], fold, task.floors):
            return Outcome("pruned", tuple(values), tuple(returns))
    return Outcome("complete", tuple(values), tuple(returns))


class Backwards:
    """A cluster that finishes the last task first."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        for task in reversed(tasks):
            yield task.number, judge(task)


def study(folder: Path, seed: int = 5) -> Study:
    return Study(folder, KEY, seed, TrialRegistry(folder / "trials.jsonl"))


def stops_after(count: int) -> Callable[[], bool]:
    left = [count]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    return stop


def whole(folder: Path) -> tuple[TrialFile, ...]:
    made = study(folder)
    assert made.run(TRIALS, LocalRunner(judge, lambda: False), lambda trial: None)
    return made.trials


def test_the_order_of_evaluation_changes_nothing(tmp_path: Path) -> None:
    straight = whole(tmp_path / "a")
    other = study(tmp_path / "b")
    assert other.run(TRIALS, Backwards(), lambda trial: None)
    assert other.trials == straight
    assert len({trial.changes["training.learning_rate"] for trial in straight}) == TRIALS
    assert any(trial.outcome is not None and trial.outcome.state == "pruned" for trial in straight)


def test_interrupted_anywhere_and_resumed_none_is_lost_or_counted_twice(tmp_path: Path) -> None:
    straight = whole(tmp_path / "a")
    for count in (1, 2, 3, 1, 4):
        assert not study(tmp_path / "b").run(TRIALS, LocalRunner(judge, stops_after(count)), lambda trial: None)
    judged: list[int] = []
    last = study(tmp_path / "b")
    assert last.run(TRIALS, LocalRunner(judge, lambda: False), lambda trial: judged.append(trial.number))
    assert last.trials == straight
    assert judged == list(range(11, TRIALS))
    states = [one.state for one in last._study.get_trials()]
    assert len(states) == TRIALS
    assert optuna.trial.TrialState.RUNNING not in states
    assert last._registry.deflation().count == TRIALS


def test_a_proposal_torn_by_a_kill_is_closed_and_made_again(tmp_path: Path) -> None:
    """Killed after Optuna knew the trial and before our file was whole."""
    straight = whole(tmp_path / "a")
    first = study(tmp_path / "b")
    first.run(GENERATION, LocalRunner(judge, lambda: False), lambda trial: None)
    first._study.ask()  # and the process is gone
    assert study(tmp_path / "b").run(TRIALS, LocalRunner(judge, lambda: False), lambda trial: None)
    again = study(tmp_path / "b").trials
    assert [(t.changes, t.outcome) for t in again] == [(t.changes, t.outcome) for t in straight]


def test_the_choice_answers_for_every_trial_ever_tried(tmp_path: Path) -> None:
    made = study(tmp_path)
    made.run(TRIALS, LocalRunner(judge, lambda: False), lambda trial: None)
    found = made.best()
    assert found is not None
    assert found.tried == TRIALS
    assert found.dsr is not None
    assert found.pbo is not None
    alone = TrialRegistry(tmp_path / "alone.jsonl")
    alone.begin("x", source="train", seed=1, parameters={})
    fewer = Study(tmp_path, KEY, 5, alone).best()
    assert fewer is not None
    assert fewer.dsr is not None
    assert fewer.dsr > found.dsr  # one trial claims more than fourteen


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(UsageError, match="another --out"):
        Study(tmp_path, "f" * 16, 5, TrialRegistry(tmp_path / "trials.jsonl"))


def kill_once(flags: str, task: Task) -> Outcome:
    """A worker that dies under its second task, once."""
    flag = Path(flags) / "killed"
    if task.number == 1 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), 9)
    return judge(task)


def test_on_ray_a_killed_worker_costs_no_trial_and_the_study_is_the_local_one(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from aml100.research.cluster import RayRunner

    local = study(tmp_path / "a")
    local.run(6, LocalRunner(judge, lambda: False), lambda trial: None)
    made, judged = study(tmp_path / "b"), []
    with RayRunner(kill_once, str(tmp_path), lambda: False, workers=2) as runner:
        assert made.run(6, runner, lambda trial: judged.append(trial.number))
    assert (tmp_path / "killed").exists()
    assert sorted(judged) == list(range(6))
    assert made.trials == local.trials
