"""P13 and P14: from the socket to a decision, and from a decision to the socket.

P13 plays an hour's worth of frames (trades, touches, candles, contexts) from another process. Ours goes the whole way:
websocket, typed frame, session, queue, core with features and an LSTM of 64, a decision at each bar's end, journal. The
peer reads the same frames with websockets and parses them with orjson, and that is all it does. The latency is that
from a received frame that closes a bar to the decision on it; behind a flood it contains no waiting in the socket.

P14 sends one resting order a time to `aml100-console sim` on loopback. Ours goes from the decided order through
journal (committed), signature and HTTP to the last byte written; the peer calls the official SDK's `order`, which signs
and sends: as pip installs it, and with the signing library that ours uses. Both are shown up to the socket and until
the answer is there (the venue's own work is in that). Each has a venue of its own, for the venue limits requests.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import numpy as np
import numpy.typing as npt

from aml100.bench.frame import Figure, Goal, Peer, Readings, Sample, Trial
from aml100.bench.inputs import MINUTE_MS, made_up_bars

if TYPE_CHECKING:
    from aml100.domain.events import Record
    from aml100.domain.units import Cloid, Coin
    from aml100.market.series import BarSeries
    from aml100.storage.store import Synchronous
    from aml100.trading.policies import Policy
    from aml100.venue.rest import VenueRest
    from aml100.venue.stream import Received

WARM_BARS = 300
BARS = 60
A_BAR = 120
ORDERS = 80
PATIENCE_S = 60.0
NOBODY = "0x" + "0" * 40
ANY_KEY = "0x" + "1" * 64


@contextmanager
def decisions(folder: Path) -> Iterator[Sample]:
    """Frames a second of processor time, and microseconds from a bar's last frame to its decision."""
    series = made_up_bars(WARM_BARS + BARS + 1)
    frames = _tape(series)
    (folder / "frames.jsonl").write_bytes(b"\n".join(frames))
    command = [sys.executable, "-m", "aml100.bench.pusher", str(folder / "frames.jsonl")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pusher:
        assert pusher.stdout is not None
        port = pusher.stdout.readline().strip()
        (folder / "url").write_text(f"ws://127.0.0.1:{port}")
        try:
            measure = partial(_flood, folder, series.rows(0, WARM_BARS), len(frames))
            measure()
            yield measure
        finally:
            pusher.terminate()


def _flood(folder: Path, history: BarSeries, count: int) -> Readings:
    from aml100.bench.rig import Venue, rig
    from aml100.domain.clock import SystemClock
    from aml100.domain.events import Decision
    from aml100.venue.news import CandleUpdate
    from aml100.venue.session import StreamUp

    clock = SystemClock()
    received: list[float] = []
    decided: list[float] = []
    last_ms = int(history.open_ms[-1]) + MINUTE_MS

    def on_news(news: Received) -> None:
        nonlocal last_ms
        event = news.event
        if isinstance(event, StreamUp):
            up.set()
        elif isinstance(event, CandleUpdate) and event.bar.open_ms > last_ms:
            last_ms = event.bar.open_ms
            received.append(news.received_s)

    class Stopwatch:
        """Notes when a decision is journalled."""

        def on_record(self, record: Record) -> None:
            if isinstance(record, Decision):
                decided.append(clock.monotonic_s())
                if len(decided) == BARS:
                    done.set()

        def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
            pass

    async def play() -> Readings:
        (folder / "state-NORMAL.db").unlink(missing_ok=True)
        venue = Venue("http://127.0.0.1:1", (folder / "url").read_text(), NOBODY, ANY_KEY)
        async with rig(folder, venue, [history], _thinking, on_news=on_news) as one, one.carrying():
            one.engine.listeners.add(Stopwatch())
            await asyncio.wait_for(up.wait(), PATIENCE_S)
            started = time.process_time()
            await one.stream.send_json({"method": "go"})
            await asyncio.wait_for(done.wait(), PATIENCE_S)
            rate = count / (time.process_time() - started)
        waits = (np.array(decided) - np.array(received)) * 1e6
        return {"rate": rate, "p50": float(np.percentile(waits, 50)), "p99": float(np.percentile(waits, 99))}

    up, done = asyncio.Event(), asyncio.Event()
    return asyncio.run(play())


def _thinking(coin: Coin) -> Policy:
    """A network of 64 that is asked at every bar and always answered with HOLD, so that no order leaves."""
    from aml100.domain.orders import Action
    from aml100.learning.inference import CompiledNetwork, CompiledWeights
    from aml100.learning.memory import weights_of
    from aml100.learning.network import QNetwork
    from aml100.market.features import FEATURE_COUNT
    from aml100.trading.policies import Flat, PolicyAnswer

    weights = CompiledWeights.from_arrays(weights_of(QNetwork(FEATURE_COUNT, 64, 1, 64, seed=1)))

    class Thinking(Flat):
        name = "bench"
        network = CompiledNetwork(weights)

        def observe(self, row: npt.NDArray[np.float64]) -> None:
            self.network.observe(row.astype(np.float32))

        def decide(self, position: npt.NDArray[np.float64], bar_ms: int) -> PolicyAnswer:
            return PolicyAnswer(Action.HOLD, self.network.q(position))

    return Thinking()


def _tape(series: BarSeries) -> list[bytes]:
    """120 trades frames, 120 touches, 25 candle updates and a context a bar, after the warm-up's."""
    frames: list[dict[str, object]] = []
    for row in range(WARM_BARS, len(series)):
        open_ms, close = int(series.open_ms[row]), float(series.close[row])
        candle = {
            "t": open_ms,
            "T": open_ms + MINUTE_MS - 1,
            "s": "BTC",
            "i": "1m",
            "n": 20,
            "o": str(series.open[row]),
            "h": str(series.high[row]),
            "l": str(series.low[row]),
            "c": str(close),
            "v": str(series.volume[row]),
        }
        context = {
            "funding": "0.0000125",
            "openInterest": "36295.8",
            "prevDayPx": "60000.0",
            "dayNtlVlm": "4490636699.3",
            "premium": "0.0001",
            "oraclePx": f"{close:.1f}",
            "markPx": f"{close:.1f}",
            "midPx": f"{close:.1f}",
        }
        frames.append({"channel": "candle", "data": candle})
        if row == len(series) - 1:
            break  # its first update closes the bar before; nothing closes it
        frames.append({"channel": "activeAssetCtx", "data": {"coin": "BTC", "ctx": context}})
        for number in range(A_BAR):
            time_ms = open_ms + 500 * number
            trade = {
                "coin": "BTC",
                "side": "B",
                "px": f"{close:.1f}",
                "sz": "0.00120",
                "time": time_ms,
                "hash": "0x" + "0f" * 32,
                "tid": row * 1000 + number,
                "users": [NOBODY, NOBODY],
            }
            touch = [
                {"px": f"{close - 0.5:.1f}", "sz": "1.5", "n": 3},
                {"px": f"{close + 0.5:.1f}", "sz": "2.5", "n": 4},
            ]
            frames.append({"channel": "trades", "data": [trade]})
            frames.append({"channel": "bbo", "data": {"coin": "BTC", "time": time_ms, "bbo": touch}})
            if number % 5 == 4:
                frames.append({"channel": "candle", "data": candle})
    return [json.dumps(frame, separators=(",", ":")).encode() for frame in frames]


@contextmanager
def orders(folder: Path, synchronous: Synchronous) -> Iterator[Sample]:
    """Milliseconds from a decided order to its last byte on the socket, and to the venue's answer."""
    with ExitStack() as stack:
        ready = {name: stack.enter_context(_simulated_venue(folder / name)) for name in ("ours", "plain", "quick")}
        (folder / "venues.json").write_text(json.dumps(ready))
        measure = partial(_send, folder, ready["ours"], synchronous, itertools.count())
        measure()
        yield measure


@contextmanager
def _simulated_venue(folder: Path) -> Iterator[dict[str, str]]:
    """`aml100-console sim` as a process of its own; its ready line."""
    folder.mkdir()
    command = [sys.executable, "-m", "aml100", "sim", "--state", str(folder / "state.db"), "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def _send(folder: Path, ready: dict[str, str], synchronous: Synchronous, numbers: Iterator[int]) -> Readings:
    """ORDERS resting orders one after the other, then all of them cancelled."""
    from aml100.bench.rig import Venue, rig
    from aml100.domain.events import OrderRecorded, PlaceOrders
    from aml100.domain.orders import Order, OrderKind, OrderStatus, Side, TimeInForce
    from aml100.domain.units import Cloid, Coin

    venue = Venue(ready["rest"], ready["ws"], ready["account"], ready["agent_key"])
    history, coin = made_up_bars(WARM_BARS), Coin("BTC")

    async def play() -> Readings:
        sent: list[float] = []
        written, answered = [], []
        async with rig(folder, venue, [history], _thinking, synchronous=synchronous) as one:
            engine = one.engine
            price = Decimal(int((await one.rest.all_mids())[coin] * Decimal("0.9")))  # rests, far below
            async with _watched(one.rest, lambda: sent.append(time.perf_counter())):
                for _ in range(ORDERS):
                    cloid = Cloid(f"0x{next(numbers) + 1:032x}")
                    order = Order(
                        cloid, coin, Side.BUY, OrderKind.ENTRY, Decimal("0.001"), price, False, TimeInForce.GTC
                    )
                    sent.clear()
                    started = time.perf_counter()
                    engine.carry_out([OrderRecorded(order, OrderStatus.SENT, None, "", 0), PlaceOrders((order,))])
                    while not engine.executor.is_idle:
                        await engine.executor.wait()
                    answered.append(time.perf_counter() - started)
                    written.append(sent[-1] - started)
                    resting.append(cloid)
            assert all(text is None for text in await one.rest.cancel([(coin, cloid) for cloid in resting]))
        return _percentiles(written, "socket") | _percentiles(answered, "answer")

    resting: list[Cloid] = []
    return asyncio.run(play())


@asynccontextmanager
async def _watched(rest: VenueRest, on_sent: Callable[[], None]) -> AsyncIterator[None]:
    """Have `on_sent` called whenever a request's body has been written to the socket."""

    async def note(session: object, context: object, parameters: object) -> None:
        on_sent()

    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(note)
    transport = rest._transport
    before = transport._http
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}, trace_configs=[trace]) as session:
        transport._http = session
        try:
            yield
        finally:
            transport._http = before


def _percentiles(seconds: Sequence[float], key: str) -> dict[str, float]:
    """In milliseconds."""
    return {f"{key} {name}": float(np.percentile(seconds, name) * 1e3) for name in (50, 99)}


def _order_trial(synchronous: Synchronous) -> Trial:
    plain, quick = "official SDK", "official SDK with coincurve"
    words = f"journal {synchronous}"
    return Trial(
        "P14",
        partial(orders, synchronous=synchronous),
        figures=(
            *(
                Figure(
                    f"order decided to on the socket, {words}, p{percent}",
                    "ms",
                    (Goal(1, limit=limit), Goal(3, plain), Goal(1, quick)),
                    f"socket {percent}",
                    less_is_better=True,
                )
                for percent, limit in ((50, 2.0), (99, 8.0))
            ),
            Figure(
                f"order decided to answered, {words}, p50",
                "ms",
                (Goal(1, plain), Goal(1, quick)),
                "answer 50",
                less_is_better=True,
            ),
        ),
        peers=(Peer(plain, "venue_sdk.py", "sdk", ("plain",)), Peer(quick, "venue_sdk.py", None, ("quick",))),
    )


TRIALS = (
    Trial(
        "P13",
        decisions,
        figures=(
            Figure("frames through the whole engine", "frames/s", (Goal(1, "websockets + orjson"),), "rate"),
            Figure("frame received to decision, p50", "us", (Goal(1, limit=200.0),), "p50", less_is_better=True),
            Figure("frame received to decision, p99", "us", (), "p99", less_is_better=True),
        ),
        peers=(Peer("websockets + orjson", "venue_frames.py", "orjson"),),
    ),
    _order_trial("NORMAL"),
    _order_trial("FULL"),
)
