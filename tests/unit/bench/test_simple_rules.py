"""Simple rules and hindsight: what they earn by hand, and that one never beats the other."""

from __future__ import annotations

import numpy as np
import pytest

from aml100.bench.simple_rules import SimpleRule, best_rule, hindsight
from aml100.market.features import FEATURES
from aml100.market.series import Floats

FEE = 0.001


def rows_of(feature: str, values: Floats) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = np.zeros((len(values), len(FEATURES)), np.float32)
    rows[:, FEATURES.index(feature)] = values
    return rows


def test_a_rule_enters_leaves_turns_and_pays_for_each_side() -> None:
    signal = np.array([0.0, 2.0, 0.5, -0.1, -2.0, -0.5, 3.0])
    moves = np.array([0.5, 0.02, 0.03, 0.5, 0.04, 0.01, -0.02])
    rule = SimpleRule("ret_1", 1, enter=1.0, leave=0.0)
    # flat, long, long, flat, short, short, long
    expected = 0.02 + 0.03 - 0.04 - 0.01 - 0.02 - FEE * (1 + 1 + 1 + 2 + 1)
    assert rule.earned(rows_of("ret_1", signal), moves, FEE) == pytest.approx(expected)
    patient = SimpleRule("ret_1", 1, enter=1.0, leave=-1.0)
    expected += 0.5 + FEE - FEE  # long until it turns short: two sides at once where there were two apart
    assert patient.earned(rows_of("ret_1", signal), moves, FEE) == pytest.approx(expected)
    assert SimpleRule("ret_1", -1, 1.0, 0.0).earned(rows_of("ret_1", -signal), moves, FEE) == pytest.approx(
        rule.earned(rows_of("ret_1", signal), moves, FEE)
    )


def test_hindsight_takes_what_pays_for_itself_and_leaves_the_rest() -> None:
    assert hindsight(np.array([0.01, -0.0015, 0.01, -0.05, 0.0015]), FEE) == pytest.approx(
        0.01 - 0.0015 + 0.01 + 0.05 - 4 * FEE
    )
    assert hindsight(np.array([0.001, -0.001]), FEE) == 0.0


def test_the_best_rule_finds_the_planted_one_and_never_beats_hindsight() -> None:
    random = np.random.default_rng(0)
    rows = random.standard_normal((20_000, len(FEATURES))).astype(np.float32)
    moves = random.standard_normal(20_000) * 0.002 - 0.004 * np.sign(rows[:, FEATURES.index("rsi_14")])
    rule = best_rule(rows, moves, FEE)
    assert (rule.feature, rule.sign) == ("rsi_14", -1)
    assert 0.0 < rule.earned(rows, moves, FEE) < hindsight(moves, FEE)
