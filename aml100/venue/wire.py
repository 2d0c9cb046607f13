"""The venue's messages as it writes them: one struct a shape, nothing interpreted.

Three rules hold here. Numbers that the venue writes as text stay text: only `words` makes exact numbers of them, where
a value that is not finite can be refused with its path. Unknown fields are ignored, for the venue adds some every few
months. Names are the venue's own, renamed only where they would clash (`T` of a candle is left out: it is t + interval
- 1). Frames of the websocket are told apart by their `channel`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

Scalar: TypeAlias = str | int | float | bool | None

# --- market -----------------------------------------------------------------------------------------------------


class AssetMeta(Struct, frozen=True):
    """One entry of `meta.universe`; its index is the asset id, for delisted entries too.

    `pxDecimals` is written by the simulated venue alone, for coins whose rules nobody knows: null there means that
    only the five significant figures bind; absent, the venue's rule 6 - szDecimals holds.
    """

    name: str
    szDecimals: int
    maxLeverage: int
    isDelisted: bool = False
    onlyIsolated: bool = False
    marginMode: str | None = None
    pxDecimals: int | msgspec.UnsetType | None = msgspec.UNSET


class Meta(Struct, frozen=True):
    universe: list[AssetMeta]


class ContextWire(Struct, frozen=True):
    """State of one asset; a market without a book has nulls."""

    funding: str
    oraclePx: str
    markPx: str | None
    premium: str | None = None
    midPx: str | None = None
    openInterest: str = "0"


class PerpDex(Struct, frozen=True):
    """A builder's exchange of its own; the first element of the list, null, is the main one."""

    name: str


class LevelWire(Struct, frozen=True, gc=False):
    px: str
    sz: str
    n: int = 0


class BookWire(Struct, frozen=True):
    """Bids descending, asks ascending."""

    coin: str
    time: int
    levels: tuple[list[LevelWire], list[LevelWire]]


class BboWire(Struct, frozen=True):
    coin: str
    time: int
    bbo: tuple[LevelWire | None, LevelWire | None]


class TradeWire(Struct, frozen=True, gc=False):
    coin: str
    side: str
    px: str
    sz: str
    time: int
    tid: int


class CandleWire(Struct, frozen=True, gc=False):
    t: int
    s: str
    i: str
    o: str
    h: str
    l: str  # noqa: E741 - the venue's own letter
    c: str
    v: str
    n: int


class FundingRateWire(Struct, frozen=True, gc=False):
    coin: str
    fundingRate: str
    time: int
    premium: str | None = None


class MidsWire(Struct, frozen=True):
    mids: dict[str, str]


class CoinContextWire(Struct, frozen=True):
    coin: str
    ctx: ContextWire


# --- account ----------------------------------------------------------------------------------------------------


class LeverageWire(Struct, frozen=True):
    type: str
    value: int


class PositionWire(Struct, frozen=True):
    coin: str
    szi: str
    leverage: LeverageWire
    entryPx: str | None = None
    liquidationPx: str | None = None
    marginUsed: str = "0"
    unrealizedPnl: str = "0"


class AssetPosition(Struct, frozen=True):
    position: PositionWire


class MarginSummary(Struct, frozen=True):
    accountValue: str | None = None


class ClearinghouseState(Struct, frozen=True):
    marginSummary: MarginSummary
    assetPositions: list[AssetPosition]
    withdrawable: str | None = None


class BasicOrder(Struct, frozen=True):
    """As in `openOrders` and `orderUpdates`."""

    coin: str
    side: str
    limitPx: str
    sz: str
    oid: int
    timestamp: int
    origSz: str | None = None
    cloid: str | None = None


class FrontOrder(Struct, frozen=True):
    """As in `frontendOpenOrders`, `orderStatus` and `historicalOrders`. `sz` is what is left of `origSz`."""

    coin: str
    side: str
    limitPx: str
    sz: str
    oid: int
    timestamp: int
    isTrigger: bool
    triggerPx: str
    reduceOnly: bool
    orderType: str
    origSz: str
    tif: str | None = None
    cloid: str | None = None
    isPositionTpsl: bool = False
    children: list[FrontOrder] = []


class OrderReport(Struct, frozen=True):
    order: FrontOrder
    status: str
    statusTimestamp: int


class OrderStatusAnswer(Struct, frozen=True):
    """`status` is `order` or `unknownOid`."""

    status: str
    order: OrderReport | None = None


class OrderUpdate(Struct, frozen=True):
    order: BasicOrder
    status: str
    statusTimestamp: int


class LiquidationOfFill(Struct, frozen=True):
    liquidatedUser: str | None = None


class FillWire(Struct, frozen=True):
    coin: str
    px: str
    sz: str
    side: str
    time: int
    oid: int
    crossed: bool
    fee: str
    tid: int
    cloid: str | None = None
    liquidation: LiquidationOfFill | None = None


class FundingDelta(Struct, frozen=True):
    coin: str
    usdc: str
    szi: str
    fundingRate: str


class FundingEntry(Struct, frozen=True):
    """A row of `userFunding`."""

    time: int
    delta: FundingDelta


class FundingWire(Struct, frozen=True):
    """A row of the stream `userFundings`: the same without the wrapper."""

    time: int
    coin: str
    usdc: str
    szi: str
    fundingRate: str


class RateLimitWire(Struct, frozen=True):
    cumVlm: str
    nRequestsUsed: int
    nRequestsCap: int


class AgentWire(Struct, frozen=True):
    name: str
    address: str
    validUntil: int


class ExchangeStatusWire(Struct, frozen=True):
    """`speed` and `ended` come from a simulated venue only."""

    time: int
    speed: float | None = None
    ended: bool = False


class ActiveAssetWire(Struct, frozen=True):
    coin: str
    leverage: LeverageWire


class RoleData(Struct, frozen=True):
    """Of an agent: its master."""

    user: str | None = None


class RoleWire(Struct, frozen=True):
    role: str
    data: RoleData | None = None


class LedgerDelta(Struct, frozen=True):
    """Which of the amounts are there depends on `type`."""

    type: str
    usdc: str | None = None
    amount: str | None = None
    token: str | None = None
    user: str | None = None
    destination: str | None = None
    toPerp: bool | None = None


class LedgerUpdate(Struct, frozen=True):
    """A row of `userNonFundingLedgerUpdates`."""

    time: int
    hash: str
    delta: LedgerDelta


# --- answers of /exchange ---------------------------------------------------------------------------------------


class RestingStatus(Struct, frozen=True):
    oid: int


class FilledStatus(Struct, frozen=True):
    totalSz: str
    avgPx: str
    oid: int


class ElementStatus(Struct, frozen=True):
    """One of them is set; bare words (`success`, `waitingForFill`) come as strings instead."""

    resting: RestingStatus | None = None
    filled: FilledStatus | None = None
    error: str | None = None


class Statuses(Struct, frozen=True):
    statuses: list[ElementStatus | str]


class ExchangeResult(Struct, frozen=True):
    type: str = ""
    data: Statuses | None = None


class ExchangeAnswer(Struct, frozen=True):
    """`response` is a result where `status` is ok, and a text where it is err."""

    status: str
    response: ExchangeResult | str


# --- websocket frames -------------------------------------------------------------------------------------------


class Frame(Struct, frozen=True, tag_field="channel"):
    """Root of the frames that are understood."""


class Acknowledged(Struct, frozen=True):
    method: str
    subscription: dict[str, Scalar]


class AckFrame(Frame, frozen=True, tag="subscriptionResponse"):
    data: Acknowledged


class PongFrame(Frame, frozen=True, tag="pong"):
    pass


class ErrorFrame(Frame, frozen=True, tag="error"):
    data: str


class TradesFrame(Frame, frozen=True, tag="trades"):
    data: list[TradeWire]


class BookFrame(Frame, frozen=True, tag="l2Book"):
    data: BookWire


class BboFrame(Frame, frozen=True, tag="bbo"):
    data: BboWire


class CandleFrame(Frame, frozen=True, tag="candle"):
    data: CandleWire


class MidsFrame(Frame, frozen=True, tag="allMids"):
    data: MidsWire


class ContextFrame(Frame, frozen=True, tag="activeAssetCtx"):
    data: CoinContextWire


class OrderUpdatesFrame(Frame, frozen=True, tag="orderUpdates"):
    data: list[OrderUpdate]


class UserFills(Struct, frozen=True):
    fills: list[FillWire]
    user: str | None = None
    isSnapshot: bool | None = None


class UserFillsFrame(Frame, frozen=True, tag="userFills"):
    data: UserFills


class UserFundings(Struct, frozen=True):
    fundings: list[FundingWire]
    user: str | None = None
    isSnapshot: bool | None = None


class UserFundingsFrame(Frame, frozen=True, tag="userFundings"):
    data: UserFundings


class CanceledByVenue(Struct, frozen=True):
    coin: str
    oid: int


class UserEvents(Struct, frozen=True):
    """Exactly one of them is set; a liquidation shows in the fills as well and is not read here."""

    fills: list[FillWire] | None = None
    funding: FundingWire | None = None
    nonUserCancel: list[CanceledByVenue] | None = None


class UserFrame(Frame, frozen=True, tag="user"):
    data: UserEvents


class SimStepWire(Struct, frozen=True):
    """Where the embedded simulated venue stands and what it waits for; see `codec.SimStep`."""

    step: int
    stage: str
    time: int
    ending: dict[str, str] = {}


class SimStepFrame(Frame, frozen=True, tag="simStep"):
    data: SimStepWire


class AnyFrame(Struct, frozen=True):
    """Enough of a frame to see which channel it names."""

    channel: str


AnyKnownFrame: TypeAlias = (
    AckFrame
    | PongFrame
    | ErrorFrame
    | TradesFrame
    | BookFrame
    | BboFrame
    | CandleFrame
    | MidsFrame
    | ContextFrame
    | OrderUpdatesFrame
    | UserFillsFrame
    | UserFundingsFrame
    | UserFrame
    | SimStepFrame
)

CHANNELS: Final = frozenset(
    {
        "subscriptionResponse", "pong", "error", "trades", "l2Book", "bbo", "candle", "allMids", "activeAssetCtx",
        "orderUpdates", "userFills", "userFundings", "user", "simStep",
    }
)  # fmt: skip
"""The channels that are understood; frames of others are passed over."""

GREETING: Final = b"Websocket connection established."
"""A frame that is no JSON, which older servers sent first."""

frame_decoder: Final = msgspec.json.Decoder(AnyKnownFrame)
channel_decoder: Final = msgspec.json.Decoder(AnyFrame)
