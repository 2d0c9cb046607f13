"""The simulated venue's websocket side: who listens to what, and the frames they get.

The one idea: a subscription is a topic (a tuple such as `("candle", "BTC", "1m")`), a frame is encoded once a topic
and handed to a queue of each connection. A connection that does not read is dropped when its queue is full, so a slow
reader never holds the market up.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import msgspec
from aiohttp import WSCloseCode, web

from aml100.domain.market import Bar
from aml100.domain.units import INTERVALS, Coin, interval_name
from aml100.sim import answers
from aml100.sim.accounts import FillEvent, FundingEvent, OrderEvent, VenueEvent
from aml100.sim.answers import Json, Object
from aml100.sim.replay import Replay

Topic: TypeAlias = tuple[str, ...]

QUEUE_FRAMES: Final = 20_000
_BY_COIN: Final = frozenset({"trades", "l2Book", "bbo", "activeAssetCtx"})
_BY_USER: Final = frozenset(
    {"orderUpdates", "userEvents", "userFills", "userFundings", "clearinghouseState", "openOrders"}
)


def encoded(channel: str, data: Json) -> str:
    return msgspec.json.encode({"channel": channel, "data": data}).decode()


class Connection:
    """One client's socket with its queue of frames and its topics."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.topics: set[Topic] = set()
        self.acks: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self._frames: asyncio.Queue[str] = asyncio.Queue(QUEUE_FRAMES)

    def send(self, frame: str) -> None:
        try:
            self._frames.put_nowait(frame)
        except asyncio.QueueFull:
            self.gone.set()

    async def write(self) -> None:
        """Write the queue out until the connection ends; run as a task beside the reader."""
        try:
            while not self.gone.is_set():
                await self.socket.send_str(await self._frames.get())
            await self.socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too slow")
        except ConnectionError:
            self.gone.set()


class Feed:
    """All connections, and what of the market and the accounts each of them sees."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.stepper: Connection | None = None
        self.stepper_came = asyncio.Event()
        self._topics: dict[Topic, set[Connection]] = {}
        self._prints: dict[Coin, deque[Object]] = {}

    # --- subscriptions ----------------------------------------------------------------------------------------

    def subscribe(self, connection: Connection, wanted: Mapping[str, object]) -> None:
        """Answer a subscription and send what the venue sends first."""
        topic, echo = self._topic(wanted)
        if topic is None:
            request = msgspec.json.encode({"method": "subscribe", "subscription": wanted}).decode()
            connection.send(encoded("error", f"Error parsing JSON into valid websocket request: {request}"))
            return
        if topic in connection.topics:
            connection.send(encoded("error", f"Already subscribed: {msgspec.json.encode(echo).decode()}"))
            return
        connection.topics.add(topic)
        self._topics.setdefault(topic, set()).add(connection)
        connection.send(encoded("subscriptionResponse", {"method": "subscribe", "subscription": echo}))
        for frame in self._first(topic):
            connection.send(frame)
        if topic == ("simStep",):
            self.stepper = connection
            self.stepper_came.set()

    def unsubscribe(self, connection: Connection, wanted: Mapping[str, object]) -> None:
        topic, echo = self._topic(wanted)
        if topic is None or topic not in connection.topics:
            connection.send(encoded("error", f"Already unsubscribed: {msgspec.json.encode(wanted).decode()}"))
            return
        self._drop(connection, topic)
        connection.send(encoded("subscriptionResponse", {"method": "unsubscribe", "subscription": echo}))

    def forget(self, connection: Connection) -> None:
        """Take a closed connection out of everything."""
        for topic in list(connection.topics):
            self._drop(connection, topic)
        connection.gone.set()

    def _drop(self, connection: Connection, topic: Topic) -> None:
        connection.topics.discard(topic)
        self._topics[topic].discard(connection)
        if topic == ("simStep",) and self.stepper is connection:
            self.stepper = None
            self.stepper_came.clear()

    def _topic(self, wanted: Mapping[str, object]) -> tuple[Topic | None, Object]:
        """The topic of a subscription and its echo with the server's defaults; None where it is not understood."""
        kind, coin, user = wanted.get("type"), wanted.get("coin"), wanted.get("user")
        if not isinstance(kind, str):
            return None, {}
        known = coin in self.replay.exchange.instruments
        if kind in _BY_COIN and isinstance(coin, str) and known:
            echo: Object = {"type": kind, "coin": coin}
            if kind == "l2Book":
                echo |= {"nSigFigs": None, "mantissa": None, "fast": False}
            return (kind, coin), echo
        interval = wanted.get("interval")
        if kind == "candle" and isinstance(coin, str) and known and isinstance(interval, str) and interval in INTERVALS:
            return (kind, coin, interval), {"type": kind, "coin": coin, "interval": interval}
        if kind in _BY_USER and isinstance(user, str):
            echo = {"type": kind, "user": user.lower()}
            if kind == "userFills":
                echo["aggregateByTime"] = False
            return (kind, user.lower()), echo
        if kind == "activeAssetData" and isinstance(user, str) and isinstance(coin, str) and known:
            return (kind, user.lower(), coin), {"type": kind, "user": user.lower(), "coin": coin}
        if kind in ("allMids", "simStep"):
            return (kind,), {"type": kind}
        return None, {}

    def _first(self, topic: Topic) -> Iterable[str]:
        """What a new subscriber is sent at once."""
        replay, kind = self.replay, topic[0]
        match kind:
            case "trades":
                prints = self._prints.get(Coin(topic[1]))
                if prints:
                    yield encoded("trades", list(prints))
            case "l2Book" | "bbo" | "activeAssetCtx":
                yield encoded(kind, self._of_coin(kind, Coin(topic[1])))
            case "candle":
                bar = self.last_candle(Coin(topic[1]), INTERVALS[topic[2]])
                if bar is not None:
                    yield encoded("candle", answers.candle(bar))
            case "allMids":
                yield encoded("allMids", {"mids": self.mids()})
            case "userFills":
                account = replay.exchange.accounts.get(topic[1])
                fills: list[Json] = [answers.fill(one) for one in (account.fills[-2000:] if account else [])]
                yield encoded("userFills", {"isSnapshot": True, "user": topic[1], "fills": fills})
            case "userFundings":
                account = replay.exchange.accounts.get(topic[1])
                paid = account.fundings[-500:] if account else []
                rows: list[Json] = [{"time": one.time_ms, **answers.funding_delta(one)} for one in paid]
                yield encoded("userFundings", {"isSnapshot": True, "user": topic[1], "fundings": rows})
            case "clearinghouseState" | "openOrders" | "activeAssetData":
                yield encoded(kind, self._of_user(topic))
            case _:
                return

    # --- frames -----------------------------------------------------------------------------------------------

    def publish(self, topic: Topic, frame: Callable[[], str]) -> None:
        """Hand a frame to the topic's listeners; not even encoded where there is none."""
        listeners = self._topics.get(topic)
        if not listeners:
            return
        text = frame()
        for one in listeners:
            one.send(text)

    def publish_market(self, coins: Sequence[Coin]) -> None:
        """Touch, book and context of these coins as they are now."""
        for coin in coins:
            for kind in ("bbo", "l2Book", "activeAssetCtx"):
                self.publish((kind, coin), partial(self._coin_frame, kind, coin))
        self.publish(("allMids",), lambda: encoded("allMids", {"mids": self.mids()}))

    def publish_candle(self, bar: Bar) -> None:
        """One update of a bar of the tape's interval, and of the larger ones it belongs to."""
        own = (("candle", bar.coin, interval_name(bar.interval_ms)), bar)
        self.publish(own[0], lambda: encoded("candle", answers.candle(bar)))
        for name, span in INTERVALS.items():
            if span > bar.interval_ms and self._topics.get(("candle", bar.coin, name)):
                larger = self.last_candle(bar.coin, span)
                if larger is not None:
                    self.publish(("candle", bar.coin, name), partial(encoded, "candle", answers.candle(larger)))

    def publish_trades(self, bar: Bar) -> None:
        """Four prints that rebuild the bar exactly: open, the extremes in the likelier order, close."""
        rising = bar.close >= bar.open
        path = (bar.open, bar.low, bar.high, bar.close) if rising else (bar.open, bar.high, bar.low, bar.close)
        size = bar.volume / 4
        prints: list[Object] = []
        asset = self.replay.exchange.instruments[bar.coin].asset_id % 64
        for number, price in enumerate(path):
            before = path[max(0, number - 1)]
            prints.append(
                {
                    "coin": bar.coin,
                    "side": "B" if price >= before else "A",
                    "px": answers.text(price),
                    "sz": answers.text(size),
                    "time": bar.open_ms + number * (bar.interval_ms - 1) // 3,
                    "hash": answers.ZERO_HASH,
                    "tid": bar.open_ms * 256 + asset * 4 + number,
                    "users": ["0x" + 40 * "1", "0x" + 40 * "2"],
                }
            )
        self._prints.setdefault(bar.coin, deque(maxlen=30)).extend(prints)
        self.publish(("trades", bar.coin), lambda: encoded("trades", prints))

    def publish_events(self, events: Sequence[VenueEvent]) -> None:
        """What happened to accounts, in order; neighbours of one kind share a frame."""
        for (kind, user), group in itertools.groupby(events, key=lambda one: (type(one), one.address)):
            batch = list(group)
            if kind is OrderEvent:
                rows: list[Json] = [answers.order_update(one) for one in batch if isinstance(one, OrderEvent)]
                self._send_user("orderUpdates", "orderUpdates", user, rows)
            elif kind is FillEvent:
                fills: list[Json] = [answers.fill(one) for one in batch if isinstance(one, FillEvent)]
                self._send_user("userFills", "userFills", user, {"user": user, "fills": fills})
                self._send_user("userEvents", "user", user, {"fills": fills})
            else:
                paid = [one.paid for one in batch if isinstance(one, FundingEvent)]
                flat: list[Json] = [{"time": one.time_ms, **answers.funding_delta(one)} for one in paid]
                self._send_user("userFundings", "userFundings", user, {"user": user, "fundings": flat})
                for one in flat:
                    self._send_user("userEvents", "user", user, {"funding": one})
        for user in {one.address for one in events}:
            for kind_name in ("clearinghouseState", "openOrders"):
                topic = (kind_name, user)
                self.publish(topic, partial(self._user_frame, topic))

    def _send_user(self, topic: str, channel: str, user: str, data: Json) -> None:
        self.publish((topic, user), lambda: encoded(channel, data))

    # --- contents ---------------------------------------------------------------------------------------------

    def mids(self) -> dict[str, Json]:
        return {coin: answers.text(price) for coin, price in self.replay.exchange.prices.items()}

    def _coin_frame(self, kind: str, coin: Coin) -> str:
        return encoded(kind, self._of_coin(kind, coin))

    def _user_frame(self, topic: Topic) -> str:
        return encoded(topic[0], self._of_user(topic))

    def _of_coin(self, kind: str, coin: Coin) -> Json:
        replay = self.replay
        exchange = replay.exchange
        if kind == "activeAssetCtx":
            return {"coin": coin, "ctx": answers.context(exchange, coin, replay.seen(coin), replay.rate(coin))}
        book = answers.levels(exchange, coin, 1 if kind == "bbo" else 5)
        if kind == "bbo":
            return {"coin": coin, "time": exchange.now_ms, "bbo": [side[0] if side else None for side in book]}
        return {"coin": coin, "time": exchange.now_ms, "levels": book}

    def _of_user(self, topic: Topic) -> Json:
        exchange, user = self.replay.exchange, topic[1]
        account = exchange.accounts.get(user)
        if topic[0] == "clearinghouseState":
            view = None if account is None else exchange.margin(user)
            state = answers.clearinghouse(view, exchange.now_ms)
            return {"dex": "", "user": user, "clearinghouseState": state}
        if topic[0] == "activeAssetData":
            return answers.active_asset(exchange, user, Coin(topic[2]))
        rows: list[Json] = []
        if account is not None:
            rows = [answers.front_order(one, exchange.orders) for one in exchange.open_orders(user)]
        return {"dex": "", "user": user, "orders": rows}

    def last_candle(self, coin: Coin, interval_ms: int) -> Bar | None:
        """The newest bar of an interval, forming or closed; None where there is none."""
        series = self.candles(coin, interval_ms)
        return series[-1] if series else None

    def candles(self, coin: Coin, interval_ms: int, start_ms: int = 0, end_ms: int = 2**62) -> list[Bar]:
        """Bars that overlap [start, end], the forming one too; larger intervals are put together."""
        replay = self.replay
        if interval_ms % replay.tape.interval_ms:
            return []
        seen = replay.seen(coin)
        if start_ms == 0 and end_ms == 2**62:  # only the newest is wanted
            seen = seen.rows(max(0, len(seen) - interval_ms // replay.tape.interval_ms), len(seen))
        forming = replay.forming.get(coin)
        larger = interval_ms > replay.tape.interval_ms
        if larger and forming is not None:
            seen = answers.with_bar(seen, forming)
        if larger:
            seen = answers.merged(seen, interval_ms)
        first = int(seen.open_ms.searchsorted(start_ms - interval_ms, side="right"))
        last = int(seen.open_ms.searchsorted(end_ms, side="right"))
        bars = [seen.bar(row) for row in range(first, last)]
        if forming is not None and not larger and start_ms - interval_ms < forming.open_ms <= end_ms:
            bars.append(forming)
        return bars

    def recent_trades(self, coin: Coin) -> list[Json]:
        """The latest prints, newest first."""
        return list(reversed(self._prints.get(coin, ())))
