"""An engine that only listens: `python idle_engine.py STATE` serves the frozen day with its clock running."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
from desk import SNAPSHOT

from aml100.control.attach import OperatorServer, socket_path
from aml100.control.protocol import Answer, FeedView, Request, Snapshot, Welcome


class IdleEngine:
    """Nothing happens but that time passes: market time at real speed, messages every second or so."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._seq = 0

    def snapshot(self) -> Snapshot:
        self._seq += 1
        passed_ms = round((time.monotonic() - self._began_s) * 1000)
        ages = [
            FeedView(one.coin, one.channel, "LIVE", (passed_ms + 300 * at) % 900)
            for at, one in enumerate(SNAPSHOT.feeds)
        ]
        return msgspec.structs.replace(
            SNAPSHOT,
            seq=self._seq,
            time_ms=SNAPSHOT.time_ms + passed_ms,
            wall_ms=SNAPSHOT.wall_ms + passed_ms,
            uptime_s=SNAPSHOT.uptime_s + passed_ms / 1000,
            feeds=tuple(ages),
            loop_lag_ms=2.0 + self._seq % 3,
        )

    async def handle(self, request: Request, who: str) -> Answer:
        return Answer(request.id, True, f"{request.command} by {who}")

    def welcome(self, controller: bool) -> Welcome:
        return Welcome(1, "r-idle", controller, {})


async def serve(state: Path) -> None:
    engine = IdleEngine()
    async with OperatorServer(socket_path(state), engine.snapshot, engine.handle, engine.welcome):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
