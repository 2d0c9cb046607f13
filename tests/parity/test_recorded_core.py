"""A recorded core: its inputs, packed and read back, make the same core again (GUARANTEES B6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import get_args

from aml100.domain.events import (
    BarsClosed,
    Command,
    CommandName,
    CoreEvent,
    FeedChanged,
    FundingPaid,
    Reconciled,
    RestingOrder,
    SettledFunding,
    Tick,
)
from aml100.domain.market import AssetContext, BookTop, instrument_for
from aml100.domain.orders import Side
from aml100.domain.units import MINUTE_MS, Cloid, Coin
from aml100.engine.inputs import CoreBegan, CoreInput, Deposited, PolicyChanged, PolicyNote, RulesChanged, pack, unpack
from aml100.engine.recording import InputLog, RecordedCore
from aml100.engine.replaying import Outcome, ReplayReport, play
from aml100.evaluation.backtest import Backtest
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.scenario import Tape, synthetic_series
from aml100.trading.policies import BASELINES, Policy
from tests.harness import BTC, START_MS, rules_for_tests

BARS = 2_000


def policy_of(note: PolicyNote) -> Policy:
    return BASELINES[note.name](note.seed)


def recorded_core(log: InputLog, state: bytes | None = None) -> RecordedCore:
    return RecordedCore(
        {BTC: instrument_for(BTC)},
        rules_for_tests(),
        lambda coin: BASELINES["random"](7),
        salt="test",
        state=state,
        log=log,
        run_id="r",
        seed=7,
    )


def again(entries: Sequence[tuple[int, CoreInput]]) -> tuple[bytes, Outcome, ReplayReport]:
    outcome, report = Outcome(), ReplayReport()
    core = play((one for _, one in unpack(pack(entries))), policy_of, outcome, report)
    assert core is not None
    return core.export_state(), outcome, report


def test_a_core_is_the_same_again_through_changes_from_outside_and_over_midnight() -> None:
    """The policy is changed in mid-series, money is put in, the rules are tightened: each enters where it happened."""
    log = InputLog()
    core = recorded_core(log)
    series = synthetic_series("regimes", BTC, MINUTE_MS, START_MS, BARS, seed=2)

    def interfere(row: int) -> None:
        if row == 700:
            core.adopt_policy(lambda coin: BASELINES["momentum"](7))
        if row == 1_200:
            core.rules = replace(core.rules, max_hold_bars=3)
        if row == 1_500:
            core.ledger.deposit(Decimal(500), core.state.now_ms, "more")

    exchange = Exchange([instrument_for(BTC)], ExchangeRules(Decimal("0.00045"), Decimal("0.00015"), Decimal("0.0001")))
    backtest = Backtest(core, exchange, Tape([series]), warmup_bars=300, deposit=Decimal(10_000))
    process, row = core.process, 0

    def counted(event: CoreEvent) -> list[object]:
        nonlocal row
        if isinstance(event, BarsClosed):
            interfere(row)
            row += 1
        return process(event)  # type: ignore[return-value]

    core.process = counted  # type: ignore[method-assign, assignment]
    result = backtest.run()
    entries = log.take()
    kinds = [type(one) for _, one in entries]
    assert kinds.count(PolicyChanged) == kinds.count(RulesChanged) == 1
    assert kinds.count(Deposited) == 2, "the first deposit and the later one"
    begun = [number for number, (_, one) in enumerate(entries) if isinstance(one, CoreBegan)]
    assert len(begun) == 2, "at the start, and at the first bar of the next day"
    state, outcome, report = again(entries)
    assert state == core.export_state()
    assert report.differences == []
    assert list(outcome.decisions.values()) == result.decisions
    assert len(result.trades) > 10
    late, _, _ = again(entries[begun[1] :])
    assert late == core.export_state(), "a replay that begins at midnight ends with the same core"


def test_news_that_changes_nothing_is_kept_as_it_stood_when_something_happened() -> None:
    log = InputLog()
    core = recorded_core(log)
    log.take()
    for second in range(50):
        core.process(Tick(START_MS + second * 250, second / 4))
        core.process(BookTop(BTC, START_MS, Decimal(100 + second), Decimal(101 + second)))
    assert log.take() == []
    core.process(FeedChanged(BTC, "bbo", "stale", 31_000))
    kept = [one for _, one in log.take()]
    assert [type(one) for one in kept] == [Tick, BookTop, FeedChanged]
    assert isinstance(kept[1], BookTop)
    assert kept[1].bid == Decimal(149)


def test_every_kind_of_event_reads_back_as_it_was() -> None:
    order = RestingOrder(BTC, 5, Cloid("0x1"), Side.SELL, Decimal("0.1"), Decimal(90), Decimal(91), True, True)
    events: list[CoreEvent] = [
        Tick(1, 0.5, 3.25),
        BookTop(BTC, 1, None, Decimal("1.50")),
        AssetContext(BTC, Decimal(1), Decimal(2), Decimal("1E-7"), None),
        FeedChanged(BTC, "candle", "down", 5, 2),
        SettledFunding(BTC, 3_600_000, 1.25e-5, None, 8),
        FundingPaid(BTC, 1, Decimal("-0.0001"), Decimal("0.000001"), Decimal(-3)),
        Reconciled(((BTC, Decimal(1)), (Coin("xyz:A"), Decimal(0))), (order,)),
        Command(CommandName.FLATTEN, "console:me", 7),
    ]
    assert [one for _, one in unpack(pack([(9, event) for event in events]))] == events
    assert {type(event) for event in events} <= set(get_args(CoreEvent))
