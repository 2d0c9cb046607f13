"""The ledger as columns: what was earned, whatever was paid in or out."""

from __future__ import annotations

import numpy as np

from aml100.domain.units import DAY_MS, HOUR_MS
from aml100.evaluation.curve import LedgerCurve


def curve(equity: list[float], flows: dict[int, float], initial: float = 100.0) -> LedgerCurve:
    """Closes of days; `flows` are held by the close of that number."""
    made = LedgerCurve(DAY_MS)
    made.add_flow(initial)
    for number, level in enumerate(equity):
        if number in flows:
            made.add_flow(flows[number])
        made.add_equity((number + 1) * DAY_MS, level)
    return made


def test_money_moved_is_no_return_e5() -> None:
    paid = curve([110.0, 165.0, 181.5, 81.5], {1: 44.0, 3: -100.0})
    np.testing.assert_allclose(paid.record().equity, [110.0, 121.0, 133.1, 133.1], rtol=1e-12)
    np.testing.assert_allclose(paid.daily_returns(), [0.1, 0.1, 0.1, 0.0], atol=1e-12)
    window = paid.window(DAY_MS, 3 * DAY_MS)
    np.testing.assert_allclose(window.equity[-1] / window.opening_equity, 1.21, rtol=1e-12)


def test_what_is_paid_in_before_the_first_bar_is_what_the_account_began_with() -> None:
    begun = LedgerCurve(HOUR_MS)
    begun.add_flow(100.0)
    begun.add_flow(400.0)
    begun.add_equity(HOUR_MS, 505.0)
    assert begun.record().initial_equity == 500.0


def test_an_account_that_was_emptied_and_filled_again_goes_on_where_it_was() -> None:
    again = curve([100.0, 120.0], {})
    again.add_flow(-120.0)
    again.add_flow(50.0)
    again.add_equity(3 * DAY_MS, 50.0)
    again.add_equity(4 * DAY_MS, 55.0)
    np.testing.assert_allclose(again.record().equity, [100.0, 120.0, 120.0, 132.0], rtol=1e-12)


def test_the_same_close_again_and_an_echo_keep_the_flow_where_it_belongs() -> None:
    marked = curve([100.0, 210.0], {1: 100.0})
    marked.add_equity(2 * DAY_MS, 220.0)
    marked.add_equity(DAY_MS, 999.0)
    np.testing.assert_allclose(marked.record().equity, [100.0, 120.0], rtol=1e-12)
