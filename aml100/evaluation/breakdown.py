"""Where a run's money came from and went: by exit reason, by regime and hour of the entry, by month, and by cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from aml100.domain.events import Decision, TradeClosed
from aml100.domain.units import HOUR_MS
from aml100.evaluation.metrics import Json, RunRecord

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of a run's trades. Money in USD; `fees` > 0 is paid, `funding` > 0 received, `pnl` is net of both."""

    trades: int
    wins: int
    pnl: float
    fees: float
    funding: float

    def to_json(self) -> dict[str, Json]:
        return {
            "trades": self.trades,
            "win_rate_pct": self.wins / self.trades * 100.0 if self.trades else None,
            "pnl_usd": self.pnl,
            "fees_usd": self.fees,
            "funding_usd": self.funding,
        }


def slices(trades: Iterable[TradeClosed], key: Callable[[TradeClosed], str]) -> dict[str, Slice]:
    """Trades gathered by a key, in the order of the keys."""
    groups: dict[str, list[TradeClosed]] = {}
    for trade in trades:
        groups.setdefault(key(trade), []).append(trade)
    return {
        name: Slice(
            trades=len(group),
            wins=sum(one.pnl > 0 for one in group),
            pnl=float(sum(one.pnl for one in group)),
            fees=float(sum(one.fees for one in group)),
            funding=float(sum(one.funding for one in group)),
        )
        for name, group in sorted(groups.items())
    }


def breakdown(trades: Sequence[TradeClosed], decisions: Iterable[Decision]) -> dict[str, dict[str, Slice]]:
    """By `exit_reason`, by `regime` of the bar that decided the entry, by `hour` (UTC) of the entry, by `side`."""
    wanted = {(trade.coin, trade.entry_ms) for trade in trades}
    regimes = {(d.coin, d.time_ms): str(d.regime) for d in decisions if (d.coin, d.time_ms) in wanted}
    return {
        "exit_reason": slices(trades, lambda one: str(one.exit_reason)),
        "regime": slices(trades, lambda one: regimes.get((one.coin, one.entry_ms), UNKNOWN)),
        "hour": slices(trades, lambda one: f"{one.entry_ms // HOUR_MS % 24:02d}"),
        "side": slices(trades, lambda one: "long" if one.side == "buy" else "short"),
    }


def breakdown_json(found: Mapping[str, Mapping[str, Slice]]) -> Json:
    return {kind: {name: one.to_json() for name, one in parts.items()} for kind, parts in found.items()}


def costs_json(record: RunRecord) -> Json:
    """What fees, funding and slippage took, in USD and in percent of the opening equity; a gain is negative."""
    fees = float(sum(fill.fee for fill in record.fills))
    gross = float(record.equity[-1]) - record.initial_equity + fees - record.funding_usd + record.slippage_usd
    taken = {"fees": fees, "funding": -record.funding_usd, "slippage": record.slippage_usd}
    return {
        "gross_usd": gross,
        "net_usd": float(record.equity[-1]) - record.initial_equity,
        "taken_usd": {**taken, "all": sum(taken.values())},
        "taken_pct": {
            name: amount / record.initial_equity * 100.0
            for name, amount in {**taken, "all": sum(taken.values())}.items()
        },
    }


@dataclass(frozen=True, slots=True)
class Month:
    """One UTC calendar month: the return over it, its worst drawdown and its trades (by exit)."""

    name: str
    return_frac: float
    drawdown_frac: float
    trades: int


def months(record: RunRecord) -> list[Month]:
    """Calendar months of a run, the first and last one as far as they go."""
    ends = record.open_ms + record.interval_ms - 1
    names = ends.astype("datetime64[ms]").astype("datetime64[M]")
    exits = np.array([trade.exit_ms - 1 for trade in record.trades], dtype=np.int64)
    closed = exits.astype("datetime64[ms]").astype("datetime64[M]")
    cuts = np.flatnonzero(names[1:] != names[:-1]) + 1
    found: list[Month] = []
    opening = record.initial_equity
    for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(names)], strict=True):
        curve = record.equity[start:stop]
        peak = np.maximum(np.maximum.accumulate(curve), opening)
        month = datetime.fromtimestamp(int(ends[start]) / 1000, UTC).strftime("%Y-%m")
        found.append(
            Month(
                month,
                float(curve[-1]) / opening - 1.0 if opening > 0.0 else 0.0,
                float(np.max(1.0 - curve / peak)) if opening > 0.0 else 0.0,
                int(np.sum(closed == names[start])),
            )
        )
        opening = float(curve[-1])
    return found
