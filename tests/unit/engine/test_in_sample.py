"""A champion that trades on bars that it was made from is noticed, and the journal tells the next run of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from aml100.domain.market import Bar
from aml100.engine.in_sample import InSample
from aml100.learning.bundle import Bundle
from aml100.storage.database import Database
from tests.unit.engine.conftest import MakeBundle
from tests.unit.learning.planted import mean_reverting

SERIES = mean_reverting(1502, 1)


def bars(first: int, until: int) -> Sequence[Bar]:
    return [SERIES.bar(row) for row in range(first, until)]


def shown(database: Database, champion: Bundle | None, shown: Sequence[Bar]) -> InSample:
    """A run to which these bars come one by one, after what the journal told it."""
    watch = InSample(database)
    watch.restore(shown[0].open_ms)
    for bar in shown:
        database.journal(watch.on_bars(champion, [bar]))
    database.flush()
    return watch


def told(database: Database) -> list[tuple[str, str, int]]:
    return [(one.event, one.model, one.time_ms) for one in database.model_events()]


def test_it_is_said_once_and_its_end_is_said(
    database: Database, trained: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert trained.record.seen is not None
    with caplog.at_level(logging.WARNING):
        watch = shown(database, trained, bars(1490, 1495))
        watch = shown(database, trained, bars(1495, 1502))
    assert watch.until_ms == trained.record.seen.to_ms == SERIES.bar(1499).end_ms
    assert told(database) == [
        ("in_sample", trained.id, SERIES.bar(1490).end_ms),
        ("out_of_sample", trained.id, SERIES.bar(1499).end_ms),
    ]
    assert len(caplog.records) == 1
    assert "what it earns there is no evidence" in caplog.text


@pytest.mark.parametrize("later", [[], [(1495, 1499)], [(1495, 1497), (1497, 1499)]])
def test_runs_with_another_champion_know_what_the_one_before_was_shown(
    later: list[tuple[int, int]], database: Database, trained: Bundle
) -> None:
    shown(database, trained, bars(1490, 1495))
    for first, until in later:
        shown(database, None, bars(first, until))
    again = InSample(database)
    again.restore(SERIES.bar(later[-1][1] if later else 1494).end_ms)
    assert again.until_ms == SERIES.bar(1494).end_ms


def test_a_champion_that_gives_way_to_one_from_the_same_bars_ends_nothing(
    database: Database, trained: Bundle, make_bundle: MakeBundle
) -> None:
    other = make_bundle(0.0, 1.0, 0.0)
    shown(database, trained, bars(1490, 1495))
    shown(database, other, bars(1495, 1497))
    assert told(database) == [
        ("in_sample", trained.id, SERIES.bar(1490).end_ms),
        ("in_sample", other.id, SERIES.bar(1495).end_ms),
    ]
    again = InSample(database)
    again.restore(SERIES.bar(1496).end_ms)
    assert again.until_ms == SERIES.bar(1496).end_ms


def test_new_bars_and_no_model_leave_no_trace(database: Database, trained: Bundle) -> None:
    assert shown(database, trained, bars(1500, 1502)).until_ms == 0
    assert shown(database, None, bars(700, 702)).until_ms == 0
    assert told(database) == []
