"""What the venue tells us, in our words: the news of its streams and the answers to our questions.

Plain values without behaviour; `codec` makes them, the engine reads them. What the domain already has a word for
(`Bar`, `BookTop`, `AssetContext`, `OrderChanged`) is used as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from aml100.domain.events import FundingPaid, OrderChanged, SeriesEnd
from aml100.domain.market import AssetContext, Bar, BookTop, Trade
from aml100.domain.orders import Fill, OrderStatus
from aml100.domain.units import Coin

# --- what the streams say ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CandleUpdate:
    """The present state of a bar, which may still be forming: the venue says nowhere that a bar is closed."""

    bar: Bar


@dataclass(frozen=True, slots=True)
class TradesSeen:
    """Public trades of one frame, those seen before left out."""

    trades: tuple[Trade, ...]


@dataclass(frozen=True, slots=True)
class ForeignOrderSeen:
    """News of an order without a client id: not one of ours."""

    coin: Coin
    oid: int
    status: OrderStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FillsSeen:
    """Our fills. A snapshot repeats the latest ones; those seen before are left out, so it may be empty."""

    fills: tuple[Fill, ...]
    is_snapshot: bool


@dataclass(frozen=True, slots=True)
class FundingsSeen:
    """Our funding payments; as with fills, a snapshot may be empty."""

    payments: tuple[FundingPaid, ...]
    is_snapshot: bool


@dataclass(frozen=True, slots=True)
class MidsSeen:
    mids: tuple[tuple[Coin, Decimal], ...]


@dataclass(frozen=True, slots=True)
class DepthSeen:
    """The visible book, best first: (price, size) a level."""

    coin: Coin
    time_ms: int
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]


@dataclass(frozen=True, slots=True)
class SimStep:
    """The embedded simulated venue has come to `time_ms` and waits for an acknowledgement of `step`.

    `stage` is `closed` (a bar closed: decide), `settle` (what was sent has been carried out) or `end` (no bar
    follows at all). `ending` names the coins whose series stops with the bar just closed.
    """

    step: int
    stage: str
    time_ms: int
    ending: tuple[tuple[Coin, SeriesEnd], ...]


MarketNews: TypeAlias = CandleUpdate | TradesSeen | BookTop | DepthSeen | AssetContext | MidsSeen
AccountNews: TypeAlias = OrderChanged | ForeignOrderSeen | FillsSeen | FundingsSeen
VenueEvent: TypeAlias = MarketNews | AccountNews | SimStep

# --- what /info says --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VenuePosition:
    """A position as the venue holds it: signed size, average entry, and the prices that concern its margin."""

    coin: Coin
    size: Decimal
    entry: Decimal
    leverage: int
    liquidation_px: Decimal | None
    margin_used: Decimal
    unrealised: Decimal = Decimal(0)
    is_cross: bool = True

    @property
    def mark(self) -> Decimal:
        """The price at which the venue values it."""
        return self.entry + self.unrealised / self.size


@dataclass(frozen=True, slots=True)
class AccountState:
    """`equity` is None where the venue's figure cannot be one: zero, negative, not finite, absent (GUARANTEES B12)."""

    equity: Decimal | None
    withdrawable: Decimal | None
    positions: tuple[VenuePosition, ...]


@dataclass(frozen=True, slots=True)
class ExchangeStatus:
    """The venue's clock; a simulated one also says how fast its market runs and whether it has come to its end."""

    time_ms: int
    speed: float
    ended: bool
    is_simulated: bool = False


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Address actions used and allowed, over the account's life."""

    used: int
    cap: int
    volume_usd: Decimal


@dataclass(frozen=True, slots=True)
class Agent:
    """A key that may trade for the account, until `valid_until_ms`."""

    name: str
    address: str
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class CoinLeverage:
    """What the venue has set for one coin of an account."""

    value: int
    is_cross: bool


@dataclass(frozen=True, slots=True)
class Role:
    """`name` is user, agent, vault, subAccount or missing; `master` the account behind an agent."""

    name: str
    master: str | None


@dataclass(frozen=True, slots=True)
class MoneyMoved:
    """Money that came to the account's perpetual side (> 0) or left it; USD. `ref` tells one movement from another."""

    time_ms: int
    amount: Decimal
    ref: str
