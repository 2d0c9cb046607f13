"""What the core remembers between events: plain data, saved in the transaction of the records it goes with."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from aml100.domain.errors import StateError
from aml100.domain.events import TradingState
from aml100.domain.units import ZERO, Cloid, Coin
from aml100.trading.blotter import OrderBook
from aml100.trading.ledger import Book
from aml100.trading.risk import RiskState


@dataclass(slots=True)
class CoinState:
    """One coin. `closing` is the exit reason while the position must go; `superseded` maps a new protective order to
    the one it replaces, which is cancelled when the new one is seen resting."""

    bars_seen: int = 0
    complete_rows: int = 0
    last_end_ms: int = 0
    close: Decimal = ZERO
    regime: str = "range"
    fundings: list[tuple[int, float, float | None]] = field(default_factory=list)
    """The latest settlements (time_ms, hourly rate, premium), oldest first."""
    bars_held: int = 0
    opened_ms: int = 0
    holds_in_row: int = 0
    closing: str = ""
    stop_price: Decimal | None = None
    target_price: Decimal | None = None
    stop_cloid: Cloid | None = None
    target_cloid: Cloid | None = None
    superseded: dict[Cloid, Cloid] = field(default_factory=dict)
    stop_failures: int = 0
    atr: float = 0.0
    stop_distance: Decimal | None = None
    """Of the position, a fraction of its entry, where it was taken from the ATR of the decision bar."""
    best_close: Decimal | None = None
    """Most favourable close since the entry, where the stop trails it."""
    anchor: Decimal | None = None
    """What stop and target of a position that was taken over count from, in place of its entry."""
    is_dust: bool = False
    """What is left is too small for the venue: not worth another order."""
    exit_failures: int = 0
    entry_bars: int = 0
    entry_goes_on: bool = False
    exported_bars: int = -1
    features: bytes = b""
    policy: bytes = b""
    policy_name: str = ""


@dataclass(slots=True)
class CoreState:
    """All of it."""

    book: Book = field(default_factory=Book)
    orders: OrderBook = field(default_factory=OrderBook)
    risk: RiskState = field(default_factory=RiskState)
    coins: dict[Coin, CoinState] = field(default_factory=dict)
    trading: TradingState = TradingState.STARTING
    reason: str = ""
    paused_by: str = ""
    """Who paused entries, where somebody did and nobody has resumed since: the breaker's own pause is none of these."""
    now_ms: int = 0
    wins_in_row: int = 0
    concerns: dict[str, str] = field(default_factory=dict)
    size_factor: Decimal = Decimal(1)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CoreState)


def encode_state(state: CoreState) -> bytes:
    """Compact bytes of the whole state."""
    return _encoder.encode(state)


def decode_state(data: bytes) -> CoreState:
    """The state again; StateError where the bytes are not one."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise StateError(f"the core's saved state does not read: {error}") from error
