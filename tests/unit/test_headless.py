"""Events of a headless run: exactly the fields of the contract, in lines that arrive at once."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aml100.domain.clock import ManualClock
from aml100.domain.events import (
    CommandDone,
    Decision,
    EquityMarked,
    FillRecorded,
    FundingRecorded,
    Gate,
    LedgerPosted,
    OrderRecorded,
    PositionChanged,
    RiskChanged,
    StateChanged,
    TradingState,
)
from aml100.domain.market import Bar
from aml100.domain.orders import Action, Fill, Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.headless import EventWriter, OutputClosed, bar_event, to_event
from aml100.storage.reader import StateReader
from tests.contract import hold_to_contract

BTC = Coin("BTC")
CLOID = Cloid("0x" + "0" * 31 + "1")


def order(kind: OrderKind, **more: Any) -> Order:
    fields: dict[str, Any] = {"side": Side.BUY, "price": Decimal("65000.50"), "reduce_only": False} | more
    return Order(cloid=CLOID, coin=BTC, kind=kind, size=Decimal("0.0100"), **fields)


def recorded(order_: Order) -> OrderRecorded:
    return OrderRecorded(order_, OrderStatus.RESTING, 77, "", 5)


FILL = Fill(BTC, Side.SELL, Decimal("65000.0"), Decimal("0.010"), Decimal("-0.05"), 1000, 42, 77, CLOID, is_taker=False)
DECISION = Decision(
    BTC, 60_000, 120_000, Action.SELL, (0.1, -0.2, 0.3), "range", 0.5, "none", (Gate("halt", False, "halted"),)
)
EVENTS = {
    "bar": bar_event(Bar(BTC, 60_000, 0, *[Decimal("1.10")] * 4, Decimal(3), 1, "synthetic:regimes")),
    "decision": to_event(DECISION),
    "order": to_event(recorded(order(OrderKind.ENTRY))),
    "fill": to_event(FillRecorded(FILL, OrderKind.EXIT, "signal", Decimal("1.5"), Decimal(0))),
    "position": to_event(PositionChanged(BTC, Decimal("-0.010"), Decimal("65000"), Decimal("-1.20"), None, False, 5)),
    "funding": to_event(FundingRecorded(BTC, 3_600_000, Decimal("0.0000125"), Decimal("-0.008125"))),
    "equity": to_event(EquityMarked(60_000, Decimal("9950.00"), Decimal("1E+4"), 0.005, Decimal(10000))),
    "risk": to_event(RiskChanged("stale_data", "tripped", "BTC candle 31 s", 5)),
    "command": to_event(CommandDone("halt", "console:ann", "flat, 0 orders", 5)),
}


@pytest.mark.parametrize("kind", EVENTS)
def test_the_event_of_every_record_has_the_fields_of_the_contract(kind: str) -> None:
    event = EVENTS[kind]
    assert event is not None
    assert event["type"] == kind
    hold_to_contract(kind, event)


def test_decision_event_is_numbers_and_gate_verdicts() -> None:
    assert to_event(DECISION) == {
        "type": "decision",
        "coin": "BTC",
        "bar_ms": 60_000,
        "action": 2,
        "q": [0.1, -0.2, 0.3],
        "regime": "range",
        "confidence": 0.5,
        "outcome": "none",
        "gates": [{"name": "halt", "ok": False, "reason": "halted"}],
    }


@pytest.mark.parametrize(
    ("given", "price"),
    [
        (order(OrderKind.ENTRY, tif=TimeInForce.IOC), "65000.5"),
        (order(OrderKind.EXIT, tif=TimeInForce.IOC, side=Side.SELL, reduce_only=True), None),
        (order(OrderKind.STOP_LOSS, trigger_price=Decimal("64610.0"), reduce_only=True), "64610"),
    ],
    ids=["entry shows its limit", "market exit has no price", "stop shows its trigger"],
)
def test_price_of_an_order(given: Order, price: str | None) -> None:
    event = to_event(recorded(given))
    assert event is not None
    assert event["price"] == price


def test_money_is_plain_decimal_text() -> None:
    fill = to_event(FillRecorded(FILL, None, "", Decimal("1E+1"), Decimal(0)))
    equity = to_event(EquityMarked(0, Decimal("9950.00"), Decimal("1E+4"), 0.0042, Decimal(10000)))
    assert fill is not None
    assert equity is not None
    assert (fill["price"], fill["size"], fill["fee"], fill["realised"]) == ("65000", "0.01", "-0.05", "10")
    assert (fill["fill_id"], fill["liquidity"]) == ("1000-BTC-42", "maker")
    assert (equity["equity"], equity["balance"], equity["drawdown_pct"]) == ("9950", "10000", 0.42)


def test_state_has_a_type_of_its_own_and_the_ledger_none() -> None:
    assert to_event(StateChanged(TradingState.HALTED, "operator", 5)) == {
        "type": "state",
        "state": "halted",
        "reason": "operator",
    }
    assert to_event(LedgerPosted(0, "fee", BTC, Decimal(-1), "f")) is None


class CountingStream(io.StringIO):
    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_json_lines_are_numbered_stamped_and_flushed_one_by_one() -> None:
    clock, stream = ManualClock(5_000), CountingStream()
    writer = EventWriter(stream, as_json=True, clock=clock)
    writer.write_record(RiskChanged("halt", "ok", "", 5))
    writer.write_record(LedgerPosted(0, "fee", BTC, Decimal(-1), "f"))
    clock.set(6_000)
    writer.write({"type": "training", "loss": float("nan")})
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["seq"], first["time_ms"], first["type"]) == (1, 5_000, "risk")
    assert (second["seq"], second["time_ms"], second["loss"]) == (2, 6_000, None)
    assert stream.flushes == 2


def test_plain_lines_hold_no_control_characters() -> None:
    """C6: never an escape code in a pipe, not even one that came from outside."""
    stream = io.StringIO()
    writer = EventWriter(stream, as_json=False, clock=ManualClock(1_751_241_600_000))
    writer.write_record(RiskChanged("venue", "tripped", "said \x1b[31mno\x1b[0m\nand more", 5))
    writer.write_record(DECISION)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "\x1b" not in stream.getvalue()
    assert lines[1] == ("2025-06-30T00:00:00Z  decision  BTC SELL none   q +0.1000 -0.2000 +0.3000  halt: halted")


def test_reader_that_goes_away_is_told_once() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        writer = EventWriter(stream, as_json=True, clock=ManualClock())
        with pytest.raises(OutputClosed):
            writer.write({"type": "model"})
        writer.write({"type": "model"})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is always full")
def test_d3_a_full_disk_under_the_events_ends_no_engine(tmp_path: Path) -> None:
    """The console starts its engine with both outputs in engine.log, beside state.db."""
    command = [sys.executable, "-m", "aml100", "run", "--no-tui", "--policy", "flat", "--speed", "600"]
    command += ["--duration", "2s", "--state", str(tmp_path / "state.db")]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert b"events cannot be written" in ended.stderr
    assert b"Traceback" not in ended.stderr
    with StateReader.read(tmp_path / "state.db") as reader:
        (run,) = reader.runs()
        assert (run.reason, run.exit_code) == ("duration over", 0)
        assert len(reader.decisions()) > 1


def test_headless_never_loads_textual() -> None:
    code = "import sys, aml100.headless; print([m for m in ('textual', 'torch', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
