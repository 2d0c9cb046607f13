"""From confidence and equity to a size: the one place where money comes back from float64, rounded down to the lot."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from aml100.domain.market import Instrument
from aml100.domain.units import MIN_NOTIONAL_USD, decimal_from_float
from aml100.trading.rules import RiskLimits, TradingRules

GAP_OF_FULL_CONFIDENCE = 0.1


@dataclass(frozen=True, slots=True)
class Sized:
    """A size in coin, or why there is none."""

    size: Decimal
    refusal: str = ""


def q_gap(q: tuple[float, float, float]) -> float:
    """Distance between the two best Q values.

    >>> round(q_gap((0.1, 0.35, 0.2)), 12)
    0.15
    """
    _, second, best = sorted(q)
    return best - second


def confidence_multiplier(q: tuple[float, float, float] | None, enabled: bool) -> Decimal:
    """0.5 to 1.5 with the Q gap (SPEC section 6); 1 without Q values or when switched off.

    >>> confidence_multiplier((0.0, 0.05, 0.0), True), confidence_multiplier(None, True)
    (Decimal('1.0'), Decimal('1'))
    """
    if q is None or not enabled:
        return Decimal(1)
    return decimal_from_float(0.5 + min(1.0, q_gap(q) / GAP_OF_FULL_CONFIDENCE))


def drawdown_multiplier(limits: RiskLimits, drawdown: float) -> Decimal:
    """1 at the peak, falling evenly to the configured floor at the breaker's drawdown; 1 when switched off."""
    limit = limits.breaker_dd or limits.hard_stop_dd
    if not limits.enabled or limits.scaling_floor >= 1.0 or not limit:
        return Decimal(1)
    return decimal_from_float(round(1.0 - (1.0 - limits.scaling_floor) * min(drawdown / limit, 1.0), 6))


def entry_size(
    instrument: Instrument,
    rules: TradingRules,
    equity: Decimal,
    close: Decimal,
    q: tuple[float, float, float] | None,
    notional_already: Decimal,
    drawdown: float = 0.0,
) -> Sized:
    """Size of an entry decided at `close`: equity x size x leverage x confidence, bounded by risk, down to the lot.

    Args:
        equity: of the account, USD.
        close: of the decision bar.
        drawdown: of the account from its peak, a fraction; shrinks the size where that is configured.
        notional_already: what the other positions hold, USD; counts towards the leverage limit.
    """
    notional = equity * rules.position_size * rules.leverage * confidence_multiplier(q, rules.confidence_sizing)
    limits = rules.risk
    notional *= drawdown_multiplier(limits, drawdown)
    if limits.enabled:
        if limits.max_position_notional:
            notional = min(notional, limits.max_position_notional)
        if limits.max_leverage:
            notional = min(notional, equity * limits.max_leverage - notional_already)
    if notional <= 0:
        return Sized(Decimal(0), "no equity or leverage left")
    size = instrument.round_size(notional / close)
    if size * close < MIN_NOTIONAL_USD:
        return Sized(Decimal(0), f"{size * close:.2f} USD is under the venue's minimum of 10")
    return Sized(size)
