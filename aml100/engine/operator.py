"""The engine's side of the operator socket: commands in, answers and snapshots out.

A command is journalled with who and when, whatever becomes of it. Halt proves itself (GUARANTEES B11): it closes and
cancels, asks the venue what is left, tries again, and answers with what it saw.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from aml100.control.alerts import FILE_NAME, AlertBook
from aml100.control.attach import OperatorServer
from aml100.control.flight import FOLDER as FLIGHT_FOLDER
from aml100.control.flight import FRAME_S, FlightRecorder
from aml100.control.protocol import Answer, Request, Snapshot, Welcome
from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError, VenueError
from aml100.domain.events import FAILED, CancelForeign, CancelOrders, Command, CommandDone, CommandName, TradingState
from aml100.domain.units import ZERO, Coin, iso_utc
from aml100.engine.alerts import AlertListener
from aml100.engine.desk import Begun, TrainingDesk
from aml100.engine.rounds import ROUND_S, Rounds
from aml100.engine.runtime import Engine
from aml100.engine.snapshots import SnapshotBuilder
from aml100.engine.telemetry import why_sentence
from aml100.storage.database import backup

HALT_FILE_POLL_S = 1.0
FLIGHT_POLL_S = 1.0
HALT_TRIES = 20
HALT_TRY_S = 0.25
WHY_REACH_BARS = 120
"""How far back the decision before a moment is looked for."""
STATUS_FIELDS = (
    "state",
    "venue",
    "execution",
    "run_id",
    "pid",
    "uptime_s",
    "phase",
    "equity",
    "balance",
    "drawdown_pct",
    "positions",
    "open_orders",
    "model",
    "training",
    "feeds",
    "risk",
    "loop_lag_ms",
    "budget",
    "access",
)


class OperatorDesk:
    """Serves one engine's socket and watches for the file HALT beside its state.db."""

    def __init__(self, engine: Engine, socket: Path, state_path: Path, options: dict[str, Any]) -> None:
        self._engine = engine
        self._state_path = state_path
        self._halt_file = state_path.parent / "HALT"
        self._options = options
        self.alerts = AlertBook(state_path.parent / FILE_NAME)
        self._snapshots = SnapshotBuilder(engine, self.alerts)
        self._server = OperatorServer(socket, self._snapshot, self.handle, self._welcome, self._console_left)
        self._flight = FlightRecorder(state_path.parent / FLIGHT_FOLDER)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> OperatorDesk:
        self.alerts.load()
        listener = AlertListener(self.alerts, wall_ms)
        listener.begin(self._engine.core.state.trading.value, self._engine.core.state.reason)
        self._engine.listeners.add(listener)
        rounds = Rounds(self._engine, listener, wall_ms)
        rounds.begin()
        await self._server.__aenter__()
        self._tasks = [
            asyncio.create_task(self._watch_halt_file(), name="HALT file"),
            asyncio.create_task(self._record_flight(), name="flight recorder"),
            asyncio.create_task(_make(rounds), name="rounds"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._flight.close()
        await self._server.__aexit__(None, None, None)

    def _snapshot(self) -> Snapshot:
        return self._snapshots.build()

    def _welcome(self, controller: bool) -> Welcome:
        return Welcome(
            pid=os.getpid(),
            run_id=self._engine.options.run_id,
            controller=controller,
            options=self._options,
            seen_ms=self.alerts.seen_ms,
        )

    async def _record_flight(self) -> None:
        """A frame every few seconds, and one at once when an alert comes or goes."""
        alerts, recorded_s = self.alerts.views(), -FRAME_S
        while True:
            now_s = self._engine.clock.monotonic_s()
            if now_s - recorded_s >= FRAME_S or self.alerts.views() != alerts:
                alerts, recorded_s = self.alerts.views(), now_s
                self._flight.record(self._snapshot())
            await asyncio.sleep(FLIGHT_POLL_S)

    def _console_left(self) -> None:
        self.alerts.console_left(wall_ms())

    async def _watch_halt_file(self) -> None:
        """A file HALT halts as the key does; taking it away does not resume."""
        seen = False
        while True:
            exists = self._halt_file.exists()
            if exists and not seen and self._engine.core.state.trading is not TradingState.HALTED:
                await self._halt("file:HALT")
            seen = exists
            await asyncio.sleep(HALT_FILE_POLL_S)

    # --- commands -------------------------------------------------------------------------------------------

    async def handle(self, request: Request, who: str) -> Answer:
        """Carry out one request; errors become answers, never a dropped connection."""
        try:
            answer = await self._dispatch(request, who)
        except AmlError as error:
            answer = Answer(request.id, False, str(error), error.exit_code)
        return msgspec.structs.replace(answer, id=request.id)

    async def _dispatch(self, request: Request, who: str) -> Answer:
        match request.command:
            case "status":
                return self._status()
            case "why":
                return self._why(request.arguments)
            case "prices":
                return self._prices(str(request.arguments.get("coin", "")))
            case "halt":
                return await self._halt(who)
            case "resume":
                return await self._resume(who)
            case "pause":
                await self._core_command(CommandName.PAUSE, who)
                return await self._done("pause", who, "entries paused; stops and exits stay active")
            case "flatten":
                return await self._flatten_some(who, request.arguments.get("coins"))
            case "retrain":
                return await self._train("retrain", who, lambda desk: desk.start("operator"))
            case "reset":
                return await self._reset(who)
            case "promote":
                return await self._promote(who, str(request.arguments.get("model", "")))
            case "rollback":
                return await self._rollback(who)
            case "stop":
                await self._done("stop", who, "stopping")
                self._engine.request_stop(f"stopped by {who}")
                return Answer(0, True, "engine stops")
            case "take_over":
                return await self._done("take_over", who, "this console commands now")
            case "cancel_training":
                return await self._train("cancel_training", who, lambda desk: desk.cancel())
            case "resume_training":
                return await self._train("resume_training", who, lambda desk: desk.go_on())
            case "backup":
                target = Path(str(request.arguments["path"]))
                await asyncio.to_thread(backup, self._state_path, target)
                return Answer(0, True, f"state.db copied to {target}")
            case _:
                return Answer(0, False, f"no such command: {request.command}", 2)

    def _status(self) -> Answer:
        snapshot = msgspec.to_builtins(self._snapshot())
        data = {name: snapshot[name] for name in STATUS_FIELDS}
        data["mode"], data["origin"], data["performance"] = (
            snapshot["mode"],
            snapshot["origin"],
            snapshot["performance"],
        )
        data["state_reason"], data["time_ms"] = snapshot["state_reason"], snapshot["time_ms"]
        return Answer(0, True, _status_line(data), 0, data)

    def _why(self, arguments: dict[str, Any]) -> Answer:
        """The last decisions; with `before_ms` on bars before it; with `order` those that led to one."""
        database = self._engine.database
        coin = None if arguments.get("coin") is None else Coin(str(arguments["coin"]))
        last = max(int(arguments.get("last", 20)), 1)
        before_ms = arguments.get("before_ms")
        if before_ms is None:
            decisions = database.last_decisions(coin, last)
        else:
            reach_ms = WHY_REACH_BARS * self._engine.core.rules.interval_ms
            decisions = database.decisions(int(before_ms) - reach_ms, int(before_ms), coin)[::-1]
        if arguments.get("order"):
            decisions = tuple(one for one in decisions if one.outcome == "order")
        rows = [
            {
                "coin": d.coin,
                "bar_ms": d.bar_ms,
                "action": int(d.action),
                "q": d.q,
                "outcome": d.outcome,
                "regime": d.regime,
                "confidence": d.confidence,
                "why": why_sentence(d),
                "gates": [{"name": g.name, "ok": g.ok, "reason": g.reason} for g in d.gates],
            }
            for d in decisions[:last]
        ]
        histogram = Counter(str(row["why"]) for row in rows)
        return Answer(0, True, f"{len(rows)} decisions", 0, {"decisions": rows, "histogram": dict(histogram)})

    def _prices(self, coin: str) -> Answer:
        """The latest closes of one coin, for a chart."""
        coins = self._engine.options.coins
        if coin not in coins:
            return Answer(0, False, f"prices: no coin {coin!r} here; allowed: {', '.join(coins)}", 2)
        points = tuple(self._engine.telemetry.price.get(Coin(coin), ()))
        return Answer(0, True, f"{len(points)} closes of {coin}", 0, {"coin": coin, "points": points})

    async def _core_command(self, name: CommandName, who: str, coins: tuple[Coin, ...] = ()) -> None:
        engine = self._engine
        await engine.on_consumer(lambda: engine.apply(Command(name, who, engine.clock.now_ms(), coins)))

    async def _done(self, name: str, who: str, result: str, *, ok: bool = True, exit_code: int = 0) -> Answer:
        """Journal what became of a command, and answer it."""
        engine = self._engine
        record = CommandDone(name, who, result if ok else FAILED + result, engine.clock.now_ms())
        await engine.on_consumer(lambda: engine.record(record))
        return Answer(0, ok, result, exit_code)

    async def _halt(self, who: str) -> Answer:
        """Latch, close, cancel, read back, try again; says what it saw at the venue."""
        await self._core_command(CommandName.HALT, who)
        left = "nothing was read back"
        for _ in range(HALT_TRIES):
            await asyncio.sleep(HALT_TRY_S)
            try:
                left = await self._what_is_left()
            except VenueError as error:
                left = f"the venue does not answer: {error}"
                continue
            if not left:
                text = f"halted: flat, 0 orders, verified at {iso_utc(wall_ms())}"
                return await self._done("halt", who, text)
        return await self._done("halt", who, f"halted, but not clean: {left}", ok=False, exit_code=1)

    async def _what_is_left(self) -> str:
        """Positions and orders still at the venue, in words; what can be cancelled is cancelled on the way."""
        engine = self._engine
        state = await engine.account_venue.account(engine.options.account)
        orders = await engine.account_venue.resting_orders(engine.options.account)
        ours = [(o.coin, o.cloid) for o in orders if o.cloid is not None]
        foreign = tuple((o.coin, o.oid) for o in orders if o.cloid is None)
        positions = [p for p in state.positions if p.size != 0]
        flat = {coin for coin, _ in [*ours, *foreign]} - {p.coin for p in positions}
        cancels = tuple((coin, cloid) for coin, cloid in ours if coin in flat)
        strays = tuple((coin, oid) for coin, oid in foreign if coin in flat)
        if cancels or strays:
            engine.executor.start([a for a in (CancelOrders(cancels), CancelForeign(strays)) if a.orders])
        words = [f"{p.coin} {p.size}" for p in positions]
        if orders:
            words.append(f"{len(orders)} orders")
        return ", ".join(words)

    async def _resume(self, who: str) -> Answer:
        if self._halt_file.exists():
            text = f"{self._halt_file} is there: remove it first, then resume"
            return await self._done("resume", who, text, ok=False, exit_code=3)
        await self._core_command(CommandName.RESUME, who)
        return await self._done("resume", who, "trading; the drawdown is measured anew from here")

    async def _flatten_some(self, who: str, named: object) -> Answer:
        """Of the coins that are named, of all where none is; a coin that is not here closes nothing at all."""
        known = self._engine.core.instruments
        coins = tuple(Coin(str(one)) for one in named) if isinstance(named, list | tuple) else ()
        strange = [coin for coin in coins if coin not in known]
        if strange:
            text = f"flatten: no coin {', '.join(strange)} here, nothing was closed; allowed: {', '.join(known)}"
            return await self._done("flatten", who, text, ok=False, exit_code=2)
        return await self._flatten(who, coins)

    async def _flatten(self, who: str, coins: tuple[Coin, ...] = ()) -> Answer:
        core = self._engine.core

        def held() -> list[Coin]:
            return [coin for coin in core.ledger.open_coins() if not coins or coin in coins]

        count = len(held())
        await self._core_command(CommandName.FLATTEN, who, coins)
        for _ in range(HALT_TRIES):
            if core.exits.all_gone(coins):
                of = f" of {', '.join(coins)}" if coins else ""
                many = "1 position" if count == 1 else f"{count} positions"
                return await self._done("flatten", who, f"{many}{of} closed")
            await asyncio.sleep(HALT_TRY_S)
        left = ", ".join(held()) or "an entry is on its way"
        return await self._done("flatten", who, f"positions are still open: {left}", ok=False, exit_code=1)

    async def _train(self, name: str, who: str, ask: Callable[[TrainingDesk], Begun]) -> Answer:
        """Ask the desk for a training, or for the end of one."""
        desk = self._engine.desk
        if desk is None:
            text = f"policy {self._engine.options.policy} is not trained"
            return await self._done(name, who, text, ok=False, exit_code=1)
        begun = ask(desk)
        return await self._done(name, who, begun.text, ok=begun.ok, exit_code=0 if begun.ok else 1)

    async def _promote(self, who: str, model: str) -> Answer:
        desk, engine = self._engine.desk, self._engine
        if desk is None:
            text = f"policy {engine.options.policy} has no models"
            return await self._done("promote", who, text, ok=False, exit_code=1)
        succession = desk.succession
        said = await self._try(lambda: succession.promote_by_hand(model, who, engine.core, engine.clock.now_ms()))
        return await self._done("promote", who, said[1], ok=not said[0], exit_code=said[0])

    async def _rollback(self, who: str) -> Answer:
        desk, engine = self._engine.desk, self._engine
        if desk is None:
            text = f"policy {engine.options.policy} has no models"
            return await self._done("rollback", who, text, ok=False, exit_code=1)
        succession = desk.succession
        said = await self._try(lambda: succession.rollback(who, engine.core, engine.clock.now_ms()))
        return await self._done("rollback", who, said[1], ok=not said[0], exit_code=said[0])

    async def _try(self, work: Callable[[], str]) -> tuple[int, str]:
        """Do something between two events: (exit code, what came of it or why it was refused)."""

        def attempt() -> tuple[int, str]:
            try:
                return 0, work()
            except AmlError as error:
                return error.exit_code, str(error)

        return await self._engine.on_consumer(attempt)

    async def _reset(self, who: str) -> Answer:
        """Close the positions first, retire the champion, start a new model; everything earned stays."""
        desk = self._engine.desk
        if desk is None:
            text = f"policy {self._engine.options.policy} has no model to reset"
            return await self._done("reset", who, text, ok=False, exit_code=1)
        flat = await self._flatten(who)
        if not flat.ok:
            return flat
        engine = self._engine
        begun = await engine.on_consumer(lambda: desk.reset(engine.core, engine.clock.now_ms()))
        return await self._done("reset", who, begun.text)


async def _make(rounds: Rounds) -> None:
    while True:
        await asyncio.sleep(ROUND_S)
        rounds.look()


def _status_line(data: dict[str, Any]) -> str:
    phase, positions = data["phase"], data["positions"]
    why = f" ({data['state_reason']})" if data["state_reason"] else ""
    made = sum((Decimal(one["unrealised"]) for one in positions), ZERO)
    naked = [one["coin"] for one in positions if not one["protected"]]
    refused = any(one["guard"] == "rejects_in_row" and one["state"] == "tripped" for one in data["risk"])
    words = [
        f"{data['mode']} {data['state'].upper().replace('_', ' ')}{why}",
        f"equity {Decimal(data['equity']):,.2f} USD",
        f"drawdown {data['drawdown_pct']:.2f} %",
        f"positions {len(positions)}" + (f" ({made:+,.2f} USD unrealised)" if positions else ""),
        *([f"NAKED {' '.join(naked)}"] if naked else []),
        *(["NO ENTRIES: refused too often in a row, until a resume"] if refused else []),
        f"phase {phase['name']} {phase['cycles_done']}/{phase['cycles_required']}",
    ]
    return "  ".join(words)
