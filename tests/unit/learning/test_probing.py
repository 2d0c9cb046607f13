"""A policy that holds what is far ahead for good is told from one that leaves it (ADR 13)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aml100.evaluation.kernel import KernelRules, Market
from aml100.learning.inference import CompiledWeights
from aml100.learning.probing import DECISIONS_APART, MOVES, Letting, is_open_ended, positions_left
from aml100.market.position import POSITION_FEATURES
from aml100.market.series import Ints
from tests.unit.learning.planted import FREE_HANDED, series_of
from tests.unit.learning.test_bundle import constant_network

ASKED = 200
BARS = ASKED * DECISIONS_APART
MARKET = Market.from_series(series_of(np.full(BARS, 100.0)))
FALLS = np.arange(BARS) < BARS // 4
"""What the policy sees: a quarter of the bars fall, the others rise."""


def policy(pride: float) -> CompiledWeights:
    """Sells what falls and buys what rises, and holds on to a gain by `pride` for each (bounded) percent of it."""
    arrays = constant_network(0.0, 0.0, 0.0)
    arrays["position_share.weight"][2, POSITION_FEATURES.index("unrealised_return")] = 1.0
    hold, buy, sell = 1, 2, 3
    arrays["duel.weight"][sell, 0] = arrays["duel.weight"][buy, 1] = 1.0
    arrays["duel.weight"][hold, 2] = pride
    return CompiledWeights.from_arrays(arrays)


def ask(pride: float, rules: KernelRules = FREE_HANDED, members: int = 1) -> Ints:
    share = np.zeros((members, BARS, 4), np.float32)
    share[:, :, 0], share[:, :, 1] = FALLS, ~FALLS
    return positions_left(MARKET, rules.as_record(), 0, share, [policy(pride)] * members)


def test_each_side_is_asked_young_and_at_each_gain() -> None:
    """Of +19 % the policy sees 6.5, of +41 % 8.1: 0.15 of the one is less than its wish to leave, of the other more."""
    found = [[ASKED, bars, bars, *[0] * (len(MOVES) - 2)] for bars in (ASKED // 4, ASKED * 3 // 4)]
    assert ask(0.15).tolist() == found
    assert ask(0.15, members=3).tolist() == found
    assert ask(0.15, replace(FREE_HANDED, stop_loss=0.01)).tolist() == found


@pytest.mark.parametrize(("pride", "left"), [(0.0, (50, 150)), (0.15, (0, 0)), (1.0, (0, 0))])
def test_what_counts_is_the_gain_at_which_it_leaves_least(pride: float, left: tuple[int, int]) -> None:
    once = ask(pride)
    assert Letting.of([once]) == Letting(ASKED, (50, 150), left)
    assert Letting.of([once, once]) == Letting(2 * ASKED, (100, 300), (2 * left[0], 2 * left[1]))


@pytest.mark.parametrize("ended_by", [{"take_profit": 0.018}, {"max_hold": 720}, {"trailing_stop": 0.01}])
def test_there_is_nothing_to_ask_where_the_rules_end_such_a_position(ended_by: dict[str, float]) -> None:
    assert is_open_ended(replace(FREE_HANDED, stop_loss=0.01).as_record())
    assert not is_open_ended(replace(FREE_HANDED, **ended_by).as_record())  # type: ignore[arg-type]
    assert Letting.of([]) == Letting(0, (0, 0), (0, 0))


def test_only_bars_that_decide_are_asked() -> None:
    assert ask(0.0, replace(FREE_HANDED, decision_bars=4))[:, 0].tolist() == [ASKED // 4] * 2
