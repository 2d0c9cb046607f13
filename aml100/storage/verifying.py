"""Recomputing the books from the journal: what must hold in every state.db, at every instant (GUARANTEES B10).

The fills are folded again in the order in which they were journalled; balance, profit, fees, positions and equity
follow from them and from the ledger, and are compared with what was written at the time. The fold itself is handed
in, since it belongs to the ledger of the trading core.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from aml100.domain.errors import StateError
from aml100.domain.events import FOREIGN
from aml100.domain.orders import Fill, Position, Side
from aml100.domain.units import ZERO, Cloid, Coin
from aml100.storage.store import Connection
from aml100.storage.stores import store_of

Fold: TypeAlias = Callable[[Position, Fill], tuple[Position, Decimal]]
"""`apply_fill`: a fill into a position; the position after it and the profit it realised."""

_SUM_TOLERANCE: Final = Decimal("1e-12")
_EQUITY_TOLERANCE: Final = Decimal("1e-9")
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `detail` says what was counted, or what differs and where."""

    name: str
    ok: bool
    detail: str


@dataclass(slots=True)
class _Finding:
    """Collects the differences of one check."""

    name: str
    seen: int = 0
    wrong: list[str] = field(default_factory=list)
    note: str = ""

    def expect(self, holds: bool, otherwise: Callable[[], str]) -> None:
        self.seen += 1
        if not holds:
            self.wrong.append(otherwise())

    def check(self, unit: str) -> Check:
        if not self.wrong:
            return Check(self.name, True, f"{self.seen} {unit}{self.note}")
        more = f" and {len(self.wrong) - _SHOWN} more" if len(self.wrong) > _SHOWN else ""
        return Check(self.name, False, "; ".join(self.wrong[:_SHOWN]) + more)


def verify(
    path: Path, fold: Fold, state_positions: Callable[[bytes], Mapping[Coin, Decimal]] | None = None
) -> list[Check]:
    """Recompute everything of every book in the file and compare; never writes.

    Args:
        fold: the ledger's `apply_fill`.
        state_positions: reads signed sizes by coin from the core's exported state; without it that comparison is
            left out.

    Raises:
        StateError: there is no state.db at `path`, or it cannot be read.
    """
    store = store_of(path)
    if store.version() == 0:
        raise StateError(f"{store}: no state here; allowed: one that `run` has made")
    with closing(store.connect_read()) as connection:
        connection.begin_reading()
        checks = [Check("database", *store.soundness(connection))]
        tables = ("orders", "fills", "ledger", "equity", "decisions", "core_state")
        books = {row[0] for table in tables for row in connection.execute(f"SELECT DISTINCT book FROM {table}")}
        for book in sorted(books):
            try:
                found = [*_books(connection, book, fold, state_positions), *_rules(connection, book)]
            except (ValueError, ArithmeticError) as error:
                found = [Check("values", False, f"a row holds what is no value ({type(error).__name__}: {error})")]
            checks += [Check(f"{book}: {check.name}", check.ok, check.detail) for check in found]
    return checks


# --- one walk through fills, ledger and equity --------------------------------------------------------------------


@dataclass(slots=True)
class _Walk:
    """The books as recomputed so far."""

    positions: dict[Coin, Position] = field(default_factory=dict)
    balance: Decimal = ZERO
    expected: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)
    """What the fills demand of the ledger: (kind, coin, ref) -> amount."""
    posted: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)


def _books(
    connection: Connection,
    book: str,
    fold: Fold,
    state_positions: Callable[[bytes], Mapping[Coin, Decimal]] | None,
) -> Iterable[Check]:
    walk = _Walk()
    positions, balance, equity = _Finding("positions"), _Finding("balance"), _Finding("equity")
    unmarked = 0
    for _, kind, row in _journal_order(connection, book):
        if kind == "fill":
            _fold_fill(walk, row, fold, positions)
        elif kind == "ledger":
            with localcontext() as context:
                context.prec = 100
                walk.balance += Decimal(row[3])
            if row[1] in ("realised", "fee"):
                walk.posted[(row[1], row[2] or "", row[4])] = Decimal(row[3])
        else:
            unmarked += not _equity_holds(walk, row, balance, equity)
    if unmarked:
        equity.note = f"; {unmarked} with positions whose marks were not kept"
    if state_positions is not None:
        _compare_state(connection, book, walk, state_positions, positions)
    yield balance.check("equity rows against the sum of the ledger")
    yield from _ledger_checks(walk)
    yield positions.check("fills folded")
    yield equity.check("equity rows against balance and unrealised profit")


def _journal_order(connection: Connection, book: str) -> Iterable[tuple[int, str, tuple[Any, ...]]]:
    fills = connection.execute(
        "SELECT seq, coin, side, price, size, fee, time_ms, tid, oid, cloid, realised, position_after, fill_id "
        "FROM fills WHERE book = ? ORDER BY seq",
        (book,),
    )
    ledger = connection.execute("SELECT id, kind, coin, amount, ref FROM ledger WHERE book = ? ORDER BY id", (book,))
    equity = connection.execute(
        "SELECT seq, time_ms, equity, balance, marks FROM equity WHERE book = ? ORDER BY seq", (book,)
    )
    streams = (_tagged("fill", fills), _tagged("ledger", ledger), _tagged("equity", equity))
    return heapq.merge(*streams, key=lambda item: item[0])


def _tagged(kind: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, str, tuple[Any, ...]]]:
    for row in rows:
        yield row[0], kind, row


def _fold_fill(walk: _Walk, row: tuple[Any, ...], fold: Fold, positions: _Finding) -> None:
    _, coin, side, price, size, fee, time_ms, tid, oid, cloid, realised, after, fill_id = row
    fill = Fill(
        Coin(coin),
        Side(side),
        Decimal(price),
        Decimal(size),
        Decimal(fee),
        time_ms,
        tid,
        oid,
        None if cloid is None else Cloid(cloid),
        is_taker=True,
    )
    position, profit = fold(walk.positions.get(fill.coin, Position()), fill)
    walk.positions[fill.coin] = position
    walk.expected[("realised", coin, fill_id)] = profit
    walk.expected[("fee", coin, fill_id)] = -fill.fee
    positions.expect(
        position.size == Decimal(after), lambda: f"after fill {fill_id}: recomputed {position.size}, journalled {after}"
    )
    if profit != Decimal(realised):
        positions.wrong.append(f"fill {fill_id}: realised recomputed {profit}, journalled {realised}")


def _equity_holds(walk: _Walk, row: tuple[Any, ...], balance: _Finding, equity: _Finding) -> bool:
    """Compare one equity row; False where its positions cannot be valued."""
    _, time_ms, stated_equity, stated_balance, marks_text = row
    balance.expect(
        abs(walk.balance - Decimal(stated_balance)) <= _SUM_TOLERANCE,
        lambda: f"at {time_ms}: ledger sums to {walk.balance}, journalled {stated_balance}",
    )
    marks = json.loads(marks_text)
    held = {coin: position for coin, position in walk.positions.items() if position.size != 0}
    if not held.keys() <= marks.keys():
        return False
    unrealised = sum((position.unrealised(Decimal(marks[coin])) for coin, position in held.items()), ZERO)
    equity.expect(
        abs(walk.balance + unrealised - Decimal(stated_equity)) <= _EQUITY_TOLERANCE,
        lambda: f"at {time_ms}: recomputed {walk.balance + unrealised}, journalled {stated_equity}",
    )
    return True


def _compare_state(
    connection: Connection,
    book: str,
    walk: _Walk,
    state_positions: Callable[[bytes], Mapping[Coin, Decimal]],
    positions: _Finding,
) -> None:
    row = connection.execute("SELECT state FROM core_state WHERE book = ?", (book,)).fetchone()
    if row is None:
        return
    try:
        stated = {coin: size for coin, size in state_positions(bytes(row[0])).items() if size != 0}
    except (ValueError, ArithmeticError, msgspec.MsgspecError) as error:
        positions.wrong.append(f"core state cannot be read ({error})")
        return
    folded = {coin: position.size for coin, position in walk.positions.items() if position.size != 0}
    if stated != folded:
        positions.wrong.append(f"core state holds {stated}, fills fold to {folded}")


def _ledger_checks(walk: _Walk) -> Iterable[Check]:
    for kind in ("realised", "fee"):
        finding = _Finding(kind)
        expected = {key: amount for key, amount in walk.expected.items() if key[0] == kind}
        posted = {key: amount for key, amount in walk.posted.items() if key[0] == kind}
        for key, amount in expected.items():
            stated = posted.get(key)
            finding.expect(
                stated == amount if stated is not None else amount == 0,
                lambda key=key, amount=amount, stated=stated: (  # type: ignore[misc]
                    f"fill {key[2]}: recomputed {amount}, ledger has {'no row' if stated is None else stated}"
                ),
            )
        finding.wrong += [f"ledger row {key[2]} has no fill" for key in posted if key not in expected]
        yield finding.check("fills against their ledger rows")


# --- rules that need no recomputing -------------------------------------------------------------------------------


def _rules(connection: Connection, book: str) -> Iterable[Check]:
    yield _order_rules(connection, book)
    for name, sql in (
        ("cloids", "SELECT cloid FROM orders WHERE book = ?"),
        ("fill ids", "SELECT fill_id FROM fills WHERE book = ?"),
        ("decisions", "SELECT coin || ' ' || bar_ms FROM decisions WHERE book = ?"),
    ):
        counts = Counter(row[0] for row in connection.execute(sql, (book,)))
        twice = [key for key, count in counts.items() if count > 1]
        yield _Finding(name, len(counts), [f"{key} occurs more than once" for key in twice]).check("unique")
    times = _Finding("times")
    for name, sql in (
        ("equity", "SELECT '', time_ms FROM equity WHERE book = ? ORDER BY seq"),
        ("decision", "SELECT coin, bar_ms FROM decisions WHERE book = ? ORDER BY seq"),
    ):
        latest: dict[str, int] = {}
        for key, time_ms in connection.execute(sql, (book,)):
            before = latest.get(key, time_ms - 1)
            times.expect(time_ms > before, lambda n=name, k=key, t=time_ms, b=before: f"{n} {k} {t} after {b}")  # type: ignore[misc]
            latest[key] = time_ms
    yield times.check("rows in order of time")


def _order_rules(connection: Connection, book: str) -> Check:
    """Fills belong to a journalled order, never exceed it, and a rejected order has none.

    Fills that were foreign when they came are somebody else's, under whatever client id.
    """
    finding = _Finding("orders")
    filled: dict[str, Decimal] = {}
    foreign: set[str] = set()
    for cloid, size, reason in connection.execute(
        "SELECT cloid, size, reason FROM fills WHERE book = ? AND cloid IS NOT NULL", (book,)
    ):
        filled[cloid] = filled.get(cloid, ZERO) + Decimal(size)
        if reason == FOREIGN:
            foreign.add(cloid)
    partly = 0
    for cloid, size, status in connection.execute("SELECT cloid, size, status FROM orders WHERE book = ?", (book,)):
        done = filled.pop(cloid, ZERO)
        finding.expect(
            done <= Decimal(size),
            lambda c=cloid, d=done, s=size: f"order {c}: fills of {d} exceed its size {s}",  # type: ignore[misc]
        )
        if status == "rejected" and done:
            finding.wrong.append(f"order {cloid}: rejected, but has fills of {done}")
        partly += status == "filled" and done != Decimal(size)
    finding.wrong += [f"fills of {cloid} without an order" for cloid in filled if cloid not in foreign]
    if partly:
        finding.note = f"; {partly} done with less than their size"
    return finding.check("orders against their fills")
