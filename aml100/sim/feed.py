"""What the simulated venue streams: who listens to what, and the frames they get.

The one idea: a subscription is a topic (a tuple such as `("candle", "BTC", "1m")`), a frame is encoded once a topic
and handed to the queue of each connection, past the faults that may strike it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from aml100.domain.market import Bar
from aml100.domain.units import Coin, interval_name
from aml100.sim import account_answers, market_answers
from aml100.sim.accounts import FillEvent, FundingEvent, OrderEvent, Transfer, VenueEvent
from aml100.sim.candles import EVERY_INTERVAL
from aml100.sim.connection import Connection
from aml100.sim.dexes import dex_of
from aml100.sim.faults import Faults
from aml100.sim.limits import SUBSCRIPTIONS, USERS
from aml100.sim.prints import Prints
from aml100.sim.topics import STEP, Topic, coin_of, followed_coin, read_subscription, user_of
from aml100.sim.views import Views
from aml100.sim.words import Json

FAST_LEVELS: Final = 5
_SHOWN: Final = frozenset({"bbo", "l2Book", "activeAssetCtx", "activeAssetData"})
_BY_VENUE: Final = frozenset(
    {
        "reduceOnlyCanceled",
        "siblingFilledCanceled",
        "liquidatedCanceled",
        "marginCanceled",
        "selfTradeCanceled",
        "scheduledCancel",
        "internalCancel",
    }
)


def encoded(channel: str, data: Json) -> str:
    return msgspec.json.encode({"channel": channel, "data": data}).decode()


def misread(text: str) -> str:
    """The answer to a message that cannot be understood."""
    return encoded("error", f"Error parsing JSON into valid websocket request: {text}")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _candle_frame(bar: Bar, interval: str) -> str:
    return encoded("candle", market_answers.candle(bar, interval))


class Feed:
    """All connections, and what of the market and the accounts each of them sees."""

    def __init__(self, views: Views, faults: Faults, *, is_limited: bool) -> None:
        self.views, self.replay, self.faults = views, views.replay, faults
        self.prints = Prints()
        self.stepper: Connection | None = None
        self.stepper_came = asyncio.Event()
        self._is_limited = is_limited
        self._topics: dict[Topic, set[Connection]] = {}
        self._by_coin: dict[str, dict[Topic, None]] = {}  # in the order in which they were first asked for

    # --- subscriptions ----------------------------------------------------------------------------------------

    def subscribe(self, connection: Connection, wanted: Mapping[str, object]) -> None:
        """Answer a subscription and send what the venue sends first."""
        read = read_subscription(wanted, self.replay.exchange.instruments)
        if read is None:
            connection.send(misread(_json({"method": "subscribe", "subscription": wanted})))
            return
        if isinstance(read, str):
            connection.send(encoded("error", f"{read} {_json(wanted)}"))
            return
        topic, echo = read.topic, read.echo
        if topic in connection.topics:
            connection.send(encoded("error", f"Already subscribed: {_json(echo)}"))
            return
        refusal = self._limit(connection, topic)
        if refusal is not None:
            connection.send(encoded("error", refusal))
            return
        self._join(connection, topic)
        connection.send(encoded("subscriptionResponse", {"method": "subscribe", "subscription": echo}))
        for frame in self._first(topic):
            self._deliver(connection, topic, frame)
        if topic == STEP:
            self.stepper = connection
            self.stepper_came.set()

    def unsubscribe(self, connection: Connection, wanted: Mapping[str, object]) -> None:
        read = read_subscription(wanted, self.replay.exchange.instruments)
        if read is None or isinstance(read, str) or read.topic not in connection.topics:
            connection.send(encoded("error", f"Already unsubscribed: {_json(wanted)}"))
            return
        self._leave(connection, read.topic)
        connection.send(encoded("subscriptionResponse", {"method": "unsubscribe", "subscription": read.echo}))

    def forget(self, connection: Connection) -> None:
        """Take a closed connection out of everything."""
        for topic in list(connection.topics):
            self._leave(connection, topic)
        connection.gone.set()

    def _limit(self, connection: Connection, topic: Topic) -> str | None:
        """The text with which one subscription too many is refused."""
        if not self._is_limited:
            return None
        peer, user = connection.peer, user_of(topic)
        if peer.subscriptions >= SUBSCRIPTIONS:
            return f"Cannot have more than {SUBSCRIPTIONS} subscriptions."
        if user is not None and user not in peer.users and len(peer.users) >= USERS:
            return f"Cannot track more than {USERS} total users."
        return None

    def _join(self, connection: Connection, topic: Topic) -> None:
        connection.topics.add(topic)
        self._topics.setdefault(topic, set()).add(connection)
        coin = followed_coin(topic)
        if coin is not None:
            self._by_coin.setdefault(coin, {})[topic] = None
        connection.peer.subscriptions += 1
        user = user_of(topic)
        if user is not None:
            connection.peer.users[user] = connection.peer.users.get(user, 0) + 1

    def _leave(self, connection: Connection, topic: Topic) -> None:
        connection.topics.discard(topic)
        self._topics[topic].discard(connection)
        connection.peer.subscriptions -= 1
        user = user_of(topic)
        if user is not None:
            connection.peer.users[user] -= 1
            if not connection.peer.users[user]:
                del connection.peer.users[user]
        if topic == STEP and self.stepper is connection:
            self.stepper = None
            self.stepper_came.clear()

    def _first(self, topic: Topic) -> Iterable[str]:
        """What a new subscriber is sent at once."""
        views, kind = self.views, topic[0]
        match kind:
            case "trades":
                latest = self.prints.latest(Coin(topic[1]))
                if latest:
                    yield encoded("trades", latest)
            case "candle":
                bar = views.last_candle(Coin(topic[1]), EVERY_INTERVAL[topic[2]])
                if bar is not None:
                    yield encoded("candle", market_answers.candle(bar, topic[2]))
            case "userFills":
                fills = views.fills(topic[1], 2000)
                yield encoded("userFills", {"isSnapshot": True, "user": topic[1], "fills": fills})
            case "userFundings":
                rows = views.fundings(topic[1], 500)
                yield encoded("userFundings", {"isSnapshot": True, "user": topic[1], "fundings": rows})
            case "userNonFundingLedgerUpdates":
                moves = views.transfers(topic[1])
                data: Json = {"isSnapshot": True, "user": topic[1], "nonFundingLedgerUpdates": moves}
                yield encoded(kind, data)
            case "orderUpdates" | "userEvents" | "notification" | "simStep":
                return
            case _:
                yield self._state_frame(topic)

    # --- frames -----------------------------------------------------------------------------------------------

    def publish(self, topic: Topic, frame: Callable[[], str]) -> None:
        """Hand a frame to the topic's listeners; not even encoded where there is none."""
        listeners = self._topics.get(topic)
        if not listeners:
            return
        text = frame()
        for one in list(listeners):
            self._deliver(one, topic, text)

    def _deliver(self, connection: Connection, topic: Topic, frame: str) -> None:
        """Send a frame unless a fault has other plans; what keeps the step with a client is never touched."""
        if topic == STEP:
            connection.send(frame)
            return
        coin = coin_of(topic)
        if self.faults.is_silent(coin):
            return
        fault = self.faults.frame(topic[0], coin)
        if fault is None:
            connection.send(frame)
            return
        connection.send_struck(frame, fault)
        if connection.gone.is_set():
            self.forget(connection)

    def publish_market(self, coins: Sequence[Coin]) -> None:
        """Touch, book, context, mids and what accounts may trade of these coins, as they are now."""
        for coin in coins:
            for topic in list(self._by_coin.get(coin, ())):
                if topic[0] in _SHOWN:
                    self.publish(topic, partial(self._state_frame, topic))
        for dex in {dex_of(coin): None for coin in coins}:
            self.publish(("allMids", dex), partial(self._state_frame, ("allMids", dex)))

    def publish_states(self) -> None:
        """The whole state of every account that is listened to, as the venue repeats it every few seconds."""
        for topic in list(self._topics):
            if topic[0] in ("clearinghouseState", "openOrders"):
                self.publish(topic, partial(self._state_frame, topic))

    def publish_candle(self, bar: Bar) -> None:
        """One update of a bar of the tape's interval, and of the larger ones it belongs to."""
        own = interval_name(bar.interval_ms)
        for topic in list(self._by_coin.get(bar.coin, ())):
            if topic[0] != "candle" or not self._topics[topic]:
                continue
            shown = bar if topic[2] == own else self.views.last_candle(bar.coin, EVERY_INTERVAL[topic[2]])
            if shown is not None:
                self.publish(topic, partial(_candle_frame, shown, topic[2]))

    def publish_trades(self, coin: Coin, trades: Sequence[Json]) -> None:
        self.publish(("trades", coin), lambda: encoded("trades", trades))

    def publish_transfer(self, user: str, transfer: Transfer) -> None:
        row = account_answers.ledger_entry(transfer)
        data: Json = {"user": user, "nonFundingLedgerUpdates": [row]}
        self._send_user("userNonFundingLedgerUpdates", "userNonFundingLedgerUpdates", user, data)

    def publish_events(self, events: Sequence[VenueEvent]) -> None:
        """What happened to accounts, in order; neighbours of one kind share a frame."""
        for (kind, user), group in itertools.groupby(events, key=lambda one: (type(one), one.address)):
            batch = list(group)
            if kind is OrderEvent:
                self._publish_orders(user, [one for one in batch if isinstance(one, OrderEvent)])
            elif kind is FillEvent:
                self._publish_fills(user, [one for one in batch if isinstance(one, FillEvent)])
            else:
                paid = [one.paid for one in batch if isinstance(one, FundingEvent)]
                flat: list[Json] = [{"time": one.time_ms, **account_answers.funding_delta(one)} for one in paid]
                self._send_user("userFundings", "userFundings", user, {"user": user, "fundings": flat})
                for one in flat:
                    self._send_user("userEvents", "user", user, {"funding": one})
        users = {one.address for one in events}
        for topic in list(self._topics):
            if topic[0] in ("clearinghouseState", "openOrders", "activeAssetData") and topic[1] in users:
                self.publish(topic, partial(self._state_frame, topic))

    def _publish_orders(self, user: str, events: Sequence[OrderEvent]) -> None:
        rows: list[Json] = [account_answers.order_update(one) for one in events]
        self._send_user("orderUpdates", "orderUpdates", user, rows)
        gone: list[Json] = [{"coin": one.order.coin, "oid": one.oid} for one in events if one.word in _BY_VENUE]
        if gone:
            self._send_user("userEvents", "user", user, {"nonUserCancel": gone})

    def _publish_fills(self, user: str, events: Sequence[FillEvent]) -> None:
        fills: list[Json] = [account_answers.fill(one) for one in events]
        self._send_user("userFills", "userFills", user, {"user": user, "fills": fills})
        self._send_user("userEvents", "user", user, {"fills": fills})
        for one in events:
            note = account_answers.liquidation(one)
            if note is not None:
                self._send_user("userEvents", "user", user, {"liquidation": note})

    def _send_user(self, topic: str, channel: str, user: str, data: Json) -> None:
        self.publish((topic, user), lambda: encoded(channel, data))

    def _state_frame(self, topic: Topic) -> str:
        """The present state behind a topic that shows one."""
        kind, views = topic[0], self.views
        match kind:
            case "allMids":
                return encoded(kind, {"mids": views.mids(topic[1])} | ({"dex": topic[1]} if topic[1] else {}))
            case "activeAssetCtx":
                return encoded(kind, {"coin": topic[1], "ctx": views.context(Coin(topic[1]))})
            case "bbo":
                return encoded(kind, views.bbo(Coin(topic[1])))
            case "l2Book":
                return encoded(kind, self._book(topic))
            case "activeAssetData":
                return encoded(kind, views.active_asset(topic[1], Coin(topic[2])))
            case "clearinghouseState":
                state = views.clearinghouse(topic[1], topic[2])
                return encoded(kind, {"dex": topic[2], "user": topic[1], "clearinghouseState": state})
            case _:
                orders = views.front_orders(topic[1], topic[2])
                return encoded(kind, {"dex": topic[2], "user": topic[1], "orders": orders})

    def _book(self, topic: Topic) -> Json:
        _, coin, figures, mantissa, fast = topic
        depth = FAST_LEVELS if fast else None
        book = self.views.book(Coin(coin), depth, int(figures or 0), int(mantissa) if mantissa else None)
        return {**book, "fast": True} if fast else book
