"""The line to the engine: fresh, silent, gone, back again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from desk import SNAPSHOT, changed

from aml100.control.protocol import Answer, Hello, Snapshot, Welcome
from aml100.domain.clock import ManualClock
from aml100.domain.errors import VenueUnavailable
from aml100.tui import source as module
from aml100.tui.source import EngineSource, NotDelivered
from aml100.tui.view import LinkState


class Engine:
    """An engine that behaves: it can be absent, send, fall silent, hang up, and answer or not."""

    def __init__(self) -> None:
        self.present = True
        self.controller = True
        self.outbox: asyncio.Queue[Snapshot | None] = asyncio.Queue()
        self.hellos: list[Hello] = []
        self.answers = True
        self.goodbye = ""
        self.welcome = Welcome(1, "r", True, {})

    @asynccontextmanager
    async def connect(self, state_path: Path, hello: Hello) -> AsyncIterator[Engine]:
        if not self.present:
            raise ConnectionRefusedError("nobody listens at state.sock")
        self.hellos.append(hello)
        self.welcome = Welcome(1, "r", self.controller, {})
        yield self

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        while (snapshot := await self.outbox.get()) is not None:
            yield snapshot

    async def request(self, command: str, arguments: dict[str, object], timeout_s: float) -> Answer:
        if not self.answers:
            await asyncio.Event().wait()
        if command == "broken":
            raise VenueUnavailable("the line broke")
        if command == "take_over":
            self.welcome = Welcome(1, "r", True, {})
        return Answer(1, True, f"{command} done")


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(0, wall_s=100.0)


@asynccontextmanager
async def following(
    engine: Engine, clock: ManualClock, tmp_path: Path, fps: float = 4.0
) -> AsyncIterator[EngineSource]:
    source = EngineSource(engine.connect, tmp_path / "state.db", Hello("console:ann", fps=fps), clock)
    task = asyncio.create_task(source.run())
    await turns()
    yield source
    task.cancel()


async def test_newest_snapshot_wins_and_ages(clock: ManualClock, tmp_path: Path) -> None:
    """C34, C36."""
    engine = Engine()
    async with following(engine, clock, tmp_path) as source:
        assert source.link().state is LinkState.CONNECTING
        engine.outbox.put_nowait(SNAPSHOT)
        engine.outbox.put_nowait(changed(seq=8))
        await turns()
        clock.wall_s = 101.5
        assert source.latest is not None
        assert (source.latest.seq, source.link().state, source.link().age_s) == (8, LinkState.LIVE, 1.5)


async def test_connected_and_silent_is_stale_while_hung_up_is_offline(clock: ManualClock, tmp_path: Path) -> None:
    """C36, C37."""
    engine = Engine()
    async with following(engine, clock, tmp_path) as source:
        engine.outbox.put_nowait(SNAPSHOT)
        await turns()
        clock.wall_s = 112.0
        assert (source.link().state, source.link().age_s) == (LinkState.STALE, 12.0)
        engine.present = False
        engine.outbox.put_nowait(None)
        await turns()
        assert source.link().state is LinkState.OFFLINE
        assert source.link().detail == "the engine closed the line"


async def test_engine_that_never_sends_is_stale_too(clock: ManualClock, tmp_path: Path) -> None:
    async with following(Engine(), clock, tmp_path) as source:
        clock.wall_s = 103.5
        assert source.link().state is LinkState.STALE


async def test_slow_link_is_not_called_stale_between_its_frames(clock: ManualClock, tmp_path: Path) -> None:
    """C30: at one frame in five seconds, ten seconds of silence are two frames."""
    engine = Engine()
    async with following(engine, clock, tmp_path, fps=0.2) as source:
        engine.outbox.put_nowait(SNAPSHOT)
        await turns()
        clock.wall_s = 110.0
        assert source.link().state is LinkState.LIVE
        clock.wall_s = 116.0
        assert source.link().state is LinkState.STALE


async def test_engine_that_comes_back_is_found_again(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C29, B18: re-attached by itself; who commands is asked anew."""
    monkeypatch.setattr(module, "RECONNECT_S", 0.0)
    engine = Engine()
    engine.present = False
    async with following(engine, clock, tmp_path) as source:
        assert source.link().state is LinkState.CONNECTING
        assert "nobody listens" in source.link().detail
        engine.present, engine.controller = True, False
        engine.outbox.put_nowait(SNAPSHOT)
        await turns()
        assert (source.link().state, source.link().controller) == (LinkState.LIVE, False)
        assert (await source.request("take_over", {}, 5.0)).ok
        assert source.link().controller


async def test_command_without_an_engine_is_not_delivered(clock: ManualClock, tmp_path: Path) -> None:
    engine = Engine()
    engine.present = False
    async with following(engine, clock, tmp_path) as source:
        with pytest.raises(NotDelivered, match="nobody listens"):
            await source.request("halt", {}, 5.0)
        assert source.leave_halt_file() == tmp_path / "HALT"
        assert (tmp_path / "HALT").exists()


async def test_command_without_an_answer_is_not_delivered(clock: ManualClock, tmp_path: Path) -> None:
    engine = Engine()
    async with following(engine, clock, tmp_path) as source:
        engine.answers = False
        with pytest.raises(NotDelivered, match="no answer within"):
            await source.request("halt", {}, 0.01)
        engine.answers = True
        with pytest.raises(NotDelivered, match="the line broke"):
            await source.request("broken", {}, 1.0)


async def test_engine_that_said_goodbye_is_told_from_one_that_is_gone(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by another console or killed: what it said stays on screen, whatever the next attempts meet."""
    monkeypatch.setattr(module, "RECONNECT_S", 0.0)
    engine = Engine()
    async with following(engine, clock, tmp_path) as source:
        engine.outbox.put_nowait(SNAPSHOT)
        await turns()
        engine.goodbye, engine.present = "the engine stops", False
        engine.outbox.put_nowait(None)
        await turns(50)
        assert source.link().detail == "the engine stops"
        engine.goodbye, engine.present = "", True
        engine.outbox.put_nowait(SNAPSHOT)
        await turns()
        assert source.link().state is LinkState.LIVE
        engine.present = False
        engine.outbox.put_nowait(None)
        await turns(50)
        assert "nobody listens" in source.link().detail


async def test_trouble_of_an_engine_is_not_told_of_the_next_one(
    clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console's own engine was killed, another one was started beside it and stopped: that one was not killed."""
    monkeypatch.setattr(module, "RECONNECT_S", 0.0)
    engine, trouble = Engine(), ["the engine starts, pid 7"]
    source = EngineSource(engine.connect, tmp_path / "s.db", Hello("a"), clock, engine_trouble=lambda: trouble[0])
    task = asyncio.create_task(source.run())
    engine.outbox.put_nowait(SNAPSHOT)
    await turns()
    trouble[0], engine.present = "the engine starts, pid 7, 9 s", False
    engine.outbox.put_nowait(None)
    await turns(50)
    assert "starts" not in source.link().detail, "it is on its way out"
    trouble[0] = "the engine was ended by SIGKILL"
    assert source.link().detail == "the engine was ended by SIGKILL"
    engine.present = True
    engine.outbox.put_nowait(SNAPSHOT)
    await turns()
    engine.goodbye, engine.present = "the engine stops", False
    engine.outbox.put_nowait(None)
    await turns(50)
    assert source.link().detail == "the engine stops"
    task.cancel()


async def test_reason_of_a_failed_start_is_shown(clock: ManualClock, tmp_path: Path) -> None:
    engine = Engine()
    engine.present = False
    source = EngineSource(
        engine.connect, tmp_path / "s.db", Hello("a"), clock, engine_trouble=lambda: "port 3001 in use"
    )
    task = asyncio.create_task(source.run())
    await turns()
    assert source.link().detail == "port 3001 in use"
    task.cancel()
