"""One-shot commands: what is asked, what needs a word, and whose answer is the exit code."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aml100.cli import operate
from aml100.cli.main import main
from aml100.control.protocol import Answer
from aml100.domain.errors import AmlError
from aml100.domain.units import Coin
from aml100.storage.database import Database
from aml100.storage.entries import HaltLatched, Run
from aml100.trading.state import CoreState, encode_state

POSITIONS = [{"coin": "BTC", "size": "0.01", "mark": "30000"}, {"coin": "ETH", "size": "-0.1", "mark": "1120"}]


class FakeEngine:
    """An engine that answers: keeps what it was asked, refuses nothing, and may be absent."""

    def __init__(self, venue: str = "sim", execution: str = "venue", is_running: bool = True) -> None:
        self.is_running = is_running
        self.state = {
            "state": "trading",
            "venue": venue,
            "execution": execution,
            "positions": POSITIONS,
            "open_orders": [{}, {}, {}],
            "model": {"id": "m-0123"},
        }
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.exit_code = 0

    def request(self, state: Path, who: str, command: str, arguments: dict[str, Any], timeout_s: float) -> Answer:
        if not self.is_running:
            raise AmlError(f"no engine runs on {state}")
        assert who
        if command == "status":
            return Answer(id=1, ok=True, text="trading", data=self.state)
        self.done.append((command, arguments))
        return Answer(id=1, ok=self.exit_code == 0, text=f"{command} done", exit_code=self.exit_code, data={"n": 2})

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
        monkeypatch.setattr(operate, "request_once", self.request)
        monkeypatch.setattr(operate, "engine_is_running", lambda state: self.is_running)
        return self


class Terminal(io.StringIO):
    """Standard input of a person who types `text`."""

    def isatty(self) -> bool:
        return True


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(text))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def test_status_prints_the_document_as_json_and_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """C7."""
    engine = FakeEngine().install(monkeypatch)
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == engine.state
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "trading\n"


@pytest.mark.parametrize("command", ["status", "halt", "pause", "flatten", "retrain", "reset", "stop", "resume"])
def test_without_an_engine_every_command_is_exit_1_and_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeEngine(is_running=False).install(monkeypatch)
    piped(monkeypatch)
    state = tmp_path / "none.db"
    assert main([command, "--state", str(state)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"no engine runs on {state}" in captured.err


def test_halt_without_an_engine_names_the_file_that_halts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeEngine(is_running=False).install(monkeypatch)
    main(["halt", "--state", str(tmp_path / "state.db")])
    assert str(tmp_path / "HALT") in capsys.readouterr().err


def test_the_engines_exit_code_is_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine().install(monkeypatch)
    engine.exit_code = 1
    assert main(["halt"]) == 1
    assert capsys.readouterr().err == "halt done\n"


@pytest.mark.parametrize("venue", ["sim", "mainnet"])
def test_halt_never_asks_c17(venue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(venue).install(monkeypatch)
    at_a_terminal(monkeypatch, "")
    assert main(["halt"]) == 0
    assert engine.done == [("halt", {})]


@pytest.mark.parametrize("command", ["pause", "flatten", "retrain", "stop", "resume"])
def test_without_a_terminal_a_simulated_account_is_commanded_unasked(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine().install(monkeypatch)
    piped(monkeypatch)
    assert main([command, "--state", str(tmp_path / "s.db")]) == 0
    assert engine.done == [(command, {})]


def test_flatten_passes_its_coins(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine().install(monkeypatch)
    piped(monkeypatch)
    assert main(["flatten", "--coin", "BTC", "--coin", "ETH"]) == 0
    assert engine.done == [("flatten", {"coins": ["BTC", "ETH"]})]


@pytest.mark.parametrize(
    ("venue", "execution", "command"),
    [
        ("sim", "venue", "reset"),
        ("mainnet", "venue", "reset"),
        ("mainnet", "venue", "flatten"),
        ("mainnet", "venue", "pause"),
        ("mainnet", "venue", "resume"),
        ("mainnet", "venue", "stop"),
    ],
)
def test_without_a_terminal_the_word_is_needed_and_named_c16(
    venue: str,
    execution: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = FakeEngine(venue, execution).install(monkeypatch)
    piped(monkeypatch)
    arguments = [command, "--state", str(tmp_path / "s.db")]
    assert main(arguments) == 3
    assert f"--yes {command.upper()}" in capsys.readouterr().err
    assert main([*arguments, "--yes", "yes"]) == 3
    assert engine.done == []
    assert main([*arguments, "--yes", command.upper()]) == 0
    assert engine.done == [(command, {})]


def test_paper_on_mainnet_is_no_live_account(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine("mainnet", "paper").install(monkeypatch)
    piped(monkeypatch)
    assert main(["flatten"]) == 0
    assert engine.done


def test_an_account_that_is_unknown_counts_as_live(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine().install(monkeypatch)
    engine.state = {}
    piped(monkeypatch)
    assert main(["flatten"]) == 3


@pytest.mark.parametrize(("reply", "code"), [("y\n", 0), ("yes\n", 0), ("\n", 3), ("n\n", 3), ("", 3)])
def test_at_a_terminal_the_question_defaults_to_no_c15(
    reply: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine().install(monkeypatch)
    at_a_terminal(monkeypatch, reply)
    assert main(["flatten"]) == code
    assert len(engine.done) == (code == 0)
    # 0.01 x 30000 + 0.1 x 1120 = 412
    assert "Close 2 positions, $412, on sim (venue). Go on? [y/N]" in capsys.readouterr().err


@pytest.mark.parametrize(("reply", "code"), [("RESET\n", 0), ("y\n", 3), ("reset\n", 3), ("\n", 3)])
def test_reset_at_a_terminal_takes_the_typed_word_c16(
    reply: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine().install(monkeypatch)
    at_a_terminal(monkeypatch, reply)
    assert main(["reset"]) == code
    assert len(engine.done) == (code == 0)
    assert "retire model m-0123" in capsys.readouterr().err


def test_a_live_account_at_a_terminal_takes_the_commands_word(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine("mainnet").install(monkeypatch)
    at_a_terminal(monkeypatch, "y\n")
    assert main(["flatten"]) == 3
    at_a_terminal(monkeypatch, "FLATTEN\n")
    assert main(["flatten"]) == 0
    assert engine.done == [("flatten", {})]


def test_resume_is_refused_while_the_halt_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine().install(monkeypatch)
    piped(monkeypatch)
    (tmp_path / "HALT").touch()
    assert main(["resume", "--state", str(tmp_path / "s.db")]) == 3
    assert str(tmp_path / "HALT") in capsys.readouterr().err
    assert engine.done == []


def test_resume_without_an_engine_says_what_it_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next engine would still be paused, and whoever scripts the two would never know."""
    FakeEngine(is_running=False).install(monkeypatch)
    path = tmp_path / "s.db"
    kept = CoreState(paused_by="cli:ann")
    with Database.open(path, "NORMAL", "sim", "", "venue") as database:
        database.start_run(Run("r", 1, "sim", "venue", (Coin("BTC"),), "made", "flat", 1, 1))
        database.journal([], encode_state(kept)).result()
    assert main(["resume", "--state", str(path)]) == 1
    assert "was not halted, but entries are paused by cli:ann: resume it while" in "".join(capsys.readouterr())


def test_resume_without_an_engine_clears_the_latch_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeEngine(is_running=False).install(monkeypatch)
    piped(monkeypatch)
    path = tmp_path / "state.db"
    with Database.open(path, "NORMAL", "sim", "0x1", "venue") as opened:
        opened.journal([HaltLatched("a test", "because", 1)]).result()
    assert main(["resume", "--state", str(path)]) == 0
    with Database.open(path, "NORMAL", "sim", "0x1", "venue") as opened:
        assert not opened.has_halt_latch()
    assert "halt cleared" in capsys.readouterr().out
