"""The conversation on one connection, frame by frame, without a socket."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal

from aml100.domain.events import OrderChanged, SeriesEnd
from aml100.domain.market import AssetContext
from aml100.domain.orders import OrderStatus, Side
from aml100.domain.units import Coin
from aml100.venue.news import CandleUpdate, FillsSeen, FundingsSeen, SimStep, TradesSeen
from aml100.venue.session import (
    FrameRefused,
    Session,
    SessionEvent,
    StreamUp,
    Subscription,
    VenueComplaint,
    account_subscriptions,
    market_subscriptions,
)

USER = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
BTC = Coin("BTC")


def frame(channel: str, data: object) -> bytes:
    return json.dumps({"channel": channel, "data": data}).encode()


def trade(tid: int, px: str = "65000.0", side: str = "B") -> dict[str, object]:
    return {"coin": "BTC", "side": side, "px": px, "sz": "0.1", "time": 1000 + tid, "hash": "0x0", "tid": tid}


def fill(tid: int, time_ms: int) -> dict[str, object]:
    return {
        "coin": "BTC", "px": "65000.0", "sz": "0.1", "side": "A", "time": time_ms, "startPosition": "0.1",
        "dir": "Close Long", "closedPnl": "0.0", "hash": "0x0", "oid": 9, "crossed": True, "fee": "2.925",
        "tid": tid, "feeToken": "USDC", "twapId": None,
    }  # fmt: skip


def funding(time_ms: int) -> dict[str, object]:
    return {
        "time": time_ms,
        "coin": "BTC",
        "usdc": "-0.081",
        "szi": "0.1",
        "fundingRate": "0.0000125",
        "nSamples": None,
    }


def fills_frame(rows: list[dict[str, object]], *, snapshot: bool) -> bytes:
    return frame("userFills", {"user": USER, "fills": rows} | ({"isSnapshot": True} if snapshot else {}))


def ids(events: Iterable[SessionEvent]) -> list[list[int]]:
    return [[each.tid for each in event.fills] for event in events if isinstance(event, FillsSeen)]


def acknowledge(session: Session, now_s: float = 0.0) -> list[SessionEvent]:
    """Acks as the venue writes them: keys in another order, defaults added."""
    told: list[SessionEvent] = []
    for subscription in session.subscriptions:
        echo = dict(reversed(subscription.to_wire().items())) | {"nSigFigs": None, "aggregateByTime": False}
        told += session.receive(frame("subscriptionResponse", {"method": "subscribe", "subscription": echo}), now_s)
    return told


def test_it_is_up_when_every_subscription_is_acknowledged() -> None:
    session = Session([*market_subscriptions(BTC, 60_000), *account_subscriptions(USER)])
    asked = [json.loads(data) for data in session.open(0.0)]
    assert len(asked) == 7
    assert asked[0] == {"method": "subscribe", "subscription": {"type": "candle", "coin": "BTC", "interval": "1m"}}
    assert asked[-1]["subscription"] == {"type": "userFundings", "user": USER}
    assert not session.is_up
    assert acknowledge(session) == [StreamUp()]
    assert session.is_up


def test_an_ack_of_something_else_is_none_of_ours() -> None:
    session = Session([Subscription("bbo", BTC)])
    session.open(0.0)
    for echo in ({"type": "bbo", "coin": "ETH"}, {"type": "trades", "coin": "BTC"}):
        assert not session.receive(frame("subscriptionResponse", {"method": "subscribe", "subscription": echo}), 0)
    goodbye = {"method": "unsubscribe", "subscription": {"type": "bbo", "coin": "BTC"}}
    assert not session.receive(frame("subscriptionResponse", goodbye), 0)
    assert not session.is_up


def test_already_subscribed_counts_as_acknowledged() -> None:
    session = Session([Subscription("bbo", BTC)])
    session.open(0.0)
    text = 'Already subscribed: {"type":"bbo","coin":"BTC"}'
    assert list(session.receive(frame("error", text), 0.0)) == [StreamUp()]
    assert list(session.receive(frame("error", "Invalid subscription {}"), 0.0)) == [
        VenueComplaint("Invalid subscription {}")
    ]


def test_the_same_set_is_asked_for_again_after_every_cut() -> None:
    """D16."""
    session = Session([*market_subscriptions(BTC, 300_000), Subscription("trades", BTC)])
    first = session.open(0.0)
    assert len(first) == 4
    for cut in range(10):
        acknowledge(session)
        assert session.is_up
        assert session.open(float(cut)) == first
        assert not session.is_up


def test_trades_replayed_on_subscribe_are_told_once() -> None:
    session = Session([Subscription("trades", BTC)])
    session.open(0.0)
    (news,) = session.receive(frame("trades", [trade(1), trade(2)]), 0.0)
    assert isinstance(news, TradesSeen)
    assert [t.tid for t in news.trades] == [1, 2]
    assert (news.trades[0].price, news.trades[0].side, news.trades[0].time_ms) == (Decimal(65000), Side.BUY, 1001)
    session.open(1.0)
    (news,) = session.receive(frame("trades", [trade(2), trade(3)]), 1.0)
    assert isinstance(news, TradesSeen)
    assert [t.tid for t in news.trades] == [3]
    assert list(session.receive(frame("trades", [trade(2), trade(3)]), 1.0)) == []


def test_no_fill_twice_over_ten_cuts_and_none_lost() -> None:
    """D16: each reconnect's snapshot repeats what was told and brings what was missed."""
    session, told = Session(account_subscriptions(USER)), []
    for cut in range(10):
        session.open(float(cut))
        snapshot = [fill(tid, 1000 + tid) for tid in range(cut * 2, -1, -1)]
        told += ids(session.receive(fills_frame(snapshot, snapshot=True), cut))
        live = fills_frame([fill(cut * 2 + 1, 1000 + cut * 2 + 1)], snapshot=False)
        told += ids(session.receive(live, cut)) + ids(session.receive(live, cut))
    assert [tid for each in told for tid in each] == list(range(20))


def test_fills_ahead_of_their_snapshot_are_held_until_it_has_come() -> None:
    session = Session(account_subscriptions(USER))
    session.open(0.0)
    assert not session.receive(fills_frame([fill(3, 3000)], snapshot=False), 0.0)
    events = session.receive(fills_frame([fill(2, 2000), fill(1, 1000)], snapshot=True), 0.0)
    assert ids(events) == [[1, 2], [3]]
    assert [event.is_snapshot for event in events if isinstance(event, FillsSeen)] == [True, False]


def test_an_empty_snapshot_is_told() -> None:
    session = Session(account_subscriptions(USER))
    session.open(0.0)
    assert list(session.receive(fills_frame([], snapshot=True), 0.0)) == [FillsSeen((), True)]
    held = frame("userFundings", {"user": USER, "fundings": [funding(7_200_000)]})
    assert not session.receive(held, 0.0)
    snapshot = frame("userFundings", {"user": USER, "fundings": [funding(3_600_000)], "isSnapshot": True})
    events = session.receive(snapshot, 0.0)
    assert [[p.time_ms for p in event.payments] for event in events if isinstance(event, FundingsSeen)] == [
        [3_600_000],
        [7_200_000],
    ]


def test_liquidation_counts_only_when_it_was_ours() -> None:
    session = Session(account_subscriptions(USER))
    session.open(0.0)
    ours = fill(1, 1) | {"liquidation": {"liquidatedUser": USER.upper(), "markPx": "1", "method": "market"}}
    theirs = fill(2, 2) | {"liquidation": {"liquidatedUser": "0x" + "1" * 40, "markPx": "1", "method": "market"}}
    (event,) = session.receive(fills_frame([theirs, ours], snapshot=True), 0.0)
    assert isinstance(event, FillsSeen)
    assert [each.is_liquidation for each in event.fills] == [True, False]


def test_order_updates_become_changes() -> None:
    session = Session(account_subscriptions(USER))
    session.open(0.0)
    order = {"coin": "BTC", "side": "B", "limitPx": "1.0", "sz": "0.1", "oid": 5, "timestamp": 1, "origSz": "0.1"}
    ours = order | {"cloid": "0xA1F0cddc17303d07f3fd128d5b35071d"}
    rows = [
        {"order": ours, "status": word, "statusTimestamp": 1} for word in ("open", "marginCanceled", "neverHeardOf")
    ]
    events = session.receive(frame("orderUpdates", rows), 0.0)
    assert [(e.cloid, e.status, e.reason) for e in events if isinstance(e, OrderChanged)] == [
        ("0xa1f0cddc17303d07f3fd128d5b35071d", OrderStatus.RESTING, ""),
        ("0xa1f0cddc17303d07f3fd128d5b35071d", OrderStatus.CANCELED, "marginCanceled"),
        ("0xa1f0cddc17303d07f3fd128d5b35071d", OrderStatus.UNKNOWN, "neverHeardOf"),
    ]


def test_pings_go_out_every_30_seconds_and_silence_ends_it() -> None:
    session = Session([Subscription("trades", BTC)])
    session.open(100.0)
    acknowledge(session, 100.0)
    assert session.due(129.9).frames == ()
    assert session.due(130.0).frames == (b'{"method":"ping"}',)
    assert session.due(131.0).frames == ()
    assert not session.receive(b'{"channel":"pong"}', 131.0)
    assert session.due(160.0).frames == (b'{"method":"ping"}',)
    assert session.due(181.0).problem is None
    problem = session.due(181.1).problem
    assert problem is not None
    assert "nothing heard" in problem


def test_a_subscription_that_is_never_acknowledged_ends_it_by_name() -> None:
    session = Session([Subscription("trades", BTC)])
    session.open(0.0)
    session.receive(b'{"channel":"pong"}', 15.0)
    assert session.due(15.0).problem is None
    assert session.due(15.1).problem == "not acknowledged: trades BTC"


def test_what_cannot_be_read_is_named_and_the_rest_goes_on() -> None:
    """D9 on the way in."""
    session = Session([Subscription("trades", BTC)])
    session.open(0.0)
    for px in ("NaN", "Infinity", "0", "-1", "abc"):
        (event,) = session.receive(frame("trades", [trade(1, px)]), 0.0)
        assert isinstance(event, FrameRefused)
        assert event.reason.startswith("trades.px")
    (event,) = session.receive(frame("bbo", {"coin": "BTC", "time": "x"}), 0.0)
    assert isinstance(event, FrameRefused)
    assert "$.data" in event.reason
    candle = {
        "t": 60_000,
        "T": 119_999,
        "s": "BTC",
        "i": "1m",
        "o": "2",
        "c": "2",
        "h": "1",
        "l": "1",
        "v": "0",
        "n": 0,
    }
    (event,) = session.receive(frame("candle", candle), 0.0)
    assert isinstance(event, FrameRefused)
    (event,) = session.receive(frame("candle", candle | {"h": "2"}), 0.0)
    assert isinstance(event, CandleUpdate)


def test_greetings_and_unknown_channels_say_nothing() -> None:
    session = Session([])
    session.open(0.0)
    assert not session.receive(b"Websocket connection established.", 0.0)
    assert not session.receive("Websocket connection established.", 0.0)
    assert not session.receive(frame("webData9", {"anything": 1}), 0.0)


def test_unknown_fields_are_ignored_and_a_context_without_a_mark_says_nothing() -> None:
    session = Session([])
    ctx = {"funding": "0.00001", "oraclePx": "10.5", "markPx": "10.4", "premium": None, "novelty": {"deep": [1]}}
    events = session.receive(frame("activeAssetCtx", {"coin": "BTC", "ctx": ctx}), 0.0)
    assert list(events) == [AssetContext(BTC, Decimal("10.4"), Decimal("10.5"), Decimal("0.00001"), None)]
    assert list(session.receive(frame("activeAssetCtx", {"coin": "BTC", "ctx": ctx | {"markPx": None}}), 0.0)) == []


def test_steps_of_the_simulated_venue() -> None:
    session = Session([Subscription("simStep")])
    assert json.loads(session.open(0.0)[0]) == {"method": "subscribe", "subscription": {"type": "simStep"}}
    step = {"step": 4, "stage": "closed", "time": 60_000, "ending": {"ETH": "end", "BTC": "gap"}}
    assert list(session.receive(frame("simStep", step), 0.0)) == [
        SimStep(4, "closed", 60_000, ((BTC, SeriesEnd.GAP), (Coin("ETH"), SeriesEnd.END)))
    ]
    (event,) = session.receive(frame("simStep", step | {"ending": {"BTC": "later"}}), 0.0)
    assert isinstance(event, FrameRefused)
