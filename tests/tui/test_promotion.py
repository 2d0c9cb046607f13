"""Promoting and rolling back from the keyboard: the real console on the socket of a real engine and its venue."""

from __future__ import annotations

from pathlib import Path

from desk import screen_text
from textual.pilot import Pilot

from aml100.control.attach import OperatorClient
from aml100.control.protocol import Hello
from aml100.domain.clock import SystemClock
from aml100.engine.runtime import Engine
from aml100.learning.bundle import Bundle
from aml100.sim.scenario import Tape
from aml100.tui.app import ConsoleApp
from aml100.tui.source import EngineSource
from tests.sim.live import living, running, stand_alone, until, wandering
from tests.unit.engine.conftest import MakeBundle, make_bundle, trained
from tests.unit.engine.test_succession import GOOD

__all__ = ["make_bundle", "trained"]

ROUNDS = 300


async def shown(app: ConsoleApp, pilot: Pilot[int], *wanted: str) -> str:
    """Repaint until all of it stands on the screen."""
    for _ in range(ROUNDS):
        app.tick()
        await pilot.pause(0.03)
        text = screen_text(app)
        if all(part in text for part in wanted):
            return text
    raise AssertionError(f"never shown: {wanted}\n{screen_text(app)}")


async def seat_both(engine: Engine, champion: Bundle, challenger: Bundle) -> None:
    """One model trades, another one is tried in shadow beside it."""
    desk, core = engine.desk, engine.core
    assert desk is not None
    succession = desk.succession

    def seat() -> None:
        succession.promote(champion, None, "first", {}, core, engine.clock.now_ms())
        succession.begin_shadow(succession.fresh_walk(challenger, 0), GOOD, engine.clock.now_ms())

    await engine.on_consumer(seat)


def decides(engine: Engine) -> str:
    """The id of the model whose word counts."""
    assert engine.desk is not None
    champion = engine.desk.succession.champion
    return "nobody" if champion is None else champion.id


async def test_challenger_is_promoted_and_rolled_back_at_the_keyboard(tmp_path: Path, make_bundle: MakeBundle) -> None:
    """B5, C14, C15, C22: `P` on the waiting challenger asks, then it trades; `B` brings the one before back."""
    state = tmp_path / "state.db"
    champion, challenger = make_bundle(1.0, 0.0, 0.0), make_bundle(0.9, 0.1, 0.0)
    tape = Tape((wandering(4000),))
    async with (
        stand_alone(tape) as venue,
        living(venue, state, policy="model") as (engine, desk, heard),
        running(engine, desk),
    ):
        await until(lambda: len(heard.bars) > 0)
        await seat_both(engine, champion, challenger)
        source = EngineSource(OperatorClient.connect, state, Hello("console:ann", fps=10.0), SystemClock())
        app = ConsoleApp(source, fps=0.01)
        async with app.run_test(size=(140, 44)) as pilot:
            await pilot.press("m")
            await shown(app, pilot, f"champion +0.00 % {champion.id}", f"challenger +0.00 % {challenger.id}")
            await shown(app, pilot, "bars", f"▲  {champion.id}")
            await pilot.press("up", "up", "P")
            text = await shown(app, pilot, f"Promote {challenger.id}?", "in place of", champion.id)
            assert "no validation is asked: this is your decision" in text
            assert decides(engine) == champion.id
            await pilot.press("y")
            await shown(app, pilot, f"✓ promote done  {challenger.id} decides from the next bar on")
            await shown(app, pilot, f"▲  {challenger.id}", "no challenger in shadow")
            assert decides(engine) == challenger.id
            await pilot.press("B", "y")
            await shown(app, pilot, f"✓ rollback done  {champion.id} decides from the next bar on", f"▲  {champion.id}")
            assert decides(engine) == champion.id


async def test_a_training_that_is_not_there_is_neither_cancelled_nor_taken_up_c22(
    tmp_path: Path, make_bundle: MakeBundle
) -> None:
    """An answer of the desk that is a refusal is journalled and shown as failed, not as done."""
    state = tmp_path / "state.db"
    async with (
        stand_alone(Tape((wandering(4000),))) as venue,
        living(venue, state, policy="model") as (engine, desk, heard),
        running(engine, desk),
    ):
        await until(lambda: len(heard.bars) > 0)
        champion = make_bundle(1.0, 0.0, 0.0)
        assert engine.desk is not None
        if engine.desk.cancel().ok:  # the bootstrap training has begun
            await until(lambda: engine.desk is not None and engine.desk.view().state == "cancelled")
        await seat_both(engine, champion, make_bundle(0.9, 0.1, 0.0))
        async with OperatorClient.connect(state, Hello("console:ann")) as client:
            refused = await client.request("cancel_training", {}, 5.0)
        assert (refused.ok, refused.exit_code, refused.text) == (False, 1, "no training is under way")


async def test_price_of_any_coin_is_asked_of_the_engine(tmp_path: Path) -> None:
    """The closes a chart needs, for each coin of the engine; one it has not is refused with those it has."""
    state = tmp_path / "state.db"
    tape = Tape((wandering(4000), wandering(4000, "ETH", 3, 3000.0)))
    async with (
        stand_alone(tape) as venue,
        living(venue, state, policy="flat", coins=("BTC", "ETH")) as (engine, desk, heard),
        running(engine, desk),
    ):
        await until(lambda: len(heard.bars) > 4)
        async with OperatorClient.connect(state, Hello("viewer", read_only=True)) as client:
            answer = await client.request("prices", {"coin": "ETH"}, 5.0)
            assert answer.ok
            assert answer.data is not None
            assert answer.data["coin"] == "ETH"
            closes = [value for _, value in answer.data["points"]]
            assert len(closes) > 1
            assert all(2000 < value < 4500 for value in closes), "of that coin, not of the other one"
            refused = await client.request("prices", {"coin": "DOGE"}, 5.0)
            assert (refused.ok, refused.exit_code) == (False, 2)
            assert "allowed: BTC, ETH" in refused.text
