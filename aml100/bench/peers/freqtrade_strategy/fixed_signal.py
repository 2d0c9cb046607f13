"""What freqtrade's back-test plays: the fixed signal of the folder named in the configuration, with stop and target."""

import numpy as np
from freqtrade.strategy import IStrategy


class Signal(IStrategy):
    """A buy opens, a sell closes (spot, so long only)."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    stoploss = -0.006
    minimal_roi = {"0": 0.018}  # noqa: RUF012 - freqtrade's interface
    startup_candle_count = 0
    can_short = False

    def populate_indicators(self, dataframe, metadata):
        dataframe["action"] = np.load(self.config["actions_file"])[: len(dataframe)]
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["action"] == 1, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["action"] == 2, "exit_long"] = 1
        return dataframe
