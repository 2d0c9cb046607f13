"""What the run has shown so far: curves that keep their extremes, and a log in sentences."""

from __future__ import annotations

import pytest

from aml100.engine.telemetry import CURVE_POINTS, Curve, Telemetry


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
