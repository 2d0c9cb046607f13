"""Levers on real bars: each changes what it says and nothing that it may not see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml100.bench.learning_levers import CALENDAR, HEADER, MARGINS, Lever, before, blinded, lever_rows, rules_of
from aml100.bench.learning_real import ENTRIES, RULES_OF_THUMB, SETTINGS, folds_of, sets_in
from aml100.domain.units import HOUR_MS
from aml100.learning.jobs import TrainingJob
from aml100.learning.trainer import lay_out
from aml100.market.features import FEATURES
from tests.unit.bench.test_learning_real import write

SMALL = replace(SETTINGS, lstm_hidden=8, head_hidden=8, burn_in_bars=16, stretch_bars=32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("venue_perp_AAA_1h", "venue_perp_BBB_1h", "other_spot_AAA_1h")):
        write(tmp_path, f"{name}.parquet", seed)
    return tmp_path


def test_other_venues_are_read_up_to_where_the_test_begins(folder: Path) -> None:
    sets = sets_in(folder)
    for fold in folds_of(sets["venue_perp 1h"], ENTRIES["taker"]):
        (other,) = before(fold, [sets["other_spot 1h"]])
        split_ms = int(fold[0].data.series.open_ms[fold[0].train_stop])
        assert int(other.series.open_ms[-1]) == split_ms - HOUR_MS


def test_a_blind_learner_sees_nothing_in_those_columns_and_all_the_others(folder: Path) -> None:
    fold = folds_of(sets_in(folder)["venue_perp 1h"], ENTRIES["taker"])[0]
    whole = lay_out(TrainingJob(tuple(coin.seen for coin in fold), SMALL, seed=0))
    less = blinded(whole, CALENDAR)
    gone = np.isin(FEATURES, CALENDAR)
    for before_it, after in zip(whole.coins, less.coins, strict=True):
        assert before_it.scaled[:, gone].any()
        assert not after.scaled[:, gone].any()
        np.testing.assert_array_equal(after.scaled[:, ~gone], before_it.scaled[:, ~gone])
    rows = fold[0].frame.values[500:510]
    assert not less.scaler.apply(rows)[:, gone].any()


def test_a_decision_interval_becomes_bars_of_the_set(folder: Path) -> None:
    folds = folds_of(sets_in(folder)["venue_perp 1h"], ENTRIES["taker"])
    assert rules_of(Lever(decide_ms=4 * HOUR_MS), folds).decision_bars == 4
    assert rules_of(Lever(decide_ms=HOUR_MS // 4), folds) is None
    assert rules_of(Lever(), folds) == ENTRIES["taker"]


def test_rows_name_the_lever_and_the_margin(folder: Path) -> None:
    rows = list(lever_rows(folder, 2, 0.3, "venue_perp 1h", ("none", "a model a coin")))
    assert all(len(row) == len(HEADER) for row in rows)
    named = [(row[1], row[2]) for row in rows]
    expected = [(name, f"{margin:g}") for name in ("none", "a model a coin") for margin in MARGINS]
    assert named == [*((rule, "") for rule in RULES_OF_THUMB), *expected]
