"""Market time of a venue, and how far our clock is from its own (GUARANTEES B19)."""

from __future__ import annotations

import pytest

from aml100.domain.clock import ManualClock
from aml100.venue.clock import VenueClock
from aml100.venue.news import ExchangeStatus

WALL = 1_700_000_000_000


def test_of_several_answers_the_quickest_tells_the_offset() -> None:
    wall = ManualClock(WALL, wall_s=100.0)
    clock = VenueClock(wall)
    for trip_s, late_ms in ((0.8, 700), (0.02, 110), (0.5, 400)):
        asked_s = wall.monotonic_s()
        answered_s = asked_s + trip_s
        wall.wall_s = answered_s
        wall.set(wall.now_ms() + round(trip_s * 1000))
        clock.sync(
            ExchangeStatus(wall.now_ms() - round(trip_s * 500) + late_ms, 1.0, False, False), asked_s, answered_s
        )
    assert clock.offset_ms == 110
    assert clock.now_ms() == wall.now_ms() + 110
    assert clock.venue_wall_ms() == wall.now_ms() + 110


def answered(clock: VenueClock, wall: ManualClock, venue_ms: int, trip_s: float = 0.1) -> None:
    """The venue says its time in the middle of a journey that ends now."""
    clock.sync(ExchangeStatus(venue_ms, 1.0, False, False), wall.monotonic_s() - trip_s, wall.monotonic_s())


@pytest.mark.parametrize("step_ms", [3_600_000, -20_000])
def test_setting_our_clock_moves_neither_the_market_nor_nonces_and_expiries(step_ms: int) -> None:
    """B1, D17: a forward step made bars of candles that were still forming, a backward one let every stop expire."""
    wall = ManualClock(WALL, wall_s=100.0)
    clock = VenueClock(wall)
    answered(clock, wall, WALL - 50)
    assert (clock.now_ms(), clock.offset_ms) == (WALL, 0)
    wall.wall_s = 101.0
    wall._now_ms = WALL + 1_000 + step_ms
    assert clock.now_ms() == clock.venue_wall_ms() == WALL + 1_000
    assert clock.offset_ms == -step_ms  # at once, not with the next question
    wall.wall_s, wall._now_ms = 110.0, WALL + 10_000 + step_ms
    answered(clock, wall, WALL + 10_000 - 100, trip_s=0.2)
    assert clock.now_ms() == clock.venue_wall_ms() == WALL + 10_000


@pytest.mark.parametrize("step_ms", [5_000, 600_000])
def test_a_machine_that_slept_believes_the_next_answer(step_ms: int) -> None:
    """Its monotonic clock stood still meanwhile, and the quickest answer of before is wrong by all of it."""
    wall = ManualClock(WALL, wall_s=100.0)
    clock = VenueClock(wall)
    answered(clock, wall, WALL - 10, trip_s=0.02)
    wall.wall_s = 101.0
    answered(clock, wall, WALL + 1_000 + step_ms - 400, trip_s=0.8)
    assert clock.now_ms() == clock.venue_wall_ms() == WALL + 1_000 + step_ms


def test_a_simulated_market_runs_at_its_speed_and_stands_still_at_its_end() -> None:
    wall = ManualClock(WALL, wall_s=0.0)
    clock = VenueClock(wall)
    clock.sync(ExchangeStatus(5_000_000, 60.0, False, True), 0.0, 0.0)
    wall.wall_s = 2.0
    assert clock.now_ms() == 5_000_000 + 120_000
    assert clock.offset_ms is None
    clock.sync(ExchangeStatus(5_060_000, 60.0, True, True), 2.0, 2.0)
    wall.wall_s = 9.0
    assert clock.now_ms() == 5_120_000  # never backwards
    assert clock.has_ended
