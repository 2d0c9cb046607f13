"""Recorded inputs through a fresh core: the same decisions, sizes, gates, fills and equity (GUARANTEES B6, B2)."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from aml100.cli.main import main
from aml100.domain.clock import wall_ms
from aml100.domain.events import BarsClosed
from aml100.domain.units import DAY_MS, MINUTE_MS
from aml100.engine.inputs import pack, unpack
from aml100.storage.database import Database
from aml100.storage.inputs import archive_folder
from tests.harness import restless, write_bars

BARS, WARMUP = 1_300, 400
START = 1_700_006_400_000  # midnight
TIMEOUT_S = 240


def write_tape(path: Path) -> Path:
    """A day's end lies in it, a gap, funding hours, stops and targets."""
    times = START + (600 + np.arange(BARS)) * MINUTE_MS
    times[1_000:] += 45 * MINUTE_MS
    return write_bars(path, restless(times, 3))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in the middle, started again, and came to the end of its tape."""
    folder = tmp_path_factory.mktemp("recorded")
    state = folder / "state.db"
    command = [
        sys.executable,
        "-m",
        "aml100",
        "run",
        "--no-tui",
        "--json",
        "--data",
        str(write_tape(folder / "BTC.parquet")),
    ]
    command += ["--warmup-bars", str(WARMUP), "--speed", "1000000", "--policy", "random", "--seed", "5"]
    command += ["--state", str(state)]
    output = folder / "out.jsonl"
    with output.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT_S
        while output.read_bytes().count(b"\n") < 900 and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return state


@pytest.fixture
def state(recorded: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copy(recorded, tmp_path / "state.db")
    return tmp_path / "state.db"


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


def replayed(state: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, object]]:
    code = main(["replay", "--json", "--state", str(state), *more])
    return code, json.loads(capsys.readouterr().out)


def test_b6_a_killed_and_restarted_session_replays_without_a_difference(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = replayed(recorded, capsys)
    assert report["differences"] == []
    assert code == 0
    with opened(recorded) as connection:
        counts = {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("decisions", "orders", "fills", "equity")
        }
    assert len(report["runs"]) == 2  # type: ignore[arg-type]
    compared = {"decisions": "decisions", "orders": "orders", "fills": "fills", "equity_marks": "equity"}
    assert {name: report[name] for name in compared} == {name: counts[table] for name, table in compared.items()}
    assert counts["fills"] > 10
    assert report["simulated_fills"] == counts["fills"]
    assert float(str(report["simulated_bps"])) < 1e-6
    assert main(["replay", "--state", str(recorded)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("0 differences")


def test_b6_a_session_that_goes_on_meanwhile_is_replayed_as_of_one_moment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, output = tmp_path / "state.db", tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "aml100", "run", "--no-tui", "--json", "--state", str(state)]
    command += ["--data", str(write_tape(tmp_path / "BTC.parquet")), "--warmup-bars", str(WARMUP)]
    command += ["--speed", "1000", "--policy", "random", "--seed", "5"]
    with output.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while output.read_bytes().count(b"decision") < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        reports = [replayed(state, capsys)]
        until = int(str(reports[0][1]["decisions"])) + 40
        while int(str(reports[-1][1]["decisions"])) < until and child.poll() is None:
            reports.append(replayed(state, capsys))
    finally:
        child.terminate()
        child.wait(TIMEOUT_S)
    assert [(code, report["differences"]) for code, report in reports] == [(0, [])] * len(reports)
    assert int(str(reports[-1][1]["decisions"])) >= until


def test_a_span_is_replayed_from_the_last_core_before_it(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    midnight = START + DAY_MS
    whole = replayed(recorded, capsys)[1]
    code, report = replayed(
        recorded, capsys, "--from", str(midnight + 60 * MINUTE_MS), "--to", str(midnight + 2 * DAY_MS)
    )
    assert (code, report["differences"]) == (0, [])
    assert 0 < int(str(report["decisions"])) < int(str(whole["decisions"]))
    assert 0 < int(str(report["inputs"])) < int(str(whole["inputs"])) // 2
    for first in (midnight, midnight - 1, midnight + 1, midnight + 5 * MINUTE_MS):  # a mark lies on a bar's very end
        code, report = replayed(recorded, capsys, "--from", str(first))
        assert (code, report["differences"]) == (0, []), first
    code = main(["replay", "--state", str(recorded), "--from", "2030-01-01"])
    assert code == 2
    assert "no inputs are recorded from 2030-01-01" in capsys.readouterr().err


def test_b6_a_shift_by_one_bar_is_found(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One bar's figures are those of the bar before it: nothing else is touched."""
    with opened(state) as connection:
        rows = connection.execute("SELECT seq, data FROM inputs ORDER BY seq").fetchall()
        before = None
        for seq, data in rows:
            entries = list(unpack(data))
            spot = next((i for i, (_, one) in enumerate(entries) if isinstance(one, BarsClosed)), None)
            if spot is None:
                continue
            closed = entries[spot][1]
            assert isinstance(closed, BarsClosed)
            if before is not None and seq > rows[len(rows) // 2][0] and before.close != closed.bars[0].close:
                shifted = replace(before, open_ms=closed.bars[0].open_ms)
                entries[spot] = (entries[spot][0], replace(closed, bars=(shifted,)))
                connection.execute("UPDATE inputs SET data = ? WHERE seq = ?", (pack(entries), seq))
                break
            before = closed.bars[-1]
    code, report = replayed(state, capsys)
    assert code == 1
    assert int(str(report["difference_count"])) > 0
    assert main(["replay", "--state", str(state)]) == 1
    assert "DIFFERENCES" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("UPDATE decisions SET q_hold = 1, q_buy = 0, q_sell = 0 "
            "WHERE seq = (SELECT max(seq) FROM decisions)", "decision"),
        ("UPDATE decisions SET gates = '[]' WHERE seq = (SELECT min(seq) FROM decisions)", "decision"),
        ("DELETE FROM decisions WHERE seq = (SELECT min(seq) FROM decisions)", "decision"),
        ("UPDATE orders SET size = '0.00001' WHERE seq = (SELECT min(seq) FROM orders)", "order"),
        ("UPDATE fills SET price = '1' WHERE seq = (SELECT min(seq) FROM fills)", "simulator"),
        ("UPDATE equity SET equity = '1' WHERE seq = (SELECT max(seq) FROM equity)", "equity"),
    ],
)  # fmt: skip
def test_whatever_was_journalled_otherwise_is_named(
    state: Path, capsys: pytest.CaptureFixture[str], sql: str, kind: str
) -> None:
    with opened(state) as connection:
        connection.execute(sql)
    code, report = replayed(state, capsys)
    assert (code, report["difference_count"]) == (1, 1)
    (difference,) = report["differences"]  # type: ignore[misc, str-unpack]
    assert difference["kind"] == kind  # type: ignore[index]


def test_old_inputs_go_into_one_file_a_day_and_replay_from_there(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = replayed(state, capsys)[1]
    now_ms = wall_ms()
    with opened(state) as connection:
        middle = connection.execute("SELECT avg(seq) FROM inputs").fetchone()[0]
        connection.execute("UPDATE inputs SET wall_ms = ? WHERE seq < ?", (now_ms - 20 * DAY_MS, middle / 2))
        connection.execute(
            "UPDATE inputs SET wall_ms = ? WHERE seq >= ? AND seq < ?", (now_ms - 19 * DAY_MS, middle / 2, middle)
        )
        kept = connection.execute("SELECT count(*) FROM inputs WHERE seq >= ?", (middle,)).fetchone()[0]
        account = connection.execute("SELECT value FROM meta WHERE key = 'account'").fetchone()[0]
    with Database.open(state, "NORMAL", "sim", account, "venue") as database:
        assert database.archive_inputs(now_ms - 14 * DAY_MS) == 2
        assert database.archive_inputs(now_ms - 14 * DAY_MS) == 0
    assert len(list(archive_folder(state).glob("*.parquet"))) == 2
    with opened(state) as connection:
        assert connection.execute("SELECT count(*) FROM inputs").fetchone()[0] == kept
    code, report = replayed(state, capsys)
    assert code == 0
    assert report == whole
    copy = state.with_name("restored.db")
    assert main(["backup", str(copy), "--state", str(state)]) == 0
    capsys.readouterr()
    shutil.rmtree(archive_folder(state))
    state.unlink()
    assert replayed(copy, capsys) == (0, whole), "a backup is whole: rows and archives"


def test_a_kill_between_archive_and_deletion_doubles_nothing(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from aml100.storage.inputs import archive_day
    from aml100.storage.reader import StateReader

    whole = replayed(state, capsys)[1]
    with opened(state) as connection:
        connection.execute("UPDATE inputs SET wall_ms = ?", (wall_ms() - 20 * DAY_MS,))
    with StateReader.read(state) as reader:
        assert archive_day(reader, wall_ms()) is not None
        assert archive_day(reader, wall_ms()) is not None, "the rows are still there, the file is made anew"
    assert replayed(state, capsys) == (0, whole)


def test_b2_every_decision_is_a_trade_or_is_explained(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Over the whole run and over each hour of it: decisions = trades + explained non-trades, 100 %."""
    with opened(recorded) as connection:
        rows = connection.execute("SELECT bar_ms, outcome, gates, why, action FROM decisions").fetchall()
        placed = {row[0] for row in connection.execute("SELECT created_ms FROM orders WHERE kind IN ('entry', 'exit')")}
    assert len(rows) > 600
    for bar_ms, outcome, gates, why, _ in rows:
        if outcome == "order":
            assert bar_ms + MINUTE_MS in placed
            continue
        refusing = [gate for gate in json.loads(gates) if not gate["ok"]]
        assert refusing, f"nothing says why {bar_ms} brought no order"
        assert all(gate["name"] and gate["reason"] for gate in refusing)
        assert why
    first, last = min(row[0] for row in rows), max(row[0] for row in rows)
    seen = 0
    for from_ms in range(first, last + 1, 60 * MINUTE_MS):
        to_ms = from_ms + 60 * MINUTE_MS
        span = ["--from", str(from_ms), "--to", str(to_ms), "--last", "60"]
        assert main(["why", "--json", "--state", str(recorded), *span]) == 0
        said = json.loads(capsys.readouterr().out)
        decided = [row for row in rows if from_ms <= row[0] < to_ms]
        assert sum(said["histogram"].values()) == len(said["decisions"]) == len(decided)
        assert said["histogram"].get("order", 0) == sum(row[1] == "order" for row in decided)
        seen += len(decided)
    assert seen == len(rows)
    assert Decimal(seen) > 0
