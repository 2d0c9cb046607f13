"""What the equity's fall from its peak sets off: the circuit breaker pauses, the hard stop halts.

Both cancel what rests and close what is open. The breaker's pause ends by itself, a halt only by a person.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from aml100.domain.events import Effect, EquityMarked, RiskChanged, TradingState
from aml100.domain.orders import ExitReason

if TYPE_CHECKING:
    from aml100.trading.core import TradingCore


class Breaker:
    """The part of the core that watches the equity."""

    def __init__(self, core: TradingCore) -> None:
        self._core = core

    def mark(self, equity: Decimal, now_ms: int, *, is_close: bool) -> list[Effect]:
        """Fold the equity, at a close or between two: a row of the curve at a close, and whatever it trips.

        An equity that cannot be believed trips nothing (GUARANTEES B12).
        """
        core = self._core
        effects: list[Effect] = []
        if core.rules.risk.live_guards:
            believed, told = core.standing.believes(equity)
            effects += told
            if not believed:
                return effects
        until_ms = core.risk.state.breaker_until_ms
        if until_ms and now_ms >= until_ms and core.state.trading is TradingState.PAUSED:
            core.risk.resume(equity)
            effects += self._pause_over(now_ms)
        tripped = core.risk.mark(equity, now_ms)
        if is_close:
            effects.append(self._row(equity, now_ms))
        if tripped and core.state.trading is not TradingState.HALTED:
            effects += self._trip(tripped, now_ms)
        return effects

    def _pause_over(self, now_ms: int) -> list[Effect]:
        """Trading goes on, unless somebody paused it as well, or something is in doubt."""
        core = self._core
        if core.state.paused_by:
            reason = f"entries paused by {core.state.paused_by}"
            over = RiskChanged("circuit_breaker", "ok", f"pause over, {reason}", now_ms)
            return [over, core.set_state(TradingState.PAUSED, reason, now_ms)]
        over = RiskChanged("circuit_breaker", "ok", "pause over, trading resumes", now_ms)
        return [over, core.set_state(TradingState.TRADING, "", now_ms), *core.standing.settle(now_ms)]

    def mark_again(self, now_ms: int) -> EquityMarked:
        """The series has ended and the position with it: the last bar's equity is what is left after closing."""
        equity = self._core.ledger.equity()
        self._core.risk.mark(equity, now_ms)
        return self._row(equity, now_ms)

    def _row(self, equity: Decimal, now_ms: int) -> EquityMarked:
        risk = self._core.risk.state
        return EquityMarked(now_ms, equity, self._core.ledger.balance, risk.drawdown, risk.peak)

    def _trip(self, guard: str, now_ms: int) -> list[Effect]:
        core = self._core
        reason = f"drawdown {core.risk.state.drawdown:.2%} from the peak"
        effects: list[Effect] = [RiskChanged(guard, "tripped", reason, now_ms)]
        if guard == "hard_stop":
            effects.append(core.set_state(TradingState.HALTED, f"hard stop: {reason}", now_ms))
        else:
            core.risk.state.breaker_until_ms = now_ms + core.rules.risk.breaker_pause_ms
            effects.append(core.set_state(TradingState.PAUSED, f"circuit breaker: {reason}", now_ms))
        core.exits.want_all(ExitReason.RISK)
        return effects + core.entries.cancel_all()
