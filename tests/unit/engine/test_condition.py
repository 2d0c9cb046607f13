"""Status, health and triggers from made-up but exact figures."""

from __future__ import annotations

import numpy as np
import pytest

from aml100.config.models import Objectives
from aml100.domain.orders import Action
from aml100.domain.units import MINUTE_MS
from aml100.engine.condition import (
    Decided,
    bias_of,
    feature_drift,
    live_health,
    result_drift,
)
from aml100.evaluation.curve import LedgerWindow
from aml100.evaluation.objectives import phase_rules
from aml100.evaluation.standing import Status, judge_status
from aml100.learning.scores import Validation
from aml100.market.features import FEATURE_COUNT

RULES = phase_rules(Objectives())[0]


def window(levels: list[float], profits: list[float]) -> LedgerWindow:
    return LedgerWindow(30.0, 100.0, np.array(levels), np.array(profits))


@pytest.mark.parametrize(
    ("levels", "profits", "status"),
    [
        ([100.0, 94.9], [1.0], Status.CRITICAL),  # fell by 5.1 %
        ([110.0, 104.0], [1.0] * 30, Status.CRITICAL),  # 5.5 % from the window's peak, though it earned
        ([99.0], [-1.0] * 19, Status.MODERATE),  # too few trades to judge
        ([99.0], [1.0, -2.0] * 15, Status.POOR),
        ([103.0], [3.0, -1.0] * 15, Status.GOOD),
        ([101.0], [3.0, -1.0] * 15, Status.MODERATE),  # 1 % a month where 2 % is asked
    ],
)
def test_status_follows_from_the_ledger(levels: list[float], profits: list[float], status: Status) -> None:
    assert judge_status(window(levels, profits), RULES, 0.05).status is status


def decided(actions: list[Action], q: tuple[float, float, float] = (0.1, 0.2, 0.0)) -> list[Decided]:
    return [Decided(action, (q[0], q[1] + number * 1e-6, q[2])) for number, action in enumerate(actions)]


def unhealthy(actions: list[Action], promised: Validation | None = None, **q: tuple[float, float, float]) -> set[str]:
    return {one.name for one in live_health(decided(actions, **q), MINUTE_MS, 0.998, promised) if not one.healthy}


PROMISED = Validation(0.01, 0.05, 0.04, 100, 0.6, 1.5, 1000, 0.9, 0.05, 0.05, 1.0)


def test_b15_live_constant_exploding_flipping_and_silent_policies_are_named() -> None:
    assert unhealthy([Action.BUY] * 300) == {"constant_action"}
    assert unhealthy([Action.BUY, Action.SELL] * 200) == {"flips"}
    assert unhealthy([Action.HOLD] * 300, q=(-9e3, 0.2, 0.1)) == {"exploding_q"}
    assert unhealthy([Action.HOLD] * 300, PROMISED) == {"never_trades"}
    assert unhealthy([Action.HOLD] * 300) == set()  # nothing promised an edge: holding is fine
    assert live_health(decided([Action.BUY] * 100), MINUTE_MS, 0.998, None) == ()  # too few to say


def test_action_bias_needs_a_side_beyond_the_threshold() -> None:
    assert bias_of(decided([Action.BUY] * 180 + [Action.HOLD] * 120), 0.7) == ""
    assert "SELL in 80%" in bias_of(decided([Action.SELL] * 240 + [Action.HOLD] * 60), 0.7)


def test_features_that_left_the_scaler_are_drift_and_calendar_features_are_not() -> None:
    mean, inverse = np.zeros(FEATURE_COUNT), np.ones(FEATURE_COUNT)
    rows = np.random.default_rng(1).standard_normal((500, FEATURE_COUNT))
    assert feature_drift(rows, mean, inverse) == ""
    calendar = rows.copy()
    calendar[:, -4:] += 10.0
    assert feature_drift(calendar, mean, inverse) == ""
    moved = rows.copy()
    moved[:, :12] += 3.0
    assert "of the features lie over 2 sd" in feature_drift(moved, mean, inverse)


def test_results_far_under_what_was_promised_are_drift() -> None:
    assert result_drift(1000, 0.04, 0.03, PROMISED) == ""
    assert result_drift(100, -1.0, 0.01, PROMISED) == ""  # too early
    assert "promised" in result_drift(1000, -0.2, 0.03, PROMISED)
