"""Builders' exchanges (HIP-3) beside the main one: which coin stands where, and under which asset id.

A coin named `dex:NAME` belongs to the exchange `dex`; the main one has the empty name. Asset ids of the k-th exchange
(the main one is the 0th) begin at 100000 + 10000 k, those of the main one at 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from aml100.domain.market import Instrument
from aml100.domain.units import Coin

MAIN: Final = ""
_FIRST: Final = 100_000
_STEP: Final = 10_000


def dex_of(coin: str) -> str:
    """The exchange a coin belongs to.

    >>> dex_of("xyz:XYZ100"), dex_of("BTC")
    ('xyz', '')
    """
    return coin.partition(":")[0] if ":" in coin else MAIN


def dex_names(coins: Iterable[str]) -> list[str]:
    """Every exchange these coins need, the main one first, the others as they appear."""
    return list(dict.fromkeys([MAIN, *(dex_of(coin) for coin in coins)]))


def asset_ids(coins: Sequence[Coin]) -> dict[Coin, int]:
    """The asset id of each coin, in the order in which a venue would list them.

    >>> asset_ids([Coin("BTC"), Coin("xyz:XYZ100"), Coin("ETH"), Coin("xyz:GOLD")])
    {'BTC': 0, 'xyz:XYZ100': 110000, 'ETH': 1, 'xyz:GOLD': 110001}
    """
    names = dex_names(coins)
    counts = dict.fromkeys(names, 0)
    ids: dict[Coin, int] = {}
    for coin in coins:
        dex = dex_of(coin)
        base = _FIRST + _STEP * names.index(dex) if dex else 0
        ids[coin] = base + counts[dex]
        counts[dex] += 1
    return ids


def listed(instruments: Iterable[Instrument], dex: str) -> list[Instrument]:
    """The instruments of one exchange by asset id."""
    return sorted((one for one in instruments if dex_of(one.coin) == dex), key=lambda one: one.asset_id)


def dexes_of(instruments: Iterable[Instrument]) -> list[str]:
    """The exchanges behind these instruments in the order of their asset ids, the main one first."""
    return dex_names(one.coin for one in sorted(instruments, key=lambda one: one.asset_id))
