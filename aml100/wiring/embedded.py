"""An engine with its simulated venue, both in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aml100.control.place import only_engine
from aml100.domain.clock import ManualClock
from aml100.domain.market import Instrument
from aml100.domain.units import Coin
from aml100.engine.connecting import dexes_of, stream_for
from aml100.engine.funding import FundingWatch, TapeFunding
from aml100.engine.listener import Listeners
from aml100.engine.operator import OperatorDesk
from aml100.engine.past import tape_past
from aml100.engine.runtime import Engine
from aml100.sim.exchange import Exchange
from aml100.sim.scenario import Tape
from aml100.sim.server import SimServer
from aml100.sim.staging import (
    ACCOUNT_KEY,
    AGENT_KEY,
    SYNTHETIC_HISTORY_BARS,
    exchange_rules,
    instruments_of,
    make_tape,
    synthetic_tape,
    warmup_for,
)
from aml100.sim.store import VenueStore
from aml100.storage.copying import venue_file
from aml100.storage.database import Database
from aml100.venue.budget import ActionBudget, IpBudget
from aml100.venue.rest import VenueRest
from aml100.venue.session import Subscription, account_subscriptions, market_subscriptions
from aml100.venue.signing import Signer
from aml100.wiring.backtests import SIMULATED_BAND
from aml100.wiring.engines import Market, RunPlan, assemble

SYNTHETIC_TRADING_STARTS_MS: Final = 1_735_689_600_000  # 2025-01-01 00:00 UTC, so that windows begin with the trading
SYNTHETIC_PRICE: Final = 60_000.0


def embedded_tape(plan: RunPlan) -> tuple[Tape, int]:
    """The market that the embedded venue plays, and how much of it is history."""
    params = plan.settings.params
    if plan.series:
        rows = max(len(one) for one in plan.series)
        return make_tape(plan.series, plan.funding, params), warmup_for(rows, plan.warmup_bars)
    warmup_bars = SYNTHETIC_HISTORY_BARS if plan.warmup_bars is None else plan.warmup_bars
    start_ms = SYNTHETIC_TRADING_STARTS_MS - warmup_bars * params.trading.interval_ms
    coins = plan.coins or (Coin("BTC"),)
    return synthetic_tape(plan.process, coins, start_ms, plan.seed, params, SYNTHETIC_PRICE), warmup_bars


@asynccontextmanager
async def embedded_engine(
    plan: RunPlan, listeners: Listeners, clock: ManualClock
) -> AsyncIterator[tuple[Engine, OperatorDesk]]:
    """An engine with its simulated venue, both on loopback in this process; the orders are signed and sent by HTTP."""
    tape, warmup_bars = embedded_tape(plan)
    instruments = instruments_of(tape.coins)
    plan.state.parent.mkdir(parents=True, exist_ok=True)
    server = _embedded_server(plan, tape, warmup_bars, instruments)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(only_engine(plan.state))
        account = server.account
        database = stack.enter_context(Database.open(plan.state, "NORMAL", "sim", account, "venue"))
        await stack.enter_async_context(server)
        clock.set(server.pace.market_ms())
        rest = await stack.enter_async_context(_embedded_client(server, tape, clock))
        streams = [s for coin in tape.coins for s in market_subscriptions(coin, tape.interval_ms)]
        streams += [*account_subscriptions(account), Subscription("simStep")]
        stream = stream_for(server.ws_url, streams, clock, tape.origin, plan.settings.venue)
        market = Market(
            venue="sim",
            execution="venue",
            mode="SIM",
            network="sim",
            instruments=instruments,
            interval_ms=tape.interval_ms,
            origin=tape.origin,
            speed=plan.speed,
            account=account,
            in_step=True,
            warmup_bars=warmup_bars,
            order_band=SIMULATED_BAND,
            lenient_first=True,
            past=tape_past(tape),
        )
        engine, desk = assemble(plan, market, database, rest, stream, clock, listeners)
        engine.deposit = plan.settings.params.backtest.initial_equity
        engine.funding = FundingWatch(TapeFunding(tape), engine.core)
        yield engine, desk


def _embedded_server(plan: RunPlan, tape: Tape, warmup_bars: int, instruments: Mapping[Coin, Instrument]) -> SimServer:
    """The venue with what it remembers beside the state file; nothing is opened yet."""
    params = plan.settings.params
    return SimServer(
        Exchange(list(instruments.values()), exchange_rules(params)),
        tape,
        account_key=ACCOUNT_KEY,
        agent_key=AGENT_KEY,
        deposit=params.backtest.initial_equity,
        speed=plan.speed,
        warmup_bars=warmup_bars,
        store=VenueStore(venue_file(plan.state), f"{tape.identity}|seed {plan.seed}|warm-up {warmup_bars}"),
        faults=plan.faults,
        seed=plan.seed,
    )


def _embedded_client(server: SimServer, tape: Tape, clock: ManualClock) -> VenueRest:
    """A client whom that venue sets no limits; orders have no expiry, for it waits for us."""
    return VenueRest(
        server.rest_url,
        "other",
        Signer(AGENT_KEY, "other"),
        server.account,
        clock,
        origin=tape.origin,
        ip_budget=IpBudget(10**9, 0),
        action_budget=ActionBudget(10**9),
        dexes=dexes_of(tape.coins),
        expires_after_ms=None,
    )
