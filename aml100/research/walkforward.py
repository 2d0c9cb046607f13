"""Walk-forward: train on one window, test on the next, move on; only what was never trained on is joined.

Windows follow each other in time. Between a training and its test lies an embargo, so that no feature of the test and
no outcome of the training reaches over (GUARANTEES E9); each fold's model begins from nothing. A test is warmed up on
the bars before it and starts from a fresh account; `joined` compounds the tests' returns as one account would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec
import numpy as np

from aml100.domain.errors import UsageError
from aml100.domain.events import TradeClosed
from aml100.domain.units import DAY_MS, decimal_from_float, iso_utc
from aml100.evaluation.metrics import FileSpan, RunRecord
from aml100.market.features import warmup_bars
from aml100.market.series import BarSeries


@dataclass(frozen=True, slots=True)
class Span:
    """[from_ms, to_ms) in market time."""

    from_ms: int
    to_ms: int

    def to_json(self) -> list[int]:
        return [self.from_ms, self.to_ms]


@dataclass(frozen=True, slots=True)
class Fold:
    """One step: learn on `train`, be judged on `test`. Numbers count from 1."""

    number: int
    train: Span
    test: Span

    @property
    def name(self) -> str:
        """The folder of its artefacts."""
        return f"fold-{self.number:02d}"


def default_embargo(interval_ms: int, window_bars: int, horizon_bars: int) -> int:
    """Bars between training and test: the longest look-back and the longest outcome, at least a day (E9).

    Args:
        window_bars: complete rows that a policy sees before it decides.
        horizon_bars: how long an outcome may reach ahead.
    """
    return max(warmup_bars(interval_ms) + window_bars + horizon_bars, -(-DAY_MS // interval_ms))


def plan_folds(span: Span, interval_ms: int, train_ms: int, test_ms: int, embargo_bars: int) -> tuple[Fold, ...]:
    """Folds over a span, each a test further; a last test that would be cut short is left out.

    Raises:
        UsageError: not one fold fits.
    """
    embargo_ms = embargo_bars * interval_ms
    folds: list[Fold] = []
    start = span.from_ms
    while start + train_ms + embargo_ms + test_ms <= span.to_ms:
        test_from = start + train_ms + embargo_ms
        folds.append(
            Fold(len(folds) + 1, Span(start, start + train_ms), Span(test_from, test_from + test_ms)),
        )
        start += test_ms
    if not folds:
        needed = (train_ms + embargo_ms + test_ms) / DAY_MS
        raise UsageError(
            f"--train-days, --test-days: the bars span {(span.to_ms - span.from_ms) / DAY_MS:.1f} days "
            f"({iso_utc(span.from_ms)} to {iso_utc(span.to_ms)}), one fold needs {needed:.1f}; allowed: shorter ones"
        )
    return tuple(folds)


def common_span(series: Sequence[BarSeries]) -> Span:
    """The time that all coins have bars of; UsageError where there is none."""
    first = max(int(one.open_ms[0]) for one in series)
    last = min(int(one.open_ms[-1]) + one.interval_ms for one in series)
    if first >= last:
        raise UsageError("--data: the files have no time in common; allowed: bars of overlapping spans")
    return Span(first, last)


def cut(series: BarSeries, span: Span, bars_before: int = 0) -> BarSeries:
    """The bars that open in a span, and up to so many before it."""
    start, stop = np.searchsorted(series.open_ms, [span.from_ms, span.to_ms])
    return series.rows(max(0, int(start) - bars_before), int(stop))


def trimmed(record: RunRecord, span: Span) -> RunRecord:
    """A run without its warm-up: only the bars that open in the span, which are then the whole file."""
    start, stop = np.searchsorted(record.open_ms, [span.from_ms, span.to_ms])
    opens = record.open_ms[start:stop]
    return replace(
        record,
        open_ms=opens,
        equity=record.equity[start:stop],
        exposed=record.exposed[start:stop],
        file=FileSpan(int(opens[0]), int(opens[-1]) + record.interval_ms, len(opens)),
    )


def joined(records: Sequence[RunRecord]) -> RunRecord:
    """The tests one after the other as one account: each begins with what the one before left.

    Money of trades, fills and costs is scaled by what the account had grown to.
    """
    first = records[0]
    growth = 1.0
    equity, trades, fills = [], [], []
    funding = slippage = 0.0
    for one in records:
        scale = growth * first.initial_equity / one.initial_equity
        exact = decimal_from_float(scale)
        equity.append(one.equity * scale)
        trades += [_scaled(trade, exact) for trade in one.trades]
        fills += [replace(fill, size=fill.size * exact, fee=fill.fee * exact) for fill in one.fills]
        funding += one.funding_usd * scale
        slippage += one.slippage_usd * scale
        growth *= float(one.equity[-1]) / one.initial_equity
    opens = np.concatenate([one.open_ms for one in records])
    actions = np.sum([one.actions for one in records], axis=0)
    return replace(
        first,
        open_ms=opens,
        equity=np.concatenate(equity),
        exposed=np.concatenate([one.exposed for one in records]),
        trades=trades,
        fills=fills,
        actions=(int(actions[0]), int(actions[1]), int(actions[2])),
        funding_usd=funding,
        slippage_usd=slippage,
        model=None,
        file=FileSpan(int(opens[0]), int(opens[-1]) + first.interval_ms, len(opens)),
    )


def _scaled(trade: TradeClosed, scale: Decimal) -> TradeClosed:
    return msgspec.structs.replace(
        trade,
        size=trade.size * scale,
        pnl=trade.pnl * scale,
        fees=trade.fees * scale,
        funding=trade.funding * scale,
    )
