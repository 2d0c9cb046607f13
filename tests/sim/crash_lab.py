"""A process that kills engines: it forks one a start, and ends it as SIGKILL would at a chosen crossing of a point.

The points stand where a kill could lose or double something: around every commit of the journal, every request to the
venue and every durable input of the venue itself. The engine is the real one on the embedded venue, over HTTP and
websockets; only the counting is added. Prints one JSON document:

    {kills: [[point, market time ms, exit code]], unsound_after: [...], naked_after: [...], orders: [...], ...}

Run as `python crash_lab.py TAPE WARMUP_BARS FOLDER KILLS SEED`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from aml100.config.loading import load_settings
from aml100.domain.clock import ManualClock
from aml100.domain.orders import OrderKind
from aml100.engine.execution import Executor
from aml100.engine.instep import StepKeeper
from aml100.engine.listener import Listeners
from aml100.sim import staging
from aml100.sim.exchange import Exchange
from aml100.sim.replay import Replay
from aml100.sim.server import SimServer
from aml100.sim.store import VenueStore
from aml100.storage.importing import read_bars
from aml100.storage.verifying import verify
from aml100.storage.writer import Writer
from aml100.trading.ledger import apply_fill
from aml100.trading.policies import Random
from aml100.wiring import embedded, engines

KILLED = 137
POINTS: dict[str, tuple[type, str]] = {
    "journal commit": (Writer, "_commit"),
    "order request": (Executor, "_place"),
    "cancel request": (Executor, "_cancel"),
    "venue input": (VenueStore, "append"),
    "venue action": (SimServer, "act"),
    "step acknowledged": (StepKeeper, "on_step"),
    "start prepared": (StepKeeper, "prepare"),
}


class Counter:
    """Counts crossings of one point; the chosen one is the last thing this process does."""

    def __init__(self, kill_at: tuple[str, int] | None, told: Path) -> None:
        self._name, self._left = kill_at or ("", 0)
        self._told = told
        self.clock: ManualClock | None = None

    def cross(self, name: str) -> None:
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            now_ms = 0 if self.clock is None else self.clock.now_ms()
            self._told.write_text(json.dumps([name, now_ms]))
            os._exit(KILLED)


def watch(counter: Counter) -> None:
    """Count before and after each point."""

    def wrapped(name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def plain(*args: Any, **kwargs: Any) -> Any:
            counter.cross(f"before {name}")
            answer = whole(*args, **kwargs)
            counter.cross(f"after {name}")
            return answer

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            counter.cross(f"before {name}")
            answer = await whole(*args, **kwargs)
            counter.cross(f"after {name}")
            return answer

        return awaited if asyncio.iscoroutinefunction(whole) else plain

    for name, (owner, method) in POINTS.items():
        setattr(owner, method, wrapped(name, getattr(owner, method)))


async def play(tape: Path, warmup_bars: int, state: Path, counter: Counter) -> int:
    """One engine from its start to the end of the tape, or to its death."""
    plan = engines.RunPlan(
        settings=load_settings(None, {}),
        state=state,
        coins=(),
        series=(read_bars(tape, None),),
        funding={},
        process="",
        seed=5,
        speed=1e6,
        warmup_bars=warmup_bars,
        policy="random",
        bundle=None,
        duration_s=None,
        max_cycles=None,
    )
    clock = counter.clock = ManualClock()
    async with embedded.embedded_engine(plan, Listeners(), clock) as (engine, desk):
        return await engine.run(desk)


def in_child(work: Callable[[], int]) -> int:
    """Do it in a fork; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start(
    tape: Path, warmup_bars: int, state: Path, kill_at: tuple[str, int] | None
) -> tuple[int, list[object] | None]:
    told = state.parent / "killed.json"
    told.unlink(missing_ok=True)

    def work() -> int:
        counter = Counter(kill_at, told)
        watch(counter)
        running: Awaitable[int] = play(tape, warmup_bars, state, counter)
        return asyncio.run(running)  # type: ignore[arg-type]

    code = in_child(work)
    return code, json.loads(told.read_text()) if told.exists() else None


def is_sound(state: Path) -> bool:
    """`verify` on what is left; a state.db that was not made yet has nothing to verify."""
    if not state.exists():
        return True

    def work() -> int:
        with sqlite3.connect(state) as connection:
            made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'core_state'").fetchone()[0]
        connection.close()
        return 0 if not made or all(check.ok for check in verify(state, apply_fill)) else 1

    return in_child(work) == 0


def is_protected(tape: Path, warmup_bars: int, state: Path) -> bool:
    """At the venue, as the kill left it: every open position has an armed stop of its size on the other side."""

    def work() -> int:
        params = load_settings(None, {}).params
        market = staging.make_tape((read_bars(tape, None),), {}, params)
        exchange = Exchange(list(staging.instruments_of(market.coins).values()), staging.exchange_rules(params))
        with sqlite3.connect(venue_file(state)) as connection:
            identity = connection.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()[0]
        connection.close()
        replay = Replay(exchange, market, warmup_bars, VenueStore(venue_file(state), identity))
        replay.start()
        for account in exchange.accounts.values():
            for coin, held in account.holdings.items():
                stops = [exchange.orders[oid] for oid in account.open_oids]
                covered = sum(
                    stop.remaining
                    for stop in stops
                    if stop.order.coin == coin
                    and stop.order.kind is OrderKind.STOP_LOSS
                    and stop.is_armed_trigger
                    and stop.order.side.sign * held.size < 0
                )
                if covered < abs(held.size):
                    return 1
        return 0

    return not venue_file(state).exists() or in_child(work) == 0


def venue_file(state: Path) -> Path:
    return state.with_name(state.name + ".venue")


def rows(path: Path, question: str) -> list[list[object]]:
    with sqlite3.connect(path) as connection:
        found = [list(row) for row in connection.execute(question)]
    connection.close()
    return found


def main() -> None:
    tape, warmup_bars, folder = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    kills, rng = int(sys.argv[4]), np.random.default_rng(int(sys.argv[5]))
    Random.every = 4  # type: ignore[misc]  # orders often enough that kills fall among them
    undisturbed, state = folder / "undisturbed.db", folder / "state.db"
    code, _ = start(tape, warmup_bars, undisturbed, None)
    assert code == 0, f"the undisturbed run ended with {code}"
    points: list[list[object]] = []
    unsound: list[object] = []
    naked: list[object] = []
    places = [f"{when} {name}" for name in POINTS for when in ("before", "after")]
    while len(points) < kills:
        place = places[len(points) % len(places)]
        code, point = start(tape, warmup_bars, state, (place, 1 if "start" in place else int(rng.integers(1, 4))))
        if point is None:
            break
        points.append([*point, code])
        if not is_sound(state):
            unsound.append(point)
        if not is_protected(tape, warmup_bars, state):
            naked.append(point)
    last, _ = start(tape, warmup_bars, state, None)
    document = {
        "kills": points,
        "unsound_after": unsound,
        "naked_after": naked,
        "last_exit_code": last,
        "sound_at_the_end": is_sound(state),
        "decided": [rows(one, "SELECT bar_ms FROM decisions ORDER BY bar_ms") for one in (undisturbed, state)],
        "orders": rows(state, "SELECT cloid, status, kind, reason FROM orders"),
        "fills": [rows(one, "SELECT cloid, side, size FROM fills ORDER BY seq") for one in (undisturbed, state)],
        "equity": [
            rows(one, "SELECT equity FROM equity ORDER BY seq DESC LIMIT 1")[0][0] for one in (undisturbed, state)
        ],
    }
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    main()
