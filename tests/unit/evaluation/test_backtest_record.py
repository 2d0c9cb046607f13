"""What a run hands to the figures."""

from __future__ import annotations

from decimal import Decimal

from aml100.config.loading import load_settings
from aml100.domain.orders import Action
from aml100.domain.units import MINUTE_MS, Coin
from aml100.evaluation.metrics import compute_metrics
from aml100.sim.scenario import synthetic_series
from aml100.trading.policies import Scheduled
from aml100.wiring.backtests import PolicyChoice, build_backtest

START = 1_700_006_400_000


def test_exposure_counts_bars_with_a_position_in_any_coin() -> None:
    series = [synthetic_series("random-walk", Coin(name), MINUTE_MS, START, 400, 1) for name in ("BTC", "ETH")]
    times = series[1].open_ms.tolist()

    def policy(coin: Coin) -> Scheduled:
        return Scheduled("two", {times[350]: Action.BUY, times[360]: Action.SELL} if coin == "ETH" else {})

    run = build_backtest(load_settings(None, {}), series, {}, PolicyChoice("two", policy), warmup_bars=100)
    result = run.run()
    metrics = compute_metrics(run.record("two", None, "made", None))
    (trade,) = result.trades
    assert (trade.coin, trade.bars_held) == ("ETH", 10)
    assert all(row.position == 0 for row in result.equity)
    assert metrics.exposure_frac == 10 / 400
    assert run.result.deposits == Decimal(10_000)
