"""Facts into rows: which statement keeps a record, and its values in the table's column order.

One dictionary maps each type to a `Keep`: prepared SQL made from the table classes, and a function from the record to
its values. Everything is a single statement, so that the writer can hand a whole group to `executemany`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import Table
from sqlmodel import SQLModel

from aml100.domain.events import (
    CommandDone,
    Decision,
    EquityMarked,
    FillRecorded,
    LedgerPosted,
    OrderRecorded,
    Record,
    StateChanged,
    TradeClosed,
    TradingState,
)
from aml100.domain.orders import Action, OrderStatus
from aml100.domain.units import Coin, decimal_text
from aml100.storage import entries, tables

Value: TypeAlias = str | int | float | bytes | None
Values: TypeAlias = tuple[Value, ...]
Fact: TypeAlias = Record | entries.Entry

_SENT: Final = frozenset(
    {OrderStatus.SENT, OrderStatus.UNKNOWN, OrderStatus.WAITING, OrderStatus.RESTING, OrderStatus.FILLED}
)
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Stamp:
    """What every row carries besides its own values; `seq` is the number of the row to be written next."""

    book: str
    network: str
    run_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Keep:
    """How one type of fact is kept."""

    sql: str
    values: Callable[[Any, Stamp], Values | None]
    """None: there is nothing to keep of this one."""


def money(value: Decimal) -> str:
    """Plain digits for the database; ValueError for what is not finite (GUARANTEES D9).

    >>> money(Decimal("65000.50")), money(Decimal("1E-7")), money(Decimal("-0"))
    ('65000.50', '0.0000001', '0')
    """
    if not value.is_finite():
        raise ValueError(f"not a finite number: {value}")
    text = str(value)
    return decimal_text(value) if "E" in text or text[0] == "-" else text


def maybe_money(value: Decimal | None) -> str | None:
    return None if value is None else money(value)


def table_of(row: type[SQLModel]) -> Table:
    """The table behind a row class."""
    table: Table = SQLModel.metadata.tables[str(row.__tablename__)]
    return table


def insert_sql(
    row: type[SQLModel], conflict: str = "", update: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> str:
    """INSERT of all columns in order. At a `conflict` target: do nothing, or take over the columns of `update`."""
    table = table_of(row)
    names = _others(row, *without)
    sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    if not conflict:
        return sql
    if not update:
        return f"{sql} ON CONFLICT ({conflict}) DO NOTHING"
    return f"{sql} ON CONFLICT ({conflict}) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in update)}"


def _others(row: type[SQLModel], *without: str) -> tuple[str, ...]:
    return tuple(column.name for column in table_of(row).columns if column.name not in without)


# --- records of the core ------------------------------------------------------------------------------------------


def _order(record: OrderRecorded, stamp: Stamp) -> Values:
    order = record.order
    return (
        stamp.seq,
        order.cloid,
        record.oid,
        stamp.run_id,
        stamp.book,
        order.coin,
        order.side.value,
        order.kind.value,
        money(order.price),
        money(order.size),
        int(order.reduce_only),
        record.status.value,
        order.created_ms,
        record.time_ms if record.status in _SENT else None,
        record.time_ms,
        record.reason or order.reason,
        None if order.tif is None else order.tif.value,
        maybe_money(order.trigger_price),
        order.reason,
    )


def _fill(record: FillRecorded, stamp: Stamp) -> Values:
    fill = record.fill
    return (
        stamp.seq,
        fill.fill_id,
        fill.cloid,
        stamp.run_id,
        stamp.book,
        fill.coin,
        fill.side.value,
        money(fill.price),
        money(fill.size),
        money(fill.fee),
        "taker" if fill.is_taker else "maker",
        fill.time_ms,
        fill.tid,
        fill.oid,
        int(fill.is_liquidation),
        None if record.kind is None else record.kind.value,
        record.reason,
        money(record.realised),
        money(record.position_after),
    )


def _ledger(record: LedgerPosted, stamp: Stamp) -> Values:
    return (
        stamp.seq,
        record.time_ms,
        record.kind,
        record.coin,
        money(record.amount),
        record.ref,
        stamp.run_id,
        stamp.book,
    )


def why(decision: Decision) -> str:
    """One label for the histogram: what was done, or the first gate that refused (GUARANTEES B2)."""
    if decision.outcome == "order":
        return "order"
    for gate in decision.gates:
        if not gate.ok:
            return gate.name
    return "hold" if decision.action is Action.HOLD else "unexplained"


def _decision(record: Decision, stamp: Stamp) -> Values:
    q = record.q if record.q is not None else (None, None, None)
    gates = _encode(record.gates).decode()
    return (
        stamp.seq,
        record.time_ms,
        record.coin,
        record.bar_ms,
        record.action.value,
        *q,
        record.outcome,
        gates,
        record.regime,
        record.confidence,
        why(record),
        stamp.run_id,
        stamp.book,
    )


def equity_values(record: EquityMarked, stamp: Stamp, marks: Mapping[Coin, Decimal]) -> Values:
    """The equity row, with the marks that the positions were valued at."""
    return (
        stamp.seq,
        record.time_ms,
        money(record.equity),
        money(record.balance),
        record.drawdown_frac * 100.0,
        money(record.peak),
        json.dumps({coin: money(mark) for coin, mark in marks.items()}) if marks else "{}",
        stamp.run_id,
        stamp.book,
    )


def _trade(record: TradeClosed, stamp: Stamp) -> Values:
    return (
        stamp.seq,
        record.coin,
        record.side.value,
        record.entry_ms,
        money(record.entry_price),
        record.exit_ms,
        money(record.exit_price),
        money(record.size),
        money(record.pnl),
        money(record.fees),
        money(record.funding),
        record.exit_reason,
        record.bars_held,
        stamp.run_id,
        stamp.book,
    )


def _command(record: CommandDone, _stamp: Stamp) -> Values:
    return (record.time_ms, record.name, record.by, record.result)


def _latch_json(by: str, reason: str, time_ms: int) -> Values:
    return ("halt_latch", json.dumps({"by": by, "reason": reason, "time_ms": time_ms}))


def _state(record: StateChanged, _stamp: Stamp) -> Values | None:
    if record.state is not TradingState.HALTED:
        return None
    return _latch_json("core", record.reason, record.time_ms)


# --- entries of the engine ----------------------------------------------------------------------------------------


def _run(run: entries.Run, stamp: Stamp) -> Values:
    return (
        run.run_id,
        run.started_ms,
        run.venue,
        run.execution,
        stamp.book,
        json.dumps(list(run.coins)),
        run.origin,
        run.policy,
        run.seed,
        run.pid,
        run.options,
        run.stopped_ms,
        run.reason,
        run.exit_code,
        maybe_money(run.equity),
    )


def _run_stopped(stop: entries.RunStopped, _stamp: Stamp) -> Values:
    return (stop.stopped_ms, stop.reason, stop.exit_code, maybe_money(stop.equity), stop.run_id)


def _cycle(cycle: entries.Cycle, stamp: Stamp) -> Values:
    head = (stamp.book, cycle.number, cycle.phase, cycle.from_ms, cycle.to_ms, cycle.source, cycle.verdict)
    tail = (cycle.metrics, cycle.model, cycle.network or stamp.network, stamp.run_id, cycle.state)
    return (*head, int(cycle.counted), *tail)


def _phase(step: entries.PhaseStep, stamp: Stamp) -> Values:
    head = (stamp.seq, step.time_ms, step.from_phase, step.to_phase, step.reason, int(step.provisional))
    return (*head, step.network or stamp.network, stamp.book, stamp.run_id)


def _model(model: entries.ModelVersion, _stamp: Stamp) -> Values:
    head = (model.id, model.created_ms, model.updated_ms, model.state, model.path, model.parent, model.seed)
    return (*head, model.metrics, model.reason)


def _training(t: entries.Training, stamp: Stamp) -> Values:
    head = (t.id, t.started_ms, t.ended_ms, t.state, t.cause, t.seed, t.epoch, t.epochs)
    return (*head, t.model, t.validation, t.reason, stamp.run_id, t.market_ms)


def _model_event(e: entries.ModelEvent, stamp: Stamp) -> Values:
    return (stamp.seq, e.time_ms, e.model, e.event, e.reason, e.detail, stamp.book, stamp.run_id)


def _check(c: entries.StatusCheck, stamp: Stamp) -> Values:
    return (stamp.book, c.time_ms, c.status, c.reason, c.figures, c.health, c.triggers, stamp.run_id)


def _parameters(p: entries.ParameterVersion, _stamp: Stamp) -> Values:
    return (p.id, p.created_ms, p.updated_ms, p.state, p.source, p.changes, p.reason)


def _trial(t: entries.Trial, _stamp: Stamp) -> Values:
    head = (t.id, t.time_ms, t.source, t.state, t.seed, t.sharpe)
    return (*head, t.observations, t.skew, t.kurtosis, t.parameters)


# --- which is kept how --------------------------------------------------------------------------------------------

_ORDER_SQL: Final = (
    insert_sql(tables.OrderRow, "book, cloid", ("price", "size", "status", "updated_ms", "reason", "trigger_price"))
    + ", oid = coalesce(excluded.oid, orders.oid), sent_ms = coalesce(orders.sent_ms, excluded.sent_ms)"
)
_LATCH_SQL: Final = insert_sql(tables.MetaRow, "key")
"""The first halt is the one that is remembered."""

EQUITY_SQL: Final = insert_sql(tables.EquityRow, "book, time_ms", _others(tables.EquityRow, "book", "time_ms"))
EVENT_SQL: Final = insert_sql(tables.EventRow)
INPUT_SQL: Final = insert_sql(tables.InputRow)
CORE_STATE_SQL: Final = insert_sql(tables.CoreStateRow, "book", ("seq", "state"))
COMMAND_SQL: Final = insert_sql(tables.CommandRow, without=("id",))
"""They are numbered as they come."""

KEEPS: Final[dict[type, Keep]] = {
    OrderRecorded: Keep(_ORDER_SQL, _order),
    FillRecorded: Keep(insert_sql(tables.FillRow, "book, fill_id"), _fill),
    LedgerPosted: Keep(insert_sql(tables.LedgerRow, "book, kind, coalesce(coin, ''), ref"), _ledger),
    Decision: Keep(insert_sql(tables.DecisionRow, "book, coin, bar_ms"), _decision),
    TradeClosed: Keep(insert_sql(tables.TradeRow, "book, coin, side, entry_ms, exit_ms"), _trade),
    CommandDone: Keep(COMMAND_SQL, _command),
    StateChanged: Keep(_LATCH_SQL, _state),
    entries.Run: Keep(insert_sql(tables.RunRow), _run),
    entries.RunStopped: Keep(
        "UPDATE runs SET stopped_ms = ?, reason = ?, exit_code = ?, equity = ? WHERE run_id = ?", _run_stopped
    ),
    entries.Cycle: Keep(
        insert_sql(tables.CycleRow, "book, number", _others(tables.CycleRow, "book", "number")), _cycle
    ),
    entries.PhaseStep: Keep(insert_sql(tables.PhaseRow), _phase),
    entries.ModelVersion: Keep(insert_sql(tables.ModelRow, "id", _others(tables.ModelRow, "id", "created_ms")), _model),
    entries.ModelEvent: Keep(insert_sql(tables.ModelEventRow), _model_event),
    entries.ShadowSaved: Keep(
        insert_sql(tables.ShadowRow, "book, role", ("model", "state")),
        lambda e, stamp: (stamp.book, e.role, e.model, e.state),
    ),
    entries.StatusCheck: Keep(
        insert_sql(tables.StatusCheckRow, "book, time_ms", _others(tables.StatusCheckRow, "book", "time_ms")), _check
    ),
    entries.ParameterVersion: Keep(
        insert_sql(tables.ParameterRow, "id", _others(tables.ParameterRow, "id", "created_ms")), _parameters
    ),
    entries.Training: Keep(
        insert_sql(tables.TrainingRow, "id", _others(tables.TrainingRow, "id", "started_ms")), _training
    ),
    entries.Trial: Keep(insert_sql(tables.TrialRow, "id", _others(tables.TrialRow, "id")), _trial),
    entries.HaltLatched: Keep(_LATCH_SQL, lambda e, _: _latch_json(e.by, e.reason, e.time_ms)),
    entries.HaltCleared: Keep("DELETE FROM meta WHERE key = ?", lambda _e, _s: ("halt_latch",)),
}
"""Facts that are not listed (positions, guards, funding beside its ledger row) live on as event lines only."""
