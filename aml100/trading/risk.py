"""Guards: every entry passes all of them, and each says why not.

`RiskState` is plain data saved with the journal, so a restart neither forgets the peak nor the day's losses
(GUARANTEES D14). Times are market time; on a simulated venue and in a back-test the limits per minute, day and pause
count market time too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from aml100.domain.events import Gate, TradeClosed
from aml100.domain.market import BookTop, Instrument
from aml100.domain.units import DAY_MS, MINUTE_MS, ZERO
from aml100.trading.rules import RiskLimits


@dataclass(slots=True)
class RiskState:
    """What the guards remember. `peak` is the equity's, since the last resume; `cooldown_until_ms` 0 is none."""

    peak: Decimal = ZERO
    drawdown: float = 0.0
    day: int = -1
    day_start_equity: Decimal = ZERO
    trades_today: int = 0
    losses_in_row: int = 0
    cooldown_until_ms: int = 0
    breaker_until_ms: int = 0
    last_entry_ms: int = -(10**15)
    order_times_ms: list[int] = field(default_factory=list)
    rejects_in_row: int = 0


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the guards of the connection look at; all harmless where they do not apply."""

    now_ms: int
    loop_lag_ms: float = 0.0
    clock_offset_ms: int = 0
    dead_streams: tuple[str, ...] = ()
    book: BookTop | None = None


_OK: dict[str, Gate] = {}


def passed(name: str) -> Gate:
    """The shared verdict of a guard that has nothing against it."""
    gate = _OK.get(name)
    if gate is None:
        gate = _OK[name] = Gate(name, True)
    return gate


class RiskGuards:
    """Section 9, over one `RiskState`."""

    def __init__(self, limits: RiskLimits, state: RiskState) -> None:
        self.limits = limits
        self.state = state
        self._marked = (ZERO, ZERO)  # equity and peak that the drawdown was last reckoned from

    def mark(self, equity: Decimal, now_ms: int) -> str:
        """Fold the equity at a close; answers which guard it trips: `hard_stop`, `circuit_breaker` or nothing."""
        state = self.state
        day = now_ms // DAY_MS
        if day != state.day:
            state.day, state.day_start_equity, state.trades_today = day, equity, 0
        if equity > state.peak:
            state.peak = equity
        if equity is not self._marked[0] or state.peak is not self._marked[1]:
            self._marked = equity, state.peak
            state.drawdown = float((state.peak - equity) / state.peak) if state.peak > 0 else 0.0
        if not self.limits.enabled:
            return ""
        if self.limits.hard_stop_dd and state.drawdown >= self.limits.hard_stop_dd:
            return "hard_stop"
        if self.limits.breaker_dd and state.drawdown >= self.limits.breaker_dd and not state.breaker_until_ms:
            return "circuit_breaker"
        return ""

    def resume(self, equity: Decimal) -> None:
        """A person or the end of the breaker's pause: the drawdown is measured anew from here."""
        self.state.peak, self.state.drawdown = equity, 0.0
        self._marked = ZERO, ZERO
        self.state.breaker_until_ms = 0
        self.state.rejects_in_row = 0

    def on_trade(self, trade: TradeClosed) -> None:
        """Count a closed round trip towards the cooldown."""
        state = self.state
        state.losses_in_row = 0 if trade.pnl > 0 else state.losses_in_row + 1
        if self.limits.cooldown_losses and state.losses_in_row >= self.limits.cooldown_losses:
            state.cooldown_until_ms = trade.exit_ms + self.limits.cooldown_ms
            state.losses_in_row = 0

    def on_entry(self, now_ms: int) -> None:
        """Count an entry that is about to be sent."""
        self.state.trades_today += 1
        self.state.last_entry_ms = now_ms

    def on_no_trade(self, sent_ms: int) -> None:
        """An entry ended without a fill: no trade of that day's after all."""
        if sent_ms // DAY_MS == self.state.day:
            self.state.trades_today = max(self.state.trades_today - 1, 0)

    def on_trade_after_all(self, sent_ms: int) -> None:
        """The first fill of an entry that was said to have ended without one."""
        if sent_ms // DAY_MS == self.state.day:
            self.state.trades_today += 1

    def on_orders(self, count: int, now_ms: int) -> None:
        """Count orders that are about to be sent, for the limit a minute."""
        times = self.state.order_times_ms
        times.extend([now_ms] * count)
        while times and times[0] <= now_ms - MINUTE_MS:
            del times[0]

    def orders_lately(self, now_ms: int) -> int:
        """Orders sent in the last minute."""
        return sum(1 for t in self.state.order_times_ms if t > now_ms - MINUTE_MS)

    def entry_gates(
        self,
        stop_distance: Decimal,
        instrument: Instrument,
        equity: Decimal,
        size: Decimal,
        close: Decimal,
        open_notional: Decimal,
        seen: Conditions,
    ) -> list[Gate]:
        """Every guard's verdict on opening `size` at about `close`, with a stop a fraction `stop_distance` away.

        Entries need all of them.
        """
        if not self.limits.enabled:
            return []
        notional = size * close
        gates = self._pace_gates(equity, seen.now_ms)
        gates.append(self._leverage_gate(equity, notional + open_notional))
        gates.append(self._liquidation_gate(stop_distance, instrument, equity, notional + open_notional))
        if self.limits.live_guards:
            gates.extend(self._connection_gates(seen, close))
        return gates

    def _pace_gates(self, equity: Decimal, now_ms: int) -> list[Gate]:
        limits, state = self.limits, self.state
        gates = []
        if limits.max_daily_loss:
            start = state.day_start_equity
            loss = float((start - equity) / start) if start > 0 else 0.0
            gates.append(
                _gate(
                    "daily_loss",
                    loss < limits.max_daily_loss,
                    f"{loss:.2%} lost today, {limits.max_daily_loss:.2%} allowed",
                )
            )
        if limits.cooldown_losses:
            gates.append(_gate("cooldown", now_ms >= state.cooldown_until_ms, "cooling down after losses in a row"))
        if limits.max_daily_trades:
            fine = state.trades_today < limits.max_daily_trades
            gates.append(_gate("daily_trades", fine, f"{state.trades_today} of {limits.max_daily_trades} trades today"))
        if limits.min_ms_between_trades:
            waited = now_ms - state.last_entry_ms
            gates.append(
                _gate("spacing", waited >= limits.min_ms_between_trades, f"last entry {waited / 1000:g} s ago")
            )
        if limits.max_orders_per_minute:
            recent = self.orders_lately(now_ms)
            fine = recent < limits.max_orders_per_minute
            gates.append(_gate("order_rate", fine, f"{recent} orders in the last minute"))
        return gates

    def _leverage_gate(self, equity: Decimal, notional: Decimal) -> Gate:
        limit = self.limits.max_leverage
        if not limit:
            return passed("leverage")
        leverage = notional / equity if equity > 0 else Decimal("Infinity")
        return _gate("leverage", leverage <= limit, f"leverage {leverage:.2f} over {limit}")

    def _liquidation_gate(
        self, stop_distance: Decimal, instrument: Instrument, equity: Decimal, notional: Decimal
    ) -> Gate:
        """Cross margin: the move that eats the equity down to maintenance, which must also lie beyond the stop."""
        if notional <= 0:
            return passed("liquidation")
        distance = float(equity / notional) - 0.5 / instrument.max_leverage
        needed = max(self.limits.min_liquidation_distance, float(stop_distance))
        return _gate("liquidation", distance >= needed, f"liquidation {distance:.2%} away, {needed:.2%} needed")

    def _connection_gates(self, seen: Conditions, close: Decimal) -> list[Gate]:
        limits = self.limits
        gates = [_gate("stale_data", not seen.dead_streams, "no fresh " + ", ".join(seen.dead_streams))]
        if limits.max_loop_lag_ms:
            lag = seen.loop_lag_ms
            gates.append(_gate("loop_lag", lag <= limits.max_loop_lag_ms, f"event loop {lag:.0f} ms late"))
        if limits.max_clock_skew_ms:
            off_ms = seen.clock_offset_ms
            gates.append(_gate("clock_skew", abs(off_ms) <= limits.max_clock_skew_ms, f"clock off by {off_ms} ms"))
        if limits.max_rejects_in_row:
            count = self.state.rejects_in_row
            gates.append(_gate("rejects", count < limits.max_rejects_in_row, f"{count} rejected orders in a row"))
        if limits.price_collar and seen.book is not None and seen.book.bid and seen.book.ask:
            mid = (seen.book.bid + seen.book.ask) / 2
            off = abs(float(close / mid) - 1)
            gates.append(_gate("price_collar", off <= limits.price_collar, f"{off:.2%} from the book's middle"))
        return gates


def _gate(name: str, ok: bool, reason: str) -> Gate:
    return passed(name) if ok else Gate(name, False, reason)
