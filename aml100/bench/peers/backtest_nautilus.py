"""nautilus_trader: the same bars through its event engine, entries with stop and target (bracket orders)."""

import sys
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money, Price
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy
from serve import serve

folder = Path(sys.argv[1])
bars = np.load(folder / "bars.npy")
actions = np.load(folder / "actions.npy").tolist()
frame = pd.DataFrame(bars[:, 1:], columns=["open", "high", "low", "close", "volume"])
frame.index = pd.to_datetime(bars[:, 0], unit="ms", utc=True)
instrument = TestInstrumentProvider.btcusdt_perp_binance()
bar_type = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")


class Signal(Strategy):
    """Opens with a bracket; the opposite side closes."""

    def __init__(self):
        super().__init__(StrategyConfig())
        self.row = 0

    def on_start(self):
        self.size = instrument.make_qty(Decimal("0.06"))
        self.subscribe_bars(bar_type)

    def on_bar(self, bar):
        action = actions[self.row]
        self.row += 1
        if action == 0:
            return
        held = self.portfolio.net_position(instrument.id)
        if held:
            if (held > 0) == (action == 2):
                self.cancel_all_orders(instrument.id)
                self.close_all_positions(instrument.id)
            return
        close, side = float(bar.close), 1 if action == 1 else -1
        self.submit_order_list(
            self.order_factory.bracket(
                instrument_id=instrument.id,
                order_side=OrderSide.BUY if action == 1 else OrderSide.SELL,
                quantity=self.size,
                sl_trigger_price=Price(close * (1 - 0.006 * side), instrument.price_precision),
                tp_price=Price(close * (1 + 0.018 * side), instrument.price_precision),
            )
        )


def measure():
    started = time.process_time()
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(Venue("BINANCE"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USDT)], USDT)
    engine.add_instrument(instrument)
    engine.add_data(BarDataWrangler(bar_type, instrument).process(frame))
    engine.add_strategy(Signal())
    engine.run()
    filled = sum(order.is_closed and order.filled_qty > 0 for order in engine.cache.orders())
    engine.dispose()
    assert filled > 50
    return len(frame) / (time.process_time() - started)


serve(measure)
