"""Alerts for what nothing reports by itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aml100.control.alerts import AlertBook
from aml100.engine.alerts import AlertListener
from aml100.engine.rounds import LATE_ROUNDS, Rounds


class Place:
    """What the rounds read of an engine, with a clock that somebody sets."""

    def __init__(self, speed: float = 1.0, runs: tuple[object, ...] = ()) -> None:
        self.now_ms = 0
        self.loop_lag_ms = 0.0
        self.options = SimpleNamespace(speed=speed)
        self.core = SimpleNamespace(
            rules=SimpleNamespace(interval_ms=60_000, risk=SimpleNamespace(max_loop_lag_ms=1000))
        )
        self.rest = SimpleNamespace(
            action_budget=SimpleNamespace(used=10, cap=10_000),
            ip_budget=SimpleNamespace(limit=1200, used=lambda _now_s: 100),
        )
        self.clock = SimpleNamespace(monotonic_s=lambda: 0.0)
        self.database = SimpleNamespace(runs=lambda: runs)
        self.book = AlertBook()
        self.listener = AlertListener(self.book, lambda: self.now_ms)
        self.rounds = Rounds(self, self.listener, lambda: self.now_ms)  # type: ignore[arg-type]

    def codes(self) -> list[str]:
        self.rounds.look()
        return [one.code for one in self.book.active()]


@pytest.mark.parametrize(("speed", "patience_ms"), [(1.0, 120_000), (60.0, 61_000)])
def test_no_bar_within_two_minutes_is_an_alarm(speed: float, patience_ms: int) -> None:
    """D22: at real speed a minute's bar and a minute's patience."""
    place = Place(speed)
    place.now_ms = patience_ms
    assert place.codes() == []
    place.now_ms = patience_ms + 1
    assert place.codes() == ["no_bars"]
    place.listener.on_event("bar", {})
    assert place.codes() == []


def test_late_loop_is_told_when_it_stays_late() -> None:
    place = Place()
    place.loop_lag_ms = 1500.0
    assert [place.codes() for _ in range(LATE_ROUNDS)] == [[]] * (LATE_ROUNDS - 1) + [["loop_lag"]]
    place.loop_lag_ms = 3.0
    assert place.codes() == []


def test_allowance_nearly_used_up_is_told() -> None:
    """B8."""
    place = Place()
    place.rest.action_budget.used = 9_500
    assert place.codes() == ["budget_low"]
    assert "address actions" in place.book.active()[0].text
    place.rest.action_budget.cap = 100_000
    assert place.codes() == []


@pytest.mark.parametrize(("stopped_ms", "told"), [(None, ["unclean_restart"]), (5, [])])
def test_run_that_was_cut_short_is_told_by_the_next(stopped_ms: int | None, told: list[str]) -> None:
    place = Place(runs=(SimpleNamespace(run_id="r1", pid=7, stopped_ms=stopped_ms),))
    place.rounds.begin()
    assert [one.code for one in place.book.views()] == told
    assert place.book.active() == ()
