"""The frame of the benchmarks: ours and peers take turns, what is absent or broken is said, names are checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from aml100.bench.environments import ENVIRONMENTS
from aml100.bench.families import FAMILIES, trials_of
from aml100.bench.frame import PEER_SCRIPTS, Figure, Goal, Peer, Sample, Trial
from aml100.bench.report import summary, table_row
from aml100.bench.running import run_trial
from aml100.cli.main import main

ANSWERS = """
import sys
from pathlib import Path
sys.path.insert(0, {serve!r})
from serve import serve
values = iter({values})
print("a library talks", flush=True)
serve(lambda: next(values))
"""


def script(folder: Path, name: str, values: str) -> str:
    path = folder / name
    path.write_text(ANSWERS.format(serve=str(PEER_SCRIPTS), values=values))
    return str(path)


@contextmanager
def ours(folder: Path) -> Iterator[Sample]:
    """10, 30, 20 a second, and 4 ms each time."""
    (folder / "input").write_text("for the peers")
    values = iter([10.0, 30.0, 20.0])
    yield lambda: {"rate": next(values), "wait": 4.0}


def trial(*peers: Peer) -> Trial:
    figures = (
        Figure("pace", "things/s", tuple(Goal(5, peer.name) for peer in peers), "rate"),
        Figure("wait", "ms", (Goal(1, limit=5.0),), "wait", less_is_better=True),
    )
    return Trial("P99", ours, figures, peers, repetitions=3)


def test_medians_of_turns_are_compared_with_the_goal(tmp_path: Path) -> None:
    slow = Peer("slow", script(tmp_path, "slow.py", '[{"rate": 2}, {"rate": 3}, {"rate": 10}]'))
    quick = Peer("quick", script(tmp_path, "quick.py", '[{"rate": 40}] * 3'))
    against_slow, against_quick, wait = run_trial(trial(slow, quick), tmp_path)
    assert (against_slow.ours, against_slow.peer, against_slow.state) == (20.0, 3.0, "met")
    assert against_slow.ratio == pytest.approx(20 / 3)
    assert (against_slow.low, against_slow.high) == (2.0, 10.0)  # 10/2, 30/3, 20/10
    assert (against_quick.ratio, against_quick.state) == (0.5, "missed")
    assert (wait.peer_name, wait.peer, wait.ratio, wait.state) == ("limit", 5.0, 1.25, "met")


def test_a_peer_sees_what_ours_laid_out(tmp_path: Path) -> None:
    values = '({"rate": len(Path(sys.argv[1], "input").read_text())} for _ in range(3))'
    row, _ = run_trial(trial(Peer("reader", script(tmp_path, "reader.py", values))), tmp_path)
    assert row.peer == len("for the peers")


def test_an_absent_peer_is_reported_and_its_goal_open(tmp_path: Path) -> None:
    row, _ = run_trial(trial(Peer("nowhere", "serve.py", "no-such-environment")), tmp_path)
    assert (row.state, row.peer, row.ratio, row.goal) == ("absent", None, None, 5)
    assert "no-such-environment" in row.note
    assert row.ours == 20.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("[]", "StopIteration"),
        ("[{'rate': 2}]", "StopIteration"),
        ("[0] * 3", "not positive"),
        ("['x'] * 3", "not positive"),
        ("[{'other': 1}] * 3", "gave no rate"),
    ],
)
def test_a_peer_that_fails_is_reported_and_its_goal_open(tmp_path: Path, values: str, words: str) -> None:
    row, wait = run_trial(trial(Peer("broken", script(tmp_path, "broken.py", values))), tmp_path)
    assert (row.state, row.peer, row.ratio) == ("failed", None, None)
    assert words in row.note
    assert wait.state == "met"


def test_a_peer_that_hangs_is_given_up(tmp_path: Path) -> None:
    hanging = Peer("hanging", script(tmp_path, "hanging.py", "(__import__('time').sleep(60) for _ in range(3))"))
    row, _ = run_trial(trial(replace(hanging, timeout_s=0.5)), tmp_path)
    assert (row.state, row.note) == ("failed", "no answer within 0.5 s")


def test_what_ours_cannot_do_here_is_reported_too(tmp_path: Path) -> None:
    @contextmanager
    def no_disk(folder: Path) -> Iterator[Sample]:
        raise OSError(28, "No space left on device")
        yield lambda: 1.0

    broken = replace(trial(Peer("slow", "serve.py")), prepare=no_disk)
    broken = replace(broken, figures=(*broken.figures, Figure("size", "MB", key="size")))
    rows = run_trial(broken, tmp_path)
    assert [(row.ours, row.state, row.goal) for row in rows] == [(None, "failed", goal) for goal in (5, 1, None)]
    assert "No space left" in rows[0].note


def test_a_figure_whose_machine_lacks_something_is_absent_and_no_goal_is_open(tmp_path: Path) -> None:
    figures = (Figure("pace", "things/s", key="rate"), Figure("pace on two", "things/s", key="two", needs="two wheels"))
    one, two = run_trial(Trial("P99", ours, figures, repetitions=3), tmp_path)
    assert (one.ours, one.state) == (20.0, "shown")
    assert (two.ours, two.state, two.goal, two.note) == (None, "absent", None, "needs two wheels")
    assert table_row(two)[-1] == "absent, needs two wheels"
    assert summary([one, two]) == "goals: 0 met, 0 missed, 0 open (peer absent or failed)"
    with pytest.raises(ValueError, match="no readings under 'two'"):
        run_trial(Trial("P99", ours, (replace(figures[1], needs=""),), repetitions=3), tmp_path)


def test_the_command_prints_what_the_specification_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("tiny_family")
    module.__dict__["TRIALS"] = (
        trial(Peer("slow", script(tmp_path, "slow.py", '[{"rate": 2}] * 3')), Peer("gone", "x.py", "gone")),
    )
    monkeypatch.setitem(sys.modules, "tiny_family", module)
    monkeypatch.setitem(FAMILIES, "tiny", "tiny_family")
    arguments = ["bench", "tiny", "--peers", str(tmp_path)]
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "unit", "ours", "peer", "peer_name", "ratio", "goal"} <= set(rows[0])
    assert [(row["peer_name"], row["ratio"], row["state"]) for row in rows] == [
        ("slow", 10.0, "met"),
        ("gone", None, "absent"),
        ("limit", 1.25, "met"),
    ]
    assert main(arguments) == 0
    assert "goals: 2 met, 0 missed, 1 open" in capsys.readouterr().out


def test_an_unknown_name_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "enw"]) == 2
    assert "bench: unknown benchmark 'enw', did you mean \"env\"?" in capsys.readouterr().err
    assert main(["bench", "P0"]) == 2


def test_every_family_names_peers_that_can_be_made() -> None:
    chosen = trials_of([])
    assert {family for family, _ in chosen} == set(FAMILIES)
    for _, one in chosen:
        assert {goal.peer for figure in one.figures for goal in figure.goals} - {None} <= {
            peer.name for peer in one.peers
        }
        for peer in one.peers:
            assert (PEER_SCRIPTS / peer.script).is_file()
            assert peer.environment is None or peer.environment in ENVIRONMENTS
    assert [budget for _, trial in trials_of(["p1"]) if (budget := trial.budget)] == ["P1"]
