"""What goes into the decision core, and what comes out of it.

In: `MarketEvent | AccountEvent | Command | Tick`. Out: effects, which are of two kinds. A **record** is a fact to be
journalled (and shown, and written as a line of JSON); an **action** is something to be done at the venue. The runtime
journals the records of one step in one transaction before it carries out any of its actions.

All of them are frozen structs, where other domain values are dataclasses: several are made for every bar and book
update, and a frozen dataclass of nine fields takes 1.3 us to make, the struct 0.08.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from aml100.domain.market import AssetContext, Bar, BookTop, Instrument
from aml100.domain.orders import Action, ExitReason, Fill, Order, OrderKind, OrderStatus, Side
from aml100.domain.units import Cloid, Coin

# --- in: the market ---------------------------------------------------------------------------------------------


class SeriesEnd(StrEnum):
    """Why no bar follows the one just closed. Known ahead only where bars are replayed."""

    GAP = "gap"
    END = "end"


class BarsClosed(msgspec.Struct, frozen=True):
    """The bars that closed at `end_ms`, one a coin, in the order of the engine's coins.

    `ending` names the coins whose series stops here: their positions are closed at the last close. A bar that does
    not follow on its predecessor says by itself that there was a gap.
    """

    end_ms: int
    bars: tuple[Bar, ...]
    ending: tuple[tuple[Coin, SeriesEnd], ...] = ()
    is_late: bool = False
    """Learnt so long after its end that nothing may be sent on its account any more."""


class FeedChanged(msgspec.Struct, frozen=True):
    """Freshness of one stream. `state` is live, stale or down; entries need every stream of the coin live."""

    coin: Coin
    channel: str
    state: str
    age_ms: int
    gap_bars: int = 0


class Tick(msgspec.Struct, frozen=True):
    """Time passed without news: deadlines are looked at. `wall_s` is monotonic, `now_ms` market time."""

    now_ms: int
    wall_s: float
    loop_lag_ms: float = 0.0
    clock_offset_ms: int = 0
    """The venue's clock less ours, where both should agree."""


class SettledFunding(msgspec.Struct, frozen=True):
    """A funding rate became known at `time_ms`, a full hour: `rate` an hour, for `hours` hours up to then.

    It is a feature of the bars that open from then on.

    Floats, since nothing is paid by it: what is paid comes as `FundingPaid`.
    """

    coin: Coin
    time_ms: int
    rate: float
    premium: float | None = None
    hours: int = 1


MarketEvent: TypeAlias = BarsClosed | BookTop | AssetContext | FeedChanged | SettledFunding

# --- in: our account --------------------------------------------------------------------------------------------


class OrderChanged(msgspec.Struct, frozen=True):
    """The venue (or the transport) says what became of an order of ours."""

    cloid: Cloid
    status: OrderStatus
    oid: int | None = None
    reason: str = ""


class FillReceived(msgspec.Struct, frozen=True):
    fill: Fill


class FundingPaid(msgspec.Struct, frozen=True):
    """`amount` in USD, signed from our view; `size` the signed position it was paid on."""

    coin: Coin
    time_ms: int
    rate: Decimal
    amount: Decimal
    size: Decimal


class RestingOrder(msgspec.Struct, frozen=True):
    """An order seen resting on the venue at reconciliation."""

    coin: Coin
    oid: int
    cloid: Cloid | None
    side: Side
    size: Decimal
    price: Decimal
    trigger_price: Decimal | None
    reduce_only: bool
    is_stop: bool


class Reconciled(msgspec.Struct, frozen=True):
    """What the venue holds for us now: signed sizes by coin, and every resting order."""

    positions: tuple[tuple[Coin, Decimal], ...]
    orders: tuple[RestingOrder, ...]
    entries: tuple[tuple[Coin, Decimal], ...] = ()
    """Average entry prices of the positions, where the venue told them: what a foreign position is taken over at."""
    marks: tuple[tuple[Coin, Decimal], ...] = ()
    """Mark prices behind the venue's figures, where no stream tells them."""


class EquitySeen(msgspec.Struct, frozen=True):
    """The account's worth as the venue gives it; None where its figure cannot be one (GUARANTEES B12)."""

    equity: Decimal | None
    time_ms: int


class MoneyReceived(msgspec.Struct, frozen=True):
    """Money that came from outside (> 0) or left (< 0); `ref` tells one movement from another."""

    amount: Decimal
    time_ms: int
    ref: str


class BooksOpened(msgspec.Struct, frozen=True):
    """The ledger of an account that may have a past begins: it is worth `amount` without what its positions gained."""

    amount: Decimal
    time_ms: int


class InstrumentsLearnt(msgspec.Struct, frozen=True):
    """Rules of coins as the venue states them now; those of other coins are passed over."""

    instruments: tuple[Instrument, ...]


class SeriesEnded(msgspec.Struct, frozen=True):
    """No bar will follow: resting entries go, positions are closed at the price there is."""

    time_ms: int


class ConcernChanged(msgspec.Struct, frozen=True):
    """Something about our standing at the venue is in doubt, so that only exits and stops may go; "" ends it."""

    name: str
    reason: str


AccountEvent: TypeAlias = (
    OrderChanged
    | FillReceived
    | FundingPaid
    | Reconciled
    | EquitySeen
    | MoneyReceived
    | BooksOpened
    | InstrumentsLearnt
    | SeriesEnded
    | ConcernChanged
)

# --- in: the operator and the system ----------------------------------------------------------------------------


class CommandName(StrEnum):
    HALT = "halt"
    RESUME = "resume"
    PAUSE = "pause"
    FLATTEN = "flatten"
    RETRAIN = "retrain"
    RESET = "reset"
    STOP = "stop"


class Command(msgspec.Struct, frozen=True):
    """`by` says who: `console:USER`, `cli:USER`, `file:HALT`, `engine`.

    `coins` of a flatten: only their positions go; all where none is named.
    """

    name: CommandName
    by: str
    time_ms: int
    coins: tuple[Coin, ...] = ()


class SizeFactorSet(msgspec.Struct, frozen=True):
    """Entries are so many times their usual size from now on: what the status of the system makes of it."""

    factor: Decimal
    time_ms: int


CoreEvent: TypeAlias = MarketEvent | AccountEvent | Command | Tick | SizeFactorSet

# --- out: records -----------------------------------------------------------------------------------------------


class TradingState(StrEnum):
    STARTING = "starting"
    TRADING = "trading"
    PAUSED = "paused"
    HALTED = "halted"
    MANAGE_ONLY = "manage_only"
    STOPPED = "stopped"


class Gate(msgspec.Struct, frozen=True):
    """One guard's verdict on one decision."""

    name: str
    ok: bool
    reason: str = ""


class Decision(msgspec.Struct, frozen=True):
    """Exactly one a coin and decision bar. `q` is (hold, buy, sell), None for policies without Q values."""

    coin: Coin
    bar_ms: int
    time_ms: int
    action: Action
    q: tuple[float, float, float] | None
    regime: str
    confidence: float
    outcome: str
    """`order` or `none`."""
    gates: tuple[Gate, ...]


class OrderRecorded(msgspec.Struct, frozen=True):
    """An order of ours in its present state; journalled at creation and at every change."""

    order: Order
    status: OrderStatus
    oid: int | None
    reason: str
    time_ms: int


FOREIGN: Final = "foreign"
"""Reason of a fill that no order of ours explains: a person's or another program's."""
LIQUIDATION: Final = "liquidation"
"""Reason of a fill by which the venue closed what the account could carry no longer."""
BY_ENGINE: Final = "engine, "
"""What `by` of a command begins with that no person gave."""


class FillRecorded(msgspec.Struct, frozen=True):
    """A fill, with what it did: the profit it realised and the position after it."""

    fill: Fill
    kind: OrderKind | None
    reason: str
    realised: Decimal
    position_after: Decimal


class LedgerPosted(msgspec.Struct, frozen=True):
    """One row of the ledger. The balance is the plain sum of amounts: a fee paid is negative.

    `kind` is deposit, realised, fee, funding or adjustment; `ref` names the fill or the funding hour and makes the
    row unique together with kind and coin.
    """

    time_ms: int
    kind: str
    coin: Coin | None
    amount: Decimal
    ref: str


class TradeClosed(msgspec.Struct, frozen=True):
    """A round trip from flat to flat, net of its fees and funding."""

    coin: Coin
    side: Side
    entry_ms: int
    entry_price: Decimal
    exit_ms: int
    exit_price: Decimal
    size: Decimal
    pnl: Decimal
    fees: Decimal
    funding: Decimal
    exit_reason: str
    bars_held: int


class EquityMarked(msgspec.Struct, frozen=True):
    """Equity at the close of the bars that end at `time_ms`. `drawdown_frac` from the peak since the last resume."""

    time_ms: int
    equity: Decimal
    balance: Decimal
    drawdown_frac: float
    peak: Decimal


class PositionChanged(msgspec.Struct, frozen=True):
    """A position after a fill or a change of its protection. `protected`: its stop is known to rest on the venue."""

    coin: Coin
    size: Decimal
    entry_price: Decimal
    unrealised: Decimal
    stop_oid: int | None
    protected: bool
    time_ms: int
    stop_price: Decimal | None = None
    target_price: Decimal | None = None
    opened_ms: int = 0


class RiskChanged(msgspec.Struct, frozen=True):
    """A guard tripped or cleared. `state` is ok, tripped or info."""

    guard: str
    state: str
    reason: str
    time_ms: int


class StateChanged(msgspec.Struct, frozen=True):
    """The trading state after a command, a guard or a reconciliation."""

    state: TradingState
    reason: str
    time_ms: int


FAILED: Final = "failed: "


class CommandDone(msgspec.Struct, frozen=True):
    """What became of an operator's command; `result` begins with FAILED where nothing, or not all, was done."""

    name: str
    by: str
    result: str
    time_ms: int

    @property
    def ok(self) -> bool:
        return not self.result.startswith(FAILED)


class FundingRecorded(msgspec.Struct, frozen=True):
    """Funding received (> 0) or paid, beside its ledger row."""

    coin: Coin
    time_ms: int
    rate: Decimal
    amount: Decimal


Record: TypeAlias = (
    Decision
    | OrderRecorded
    | FillRecorded
    | LedgerPosted
    | TradeClosed
    | EquityMarked
    | PositionChanged
    | RiskChanged
    | StateChanged
    | CommandDone
    | FundingRecorded
)

# --- out: actions -----------------------------------------------------------------------------------------------


class Grouping(StrEnum):
    """`normalTpsl`: the first order is the parent, the rest its protection; `positionTpsl`: tied to the position."""

    NA = "na"
    NORMAL_TPSL = "normalTpsl"
    POSITION_TPSL = "positionTpsl"


class PlaceOrders(msgspec.Struct, frozen=True):
    orders: tuple[Order, ...]
    grouping: Grouping = Grouping.NA


class CancelOrders(msgspec.Struct, frozen=True):
    orders: tuple[tuple[Coin, Cloid], ...]


class CancelForeign(msgspec.Struct, frozen=True):
    """Orders that are not ours, by the venue's id: only halt takes those away."""

    orders: tuple[tuple[Coin, int], ...]


class AskOrders(msgspec.Struct, frozen=True):
    """Orders whose outcome is unknown: look them up by client id."""

    cloids: tuple[Cloid, ...] = ()


VenueAction: TypeAlias = PlaceOrders | CancelOrders | CancelForeign | AskOrders
Effect: TypeAlias = Record | VenueAction

__all__ = [
    "AccountEvent",
    "AskOrders",
    "BarsClosed",
    "BooksOpened",
    "CancelForeign",
    "CancelOrders",
    "Command",
    "CommandDone",
    "CommandName",
    "ConcernChanged",
    "CoreEvent",
    "Decision",
    "Effect",
    "EquityMarked",
    "EquitySeen",
    "ExitReason",
    "FeedChanged",
    "FillReceived",
    "FillRecorded",
    "FundingPaid",
    "FundingRecorded",
    "Gate",
    "Grouping",
    "InstrumentsLearnt",
    "LedgerPosted",
    "MarketEvent",
    "MoneyReceived",
    "OrderChanged",
    "OrderRecorded",
    "PlaceOrders",
    "PositionChanged",
    "Reconciled",
    "Record",
    "RestingOrder",
    "RiskChanged",
    "SeriesEnd",
    "SeriesEnded",
    "SettledFunding",
    "SizeFactorSet",
    "StateChanged",
    "Tick",
    "TradeClosed",
    "TradingState",
    "VenueAction",
]
