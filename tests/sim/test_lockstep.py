"""The embedded venue keeps step with its client, and remembers everything across a kill."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aml100.domain.errors import UsageError
from aml100.domain.units import Coin
from aml100.market.series import FundingSeries
from aml100.sim.scenario import Tape
from aml100.sim.store import StoreFailed, VenueStore
from tests.sim.stage import START, Follower, action, follow, order, series, venue

FLAT = (60000.0, 60010.0, 59990.0, 60000.0)
SL, TP = "0x" + "2" * 32, "0x" + "3" * 32


async def closed(client: Follower) -> dict[str, Any]:
    """The next `closed` marker; settle rounds on the way are answered with nothing sent."""
    while True:
        marker = await client.marker()
        if marker["stage"] != "settle":
            return marker
        await client.ack(marker)


async def test_an_order_sent_at_a_close_fills_at_the_next_open_and_the_stop_counts_before_the_target() -> None:
    tape = Tape([series([FLAT, FLAT, FLAT, (60100, 60800, 59000, 60000), FLAT])])
    async with venue(tape) as server, follow(server) as client:
        marker = await closed(client)
        assert (marker["time"], marker["ending"]) == (START + 3 * 60_000, {})
        assert [one["t"] for one in client.of("candle")] == [START + 60_000, START + 120_000]  # type: ignore[index]
        entry = order("buy", "0.01", "63000", cloid="0x" + "1" * 32)
        stop = order("sell", "0.01", "57000", cloid=SL, trigger=("sl", "59500"))
        target = order("sell", "0.01", "57000", cloid=TP, trigger=("tp", "60700"))
        answer = await client.act(action(entry, stop, target, grouping="normalTpsl"))
        statuses = answer["response"]["data"]["statuses"]  # type: ignore[index]
        assert statuses[0]["filled"]["avgPx"] == "60106.01"
        assert statuses[1:] == ["waitingForTrigger", "waitingForTrigger"]
        await client.ack(marker, sent=1)
        settle = await client.marker()
        assert settle["stage"] == "settle"
        assert (await client.info(type="allMids"))["BTC"] == "60100.0"  # type: ignore[index]
        await client.ack(settle)
        marker = await closed(client)
        fills = [fill for frame in client.of("userFills")[1:] for fill in frame["fills"]]  # type: ignore[index]
        assert [(fill["px"], fill["time"]) for fill in fills] == [
            ("60106.01", START + 180_000),
            ("59494.05", START + 240_000),
        ]
        words = [one["status"] for frame in client.of("orderUpdates") for one in frame]  # type: ignore[attr-defined]
        assert words == ["filled", "open", "open", "filled", "siblingFilledCanceled"]


async def test_funding_is_paid_before_an_order_fills_at_the_hour() -> None:
    start = START + 57 * 60_000  # the bar after the first live one opens at the hour
    hour = np.array([START + 3_600_000], dtype=np.int64)
    rates = FundingSeries(Coin("BTC"), hour, np.array([0.0001]))
    tape = Tape([series([FLAT] * 6, start_ms=start)], funding={Coin("BTC"): rates})
    async with venue(tape, warmup_bars=1) as server, follow(server) as client:
        marker = await closed(client)
        await client.act(action(order("buy", "0.01", "63000")))
        await client.ack(marker, sent=1)
        marker = await closed(client)
        assert client.of("userFundings")[1:] == []
        await client.act(action(order("buy", "0.02", "63000")))
        await client.ack(marker, sent=1)
        await closed(client)
        paid = client.of("userFundings")[1]["fundings"]  # type: ignore[index]
        assert [(one["szi"], one["usdc"], one["time"]) for one in paid] == [("0.01", "-0.06", int(hour[0]))]


async def test_before_a_gap_and_at_the_end_orders_fill_at_the_last_close() -> None:
    before = series([FLAT, FLAT, (60000, 60300, 60000, 60200)])
    after = series([(61000, 61100, 60900, 61050)] * 2, start_ms=START + 3_600_000 + 60_000)
    columns = ("open_ms", "open", "high", "low", "close", "volume")
    joined = {name: np.concatenate([getattr(before, name), getattr(after, name)]) for name in columns}
    whole = type(before)(Coin("BTC"), 60_000, "file:test", **joined)
    async with venue(Tape([whole])) as server, follow(server) as client:
        marker = await closed(client)
        assert marker["ending"] == {"BTC": "gap"}
        answer = await client.act(action(order("sell", "0.01", "57000")))
        assert answer["response"]["data"]["statuses"][0]["filled"]["avgPx"] == "60193.98"  # type: ignore[index]
        await client.ack(marker, sent=1)
        marker = await closed(client)
        assert (marker["time"], marker["ending"]) == (START + 3_600_000 + 120_000, {})
        await client.ack(marker)
        marker = await closed(client)
        assert marker["ending"] == {"BTC": "end"}
        answer = await client.act(action(order("buy", "0.01", "65000")))
        assert answer["response"]["data"]["statuses"][0]["filled"]["avgPx"] == "61056.105"  # type: ignore[index]
        await client.ack(marker, sent=1)
        assert (await closed(client))["stage"] == "end"
        assert (await client.info(type="exchangeStatus"))["ended"] is True  # type: ignore[index]


async def test_the_market_stands_still_without_its_client_and_says_the_same_bar_again() -> None:
    async with venue(Tape([series([FLAT] * 8)])) as server:
        async with follow(server) as client:
            first = await closed(client)
        async with follow(server) as client:
            again = await closed(client)
            assert (again["stage"], again["time"]) == ("closed", first["time"])
            await client.ack(again)
            assert (await closed(client))["time"] == int(str(first["time"])) + 60_000


async def test_a_killed_venue_goes_on_from_where_it_was(tmp_path: Path) -> None:
    """B10: what was answered or shown survives; the second process never saw the first one stop."""
    tape = Tape([series([FLAT] * 12)])
    path = tmp_path / "state.db.venue"
    first = venue(tape, store=VenueStore(path, tape.identity))
    async with first as server, follow(server) as client:
        marker = await closed(client)
        await client.act(action(order("buy", "0.01", "63000", cloid="0x" + "1" * 32)))
        await client.act(action(order("sell", "0.01", "57000", cloid=SL, trigger=("sl", "59500"))))
        await client.ack(marker, sent=2)
        marker = await closed(client)
        shown = await client.info(type="clearinghouseState", user=server.account)
        second = venue(tape, store=VenueStore(path, tape.identity))  # while the first one is still there
        second.replay.start()
        assert second.exchange.export_state() == first.exchange.export_state()
        assert second.replay.row == first.replay.row == 3
        second.replay.store.close()  # type: ignore[union-attr]
    async with venue(tape, store=VenueStore(path, tape.identity)) as server, follow(server) as client:
        again = await closed(client)
        assert again["time"] == marker["time"]
        assert await client.info(type="clearinghouseState", user=server.account) == shown
        orders = await client.info(type="frontendOpenOrders", user=server.account)
        assert [one["cloid"] for one in orders] == [SL]  # type: ignore[attr-defined]


def test_the_state_of_another_market_is_refused(tmp_path: Path) -> None:
    store = VenueStore(tmp_path / "x.venue", "sha256:one")
    store.load()
    store.close()
    with pytest.raises(UsageError, match="sha256:one"):
        VenueStore(tmp_path / "x.venue", "sha256:two").load()


async def test_a_port_in_use_is_one_line() -> None:
    tape = Tape([series([FLAT] * 4)])
    async with venue(tape) as server:
        with pytest.raises(UsageError, match=f"--port {server.port}: in use"):
            await venue(tape, port=server.port).__aenter__()


async def test_two_runs_of_the_same_requests_end_the_same() -> None:
    states = []
    for _ in range(2):
        tape = Tape([series([FLAT, FLAT, FLAT, (60100, 60800, 59000, 60000)] * 3)])
        async with venue(tape) as server, follow(server) as client:
            while (marker := await closed(client))["stage"] == "closed":
                await client.act(action(order("buy", "0.01", "63000")))
                await client.ack(marker, sent=1)
            states.append(server.exchange.export_state())
    assert states[0] == states[1]


async def test_acks_are_normalised_and_errors_come_on_their_channel() -> None:
    async with (
        venue(Tape([series([FLAT] * 4)])) as server,
        follow(server) as client,
        client.http.ws_connect(server.ws_url) as socket,
    ):
        for _ in range(2):
            await socket.send_json({"method": "subscribe", "subscription": {"type": "l2Book", "coin": "BTC"}})
        ack, book, repeated = [await socket.receive_json() for _ in range(3)]
        assert ack["data"]["subscription"] == {
            "type": "l2Book",
            "coin": "BTC",
            "nSigFigs": None,
            "mantissa": None,
            "fast": False,
        }
        assert book["data"]["levels"][0][0]["px"] == "59994.0"
        assert book["data"]["levels"][1][0]["px"] == "60006.0"
        assert repeated["data"].startswith("Already subscribed: ")
        await socket.send_json({"method": "subscribe", "subscription": {"type": "noSuchType"}})
        assert (await socket.receive_json())["channel"] == "error"
        await socket.send_str("no json")
        assert (await socket.receive_json())["data"].startswith("Error parsing JSON into valid websocket request")
        await socket.send_json({"method": "ping"})
        assert (await socket.receive()).data == '{"channel":"pong"}'
        await socket.send_json({"method": "post", "id": 7, "request": {"type": "info", "payload": {"type": "allMids"}}})
        assert (await socket.receive_json())["data"]["response"]["payload"]["data"] == {"BTC": "60000.0"}


def fill(store: VenueStore, body: bytes) -> None:
    while True:
        store.append("filler", body)


async def test_a_market_whose_memory_cannot_be_written_stands_still_and_goes_on(tmp_path: Path) -> None:
    """A full disk: SQLite itself refuses to grow the file, then may again."""
    tape = Tape([series([FLAT] * 6)])
    store = VenueStore(tmp_path / "venue", "test")
    async with venue(tape, store=store) as server, follow(server) as client:
        marker = await closed(client)
        assert store._db is not None
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        for body in (b"x" * 500, b""):  # until not the smallest row fits any more
            with pytest.raises(StoreFailed, match="database or disk is full"):
                fill(store, body)
        with pytest.raises(StoreFailed, match="database or disk is full"):
            store.compact(b"x" * 100_000)
        await client.ack(marker)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(closed(client), 1.5)
        store._db.execute("PRAGMA max_page_count = 1000000")
        assert (await closed(client))["time"] == marker["time"] + 60_000
