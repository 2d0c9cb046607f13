"""For any tape of fills and funding, however it is cut into steps and repeated: the journal holds the books exactly."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from aml100.domain.events import EquityMarked, FillRecorded, FundingPaid, LedgerPosted
from aml100.domain.orders import Fill, Position, Side
from aml100.domain.units import HOUR_MS, ZERO, Coin
from aml100.storage.database import Database, StateReader, verify
from aml100.storage.rows import Fact
from aml100.trading.ledger import Ledger, apply_fill

COINS = (Coin("BTC"), Coin("ETH"), Coin("xyz:XYZ100"))

prices = st.decimals("0.000001", "250000", places=6)
sizes = st.decimals("0.00001", "5000", places=5)
fees = st.decimals("-3", "50", places=6)

fill_steps = st.tuples(st.just("fill"), st.sampled_from(COINS), st.booleans(), prices, sizes, fees)
funding_steps = st.tuples(st.just("funding"), st.sampled_from(COINS), st.booleans(), prices, sizes, fees)
tapes = st.lists(st.tuples(st.one_of(fill_steps, funding_steps), st.booleans()), min_size=1, max_size=25)


def facts_of(ledger: Ledger, number: int, step: tuple[str, Coin, bool, Decimal, Decimal, Decimal]) -> list[Fact]:
    """One step folded into the ledger, with the equity after it."""
    kind, coin, is_buy, price, size, fee = step
    time_ms = (number + 1) * HOUR_MS
    facts: list[Fact] = []
    if kind == "funding":
        posted = ledger.apply_funding(FundingPaid(coin, time_ms, Decimal("0.0001"), fee, size))
        facts += [posted] if posted is not None else []
    else:
        fill = Fill(coin, Side.BUY if is_buy else Side.SELL, price, size, fee, time_ms, number, number, None, True)
        folded = ledger.apply_fill(fill, "signal", 1)
        facts += [FillRecorded(fill, None, "", folded.realised, folded.position.size), *folded.posted]
        facts += [folded.trade] if folded.trade is not None else []
    ledger.mark(coin, price)
    return [*facts, EquityMarked(time_ms, ledger.equity(), ledger.balance, 0.0, ledger.equity())]


@settings(max_examples=25, deadline=None)
@given(tapes)
def test_any_tape_verifies_and_folds_back_to_the_same_positions(tape: list[tuple[object, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        ledger = Ledger()
        with Database.open(path, "NORMAL", "sim", "0xa", "venue") as database:
            database.journal([ledger.deposit(Decimal(10000), 0, "initial")])
            for number, (step, is_repeated) in enumerate(tape):
                facts = facts_of(ledger, number, step)  # type: ignore[arg-type]
                database.journal(facts, marks=ledger.book.marks)
                if is_repeated:
                    database.journal(facts, marks=ledger.book.marks)
        assert [check for check in verify(path, apply_fill) if not check.ok] == []
        with StateReader.read(path) as reader:
            positions: dict[Coin, Position] = {}
            for one in reader.fills():
                positions[one.fill.coin], _ = apply_fill(positions.get(one.fill.coin, Position()), one.fill)
            assert {c: p for c, p in positions.items() if p.size} == ledger.book.positions
            assert abs(reader.balance() - ledger.balance) <= Decimal("1e-12")
            assert sum((row.amount for row in reader.ledger_rows() if row.kind == "deposit"), ZERO) == 10000


@settings(max_examples=25, deadline=None)
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15), max_size=8))
def test_an_amount_comes_back_digit_for_digit(amounts: list[Decimal]) -> None:
    rows = tuple(LedgerPosted(n, "adjustment", None, amount, str(n)) for n, amount in enumerate(amounts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        with Database.open(path, "NORMAL", "sim", "0xa", "venue") as database:
            database.journal(rows).result()
            assert database.ledger_rows() == rows
