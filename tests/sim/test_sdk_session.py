"""A full session of the official SDK against the venue that stands alone; nothing but the URL is changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import eth_account
import pytest
from hyperliquid.exchange import Exchange as SdkExchange
from hyperliquid.info import Info as SdkInfo
from hyperliquid.utils.error import ClientError
from hyperliquid.utils.types import Cloid

from aml100.domain.clock import wall_ms
from aml100.sim.scenario import Tape
from aml100.sim.server import SimServer
from aml100.sim.words import text
from tests.sim.stage import ACCOUNT_KEY, START, StagedClock, alone, series

FLAT = (60000.0, 60000.0, 60000.0, 60000.0)
FALL = (60000.0, 60000.0, 58000.0, 58000.0)
LOW = (58000.0, 58000.0, 58000.0, 58000.0)


def market() -> Tape:
    """Flat for fifteen minutes, a fall of 2,000 USD, flat again; a builder's index beside it."""
    index = series([(100.0, 100.0, 100.0, 100.0)] * 80, coin="xyz:XYZ100")
    return Tape([series([*[FLAT] * 17, FALL, *[LOW] * 62]), index], hourly_rate=Decimal("0.0000125"))


def first(answer: dict[str, Any]) -> Any:
    return answer["response"]["data"]["statuses"][0]


class Person:
    """Somebody with the official SDK and the account's key; `pass_s` lets market time go by."""

    def __init__(self, server: SimServer, clock: StagedClock) -> None:
        self.server, self.clock, self.account = server, clock, server.account
        self.info = SdkInfo(server.rest_url, perp_dexs=["", "xyz"])
        wallet = eth_account.Account.from_key(ACCOUNT_KEY)
        self.exchange = SdkExchange(wallet, server.rest_url, perp_dexs=["", "xyz"])
        self.heard: dict[str, list[Any]] = {}

    def pass_s(self, seconds: float) -> None:
        self.clock.wall_s += seconds
        self.info.post("/info", {"type": "exchangeStatus"})

    def listen(self, **subscription: Any) -> int:
        name = str(subscription["type"])
        return int(self.info.subscribe(subscription, lambda message: self.hear(name, message)))

    def hear(self, name: str, message: Any) -> None:
        self.heard.setdefault(name, []).append(message["data"])

    def count(self, name: str) -> int:
        return len(self.heard.get(name, []))

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        for _ in range(3000):
            if holds():
                return
            time.sleep(0.01)
        raise AssertionError(f"not heard: {what}")

    def open(self) -> Any:
        return self.info.open_orders(self.account)


@pytest.fixture
async def person() -> Any:
    clock = StagedClock()
    async with alone(market(), clock) as server:
        someone = await asyncio.to_thread(Person, server, clock)
        yield someone
        await asyncio.to_thread(someone.info.disconnect_websocket)


def session(test: Callable[[Person], None]) -> Callable[[Any], Any]:
    """The SDK blocks, so its part runs in a thread beside the venue."""

    async def run(person: Person) -> None:
        await asyncio.to_thread(test, person)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@session
def test_metadata_and_market(me: Person) -> None:
    info = me.info
    assert [one["name"] for one in info.meta()["universe"]] == ["BTC"]
    assert info.name_to_asset("xyz:XYZ100") == 110_000
    assert info.meta_and_asset_ctxs()[1][0]["markPx"] == "60000.0"
    assert (info.all_mids(), info.all_mids("xyz")) == ({"BTC": "60000.0"}, {"xyz:XYZ100": "100.0"})
    bids, asks = info.l2_snapshot("BTC")["levels"]
    assert (bids[0]["px"], asks[0]["px"], len(bids), len(asks)) == ("59994.0", "60006.0", 20, 20)
    me.pass_s(90)
    bars = info.candles_snapshot("BTC", "1m", START, START + 3_600_000)
    assert [one["t"] for one in bars] == [START + n * 60_000 for n in range(4)]
    five = info.candles_snapshot("BTC", "5m", START, START + 3_600_000)
    assert [(one["t"], one["o"], one["v"], one["n"]) for one in five] == [
        (START, "60000.0", total_of(bars), sum(one["n"] for one in bars))
    ]
    rate = {"coin": "BTC", "fundingRate": "0.0000125", "premium": "0.0", "time": START}
    assert info.funding_history("BTC", START) == [rate]
    assert info.perp_dexs()[0] is None
    assert info.perp_dexs()[1]["name"] == "xyz"


def total_of(bars: list[Any]) -> str:
    return text(sum((Decimal(one["v"]) for one in bars), Decimal(0)))


@session
def test_account_state_and_history(me: Person) -> None:
    info, user = me.info, me.account
    assert info.user_state(user)["withdrawable"] == "10000.0"
    assert info.user_state("0x" + 40 * "0")["marginSummary"]["accountValue"] == "0.0"
    assert info.user_role(user) == {"role": "user"}
    assert info.user_fees(user)["userCrossRate"] == "0.00045"
    assert info.user_rate_limit(user)["nRequestsCap"] == 10_000
    me.exchange.market_open("BTC", True, 0.02)
    me.exchange.market_close("BTC")
    fills = info.user_fills(user)
    assert [one["dir"] for one in fills] == ["Close Long", "Open Long"]
    assert [one["fee"] for one in fills] == ["0.539946", "0.540054"]
    assert info.user_fills_by_time(user, START) == fills[::-1]
    assert [one["status"] for one in info.historical_orders(user)] == ["filled", "filled"]
    assert info.user_rate_limit(user) == {
        "cumVlm": "2400.0",
        "nRequestsUsed": 2,
        "nRequestsCap": 12_400,
        "nRequestsSurplus": 0,
    }
    assert info.user_fees(user)["dailyUserVlm"][0]["userCross"] == "2400.0"
    assert info.user_non_funding_ledger_updates(user, 0)[0]["delta"] == {"type": "deposit", "usdc": "10000.0"}
    assert info.user_funding_history(user, 0) == []
    assert info.portfolio(user)[0][1]["vlm"] == "2400.0"
    assert info.query_sub_accounts(user) is None
    assert info.user_staking_summary(user)["delegated"] == "0.0"


@session
def test_limits_cancels_and_modifications(me: Person) -> None:
    ex, info, user = me.exchange, me.info, me.account
    cloid = Cloid.from_int(1)
    resting = first(ex.order("BTC", True, 0.01, 59000, {"limit": {"tif": "Gtc"}}, cloid=cloid))["resting"]
    assert me.open()[0]["cloid"] == resting["cloid"] == cloid.to_raw()
    assert info.query_order_by_cloid(user, cloid)["order"]["status"] == "open"
    assert info.query_order_by_oid(user, resting["oid"])["order"]["order"]["tif"] == "Gtc"
    changed = first(ex.modify_order(cloid, "BTC", True, 0.02, 58900, {"limit": {"tif": "Alo"}}, cloid=cloid))
    assert changed["resting"]["oid"] == me.open()[0]["oid"] == resting["oid"] + 1
    crossing = first(ex.modify_order(cloid, "BTC", True, 0.02, 60100, {"limit": {"tif": "Gtc"}}, cloid=cloid))
    assert crossing["error"].startswith("Error placing new order during modify: Post only order would have")
    gone = first(ex.modify_order(resting["oid"], "BTC", True, 0.02, 58000, {"limit": {"tif": "Gtc"}}))
    assert gone == {"error": "Cannot modify canceled or filled order"}
    again = Cloid.from_int(2)
    ex.order("BTC", True, 0.01, 59000, {"limit": {"tif": "Gtc"}}, cloid=again)
    assert first(ex.cancel_by_cloid("BTC", again)) == "success"
    oid = first(ex.order("BTC", True, 0.01, 59000, {"limit": {"tif": "Alo"}}))["resting"]["oid"]
    assert first(ex.cancel("BTC", oid)) == "success"
    never = "Order was never placed, already canceled, or filled. asset=0"
    assert first(ex.cancel("BTC", oid)) == first(ex.cancel_by_cloid("BTC", again)) == {"error": never}
    part = first(ex.order("BTC", True, 20, 60006, {"limit": {"tif": "Ioc"}}))
    assert part == {"error": "Insufficient margin to place order. asset=0"}
    best = float(info.l2_snapshot("BTC")["levels"][1][0]["sz"])
    walked = first(ex.order("BTC", True, round(best + 0.1, 5), 60006, {"limit": {"tif": "Gtc"}}))["filled"]
    assert (float(walked["totalSz"]), walked["avgPx"]) == (best, "60006.0")
    assert me.open()[0]["sz"] == "0.1"


@session
def test_triggers_fire_and_free_each_other(me: Person) -> None:
    ex, info, user = me.exchange, me.info, me.account
    bracket = [
        limit_of(0.02, 61000),
        stop_of(0.02, 59000),
        target_of(0.02, 62000),
    ]
    answer = ex.bulk_orders(bracket, grouping="normalTpsl")["response"]["data"]["statuses"]
    assert answer[0]["filled"]["avgPx"] == "60006.0"
    assert answer[1:] == ["waitingForTrigger", "waitingForTrigger"]
    tied = ex.bulk_orders([stop_of(0, 58500)], grouping="positionTpsl")["response"]["data"]["statuses"]
    assert "resting" in tied[0]
    shown = {one["triggerPx"]: one for one in info.frontend_open_orders(user)}
    assert [shown[px]["orderType"] for px in ("59000.0", "62000.0")] == ["Stop Market", "Take Profit Market"]
    assert shown["59000.0"]["triggerCondition"] == "Price below 59000"
    assert (shown["58500.0"]["isPositionTpsl"], shown["58500.0"]["sz"]) == (True, "0.02")
    ex.market_open("BTC", True, 0.01)
    follows = {one["triggerPx"]: one["sz"] for one in info.frontend_open_orders(user)}
    assert follows == {"59000.0": "0.02", "62000.0": "0.02", "58500.0": "0.03"}
    me.pass_s(16 * 60)
    words = {one["order"]["triggerPx"]: one["status"] for one in info.historical_orders(user)}
    assert words["59000.0"] == words["58500.0"] == "filled"
    assert words["62000.0"] == "siblingFilledCanceled"
    assert info.user_state(user)["assetPositions"] == []
    assert info.frontend_open_orders(user) == []
    sold = [(one["px"], one["sz"]) for one in info.user_fills(user)[:2]]
    assert sold == [("58494.0", "0.01"), ("58994.0", "0.02")]


def limit_of(size: float, price: float) -> dict[str, Any]:
    kind = {"limit": {"tif": "Ioc"}}
    return {"coin": "BTC", "is_buy": True, "sz": size, "limit_px": price, "order_type": kind, "reduce_only": False}


def stop_of(size: float, price: float) -> dict[str, Any]:
    return _trigger(size, price, "sl")


def target_of(size: float, price: float) -> dict[str, Any]:
    return _trigger(size, price, "tp")


def _trigger(size: float, price: float, tpsl: str) -> dict[str, Any]:
    kind = {"trigger": {"isMarket": True, "triggerPx": price, "tpsl": tpsl}}
    return {"coin": "BTC", "is_buy": False, "sz": size, "limit_px": 50000, "order_type": kind, "reduce_only": True}


@session
def test_leverage_margin_and_the_builders_exchange(me: Person) -> None:
    ex, info, user = me.exchange, me.info, me.account
    ok = {"status": "ok", "response": {"type": "default"}}
    assert ex.update_leverage(50, "BTC") == {"status": "err", "response": "Invalid leverage value"}
    assert ex.update_leverage(10, "BTC", is_cross=False) == ok
    ex.market_open("BTC", True, 0.02)
    held = info.user_state(user)["assetPositions"][0]["position"]
    assert (held["leverage"]["type"], held["marginUsed"]) == ("isolated", "119.892")  # 1200.12 / 10 - 0.12
    assert ex.update_isolated_margin(30, "BTC") == ok
    assert info.user_state(user)["assetPositions"][0]["position"]["marginUsed"] == "149.892"
    assert "Cannot switch" in ex.update_leverage(5, "BTC")["response"]
    assert "sufficient margin for reduction" in ex.update_isolated_margin(-100, "BTC")["response"]
    assert ex.update_leverage(4, "xyz:XYZ100") == ok
    assert first(ex.market_open("xyz:XYZ100", False, 3))["filled"]["avgPx"] == "99.99"
    there, here = info.user_state(user, "xyz"), info.user_state(user)
    assert there["assetPositions"][0]["position"]["coin"] == "xyz:XYZ100"
    assert there["marginSummary"]["totalMarginUsed"] == there["marginSummary"]["accountValue"] == "75.0"
    total = float(there["marginSummary"]["accountValue"]) + float(here["marginSummary"]["accountValue"])
    fees = sum(float(one["fee"]) for one in info.user_fills(user))
    assert total == pytest.approx(10_000 - fees - 0.12 - 0.03)
    assert info.query_user_abstraction_state(user) == "dexAbstraction"
    ex.market_close("xyz:XYZ100")
    assert info.user_state(user, "xyz")["assetPositions"] == []


@session
def test_keys_money_and_what_is_refused(me: Person) -> None:
    ex, url = me.exchange, me.server.rest_url
    answer, key = ex.approve_agent("helper")
    assert answer["status"] == "ok"
    helper = SdkExchange(eth_account.Account.from_key(key), url, account_address=me.account)
    assert "resting" in first(helper.order("BTC", True, 0.01, 59000, {"limit": {"tif": "Gtc"}}))
    assert [one["name"] for one in me.info.extra_agents(me.account)] == ["helper"]
    assert helper.usd_transfer(1, "0x" + "2" * 40)["response"].startswith("Must deposit before performing actions.")
    other = eth_account.Account.from_key("0x" + "5" * 64)
    assert ex.usd_transfer(100, other.address)["status"] == "ok"
    assert first(SdkExchange(other, url).market_open("BTC", True, 0.001))["filled"]["avgPx"] == "60006.0"
    stranger = eth_account.Account.from_key("0x" + "7" * 64)
    refused = SdkExchange(stranger, url).order("BTC", True, 0.01, 59000, {"limit": {"tif": "Gtc"}})
    assert refused["response"] == f"User or API Wallet {stranger.address.lower()} does not exist."
    vault = "0x" + "b" * 40
    for_vault = SdkExchange(eth_account.Account.from_key(ACCOUNT_KEY), url, vault_address=vault)
    assert for_vault.cancel("BTC", 1)["response"] == f"Vault not registered: {vault}"
    assert ex.schedule_cancel(wall_ms() + 10_000)["response"] == (
        "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0.00."
    )
    assert ex.set_referrer("ME")["response"] == "Referral code not registered"
    assert ex.approve_builder_fee("0x" + "1" * 40, "0.01%")["status"] == "err"
    assert ex.create_sub_account("x")["response"].startswith("createSubAccount is not served")
    nonce = wall_ms() + 5
    assert ex.noop(nonce)["status"] == "ok"
    assert ex.noop(nonce)["response"] == f"Invalid nonce: duplicate nonce {nonce}"
    ex.set_expires_after(wall_ms() - 60_000)
    used = me.info.user_rate_limit(me.account)["nRequestsUsed"]
    late = ex.order("BTC", True, 0.01, 59000, {"limit": {"tif": "Gtc"}})
    assert late == {"status": "err", "response": "Action already expired"}
    assert me.info.user_rate_limit(me.account)["nRequestsUsed"] == used + 5


ERRORS = [
    (0.01, 59000.5, "Gtc", False, "Price must be divisible by tick size."),
    (0.0000001, 59000, "Gtc", False, "Order has invalid size."),
    (0.0001, 59000, "Gtc", False, "Order must have minimum value of $10."),
    (0.01, 1000, "Gtc", False, "Order price cannot be more than 80% away from the reference price"),
    (0.01, 60100, "Alo", False, "Post only order would have immediately matched, bbo was 59994@60006."),
    (0.01, 59000, "Ioc", False, "Order could not immediately match against any resting orders."),
    (0.01, 59000, "Gtc", True, "Reduce only order would increase position."),
    (4.0, 60000, "Gtc", False, "Insufficient margin to place order."),
]


@session
def test_every_error_has_its_text(me: Person) -> None:
    for size, price, tif, reduce_only, said in ERRORS:
        answer = me.exchange.order("BTC", True, size, price, {"limit": {"tif": tif}}, reduce_only=reduce_only)
        assert first(answer) == {"error": f"{said} asset=0"}
    assert first(me.exchange.order(**_swapped(stop_of(0.01, 61000)))) == {"error": "Invalid TP/SL price. asset=0"}
    with pytest.raises(ClientError) as unknown:
        me.info.post("/info", {"type": "noSuchType"})
    assert (unknown.value.status_code, unknown.value.error_message[:21]) == (422, "Failed to deserialize")
    with pytest.raises(ClientError) as malformed:
        me.exchange.post("/exchange", {"action": {"type": "order"}, "nonce": 1, "signature": {}})
    assert malformed.value.status_code == 422
    for body in ({"type": ["x"]}, {"type": "userFills", "user": "x"}):
        with pytest.raises(ClientError) as unread:
            me.info.post("/info", body)
        assert unread.value.status_code == 422
    with pytest.raises(ClientError) as too_much:
        ask_much(me)
    assert (too_much.value.status_code, too_much.value.error_message) == (429, "null")


def ask_much(me: Person) -> None:
    for _ in range(70):
        me.info.post("/info", {"type": "meta"})


def _swapped(wire: dict[str, Any]) -> dict[str, Any]:
    return {"name" if key == "coin" else key: value for key, value in wire.items()}


@session
def test_every_subscription(me: Person) -> None:
    user = me.account
    for kind in ("l2Book", "trades", "bbo", "activeAssetCtx"):
        me.listen(type=kind, coin="BTC")
    for kind in ("userEvents", "orderUpdates", "userFills", "userFundings", "userNonFundingLedgerUpdates"):
        me.listen(type=kind, user=user)
    me.listen(type="allMids")
    me.listen(type="activeAssetData", user=user, coin="BTC")
    candle = me.listen(type="candle", coin="BTC", interval="1m")
    me.until("the first frames", lambda: len(me.heard) >= 8)
    me.exchange.market_open("BTC", True, 0.02)
    me.exchange.usd_transfer(5, "0x" + "2" * 40)
    me.until("fills", lambda: me.count("userFills") == 2 and me.count("userEvents") == 1)
    me.until("the transfer", lambda: me.count("userNonFundingLedgerUpdates") == 2)
    for _ in range(70):
        me.pass_s(1)
    me.until("a new bar", lambda: len({one["t"] for one in me.heard["candle"]}) > 2)
    me.pass_s(3600)
    me.until("funding", lambda: me.count("userFundings") == 2)
    kinds = {"l2Book", "trades", "bbo", "activeAssetCtx", "userEvents", "orderUpdates", "userFills", "userFundings"}
    assert set(me.heard) == kinds | {"userNonFundingLedgerUpdates", "allMids", "activeAssetData", "candle"}
    snapshot, live = me.heard["userFills"]
    assert (snapshot["isSnapshot"], snapshot["fills"], "isSnapshot" in live) == (True, [], False)
    assert me.heard["userEvents"][0]["fills"] == live["fills"]
    assert [one["status"] for one in me.heard["orderUpdates"][0]] == ["filled"]
    assert [one["coin"] for one in me.heard["userFundings"][1]["fundings"]] == ["BTC"]
    assert me.heard["l2Book"][0]["coin"] == "BTC"
    assert len(me.heard["allMids"][0]["mids"]) == 1
    assert me.info.unsubscribe({"type": "candle", "coin": "BTC", "interval": "1m"}, candle)
    count = len(me.heard["candle"])
    me.pass_s(60)
    me.until("the book goes on", lambda: me.heard["bbo"][-1]["time"] > START + 3_700_000)
    assert len(me.heard["candle"]) <= count + 1
