"""Of two engines that are started at once on one state, the second leaves it as it is; on one account both are told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from aml100.control import place
from aml100.domain.clock import ManualClock
from aml100.domain.errors import UsageError
from aml100.engine.listener import Listeners
from aml100.sim.scenario import Tape
from aml100.storage.entries import Training
from aml100.trading.policies import Random
from aml100.wiring.embedded import embedded_engine
from tests.sim.live import living, plan_for, running, stand_alone, until, wandering

UNDER_WAY = tuple(Training(f"t-{number}", number, "running", "schedule", 3, 0, 3) for number in (1, 2))
REFUSED = r"state\.db: another engine starts or runs on it; allowed: attach, or another --state"


async def test_on_the_embedded_venue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has opened its state and does not listen yet; its trainings go on."""
    monkeypatch.setattr(place, "LEAVING_S", 0.0)
    plan = plan_for(tmp_path / "state.db", "model", {}, series=(wandering(600),), coins=(), warmup_bars=240)
    async with embedded_engine(plan, Listeners(), ManualClock()) as (first, _):
        for one in UNDER_WAY:
            first.database.record_training(one)
        first.database.flush()
        with pytest.raises(UsageError, match=REFUSED):
            async with embedded_engine(plan, Listeners(), ManualClock()):
                pass
        assert first.database.trainings() == UNDER_WAY
    async with embedded_engine(plan, Listeners(), ManualClock()):
        pass


async def test_on_a_venue_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "LEAVING_S", 0.0)
    async with (
        stand_alone(Tape([wandering(600)])) as server,
        living(server, tmp_path / "state.db", policy="model") as one,
    ):
        first, _, _ = one
        for training in UNDER_WAY:
            first.database.record_training(training)
        first.database.flush()
        with pytest.raises(UsageError, match=REFUSED):
            async with living(server, tmp_path / "state.db", policy="model"):
                pass
        assert first.database.trainings() == UNDER_WAY


async def test_two_engines_on_one_account_with_a_state_each_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Random, "every", 4)
    states = [tmp_path / name / "state.db" for name in "ab"]
    async with stand_alone(Tape([wandering(4000)]), speed=120.0) as server, AsyncExitStack() as stack:
        both = []
        for state, seed in zip(states, (1, 2), strict=True):
            engine, desk, heard = await stack.enter_async_context(living(server, state, seed=seed))
            await stack.enter_async_context(running(engine, desk))
            both.append((desk, heard))
            await until(lambda heard=heard: heard.fills, 30)
        for desk, heard in both:
            await until(lambda heard=heard: any(one.guard == "shared_account" for one in heard.risks), 60)
            (alert,) = [one for one in desk.alerts.active() if one.code == "shared_account"]
            assert alert.count == 1


HOLDER = """
import asyncio, sys
from pathlib import Path
from aml100.control.place import only_engine

async def hold():
    async with only_engine(Path(sys.argv[1])):
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


def test_a_killed_engine_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "LEAVING_S", 0.0)
    state = tmp_path / "state.db"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLDER, str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=REFUSED):
            asyncio.run(take(state))
        held.kill()
    asyncio.run(take(state))
    assert not list(tmp_path.iterdir())


async def take(state: Path) -> None:
    async with place.only_engine(state):
        pass
