"""What the run has shown so far: curves that keep their extremes, and a log in sentences."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from aml100.domain.events import CommandDone, EquityMarked, LedgerPosted, Record
from aml100.engine.telemetry import CURVE_POINTS, Curve, Telemetry
from aml100.storage.database import Database


@pytest.mark.parametrize("length", [1, 2, 100, 119, 500, 5000, 23_456])
def test_thinned_curve_keeps_its_extremes_and_its_end(length: int) -> None:
    """One point of fall in a long run is the deepest fall of the picture as well."""
    values = [10_000.0 + at % 7 for at in range(length)]
    values[length // 3] = 9_000.0
    values[length // 2] = 11_000.0
    curve = Curve()
    for at, value in enumerate(values):
        curve.add(at, value)
    points = curve.thinned()
    assert len(points) <= CURVE_POINTS
    assert [time_ms for time_ms, _ in points] == sorted(time_ms for time_ms, _ in points)
    shown = [value for _, value in points]
    assert (min(shown), max(shown)) == (min(values), max(values))
    assert points[-1] == (length - 1, values[-1])


def test_old_part_of_a_curve_looks_the_same_at_every_look() -> None:
    """The fall named under the equity curve does not change from one second to the next."""
    curve = Curve()
    for at in range(1000):
        curve.add(at, float(at * 7919 % 101))
    before = curve.thinned()
    for at in range(1000, 1000 + curve.stretch):
        curve.add(at, float(at * 7919 % 101))
    assert curve.thinned()[: len(before) - 3] == before[:-3]


def test_curve_is_evenly_spaced() -> None:
    """A stretch in which nothing moved takes as much room as any other."""
    curve = Curve()
    for at in range(1000):
        curve.add(at, 10_000.0 if at < 500 else float(at))
    points = curve.thinned()
    flat = sum(1 for time_ms, _ in points if time_ms < 500)
    assert flat == pytest.approx(len(points) / 2, abs=2)


def told(kind: str, **fields: object) -> list[tuple[str, str]]:
    telemetry = Telemetry()
    telemetry.on_event(kind, fields)
    return [(one.level, one.text) for one in telemetry.log]


def test_command_that_failed_is_a_warning_and_says_so() -> None:
    """C22: `resume` beside a HALT file is no news like any other."""
    telemetry = Telemetry()
    telemetry.on_record(CommandDone("pause", "cli:ann", "no new entries", 5))
    telemetry.on_record(CommandDone("resume", "cli:ann", "failed: HALT is there: remove it first, then resume", 6))
    assert [(one.level, one.text) for one in telemetry.log] == [
        ("info", "pause by cli:ann: no new entries"),
        ("warning", "resume by cli:ann: failed: HALT is there: remove it first, then resume"),
    ]


def test_log_speaks_in_sentences() -> None:
    assert told("model", id="m-1", event="rolled_back", reason="by ann") == [("info", "model m-1 rolled back: by ann")]
    assert told("cycle", number=2, source="realised", verdict="FAIL", metrics={}) == [
        ("info", "cycle 2 ended: FAIL (realised)")
    ]
    assert told("phase", **{"from": "Foundation", "to": "Growth"}, reason="3 cycles") == [
        ("info", "phase Foundation -> Growth: 3 cycles")
    ]
    assert told("feed", coin="BTC", channel="bbo", state="stale", age_ms=31_000, gap_bars=0) == [
        ("warning", "BTC bbo is stale, silent for 31 s")
    ]
    assert told("bar") == []


def test_log_tells_of_a_training_when_its_state_changes() -> None:
    """The runbook sends whoever reads training_failed to the log."""
    telemetry = Telemetry()
    for epoch in range(3):
        telemetry.on_event("training", {"state": "running", "epoch": epoch, "reason": ""})
    telemetry.on_event("training", {"state": "failed", "epoch": 3, "reason": "killed by the system"})
    assert [(one.level, one.text) for one in telemetry.log] == [
        ("info", "training running"),
        ("warning", "training failed: killed by the system"),
    ]


def test_the_deepest_fall_is_from_the_highest_equity_ever_whatever_was_resumed_or_paid_since() -> None:
    """SPEC 9: never reset; a resume begins the guards' own peak anew (their drawdown_frac starts at 0 again)."""

    def marked(minute: int, equity: int, since_resumed: float) -> EquityMarked:
        worth = Decimal(equity)
        return EquityMarked(60_000 * minute, worth, worth, since_resumed, worth)

    telemetry = Telemetry()
    telemetry.on_record(LedgerPosted(0, "deposit", None, Decimal(10_000), "initial"))
    for mark in (marked(1, 10_000, 0.0), marked(2, 9_900, 0.01), marked(3, 9_900, 0.0), marked(4, 9_800, 0.0101)):
        telemetry.on_record(mark)
    assert telemetry.max_drawdown == pytest.approx(0.02)
    telemetry.on_record(LedgerPosted(300_000, "deposit", None, Decimal(-5_000), "taken out"))
    telemetry.on_record(marked(6, 4_800, 0.0))
    assert telemetry.max_drawdown == pytest.approx(1 - 4_800 / 5_000)
    telemetry.on_record(LedgerPosted(420_000, "deposit", None, Decimal(5_000), "paid in"))
    telemetry.on_record(marked(8, 9_800, 0.0))
    assert telemetry.max_drawdown == pytest.approx(0.04), "money moved is no fall"


def test_the_deepest_fall_is_the_same_after_a_restart(tmp_path: Path) -> None:
    telemetry, facts = Telemetry(), list[Record]()
    for minute, equity, moved in ((1, 1_000, 1_000), (2, 900, 0), (3, 1_400, 500), (4, 1_330, 0)):
        if moved:
            facts.append(LedgerPosted(60_000 * minute, "deposit", None, Decimal(moved), str(minute)))
        worth = Decimal(equity)
        facts.append(EquityMarked(60_000 * minute, worth, worth, 0.0, worth))
    for fact in facts:
        telemetry.on_record(fact)
    assert telemetry.max_drawdown == pytest.approx(1 - 1_330 / 1_500)
    with Database.open(tmp_path / "state.db", "NORMAL", "sim", "0x1", "venue") as database:
        database.journal(facts).result()
        again = Telemetry()
        again.restore(database)
    assert again.max_drawdown == telemetry.max_drawdown
