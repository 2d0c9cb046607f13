"""freqtrade: its back-test over the same bars, spot and long only, fees, stop and target; no exchange is asked."""

import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from freqtrade.data.history import get_timerange
from freqtrade.enums import CandleType, RunMode
from freqtrade.exchange import Binance
from freqtrade.optimize.backtesting import Backtesting
from serve import serve

logging.disable(logging.WARNING)
folder = Path(sys.argv[1])
bars = np.load(folder / "bars.npy")
frame = pd.DataFrame(bars[:, 1:], columns=["open", "high", "low", "close", "volume"])
frame.insert(0, "date", pd.to_datetime(bars[:, 0], unit="ms", utc=True))
PAIR = "BTC/USDT"
home = Path(tempfile.mkdtemp())
config = {
    "runmode": RunMode.BACKTEST,
    "dry_run": True,
    "dry_run_wallet": 10_000,
    "stake_currency": "USDT",
    "stake_amount": 4_000,
    "max_open_trades": 1,
    "tradable_balance_ratio": 0.99,
    "fee": 0.00045,
    "timeframe": "1m",
    "candle_type_def": CandleType.SPOT,
    "trading_mode": "spot",
    "margin_mode": "",
    "entry_pricing": {"price_side": "other", "use_order_book": False},
    "exit_pricing": {"price_side": "other", "use_order_book": False},
    "order_types": {"entry": "market", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False},
    "unfilledtimeout": {"entry": 10, "exit": 10, "unit": "minutes"},
    "exchange": {"name": "binance", "key": "", "secret": "", "pair_whitelist": [PAIR], "pair_blacklist": []},
    "pairlists": [{"method": "StaticPairList"}],
    "strategy": "Signal",
    "strategy_path": str(Path(__file__).parent / "freqtrade_strategy"),
    "actions_file": str(folder / "actions.npy"),
    "user_data_dir": home,
    "datadir": home,
    "exportfilename": home,
    "export": "none",
    "dataformat_ohlcv": "feather",
    "dataformat_trades": "feather",
}


class Offline(Binance):
    """Knows one market and asks nobody."""

    def reload_markets(self, force=False, *, load_leverage_tiers=True):
        self._markets = {
            PAIR: {
                "id": "BTCUSDT",
                "symbol": PAIR,
                "base": "BTC",
                "quote": "USDT",
                "active": True,
                "spot": True,
                "type": "spot",
                "contract": False,
                "precision": {"price": 0.01, "amount": 0.00001},
                "limits": {"amount": {"min": 0.00001, "max": None}, "cost": {"min": 5, "max": None}},
                "taker": 0.00045,
                "maker": 0.00045,
                "info": {},
            }
        }
        self._api.markets = self._api_async.markets = self._markets

    def validate_config(self, config):
        pass


exchange = Offline(config, validate=True)
backtesting = Backtesting(config, exchange)
strategy = backtesting.strategylist[0]


def measure():
    started = time.process_time()
    backtesting._set_strategy(strategy)
    processed = strategy.advise_all_indicators({PAIR: frame.copy()})
    start, end = get_timerange(processed)
    results = backtesting.backtest(processed=processed, start_date=start, end_date=end)["results"]
    taken = time.process_time() - started
    assert len(results) > 50
    return len(frame) / taken


serve(measure)
