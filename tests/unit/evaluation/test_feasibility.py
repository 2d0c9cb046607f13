"""What targets imply for each other (GUARANTEES B4)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aml100.config.models import Objectives
from aml100.evaluation.feasibility import drawdowns, feasibility, feasibility_of
from aml100.evaluation.objectives import phase_rules


def test_fifteen_percent_a_month_within_five_percent_needs_a_sharpe_near_eight_b4() -> None:
    found = feasibility(0.15, 1.5, 0.05, 0.10)
    assert found.sharpe_needed == pytest.approx(8.0, abs=0.5)
    assert found.sharpe_needed_watched > found.sharpe_needed
    assert found.median_drawdown == pytest.approx(0.29, abs=0.01)
    assert found.break_chance > 0.99
    assert not found.holds_together
    assert "needs a true Sharpe near" in found.words
    assert "29%" in found.words


def test_the_drawdown_is_what_fresh_minute_walks_show() -> None:
    """An independent simulation at four-minute steps, without any correction."""
    mean = 1.15 ** (1 / 30) - 1
    sd = mean * math.sqrt(365) / 1.5
    steps = 360
    moves = np.random.default_rng(3).standard_normal((400, 30 * steps)) * sd / math.sqrt(steps) + mean / steps
    equity = np.cumprod(1.0 + moves, axis=1)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    seen = np.median((1.0 - equity / peak).max(axis=1))
    assert np.median(drawdowns(mean, 1.5, 24)) == pytest.approx(seen, abs=0.015)


def test_the_needed_ratio_keeps_the_limit_as_often_as_allowed_and_not_more() -> None:
    mean = 1.08 ** (1 / 30) - 1
    needed = feasibility(0.08, 1.0, 0.05, 0.10).sharpe_needed
    assert np.mean(drawdowns(mean, needed, 1) > 0.05) == pytest.approx(0.10, abs=0.005)
    assert np.mean(drawdowns(mean, needed * 0.9, 1) > 0.05) > 0.10


def test_every_phase_of_the_plan_asks_for_more_than_its_sharpe_gives() -> None:
    meters = [feasibility_of(rules) for rules in phase_rules(Objectives())]
    assert [one.sharpe for one in meters] == [0.5, 1.0, 1.5]
    assert not any(one.holds_together for one in meters)
    needed = [one.sharpe_needed for one in meters]
    assert needed == sorted(needed)


def test_targets_that_hold_together_say_so() -> None:
    found = feasibility(0.01, 3.0, 0.05, 0.10)
    assert found.holds_together
    assert found.sharpe_needed < 3.0
    assert "holds together" in found.words


def test_nothing_is_implied_by_a_loss() -> None:
    with pytest.raises(ValueError, match="positive"):
        feasibility(0.0, 1.0, 0.05, 0.1)
