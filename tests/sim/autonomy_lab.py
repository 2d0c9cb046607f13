"""A process that kills autonomous engines, their trainers and their consoles, and recounts what is left after each.

The engine is the real one, trained models and all, on the embedded venue with a planted edge; an engine is forked a
start and ends by SIGKILL at a chosen crossing of a chosen point: around what the loop decides (trainings, verdicts on
models, shadows, promotions, cycles) and around the journal's commits. Trainers are killed at a chosen report of
progress, consoles once they have drawn. Which, when and where follow from the seed.

After each round everything is counted again from the rows: cycles are whole, in order, never judged twice nor
differently; phase and cycle counts are what the verdicts add up to; every trained model has been judged or is about to
be; one champion at most; bars decided one to one; and `verify` passes.

Run as `python -m tests.sim.autonomy_lab FOLDER ROUNDS SEED CYCLES CYCLE_DAYS [BARS_A_SECOND]`; prints one JSON object.
Cycles of 30 days have a Sharpe ratio and may pass; shorter ones all fail, which costs less time and is counted as
strictly. Trainings last some wall seconds, so the pace of the market decides how much of it they meet.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pty
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from aml100.config.loading import load_settings
from aml100.control.place import engine_is_running
from aml100.domain.clock import ManualClock
from aml100.domain.units import DAY_MS, HOUR_MS
from aml100.engine.cycle import CycleKeeper
from aml100.engine.desk import TrainingDesk
from aml100.engine.instep import StepKeeper
from aml100.engine.listener import Listeners
from aml100.engine.modelbook import ModelBook
from aml100.engine.training_board import TrainingBoard
from aml100.engine.training_supervisor import TrainingSupervisor
from aml100.storage.reader import StateReader
from aml100.storage.writer import Writer
from aml100.wiring import embedded, engines
from tests.sim.crash_lab import in_child, is_sound

INTERVAL_MS = HOUR_MS
BARS_A_SECOND = 200
WARMUP_BARS = 1_200
CONSOLE_WAIT_S = 20.0
WAITS_DAYS = 150
"""A cycle with few trades is back-tested first, for some seconds; at this speed that is months of market time."""
CYCLES_A_ROUND = 10
"""A point that is not met meanwhile is passed over."""

POINTS: dict[str, tuple[type, str, int]] = {
    "training ended": (TrainingSupervisor, "_finish", 2),
    "cycle judged": (CycleKeeper, "_judge", 2),
    "models journalled": (ModelBook, "commit", 3),
    "journal commit": (Writer, "_commit", 300),
    "training begun": (TrainingDesk, "_begin", 2),
    "model judged": (TrainingDesk, "_judge", 2),
    "shadow begun": (TrainingDesk, "_begin_shadow", 1),
    "step acknowledged": (StepKeeper, "on_step", 200),
    "start prepared": (StepKeeper, "prepare", 1),
}
"""Where, and the latest crossing that is drawn."""

PARAMS = {
    "trading": {"interval": "1h"},
    "model": {"lstm_layers": 1, "lstm_hidden": 16},
    "training": {
        "learning_rate": 0.003, "target_update": 0.03, "batch_stretches": 8, "burn_in_bars": 16, "stretch_bars": 64,
        "bootstrap_seconds": 1.0, "budget_seconds": 3.0, "shadow_hours": 72, "retrain_hours": 240,
    },
}  # fmt: skip
_EASY = {
    "monthly_return_min_pct": -100, "sharpe_min": -100, "profit_factor_min": 0, "win_rate_min_pct": 0,
    "max_drawdown_pct": 100, "trade_density_min_pct": 0,
}  # fmt: skip
OBJECTIVES = {
    "gates_mode": "document",
    "step_back_after_failures": 2,
    "phases": {
        "Foundation": _EASY | {"cycles": 2},
        "Growth": _EASY | {"monthly_return_min_pct": 1000, "cycles": 3},
        "Production": _EASY | {"cycles": 3},
    },
}
"""Foundation is passed whatever comes and Growth never: so phases move on and back while the lab runs."""


@dataclass(frozen=True)
class Round:
    """What is killed: the engine at the `nth` crossing; the trainer at its `trainer`-th report, a console, or not."""

    point: str
    nth: int
    trainer: int | None
    console: bool


def draw(rng: np.random.Generator, number: int) -> Round:
    name = list(POINTS)[number % len(POINTS)]
    when = ("before", "after")[int(rng.integers(2))]
    nth = int(rng.integers(1, POINTS[name][2] + 1))
    trainer = int(rng.integers(1, 6)) if rng.random() < 0.4 else None
    return Round(f"{when} {name}", nth, trainer, bool(rng.random() < 0.25))


# --- in the engine's process -------------------------------------------------------------------------------------


def watch(kill: Round | None, told: Callable[[str], None]) -> None:
    """Count crossings and kill where it was drawn."""
    counts: Counter[str] = Counter()

    def cross(name: str) -> None:
        counts[name] += 1
        if kill is not None and name == kill.point and counts[name] == kill.nth:
            told(name)
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def plain(*args: Any, **kwargs: Any) -> Any:
            cross(f"before {name}")
            answer = whole(*args, **kwargs)
            cross(f"after {name}")
            return answer

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            cross(f"before {name}")
            answer = await whole(*args, **kwargs)
            cross(f"after {name}")
            return answer

        return awaited if asyncio.iscoroutinefunction(whole) else plain

    for name, (owner, method, _) in POINTS.items():
        setattr(owner, method, wrapped(name, getattr(owner, method)))
    reported = TrainingBoard.on_progress

    def on_progress(self: TrainingBoard, *args: Any) -> None:
        reported(self, *args)
        counts["progress"] += 1
        if kill is not None and counts["progress"] == kill.trainer:
            for child in psutil.Process().children():
                if "aml100.training.worker" in child.cmdline():
                    told("trainer")
                    child.kill()

    TrainingBoard.on_progress = on_progress  # type: ignore[method-assign]
    whole_options = engines.desk_options
    engines.desk_options = lambda *args: replace(  # type: ignore[assignment]
        whole_options(*args), checkpoint_s=0.3, restart_after_s=(0.2, 0.2, 0.2)
    )


async def play(state: Path, cycles: int, pace: int) -> int:
    plan = engines.RunPlan(
        settings=load_settings(state.parent / "config", {}),
        state=state,
        coins=(),
        series=(),
        funding={},
        process="trending",
        seed=4,
        speed=pace * INTERVAL_MS / 1000,
        warmup_bars=WARMUP_BARS,
        policy="model",
        bundle=None,
        duration_s=None,
        max_cycles=cycles,
    )
    async with embedded.embedded_engine(plan, Listeners(), ManualClock()) as (engine, desk):
        return await engine.run(desk)


def _die_with_parent() -> None:
    """On Linux: whoever stops the lab leaves no engine behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


# --- from outside ------------------------------------------------------------------------------------------------


def start(state: Path, kill: Round | None, cycles: int, pace: int) -> tuple[int, list[str]]:
    """One engine until it is killed or has seen so many cycles; its exit code, and what was killed."""
    told = state.parent / "killed"
    told.unlink(missing_ok=True)

    def tell(what: str) -> None:
        with told.open("a") as file:
            file.write(what + "\n")

    def work() -> int:
        _die_with_parent()
        watch(kill, tell)
        return asyncio.run(play(state, cycles, pace))

    if kill is not None and kill.console:
        watcher = os.fork()
        if watcher == 0:
            os._exit(0 if kill_console(state, tell) else 1)
        code = in_child(work)
        os.waitpid(watcher, 0)
    else:
        code = in_child(work)
    return code, told.read_text().split("\n")[:-1] if told.exists() else []


def kill_console(state: Path, tell: Callable[[str], None]) -> bool:
    """Attach a real console in a terminal of its own, and SIGKILL it once it has drawn something."""
    until_s = time.monotonic() + CONSOLE_WAIT_S
    while not engine_is_running(state):
        if time.monotonic() > until_s:
            return False
        time.sleep(0.05)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "-m", "aml100", "attach", "--state", str(state)])
    drawn = b""
    while len(drawn) < 2_000 and time.monotonic() < until_s:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                drawn += os.read(terminal, 4096)
            except OSError:
                break
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    if len(drawn) >= 2_000:
        tell("console")
    return True


# --- recounting --------------------------------------------------------------------------------------------------


def recount(state: Path, known: dict[int, dict[str, Any]], cycle_days: int) -> list[str]:
    """What is wrong with the loop's own books; `known` holds the cycles seen before and takes the new ones."""
    if not state.exists():
        return []
    with StateReader.read(state) as reader:
        return [*_cycles(reader, known, cycle_days), *_models(reader), *_bars(reader)]


def _cycles(reader: StateReader, known: dict[int, dict[str, Any]], cycle_days: int) -> list[str]:
    wrong: list[str] = []
    cycles = reader.cycles()
    phases = list(OBJECTIVES["phases"])  # type: ignore[call-overload]
    index = done = failures = 0
    moves: list[tuple[str, str]] = []
    for number, cycle in enumerate(cycles, start=1):
        row = asdict(cycle)
        if known.setdefault(cycle.number, row) != row:
            wrong.append(f"cycle {cycle.number} was judged again, differently")
        if cycle.number != number or cycle.to_ms - cycle.from_ms != cycle_days * DAY_MS:
            wrong.append(f"cycle {number} has number {cycle.number} and spans {cycle.to_ms - cycle.from_ms} ms")
        if number > 1 and cycle.from_ms != cycles[number - 2].to_ms:
            wrong.append(f"cycle {number} does not follow the one before it")
        if cycle.phase != phases[index]:
            wrong.append(f"cycle {number} stands in {cycle.phase}, the verdicts add up to {phases[index]}")
        done, failures = (done + 1, 0) if cycle.counted else (done, failures + 1)
        if done >= (2, 3, 3)[index] and index < 2:
            moves.append((phases[index], phases[index + 1]))
            index, done, failures = index + 1, 0, 0
        elif failures >= 2 and index > 0:
            moves.append((phases[index], phases[index - 1]))
            index, done, failures = index - 1, 0, 0
        told = json.loads(cycle.state)
        if (told["index"], told["cycles_done"], told["failures_in_row"], told["number"]) != (
            index, done, failures, number,
        ):  # fmt: skip
            wrong.append(f"after cycle {number} the accounting says {told}, the verdicts {index, done, failures}")
    if missing := known.keys() - {cycle.number for cycle in cycles}:
        wrong.append(f"cycles {sorted(missing)} are gone")
    if [(step.from_phase, step.to_phase) for step in reader.phases()] != moves:
        wrong.append(f"phases moved {reader.phases()}, the verdicts {moves}")
    points = reader.equity_curve()
    if points and cycles and points[-1].time_ms > cycles[-1].to_ms + WAITS_DAYS * DAY_MS:
        wrong.append(f"{points[-1].time_ms - cycles[-1].to_ms} ms since the last cycle")
    return wrong


def _models(reader: StateReader) -> list[str]:
    wrong: list[str] = []
    models, events = reader.models(), reader.model_events()
    champions = [one.id for one in models if one.state == "champion"]
    seated = [one.model for one in events if one.event == "promoted"]
    if champions != seated[-1:]:
        wrong.append(f"champion {champions}, last promoted {seated[-1:]}")
    trained = Counter(one.model for one in events if one.event == "trained")
    done = [one.model for one in reader.trainings() if one.state == "done"]
    if any(count > 1 for count in trained.values()) or len(set(done)) != len(done):
        wrong.append(f"a model was trained or told twice: {trained}, {done}")
    running = [one.id for one in reader.trainings() if one.state == "running"]
    if len(running) > 1:
        wrong.append(f"trainings {running} run at once")
    judged = {one.model for one in events if one.event in ("refused", "promoted", "shadow")}
    waiting = [model for model in done if model not in judged]
    if len(waiting) > 1 or (waiting and waiting[0] != done[-1]):
        wrong.append(f"models {waiting} were trained and never judged")
    return wrong


def _bars(reader: StateReader) -> list[str]:
    bars = [one.bar_ms for one in reader.decisions()]
    if bars and bars != list(range(bars[0], bars[-1] + 1, INTERVAL_MS)):
        return [f"{len(bars)} decisions over {(bars[-1] - bars[0]) // INTERVAL_MS + 1} bars"]
    return []


def tally(state: Path) -> dict[str, object]:
    """What happened in all."""
    with StateReader.read(state) as reader:
        trainings = reader.trainings()
        return {
            "cycles": len(reader.cycles()),
            "phases": [(step.from_phase, step.to_phase) for step in reader.phases()],
            "model_events": Counter(one.event for one in reader.model_events()),
            "trainings": Counter(one.state for one in trainings),
            "decisions": len(reader.decisions()),
            "trades": len(reader.trades()),
            "unjudged": [
                one.model
                for one in trainings
                if one.state == "done" and not any(event.model == one.model for event in reader.model_events())
            ],
        }


def main() -> None:
    folder, rounds, rng = Path(sys.argv[1]), int(sys.argv[2]), np.random.default_rng(int(sys.argv[3]))
    cycles, cycle_days = int(sys.argv[4]), int(sys.argv[5])
    pace = int(sys.argv[6]) if len(sys.argv) > 6 else BARS_A_SECOND
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "params.json").write_text(json.dumps(PARAMS))
    (folder / "config" / "objectives.json").write_text(json.dumps(OBJECTIVES | {"cycle_days": cycle_days}))
    state, known = folder / "state.db", dict[int, dict[str, Any]]()
    killed: Counter[str] = Counter()
    wrong: list[object] = []
    for number in range(rounds):
        kill = draw(rng, number)
        code, told = start(state, kill, CYCLES_A_ROUND, pace)
        killed.update(told)
        found = recount(state, known, cycle_days)
        if not is_sound(state):
            found.append("verify finds differences")
        if code == 99:
            sys.exit("the engine does not run here")
        if code not in (0, -signal.SIGKILL):
            found.append(f"ended with {code}")
        sys.stderr.write(f"{number + 1}/{rounds} {kill}: {told}, {len(known)} cycles, {found or 'sound'}\n")
        wrong += [[number, asdict(kill), one] for one in found]
    left = max(cycles - len(known), 1)
    last, _ = start(state, None, left, pace)
    wrong += [[rounds, "last", one] for one in recount(state, known, cycle_days)]
    sound = is_sound(state)
    sys.stdout.write(
        json.dumps({"killed": killed, "wrong": wrong, "last": last, "sound": sound, **tally(state)}, default=dict)
    )


if __name__ == "__main__":
    main()
