"""Answers about what is not traded here, as the venue writes them: the spot market and staking.

The engine trades perpetuals. Clients ask for these at their start (the SDK for `spotMeta`, ccxt for both), and a
unified account keeps its collateral there. The rules of `venue/wire` hold.
"""

from __future__ import annotations

from msgspec import Struct


class EvmContract(Struct, frozen=True):
    address: str
    evm_extra_wei_decimals: int


class SpotToken(Struct, frozen=True):
    """`index` is what pairs name it by; `tokenId` its identity on the chain."""

    name: str
    szDecimals: int
    weiDecimals: int
    index: int
    tokenId: str
    isCanonical: bool
    evmContract: EvmContract | None = None
    fullName: str | None = None
    deployerTradingFeeShare: str = "0.0"


class SpotPair(Struct, frozen=True):
    """`tokens` are the indices of base and quote; the asset id of orders is 10000 + `index`."""

    name: str
    tokens: tuple[int, int]
    index: int
    isCanonical: bool


class SpotMeta(Struct, frozen=True):
    universe: list[SpotPair]
    tokens: list[SpotToken]


class SpotContext(Struct, frozen=True):
    """State of one pair; without a book there is no middle."""

    coin: str
    markPx: str
    prevDayPx: str
    dayNtlVlm: str
    midPx: str | None = None
    dayBaseVlm: str = "0.0"
    circulatingSupply: str = "0.0"
    totalSupply: str = "0.0"


class Delegated(Struct, frozen=True):
    validator: str
    amount: str
    isUndelegate: bool


class Staked(Struct, frozen=True):
    amount: str


class StakingDelta(Struct, frozen=True):
    """One of them is set; other kinds are ignored."""

    delegate: Delegated | None = None
    cDeposit: Staked | None = None


class DelegatorEntry(Struct, frozen=True):
    """A row of `delegatorHistory`, newest first."""

    time: int
    hash: str
    delta: StakingDelta
