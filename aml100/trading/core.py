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

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, assert_never

import numpy as np
import numpy.typing as npt

from aml100.domain.errors import AmlError
from aml100.domain.events import (
    BarsClosed,
    BooksOpened,
    CancelOrders,
    Command,
    CommandName,
    ConcernChanged,
    CoreEvent,
    Decision,
    Effect,
    EquityMarked,
    EquitySeen,
    FeedChanged,
    FillReceived,
    FillRecorded,
    FundingPaid,
    FundingRecorded,
    Gate,
    InstrumentsLearnt,
    MoneyReceived,
    OrderChanged,
    PlaceOrders,
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
from aml100.domain.orders import Action, ExitReason, Fill, Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Coin
from aml100.market.features import FEATURES, FeatureStream, known_at, regime_of_row
from aml100.market.position import POSITION_SIZE, position_features
from aml100.trading.blotter import Blotter, Tracked
from aml100.trading.entries import Entries, would_have_matched
from aml100.trading.ledger import Ledger
from aml100.trading.policies import Policy, PolicyAnswer
from aml100.trading.protection import Protection
from aml100.trading.risk import Conditions, RiskGuards, passed
from aml100.trading.rules import TradingRules
from aml100.trading.sizing import entry_size, q_gap
from aml100.trading.standing import Standing
from aml100.trading.state import CoinState, CoreState, decode_state, encode_state

KEPT_SETTLEMENTS: Final = 3
REMEMBERED_ROWS: Final = 20_000
"""Rows of features kept for a policy that is adopted in mid-series; an encoder forgets older ones anyway."""

_STATE_GATES = {
    TradingState.HALTED: "halt",
    TradingState.PAUSED: "pause",
    TradingState.MANAGE_ONLY: "manage_only",
    TradingState.STARTING: "starting",
    TradingState.STOPPED: "halt",
}
_HOLD_GATES = (Gate("policy", False, "HOLD: keep what is"),)
_ATR: Final = FEATURES.index("atr_14")
_LATE_GATE = Gate("late", False, "the bar was learnt too long after its end")
_EXIT_PAUSE_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Wall seconds before an exit that was refused so many times in a row is tried again."""
_FILL_WAIT_S: Final = 2.0
"""Wall seconds that the fills of an exit which is said to be filled may take to come."""
_GUARD_EVERY_S: Final = 1.0
_TOO_SMALL: Final = "Order must have minimum value"
_LONG_GATES = (Gate("policy", False, "already long"),)
_SHORT_GATES = (Gate("policy", False, "already short"),)


class TradingCore:
    """One owner of positions, orders and risk for all coins of an engine.

    Args:
        instruments: by coin, in the engine's order of coins.
        rules: of this run.
        policies: makes a policy for a coin; replaced by `adopt_policy` when a model is promoted.
        salt: makes client ids of this journal different from any other's.
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
        if not self.state.orders.salt:
            self.state.orders.salt = salt
        self.ledger = Ledger(self.state.book)
        self.blotter = Blotter(self.state.orders)
        self.risk = RiskGuards(rules.risk, self.state.risk)
        self._features: dict[Coin, FeatureStream] = {}
        self._policies: dict[Coin, Policy] = {}
        self._rows: dict[Coin, deque[npt.NDArray[np.float64]]] = {}
        self._row_ends: dict[Coin, int] = {}
        self._books: dict[Coin, BookTop] = {}
        self._dead_streams: dict[Coin, set[str]] = {}
        self._wall_s = 0.0
        self._loop_lag_ms = 0.0
        self._clock_offset_ms = 0
        self._guarded_s = 0.0
        self._marked_ms = 0
        self._exit_again_s: dict[Coin, float] = {}
        self.bookings = 0
        """Fills, funding and deposits folded by this process: what may explain a change of equity."""
        self._row = np.zeros(POSITION_SIZE)
        self.cold: set[Coin] = set()
        """Coins whose policy is not the one whose memory was saved; `adopt_policy` shows it the series."""
        for coin in self.instruments:
            features, policy = FeatureStream(rules.interval_ms, rules.regimes), policies(coin)
            known = self.state.coins.setdefault(coin, CoinState())
            if known.features:
                features.restore(known.features)
                if known.policy_name == policy.name:
                    try:
                        policy.restore(known.policy)
                    except AmlError:  # another model decides now: it is shown the series before the first decision
                        self.cold.add(coin)
                elif known.policy_name:
                    self.cold.add(coin)
            self._features[coin], self._policies[coin] = features, policy
            self._rows[coin] = deque(maxlen=REMEMBERED_ROWS)
        self.protection = Protection(self)
        self.entries = Entries(self)
        self.standing = Standing(self)

    # --- what the outside may ask ---------------------------------------------------------------------------

    def export_state(self) -> bytes:
        """Everything a restart needs, to be saved in the transaction of the records it goes with."""
        for coin, features in self._features.items():
            known = self.state.coins[coin]
            if known.exported_bars != known.bars_seen:
                known.features = features.export_state()
                known.policy = self._policies[coin].export_state()
                known.policy_name = self._policies[coin].name
                known.exported_bars = known.bars_seen
        return encode_state(self.state)

    def coin(self, coin: Coin) -> CoinState:
        """State of one coin."""
        return self.state.coins[coin]

    def book(self, coin: Coin) -> BookTop | None:
        """The touch as last seen."""
        return self._books.get(coin)

    def policy(self, coin: Coin) -> Policy:
        """The policy that decides for a coin."""
        return self._policies[coin]

    def adopt_policy(self, policies: Callable[[Coin], Policy]) -> None:
        """Change who decides; the new policies are shown the history of the present series first."""
        self.cold.clear()
        for coin in self.instruments:
            policy = self._policies[coin] = policies(coin)
            for row in self._rows[coin]:
                policy.observe(row)
            self.state.coins[coin].exported_bars = -1

    def install_policies(self, policies: Mapping[Coin, Policy]) -> None:
        """Change who decides, for policies that have seen the present series already."""
        for coin in self.instruments:
            self._policies[coin] = policies[coin]
            self.state.coins[coin].exported_bars = -1

    def last_row(self, coin: Coin) -> npt.NDArray[np.float64] | None:
        """Features of the bar last taken in, shape [F]; None where they are not complete."""
        rows = self._rows[coin]
        return rows[-1] if rows and self._row_ends.get(coin) == self.state.coins[coin].last_end_ms else None

    def recent_rows(self, coin: Coin) -> list[npt.NDArray[np.float64]]:
        """Features of the present series, oldest first, at most REMEMBERED_ROWS."""
        return list(self._rows[coin])

    def remember(self, coin: Coin, rows: Sequence[npt.NDArray[np.float64]]) -> None:
        """Give back after a restart what `recent_rows` held; the last row is of the bar last taken in."""
        self._rows[coin].clear()
        self._rows[coin].extend(rows)
        self._row_ends[coin] = self.state.coins[coin].last_end_ms

    def warm_up(self, bar: Bar) -> None:
        """Take in a bar of history: features and policy move on, nothing is decided."""
        known = self.state.coins[bar.coin]
        self._observe(bar, known)
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
                self._books[event.coin] = event
                return []
            case AssetContext():
                if self.rules.is_live and event.coin in self.state.coins:
                    self.ledger.mark(event.coin, event.mark)
                return []
            case FeedChanged():
                dead = self._dead_streams.setdefault(event.coin, set())
                (dead.discard if event.state == "live" else dead.add)(event.channel)
                return []
            case SettledFunding():
                self._know_funding(event)
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
        ending = dict(event.ending) if event.ending else {}
        coins, ledger = self.state.coins, self.ledger
        effects: list[Effect] = []
        self.state.now_ms = max(self.state.now_ms, event.end_ms)
        for bar in event.bars:
            known = coins[bar.coin]
            self._observe(bar, known)
            ledger.mark(bar.coin, bar.close)
            if ledger.holds(bar.coin):
                known.bars_held += 1
        equity = ledger.equity()
        if event.end_ms >= self._marked_ms:
            self._marked_ms = event.end_ms
            effects = self._guard_equity(equity, event.end_ms, is_close=True)
        for bar in event.bars:
            effects += self._step_coin(bar, ending.get(bar.coin), equity, event)
        return effects

    def _know_funding(self, settled: SettledFunding) -> None:
        """Keep the latest settlements, whatever the order in which they are told."""
        known = self.state.coins.get(settled.coin)
        if known is None or any(time_ms == settled.time_ms for time_ms, _, _ in known.fundings):
            return
        known.fundings.append((settled.time_ms, settled.rate, settled.premium))
        known.fundings.sort(key=lambda one: one[0])
        del known.fundings[:-KEPT_SETTLEMENTS]

    def _observe(self, bar: Bar, known: CoinState) -> None:
        """Features and policy take in a closed bar; a gap starts the series anew."""
        coin = bar.coin
        features, policy = self._features[coin], self._policies[coin]
        if known.last_end_ms and bar.open_ms != known.last_end_ms:
            features.reset()
            policy.reset()
            self._rows[coin].clear()
            known.complete_rows = 0
        known.last_end_ms = bar.end_ms
        known.close = bar.close
        known.bars_seen += 1
        rate, premium = known_at(known.fundings, bar.open_ms)
        row = features.update(
            float(bar.open),
            float(bar.high),
            float(bar.low),
            float(bar.close),
            float(bar.volume),
            bar.open_ms,
            rate,
            premium,
        )
        if row is not None:
            known.complete_rows += 1
            known.regime = regime_of_row(row)
            known.atr = float(row[_ATR])
            policy.observe(row)
            self._rows[coin].append(row)
            self._row_ends[coin] = bar.end_ms

    def _guard_equity(self, equity: Decimal, now_ms: int, *, is_close: bool) -> list[Effect]:
        """Mark the equity; the breaker cancels, flattens and pauses, the hard stop halts until a person resumes.

        An equity that cannot be believed trips nothing (GUARANTEES B12).
        """
        effects: list[Effect] = []
        risk, state = self.risk.state, self.state
        if self.rules.risk.live_guards:
            believed, told = self.standing.believes(equity)
            effects += told
            if not believed:
                return effects
        if risk.breaker_until_ms and now_ms >= risk.breaker_until_ms and state.trading is TradingState.PAUSED:
            self.risk.resume(equity)
            effects.append(RiskChanged("circuit_breaker", "ok", "pause over, trading resumes", now_ms))
            effects.append(self.set_state(TradingState.TRADING, "", now_ms))
        tripped = self.risk.mark(equity, now_ms)
        if is_close:
            effects.append(EquityMarked(now_ms, equity, self.ledger.balance, risk.drawdown, risk.peak))
        if tripped and state.trading is not TradingState.HALTED:
            reason = f"drawdown {risk.drawdown:.2%} from the peak"
            effects.append(RiskChanged(tripped, "tripped", reason, now_ms))
            if tripped == "hard_stop":
                effects.append(self.set_state(TradingState.HALTED, f"hard stop: {reason}", now_ms))
            else:
                risk.breaker_until_ms = now_ms + self.rules.risk.breaker_pause_ms
                effects.append(self.set_state(TradingState.PAUSED, f"circuit breaker: {reason}", now_ms))
            self._close_all(ExitReason.RISK)
            effects += self.entries.cancel_all()
        return effects

    def _step_coin(self, bar: Bar, ending: SeriesEnd | None, equity: Decimal, event: BarsClosed) -> list[Effect]:
        """Protections first, then the decision of this bar, if one is due."""
        now_ms = event.end_ms
        known = self.state.coins[bar.coin]
        held = self.ledger.holds(bar.coin)
        if held and ending is not None:
            known.closing = ExitReason.END
        elif held and not known.closing and self.rules.max_hold_bars and known.bars_held >= self.rules.max_hold_bars:
            known.closing = ExitReason.TIME
        forced = known.closing if held else ""
        effects: list[Effect] = []
        if self.rules.entry_style != "taker":
            effects += self.entries.on_bar(bar, ends=ending is not None)
        due = bar.end_ms % (self.rules.decision_bars * self.rules.interval_ms) == 0
        if due and known.bars_seen > self.rules.warmup_bars and known.complete_rows >= self.rules.window_bars:
            effects += self._decide(bar, known, forced, ending, equity, event)
        if forced:
            effects += self._exit(bar.coin, forced, now_ms)
        elif held and not known.closing:
            effects += self.protection.trail(bar)
        return effects

    # --- the decision ---------------------------------------------------------------------------------------

    def _decide(
        self, bar: Bar, known: CoinState, forced: str, ending: SeriesEnd | None, equity: Decimal, event: BarsClosed
    ) -> list[Effect]:
        now_ms = event.end_ms
        answer = self._policies[bar.coin].decide(self._position_row(bar.coin, known), bar.open_ms)
        known.holds_in_row = known.holds_in_row + 1 if answer.action is Action.HOLD else 0
        gates: tuple[Gate, ...] = (_LATE_GATE,)
        orders: list[Effect] = []
        if not event.is_late:
            gates, orders = self._judge(bar, known, answer, forced, ending, equity, now_ms)
        decision = Decision(
            coin=bar.coin,
            bar_ms=bar.open_ms,
            time_ms=now_ms,
            action=answer.action,
            q=answer.q,
            regime=known.regime,
            confidence=answer.confidence,
            outcome="order" if any(isinstance(one, PlaceOrders) for one in orders) else "none",
            gates=gates,
        )
        return [decision, *orders]

    def _judge(
        self,
        bar: Bar,
        known: CoinState,
        answer: PolicyAnswer,
        forced: str,
        ending: SeriesEnd | None,
        equity: Decimal,
        now_ms: int,
    ) -> tuple[tuple[Gate, ...], list[Effect]]:
        """Every gate's verdict on what the policy wants, and the orders if all agree."""
        state_gate = _STATE_GATES.get(self.state.trading)
        standing = () if state_gate is None else (Gate(state_gate, False, self.state.reason),)
        if forced:
            return (*standing, Gate(f"{forced}_exit", False, f"position is being closed: {forced}")), []
        position = self.ledger.position(bar.coin)
        if answer.action is Action.HOLD:
            return standing + (_HOLD_GATES if not answer.note else (Gate("model", False, answer.note),)), []
        side = Side.BUY if answer.action is Action.BUY else Side.SELL
        if position.side is side and not known.is_dust:
            return standing + (_LONG_GATES if side is Side.BUY else _SHORT_GATES), []
        if any(t.is_in_flight for t in self.blotter.live(bar.coin) if not t.order.is_trigger):
            return (*standing, Gate("in_flight", False, "an order's outcome is not known yet")), []
        orders: list[Effect] = []
        gates: list[Gate] = [passed("policy")]
        resting = None if self.rules.entry_style == "taker" else self.entries.resting(bar.coin)
        if resting is not None and resting.order.side is side:
            words = f"a {side} entry has been resting for {known.entry_bars} bars"
            return (*standing, Gate("entry_resting", False, words)), []
        if resting is not None:
            orders += self.entries.cancel(bar.coin)
            if position.size == 0:
                return (*standing, Gate("entry_resting", False, "opposite signal: the resting entry goes")), orders
        if position.size != 0 and not known.is_dust:
            known.closing = ExitReason.SIGNAL
            orders += self._exit(bar.coin, ExitReason.SIGNAL, now_ms)
            if not self.rules.reverse_on_opposite:
                return tuple(gates), orders
        entry_gates, size = self._entry_gates(bar, answer, ending, standing, equity, now_ms)
        gates += entry_gates
        if all(gate.ok for gate in gates):
            orders += self.entries.open(bar.coin, side, size, bar.close)
        return tuple(gates), orders

    def _entry_gates(
        self,
        bar: Bar,
        answer: PolicyAnswer,
        ending: SeriesEnd | None,
        standing: tuple[Gate, ...],
        equity: Decimal,
        now_ms: int,
    ) -> tuple[list[Gate], Decimal]:
        rules, instrument = self.rules, self.instruments[bar.coin]
        gates: list[Gate] = list(standing)
        if ending is not None:
            gates.append(Gate("series", False, f"no bar follows: {ending}"))
        if answer.q is not None:
            gap = q_gap(answer.q)
            enough = gap > rules.min_q_gap
            gates.append(passed("q_gap") if enough else Gate("q_gap", False, f"Q gap {gap:.4f} <= {rules.min_q_gap:g}"))
        others = self.ledger.notional()
        if rules.reverse_on_opposite:
            others -= abs(self.ledger.position(bar.coin).size) * bar.close
        basis, fallen = equity * self.state.size_factor, self.risk.state.drawdown
        sized = entry_size(instrument, rules, basis, bar.close, answer.q, others, fallen)
        gates.append(Gate("size", False, sized.refusal) if sized.refusal else passed("size"))
        seen = self._conditions(bar.coin, now_ms)
        gates += self.risk.entry_gates(rules, instrument, equity, sized.size, bar.close, others, seen)
        return gates, sized.size

    def _conditions(self, coin: Coin, now_ms: int) -> Conditions:
        return Conditions(
            now_ms,
            self._loop_lag_ms,
            self._clock_offset_ms,
            tuple(sorted(self._dead_streams.get(coin, ()))),
            self._books.get(coin),
        )

    def entry_gates_now(self, coin: Coin, size: Decimal) -> list[Gate]:
        """The guards' verdicts on an entry of `size` between two decisions."""
        known, equity, now_ms = self.state.coins[coin], self.ledger.equity(), self.state.now_ms
        others = self.ledger.notional()
        if known.closing:
            others -= abs(self.ledger.position(coin).size) * known.close
        seen = self._conditions(coin, now_ms)
        return self.risk.entry_gates(self.rules, self.instruments[coin], equity, size, known.close, others, seen)

    def _position_row(self, coin: Coin, known: CoinState) -> npt.NDArray[np.float64]:
        position = self.ledger.position(coin)
        drawdown, wins, holds = self.risk.state.drawdown, float(self.state.wins_in_row), float(known.holds_in_row)
        if position.size == 0:  # what needs an entry is not looked at
            position_features(0.0, 1.0, 1.0, 0.0, 0.0, 0.0, drawdown, wins, holds, self._row)
            return self._row
        position_features(
            1.0 if position.size > 0 else -1.0,
            float(position.entry),
            float(known.close),
            float(known.bars_held),
            0.0 if known.target_price is None else float(known.target_price),
            0.0 if known.stop_price is None else float(known.stop_price),
            drawdown,
            wins,
            holds,
            self._row,
        )
        return self._row

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

    def _exit(self, coin: Coin, reason: str, now_ms: int) -> list[Effect]:
        """Close the position at market, reduce-only; nothing where an exit is already under way."""
        position = self.ledger.position(coin)
        if position.side is None or any(t.order.kind is OrderKind.EXIT for t in self.blotter.live(coin)):
            return []
        known = self.state.coins[coin]
        effects = self.entries.cancel(coin)
        price = self.ledger.book.marks.get(coin, position.entry)
        order = self.new_order(coin, position.side.opposite, OrderKind.EXIT, abs(position.size), price, reason)
        known.closing = reason
        self.risk.on_orders(1, now_ms)
        return [*effects, self.blotter.add(order), PlaceOrders((order,))]

    def _close_all(self, reason: str) -> None:
        for coin in self.ledger.open_coins():
            self.state.coins[coin].closing = reason

    def close_at_market(self, coin: Coin, reason: str) -> list[Effect]:
        """Leave a position now, whatever the policy thinks."""
        self.state.coins[coin].closing = reason
        return self._exit(coin, reason, self.state.now_ms)

    def _pending_exits(self, now_ms: int) -> list[Effect]:
        """Exits that are wanted and not under way: at once, and again where one did not get through."""
        effects: list[Effect] = []
        for coin in self.ledger.open_coins():
            known = self.state.coins[coin]
            if known.closing and not known.is_dust and self._wall_s >= self._exit_again_s.get(coin, 0.0):
                effects += self._exit(coin, known.closing, now_ms)
        return effects

    def _on_exit_refused(self, tracked: Tracked) -> list[Effect]:
        """An exit did not get through: tried again, less and less often; what is too small is dust (GUARANTEES D8)."""
        coin = tracked.order.coin
        known = self.state.coins[coin]
        known.exit_failures += 1
        if tracked.reason.startswith(_TOO_SMALL):
            known.is_dust, known.closing = True, ""
            words = f"{coin}: {tracked.order.size} is under the venue's minimum: dust, left alone"
            return [RiskChanged("dust", "info", words, self.state.now_ms)]
        pause_s = _EXIT_PAUSE_S[min(known.exit_failures, len(_EXIT_PAUSE_S) - 1)]
        self._exit_again_s[coin] = self._wall_s + pause_s
        words = f"{coin}: exit refused ({tracked.reason}), again in {pause_s:g} s"
        return [RiskChanged("exit", "tripped", words, self.state.now_ms)]

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
        inside_bar = tracked is None or tracked.order.is_trigger
        folded = self.ledger.apply_fill(fill, _exit_reason(tracked), known.bars_held + int(inside_bar))
        effects: list[Effect] = [
            FillRecorded(fill, kind, _fill_reason(tracked), folded.realised, folded.position.size),
            *folded.posted,
        ]
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
        effects.append(self.position_record(fill.coin))
        if tracked is not None and tracked.order.reason == ExitReason.END:
            effects += self._mark_again(fill.time_ms)
        return effects

    def _mark_again(self, now_ms: int) -> list[Effect]:
        """The series has ended and the position with it: the last bar's equity is what is left after closing."""
        equity, risk = self.ledger.equity(), self.risk.state
        self.risk.mark(equity, now_ms)
        return [EquityMarked(now_ms, equity, self.ledger.balance, risk.drawdown, risk.peak)]

    def on_order(self, change: OrderChanged) -> list[Effect]:
        """Fold what became of an order; protection, entries and exits draw their conclusions."""
        tracked = self.blotter.get(change.cloid)
        recorded = self.blotter.apply(change, self.state.now_ms)
        if tracked is None or recorded is None:
            return []
        if tracked.order.kind is OrderKind.ENTRY and not would_have_matched(tracked):
            rejected = tracked.status is OrderStatus.REJECTED
            self.risk.state.rejects_in_row = self.risk.state.rejects_in_row + 1 if rejected else 0
        effects: list[Effect] = [recorded, *self.protection.on_order(tracked), *self.entries.on_order(tracked)]
        if tracked.order.kind is OrderKind.EXIT and tracked.status is OrderStatus.FILLED:
            self._exit_again_s[tracked.order.coin] = self._wall_s + _FILL_WAIT_S
        if tracked.order.kind is OrderKind.EXIT and tracked.status is OrderStatus.REJECTED:
            effects += self._on_exit_refused(tracked)
        return effects

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
        if not self._wall_s:  # until now time stood at nought, and so did what was put off
            self._exit_again_s = {coin: tick.wall_s + wait_s for coin, wait_s in self._exit_again_s.items()}
        self._wall_s, self._loop_lag_ms = tick.wall_s, tick.loop_lag_ms
        self._clock_offset_ms = tick.clock_offset_ms
        now_ms = self.state.now_ms = max(self.state.now_ms, tick.now_ms)
        effects: list[Effect] = []
        if self.rules.is_live and tick.wall_s - self._guarded_s >= _GUARD_EVERY_S and self.ledger.open_coins():
            self._guarded_s = tick.wall_s
            effects += self._guard_equity(self.ledger.equity(), now_ms, is_close=False)
        return [*effects, *self.protection.on_deadline(tick.wall_s), *self._pending_exits(now_ms)]

    def _on_command(self, command: Command) -> list[Effect]:
        now_ms = self.state.now_ms = max(self.state.now_ms, command.time_ms)
        match command.name:
            case CommandName.HALT:
                self._close_all(ExitReason.RISK)
                resting = [t for t in self.blotter.live_all() if not t.order.reduce_only]
                cancels = tuple((t.order.coin, t.order.cloid) for t in resting)
                effects: list[Effect] = [self.set_state(TradingState.HALTED, f"halted by {command.by}", now_ms)]
                if cancels:
                    effects.append(CancelOrders(cancels))
                return effects + self._pending_exits(now_ms)
            case CommandName.RESUME:
                if self.state.trading is TradingState.HALTED or self.risk.state.breaker_until_ms:
                    self.risk.resume(self.ledger.equity())
                return [self.set_state(TradingState.TRADING, "", now_ms), *self.standing.settle(now_ms)]
            case CommandName.PAUSE:
                if self.state.trading is TradingState.HALTED:
                    return []
                reason = f"entries paused by {command.by}"
                return [self.set_state(TradingState.PAUSED, reason, now_ms), *self.entries.cancel_all()]
            case CommandName.FLATTEN | CommandName.RESET:
                self._close_all(ExitReason.RISK)
                return [*self.entries.cancel_all(), *self._pending_exits(now_ms)]
            case CommandName.RETRAIN | CommandName.STOP:
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
        for coin in self.ledger.open_coins():
            self.state.coins[coin].closing = ExitReason.END
        return [*self.entries.cancel_all(), *self._pending_exits(self.state.now_ms)]

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


def _fill_reason(tracked: Tracked | None) -> str:
    return "foreign" if tracked is None else tracked.order.reason
