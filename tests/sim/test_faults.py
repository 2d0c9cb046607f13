"""Faults: their schedule, what they do on the wire, and that the venue's books remember them (GUARANTEES D1, D15)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from aml100.domain.errors import UsageError
from aml100.sim.faults import Fault, Faults, load_faults, parse_faults
from aml100.sim.scenario import Tape
from aml100.sim.store import VenueStore
from tests.sim.stage import Follower, action, follow, order, series, venue
from tests.sim.test_lockstep import SL, closed

FLAT = (60000.0, 60010.0, 59990.0, 60000.0)


def tape(bars: int = 8) -> Tape:
    return Tape([series([FLAT] * bars)])


# --- the schedule -------------------------------------------------------------------------------------------------


def test_a_file_holds_a_list_or_an_object_with_one(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"faults": [{"kind": "drop", "channel": "bbo", "every": 3, "times": 2}]}')
    assert load_faults(path) == [Fault("drop", channel="bbo", every=3, times=2)]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("no", "not JSON"),
        ('{"kind": "drop"}', "not a list of faults"),
        ('[{"kind": "drop"}, {"kind": "explode"}]', "fault 2: kind 'explode'; allowed: delay, disconnect"),
        ('[{"kind": "drop", "chanel": "bbo"}]', "fault 1: .*chanel.*allowed fields: kind, from_s"),
        ('[{"kind": "drop", "every": 0}]', "every 0; allowed: 1 or more"),
        ('[{"kind": "drop", "chance": 2}]', "chance 2.0; allowed: above 0, at most 1"),
        ('[{"kind": "http", "status": 200}]', "status 200; allowed: 400 to 599"),
        ('[{"kind": "partial", "share": "1"}]', "share 1; allowed: between 0 and 1"),
        ('[{"kind": "reject", "order": "stop"}]', "order 'stop'; allowed: entry, exit, stop_loss, take_profit"),
        ('[{"kind": "delay"}]', "delay; allowed: with one of channel and request"),
        ('[{"kind": "drop", "every": "3"}]', "fault 1: .*int"),
    ],
)
def test_a_bad_schedule_is_one_line(body: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^x.json: .*{said}"):
        parse_faults(body.encode(), "x.json")


def test_a_fault_counts_strikes_and_stops_within_its_span() -> None:
    faults = Faults([Fault("drop", from_s=10, for_s=10, channel="bbo", every=2, times=2)])
    times = iter((0.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 20.0))
    now = [0.0]
    faults.market_s = lambda: now[0]
    struck = []
    for now[0] in times:
        struck.append(faults.frame("bbo", "BTC") is not None)
        assert faults.frame("trades", "BTC") is None
    assert struck == [False, False, True, False, True, False, False, False]
    assert faults.report()[0]["struck"] == 2
    faults.clear()
    assert faults.report() == []


def test_chances_are_drawn_from_the_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        faults = Faults([Fault("drop", chance=0.3)], seed)
        return [faults.frame("bbo", None) is not None for _ in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 30 < sum(drawn(1)) < 90


# --- streams ------------------------------------------------------------------------------------------------------


async def frames_with(faults: list[Fault], channel: str = "candle", steps: int = 4) -> tuple[list[Any], Follower]:
    """What a follower reads on one channel over some bars, and itself."""
    async with venue(tape(), faults=faults) as server, follow(server) as client:
        for _ in range(steps):
            marker = await closed(client)
            await client.ack(marker)
        return client.of(channel), client


async def test_frames_are_dropped_duplicated_and_reordered() -> None:
    plain = [one["t"] for one in (await frames_with([]))[0]]
    assert len(plain) > 3
    dropped = [one["t"] for one in (await frames_with([Fault("drop", channel="candle", every=2)]))[0]]
    assert dropped == plain[::2]
    doubled = [one["t"] for one in (await frames_with([Fault("duplicate", channel="candle")]))[0]]
    assert doubled == [t for t in plain for _ in range(2)]
    everything = await frames_with([Fault("reorder", channel="candle", times=1)])
    order_of = [frame["channel"] for frame in everything[1].frames]
    undisturbed = [frame["channel"] for frame in (await frames_with([]))[1].frames]
    assert sorted(order_of) == sorted(undisturbed)
    assert order_of != undisturbed


async def test_a_silent_coin_sends_nothing_while_the_socket_lives() -> None:
    frames, client = await frames_with([Fault("silent", coin="BTC")])
    assert frames == client.of("bbo") == []
    assert client.of("userFills") != []  # its account still does


async def test_a_garbled_frame_is_no_json_or_holds_no_number() -> None:
    for how in ("cut", "nan"):
        faults = [Fault("garble", channel="bbo", how=how)]
        async with (
            venue(tape(), faults=faults) as server,
            aiohttp.ClientSession() as http,
            http.ws_connect(server.ws_url) as socket,
        ):
            await socket.send_json({"method": "subscribe", "subscription": {"type": "bbo", "coin": "BTC"}})
            assert (await socket.receive_json())["channel"] == "subscriptionResponse"
            text = (await socket.receive()).data
            if how == "nan":
                assert msgspec.json.decode(text)["data"]["bbo"][0]["px"] == "NaN"
            else:
                with pytest.raises(msgspec.DecodeError):
                    msgspec.json.decode(text)


async def test_a_disconnected_follower_comes_back_to_the_same_bar() -> None:
    """D16: ten cuts, and every bar is still seen in order."""
    times: list[int] = []
    faults = [Fault("disconnect", channel="candle", every=2, times=10)]
    async with venue(tape(16), faults=faults) as server:
        ended = False
        while not ended:
            async with follow(server) as client:
                try:
                    while not ended:
                        marker = await asyncio.wait_for(closed(client), 60)
                        ended = marker["stage"] == "end"
                        times += [] if ended or marker["time"] in times else [int(str(marker["time"]))]
                        await client.ack(marker)
                except (TypeError, msgspec.DecodeError, ConnectionError, aiohttp.ClientError):
                    continue
        assert server.faults.report()[0]["struck"] == 10
        assert times == [int(t) + 60_000 for t in tape(16).series_of(server.tape.coins[0]).open_ms[2:]]


async def test_a_frozen_book_stands_while_the_market_moves() -> None:
    moving = Tape([series([(60000.0 + 50 * n, 60100.0 + 50 * n, 59900.0, 60050.0 + 50 * n) for n in range(8)])])
    async with venue(moving, faults=[Fault("freeze", coin="BTC")]) as server, follow(server) as client:
        mids = []
        for _ in range(3):
            marker = await closed(client)
            mids.append((await client.info(type="allMids"))["BTC"])  # type: ignore[index]
            context = (await client.info(type="metaAndAssetCtxs"))[1][0]  # type: ignore[index]
            mids.append(context["markPx"])
            await client.ack(marker)
        assert len({*mids[::2]}) == 1
        assert len({*mids[1::2]}) == 3


# --- requests -----------------------------------------------------------------------------------------------------


async def test_refused_by_the_server_nothing_was_done() -> None:
    faults = [Fault("http", request="order", status=502, times=1), Fault("http", request="allMids", status=429)]
    async with venue(tape(), faults=faults) as server, follow(server) as client:
        marker = await closed(client)
        with pytest.raises(aiohttp.ContentTypeError):
            await client.act(action(order("buy", "0.01", "63000", cloid=SL)))
        status = await client.info(type="orderStatus", user=server.account, oid=SL)
        assert status == {"status": "unknownOid"}
        async with client.http.post(server.rest_url + "/info", json={"type": "allMids"}) as answer:
            assert (answer.status, await answer.text()) == (429, "null")
        await client.ack(marker)


async def test_without_an_answer_the_order_is_there_all_the_same() -> None:
    """D1: the reply of every third order is lost; each order exists exactly once."""
    faults = [Fault("no_answer", request="order", every=3)]
    async with venue(tape(), faults=faults) as server, follow(server) as client:
        await closed(client)
        lost = 0
        cloids = [f"0x{number:032x}" for number in range(1, 10)]
        for cloid in cloids:
            try:
                await client.act(action(order("buy", "0.001", "63000", cloid=cloid)))
            except aiohttp.ClientError:
                lost += 1
        assert lost == 3
        for cloid in cloids:
            answer = await client.info(type="orderStatus", user=server.account, oid=cloid)
            assert answer["order"]["status"] == "filled"  # type: ignore[index]
        fills: Any = await client.info(type="userFills", user=server.account)
        assert sorted(one["cloid"] for one in fills) == cloids


async def test_orders_are_rejected_filled_in_part_and_lost_and_the_store_remembers(tmp_path: Path) -> None:
    faults = [
        Fault("reject", order="take_profit", text="Busy."),
        Fault("lose", order="stop_loss"),
        Fault("partial", order="entry"),
    ]
    path = tmp_path / "state.db.venue"
    market = tape()
    store = VenueStore(path, market.identity)
    async with venue(market, faults=faults, store=store) as server, follow(server) as client:
        marker = await closed(client)
        stop = order("sell", "0.02", "57000", cloid=SL, trigger=("sl", "59500"))
        target = order("sell", "0.02", "57000", trigger=("tp", "60700"))
        answer: Any = await client.act(action(order("buy", "0.02", "63000"), stop, target, grouping="normalTpsl"))
        statuses = answer["response"]["data"]["statuses"]
        assert statuses[0]["filled"]["totalSz"] == "0.01"
        assert statuses[1:] == ["waitingForTrigger", {"error": "Busy. asset=0"}]
        assert await client.info(type="frontendOpenOrders", user=server.account) == []
        gone: Any = await client.info(type="orderStatus", user=server.account, oid=SL)
        assert gone["order"]["status"] == "internalCancel"
        await client.ack(marker, sent=1)
        await closed(client)
        second = venue(market, store=VenueStore(path, market.identity))
        second.replay.start()
        assert second.exchange.export_state() == server.exchange.export_state()
        second.replay.store.close()  # type: ignore[union-attr]


async def test_a_skewed_clock_shows_in_its_time_and_moves_the_window_of_nonces() -> None:
    async with venue(tape(), faults=[Fault("skew", ms=3 * 86_400_000)]) as server, follow(server) as client:
        marker = await closed(client)
        status: Any = await client.info(type="exchangeStatus")
        assert status["time"] == marker["time"] + 3 * 86_400_000  # type: ignore[operator]
        answer = await client.act(action(order("buy", "0.01", "63000")))
        assert str(answer["response"]).startswith("Invalid nonce: nonce too low")


# --- the back door ------------------------------------------------------------------------------------------------


async def test_faults_and_deposits_come_while_it_runs() -> None:
    async with venue(tape()) as server, follow(server) as client:
        await closed(client)
        admin = server.rest_url + "/admin"
        async with client.http.post(admin + "/faults", json=[{"kind": "http", "request": "meta", "times": 1}]) as one:
            assert [fault["struck"] for fault in await one.json()] == [0]
        async with client.http.post(server.rest_url + "/info", json={"type": "meta"}) as failed:
            assert failed.status == 500
        assert (await client.info(type="meta"))["universe"] != []  # type: ignore[index]
        async with client.http.get(admin) as about:
            assert [fault["struck"] for fault in (await about.json())["faults"]] == [1]
        async with client.http.post(admin + "/faults", json=[{"kind": "nonsense"}]) as refused:
            assert (refused.status, "allowed: delay" in (await refused.json())["error"]) == (422, True)
        async with client.http.delete(admin + "/faults") as cleared:
            assert await cleared.json() == []
        user = "0x" + 40 * "C"
        for balance in ("250.0", "500.0"):
            async with client.http.post(admin + "/deposit", json={"user": user, "usd": "250"}) as paid:
                assert await paid.json() == {"user": user.lower(), "balance": balance}
        async with client.http.post(admin + "/deposit", json={"user": "0x1", "usd": "250"}) as refused:
            assert refused.status == 422
        ledger: Any = await client.info(type="userNonFundingLedgerUpdates", user=user, startTime=0)
        assert [one["delta"] for one in ledger] == [{"type": "deposit", "usdc": "250.0"}] * 2
