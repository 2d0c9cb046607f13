"""Looking after a state file from the shell: why, verify, backup, doctor."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from aml100.cli.main import main
from aml100.domain.clock import wall_ms
from aml100.domain.events import Decision, Gate, LedgerPosted
from aml100.domain.orders import Action
from aml100.domain.units import Coin
from aml100.storage.database import Database
from aml100.storage.entries import HaltLatched
from aml100.storage.reader import StateReader

BAR = 1_751_241_600_000


def decision(minute: int, action: Action, outcome: str, *gates: Gate) -> Decision:
    bar_ms = BAR + minute * 60_000
    return Decision(Coin("BTC"), bar_ms, bar_ms + 60_000, action, (0.0, 0.25, -0.5), "range", 1.0, outcome, gates)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A journal with a deposit and three decisions: one held, one refused, one ordered."""
    path = tmp_path / "state.db"
    with Database.open(path, "NORMAL", "sim", "0x1", "venue") as database:
        database.journal(
            [
                LedgerPosted(BAR, "deposit", None, Decimal(10_000), "deposit"),
                decision(0, Action.HOLD, "none", Gate("policy", False, "keeps still")),
                decision(1, Action.BUY, "none", Gate("spread", True), Gate("stale", False, "no message for 31 s")),
                decision(2, Action.BUY, "order", Gate("spread", True), Gate("stale", True)),
            ]
        ).result()
    return path


def shown(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_why_gives_q_values_and_every_gate_b2(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "--state", str(state), "--coin", "BTC", "--json"]) == 0
    document = shown(capsys)
    assert [one["bar_ms"] for one in document["decisions"]] == [BAR + 120_000, BAR + 60_000, BAR]
    refused = document["decisions"][1]
    assert (refused["action"], refused["q"], refused["outcome"]) == (1, [0.0, 0.25, -0.5], "none")
    assert refused["gates"] == [
        {"name": "spread", "ok": True, "reason": ""},
        {"name": "stale", "ok": False, "reason": "no message for 31 s"},
    ]
    assert sum(document["histogram"].values()) == 3


def test_why_of_a_span_and_in_words(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    span = ["--from", str(BAR + 60_000), "--to", str(BAR + 120_000)]
    assert main(["why", "--state", str(state), *span]) == 0
    printed = capsys.readouterr().out
    assert "stale: no message for 31 s" in printed
    assert "keeps still" not in printed
    assert "100.0 %" in printed


def test_verify_of_a_sound_and_of_a_changed_journal(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--state", str(state), "--json"]) == 0
    document = shown(capsys)
    assert document["ok"] is True
    assert all(check["ok"] for check in document["checks"])
    with closing(sqlite3.connect(state)) as connection, connection:
        connection.execute("UPDATE ledger SET kind = 'realised', coin = 'BTC'")
    assert main(["verify", "--state", str(state), "--json"]) == 1
    assert shown(capsys)["ok"] is False


@pytest.mark.parametrize("command", ["why", "verify", "backup"])
def test_without_or_with_a_damaged_state_file_it_is_exit_2(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.db"
    arguments = [command, "--state", str(path), *(["copy.db"] if command == "backup" else [])]
    assert main(arguments) == 2
    path.write_bytes(b"not a database" * 100)
    assert main(arguments) == 2
    assert path.read_bytes() == b"not a database" * 100
    assert capsys.readouterr().err.count("\n") == 2


def test_backup_copies_and_never_overwrites(state: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert main(["backup", str(copy), "--state", str(state)]) == 0
    assert main(["verify", "--state", str(copy)]) == 0
    before = copy.read_bytes()
    assert main(["backup", str(copy), "--state", str(state)]) == 2
    assert copy.read_bytes() == before


def test_a_backup_goes_on_where_the_embedded_venue_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh venue would know nothing of the position that the journal has: exits and stops only, for good."""
    monkeypatch.chdir(tmp_path)
    run = ["run", "--no-tui", "--policy", "buy-and-hold", "--speed", "100000", "--warmup-bars", "400"]
    assert main([*run, "--state", "s.db", "--duration", "2s"]) == 0
    assert main(["backup", "copy.db", "--state", "s.db"]) == 0
    assert (tmp_path / "copy.db.venue").is_file()
    with StateReader.read(tmp_path / "copy.db") as copied:
        bars, fills = len(copied.equity_curve()), len(copied.fills())
    assert fills
    assert main([*run, "--state", "copy.db", "--duration", "2s"]) == 0
    with StateReader.read(tmp_path / "copy.db") as went_on:
        assert len(went_on.equity_curve()) > bars
        assert not [line for line in went_on.event_lines() if "manage_only" in line]
    assert main(["verify", "--state", "copy.db"]) == 0


# --- doctor ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AML100_PRIVATE_KEY", "AML100_PRIVATE_KEY_FILE", "AML100_ACCOUNT_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def venue() -> Iterator[Callable[[dict[str, object], int], str]]:
    """A venue that answers every request with one document; gives its URL."""
    servers = []

    def start(document: dict[str, object], status: int = 200) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str, str]]:
    return {one["name"]: (one["state"], one["detail"], one["advice"]) for one in shown(capsys)["checks"]}


@pytest.mark.usefixtures("no_secrets")
def test_doctor_finds_a_sound_house_sound(
    state: Path, venue: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = venue({"time": wall_ms(), "specialStatuses": None})
    assert main(["doctor", "--state", str(state), "--venue", url, "--json"]) == 0
    found = findings(capsys)
    assert {name for name, one in found.items() if one[0] != "OK"} <= {"disk"}
    assert {"config", "key", "state", "data", "halt file", "disk", "venue", "clock"} == set(found)


@pytest.mark.usefixtures("no_secrets")
def test_doctor_refuses_a_clock_more_than_a_second_off_b19(
    tmp_path: Path, venue: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = venue({"time": wall_ms() + 60_000})
    assert main(["doctor", "--state", str(tmp_path / "s.db"), "--venue", url, "--json"]) == 1
    state, detail, advice = findings(capsys)["clock"]
    assert state == "FAIL"
    assert detail.startswith("off by ")
    assert "NTP" in advice


@pytest.mark.usefixtures("no_secrets")
def test_doctor_does_not_compare_clocks_with_a_simulated_market(
    tmp_path: Path, venue: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = venue({"time": BAR, "speed": 60.0, "ended": False})
    assert main(["doctor", "--state", str(tmp_path / "s.db"), "--venue", url, "--json"]) == 0
    assert findings(capsys)["clock"] == ("OK", "simulated market at 2025-06-30T00:00:00Z, 60x", "")


@pytest.mark.usefixtures("no_secrets")
@pytest.mark.parametrize(("document", "status"), [({}, 200), ({"time": "soon"}, 200), ({"time": 1}, 500)])
def test_doctor_says_when_the_venue_does_not_speak_as_it_should(
    document: dict[str, object],
    status: int,
    tmp_path: Path,
    venue: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = venue(document, status)
    assert main(["doctor", "--state", str(tmp_path / "s.db"), "--venue", url, "--json"]) == 1
    assert findings(capsys)["venue"][0] == "FAIL"


def test_doctor_names_a_key_file_that_others_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text("0x" + "c0ffee12" * 8)
    key.chmod(0o644)
    monkeypatch.delenv("AML100_PRIVATE_KEY", raising=False)
    monkeypatch.setenv("AML100_PRIVATE_KEY_FILE", str(key))
    assert main(["doctor", "--state", str(tmp_path / "s.db"), "--json"]) == 1
    text = capsys.readouterr().out
    assert "chmod 600" in text
    assert "c0ffee12" not in text


@pytest.mark.usefixtures("no_secrets")
def test_doctor_tells_a_halt_and_what_to_do(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state.parent / "HALT").touch()
    with Database.open(state, "NORMAL", "sim", "0x1", "venue") as database:
        database.journal([HaltLatched("a test", "drawdown 4.6 %", 1)]).result()
    assert main(["doctor", "--state", str(state), "--json"]) == 0
    found = findings(capsys)
    assert found["halt file"][0] == "WARN"
    assert "drawdown 4.6 %" in found["data"][1]
    assert "resume" in found["data"][2]


@pytest.mark.usefixtures("no_secrets")
def test_doctor_stops_at_a_broken_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AML100_TRADING__LEVERAGE", "1000")
    assert main(["doctor", "--state", str(tmp_path / "s.db"), "--json"]) == 1
    assert list(findings(capsys)) == ["config"]


@pytest.mark.usefixtures("no_secrets")
def test_doctor_says_when_no_state_can_be_made_there(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--state", str(state / "state.db"), "--json"]) == 1
    found = findings(capsys)["state"]
    assert found[0] == "FAIL"
    assert f"{state} is no folder" in found[1]
    assert main(["doctor", "--state", str(state.parent / "new" / "state.db"), "--json"]) == 0
    assert findings(capsys)["state"][0] == "OK"
    assert not (state.parent / "new").exists()
