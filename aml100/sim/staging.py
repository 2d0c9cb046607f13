"""From what the operator asked for to a market that a simulated venue can play, and to that venue on its own.

Nothing here knows an engine, so that `sim` starts without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from aml100.config.loading import Settings
from aml100.config.models import Params
from aml100.domain.clock import wall_ms
from aml100.domain.errors import UsageError
from aml100.domain.market import Instrument, instrument_for
from aml100.domain.units import Coin
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.dexes import asset_ids
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.faults import Fault
from aml100.sim.scenario import SyntheticProcess, Tape, process_names
from aml100.sim.server import SimServer, shifted_to_now

DEFAULT_WARMUP_BARS: Final = 1000
SYNTHETIC_HISTORY_BARS: Final = 5_000

# The simulated venues' own accounts: worthless keys, made from their names, never anybody's.
ACCOUNT_KEY: Final = "0x" + hashlib.sha256(b"aml100 embedded account").hexdigest()
AGENT_KEY: Final = "0x" + hashlib.sha256(b"aml100 embedded agent").hexdigest()


def warmup_for(rows: int, asked: int | None) -> int:
    """History before the first decision: as asked, else 1000, and by itself at most half of the bars.

    UsageError where what was asked leaves nothing to play.
    """
    if asked is None:
        return min(DEFAULT_WARMUP_BARS, rows // 2)
    if asked > rows // 2:
        raise UsageError(f"--warmup-bars {asked}: the data has {rows} bars; allowed: at most half, {rows // 2}")
    return asked


def exchange_rules(params: Params) -> ExchangeRules:
    """Costs of the simulated market, as configured."""
    costs = params.backtest
    return ExchangeRules(costs.taker_fee_frac, costs.maker_fee_frac, costs.slippage_frac)


def hourly_rate(params: Params) -> Decimal | None:
    """What simulated funding charges an hour where there is no history of it; None: nothing."""
    return params.backtest.funding_rate_hour_frac or None


def make_tape(series: Sequence[BarSeries], funding: Mapping[Coin, FundingSeries], params: Params) -> Tape:
    """Bars and rates on one time line."""
    return Tape(series, funding=funding, hourly_rate=hourly_rate(params))


def instruments_of(coins: Sequence[Coin]) -> dict[Coin, Instrument]:
    """Rules of coins without asking a venue, numbered as a simulated venue lists them."""
    return {coin: instrument_for(coin, number) for coin, number in asset_ids(coins).items()}


def synthetic_tape(
    process: str, coins: Sequence[Coin], start_ms: int, seed: int, params: Params, price: float | None = None
) -> Tape:
    """An endless market of a named process, each coin from a seed of its own; UsageError for an unknown name."""
    if process not in process_names():
        raise UsageError(f"--process {process}: not known; allowed: {', '.join(process_names())}")
    if len(set(coins)) < len(coins):
        raise UsageError(f"--coin {','.join(coins)}: a coin comes twice; allowed: each once")
    made = [
        SyntheticProcess(process, coin, params.trading.interval_ms, start_ms, seed + number, price)
        for number, coin in enumerate(coins)
    ]
    return Tape.endless(made, hourly_rate=hourly_rate(params))


def stand_alone_venue(
    settings: Settings,
    series: Sequence[BarSeries],
    *,
    funding: Mapping[Coin, FundingSeries],
    coins: Sequence[Coin],
    process: str,
    seed: int,
    speed: float,
    warmup_bars: int | None,
    host: str,
    port: int,
    key: str | None,
    deposit: Decimal | None,
    faults: Sequence[Fault] = (),
) -> tuple[SimServer, dict[str, str]]:
    """The simulated venue for any client, its market at wall time; answers it with its two worthless keys."""
    params, now_ms = settings.params, wall_ms()
    if series:
        played = make_tape(series, funding, params)
        history = warmup_for(max(len(one) for one in series), warmup_bars)
        tape = shifted_to_now(played, history, now_ms)
    else:
        history = SYNTHETIC_HISTORY_BARS if warmup_bars is None else warmup_bars
        interval_ms = params.trading.interval_ms
        start_ms = now_ms // interval_ms * interval_ms - history * interval_ms
        tape = synthetic_tape(process, coins or (Coin("BTC"),), start_ms, seed, params)
    account_key = key if key is None or key.startswith("0x") else f"0x{key}"
    keys = {"account_key": account_key or ACCOUNT_KEY, "agent_key": AGENT_KEY}
    server = SimServer(
        Exchange(list(instruments_of(tape.coins).values()), replace(exchange_rules(params), has_depth=True)),
        tape,
        account_key=keys["account_key"],
        agent_key=keys["agent_key"],
        deposit=params.backtest.initial_equity if deposit is None else deposit,
        host=host,
        port=port,
        embedded=False,
        speed=speed,
        warmup_bars=history,
        faults=faults,
        seed=seed,
    )
    return server, keys
