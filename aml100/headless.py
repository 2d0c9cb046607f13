"""`--no-tui`: what the engine says, one event a line, as JSON or as plain text.

`to_event` turns a record of the decision core into the event other programs read, `bar_event` a closed bar; the
engine's own events (started, feed, cycle, ...) come as they are. `EventWriter` numbers them, stamps the engine's time
and flushes every line, so that a reader at the other end of a pipe sees an event when it happens. When that reader goes
away the writer raises `OutputClosed` once and is silent from then on: the engine stops cleanly, and no traceback lands
on stderr. A disk that is full under them costs lines, never the engine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, TextIO, TypeAlias

import msgspec

from aml100.domain.clock import Clock
from aml100.domain.errors import AmlError
from aml100.domain.events import (
    CommandDone,
    Decision,
    EquityMarked,
    FillRecorded,
    FundingRecorded,
    OrderRecorded,
    PositionChanged,
    Record,
    RiskChanged,
    StateChanged,
)
from aml100.domain.market import Bar
from aml100.domain.orders import OrderKind, TimeInForce
from aml100.domain.units import decimal_text, iso_utc

log = logging.getLogger(__name__)

Event: TypeAlias = dict[str, object]


class OutputClosed(AmlError):
    """Nobody reads the events any more: the run ends as if it had been asked to stop."""

    exit_code = 0


# --- records -> events -------------------------------------------------------------------------------------------


def to_event(record: Record) -> Event | None:
    """The event of a record, without `seq` and `time_ms`; None for records that only the journal keeps."""
    match record:
        case Decision():
            return {
                "type": "decision",
                "coin": record.coin,
                "bar_ms": record.bar_ms,
                "action": int(record.action),
                "q": None if record.q is None else list(record.q),
                "regime": record.regime,
                "confidence": record.confidence,
                "outcome": record.outcome,
                "gates": [{"name": gate.name, "ok": gate.ok, "reason": gate.reason} for gate in record.gates],
            }
        case OrderRecorded():
            return _order_event(record)
        case FillRecorded():
            return _fill_event(record)
        case PositionChanged():
            return {
                "type": "position",
                "coin": record.coin,
                "size": decimal_text(record.size),
                "entry_price": decimal_text(record.entry_price),
                "unrealised": decimal_text(record.unrealised),
                "stop_oid": record.stop_oid,
                "protected": record.protected,
                "stop_price": _text_or_none(record.stop_price),
                "target_price": _text_or_none(record.target_price),
            }
        case FundingRecorded():
            return {
                "type": "funding",
                "coin": record.coin,
                "rate": decimal_text(record.rate),
                "amount": decimal_text(record.amount),
            }
        case EquityMarked():
            return {
                "type": "equity",
                "equity": decimal_text(record.equity),
                "balance": decimal_text(record.balance),
                "drawdown_pct": round(record.drawdown_frac * 100.0, 10),
            }
        case RiskChanged():
            return {"type": "risk", "guard": record.guard, "state": record.state, "reason": record.reason}
        case StateChanged():
            return {"type": "state", "state": record.state.value, "reason": record.reason}
        case CommandDone():
            return {"type": "command", "name": record.name, "by": record.by, "result": record.result}
        case _:
            return None


def _order_event(record: OrderRecorded) -> Event:
    """A trigger's price is the level that sets it off; an exit at the market has none."""
    order = record.order
    price: Decimal | None = order.price
    if order.is_trigger:
        price = order.trigger_price
    elif order.kind is OrderKind.EXIT and order.tif in (None, TimeInForce.IOC):
        price = None
    return {
        "type": "order",
        "cloid": order.cloid,
        "oid": record.oid,
        "coin": order.coin,
        "side": order.side.value,
        "kind": order.kind.value,
        "price": _text_or_none(price),
        "size": decimal_text(order.size),
        "reduce_only": order.reduce_only,
        "status": record.status.value,
        "reason": record.reason or order.reason,
    }


def _fill_event(record: FillRecorded) -> Event:
    fill = record.fill
    return {
        "type": "fill",
        "fill_id": fill.fill_id,
        "cloid": fill.cloid,
        "coin": fill.coin,
        "side": fill.side.value,
        "price": decimal_text(fill.price),
        "size": decimal_text(fill.size),
        "fee": decimal_text(fill.fee),
        "liquidity": "taker" if fill.is_taker else "maker",
        "realised": decimal_text(record.realised),
        "reason": record.reason,
    }


def _text_or_none(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


# --- bars -> events -------------------------------------------------------------------------------------


def bar_event(bar: Bar) -> Event:
    """A closed bar with its origin."""
    return {
        "type": "bar",
        "coin": bar.coin,
        "open_ms": bar.open_ms,
        "open": decimal_text(bar.open),
        "high": decimal_text(bar.high),
        "low": decimal_text(bar.low),
        "close": decimal_text(bar.close),
        "volume": decimal_text(bar.volume),
        "origin": bar.origin,
    }


# --- lines -------------------------------------------------------------------------------------------------------

_HIDDEN_IN_TEXT: Final = frozenset({"seq", "time_ms", "type"})
_ACTION_WORDS: Final = ("HOLD", "BUY", "SELL")


def plain_line(event: Mapping[str, object]) -> str:
    """One event for a person: time, kind, then what matters, in plain characters without escape codes.

    >>> plain_line({"seq": 3, "time_ms": 1751241600000, "type": "risk", "guard": "halt", "state": "ok", "reason": ""})
    '2025-06-30T00:00:00Z  risk      guard=halt state=ok'
    """
    time_ms = event.get("time_ms")
    stamp = iso_utc(time_ms) if isinstance(time_ms, int) else "-"
    kind = str(event.get("type", ""))
    body = _decision_text(event) if kind == "decision" else _pairs_text(event)
    line = f"{stamp}  {kind:<8}  {body}".rstrip()
    return "".join(character if character.isprintable() else " " for character in line)


def _decision_text(event: Mapping[str, object]) -> str:
    action, gates, q = event.get("action"), event.get("gates"), event.get("q")
    word = _ACTION_WORDS[action] if isinstance(action, int) and 0 <= action < 3 else str(action)
    parts = [f"{event.get('coin')} {word:<4} {event.get('outcome'):<5}"]
    if isinstance(q, list):
        parts.append("q " + " ".join(f"{value:+.4f}" for value in q))
    if isinstance(gates, list):
        parts.extend(f"{gate['name']}: {gate['reason'] or 'refused'}" for gate in gates if not gate["ok"])
    return "  ".join(parts)


def _pairs_text(event: Mapping[str, object]) -> str:
    pairs = []
    for name, value in event.items():
        if name in _HIDDEN_IN_TEXT or value is None or value == "":
            continue
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        shown = f"{shown:.6g}" if isinstance(shown, float) else shown
        if isinstance(value, Mapping):
            shown = ",".join(f"{key}:{item}" for key, item in value.items() if not isinstance(item, Mapping))
        pairs.append(f"{name}={shown}")
    return " ".join(pairs)


class EventWriter:
    """Writes events in the order given, each numbered and stamped, each flushed.

    Args:
        stream: where the lines go; not closed here.
        as_json: JSON lines, else plain ones.
        clock: the engine's; its market time stamps every event.
    """

    def __init__(self, stream: TextIO, as_json: bool, clock: Clock) -> None:
        self._stream = stream
        self._as_json = as_json
        self._clock = clock
        self._seq = 0
        self._closed = False
        self._lost = 0
        self._encoder = msgspec.json.Encoder()

    def write(self, event: Mapping[str, object]) -> None:
        """One line; lost where it cannot be written just now, which its number then shows.

        Raises OutputClosed the first time that nobody reads it; later calls do nothing.
        """
        if self._closed:
            return
        self._seq += 1
        numbered = {"seq": self._seq, "time_ms": self._clock.now_ms(), **event}
        line = self._encoder.encode(numbered).decode() if self._as_json else plain_line(numbered)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._closed = True
            _silence(self._stream)
            raise OutputClosed("the reader of the events went away") from None
        except OSError as error:
            if not self._lost:
                log.error("events cannot be written: %s", error)
            self._lost += 1
        else:
            if self._lost:
                log.warning("events are written again; %d are lost", self._lost)
            self._lost = 0

    def write_record(self, record: Record) -> None:
        """The event of a record, where it has one."""
        event = to_event(record)
        if event is not None:
            self.write(event)


def _silence(stream: TextIO) -> None:
    """Point the broken pipe at nothing, so that the interpreter's last flush does not complain."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
