"""What trainings learn from: the closed bars of every coin and what was settled of their funding.

Written for a training as files, so that the trainer's process reads what nobody changes any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aml100.domain.events import SettledFunding
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.engine.barlog import BarLog, funding_series, write_funding, write_series
from aml100.engine.past import Past
from aml100.market.features import compute_features
from aml100.trading.core import TradingCore
from aml100.trading.observer import REMEMBERED_ROWS


@dataclass(frozen=True, slots=True)
class Written:
    """Files of one coin; no `funding` where nothing is known of it."""

    coin: Coin
    bars: Path
    funding: Path | None


class Material:
    """Bars and settlements, oldest first, as the engine comes to know them."""

    def __init__(self, coins: Iterable[Coin], interval_ms: int, origin: str) -> None:
        self._bars = {coin: BarLog(coin, interval_ms, origin) for coin in coins}
        self._funding: dict[Coin, list[SettledFunding]] = {coin: [] for coin in self._bars}

    @property
    def fewest(self) -> int:
        """Bars of the coin that has fewest."""
        return min(len(kept) for kept in self._bars.values())

    @property
    def span_ms(self) -> tuple[int, int]:
        """From when to when there are bars of every coin."""
        kept = self._bars.values()
        return max(one.first_ms for one in kept), min(one.end_ms for one in kept)

    def on_bars(self, bars: Sequence[Bar]) -> None:
        """Closed bars."""
        for bar in bars:
            self._bars[bar.coin].add(bar)

    def on_funding(self, settled: SettledFunding) -> None:
        """A settled rate: a feature of the next training, and what its positions pay."""
        self._funding[settled.coin].append(settled)

    def recall(self, past: Past, core: TradingCore) -> None:
        """After a restart, what there was up to where the core stands; a core without rows is given them too."""
        for coin, kept in self._bars.items():
            until_ms = core.coin(coin).last_end_ms
            found = past(coin, until_ms) if until_ms else None
            if found is None or not len(found[0]):
                continue
            series, settled = found
            kept.add_series(series)
            self._funding[coin] = list(settled)
            if core.recent_rows(coin):
                continue
            start = max(series.segments()[-1][0], len(series) - REMEMBERED_ROWS)
            frame = compute_features(series.rows(start, len(series)), funding_series(coin, settled))
            core.remember(coin, list(frame.values[frame.valid]))

    def files(self, folder: Path) -> tuple[Written, ...]:
        """Where `write` puts them; numbered, since not every coin's name is a file's."""
        return tuple(
            Written(coin, folder / f"{number}.parquet", folder / f"funding-{number}.parquet" if settled else None)
            for number, (coin, settled) in enumerate(self._funding.items())
        )

    async def write(self, folder: Path) -> tuple[Written, ...]:
        """All of it as it is now, in a thread."""
        written = self.files(folder)
        series = [kept.series() for kept in self._bars.values()]
        rates = [list(settled) for settled in self._funding.values()]
        await asyncio.to_thread(write_series, folder, series)
        await asyncio.to_thread(write_funding, folder, rates)
        return written


def by_coin(written: Sequence[Written]) -> tuple[dict[str, str], dict[str, str]]:
    """Paths of bars and of funding, by the coin's name."""
    bars = {str(one.coin): str(one.bars) for one in written}
    return bars, {str(one.coin): str(one.funding) for one in written if one.funding is not None}
