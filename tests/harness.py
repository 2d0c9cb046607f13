"""Small hand-made markets and the shortest way to play a core over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from aml100.config.models import Params
from aml100.domain.market import Instrument
from aml100.domain.orders import Action
from aml100.domain.units import MINUTE_MS, Coin
from aml100.evaluation.backtest import Backtest, BacktestResult
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.scenario import Tape
from aml100.trading.core import TradingCore
from aml100.trading.policies import Scheduled
from aml100.trading.rules import TradingRules

BTC = Coin("BTC")
INSTRUMENT = Instrument(BTC, 0, 5, 40, 3)  # finer prices than the real one, so that levels are easy to work out
START_MS = 1_700_006_400_000  # 2023-11-15 00:00 UTC
QUIET_BARS = 240  # enough for every feature at one minute


def quiet(price: float = 100.0, bars: int = QUIET_BARS) -> list[tuple[float, float, float, float]]:
    """Bars that do not move: (open, high, low, close)."""
    return [(price, price, price, price)] * bars


def series_of(
    rows: Sequence[tuple[float, float, float, float]],
    *,
    coin: Coin = BTC,
    start_ms: int = START_MS,
    skip: Mapping[int, int] | None = None,
) -> BarSeries:
    """Minute bars from (open, high, low, close); `skip` leaves out so many minutes before a row."""
    table = np.array(rows, dtype=np.float64)
    steps = np.full(len(rows), MINUTE_MS, dtype=np.int64)
    steps[0] = 0
    for row, minutes in (skip or {}).items():
        steps[row] += minutes * MINUTE_MS
    times = start_ms + np.cumsum(steps)
    volume = np.ones(len(rows))
    return BarSeries(coin, MINUTE_MS, "made:test", times, table[:, 0], table[:, 1], table[:, 2], table[:, 3], volume)


def restless(
    times: Sequence[int] | npt.NDArray[np.int64], seed: int, *, jump: float = 0.0, price: float = 30_000.0
) -> BarSeries:
    """Minutes that open at `times` with moves large enough for entries, stops and targets.

    `jump`: standard deviation of an open from the close before it, a fraction.
    """
    n, rng = len(times), np.random.default_rng(seed)
    closes = price * np.exp(np.cumsum(rng.standard_t(4, n) * 0.0012))
    opens = np.concatenate([[price], closes[:-1]])
    if jump:
        opens *= 1 + rng.normal(0, jump, n)
    reach = np.abs(rng.normal(0, 0.0006, (2, n)))
    high = (np.maximum(opens, closes) * (1 + reach[0])).round(1) + 0.1
    low = (np.minimum(opens, closes) * (1 - reach[1])).round(1) - 0.1
    columns = (opens.round(1), high, low, closes.round(1), rng.gamma(2.0, 5.0, n))
    return BarSeries(BTC, MINUTE_MS, "made:restless", np.asarray(times, dtype=np.int64), *columns)


def write_bars(path: Path, series: BarSeries) -> Path:
    """A Parquet file as `--data` takes it."""
    names = ("open", "high", "low", "close", "volume")
    pq.write_table(pa.table({"time": series.open_ms, **{name: getattr(series, name) for name in names}}), path)
    return path


def rules_for_tests(**changes: object) -> TradingRules:
    """The default rules with a short window, so that decisions begin when the features do."""
    rules = TradingRules.from_params(
        Params(), interval_ms=MINUTE_MS, warmup_bars=0, live_guards=False, order_band=Decimal("0.5")
    )
    return replace(rules, window_bars=1, confidence_sizing=False, **changes)  # type: ignore[arg-type]


def play(
    series: BarSeries,
    actions: Mapping[int, Action],
    rules: TradingRules | None = None,
    *,
    instrument: Instrument | None = None,
    funding: FundingSeries | None = None,
    hourly_rate: Decimal | None = None,
    deposit: Decimal = Decimal(10_000),
) -> tuple[BacktestResult, TradingCore]:
    """Back-test actions given by row number."""
    rules = rules or rules_for_tests()
    one = instrument or INSTRUMENT
    by_time = {int(series.open_ms[row]): action for row, action in actions.items()}
    core = TradingCore({series.coin: one}, rules, lambda coin: Scheduled("scheduled", by_time), salt="test")
    exchange = Exchange([one], ExchangeRules(Decimal("0.00045"), Decimal("0.00015"), Decimal("0.0001")))
    rates = {} if funding is None else {series.coin: funding}
    tape = Tape([series], funding=rates, hourly_rate=hourly_rate)
    result = Backtest(core, exchange, tape, warmup_bars=0, deposit=deposit).run()
    return result, core
