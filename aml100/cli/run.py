"""`run` and `sim`: the engine in the foreground, the engine behind a console, or the simulated venue alone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aml100.cli.options import RunOptions, SimOptions
from aml100.cli.output import write_json
from aml100.control.attach import engine_is_running, greet
from aml100.domain.errors import AmlError, SafetyRefusal, UsageError

if TYPE_CHECKING:
    from aml100.domain.events import Record
    from aml100.headless import EventWriter
    from aml100.wiring.engines import RunPlan


def run(options: RunOptions) -> int:
    """Start the engine (or find the one that runs on this state.db) and open the console on it."""
    _check(options)
    if options.no_tui:
        return _headless(options)
    from aml100.cli.operate import open_console
    from aml100.tui.terminal import require_terminal

    require_terminal()
    if engine_is_running(options.state):
        _check_agreement(options)
        return open_console(options)
    child = StartedEngine(options)
    return open_console(options, child.trouble, child.failed)


def _check(options: RunOptions) -> None:
    if options.policy == "oracle":
        raise UsageError("--policy oracle: it sees the future; allowed: in backtest only")
    if options.model is not None and options.policy != "model":
        raise UsageError(f"--model: not beside --policy {options.policy}, which has none; allowed: one of the two")
    if options.venue.kind == "sim":
        if options.effective_execution != "venue":
            raise UsageError("--execution paper: not on the embedded venue, whose money is play money; allowed: venue")
        if options.data and "process" in options.given:
            raise UsageError("--process: not beside --data, whose bars are the market; allowed: one of the two")
        return
    for name in ("data", "process", "speed", "warmup_bars", "funding", "faults"):
        if name in options.given:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag}: only for the embedded venue; allowed: without --venue, or with --venue sim")


_SPOKEN = {"coins": "--coin", "warmup_bars": "--warmup-bars", "duration_s": "--duration"}
"""Options that are not called as their fields are."""


def _check_agreement(options: RunOptions) -> None:
    """A running engine is joined only where the options that were given mean the same one."""
    theirs = greet(options.state, "cli").options
    for name, wanted in _asked(options).items():
        if name in options.given and name in theirs and theirs[name] != wanted:
            has = "without it" if theirs[name] in (None, []) else f"with {_shown(theirs[name])}"
            flag = _SPOKEN.get(name, f"--{name}")
            words = "allowed: the options it was started with, none, or another --state"
            raise UsageError(f"{flag} {_shown(wanted)}: the engine on {options.state} runs {has}; {words}")


def _asked(options: RunOptions) -> dict[str, object]:
    """What makes one run another than the next, as an engine tells it of itself."""
    model = None
    if options.model is not None:
        from aml100.wiring.backtests import model_folder

        model = str(model_folder(options.folder, options.model).resolve())
    return {
        "venue": str(options.venue),
        "execution": options.effective_execution,
        "coins": list(options.coins),
        "data": [str(path.resolve()) for path in options.data],
        "funding": [str(path.resolve()) for path in options.funding],
        "process": None if options.data else options.process,
        "warmup_bars": options.warmup_bars,
        "faults": None if options.faults is None else str(options.faults.resolve()),
        "seed": options.seed,
        "speed": options.speed,
        "policy": options.policy,
        "model": model,
        "duration_s": options.duration_s,
        "cycles": options.cycles,
    }


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plan(options: RunOptions) -> RunPlan:
    from aml100.cli.bars import tape_files
    from aml100.domain.units import Coin
    from aml100.engine.admission import check_sound
    from aml100.learning.bundle import load_bundle
    from aml100.sim.faults import load_faults
    from aml100.wiring.backtests import feature_schema, model_folder
    from aml100.wiring.engines import RunPlan

    settings = options.load_settings()
    market = tape_files(options) if options.data else None
    bundle = None
    if options.model is not None:
        params = settings.params
        interval_ms = params.trading.interval_ms if market is None else market.series[0].interval_ms
        place = model_folder(options.folder, options.model)
        bundle = load_bundle(place, schema=feature_schema(params, interval_ms))
        check_sound(bundle)
    return RunPlan(
        settings=settings,
        state=options.state,
        coins=tuple(Coin(coin) for coin in options.coins),
        series=() if market is None else market.series,
        funding={} if market is None else market.funding,
        process=options.process,
        seed=options.seed,
        speed=options.speed,
        warmup_bars=options.warmup_bars,
        policy=options.policy,
        bundle=bundle,
        duration_s=options.duration_s,
        max_cycles=options.cycles,
        faults=() if options.faults is None else tuple(load_faults(options.faults)),
        venue=options.venue.kind,
        rest_url=options.venue.rest_url,
        ws_url=options.venue.ws_url,
        execution="paper" if options.effective_execution == "paper" else "venue",
        armed=options.arm,
        override_phase=options.override_phase,
        asked=_asked(options),
    )


def sim(options: SimOptions) -> int:
    """Only the simulated venue, until it is told to stop: one JSON line with its URLs when it is ready."""
    return asyncio.run(_serve_venue(options))


async def _serve_venue(options: SimOptions) -> int:
    from aml100.cli.bars import tape_files
    from aml100.domain.units import Coin
    from aml100.sim.faults import load_faults
    from aml100.sim.staging import stand_alone_venue

    market = tape_files(options) if options.data else None
    server, keys = stand_alone_venue(
        options.load_settings(),
        () if market is None else market.series,
        funding={} if market is None else market.funding,
        coins=tuple(Coin(coin) for coin in options.coins),
        process=options.process,
        seed=options.seed,
        speed=options.speed,
        warmup_bars=options.warmup_bars,
        host=options.host,
        port=options.port,
        key=options.key,
        deposit=options.deposit_usd,
        faults=[] if options.faults is None else load_faults(options.faults),
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with server:
        ready = {"rest": server.rest_url, "ws": server.ws_url, "account": server.account, "agent": server.agent, **keys}
        write_json(ready)
        sys.stdout.flush()
        await stopping.wait()
    return 0


# --- in the foreground ------------------------------------------------------------------------------------------


class _Lines:
    """The engine's events as lines on stdout."""

    def __init__(self, writer: EventWriter) -> None:
        self._writer = writer
        self.is_closed = False

    def on_record(self, record: Record) -> None:
        from aml100.headless import OutputClosed

        try:
            self._writer.write_record(record)
        except OutputClosed:
            self.is_closed = True

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        from aml100.domain.market import Bar
        from aml100.headless import OutputClosed, bar_event

        bar = fields.get("bar")
        try:
            self._writer.write(bar_event(bar) if isinstance(bar, Bar) else {"type": kind, **fields})
        except OutputClosed:
            self.is_closed = True


def _headless(options: RunOptions) -> int:
    if engine_is_running(options.state):
        raise UsageError(f"{options.state}: an engine runs on it already; allowed: attach, or another --state")
    plan = _plan(options)
    return asyncio.run(_run_engine(plan, options))


async def _run_engine(plan: RunPlan, options: RunOptions) -> int:
    from aml100.domain.clock import ManualClock
    from aml100.engine.alarms import SentinelLine
    from aml100.engine.collector import SparesTheStart
    from aml100.engine.listener import Listeners
    from aml100.headless import EventWriter
    from aml100.venue.clock import VenueClock
    from aml100.wiring.embedded import embedded_engine
    from aml100.wiring.engines import live_engine

    clock = ManualClock() if plan.venue == "sim" else VenueClock()
    lines = _Lines(EventWriter(sys.stdout, options.json, clock))
    listeners = Listeners(lines, SparesTheStart())
    opened = (
        embedded_engine(plan, listeners, clock)
        if isinstance(clock, ManualClock)
        else live_engine(plan, listeners, clock, os.environ)
    )
    async with (
        opened as (engine, desk),
        SentinelLine(options.state, engine.options.run_id) as sentinel,
    ):
        listeners.add(sentinel)
        sentinel.follow(engine)
        desk.alerts.on_alarm = sentinel.alarm
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, engine.request_stop, f"{signal.Signals(number).name}")
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        watcher = asyncio.create_task(_stop_when_unheard(lines, engine.request_stop))
        try:
            return await engine.run(desk)
        finally:
            watcher.cancel()


async def _stop_when_unheard(lines: _Lines, stop: object) -> None:
    """Nobody reads the events any more: end as if asked to."""
    while not lines.is_closed:  # noqa: ASYNC110 -- set by a synchronous writer
        await asyncio.sleep(0.2)
    assert callable(stop)
    stop("output closed")


# --- behind a console -------------------------------------------------------------------------------------------


class StartedEngine:
    """The engine as its own process in a session of its own: no dropped line touches it.

    Nobody waits for it: the console is open while it starts (GUARANTEES C5), and is told when it fails.
    """

    def __init__(self, options: RunOptions) -> None:
        options.state.parent.mkdir(parents=True, exist_ok=True)
        self._log = options.state.parent / "engine.log"
        command = [sys.executable, "-m", "aml100", *_arguments_of_this_process(), "--no-tui"]
        with self._log.open("ab") as file:
            self._begin = file.tell()
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=dict(os.environ),
            )
        self._started_s = time.monotonic()

    def trouble(self) -> str | None:
        """Why it does not answer, in words."""
        from aml100.tui.source import STARTS

        code = self._child.poll()
        if code is None:
            return f"{STARTS}, pid {self._child.pid}, {time.monotonic() - self._started_s:.0f} s"
        if code <= 0:
            return "the engine was stopped" if code == 0 else f"the engine was ended by {_signal_name(-code)}"
        return f"the engine ended with {code}: {_last_line(self._log, self._begin)}"

    def failed(self) -> AmlError | None:
        """The error it ended with; None while it runs, and after a run that ended as it should."""
        code = self._child.poll()
        return _failure(code, self._log, self._begin) if code else None


def _arguments_of_this_process() -> list[str]:
    return sys.argv[1:]


def _signal_name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _failure(code: int, log: Path, start: int) -> AmlError:
    """The engine's last line, with its exit code."""
    last = _last_line(log, start)
    match code:
        case UsageError.exit_code:
            return UsageError(last)
        case SafetyRefusal.exit_code:
            return SafetyRefusal(last)
        case _:
            return AmlError(last)


def _last_line(log: Path, start: int) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1].removeprefix("aml100-console: ")
    return "no word of why"
