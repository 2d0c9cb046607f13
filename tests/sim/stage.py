"""A simulated venue on loopback, its keys, and a client that follows its steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import aiohttp
import msgspec
import numpy as np

from aml100.domain.clock import SystemClock, wall_ms
from aml100.domain.market import instrument_for
from aml100.domain.units import Coin
from aml100.market.series import BarSeries
from aml100.sim.dexes import asset_ids
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.scenario import Tape
from aml100.sim.server import SimServer
from aml100.sim.staging import ACCOUNT_KEY, AGENT_KEY
from aml100.venue.signing import NonceSource, Signer

START = 1_751_241_600_000
RULES = ExchangeRules(Decimal("0.00045"), Decimal("0.00015"), Decimal("0.0001"))


def series(rows: Sequence[tuple[float, float, float, float]], coin: str = "BTC", start_ms: int = START) -> BarSeries:
    """One-minute bars from (open, high, low, close) rows."""
    table = np.array(rows, dtype=np.float64)
    times = start_ms + np.arange(len(rows), dtype=np.int64) * 60_000
    return BarSeries(Coin(coin), 60_000, "file:test", times, *(table[:, k] for k in range(4)), np.full(len(rows), 8.0))


def venue(tape: Tape, **options: object) -> SimServer:
    """A server for the tape's coins, unlimited in speed unless told otherwise."""
    instruments = [instrument_for(coin, number) for number, coin in enumerate(tape.coins)]
    settings: dict[str, object] = {"speed": 0.0, "warmup_bars": 2} | options
    return SimServer(Exchange(instruments, RULES), tape, account_key=ACCOUNT_KEY, agent_key=AGENT_KEY, **settings)  # type: ignore[arg-type]


class StagedClock(SystemClock):
    """Real wall time, but seconds that a test turns on: what moves a market that runs by the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.wall_s = 1000.0

    def monotonic_s(self) -> float:
        return self.wall_s


def alone(tape: Tape, clock: SystemClock | None = None, **options: object) -> SimServer:
    """A venue that stands alone, as `sim` starts it: a book with depth, limits, its own clock."""
    numbers = asset_ids(tape.coins)
    instruments = [instrument_for(coin, numbers[coin]) for coin in tape.coins]
    settings: dict[str, object] = {"speed": 1.0, "warmup_bars": 2, "embedded": False, "clock": clock} | options
    exchange = Exchange(instruments, replace(RULES, has_depth=True))
    return SimServer(exchange, tape, account_key=ACCOUNT_KEY, agent_key=AGENT_KEY, **settings)  # type: ignore[arg-type]


class Follower:
    """A client in lock-step: `frame` and `marker` read, `ack` answers, `order` acts with the agent's key."""

    def __init__(self, http: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, server: SimServer) -> None:
        self.http, self.socket, self.server = http, socket, server
        self.signer, self.nonces = Signer(AGENT_KEY, "other"), NonceSource(wall_ms)
        self.frames: list[dict[str, object]] = []

    async def subscribe(self, **subscription: object) -> None:
        await self.socket.send_json({"method": "subscribe", "subscription": subscription})

    async def marker(self) -> dict[str, object]:
        """Read up to the next marker; the frames before it are kept in `frames`."""
        while True:
            frame = msgspec.json.decode((await asyncio.wait_for(self.socket.receive(), 20)).data)
            if frame["channel"] == "simStep":
                return dict(frame["data"])
            self.frames.append(frame)

    async def ack(self, marker: Mapping[str, object], sent: int = 0) -> None:
        await self.socket.send_json({"method": "simAck", "step": marker["step"], "sent": sent})

    async def act(self, action: dict[str, object], **extra: object) -> dict[str, object]:
        nonce = self.nonces.next()
        body = {"action": action, "nonce": nonce, "signature": self.signer.sign(action, nonce), **extra}  # type: ignore[arg-type]
        async with self.http.post(self.server.rest_url + "/exchange", json=body) as answer:
            return dict(await answer.json())

    async def info(self, **body: object) -> object:
        async with self.http.post(self.server.rest_url + "/info", json=body) as answer:
            return await answer.json()

    def of(self, channel: str) -> list[object]:
        return [frame["data"] for frame in self.frames if frame["channel"] == channel]


@asynccontextmanager
async def follow(server: SimServer) -> AsyncIterator[Follower]:
    """Connect, subscribe to everything of the account and BTC, then to the steps."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        follower = Follower(http, socket, server)
        for kind in ("orderUpdates", "userFills", "userFundings"):
            await follower.subscribe(type=kind, user=server.account)
        await follower.subscribe(type="bbo", coin="BTC")
        await follower.subscribe(type="candle", coin="BTC", interval="1m")
        await follower.subscribe(type="simStep")
        yield follower


def order(
    side: str,
    size: str,
    price: str,
    *,
    cloid: str | None = None,
    trigger: tuple[str, str] | None = None,
    asset: int = 0,
) -> dict[str, object]:
    """A wire order: Ioc, or a reduce-only market trigger (tpsl, price)."""
    kind: dict[str, object] = {"limit": {"tif": "Ioc"}}
    if trigger is not None:
        kind = {"trigger": {"isMarket": True, "triggerPx": trigger[1], "tpsl": trigger[0]}}
    wire = {"a": asset, "b": side == "buy", "p": price, "s": size, "r": trigger is not None, "t": kind}
    return wire | ({"c": cloid} if cloid else {})


def action(*orders: dict[str, object], grouping: str = "na") -> dict[str, object]:
    return {"type": "order", "orders": list(orders), "grouping": grouping}
