"""The same bars over the wire and through the back-test: same decisions, same trades, same equity (SPEC section 6).

Also what a person would do to it: kill it anywhere and start it again.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.harness import restless, write_bars

BARS = 1_400
WARMUP = 400
COMMAND = (sys.executable, "-m", "aml100")
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made market with moves large enough for stops, targets, funding hours and one gap."""
    times = 1_700_006_400_000 + np.arange(BARS) * 60_000
    times[900:] += 45 * 60_000
    series = restless(times, 11, jump=0.0001)
    path = write_bars(tmp_path_factory.mktemp("tape") / "BTC_made.parquet", series)
    settled = times[0] + np.arange(1, 5) * 8 * 3_600_000
    rates = {"time": settled.astype(np.int64), "rate": [0.0024, -0.0016, 0.0008, 0.0032]}
    pq.write_table(pa.table(rates), funding_of(path))
    return path


def funding_of(tape: Path) -> Path:
    """Rates settled every 8 hours, large enough to be seen in the money."""
    return tape.with_name("funding.parquet")


def arguments(tape: Path, state: Path) -> list[str]:
    run = [*COMMAND, "run", "--no-tui", "--json", "--data", str(tape), "--warmup-bars", str(WARMUP)]
    run += ["--funding", str(funding_of(tape))]
    return [*run, "--speed", "1000000", "--policy", "random", "--seed", "5", "--state", str(state)]


def trades_of(state: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(state) as connection:
        rows = connection.execute(
            "SELECT side, entry_ms, entry_price, exit_ms, exit_price, size, pnl, exit_reason, bars_held "
            "FROM trades ORDER BY entry_ms"
        ).fetchall()
    connection.close()
    return rows


def finish(tape: Path, state: Path) -> list[dict[str, object]]:
    done = subprocess.run(arguments(tape, state), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def verified(state: Path) -> bool:
    done = subprocess.run(
        [*COMMAND, "verify", "--json", "--state", str(state)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode == 0 and bool(json.loads(done.stdout)["ok"])


@pytest.fixture(scope="module")
def wire(tape: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, object]]]:
    state = tmp_path_factory.mktemp("wire") / "state.db"
    return state, finish(tape, state)


def test_run_over_the_wire_equals_the_back_test(
    wire: tuple[Path, list[dict[str, object]]], tape: Path, tmp_path: Path
) -> None:
    state, events = wire
    out = tmp_path / "out"
    options = ["--policy", "random", "--seed", "5", "--warmup-bars", str(WARMUP), "--json", "--out", str(out)]
    done = subprocess.run(
        [*COMMAND, "backtest", "--data", str(tape), "--funding", str(funding_of(tape)), *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads(done.stdout)
    stopped = events[-1]
    assert (stopped["type"], stopped["reason"]) == ("stopped", "end of data")
    assert float(str(stopped["equity"])) == pytest.approx(metrics["final_equity"], rel=1e-9)
    lines = (out / "trades.csv").read_text().splitlines()[1:]
    by_wire = trades_of(state)
    assert len(lines) == len(by_wire) == metrics["trades"] > 10
    assert metrics["funding_usd"] != 0
    for line, row in zip(lines, by_wire, strict=True):
        _, _, side, entry_ms, entry_px, exit_ms, exit_px, size, pnl, _, _, _, reason, held = line.split(",")
        assert (side, int(entry_ms), int(exit_ms), reason, int(held)) == (row[0], row[1], row[3], row[7], row[8])
        theirs = [float(str(row[i])) for i in (2, 4, 5, 6)]
        assert [float(entry_px), float(exit_px), float(size), float(pnl)] == pytest.approx(theirs, rel=1e-9)


def test_every_bar_is_decided_once_and_every_position_has_a_resting_stop(
    wire: tuple[Path, list[dict[str, object]]],
) -> None:
    state, events = wire
    decided = [e["bar_ms"] for e in events if e["type"] == "decision"]
    assert len(decided) == len(set(decided)) > 500
    bars = [e["open_ms"] for e in events if e["type"] == "bar"]
    assert len(bars) == len(set(bars)) == BARS - WARMUP
    opened: dict[object, bool] = {}
    for event in events:
        if event["type"] == "position":
            opened[event["coin"]] = bool(event["protected"]) or event["size"] == "0"
        if event["type"] == "bar":
            assert all(opened.values()), f"naked at {event['open_ms']}"
    assert verified(state)


def test_b10_killed_anywhere_it_goes_on_without_a_double_or_lost_order(
    wire: tuple[Path, list[dict[str, object]]], tape: Path, tmp_path: Path
) -> None:
    """Five kills at different points. An order journalled but never sent is not sent again: it is settled as such."""
    state = tmp_path / "state.db"
    for lines_before_the_kill in (3, 90, 250, 301, 420):
        with (tmp_path / "out.jsonl").open("wb") as out:
            child = subprocess.Popen(arguments(tape, state), stdout=out, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + TIMEOUT_S
            while time.monotonic() < deadline and child.poll() is None:
                if (tmp_path / "out.jsonl").read_bytes().count(b"\n") >= lines_before_the_kill:
                    break
                time.sleep(0.005)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        assert verified(state)
    events = finish(tape, state)
    assert events[-1]["reason"] == "end of data"
    assert verified(state)
    with sqlite3.connect(state) as connection:
        decided = [row[0] for row in connection.execute("SELECT bar_ms FROM decisions ORDER BY bar_ms")]
        open_orders = connection.execute(
            "SELECT count(*) FROM orders WHERE status NOT IN ('filled', 'canceled', 'rejected')"
        ).fetchone()
        unsent = connection.execute("SELECT count(*) FROM orders WHERE reason = 'never reached the venue'").fetchone()
    connection.close()
    undisturbed = [e["bar_ms"] for e in wire[1] if e["type"] == "decision"]
    assert decided == undisturbed
    assert open_orders == (0,)
    assert len(trades_of(state)) >= len(trades_of(wire[0])) - unsent[0]


def test_a_run_whose_status_is_critical_goes_on_as_the_back_test_does(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On replayed bars breaker and hard stop guard; a status shown to a person changes no trade."""
    monkeypatch.setenv("AML100_TRADING__POSITION_SIZE_PCT", "30")
    for name in ("CIRCUIT_BREAKER_DD_PCT", "HARD_STOP_DD_PCT"):
        monkeypatch.setenv(f"AML100_RISK__{name}", "0")
    short = tmp_path / "BTC_short.parquet"
    pq.write_table(pq.read_table(tape).slice(0, 880), short)
    pq.write_table(pq.read_table(funding_of(tape)), funding_of(short))
    events = finish(short, tmp_path / "state.db")
    checks = [event["status"] for event in events if event["type"] == "check"]
    assert "CRITICAL" in checks
    out = tmp_path / "out"
    options = ["--policy", "random", "--seed", "5", "--warmup-bars", str(WARMUP), "--json", "--out", str(out)]
    done = subprocess.run(
        [*COMMAND, "backtest", "--data", str(short), "--funding", str(funding_of(short)), *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(str(events[-1]["equity"])) == pytest.approx(json.loads(done.stdout)["final_equity"], rel=1e-9)
    assert len(trades_of(tmp_path / "state.db")) == json.loads(done.stdout)["trades"]
