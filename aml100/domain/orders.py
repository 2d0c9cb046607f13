"""Orders, fills and positions, and which changes of an order's state are legal."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, StrEnum

from aml100.domain.units import ZERO, Cloid, Coin


class Side(StrEnum):
    """Ours in orders and fills; the aggressor's in public trades."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class Action(int, Enum):
    """What a policy may say: 0 keep what is, 1 buy, 2 sell."""

    HOLD = 0
    BUY = 1
    SELL = 2


class OrderKind(StrEnum):
    ENTRY = "entry"
    EXIT = "exit"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"


class TimeInForce(StrEnum):
    """As the venue spells them."""

    GTC = "Gtc"
    IOC = "Ioc"
    ALO = "Alo"


class ExitReason(StrEnum):
    SIGNAL = "signal"
    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    TIME = "time"
    RISK = "risk"
    END = "end"


class OrderStatus(StrEnum):
    """Life of an order of ours. `unknown`: sent, outcome not known, to be asked by client id, never sent again."""

    CREATED = "created"
    SENT = "sent"
    UNKNOWN = "unknown"
    WAITING = "waiting"
    RESTING = "resting"
    FILLED = "filled"
    CANCELED = "canceled"
    REJECTED = "rejected"


_DONE = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED})

LEGAL_TRANSITIONS: dict[OrderStatus, frozenset[OrderStatus]] = {
    OrderStatus.CREATED: frozenset(
        {OrderStatus.SENT, OrderStatus.UNKNOWN, OrderStatus.WAITING, OrderStatus.RESTING} | _DONE
    ),
    OrderStatus.SENT: frozenset({OrderStatus.UNKNOWN, OrderStatus.WAITING, OrderStatus.RESTING} | _DONE),
    OrderStatus.UNKNOWN: frozenset({OrderStatus.WAITING, OrderStatus.RESTING} | _DONE),
    OrderStatus.WAITING: frozenset({OrderStatus.RESTING} | _DONE),
    OrderStatus.RESTING: _DONE,
    OrderStatus.FILLED: frozenset(),
    OrderStatus.CANCELED: frozenset(),
    OrderStatus.REJECTED: frozenset(),
}
"""Answers and stream messages arrive in either order; what is not listed here is an old message and is ignored."""


@dataclass(frozen=True, slots=True)
class Order:
    """What we ask for.

    `price` is the limit; for a trigger it bounds the execution and `trigger_price` is what the mark must reach.
    `reason` says why, for the journal and the screen (an `ExitReason` value on exits).
    """

    cloid: Cloid
    coin: Coin
    side: Side
    kind: OrderKind
    size: Decimal
    price: Decimal
    reduce_only: bool
    tif: TimeInForce | None = None
    trigger_price: Decimal | None = None
    reason: str = ""
    created_ms: int = 0

    @property
    def is_trigger(self) -> bool:
        return self.trigger_price is not None

    @property
    def fires_below(self) -> bool:
        """Of a trigger: it fires when the price falls to it, as a long's stop and a short's target do."""
        return (self.side is _SELL) == (self.kind is _STOP_LOSS)


_SELL, _STOP_LOSS = Side.SELL, OrderKind.STOP_LOSS


@dataclass(frozen=True, slots=True)
class Fill:
    """Our execution. `fee` > 0 is paid, < 0 is a rebate. `cloid` is None for orders that were not ours.

    `is_liquidation`: the venue closed the position itself; otherwise the order tells why.
    """

    coin: Coin
    side: Side
    price: Decimal
    size: Decimal
    fee: Decimal
    time_ms: int
    tid: int
    oid: int
    cloid: Cloid | None
    is_taker: bool
    is_liquidation: bool = False

    @property
    def fill_id(self) -> str:
        """Unique on the venue: time-coin-tid."""
        return f"{self.time_ms}-{self.coin}-{self.tid}"

    @property
    def signed_size(self) -> Decimal:
        return self.size if self.side is Side.BUY else -self.size


def fill_time_ms(fill_id: str) -> int:
    """When the fill of this id happened.

    >>> fill_time_ms("1700000000000-BTC-17")
    1700000000000
    """
    return int(fill_id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Position:
    """Signed net size and average entry price of one coin; size 0 has no entry."""

    size: Decimal = ZERO
    entry: Decimal = ZERO

    @property
    def side(self) -> Side | None:
        if self.size == 0:
            return None
        return Side.BUY if self.size > 0 else Side.SELL

    def unrealised(self, mark: Decimal) -> Decimal:
        """Profit in USD if it were closed at `mark` for nothing."""
        return self.size * (mark - self.entry)
