"""An engine with everything around it, and how it is put on a venue that nobody waits for; `embedded` has the other."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aml100.config.loading import Settings
from aml100.config.models import Params
from aml100.control.place import only_engine, socket_path
from aml100.domain.clock import Clock, wall_ms
from aml100.domain.market import Instrument
from aml100.domain.units import HOUR_MS, Coin
from aml100.engine.admission import load_champion
from aml100.engine.archive import NETWORKS, Archive
from aml100.engine.connecting import (
    access_for,
    check_signer,
    client_for,
    dexes_of,
    left_behind,
    listed,
    listed_of,
    place_of,
    reach,
    stream_for,
)
from aml100.engine.cycle import CycleKeeper
from aml100.engine.desk import DeskOptions, TrainingDesk
from aml100.engine.feeds import FeedBoard
from aml100.engine.funding import FundingWatch, VenueFunding
from aml100.engine.listener import Listeners
from aml100.engine.live import LiveKeeper
from aml100.engine.operator import OperatorDesk
from aml100.engine.pairing import ShadowRules
from aml100.engine.past import Past, stored_past
from aml100.engine.recording import InputLog, RecordedCore
from aml100.engine.runtime import Engine, EngineOptions
from aml100.engine.telemetry import Telemetry
from aml100.engine.watch import Watch
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.faults import Fault
from aml100.sim.paper import PaperAccount
from aml100.sim.staging import hourly_rate
from aml100.storage.database import Database
from aml100.storage.entries import Run
from aml100.storage.history import HistoryStore
from aml100.storage.store import Synchronous
from aml100.storage.stores import store_of
from aml100.trading.core import TradingCore
from aml100.trading.rules import TradingRules
from aml100.venue.clock import VenueClock
from aml100.venue.rest import VenueRest
from aml100.venue.session import Subscription, account_subscriptions, market_subscriptions
from aml100.venue.stream import VenueStream
from aml100.wiring.backtests import PolicyChoice, choose_baseline, feature_schema, kernel_rules, training_settings

if TYPE_CHECKING:
    from aml100.learning.bundle import Bundle


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What `run` was asked for. On the embedded venue, without `series`, the named synthetic process plays.

    `venue` is sim, testnet, mainnet or url, the last with its two addresses.
    """

    settings: Settings
    state: Path
    coins: tuple[Coin, ...]
    series: tuple[BarSeries, ...]
    funding: Mapping[Coin, FundingSeries]
    process: str
    seed: int
    speed: float
    warmup_bars: int | None
    policy: str
    bundle: Bundle | None
    duration_s: float | None
    max_cycles: int | None
    faults: tuple[Fault, ...] = ()
    venue: str = "sim"
    rest_url: str | None = None
    ws_url: str | None = None
    execution: Literal["paper", "venue"] = "venue"
    armed: bool = False
    override_phase: str | None = None
    asked: Mapping[str, object] = field(default_factory=dict)
    """The options as they were given, for whoever wants to join: plain values by name."""


@dataclass(frozen=True, slots=True)
class Market:
    """The market an engine is put into: whose it is called, its coins and their rules, and how it moves.

    `network` is whose market it is, for what cycles are worth; `in_step`: the venue waits for the engine and sets its
    clock.
    """

    venue: str
    execution: str
    mode: str
    network: str
    instruments: dict[Coin, Instrument]
    interval_ms: int
    origin: str
    speed: float
    account: str
    in_step: bool
    warmup_bars: int
    order_band: Decimal
    lenient_first: bool
    past: Past | None = None
    closing_only: frozenset[Coin] = frozenset()
    """Those of the coins that were not asked for, but an earlier run left something in."""

    @property
    def coins(self) -> tuple[Coin, ...]:
        return tuple(self.instruments)


@asynccontextmanager
async def live_engine(
    plan: RunPlan, listeners: Listeners, clock: VenueClock, environ: Mapping[str, str]
) -> AsyncIterator[tuple[Engine, OperatorDesk]]:
    """An engine on a venue that nobody waits for; on paper its orders never leave this process."""
    params, is_paper = plan.settings.params, plan.execution == "paper"
    place = place_of(plan.venue, plan.rest_url, plan.ws_url, plan.settings.venue)
    access = access_for(
        place, plan.execution, plan.settings, plan.state, environ, armed=plan.armed, override=plan.override_phase
    )
    coins = plan.coins or (Coin("BTC"),)
    plan.state.parent.mkdir(parents=True, exist_ok=True)
    store_of(plan.state).check_belongs(place.book, access.account)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(only_engine(plan.state))
        left = left_behind(plan.state, plan.execution, coins)
        rest = await stack.enter_async_context(
            client_for(place, access, clock, plan.settings, dexes_of((*coins, *left)))
        )
        await reach(rest, clock, plan.settings, place.name)
        instruments = await listed(rest, coins, place.name)
        instruments |= await listed_of(rest, left)
        await check_signer(rest, access, place, is_simulated=clock.is_simulated)
        origin = rest.origin = f"sim:{place.name}" if clock.is_simulated else place.coin_origin
        synchronous: Synchronous = "NORMAL" if is_paper or place.book == "sim-server" else "FULL"
        database = stack.enter_context(
            Database.open(plan.state, synchronous, place.book, access.account, plan.execution)
        )
        interval_ms = params.trading.interval_ms
        mode = "PAPER" if is_paper else {"mainnet": "LIVE", "testnet": "TESTNET"}.get(place.book, "SIM")
        market = Market(
            venue=place.name,
            execution=plan.execution,
            mode=mode,
            network="sim" if clock.is_simulated else place.book,
            instruments=instruments,
            interval_ms=interval_ms,
            origin=origin,
            speed=clock.speed,
            account=access.account,
            in_step=False,
            warmup_bars=0,
            order_band=plan.settings.venue.slippage_bound_frac,
            lenient_first=clock.is_simulated,
            closing_only=frozenset(left),
        )
        coins = market.coins
        streams = [s for coin in coins for s in market_subscriptions(coin, interval_ms)]
        books = [Subscription("l2Book", coin) for coin in coins]
        streams += books if is_paper else account_subscriptions(access.account)
        stream = stream_for(place.ws_url, streams, clock, origin, plan.settings.venue)
        engine, desk = assemble(plan, market, database, rest, stream, clock, listeners, is_paper=is_paper)
        if is_paper:
            engine.deposit = params.backtest.initial_equity
        engine.funding = FundingWatch(VenueFunding(rest), engine.core)
        if place.book in NETWORKS and not clock.is_simulated:
            engine.archive = Archive(HistoryStore(plan.state.parent / "history", place.book), rest, interval_ms)
        signer = None if access.signer is None else access.signer.address
        engine.live = LiveKeeper(engine, clock, bar_grace_s=plan.settings.venue.bar_grace_seconds, signer=signer)
        yield engine, desk


def assemble(
    plan: RunPlan,
    market: Market,
    database: Database,
    rest: VenueRest,
    stream: VenueStream,
    clock: Clock,
    listeners: Listeners,
    *,
    is_paper: bool = False,
) -> tuple[Engine, OperatorDesk]:
    """Core, desks and screens' data around one journal."""
    params, coins = plan.settings.params, market.coins
    run_id = f"r-{wall_ms()}-{os.getpid()}"
    trainer = _training_desk(plan, market, database, listeners) if plan.policy == "model" else None
    policy = choose_baseline(plan.policy, plan.seed) if trainer is None else _choice_of(trainer)
    core = _recorded_core(plan, market, database, policy, run_id, is_paper=is_paper)
    if trainer is not None:
        trainer.restore(core)
    telemetry = Telemetry()
    telemetry.restore(database)
    cycles = CycleKeeper(plan.settings.objectives, database, listeners, market.interval_ms, market.network)
    cycles.restore()
    watch = Watch(plan.settings.objectives, params, database, listeners, market.interval_ms)
    watch.restore(coins)
    for listener in (telemetry, cycles, watch):
        listeners.add(listener)
    stale_s = params.risk.stale_seconds
    if market.in_step:  # that venue speaks once a bar, and stands still until the engine has answered
        stale_s = max(stale_s, 2.5 * market.interval_ms / 1000 / market.speed)
    paper = _paper_account(core, params) if is_paper else None
    engine = Engine(
        options=_engine_options(plan, market, run_id),
        core=core,
        rest=rest,
        stream=stream,
        database=database,
        clock=clock,
        feeds=FeedBoard(stale_s),
        telemetry=telemetry,
        listeners=listeners,
        desk=trainer,
        cycles=cycles,
        watch=watch,
        account_venue=paper,
        paper=paper,
    )
    engine.run_entry = Run(
        run_id=run_id,
        started_ms=wall_ms(),
        venue=market.venue,
        execution=market.execution,
        coins=coins,
        origin=market.origin,
        policy=plan.policy,
        seed=plan.seed,
        pid=os.getpid(),
    )
    socket = socket_path(plan.state)
    engine.socket, engine.model_id = str(socket), policy.model
    asked_for = [coin for coin in coins if coin not in market.closing_only]
    described = dict(plan.asked) | {"venue": market.venue, "execution": market.execution, "coins": asked_for}
    described |= {"policy": plan.policy, "speed": plan.speed}
    described |= {"warmup_bars": market.warmup_bars} if market.in_step else {}
    return engine, OperatorDesk(engine, socket, plan.state, described)


def _training_desk(plan: RunPlan, market: Market, database: Database, listeners: Listeners) -> TrainingDesk:
    """The trainer with the model that is to decide: the one asked for, else the newest champion that is whole."""
    schema = feature_schema(plan.settings.params, market.interval_ms)
    champion, damaged = (plan.bundle, ()) if plan.bundle else load_champion(database, schema)
    desk = TrainingDesk(desk_options(plan, market), database, listeners, champion)
    desk.succession.report_damaged(damaged)
    return desk


def _choice_of(desk: TrainingDesk) -> PolicyChoice:
    champion = desk.champion
    return PolicyChoice("model", desk.factory(), None if champion is None else champion.record.id)


def _recorded_core(
    plan: RunPlan, market: Market, database: Database, policy: PolicyChoice, run_id: str, *, is_paper: bool
) -> RecordedCore:
    """The decision core as the journal left it, with a log of what enters it."""
    params = plan.settings.params
    rules = TradingRules.from_params(
        params,
        interval_ms=market.interval_ms,
        warmup_bars=market.warmup_bars,
        live_guards=not market.in_step or bool(plan.faults),  # in step the venue waits for us, nothing is late
        order_band=market.order_band,
        protection_s=plan.settings.venue.protection_seconds,
        is_live=not market.in_step,
        adopts_positions=not market.in_step and not is_paper,
        closing_only=market.closing_only,
    )
    log_of_inputs = InputLog()
    database.record_inputs(log_of_inputs)
    return RecordedCore(
        market.instruments,
        rules if policy.obeys_rules else rules.without_exits_and_risk(),
        policy.make,
        salt=market.account if market.in_step else f"{market.account}|{plan.execution}|{plan.state.resolve()}|{run_id}",
        state=database.load_core_state(),
        log=log_of_inputs,
        run_id=run_id,
        seed=plan.seed,
        slippage=params.backtest.slippage_frac if market.in_step else None,
    )


def _engine_options(plan: RunPlan, market: Market, run_id: str) -> EngineOptions:
    params = plan.settings.params
    return EngineOptions(
        run_id=run_id,
        venue=market.venue,
        execution=market.execution,
        mode=market.mode,
        coins=market.coins,
        account=market.account,
        origin=market.origin,
        speed=market.speed,
        policy=plan.policy,
        in_step=market.in_step,
        order_life_s=plan.settings.venue.order_expiry_seconds,
        duration_s=plan.duration_s,
        max_cycles=plan.max_cycles,
        on_exit=params.trading.on_exit,
        retain_days=params.storage.retain_days,
        close_cost_frac=params.backtest.taker_fee_frac + params.backtest.slippage_frac,
    )


def _paper_account(core: TradingCore, params: Params) -> PaperAccount:
    """The paper account as the journal left it."""
    book = core.ledger.book
    held = {coin: (position, core.coin(coin).opened_ms) for coin, position in book.positions.items()}
    costs = params.backtest
    return PaperAccount(
        lambda: core.instruments,
        costs.taker_fee_frac,
        costs.maker_fee_frac,
        balance=book.balance or costs.initial_equity,
        positions=held,
        orders=core.blotter.live_all(),
    )


def desk_options(plan: RunPlan, market: Market) -> DeskOptions:
    """How an engine trains beside trading, as configured."""
    params, interval_ms = plan.settings.params, market.interval_ms
    training = params.training
    return DeskOptions(
        folder=plan.state.resolve().parent,
        rules={coin: kernel_rules(params, instrument) for coin, instrument in market.instruments.items()},
        settings=training_settings(params),
        seed=plan.seed,
        hourly_rate=float(hourly_rate(params) or 0),
        lenient_first=market.lenient_first,
        interval_ms=interval_ms,
        schema=feature_schema(params, interval_ms),
        shadow=ShadowRules(
            max(1, round(training.shadow_hours * HOUR_MS / interval_ms)), training.shadow_level, interval_ms
        ),
        retrain_hours=training.retrain_hours,
        origin=market.origin,
        past=market.past or stored_past(plan.state.parent / "history", market.network, interval_ms),
        params=params.model_dump_json(),
        instruments=market.instruments,
        bootstrap_budget_s=training.bootstrap_seconds,
        budget_s=training.budget_seconds,
    )
