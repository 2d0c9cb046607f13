"""Every recorded message of the venue decodes, and means what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aml100.domain.clock import ManualClock
from aml100.domain.errors import VenueUnavailable
from aml100.domain.market import BookTop
from aml100.domain.orders import Order, OrderKind, OrderStatus, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.sim import requests
from aml100.venue import codec, placing, wire, words
from aml100.venue.account_queries import AccountQueries
from aml100.venue.budget import ActionBudget, IpBudget
from aml100.venue.news import CandleUpdate, FillsSeen, ForeignOrderSeen, TradesSeen
from aml100.venue.refusals import Refusal, refusal_kind
from aml100.venue.session import Session, Subscription
from aml100.venue.transport import Timeouts, Transport

INFO_SHAPES: dict[str, Any] = {
    "meta": wire.Meta,
    "metaAndAssetCtxs": tuple[wire.Meta, list[wire.ContextWire]],
    "allMids": dict[str, str],
    "l2Book": wire.BookWire,
    "candleSnapshot": list[wire.CandleWire],
    "fundingHistory": list[wire.FundingRateWire],
    "clearinghouseState": wire.ClearinghouseState,
    "openOrders": list[wire.BasicOrder],
    "frontendOpenOrders": list[wire.FrontOrder],
    "orderStatus": wire.OrderStatusAnswer,
    "historicalOrders": list[wire.OrderReport],
    "userFills": list[wire.FillWire],
    "userFillsByTime": list[wire.FillWire],
    "userFunding": list[wire.FundingEntry],
    "userRateLimit": wire.RateLimitWire,
    "extraAgents": list[wire.AgentWire],
    "perpDexs": list[wire.PerpDex | None],
    "activeAssetData": wire.ActiveAssetWire,
}
NOT_ASKED = {"spotMeta", "spotMetaAndAssetCtxs", "delegatorHistory"}
"""Recorded, too; other clients ask these, ours does not."""


def recordings(shared: Path, folder: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted((shared / "data/hyperliquid" / folder).glob("*.json")):
        document = json.loads(path.read_text())
        found += [(path.name, each) for each in document.get("exchanges", document.get("frames", []))]
    return found


def info(shared: Path, name: str, at: int = 0) -> Any:
    exchange = json.loads((shared / "data/hyperliquid/rest" / name).read_text())["exchanges"][at]
    kind = INFO_SHAPES[exchange["request"]["type"]]
    body = json.dumps(exchange.get("response", exchange.get("response_excerpt"))).encode()
    return codec.decode_answer(body, kind, name)


def frames(shared: Path, name: str) -> list[bytes]:
    document = json.loads((shared / "data/hyperliquid/ws" / name).read_text())
    return [
        (frame.get("raw") or json.dumps(frame["message"])).encode()
        for frame in document["frames"]
        if frame["dir"] in ("recv", "in")
    ]


def test_every_recorded_answer_of_info_decodes(shared: Path) -> None:
    seen = set()
    for name, exchange in recordings(shared, "rest"):
        question = exchange["request"]["type"]
        seen.add(question)
        if question in NOT_ASKED:
            continue
        body = json.dumps(exchange.get("response", exchange.get("response_excerpt"))).encode()
        codec.decode_answer(body, INFO_SHAPES[question], name)
    assert seen == INFO_SHAPES.keys() | NOT_ASKED


def test_every_recorded_answer_of_exchange_decodes(shared: Path) -> None:
    decoded = 0
    for name, exchange in recordings(shared, "exchange"):
        body = json.dumps(exchange["response"])
        if name.startswith("ccxt"):  # its recorder turned the order ids into text
            body = body.replace('"oid": "211341310459"', '"oid": 211341310459')
        codec.decode_answer(body.encode(), wire.ExchangeAnswer, name)
        decoded += 1
    assert decoded >= 15


def test_every_recorded_frame_decodes_into_events(shared: Path) -> None:
    kinds = set()
    for path in sorted((shared / "data/hyperliquid/ws").glob("*.json")):
        for data in frames(shared, path.name):
            frame = codec.decode_frame(data)
            assert frame is not None, (path.name, data[:100])
            kinds.add(type(frame))
            codec.events_from(frame, "hyperliquid:mainnet")
    assert {wire.TradesFrame, wire.BookFrame, wire.BboFrame, wire.CandleFrame, wire.PongFrame, wire.ErrorFrame} <= kinds
    assert {wire.AckFrame, wire.OrderUpdatesFrame, wire.UserFillsFrame, wire.MidsFrame, wire.ContextFrame} <= kinds


def test_recorded_metadata_keeps_ids_past_delisted_coins(shared: Path) -> None:
    """Checked by hand in the recording: BTC 0, ETH 1, then ATOM; MATIC (3) is delisted, DYDX follows with 4."""
    found = codec.instruments_from(info(shared, "meta_mainnet_2025-12.json"))
    assert (found[Coin("BTC")].asset_id, found[Coin("BTC")].sz_decimals, found[Coin("BTC")].px_decimals) == (0, 5, 1)
    assert found[Coin("DYDX")].asset_id == 4
    assert Coin("MATIC") not in found
    testnet = codec.instruments_from(wire.Meta([wire.AssetMeta("SOL", 2, 10), wire.AssetMeta("BTC", 5, 40)]))
    assert testnet[Coin("BTC")].asset_id == 1


def test_recorded_candles_become_bars(shared: Path) -> None:
    rows = info(shared, "candleSnapshot_kPEPE_1h_2023-05.json")
    bar = codec.bar_from(rows[0], "hyperliquid:mainnet")
    assert (bar.coin, bar.interval_ms, bar.open_ms) == ("kPEPE", 3_600_000, 1684699200000)
    assert (bar.open, bar.high, bar.low, bar.close) == tuple(
        map(Decimal, ("0.001601", "0.001616", "0.001601", "0.001604"))
    )
    assert (bar.volume, bar.trades, bar.origin) == (Decimal(520665683), 709, "hyperliquid:mainnet")


def test_recorded_fills_with_a_rebate(shared: Path) -> None:
    fill = codec.fill_from(info(shared, "userFills_maker_rebate_cloid_2026-09.json")[0])
    assert fill.fee == Decimal("-0.012639")
    assert (fill.side, fill.is_taker, fill.cloid) == (Side.BUY, False, "0x5bdd47600dea461f36c8378cd7b4150c")
    assert fill.fill_id == "1789407361368-BTC-1109765720343214"
    assert not fill.is_liquidation


def test_recorded_account_states(shared: Path) -> None:
    isolated = codec.account_from(info(shared, "clearinghouseState_isolated_2025-08.json"))
    assert (isolated.equity, isolated.withdrawable) == (Decimal("83.307638"), Decimal("75.781884"))
    (held,) = isolated.positions
    assert (held.coin, held.size, held.entry, held.leverage) == ("HYPE", Decimal(2), Decimal("37.829"), 10)
    assert held.liquidation_px == Decimal("35.8559189474")
    shorts = codec.account_from(info(shared, "clearinghouseState_positions_2023-03.json"))
    assert next(p for p in shorts.positions if p.coin == "BTC").size == Decimal("-0.00785")


def test_zero_equity_is_unknown_not_a_loss(shared: Path) -> None:
    """B12: a flat or unified account says 0.0."""
    flat = codec.account_from(info(shared, "clearinghouseState_flat_2025-12.json"))
    assert flat.equity is None
    assert flat.positions == ()


def test_recorded_bracket_shows_its_children_as_triggers(shared: Path) -> None:
    orders = [codec.resting_from(row) for row in info(shared, "frontendOpenOrders_bracket_2023-11.json")]
    target = next(order for order in orders if order.oid == 3184595907)
    assert (target.trigger_price, target.reduce_only, target.is_stop) == (Decimal("10.004"), True, False)
    stop = next(order for order in orders if order.is_stop)
    assert (stop.oid, stop.trigger_price, stop.side) == (3184595906, Decimal("9.995"), Side.SELL)
    parent = next(order for order in orders if order.trigger_price is None)
    assert (parent.side, parent.reduce_only) == (Side.BUY, False)


def test_recorded_order_statuses(shared: Path) -> None:
    cloid = Cloid("0x" + "0" * 32)
    filled = codec.order_changed_from(cloid, info(shared, "orderStatus_filled_buy_testnet_2025-08.json"))
    assert filled is not None
    assert (filled.status, filled.oid) == (OrderStatus.FILLED, 37907159219)
    assert codec.order_changed_from(cloid, info(shared, "orderStatus_unknownOid_2025-08.json")) is None
    reports = info(shared, "historicalOrders_2025-08.json")
    rejected = next(report for report in reports if report.status == "iocCancelRejected")
    assert words.order_status(rejected.status) is OrderStatus.REJECTED


def test_recorded_stream_of_a_candle_that_updates_after_its_end(shared: Path) -> None:
    updates = [
        event.bar
        for data in frames(shared, "candle_1m_stream_AAVE_2025-03.json")
        for event in codec.events_from(codec.decode_frame(data), "o")  # type: ignore[arg-type]
        if isinstance(event, CandleUpdate)
    ]
    assert [bar.open_ms for bar in updates[:3]] == [1742428740000, 1742428800000, 1742428800000]
    assert [bar.volume for bar in updates[1:3]] == [Decimal("0.38"), Decimal("0.91")]


def test_recorded_book_without_levels_and_with_an_empty_side(shared: Path) -> None:
    tops = [
        event
        for data in frames(shared, "public_frames_mainnet_2026-09-03.json")
        for event in codec.events_from(codec.decode_frame(data), "o")  # type: ignore[arg-type]
        if isinstance(event, BookTop)
    ]
    assert BookTop(Coin("MATIC"), 1788490065008, None, None) in tops
    (touch,) = (one for one in tops if one.coin == "BTC" and one.time_ms == 1788490065008)
    assert touch == BookTop(
        Coin("BTC"), 1788490065008, Decimal("80639.0"), Decimal("80640.0"), Decimal("0.00186"), Decimal("13.74589")
    )


def test_recorded_private_frames(shared: Path) -> None:
    events = [
        event
        for data in frames(shared, "frames_testnet_2026-07-28.json")
        for event in codec.events_from(codec.decode_frame(data), "o")  # type: ignore[arg-type]
    ]
    assert FillsSeen((), is_snapshot=True) in events
    changes = [event for event in events if getattr(event, "cloid", None) == "0xa1f0cddc17303d07f3fd128d5b35071d"]
    assert [change.status for change in changes] == [OrderStatus.RESTING, OrderStatus.CANCELED]  # type: ignore[union-attr]
    trades = next(event for event in events if isinstance(event, TradesSeen))
    assert trades.trades[0].side is Side.BUY


def test_spot_orders_of_the_same_account_are_passed_over(shared: Path) -> None:
    for data in frames(shared, "orderUpdates_2025-12.json"):
        frame = codec.decode_frame(data)
        assert frame is not None
        assert codec.events_from(frame, "o") == ()
    perp = data.replace(b"@107", b"HYPE")
    frame = codec.decode_frame(perp)
    assert frame is not None
    assert codec.events_from(frame, "o") == (ForeignOrderSeen(Coin("HYPE"), 1, OrderStatus.RESTING),)


def order(cloid: str, kind: OrderKind = OrderKind.ENTRY, size: str = "1") -> Order:
    trigger = None if kind is OrderKind.ENTRY else Decimal(40)
    tif = TimeInForce.IOC if trigger is None else None
    return Order(
        Cloid(cloid), Coin("HYPE"), Side.BUY, kind, Decimal(size), Decimal(40), trigger is not None, tif, trigger
    )


def test_recorded_bracket_answer_maps_each_order(shared: Path) -> None:
    """A parent filled at once and two children that wait for their trigger, as bare words."""
    document = json.loads((shared / "data/hyperliquid/exchange/ccxt_order_with_tp_sl.json").read_text())
    body = json.dumps(document["exchanges"][0]["response"]).replace('"oid": "211341310459"', '"oid": 211341310459')
    answer = codec.decode_answer(body.encode(), wire.ExchangeAnswer, "order")
    orders = [order("0x1"), order("0x2", OrderKind.STOP_LOSS), order("0x3", OrderKind.TAKE_PROFIT)]
    results = placing.place_results(orders, answer)
    assert [(r.cloid, r.status, r.oid) for r in results] == [
        ("0x1", OrderStatus.FILLED, 211341310459),
        ("0x2", OrderStatus.WAITING, None),
        ("0x3", OrderStatus.WAITING, None),
    ]


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("order_below_min_value.json", OrderStatus.REJECTED, "Order must have minimum value of $10. asset=173"),
        ("order_resting.json", OrderStatus.RESTING, ""),
        (
            "order_unknown_wallet.json",
            OrderStatus.REJECTED,
            "User or API Wallet 0xefc07321d3d6a8fa4961306c7bf555f0723f28c1 does not exist.",
        ),
    ],
)
def test_recorded_order_answers(shared: Path, name: str, status: OrderStatus, text: str) -> None:
    document = json.loads((shared / "data/hyperliquid/exchange" / name).read_text())
    answer = msgspec.json.decode(json.dumps(document["exchanges"][0]["response"]), type=wire.ExchangeAnswer)
    (result,) = placing.place_results([order("0x1")], answer)
    assert (result.status, result.reason) == (status, text)


def test_every_known_error_text_has_a_kind(shared: Path) -> None:
    document = json.loads((shared / "data/hyperliquid/exchange/error_texts.json").read_text())
    passed_over = ("null", "Already subscribed", "Already unsubscribed", "Error placing new order during modify")
    for entry in document["errors"]:
        if not entry["text"].startswith(passed_over):
            assert refusal_kind(entry["text"] + " asset=3") is not Refusal.OTHER, entry["text"]


def test_numbers_are_written_as_the_official_client_writes_them(shared: Path) -> None:
    """Its refusals (zero aside, which we never send) are refused here as well."""
    document = json.loads((shared / "data/hyperliquid/wire_numbers.json").read_text())
    compared = 0
    for case in document["float_to_wire"]:
        value = Decimal(case["value_repr"])
        if value <= 0 or isinstance(case["wire"], dict) or len(value.as_tuple().digits) > 16:
            continue
        assert placing.number_to_wire(value, "x") == case["wire"]
        compared += 1
    assert compared >= 10


# --- what is ours to send, encoded back ---------------------------------------------------------------------------


def spelled(action: dict[str, Any]) -> dict[str, Any]:
    """The same action by our own hands: read with the venue's side of the code, written with ours."""
    read = requests.decode_action(action)
    match read:
        case requests.OrderAction():
            coin, grouping = Coin("ANY"), requests.grouping_of(read.grouping)
            orders = []
            for one in read.orders:
                meant = requests.order_of(one, coin, 0)
                meant = replace(meant, cloid=meant.cloid or Cloid("0x" + "0" * 32))
                written = placing.order_to_wire(meant, one.a)
                orders.append(written if one.c else {key: written[key] for key in written if key != "c"})
            return placing.order_action(orders, grouping)
        case requests.CancelAction():
            return placing.cancel_action([(one.a, one.o) for one in read.cancels])
        case requests.CancelByCloidAction():
            return placing.cancel_by_cloid_action([(one.asset, Cloid(one.cloid)) for one in read.cancels])
        case _:
            raise AssertionError(f"no spelling for {action['type']}")


def test_every_recorded_action_is_written_back_as_it_was(shared: Path) -> None:
    written = 0
    for name, exchange in recordings(shared, "exchange"):
        request = exchange.get("request")
        if isinstance(request, dict) and "action" in request:
            assert spelled(request["action"]) == request["action"], name
            written += 1
    assert written >= 7


def test_every_recorded_subscription_is_written_back_as_it_was(shared: Path) -> None:
    written = 0
    for path in sorted((shared / "data/hyperliquid/ws").glob("*.json")):
        for frame in json.loads(path.read_text())["frames"]:
            if frame["dir"] not in ("send", "out"):
                continue
            said = json.loads(frame["raw"]) if "raw" in frame else frame["message"]
            if said["method"] == "subscribe":
                ours = Subscription(**{key: said["subscription"][key] for key in said["subscription"]})
                (sent,) = Session([ours]).open(0.0)
                assert json.loads(sent) == said
                written += 1
    assert written >= 4


async def test_the_questions_we_ask_are_the_recorded_ones(shared: Path) -> None:
    """Each question that an engine asks is sent with exactly the recorded fields (an end of time aside)."""
    recorded: dict[str, list[set[str]]] = {}
    for _, exchange in recordings(shared, "rest"):
        recorded.setdefault(exchange["request"]["type"], []).append(set(exchange["request"]))
    asked: list[dict[str, Any]] = []

    class Ear(Transport):
        async def fetch_info(self, request: Any, answer: Any, weight: int, use: Any = None) -> Any:
            asked.append(dict(request))
            raise VenueUnavailable("heard")

    questions = AccountQueries(
        Ear("http://x", ManualClock(), IpBudget(), Timeouts(), np.random.default_rng(0)), ActionBudget()
    )
    user = "0x" + "1" * 40
    for question in (
        questions.account(user), questions.resting_orders(user), questions.order_status(user, Cloid("0x1")),
        questions.fills_since(user, 1), questions.funding_since(user, 1), questions.user_rate_limit(user),
        questions.extra_agents(user), questions.leverage_of(user, Coin("BTC")),
    ):  # fmt: skip
        with pytest.raises(VenueUnavailable):
            await question
    for one in asked:
        mine = set(one) - {"dex"}
        assert any(
            mine == theirs - {"dex", "endTime", "aggregateByTime", "reversed"} for theirs in recorded[one["type"]]
        ), one
    assert len(asked) == 8
