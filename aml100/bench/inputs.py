"""What ours and the peers both work on: made-up bars, drawn from a seed and labelled synthetic.

Files in a trial's folder: `bars.npy` float64 [T, 6] (open time in ms, open, high, low, close, volume) and
`actions.npy` int8 [T] of 0 hold, 1 buy, 2 sell.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from aml100.domain.units import Coin
from aml100.market.series import BarSeries

YEAR_BARS: Final = 525_600
FIRST_MS: Final = 1_704_067_200_000
MINUTE_MS: Final = 60_000
ORIGIN: Final = "synthetic:bench"

Actions = npt.NDArray[np.int8]


def made_up_bars(count: int, seed: int = 1, coin: str = "BTC", sd: float = 0.0006) -> BarSeries:
    """A random walk of `count` one-minute bars that starts at 60,000, every price on a whole dollar."""
    rng = np.random.default_rng(seed)
    close = 60_000.0 * np.exp(np.cumsum(rng.normal(0.0, sd, count)))
    opening = np.concatenate([[60_000.0], close[:-1]])
    reach = np.abs(rng.normal(0.0, sd, (2, count))) * close
    opening, close = np.round(opening), np.round(close)
    high = np.ceil(np.maximum(opening, close) + reach[0])
    low = np.floor(np.minimum(opening, close) - reach[1])
    open_ms = FIRST_MS + MINUTE_MS * np.arange(count, dtype=np.int64)
    volume = np.round(rng.gamma(2.0, 5.0, count) + 0.1, 3)
    return BarSeries(Coin(coin), MINUTE_MS, ORIGIN, open_ms, opening, high, low, close, volume)


def drawn_actions(count: int, seed: int = 2, busy: float = 0.05) -> Actions:
    """Signals of which a share `busy` is buy or sell, half and half."""
    draws = np.random.default_rng(seed).random(count)
    return np.where(draws < busy / 2, 1, np.where(draws < busy, 2, 0)).astype(np.int8)


def save_bars(folder: Path, series: BarSeries) -> None:
    """For the peers."""
    columns = (series.open_ms, series.open, series.high, series.low, series.close, series.volume)
    np.save(folder / "bars.npy", np.stack([np.asarray(column, np.float64) for column in columns], axis=1))


def save_actions(folder: Path, actions: Actions) -> None:
    """For the peers."""
    np.save(folder / "actions.npy", actions)


def per_second(count: int, work: Callable[[], object], least_s: float = 0.0) -> float:
    """`count` things done by one call of `work`, a second of processor time; called until `least_s` seconds are used.

    A call of some milliseconds that follows on somebody else's turn measures cold caches more than the work: there
    `least_s` is given, and the peers of that trial repeat as long (`serve.per_second`).

    For work that computes in one thread and waits for nothing: there it equals wall time on a quiet machine, and on a
    busy one it does not count the waiting for a core. The peers of such work count the same way.
    """
    started, calls, taken = time.process_time(), 0, 0.0
    while not calls or taken < least_s:
        work()
        calls += 1
        taken = time.process_time() - started
    return count * calls / taken
