"""The decision core: events in, effects out; no await, no clock, no random draw, no file.

Live trading, the simulated venue and the back-test differ only in who feeds `TradingCore.process` and who carries out
what it answers, so a recorded day replays with zero differences. One step:

    bars close -> features -> mark equity -> breaker -> protections -> decision -> gates -> orders
    fills      -> ledger -> the stop and target follow the position
    answers    -> blotter -> protection is what is seen resting
    commands   -> trading state

The core keeps a position's protection true: an entry carries stop and target priced from the decision close; when its
fill is known they are replaced from the average fill price (new placed, then old cancelled), and they go when the
position is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, assert_never

import numpy as np
import numpy.typing as npt

from aml100.domain.events import (
    BY_ENGINE,
    FOREIGN,
    LIQUIDATION,
    BarsClosed,
    BooksOpened,
    CancelOrders,
    Command,
    CommandName,
    ConcernChanged,
    CoreEvent,
    Effect,
    EquitySeen,
    FeedChanged,
    FillReceived,
    FillRecorded,
    FundingPaid,
    FundingRecorded,
    InstrumentsLearnt,
    MoneyReceived,
    OrderChanged,
    PositionChanged,
    Reconciled,
    RiskChanged,
    SeriesEnd,
    SeriesEnded,
    SettledFunding,
    SizeFactorSet,
    StateChanged,
    Tick,
    TradingState,
)
from aml100.domain.market import AssetContext, Bar, BookTop, Instrument
from aml100.domain.orders import ExitReason, Fill, Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Coin
from aml100.market.features import FeatureStream
from aml100.trading.blotter import Blotter, Tracked
from aml100.trading.breaker import Breaker
from aml100.trading.deciding import Deciding
from aml100.trading.entries import Entries, came_to_nothing, would_have_matched
from aml100.trading.exits import Exits
from aml100.trading.ledger import Ledger
from aml100.trading.observer import Observer
from aml100.trading.policies import Policy
from aml100.trading.protection import Protection
from aml100.trading.risk import RiskGuards
from aml100.trading.rules import TradingRules
from aml100.trading.standing import Standing
from aml100.trading.state import CoinState, CoreState, decode_state, encode_state
from aml100.trading.surroundings import Surroundings

_GUARD_EVERY_S: Final = 1.0
REJECTS: Final = "rejects"
_ENDS_NOWHERE: Final[Mapping[Coin, SeriesEnd]] = {}


class TradingCore:
    """One owner of positions, orders and risk for all coins of an engine.

    Args:
        instruments: by coin, in the engine's order of coins.
        rules: of this run.
        policies: makes a policy for a coin; replaced by `adopt_policy` when a model is promoted.
        salt: makes client ids different from any other's; on a real venue from those of every other run as well, for
            one that could not journal its last orders has used ids that a later one would count up to again.
        state: exported by an earlier run of the same journal; None starts empty.
    """

    def __init__(
        self,
        instruments: Mapping[Coin, Instrument],
        rules: TradingRules,
        policies: Callable[[Coin], Policy],
        *,
        salt: str,
        state: bytes | None = None,
    ) -> None:
        self.instruments = dict(instruments)
        self.rules = rules
        self.state = decode_state(state) if state is not None else CoreState()
        self.state.orders.salt = salt
        self.ledger = Ledger(self.state.book)
        self.blotter = Blotter(self.state.orders)
        self.risk = RiskGuards(rules.risk, self.state.risk)
        self.bookings = 0
        """Fills, funding and deposits folded by this process: what may explain a change of equity."""
        self.observers: dict[Coin, Observer] = {}
        for coin in self.instruments:
            known = self.state.coins.setdefault(coin, CoinState())
            self.observers[coin] = Observer(known, FeatureStream(rules.interval_ms, rules.regimes), policies(coin))
        self.surroundings = Surroundings()
        self.is_leaving = False
        """The run ends: nothing is opened any more."""
        self.breaker = Breaker(self)
        self.deciding = Deciding(self)
        self.protection = Protection(self)
        self.entries = Entries(self)
        self.exits = Exits(self)
        self.standing = Standing(self)
        self._guarded_s = 0.0
        self._marked_ms = 0

    # --- what the outside may ask ---------------------------------------------------------------------------

    def export_state(self) -> bytes:
        """Everything a restart needs, to be saved in the transaction of the records it goes with."""
        for observer in self.observers.values():
            observer.save()
        return encode_state(self.state)

    def coin(self, coin: Coin) -> CoinState:
        """State of one coin."""
        return self.state.coins[coin]

    def book(self, coin: Coin) -> BookTop | None:
        """The touch as last seen."""
        return self.surroundings.books.get(coin)

    def policy(self, coin: Coin) -> Policy:
        """The policy that decides for a coin."""
        return self.observers[coin].policy

    @property
    def cold(self) -> set[Coin]:
        """Coins whose policy is not the one whose memory was saved; `adopt_policy` shows it the series."""
        return {coin for coin, observer in self.observers.items() if observer.is_cold}

    def adopt_policy(self, policies: Callable[[Coin], Policy]) -> None:
        """Change who decides; the new policies are shown the history of the present series first."""
        for coin, observer in self.observers.items():
            observer.adopt(policies(coin), has_seen=False)

    def install_policies(self, policies: Mapping[Coin, Policy]) -> None:
        """Change who decides, for policies that have seen the present series already."""
        for coin, observer in self.observers.items():
            observer.adopt(policies[coin], has_seen=True)

    def last_row(self, coin: Coin) -> npt.NDArray[np.float64] | None:
        """Features of the bar last taken in, shape [F]; None where they are not complete."""
        return self.observers[coin].last_row

    def recent_rows(self, coin: Coin) -> list[npt.NDArray[np.float64]]:
        """Features of the present series, oldest first, at most REMEMBERED_ROWS."""
        return self.observers[coin].recent_rows()

    def remember(self, coin: Coin, rows: Sequence[npt.NDArray[np.float64]]) -> None:
        """Give back after a restart what `recent_rows` held; the last row is of the bar last taken in."""
        self.observers[coin].remember(rows)

    def warm_up(self, bar: Bar) -> None:
        """Take in a bar of history: features and policy move on, nothing is decided."""
        self.observers[bar.coin].take(bar)
        self.ledger.mark(bar.coin, bar.close)

    # --- the one entrance -----------------------------------------------------------------------------------

    def process(self, event: CoreEvent) -> list[Effect]:
        """Fold one event; answers what to journal and what to do, in order."""
        match event:
            case BarsClosed():
                return self._on_bars(event)
            case FillReceived(fill):
                return self.on_fill(fill)
            case OrderChanged():
                return self.on_order(event)
            case FundingPaid():
                return self._on_funding(event)
            case Tick():
                return self._on_tick(event)
            case BookTop():
                self.surroundings.books[event.coin] = event
                return []
            case AssetContext():
                if self.rules.is_live and event.coin in self.state.coins:
                    self.ledger.mark(event.coin, event.mark)
                return []
            case FeedChanged():
                self.surroundings.on_feed(event)
                return []
            case SettledFunding():
                if event.coin in self.observers:
                    self.observers[event.coin].know_funding(event)
                return []
            case Command():
                return self._on_command(event)
            case Reconciled():
                return self.standing.on_reconciled(event)
            case EquitySeen():
                return self.standing.on_equity(event)
            case MoneyReceived():
                self.bookings += 1
                return self.standing.on_money(event)
            case ConcernChanged():
                return self.standing.on_concern(event)
            case BooksOpened():
                return self.standing.on_books(event)
            case InstrumentsLearnt():
                return self.standing.on_instruments(event)
            case SeriesEnded():
                return self._on_end(event)
            case SizeFactorSet():
                self.state.size_factor = event.factor
                return []
            case _:
                assert_never(event)

    # --- bars -----------------------------------------------------------------------------------------------

    def _on_bars(self, event: BarsClosed) -> list[Effect]:
        ending = dict(event.ending) if event.ending else _ENDS_NOWHERE
        observers, ledger, state = self.observers, self.ledger, self.state
        effects: list[Effect] = []
        if event.end_ms > state.now_ms:
            state.now_ms = event.end_ms
        for bar in event.bars:
            observer = observers[bar.coin]
            observer.take(bar)
            ledger.mark(bar.coin, bar.close)
            if ledger.holds(bar.coin):
                observer.known.bars_held += 1
        equity = ledger.equity()
        if event.end_ms >= self._marked_ms:
            self._marked_ms = event.end_ms
            effects = self.breaker.mark(equity, event.end_ms, is_close=True)
        for bar in event.bars:
            effects += self._step_coin(bar, ending.get(bar.coin), equity, event)
        return effects

    def _step_coin(self, bar: Bar, ending: SeriesEnd | None, equity: Decimal, event: BarsClosed) -> list[Effect]:
        """Protections first, then the decision of this bar, if one is due."""
        rules, observer = self.rules, self.observers[bar.coin]
        known = observer.known
        held = self.ledger.holds(bar.coin)
        if held and ending is not None:
            known.closing = ExitReason.END
        elif held and not known.closing and rules.max_hold_bars and known.bars_held >= rules.max_hold_bars:
            known.closing = ExitReason.TIME
        forced = known.closing if held else ""
        effects: list[Effect] = []
        if rules.entry_style != "taker":
            effects = self.entries.on_bar(bar, ends=ending is not None)
        due = bar.end_ms % (rules.decision_bars * rules.interval_ms) == 0
        if due and known.bars_seen > rules.warmup_bars and known.complete_rows >= rules.window_bars:
            effects += self.deciding.decide(bar, observer, forced, ending, equity, event)
        if forced:
            effects += self.exits.leave(bar.coin, forced, event.end_ms)
        elif held and not known.closing:
            effects += self.protection.trail(bar)
        return effects

    # --- orders ---------------------------------------------------------------------------------------------

    def new_order(self, coin: Coin, side: Side, kind: OrderKind, size: Decimal, price: Decimal, reason: str) -> Order:
        """A taker order bounded by the run's band around `price`; reduce-only unless it is an entry."""
        band = self.rules.order_band
        bound = price * (1 + band if side is Side.BUY else 1 - band)
        return Order(
            cloid=self.blotter.next_cloid(),
            coin=coin,
            side=side,
            kind=kind,
            size=size,
            price=self.instruments[coin].limit_price(bound, side),
            reduce_only=kind is not OrderKind.ENTRY,
            tif=TimeInForce.IOC,
            reason=reason,
            created_ms=self.state.now_ms,
        )

    # --- our account ----------------------------------------------------------------------------------------

    def on_fill(self, fill: Fill) -> list[Effect]:
        """Fold a fill: ledger, order, round trip, and the protection that follows the position."""
        if fill.coin not in self.state.coins or self.ledger.knows_fill(fill):
            return []
        known = self.state.coins[fill.coin]
        self.bookings += 1
        known.is_dust, known.exit_failures = False, 0
        self.state.now_ms = max(self.state.now_ms, fill.time_ms)
        tracked = self.blotter.get(fill.cloid)
        kind = None if tracked is None else tracked.order.kind
        before = self.ledger.position(fill.coin)
        inside_bar = (tracked is None or tracked.order.is_trigger) and fill.time_ms > known.last_end_ms
        folded = self.ledger.apply_fill(fill, _exit_reason(tracked), known.bars_held + int(inside_bar))
        effects: list[Effect] = [
            FillRecorded(fill, kind, _fill_reason(fill, tracked), folded.realised, folded.position.size),
            *folded.posted,
        ]
        if fill.is_liquidation:
            words = f"{fill.coin}: the venue closed {fill.size} at {fill.price}"
            effects.append(RiskChanged(LIQUIDATION, "info", words, fill.time_ms))
        if tracked is not None and kind is OrderKind.ENTRY and came_to_nothing(tracked):
            self.risk.on_trade_after_all(tracked.order.created_ms)
        recorded = self.blotter.apply_fill_size(fill.cloid, fill.size, fill.time_ms)
        if recorded is not None:
            effects.append(recorded)
        if folded.trade is not None:
            effects.append(folded.trade)
            self.state.wins_in_row = self.state.wins_in_row + 1 if folded.trade.pnl > 0 else 0
            self.risk.on_trade(folded.trade)
        if before.size == 0 or (folded.trade is not None and folded.position.size != 0):
            known.bars_held, known.opened_ms, known.closing = 0, fill.time_ms, ""
        if folded.position.size == 0:
            known.bars_held, known.closing, known.anchor = 0, "", None
            resting = self.entries.resting(fill.coin)
            if resting is not None and resting.filled:  # its position came and went: the rest is not wanted any more
                effects += self.entries.cancel(fill.coin)
            effects += self.protection.dissolve(fill.coin)
        else:
            effects += self.protection.follow(fill.coin)
            if tracked is not None and tracked.unwanted:  # it was on its way when everything was to go
                effects += self.exits.at_market(fill.coin, tracked.unwanted)
        effects.append(self.position_record(fill.coin))
        if tracked is not None and tracked.order.reason == ExitReason.END:
            effects.append(self.breaker.mark_again(fill.time_ms))
        return effects

    def on_order(self, change: OrderChanged) -> list[Effect]:
        """Fold what became of an order; protection, entries and exits draw their conclusions."""
        tracked = self.blotter.get(change.cloid)
        was_done = tracked is not None and tracked.is_done
        recorded = self.blotter.apply(change, self.state.now_ms)
        if tracked is None or recorded is None:
            return []
        told: list[Effect] = []
        if was_done:  # only its number at the venue is new; what follows from its end followed then
            return [recorded]
        if tracked.order.kind is OrderKind.ENTRY:
            rejected = tracked.status is OrderStatus.REJECTED
            if not would_have_matched(tracked):
                self.risk.state.rejects_in_row = self.risk.state.rejects_in_row + 1 if rejected else 0
            if came_to_nothing(tracked):
                self.risk.on_no_trade(tracked.order.created_ms)
            told = self._tell_rejects() if rejected else []
        effects: list[Effect] = [recorded, *told, *self.protection.on_order(tracked), *self.entries.on_order(tracked)]
        return [*effects, *self.exits.on_order(tracked)]

    def _tell_rejects(self) -> list[Effect]:
        """The refusal that ends entries: nothing but a person's resume begins the count anew."""
        count, most = self.risk.state.rejects_in_row, self.rules.risk.max_rejects_in_row
        if not self.rules.risk.enabled or count != most:
            return []
        words = f"{count} entries refused by the venue in a row: none goes out until somebody resumes"
        return [RiskChanged(REJECTS, "tripped", words, self.state.now_ms)]

    def _on_funding(self, paid: FundingPaid) -> list[Effect]:
        if paid.coin not in self.state.coins:
            return []
        posted = None if paid.time_ms < self.state.book.since_ms else self.ledger.apply_funding(paid)
        if posted is None:
            return []
        self.bookings += 1
        return [posted, FundingRecorded(paid.coin, paid.time_ms, paid.rate, paid.amount)]

    def position_record(self, coin: Coin) -> PositionChanged:
        """The position as it stands, with what protects it."""
        position, known = self.ledger.position(coin), self.state.coins[coin]
        stop = self.protection.resting_stop(coin)
        return PositionChanged(
            coin=coin,
            size=position.size,
            entry_price=position.entry,
            unrealised=self.ledger.unrealised(coin),
            stop_oid=None if stop is None else stop.oid,
            protected=stop is not None,
            time_ms=self.state.now_ms,
            stop_price=known.stop_price,
            target_price=known.target_price,
            opened_ms=known.opened_ms,
        )

    # --- time, operator, reconciliation ---------------------------------------------------------------------

    def _on_tick(self, tick: Tick) -> list[Effect]:
        if not self.surroundings.wall_s:
            self.exits.on_first_tick(tick.wall_s)
        self.surroundings.on_tick(tick)
        now_ms = self.state.now_ms = max(self.state.now_ms, tick.now_ms)
        effects: list[Effect] = []
        if self.rules.is_live and tick.wall_s - self._guarded_s >= _GUARD_EVERY_S and self.ledger.open_coins():
            self._guarded_s = tick.wall_s
            effects += self.breaker.mark(self.ledger.equity(), now_ms, is_close=False)
        return [*effects, *self.protection.on_deadline(tick.wall_s), *self.exits.pending(now_ms)]

    def _on_command(self, command: Command) -> list[Effect]:
        now_ms = self.state.now_ms = max(self.state.now_ms, command.time_ms)
        match command.name:
            case CommandName.HALT:
                self.exits.want_all(ExitReason.RISK)
                resting = [t for t in self.blotter.live_all() if not t.order.reduce_only]
                cancels = tuple((t.order.coin, t.order.cloid) for t in resting)
                effects: list[Effect] = [self.set_state(TradingState.HALTED, f"halted by {command.by}", now_ms)]
                if cancels:
                    effects.append(CancelOrders(cancels))
                return effects + self.exits.pending(now_ms)
            case CommandName.RESUME:
                over: list[Effect] = []
                if not command.by.startswith(BY_ENGINE):  # which ends a pause of its own
                    if self.risk.state.rejects_in_row:
                        over.append(RiskChanged(REJECTS, "ok", "the count begins anew", now_ms))
                    if self.risk.state.breaker_until_ms:
                        over.append(RiskChanged("circuit_breaker", "ok", f"resumed by {command.by}", now_ms))
                    self.risk.resume(self.ledger.equity())
                self.state.paused_by = ""
                return [self.set_state(TradingState.TRADING, "", now_ms), *over, *self.standing.settle(now_ms)]
            case CommandName.PAUSE:
                if self.state.trading is TradingState.HALTED:
                    return []
                self.state.paused_by = command.by
                reason = f"entries paused by {command.by}"
                return [self.set_state(TradingState.PAUSED, reason, now_ms), *self.entries.cancel_all()]
            case CommandName.FLATTEN | CommandName.RESET:
                self.exits.want_all(ExitReason.RISK, command.coins)
                return [*self.entries.cancel_all(command.coins), *self.exits.pending(now_ms)]
            case CommandName.STOP:
                self.is_leaving = True
                return []
            case CommandName.RETRAIN:
                return []
            case _:
                assert_never(command.name)

    def begin(self, now_ms: int) -> list[Effect]:
        """Reconciled and warm: trade, unless halted, paused or told to manage only."""
        self.state.now_ms = max(self.state.now_ms, now_ms)
        if self.state.trading is TradingState.STARTING:
            return [self.set_state(TradingState.TRADING, "", now_ms), *self.standing.settle(now_ms)]
        return self.standing.settle(now_ms)

    def _on_end(self, ended: SeriesEnded) -> list[Effect]:
        self.state.now_ms = max(self.state.now_ms, ended.time_ms)
        self.exits.want_all(ExitReason.END)
        return [*self.entries.cancel_all(), *self.exits.pending(self.state.now_ms)]

    def set_state(self, trading: TradingState, reason: str, now_ms: int) -> StateChanged:
        """Change the trading state."""
        self.state.trading, self.state.reason = trading, reason
        return StateChanged(trading, reason, now_ms)


def _exit_reason(tracked: Tracked | None) -> str:
    """What a trade's exit is called; a close that no order of ours explains was the venue's or a person's."""
    if tracked is None:
        return ExitReason.RISK
    match tracked.order.kind:
        case OrderKind.STOP_LOSS:
            return ExitReason.STOP_LOSS
        case OrderKind.TAKE_PROFIT:
            return ExitReason.TAKE_PROFIT
        case OrderKind.EXIT | OrderKind.ENTRY:
            return tracked.order.reason


def _fill_reason(fill: Fill, tracked: Tracked | None) -> str:
    if fill.is_liquidation:
        return LIQUIDATION
    return FOREIGN if tracked is None else tracked.order.reason
