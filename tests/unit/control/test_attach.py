"""The operator socket, over real sockets: who may command, who is slow, who talks nonsense, who leaves."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aml100.control.attach import (
    OperatorClient,
    OperatorServer,
    engine_is_running,
    greet,
    request_once,
    socket_path,
)
from aml100.control.protocol import (
    Answer,
    Goodbye,
    Hello,
    LogLine,
    PhaseView,
    Request,
    Snapshot,
    Welcome,
    decode_engine_frame,
    encode_frame,
)
from aml100.domain.errors import AmlError, UsageError

FPS = 30.0


class Engine:
    """Answers every command, remembers who asked, and counts its snapshots; `gate` holds answers back."""

    def __init__(self, padding: int = 0) -> None:
        self.made = 0
        self.asked: list[tuple[str, str]] = []
        self.padding = padding
        self.gate: asyncio.Event | None = None

    def snapshot(self) -> Snapshot:
        self.made += 1
        return Snapshot(
            seq=self.made,
            time_ms=0,
            wall_ms=0,
            state="trading",
            state_reason="",
            mode="SIM",
            venue="sim",
            execution="venue",
            origin="synthetic:regimes",
            speed=1.0,
            run_id="r1",
            pid=1,
            uptime_s=0.0,
            phase=PhaseView("Foundation", 1, 0, 3),
            equity="1",
            balance="1",
            initial_equity="1",
            drawdown_pct=0.0,
            log=(LogLine(0, "info", "x" * self.padding),),
        )

    async def handle(self, request: Request, who: str) -> Answer:
        self.asked.append((who, request.command))
        if self.gate is not None:
            await self.gate.wait()
        if request.command == "break":
            raise RuntimeError("nobody thought of this")
        return Answer(0, True, f"{request.command} done", data=dict(request.arguments))

    def welcome(self, controller: bool) -> Welcome:
        return Welcome(pid=7, run_id="r1", controller=controller, options={"venue": "sim"})

    def server(self, state: Path) -> OperatorServer:
        return OperatorServer(socket_path(state), self.snapshot, self.handle, self.welcome)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def engine(state: Path) -> AsyncIterator[Engine]:
    engine = Engine()
    async with engine.server(state):
        yield engine


def console(state: Path, who: str = "console:a", **options: Any) -> Any:
    return OperatorClient.connect(state, Hello(who=who, fps=FPS, **options))


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- nobody could set an event
            await asyncio.sleep(0)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_there(path: Path) -> bool:
    return path.exists()


@asynccontextmanager
async def raw(state: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(socket_path(state), limit=16 << 20)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_the_socket_is_private_and_gone_afterwards(state: Path) -> None:
    async with Engine().server(state):
        path = Path(f"{state}.sock")
        assert mode_of(path) == 0o600
        assert engine_is_running(state)
    assert not is_there(path)
    assert not engine_is_running(state)


async def test_snapshots_and_answers_come_over_one_line(state: Path, engine: Engine) -> None:
    async with console(state) as client:
        assert client.welcome == engine.welcome(True)
        seen = [snapshot.seq async for snapshot in _first(client, 3)]
        assert seen == sorted(set(seen))
        answer = await client.request("pause", {"x": 1}, 5)
        assert (answer.ok, answer.text, answer.data) == (True, "pause done", {"x": 1})
        assert client.latest is not None
    assert engine.asked == [("console:a", "pause")]


async def _first(client: OperatorClient, count: int) -> AsyncIterator[Snapshot]:
    async for snapshot in client.snapshots():
        yield snapshot
        count -= 1
        if count == 0:
            return


async def test_many_requests_at_once_get_their_own_answers(state: Path, engine: Engine) -> None:
    async with console(state) as client:
        answers = await asyncio.gather(*(client.request("why", {"n": n}, 5) for n in range(20)))
        assert [answer.data for answer in answers] == [{"n": n} for n in range(20)]


async def test_one_console_commands_and_the_second_only_watches(state: Path, engine: Engine) -> None:
    """B18: one lease; halt, status and why are open to the second all the same."""
    async with console(state) as first, console(state, "console:b") as second:
        assert (first.welcome.controller, second.welcome.controller) == (True, False)
        refused = await second.request("resume", {}, 5)
        assert (refused.ok, refused.exit_code) == (False, 3)
        assert "another console commands" in refused.text
        for command in ("halt", "status", "why"):
            assert (await second.request(command, {}, 5)).ok
        assert (await first.request("resume", {}, 5)).ok
    assert [who for who, command in engine.asked if command == "resume"] == ["console:a"]


async def test_taking_over_moves_the_lease_and_tells_both(state: Path, engine: Engine) -> None:
    """B18."""
    async with console(state) as first, console(state, "console:b") as second:
        assert (await second.request("take_over", {}, 5)).ok
        await until(lambda: second.welcome.controller and not first.welcome.controller)
        assert (await second.request("resume", {}, 5)).ok
        assert not (await first.request("resume", {}, 5)).ok


async def test_a_lease_that_fell_free_goes_to_the_next_who_commands(state: Path, engine: Engine) -> None:
    async with raw(state) as (reader, writer), console(state, "console:b") as second:
        assert second.welcome.controller
        writer.write(encode_frame(Hello(who="console:c", fps=FPS)))
        assert not msgspec.json.decode(await reader.readline())["controller"]
        async with console(state, "console:d") as fourth:
            second._writer.close()
            await until(lambda: second.is_closed)
            async with asyncio.timeout(10):
                while not (await fourth.request("pause", {}, 5)).ok:
                    pass
            await until(lambda: fourth.welcome.controller)
            writer.write(encode_frame(Request(1, "resume")))
            while not isinstance(frame := decode_engine_frame(await reader.readline()), Answer):
                pass
            assert "another console commands" in frame.text


async def test_every_console_is_told_that_a_lease_fell_free_and_that_it_is_taken(state: Path, engine: Engine) -> None:
    """B18: a console that may command does not show READ-ONLY, and one that may not does."""
    async with console(state, "console:b") as second, console(state) as third:
        assert (second.welcome.controller, third.welcome.controller) == (True, False)
        second._writer.close()
        await until(lambda: third.welcome.controller)
        async with console(state, "console:d") as fourth:
            assert fourth.welcome.controller
            await until(lambda: not third.welcome.controller)
            assert not (await third.request("resume", {}, 5)).ok


async def test_a_read_only_viewer_may_look_but_not_touch(state: Path, engine: Engine) -> None:
    """C18: enforced by the engine, whatever the console does, halt and taking over included."""
    async with console(state, read_only=True) as viewer:
        assert not viewer.welcome.controller
        for command in ("halt", "resume", "flatten", "take_over", "stop", "backup"):
            answer = await viewer.request(command, {}, 5)
            assert (answer.ok, answer.exit_code) == (False, 3)
            assert "read-only" in answer.text
        assert (await viewer.request("status", {}, 5)).ok
        async with console(state, "console:b") as other:
            assert other.welcome.controller
    assert [command for _, command in engine.asked] == ["status"]


async def test_one_shot_commands_need_no_lease(state: Path, engine: Engine) -> None:
    async with console(state):
        answer = await asyncio.to_thread(request_once, state, "cli:me", "flatten", {"coin": "BTC"})
        assert (answer.ok, answer.data) == (True, {"coin": "BTC"})
        refused = await asyncio.to_thread(request_once, state, "cli:me", "take_over", {})
        assert not refused.ok
        greeting = await asyncio.to_thread(greet, state, "cli:me")
        assert greeting.options == {"venue": "sim"}
    assert engine.asked == [("cli:me", "flatten")]


async def test_a_slow_reader_gets_the_newest_snapshot_and_holds_nothing_up(state: Path) -> None:
    """C34: nothing is queued for who does not read."""
    engine = Engine(padding=300_000)
    async with engine.server(state), raw(state) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(encode_frame(Hello(who="slow", fps=FPS)))
        async with console(state, "console:b", read_only=True) as quick:
            await until(lambda: quick.latest is not None and quick.latest.seq >= 12)
        made = engine.made
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        await reader.readline()
        seqs = []
        while not seqs or seqs[-1] <= made:
            frame = decode_engine_frame(await reader.readline())
            assert isinstance(frame, Snapshot)
            seqs.append(frame.seq)
        stale = [seq for seq in seqs if seq <= made]
        assert len(stale) <= 3
        assert made >= 12


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\xff garbage\n",
        b"{}\n",
        b'{"type":"hello"}\n',
        b'{"type":"request","id":1,"command":"halt"}\n',
        b"x" * 200_000,
    ],
)
async def test_nonsense_is_told_off_and_the_engine_goes_on(state: Path, engine: Engine, nonsense: bytes) -> None:
    async with raw(state) as (reader, writer):
        writer.write(nonsense)
        frame = decode_engine_frame(await reader.readline())
        assert isinstance(frame, Goodbye)
        assert "refused" in frame.reason
        assert await reader.read() == b""
    async with console(state) as client:
        assert (await client.request("status", {}, 5)).ok
    assert engine.asked == [("console:a", "status")]


async def test_nonsense_after_the_greeting_ends_that_client_only(state: Path, engine: Engine) -> None:
    async with raw(state) as (reader, writer), console(state, "console:b") as other:
        writer.write(encode_frame(Hello(who="x", want_snapshots=False)) + b"not json\n")
        assert isinstance(decode_engine_frame(await reader.readline()), Welcome)
        assert isinstance(decode_engine_frame(await reader.readline()), Goodbye)
        assert (await other.request("status", {}, 5)).ok


async def test_another_protocol_version_is_refused_by_name(state: Path, engine: Engine) -> None:
    with pytest.raises(AmlError, match="protocol version 99"):
        async with OperatorClient.connect(state, Hello(who="x", version=99)):
            pass


async def test_a_flood_of_requests_ends_the_client(state: Path, engine: Engine) -> None:
    engine.gate = asyncio.Event()
    async with raw(state) as (reader, writer):
        writer.write(encode_frame(Hello(who="flood", want_snapshots=False)))
        writer.write(b"".join(encode_frame(Request(n, "status")) for n in range(100)))
        frames = [decode_engine_frame(await reader.readline()) for _ in range(2)]
        assert isinstance(frames[1], Goodbye)
        assert "at once" in frames[1].reason
    engine.gate.set()


async def test_a_command_is_carried_out_though_its_client_left(state: Path, engine: Engine) -> None:
    """C28, B11: closing the terminal does not stop a halt under way."""
    engine.gate = asyncio.Event()
    async with raw(state) as (_, writer):
        writer.write(encode_frame(Hello(who="x", want_snapshots=False)) + encode_frame(Request(1, "halt")))
        await until(lambda: engine.asked)
    engine.gate.set()
    async with console(state) as client:
        assert (await client.request("status", {}, 5)).ok
    assert engine.asked == [("x", "halt"), ("console:a", "status")]


async def test_a_failure_inside_a_command_is_answered(state: Path, engine: Engine) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with console(state) as client:
        answer = await client.request("break", {}, 5)
        assert (answer.ok, answer.exit_code) == (False, 1)
        assert "nobody thought of this" in answer.text
        assert (await client.request("status", {}, 5)).ok
    assert len(told) == 1


async def test_the_engine_going_away_ends_snapshots_and_requests(state: Path) -> None:
    engine = Engine()
    engine.gate = asyncio.Event()
    server = engine.server(state)
    await server.__aenter__()
    async with console(state) as client:
        pending = asyncio.create_task(client.request("halt", {}, 30))
        await until(lambda: engine.asked)
        await server.__aexit__(None, None, None)
        with pytest.raises(AmlError, match="the engine has stopped"):
            await pending
        assert [snapshot async for snapshot in client.snapshots()] == []
        assert client.is_closed
        with pytest.raises(AmlError, match="closed the line"):
            await client.request("status", {}, 5)
    with pytest.raises(AmlError, match="no engine runs"):
        async with console(state):
            pass


async def test_no_answer_in_time_is_a_timeout_and_a_late_answer_harms_nobody(state: Path, engine: Engine) -> None:
    engine.gate = asyncio.Event()
    async with console(state) as client:
        with pytest.raises(TimeoutError):
            await client.request("halt", {}, 0.01)
        engine.gate.set()
        assert (await client.request("status", {}, 5)).text == "status done"


def test_no_engine_is_said_in_one_line(state: Path) -> None:
    for ask in (lambda: request_once(state, "cli:me", "status", {}), lambda: greet(state, "cli:me")):
        with pytest.raises(AmlError, match="no engine runs on"):
            ask()


def test_an_engine_that_hangs_is_said_in_one_line(state: Path) -> None:
    """C37: a hung engine is told apart from none."""
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(socket_path(state)))
        hung.listen(5)
        assert engine_is_running(state)
        with pytest.raises(AmlError, match="no answer from the engine within"):
            request_once(state, "cli:me", "status", {}, timeout_s=0.05)


async def test_a_dead_engines_socket_is_replaced(state: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(socket_path(state)))
    dead.close()
    assert not engine_is_running(state)
    async with Engine().server(state):
        assert engine_is_running(state)


async def test_a_second_engine_is_refused_and_the_first_keeps_its_socket(state: Path, engine: Engine) -> None:
    with pytest.raises(UsageError, match="another engine runs here"):
        async with Engine().server(state):
            pass
    async with console(state) as client:
        assert (await client.request("status", {}, 5)).ok


async def test_a_file_that_is_no_socket_is_left_alone(state: Path) -> None:
    path = socket_path(state)
    path.write_text("mine")
    with pytest.raises(UsageError, match="is no socket"):
        async with Engine().server(state):
            pass
    assert path.read_text() == "mine"


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A runtime directory with a short path, wherever pytest keeps its own."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        yield Path(folder)


async def test_a_path_too_long_goes_to_a_private_folder(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    deep = tmp_path / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    state = deep / "state.db"
    path = socket_path(state)
    assert path == socket_path(state) != socket_path(deep / "other.db")
    assert path.parent == runtime / f"aml100-{os.getuid()}"
    assert len(os.fsencode(path)) <= 100
    async with Engine().server(state):
        assert mode_of(path.parent) == 0o700
        assert mode_of(path) == 0o600
        assert engine_is_running(state)


async def test_a_private_folder_open_to_others_is_refused(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    folder = runtime / f"aml100-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    deep = tmp_path / ("a" * 100)
    deep.mkdir()
    with pytest.raises(UsageError, match="mode 0700"):
        async with Engine().server(deep / "state.db"):
            pass


def test_answers_survive_the_wire_unchanged() -> None:
    answer = Answer(3, True, "flat, 0 orders", 0, {"positions": []})
    assert decode_engine_frame(encode_frame(answer)) == answer
    with pytest.raises(msgspec.ValidationError):
        decode_engine_frame(b'{"type":"snapshot"}')
