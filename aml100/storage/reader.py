"""Questions to state.db. A reader never writes and may be asked from any thread, beside a running engine.

Rows become the values of the domain again on the way out; nothing of a table is handed on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final

from aml100.domain.errors import StateError
from aml100.domain.events import CommandDone, Decision, FillRecorded, Gate, LedgerPosted, OrderRecorded, TradeClosed
from aml100.domain.orders import Action, Fill, Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import ZERO, Cloid, Coin
from aml100.storage import entries
from aml100.storage.store import Connection
from aml100.storage.stores import store_of

FIRST_MS: Final = -(2**62)
LAST_MS: Final = 2**62
_OPEN: Final = tuple(
    status.value
    for status in OrderStatus
    if status not in (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED)
)


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """Equity at one close. `drawdown_pct` from the peak since the last resume; `marks` where they were given."""

    time_ms: int
    equity: Decimal
    balance: Decimal
    drawdown_pct: float
    peak: Decimal
    marks: tuple[tuple[Coin, Decimal], ...] = ()


def exact_sum(amounts: Iterator[Decimal]) -> Decimal:
    """A sum with so many digits that none is rounded away."""
    with localcontext() as context:
        context.prec = 100
        return sum(amounts, ZERO)


class StateReader:
    """Queries over one book of one state.db."""

    def __init__(self, connection: Connection, path: Path, book: str) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.path = path
        self.book = book

    @classmethod
    @contextmanager
    def read(cls, path: Path, book: str | None = None, *, at_one_instant: bool = False) -> Iterator[StateReader]:
        """Read an existing state.db without an engine; `book` None: the book of the latest run.

        Args:
            at_one_instant: every answer is of the same moment, whatever an engine writes meanwhile.

        Raises:
            StateError: there is none, or it is damaged or newer than this program.
        """
        store = store_of(path)
        if store.version() == 0:
            raise StateError(f"{store}: no state here; allowed: one that `run` has made")
        connection = store.connect_read()
        try:
            if at_one_instant:
                connection.begin_reading()
            if book is None:
                row = connection.execute(
                    "SELECT book FROM runs ORDER BY started_ms DESC, rowid DESC LIMIT 1"
                ).fetchone()
                book = str(row[0]) if row else "venue"
            yield StateReader(connection, path, book)
        finally:
            connection.close()

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def input_rows(self, sql: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Rows of a query over the table `inputs`, a thousand at a time."""
        with self._lock:
            cursor = self._connection.execute(sql, values)
        while True:
            with self._lock:
                block = cursor.fetchmany(1000)
            if not block:
                return
            yield from block

    # --- the ledger and what it rests on ---

    def load_core_state(self) -> bytes | None:
        """The core's state as of the last journalled step that carried one."""
        rows = self._all("SELECT state FROM core_state WHERE book = ?", self.book)
        return bytes(rows[0][0]) if rows else None

    def ledger_rows(self, from_ms: int = FIRST_MS, to_ms: int = LAST_MS) -> tuple[LedgerPosted, ...]:
        """In the order they were posted."""
        rows = self._all(
            "SELECT time_ms, kind, coin, amount, ref FROM ledger "
            "WHERE book = ? AND time_ms >= ? AND time_ms < ? ORDER BY id",
            self.book,
            from_ms,
            to_ms,
        )
        return tuple(LedgerPosted(t, k, None if c is None else Coin(c), Decimal(a), r) for t, k, c, a, r in rows)

    def balance(self) -> Decimal:
        """The exact sum of the ledger."""
        return exact_sum(Decimal(a) for (a,) in self._all("SELECT amount FROM ledger WHERE book = ?", self.book))

    def fills(self, from_ms: int = FIRST_MS, to_ms: int = LAST_MS) -> tuple[FillRecorded, ...]:
        """In the order they were folded in."""
        rows = self._all(
            "SELECT coin, side, price, size, fee, time_ms, tid, oid, cloid, liquidity, is_liquidation, kind, reason, "
            "realised, position_after FROM fills WHERE book = ? AND time_ms >= ? AND time_ms < ? ORDER BY seq",
            self.book,
            from_ms,
            to_ms,
        )
        return tuple(map(_fill_recorded, rows))

    def orders(self) -> tuple[OrderRecorded, ...]:
        """Every order in its latest state, in the order of creation."""
        return self._orders("")

    def open_orders(self) -> tuple[OrderRecorded, ...]:
        """Orders that are not done: created, sent, unknown, waiting or resting."""
        return self._orders(f"AND status IN ({', '.join('?' * len(_OPEN))})", *_OPEN)

    def _orders(self, where: str, *values: str) -> tuple[OrderRecorded, ...]:
        rows = self._all(
            "SELECT cloid, oid, coin, side, kind, price, size, reduce_only, status, created_ms, updated_ms, reason, "
            f"tif, trigger_price, intent_reason FROM orders WHERE book = ? {where} ORDER BY seq",
            self.book,
            *values,
        )
        return tuple(map(_order_recorded, rows))

    def equity_curve(self, from_ms: int = FIRST_MS, to_ms: int = LAST_MS) -> tuple[EquityPoint, ...]:
        """The account at the closes within [from_ms, to_ms), oldest first, with what was paid in or out left in."""
        rows = self._all(
            "SELECT time_ms, equity, balance, drawdown_pct, peak, marks FROM equity "
            "WHERE book = ? AND time_ms >= ? AND time_ms < ? ORDER BY time_ms",
            self.book,
            from_ms,
            to_ms,
        )
        return tuple(EquityPoint(t, Decimal(e), Decimal(b), d, Decimal(p), _marks(m)) for t, e, b, d, p, m in rows)

    def money_moved(self) -> Iterator[tuple[int, Decimal]]:
        """USD paid in (> 0) or out, in order, each with the first close whose equity holds it; LAST_MS for none yet."""
        rows = self._all(
            "SELECT (SELECT time_ms FROM equity WHERE book = ledger.book AND seq > ledger.id ORDER BY seq LIMIT 1), "
            "amount FROM ledger WHERE book = ? AND kind = 'deposit' ORDER BY id",
            self.book,
        )
        for close_ms, amount in rows:
            yield LAST_MS if close_ms is None else close_ms, Decimal(amount)

    def equity_span(self, run_id: str) -> tuple[int, int] | None:
        """Market time that a run lived through, [from_ms, to_ms); None where it marked no equity."""
        rows = self._all("SELECT min(time_ms), max(time_ms) FROM equity WHERE run_id = ?", run_id)
        return None if rows[0][0] is None else (int(rows[0][0]), int(rows[0][1]) + 1)

    def trades(self, from_ms: int = FIRST_MS, to_ms: int = LAST_MS) -> tuple[TradeClosed, ...]:
        """Round trips that closed in [from_ms, to_ms), in order."""
        rows = self._all(
            "SELECT coin, side, entry_ms, entry_price, exit_ms, exit_price, size, pnl, fees, funding, exit_reason, "
            "bars_held FROM trades WHERE book = ? AND exit_ms >= ? AND exit_ms < ? ORDER BY seq",
            self.book,
            from_ms,
            to_ms,
        )
        return tuple(map(_trade, rows))

    # --- decisions ---

    def decisions(
        self, from_ms: int = FIRST_MS, to_ms: int = LAST_MS, coin: Coin | None = None
    ) -> tuple[Decision, ...]:
        """Decisions on bars that opened in [from_ms, to_ms), in order."""
        return self._decisions(
            "bar_ms >= ? AND bar_ms < ? AND (CAST(? AS TEXT) IS NULL OR coin = ?) ORDER BY seq",
            from_ms,
            to_ms,
            coin,
            coin,
        )

    def last_decisions(self, coin: Coin | None, count: int) -> tuple[Decision, ...]:
        """The latest first; of all coins where `coin` is None."""
        if coin is None:
            return self._decisions("TRUE ORDER BY seq DESC LIMIT ?", count)
        return self._decisions("coin = ? ORDER BY bar_ms DESC LIMIT ?", coin, count)

    def _decisions(self, where: str, *values: object) -> tuple[Decision, ...]:
        rows = self._all(
            "SELECT coin, bar_ms, time_ms, action, q_hold, q_buy, q_sell, regime, confidence, outcome, gates "
            f"FROM decisions WHERE book = ? AND {where}",
            self.book,
            *values,
        )
        return tuple(map(_decision, rows))

    def why_histogram(
        self, coin: Coin | None = None, from_ms: int = FIRST_MS, to_ms: int = LAST_MS
    ) -> tuple[tuple[str, int], ...]:
        """(label, count), most frequent first: `order`, the gate that refused, or `hold`. Sums to all decisions."""
        rows = self._all(
            "SELECT why, count(*) FROM decisions WHERE book = ? AND bar_ms >= ? AND bar_ms < ? "
            "AND (CAST(? AS TEXT) IS NULL OR coin = ?) GROUP BY why ORDER BY 2 DESC, 1",
            self.book,
            from_ms,
            to_ms,
            coin,
            coin,
        )
        return tuple((str(label), int(count)) for label, count in rows)

    def action_counts(self) -> tuple[int, int, int]:
        """Decisions by action: HOLD, BUY, SELL."""
        rows = dict(self._all("SELECT action, count(*) FROM decisions WHERE book = ? GROUP BY action", self.book))
        return rows.get(0, 0), rows.get(1, 0), rows.get(2, 0)

    # --- the engine's own facts ---

    def has_halt_latch(self) -> bool:
        return self.halt_latch() is not None

    def halt_latch(self) -> entries.HaltLatched | None:
        """Who halted, when and why; None where nobody did, or somebody resumed."""
        rows = self._all("SELECT value FROM meta WHERE key = 'halt_latch'")
        if not rows:
            return None
        latch = json.loads(rows[0][0])
        return entries.HaltLatched(by=latch["by"], reason=latch["reason"], time_ms=latch["time_ms"])

    def meta(self, key: str) -> str | None:
        """A fact about the file: schema_version, network, account."""
        rows = self._all("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def commands(self) -> tuple[CommandDone, ...]:
        rows = self._all("SELECT name, by, result, time_ms FROM commands ORDER BY id")
        return tuple(CommandDone(*row) for row in rows)

    def runs(self) -> tuple[entries.Run, ...]:
        """The earliest first, of all books."""
        rows = self._all(
            "SELECT run_id, started_ms, venue, execution, coins, origin, policy, seed, pid, options, stopped_ms, "
            "reason, exit_code, equity FROM runs ORDER BY started_ms, rowid"
        )
        return tuple(map(_run, rows))

    def cycles(self) -> tuple[entries.Cycle, ...]:
        rows = self._all(
            "SELECT number, phase, from_ms, to_ms, source, verdict, counted, metrics, model, network, state "
            "FROM cycles WHERE book = ? ORDER BY number",
            self.book,
        )
        return tuple(map(_cycle, rows))

    def latest_cycles(self) -> tuple[entries.Cycle, ...]:
        """The latest cycle of each ledger in this file, venue and paper."""
        rows = self._all(
            "SELECT number, phase, from_ms, to_ms, source, verdict, counted, metrics, model, network, state "
            "FROM cycles AS one WHERE number = (SELECT max(number) FROM cycles WHERE book = one.book)"
        )
        return tuple(map(_cycle, rows))

    def phases(self) -> tuple[entries.PhaseStep, ...]:
        """The steps from phase to phase; the last one names the present phase."""
        rows = self._all(
            "SELECT time_ms, from_phase, to_phase, reason, provisional, network FROM phases "
            "WHERE book = ? ORDER BY seq",
            self.book,
        )
        return tuple(map(_phase, rows))

    def models(self) -> tuple[entries.ModelVersion, ...]:
        rows = self._all(
            "SELECT id, created_ms, updated_ms, state, path, parent, seed, metrics, reason FROM models "
            "ORDER BY created_ms, rowid"
        )
        return tuple(entries.ModelVersion(*row) for row in rows)

    def model_events(self) -> tuple[entries.ModelEvent, ...]:
        """What happened to models, in order."""
        rows = self._all(
            "SELECT time_ms, model, event, reason, detail FROM model_events WHERE book = ? ORDER BY seq", self.book
        )
        return tuple(entries.ModelEvent(*row) for row in rows)

    def shadow(self, role: str) -> entries.ShadowSaved | None:
        """The saved walk of the `champion` or the `challenger`; None where there is none."""
        rows = self._all("SELECT role, model, state FROM shadows WHERE book = ? AND role = ?", self.book, role)
        return entries.ShadowSaved(*rows[0]) if rows and rows[0][2] is not None else None

    def checks(self, from_ms: int = FIRST_MS, to_ms: int = LAST_MS) -> tuple[entries.StatusCheck, ...]:
        """Operational checks, in order."""
        rows = self._all(
            "SELECT time_ms, status, reason, figures, health, triggers FROM checks "
            "WHERE book = ? AND time_ms >= ? AND time_ms < ? ORDER BY time_ms",
            self.book,
            from_ms,
            to_ms,
        )
        return tuple(entries.StatusCheck(*row) for row in rows)

    def last_check(self) -> entries.StatusCheck | None:
        rows = self._all(
            "SELECT time_ms, status, reason, figures, health, triggers FROM checks WHERE book = ? "
            "ORDER BY time_ms DESC LIMIT 1",
            self.book,
        )
        return entries.StatusCheck(*rows[0]) if rows else None

    def parameter_versions(self) -> tuple[entries.ParameterVersion, ...]:
        """Tuned parameters, the earliest first."""
        rows = self._all(
            "SELECT id, created_ms, updated_ms, state, source, changes, reason FROM parameters "
            "ORDER BY created_ms, rowid"
        )
        return tuple(entries.ParameterVersion(*row) for row in rows)

    def active_parameters(self) -> entries.ParameterVersion | None:
        """The tuned parameters in force, over the configuration; None where there are none."""
        return next((one for one in reversed(self.parameter_versions()) if one.state == "active"), None)

    def champion(self) -> entries.ModelVersion | None:
        """The model that trades; the latest promoted where the journal names several."""
        champions = [model for model in self.models() if model.state == "champion"]
        return max(champions, key=lambda model: model.updated_ms, default=None)

    def trainings(self) -> tuple[entries.Training, ...]:
        rows = self._all(
            "SELECT id, started_ms, state, cause, seed, epoch, epochs, ended_ms, model, validation, reason, market_ms "
            "FROM trainings ORDER BY started_ms, rowid"
        )
        return tuple(entries.Training(*row) for row in rows)

    def trials(self) -> tuple[entries.Trial, ...]:
        rows = self._all(
            "SELECT id, time_ms, source, state, seed, sharpe, observations, skew, kurtosis, parameters "
            "FROM trials ORDER BY time_ms, rowid"
        )
        return tuple(entries.Trial(*row) for row in rows)

    def event_lines(self, from_ms: int = FIRST_MS, to_ms: int = LAST_MS, type_: str | None = None) -> tuple[str, ...]:
        """Lines of the event stream as they were written, in order."""
        rows = self._all(
            "SELECT line FROM events WHERE book = ? AND time_ms >= ? AND time_ms < ? "
            "AND (CAST(? AS TEXT) IS NULL OR type = ?) ORDER BY seq",
            self.book,
            from_ms,
            to_ms,
            type_,
            type_,
        )
        return tuple(str(line) for (line,) in rows)


def _marks(text: str) -> tuple[tuple[Coin, Decimal], ...]:
    return tuple((Coin(coin), Decimal(mark)) for coin, mark in json.loads(text).items())


def _fill_recorded(row: tuple[Any, ...]) -> FillRecorded:
    coin, side, price, size, fee, time_ms, tid, oid, cloid, liquidity, liquidation, kind, reason, realised, after = row
    fill = Fill(
        coin=Coin(coin),
        side=Side(side),
        price=Decimal(price),
        size=Decimal(size),
        fee=Decimal(fee),
        time_ms=time_ms,
        tid=tid,
        oid=oid,
        cloid=None if cloid is None else Cloid(cloid),
        is_taker=liquidity == "taker",
        is_liquidation=bool(liquidation),
    )
    return FillRecorded(fill, None if kind is None else OrderKind(kind), reason, Decimal(realised), Decimal(after))


def _order_recorded(row: tuple[Any, ...]) -> OrderRecorded:
    cloid, oid, coin, side, kind, price, size, reduce_only, status, created, updated, reason, tif, trigger, why = row
    order = Order(
        cloid=Cloid(cloid),
        coin=Coin(coin),
        side=Side(side),
        kind=OrderKind(kind),
        size=Decimal(size),
        price=Decimal(price),
        reduce_only=bool(reduce_only),
        tif=None if tif is None else TimeInForce(tif),
        trigger_price=None if trigger is None else Decimal(trigger),
        reason=why,
        created_ms=created,
    )
    return OrderRecorded(order, OrderStatus(status), oid, reason, updated)


def _trade(row: tuple[Any, ...]) -> TradeClosed:
    coin, side, entry_ms, entry, exit_ms, exit_, size, pnl, fees, funding, reason, bars = row
    money = [Decimal(text) for text in (entry, exit_, size, pnl, fees, funding)]
    return TradeClosed(
        Coin(coin),
        Side(side),
        entry_ms,
        money[0],
        exit_ms,
        money[1],
        money[2],
        money[3],
        money[4],
        money[5],
        reason,
        bars,
    )


def _decision(row: tuple[Any, ...]) -> Decision:
    coin, bar_ms, time_ms, action, hold, buy, sell, regime, confidence, outcome, gates = row
    return Decision(
        coin=Coin(coin),
        bar_ms=bar_ms,
        time_ms=time_ms,
        action=Action(action),
        q=None if hold is None else (hold, buy, sell),
        regime=regime,
        confidence=confidence,
        outcome=outcome,
        gates=tuple(Gate(g["name"], g["ok"], g["reason"]) for g in json.loads(gates)),
    )


def _run(row: tuple[Any, ...]) -> entries.Run:
    coins = tuple(map(Coin, json.loads(row[4])))
    equity = None if row[13] is None else Decimal(row[13])
    values = (*row[:4], coins, *row[5:13], equity)
    return entries.Run(*values)


def _cycle(row: tuple[Any, ...]) -> entries.Cycle:
    number, phase, from_ms, to_ms, source, verdict, counted, *rest = row
    return entries.Cycle(number, phase, from_ms, to_ms, source, verdict, bool(counted), *rest)


def _phase(row: tuple[Any, ...]) -> entries.PhaseStep:
    time_ms, before, after, reason, provisional, network = row
    return entries.PhaseStep(time_ms, before, after, reason, bool(provisional), network)
