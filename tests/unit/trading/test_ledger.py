"""Positions and balances by folding fills."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from aml100.domain.events import FundingPaid
from aml100.domain.orders import Fill, Position, Side
from aml100.domain.units import Cloid, Coin
from aml100.trading.ledger import REMEMBERED_FILLS, Ledger, apply_fill

BTC = Coin("BTC")


def fill(side: Side, size: str, price: str, *, fee: str = "0", number: int = 1, time_ms: int = 1) -> Fill:
    return Fill(BTC, side, Decimal(price), Decimal(size), Decimal(fee), time_ms, number, number, Cloid("0x01"), True)


def test_adding_moves_the_entry_to_the_average() -> None:
    position, realised = apply_fill(Position(Decimal(1), Decimal(100)), fill(Side.BUY, "3", "104"))
    assert position == Position(Decimal(4), Decimal(103))
    assert realised == 0


def test_reducing_realises_against_the_entry_and_keeps_it() -> None:
    position, realised = apply_fill(Position(Decimal(-4), Decimal(100)), fill(Side.BUY, "1", "90"))
    assert position == Position(Decimal(-3), Decimal(100))
    assert realised == 10


def test_fill_larger_than_the_position_flips_it() -> None:
    position, realised = apply_fill(Position(Decimal(2), Decimal(100)), fill(Side.SELL, "3", "110"))
    assert position == Position(Decimal(-1), Decimal(110))
    assert realised == 20


def test_round_trip_is_reported_net_of_fees_and_funding() -> None:
    ledger = Ledger()
    ledger.deposit(Decimal(1000), 0, "initial")
    ledger.apply_fill(fill(Side.BUY, "2", "100", fee="0.09", number=1), "", 0)
    ledger.apply_funding(FundingPaid(BTC, 3_600_000, Decimal("0.001"), Decimal("-0.2"), Decimal(2)))
    folded = ledger.apply_fill(fill(Side.SELL, "2", "105", fee="0.0945", number=2, time_ms=9), "signal", 7)
    assert folded.trade is not None
    assert folded.trade.pnl == Decimal("10") - Decimal("0.09") - Decimal("0.0945") - Decimal("0.2")
    assert folded.trade.bars_held == 7
    assert ledger.balance == 1000 + folded.trade.pnl
    assert ledger.open_coins() == []


def test_funding_of_an_hour_is_posted_once() -> None:
    ledger = Ledger()
    paid = FundingPaid(BTC, 3_600_000, Decimal("0.001"), Decimal("-0.2"), Decimal(2))
    assert ledger.apply_funding(paid) is not None
    assert ledger.apply_funding(paid) is None
    assert ledger.balance == Decimal("-0.2")


def test_a_fill_that_was_folded_is_known_again() -> None:
    ledger = Ledger()
    once = fill(Side.BUY, "1", "100", number=5)
    assert not ledger.knows_fill(once)
    ledger.apply_fill(once, "", 0)
    assert ledger.knows_fill(once)


def test_every_old_fill_is_known_however_many_followed() -> None:
    """D16: the venue's snapshot repeats up to 2000 fills after a restart."""
    ledger = Ledger()
    told = [fill(Side.BUY if n % 2 else Side.SELL, "1", "100", number=n, time_ms=n // 2) for n in range(1, 2001)]
    for one in told:
        assert not ledger.knows_fill(one)
        ledger.apply_fill(one, "", 0)
    assert all(ledger.knows_fill(one) for one in told)
    assert len(ledger.book.recent_fills) == REMEMBERED_FILLS


def test_fills_of_one_instant_are_never_taken_for_known() -> None:
    """One order may sweep more levels than ids are kept, all at one time."""
    ledger = Ledger()
    ledger.apply_fill(fill(Side.BUY, "1", "100", number=1), "", 0)
    for n in range(1000):
        one = Fill(BTC, Side.BUY, Decimal("100"), Decimal("1"), Decimal(0), 50, n, 1, None, True)
        assert not ledger.knows_fill(one)
        ledger.apply_fill(one, "", 0)
    assert ledger.position(BTC).size == 1001


fills = st.lists(
    st.tuples(
        st.sampled_from(list(Side)),
        st.decimals("0.001", "5", places=3),
        st.decimals("50", "150", places=2),
        st.decimals("-0.01", "0.05", places=6),
    ),
    min_size=1,
    max_size=40,
)


@given(fills, st.decimals("50", "150", places=2))
def test_balance_is_exactly_the_sum_of_its_rows_and_equity_is_mark_less_cost(
    tape: list[tuple[Side, Decimal, Decimal, Decimal]], mark: Decimal
) -> None:
    ledger = Ledger()
    posted = [ledger.deposit(Decimal(10_000), 0, "initial")]
    cash, held = Decimal(10_000), Decimal(0)
    for number, (side, size, price, fee) in enumerate(tape, start=1):
        one = Fill(BTC, side, price, size, fee, number, number, number, None, True)
        posted += ledger.apply_fill(one, "signal", 0).posted
        cash -= one.signed_size * price + fee
        held += one.signed_size
    ledger.mark(BTC, mark)
    assert ledger.balance == sum(row.amount for row in posted)
    assert ledger.position(BTC).size == held
    assert abs(ledger.equity() - (cash + held * mark)) < Decimal("1e-9")
