"""What may still be asked, and what the reserve is for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aml100.venue.budget import ActionBudget, IpBudget, Use


def test_weight_comes_back_after_a_minute() -> None:
    budget = IpBudget(100, reserve=20)
    budget.take(0.0, 50)
    budget.take(10.0, 30)
    assert budget.wait_s(20.0, 1, Use.ROUTINE) == 40.0
    assert budget.wait_s(20.0, 51, Use.ROUTINE) == 50.0
    assert budget.wait_s(60.0, 50, Use.ROUTINE) == 0.0
    assert budget.used(70.0) == 0


def test_what_is_larger_than_the_allowance_waits_for_an_empty_minute() -> None:
    budget = IpBudget(100, reserve=20)
    assert budget.wait_s(0.0, 500, Use.ROUTINE) == 0.0
    budget.take(0.0, 500)
    assert budget.wait_s(1.0, 500, Use.ROUTINE) == 59.0


def test_a_close_goes_out_at_the_first_try_when_entries_spent_everything() -> None:
    """B8, D18."""
    ip, actions = IpBudget(100, reserve=20), ActionBudget(cap=100)
    while ip.wait_s(0.0, 1, Use.ROUTINE) == 0 and actions.admits(1, Use.ROUTINE):
        ip.take(0.0, 1)
        actions.take(1)
    assert (ip.used(0.0), actions.remaining) == (80, 20)
    actions.take(10)
    assert not actions.admits(1, Use.ROUTINE)
    assert actions.remaining == 10
    assert actions.admits(1, Use.PROTECTIVE)
    assert ip.wait_s(0.0, 1, Use.PROTECTIVE) == 0.0


def test_the_venues_own_count_wins() -> None:
    actions = ActionBudget(cap=10_000, used=9_500)
    assert not actions.admits(1, Use.ROUTINE)
    actions.sync(used=9_500, cap=50_000)
    assert actions.admits(1, Use.ROUTINE)


def test_routine_use_pauses_longer_with_every_429_in_a_row() -> None:
    budget = IpBudget(100, reserve=20)
    waits = []
    for _ in range(7):
        budget.note_refusal(100.0)
        waits.append(budget.wait_s(100.0, 1, Use.ROUTINE))
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert budget.wait_s(100.0, 1, Use.PROTECTIVE) == 0.0
    assert budget.wait_s(160.0, 1, Use.ROUTINE) == 0.0
    budget.note_answer()
    budget.note_refusal(200.0)
    assert budget.wait_s(200.0, 1, Use.ROUTINE) == 2.0


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), max_size=40))
def test_no_minute_holds_more_than_the_allowance(requests: list[tuple[float, int]]) -> None:
    """Routine use waits as told; then every minute (less a rounding) stays within limit - reserve."""
    budget, now_s, sent = IpBudget(100, reserve=20), 0.0, []
    for pause_s, weight in requests:
        now_s += pause_s
        while (wait_s := budget.wait_s(now_s, weight, Use.ROUTINE)) > 0:
            now_s += wait_s
        budget.take(now_s, weight)
        sent.append((now_s, weight))
    for end_s, _ in sent:
        assert sum(weight for at_s, weight in sent if end_s - 59.999 < at_s <= end_s) <= 80
