"""The indicators of our feature set that TA-Lib has: name, its input columns and its parameters."""

INDICATORS = (
    *(("ROCP", "c", {"timeperiod": n}) for n in (1, 5, 15, 60)),
    *(("STDDEV", "c", {"timeperiod": n}) for n in (20, 60)),
    ("ATR", "hlc", {"timeperiod": 14}),
    ("SMA", "v", {"timeperiod": 20}),
    *(("SMA", "c", {"timeperiod": n}) for n in (7, 20, 21, 50)),
    *(("SMA", "c", {"timeperiod": n}) for n in (15, 40)),  # the 5-minute means, 3 and 8 bars long
    *(("SMA", "c", {"timeperiod": n}) for n in (45, 120)),  # the 15-minute means
    ("SMA", "c", {"timeperiod": 180}),  # the hourly mean
    ("MAX", "h", {"timeperiod": 60}),
    ("MIN", "l", {"timeperiod": 60}),
    ("MAX", "h", {"timeperiod": 180}),
    ("MIN", "l", {"timeperiod": 180}),
    ("RSI", "c", {"timeperiod": 14}),
    ("MACD", "c", {"fastperiod": 12, "slowperiod": 26, "signalperiod": 9}),
    ("BBANDS", "c", {"timeperiod": 20, "nbdevup": 1.0, "nbdevdn": 1.0}),
)
LOOK_BACK = 200
"""Rows that a recomputation of the last bar needs."""
