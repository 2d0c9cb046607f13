"""Champion and challenger: who is tried, who is promoted, who is refused, and what a restart finds (GUARANTEES B5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from aml100.domain.errors import SafetyRefusal, UsageError
from aml100.domain.events import BarsClosed
from aml100.engine.admission import load_champion
from aml100.engine.listener import Listeners
from aml100.engine.pairing import ShadowRules
from aml100.engine.succession import Succession, SuccessionRules
from aml100.learning.bundle import Bundle
from aml100.market.series import BarSeries
from aml100.storage.database import Database
from aml100.trading.core import TradingCore
from aml100.training.messages import Done, HoldOutResult
from aml100.training.shadow import WalkRules
from tests.contract import Contract
from tests.harness import BTC, INSTRUMENT, rules_for_tests, series_of
from tests.unit.engine.conftest import MakeBundle
from tests.unit.learning.planted import FREE_HANDED

SHADOW_BARS = 40


class Heard(Contract):
    """The model events, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[object, object]] = []

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        super().on_event(kind, fields)
        if kind == "model":
            self.events.append((fields["id"], fields["event"]))


def rising(bars: int, step: float = 0.0005) -> BarSeries:
    """A market that only goes up: who buys earns, who holds still does not."""
    closes = 100.0 * (1 + step) ** np.arange(1, bars + 1)
    rows = [(c / (1 + step), c * 1.0001, c / (1 + step), c) for c in closes]
    return series_of(rows)


def rules_of(lenient: bool = False) -> SuccessionRules:
    return SuccessionRules({BTC: WalkRules(FREE_HANDED)}, ShadowRules(SHADOW_BARS), lenient, "")


class Stage:
    """A core on a rising market with its succession."""

    def __init__(self, database: Database, champion: Bundle | None, *, lenient: bool = False) -> None:
        self.heard = Heard()
        self.database = database
        self.succession = Succession(
            replace(rules_of(lenient), schema=None),  # type: ignore[arg-type]
            database,
            Listeners(self.heard),  # type: ignore[arg-type]
            champion,
        )
        self.core = TradingCore({BTC: INSTRUMENT}, rules_for_tests(), lambda coin: self.succession.factory(), salt="t")
        self.series = rising(400)
        self.row = 0
        for _ in range(260):
            self.core.warm_up(self.series.bar(self.row))
            self.row += 1
        self.succession.restore(self.core)

    def play(self, bars: int) -> None:
        for _ in range(bars):
            bar = self.series.bar(self.row)
            effects = self.core.process(BarsClosed(bar.end_ms, (bar,), ()))
            facts = self.succession.on_bars((bar,), self.core)
            self.database.journal([*(e for e in effects if "Order" not in type(e).__name__), *facts])  # type: ignore[list-item]
            self.row += 1
            self.succession.poll(self.core, bar.end_ms)

    def try_out(self, bundle: Bundle, hold_out: HoldOutResult | None = None) -> str:
        done = done_of(bundle, hold_out or GOOD)
        verdict = self.succession.consider(bundle, done, self.core.state.now_ms)
        if verdict == "shadow":
            walk = self.succession.fresh_walk(bundle, 0)
            ends = {BTC: self.core.coin(BTC).last_end_ms}
            walk.warm_up({BTC: self.core.recent_rows(BTC)}, ends)
            self.succession.begin_shadow(walk, done.hold_out, self.core.state.now_ms)
        return verdict


GOOD = HoldOutResult(0, 1, 1000, 30, 0.05, 0.02, ())


def done_of(bundle: Bundle, hold_out: HoldOutResult | None) -> Done:
    record = bundle.record
    healthy = all(one.healthy for one in record.health)
    health = record.health
    return Done(
        bundle.id, str(bundle.path), "finished", 1, 1, 1, 1, 1, 1.0, "cpu", record.validation, health, healthy, hold_out
    )


def states(database: Database) -> dict[str, str]:
    database.flush()
    return {version.id: version.state for version in database.models()}


def test_b5_a_better_challenger_is_promoted_only_after_its_shadow(database: Database, make_bundle: MakeBundle) -> None:
    champion, challenger = make_bundle(1, 0, 0), make_bundle(0, 1, 0)
    stage = Stage(database, champion)
    assert stage.try_out(challenger) == "shadow"
    stage.play(SHADOW_BARS - 1)
    assert stage.succession.champion is champion  # it decides, but has no say yet
    assert states(database)[challenger.id] == "challenger"
    stage.play(2)
    assert stage.succession.champion is challenger
    assert states(database) == {champion.id: "retired", challenger.id: "champion"}
    assert [event for _, event in stage.heard.events] == ["trained", "shadow", "promoted"]
    promoted = database.model_events()[-1]
    record = msgspec.json.decode(promoted.detail)
    assert record["net"] > record["champion_net"] == 0.0
    assert record["hold_out"]["bars"] == 1000


def test_b5_a_worse_challenger_never_trades(database: Database, make_bundle: MakeBundle) -> None:
    champion, challenger = make_bundle(0, 1, 0), make_bundle(0, 0, 1)
    stage = Stage(database, champion)
    stage.try_out(challenger)
    stage.play(SHADOW_BARS + 1)
    assert stage.succession.champion is champion
    assert states(database)[challenger.id] == "refused"
    assert "lost against the champion" in database.model_events()[-1].reason


@pytest.mark.parametrize(
    ("hold_out", "why"),
    [
        (None, "too few bars"),
        (HoldOutResult(0, 1, 1000, 30, 0.01, 0.02, ()), "less its noise"),
        (HoldOutResult(0, 1, 1000, 30, 0.05, 0.02, (), 500, 0.01, "", 0.02), "where the champion has"),
        (
            HoldOutResult(0, 1, 1000, 30, 0.05, 0.02, (), seeds=(0.3, -0.01, -0.2)),
            "the median of its 3 seeds -1.00%, the worst -20.00%",
        ),
    ],
)
def test_without_a_won_hold_out_nobody_is_tried(
    database: Database, make_bundle: MakeBundle, hold_out: HoldOutResult | None, why: str
) -> None:
    champion, challenger = make_bundle(1, 0, 0), make_bundle(0, 1, 0)
    if hold_out is not None and hold_out.champion is not None:
        hold_out = msgspec.structs.replace(hold_out, champion=champion.id)
    stage = Stage(database, champion)
    done = done_of(challenger, hold_out)
    assert stage.succession.consider(challenger, done, 0) == "refused"
    database.flush()
    assert why in database.model_events()[-1].reason


def test_b15_an_unsound_model_trades_for_nobody(database: Database, make_bundle: MakeBundle) -> None:
    """Neither as the first one on a simulated market, nor by an operator's hand."""
    constant = make_bundle(0, 1, 0, healthy=False)
    stage = Stage(database, None, lenient=True)
    assert any(not one.healthy for one in constant.record.health)
    assert stage.succession.consider(constant, done_of(constant, None), 0) == "refused"
    with pytest.raises(SafetyRefusal, match="constant_action"):
        stage.succession.promote_by_hand(constant.id, "me", stage.core, 0)


def test_a_restart_goes_on_in_the_middle_of_a_shadow(database: Database, make_bundle: MakeBundle) -> None:
    champion, challenger = make_bundle(1, 0, 0), make_bundle(0, 1, 0)
    stage = Stage(database, champion)
    stage.succession.promote(champion, None, "first", {}, stage.core, 0)
    stage.try_out(challenger)
    stage.play(15)
    database.flush()
    before = stage.succession.shadow_view()
    kept, damaged = load_champion(database, champion.record.schema)
    assert kept is not None
    assert (kept.id, damaged) == (champion.id, ())
    again = Succession(stage.succession._rules, database, Listeners(), kept)
    core = TradingCore(
        {BTC: INSTRUMENT}, rules_for_tests(), lambda c: again.factory(), salt="t", state=stage.core.export_state()
    )
    core.remember(BTC, stage.core.recent_rows(BTC))
    again.restore(core)
    assert before is not None
    assert again.shadow_view() == before
    stage.succession, stage.core = again, core
    stage.play(SHADOW_BARS - 14)
    assert again.champion is not None
    assert again.champion.id == challenger.id


def test_rollback_returns_to_the_champion_before(database: Database, make_bundle: MakeBundle) -> None:
    first, second = make_bundle(1, 0, 0), make_bundle(0, 1, 0)
    stage = Stage(database, None)
    stage.succession.promote(first, None, "first", {}, stage.core, 0)
    stage.succession.promote(second, None, "second", {}, stage.core, 1)
    database.flush()
    assert first.id in stage.succession.rollback("me", stage.core, 2)
    assert states(database) == {first.id: "champion", second.id: "rolled_back"}
    with pytest.raises(UsageError, match="no earlier champion"):
        stage.succession.rollback("me", stage.core, 3)


def test_d24_a_damaged_champion_gives_way_to_the_one_before_and_says_so(
    database: Database, make_bundle: MakeBundle
) -> None:
    first, second = make_bundle(1, 0, 0), make_bundle(0, 1, 0)
    stage = Stage(database, None)
    stage.succession.promote(first, None, "first", {}, stage.core, 0)
    stage.succession.promote(second, None, "second", {}, stage.core, 1)
    database.flush()
    assert second.path is not None
    weights = second.path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    kept, damaged = load_champion(database, second.record.schema)
    assert kept is not None
    assert kept.id == first.id
    ((model, reason),) = damaged
    assert model == second.id
    assert "damaged or altered" in reason
    fresh = Stage(database, kept)
    fresh.succession.report_damaged(damaged)
    fresh.succession.poll(fresh.core, 0)
    assert (second.id, "refused") in fresh.heard.events
