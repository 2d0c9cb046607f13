"""P7 and P9: back-tests of a signal fixed beforehand, with fees, slippage, funding, stop and target.

P7 is the compiled path over a year of minutes. P9 is the decision core itself, the code that trades live, with its
Decimal ledger, the matching engine and every guard, over a quarter of that year; its peers are engines of the same
kind. Both begin at columns of numbers and end at equity and trades, and so do the peers. The signal trades about
2,500 times a year.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aml100.bench.frame import Figure, Goal, Peer, Sample, Trial
from aml100.bench.inputs import YEAR_BARS, drawn_actions, made_up_bars, per_second, save_actions, save_bars

BUSY = 0.01
CORE_BARS = YEAR_BARS // 4
CORE_WARMUP = 1_000
OUT_OF_REACH = {
    "AML100_RISK__CIRCUIT_BREAKER_DD_PCT": "98",
    "AML100_RISK__HARD_STOP_DD_PCT": "99",
    "AML100_RISK__MAX_DD_PCT": "99.5",
}
"""The random signal loses; the peers trade on, so the guards of the drawdown look but do not end the trading."""


@contextmanager
def compiled(folder: Path) -> Iterator[Sample]:
    """Bars a second of `backtest_signal`."""
    from aml100.evaluation.fixed_signal import backtest_signal
    from aml100.evaluation.kernel import KernelRules, Market

    series, actions = made_up_bars(YEAR_BARS), drawn_actions(YEAR_BARS, busy=BUSY)
    save_bars(folder, series)
    save_actions(folder, actions)
    market, rules = Market.from_series(series, constant_rate=0.0000125), KernelRules()
    backtest_signal(market, rules, actions)
    yield lambda: per_second(YEAR_BARS, lambda: backtest_signal(market, rules, actions), least_s=0.3)


@contextmanager
def core(folder: Path) -> Iterator[Sample]:
    """Bars a second of a back-test through the decision core."""
    from aml100.config.loading import load_settings
    from aml100.domain.orders import Action
    from aml100.trading.policies import Scheduled
    from aml100.wiring.backtests import PolicyChoice, build_backtest

    series, actions = made_up_bars(CORE_BARS), drawn_actions(CORE_BARS, busy=BUSY)
    save_bars(folder, series)
    save_actions(folder, actions)
    settings = load_settings(None, OUT_OF_REACH)
    wanted = {
        int(open_ms): Action(int(action)) for open_ms, action in zip(series.open_ms, actions, strict=True) if action
    }
    policy = PolicyChoice("scheduled", lambda coin: Scheduled("scheduled", wanted))

    def work() -> None:
        result = build_backtest(settings, [series], {}, policy, warmup_bars=CORE_WARMUP).run()
        assert len(result.trades) > 100

    yield lambda: per_second(CORE_BARS - CORE_WARMUP, work)


TRIALS = (
    Trial(
        "P7",
        compiled,
        figures=(
            Figure(
                "back-test of a fixed signal, compiled",
                "bars/s",
                (Goal(20, "vectorbt"), Goal(10, "raptorbt"), Goal(1, "backtesting.py")),
            ),
        ),
        peers=(
            Peer("vectorbt", "backtest_vectorbt.py", "vectorbt"),
            Peer("raptorbt", "backtest_raptorbt.py", "raptorbt"),
            Peer("backtesting.py", "backtest_backtesting.py", "backtesting"),
        ),
        repetitions=7,
    ),
    Trial(
        "P9",
        core,
        figures=(
            Figure("back-test through the decision core", "bars/s", (Goal(1, "nautilus_trader"), Goal(1, "freqtrade"))),
        ),
        peers=(
            Peer("nautilus_trader", "backtest_nautilus.py", "nautilus"),
            Peer("freqtrade", "backtest_freqtrade.py", "freqtrade"),
        ),
        repetitions=3,
    ),
)
