"""The console on the real operator socket, with an engine that answers from a table."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from desk import SNAPSHOT, screen_text
from textual.pilot import Pilot

from aml100.control.attach import OperatorClient, OperatorServer, socket_path
from aml100.control.protocol import Answer, Hello, Request, Welcome
from aml100.domain.clock import SystemClock
from aml100.tui.app import ConsoleApp
from aml100.tui.source import EngineSource

ROUNDS = 400


async def until(app: ConsoleApp, pilot: Pilot[int], wanted: str) -> str:
    """Repaint until it stands on the screen."""
    for _ in range(ROUNDS):
        app.tick()
        await pilot.pause(0.02)
        text = screen_text(app)
        if wanted in text:
            return text
    pytest.fail(f"never shown: {wanted}\n{screen_text(app)}")


async def test_console_meets_loses_and_halts_an_engine(tmp_path: Path) -> None:
    """B18, C5, C17, C22, C36: paints before there is an engine, commands it, and halts even after it is gone."""
    state = tmp_path / "state.db"
    asked: list[tuple[str, str]] = []

    async def handle(request: Request, who: str) -> Answer:
        asked.append((request.command, who))
        return Answer(request.id, True, "flat, 0 orders, verified")

    def engine() -> AbstractAsyncContextManager[OperatorServer]:
        return OperatorServer(
            socket_path(state), lambda: SNAPSHOT, handle, lambda controller: Welcome(1, "r", controller, {})
        )

    source = EngineSource(OperatorClient.connect, state, Hello("console:ann", fps=20.0), SystemClock())
    app = ConsoleApp(source, fps=0.01)
    async with app.run_test(size=(100, 24)) as pilot:
        await until(app, pilot, "no engine runs on")
        async with engine():
            await until(app, pilot, "10,123.46 USD")
            await pilot.press("h", "h")
            await until(app, pilot, "halt done")
            assert asked == [("halt", "console:ann")]
        await until(app, pilot, "OFFLINE")
        await pilot.press("h", "h")
        await until(app, pilot, "HALT not confirmed")
        assert (tmp_path / "HALT").exists()


async def test_second_console_is_read_only_until_it_takes_over(tmp_path: Path) -> None:
    """B18: one lease."""
    state = tmp_path / "state.db"

    async def handle(request: Request, who: str) -> Answer:
        return Answer(request.id, True, "paused")

    server = OperatorServer(
        socket_path(state), lambda: SNAPSHOT, handle, lambda controller: Welcome(1, "r", controller, {})
    )
    async with server, OperatorClient.connect(state, Hello("console:bob")):
        source = EngineSource(OperatorClient.connect, state, Hello("console:ann", fps=20.0), SystemClock())
        app = ConsoleApp(source, fps=0.01)
        async with app.run_test(size=(100, 24)) as pilot:
            await until(app, pilot, "READ-ONLY")
            await pilot.press("p")
            await until(app, pilot, "another console commands; T takes over")
            await pilot.press("T", "y")
            await until(app, pilot, "take over done")
            assert "READ-ONLY" not in screen_text(app)
            await pilot.press("p")
            await until(app, pilot, "pause done")


async def test_console_that_lost_its_lease_says_so(tmp_path: Path) -> None:
    """B18: whoever is taken over from sees READ-ONLY, and the engine refuses what it sends all the same."""
    state = tmp_path / "state.db"

    async def handle(request: Request, who: str) -> Answer:
        return Answer(request.id, True, f"{request.command} by {who}")

    server = OperatorServer(
        socket_path(state), lambda: SNAPSHOT, handle, lambda controller: Welcome(1, "r", controller, {})
    )
    async with server:
        source = EngineSource(OperatorClient.connect, state, Hello("console:ann", fps=20.0), SystemClock())
        app = ConsoleApp(source, fps=0.01)
        async with app.run_test(size=(100, 24)) as pilot:
            await until(app, pilot, "10,123.46 USD")
            assert "READ-ONLY" not in screen_text(app)
            async with OperatorClient.connect(state, Hello("console:bob")) as bob:
                assert (await bob.request("take_over", {}, 5.0)).ok
                await until(app, pilot, "READ-ONLY")
                await pilot.press("p")
                await until(app, pilot, "another console commands")
