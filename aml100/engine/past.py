"""Bars that came before: what trainings learn from after a restart, and a model that is seated then must have seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from aml100.domain.errors import DataFileError
from aml100.domain.events import SettledFunding
from aml100.domain.units import Coin
from aml100.market.series import BarSeries
from aml100.sim.scenario import Tape
from aml100.storage.history import HistoryStore

Past: TypeAlias = Callable[[Coin, int], tuple[BarSeries, Sequence[SettledFunding]] | None]
"""A coin's bars that end at the given time or before, and what had been settled of its funding; None: none are kept."""


def tape_past(tape: Tape) -> Past:
    """What the embedded venue has shown."""

    def shown(coin: Coin, until_ms: int) -> tuple[BarSeries, Sequence[SettledFunding]]:
        if tape.is_endless:
            tape.has((until_ms - tape.time_of(0)) // tape.interval_ms)
        series = tape.series_of(coin)
        rows = int(np.searchsorted(series.open_ms, until_ms - series.interval_ms, side="right"))
        return series.rows(0, rows), [one for one in tape.settlements(coin) if one.time_ms <= until_ms]

    return shown


def stored_past(folder: Path, network: str, interval_ms: int) -> Past:
    """What the history store holds of a real market."""
    store = HistoryStore(folder, network)

    def kept(coin: Coin, until_ms: int) -> tuple[BarSeries, Sequence[SettledFunding]] | None:
        try:
            series = store.load(coin, interval_ms, 0, until_ms)
        except DataFileError:
            return None
        try:
            settled = [one for one in store.load_funding(coin).settlements() if one.time_ms <= until_ms]
        except DataFileError:
            settled = []
        return series, settled

    return kept
