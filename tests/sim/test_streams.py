"""The websocket door: every stream's first and later messages, posts, refusals, limits and the idle close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from aml100.sim import connection
from aml100.sim.scenario import Tape
from aml100.venue.signing import NonceSource, Signer
from tests.sim.stage import AGENT_KEY, StagedClock, action, alone, order, series

FLAT = (60000.0, 60000.0, 60000.0, 60000.0)
CRASH = (60000.0, 60000.0, 20000.0, 20000.0)


class Client:
    """One socket: what it reads is kept by channel."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, server: Any, clock: StagedClock) -> None:
        self.socket, self.server, self.clock, self.user = socket, server, clock, server.account
        self.signer, self.nonces = Signer(AGENT_KEY, "other"), NonceSource()
        self.posts = 0

    async def subscribe(self, **wanted: object) -> list[Any]:
        """Subscribe; what was sent at once, the answer first."""
        return await self.said({"method": "subscribe", "subscription": wanted})

    async def said(self, *messages: object) -> list[Any]:
        """Send, and read everything up to the pong of a ping sent after it."""
        for message in messages:
            await self.socket.send_json(message)
        await self.socket.send_json({"method": "ping"})
        frames: list[Any] = []
        while (frame := await self.socket.receive_json(timeout=10)) != {"channel": "pong"}:
            frames.append(frame)
        return frames

    async def act(self, what: dict[str, object]) -> tuple[Any, list[Any]]:
        """An action posted through the socket: its answer, and everything else that was heard."""
        nonce, self.posts = self.nonces.next(), self.posts + 1
        payload = {"action": what, "nonce": nonce, "signature": self.signer.sign(what, nonce)}  # type: ignore[arg-type]
        request = {"type": "action", "payload": payload}
        frames = await self.said({"method": "post", "id": self.posts, "request": request})
        (answer,) = [one["data"] for one in frames if one["channel"] == "post"]
        assert (answer["id"], answer["response"]["type"]) == (self.posts, "action")
        return answer["response"]["payload"], [one for one in frames if one["channel"] != "post"]

    async def pass_s(self, seconds: float) -> list[Any]:
        self.clock.wall_s += seconds
        ask = {"type": "info", "payload": {"type": "exchangeStatus"}}
        return await self.said({"method": "post", "id": 0, "request": ask})


@asynccontextmanager
async def client(*rows: tuple[float, float, float, float]) -> AsyncIterator[Client]:
    clock = StagedClock()
    tape = Tape([series([FLAT, FLAT, *(rows or [FLAT] * 8)]), series([FLAT] * 10, coin="xyz:INDEX")])
    async with alone(tape, clock) as server, aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        yield Client(socket, server, clock)


def channels(frames: list[Any]) -> list[str]:
    return [one["channel"] for one in frames]


async def test_what_each_stream_says_first() -> None:
    async with client() as me:
        await me.pass_s(1.5)
        user, coin = {"user": me.user}, {"coin": "BTC"}
        first = {
            "trades": coin,
            "l2Book": coin,
            "bbo": coin,
            "activeAssetCtx": coin,
            "candle": coin | {"interval": "1w"},
            "allMids": {},
            "userFills": user,
            "userFundings": user,
            "userNonFundingLedgerUpdates": user,
            "clearinghouseState": user,
            "openOrders": user,
            "activeAssetData": user | coin,
        }
        for kind, fields in first.items():
            frames = await me.subscribe(type=kind, **fields)
            assert channels(frames) == ["subscriptionResponse", kind], kind
            assert frames[0]["data"]["subscription"].items() >= {"type": kind, **fields}.items()
        for kind in ("orderUpdates", "userEvents", "notification"):
            assert channels(await me.subscribe(type=kind, **user)) == ["subscriptionResponse"]


async def test_books_come_fast_or_in_fewer_figures() -> None:
    async with client() as me:
        ack, book = await me.subscribe(type="l2Book", coin="BTC", fast=True)
        assert ack["data"]["subscription"] == {
            "type": "l2Book",
            "coin": "BTC",
            "nSigFigs": None,
            "mantissa": None,
            "fast": True,
        }
        assert (book["data"]["fast"], [len(side) for side in book["data"]["levels"]]) == (True, [5, 5])
        _, book = await me.subscribe(type="l2Book", coin="BTC", nSigFigs=3)
        assert [side[0]["px"] for side in book["data"]["levels"]] == ["59900.0", "60100.0"]
        assert book["data"]["spread"] == "200.0"
        _, book = await me.subscribe(type="l2Book", coin="BTC", nSigFigs=5, mantissa=5)
        assert [side[0]["px"] for side in book["data"]["levels"]] == ["59990.0", "60010.0"]


async def test_builders_exchanges_have_streams_of_their_own() -> None:
    async with client() as me:
        ack, mids = await me.subscribe(type="allMids", dex="xyz")
        assert ack["data"]["subscription"]["dex"] == mids["data"]["dex"] == "xyz"
        assert mids["data"]["mids"] == {"xyz:INDEX": "60000.0"}
        _, state = await me.subscribe(type="clearinghouseState", user=me.user, dex="xyz")
        assert state["data"]["clearinghouseState"]["marginSummary"]["accountValue"] == "0.0"
        await me.act(action(order("buy", "0.01", "63000", asset=110_000)))
        frames = await me.subscribe(type="openOrders", user=me.user, dex="xyz")
        assert frames[1]["data"] == {"dex": "xyz", "user": me.user, "orders": []}


async def test_an_order_posted_through_the_socket_is_told_to_everybody_who_asked() -> None:
    async with client() as me:
        for kind in ("orderUpdates", "userEvents", "userFills", "clearinghouseState", "openOrders"):
            await me.subscribe(type=kind, user=me.user)
        answer, frames = await me.act(action(order("buy", "0.01", "63000")))
        assert answer["response"]["data"]["statuses"][0]["filled"]["avgPx"] == "60006.0"
        assert channels(frames) == ["userFills", "user", "orderUpdates", "clearinghouseState", "openOrders"]
        assert "isSnapshot" not in frames[0]["data"]
        assert frames[3]["data"]["clearinghouseState"]["assetPositions"][0]["position"]["szi"] == "0.01"
        stop = order("sell", "0.01", "57000", trigger=("sl", "59500"))
        _, frames = await me.act(action(stop | {"s": "0"}, grouping="positionTpsl"))
        assert frames[-1]["data"]["orders"][0]["isPositionTpsl"] is True
        _, frames = await me.act(action(order("sell", "0.01", "57000") | {"r": True}))
        gone = [one["data"]["nonUserCancel"] for one in frames if "nonUserCancel" in one["data"]]
        assert [(one["coin"], type(one["oid"])) for row in gone for one in row] == [("BTC", int)]


async def test_a_liquidation_is_told_with_its_fill() -> None:
    async with client(FLAT, CRASH, *[(20000.0,) * 4] * 3) as me:
        await me.act({"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 40})
        await me.act(action(order("buy", "1.5", "63000")))
        for kind in ("userEvents", "userFills"):
            await me.subscribe(type=kind, user=me.user)
        heard = await me.pass_s(120)
        notes = [
            one["data"]["liquidation"] for one in heard if one["channel"] == "user" and "liquidation" in one["data"]
        ]
        assert {one["liquidated_user"] for one in notes} == {me.user}
        fills = [fill for one in heard if one["channel"] == "userFills" for fill in one["data"]["fills"]]
        assert [fill["liquidation"]["liquidatedUser"] for fill in fills] == [me.user] * len(fills)
        assert len(notes) == len(fills) > 0


async def test_what_is_not_understood_or_not_there() -> None:
    async with client() as me:
        for wanted in ({"type": "webData2", "user": me.user}, {"type": "trades", "coin": "NOPE"}):
            (error,) = await me.said({"method": "subscribe", "subscription": wanted})
            assert error["data"].startswith("Invalid subscription {")
        await me.subscribe(type="bbo", coin="BTC")
        (twice,) = await me.subscribe(type="bbo", coin="BTC")
        assert twice["data"].startswith("Already subscribed: {")
        (gone,) = await me.said({"method": "unsubscribe", "subscription": {"type": "trades", "coin": "BTC"}})
        assert gone["data"].startswith("Already unsubscribed: {")
        for bad in ({"method": "post", "id": 1, "request": {"type": "info", "payload": {"type": "nope"}}}, [1], "x"):
            (error,) = await me.said(bad)
            assert error["data"].startswith("Error parsing JSON into valid websocket request: ")
        ask = {"method": "post", "id": 9, "request": {"type": "info", "payload": {"type": "allMids", "dex": ""}}}
        (answer,) = await me.said(ask)
        assert answer["data"] == {
            "id": 9,
            "response": {"type": "info", "payload": {"type": "allMids", "data": {"BTC": "60000.0"}}},
        }


async def test_users_and_weight_are_limited_by_peer_address() -> None:
    async with client() as me:
        for number in range(15):
            assert channels(await me.subscribe(type="orderUpdates", user=f"0x{number:040x}")) == [
                "subscriptionResponse"
            ]
        (error,) = await me.subscribe(type="userFills", user="0x" + 40 * "f")
        assert error["data"] == "Cannot track more than 15 total users."
        ask = {"method": "post", "id": 1, "request": {"type": "info", "payload": {"type": "meta"}}}
        answers = [one["data"]["response"]["type"] for one in await me.said(*[ask] * 61)]
        assert (answers.count("info"), answers[-1]) == (60, "error")


async def test_a_socket_to_which_nothing_is_sent_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_S", 0.05)
    async with client() as me:
        closed = await me.socket.receive(timeout=10)
        assert closed.type is aiohttp.WSMsgType.CLOSE
