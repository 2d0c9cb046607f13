"""The official SDK on the venue that keeps step: without its engine the market stands still, and fills are exact.

Full sessions on the venue that stands alone are in `test_sdk_session` and `test_ccxt_session`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import eth_account
from hyperliquid.exchange import Exchange as SdkExchange
from hyperliquid.info import Info as SdkInfo
from hyperliquid.utils.types import Cloid

from aml100.sim.scenario import Tape
from aml100.sim.server import SimServer, shifted_to_now
from tests.sim.stage import ACCOUNT_KEY, AGENT_KEY, START, series, venue

FLAT = (60000.0, 60010.0, 59990.0, 60000.0)
TAPE = Tape([series([FLAT] * 30), series([(3000.0, 3001.0, 2999.0, 3000.0)] * 30, coin="ETH")])


def sdk_session(server: SimServer) -> dict[str, Any]:
    """What a person does with the official SDK, with the agent's key for the account."""
    info = SdkInfo(server.rest_url, skip_ws=True)
    agent = eth_account.Account.from_key(AGENT_KEY)
    exchange = SdkExchange(agent, server.rest_url, account_address=server.account)
    seen: dict[str, Any] = {"meta": info.meta(), "mids": info.all_mids(), "book": info.l2_snapshot("BTC")}
    seen["candles"] = info.candles_snapshot("BTC", "1m", START, START + 3_600_000)
    seen["flat"] = info.user_state(server.account)
    seen["leverage"] = exchange.update_leverage(5, "BTC")
    seen["too much"] = exchange.update_leverage(50, "BTC")
    cloid = Cloid.from_int(1)
    seen["resting"] = exchange.order("BTC", True, 0.01, 59000, {"limit": {"tif": "Gtc"}}, cloid=cloid)
    seen["open"] = info.open_orders(server.account)
    seen["by cloid"] = info.query_order_by_cloid(server.account, cloid)
    seen["modified"] = exchange.modify_order(cloid, "BTC", True, 0.01, 58900, {"limit": {"tif": "Gtc"}}, cloid=cloid)
    seen["cancel by cloid"] = exchange.cancel_by_cloid("BTC", cloid)
    seen["bought"] = exchange.market_open("BTC", True, 0.02)
    trigger = {"trigger": {"isMarket": True, "triggerPx": 59500, "tpsl": "sl"}}
    seen["stop"] = exchange.order("BTC", False, 0.02, 59000, trigger, reduce_only=True)
    seen["state"] = info.user_state(server.account)
    seen["front"] = info.frontend_open_orders(server.account)
    oid = seen["stop"]["response"]["data"]["statuses"][0]["resting"]["oid"]
    seen["cancel"] = exchange.cancel("BTC", oid)
    seen["cancel twice"] = exchange.cancel("BTC", oid)
    seen["closed"] = exchange.market_close("BTC")
    seen["fills"] = info.user_fills(server.account)
    seen["history"] = info.historical_orders(server.account)
    seen["post only"] = exchange.order("BTC", True, 0.01, 60100, {"limit": {"tif": "Alo"}})
    seen["small"] = exchange.order("BTC", True, 0.0001, 59000, {"limit": {"tif": "Gtc"}})
    seen["off tick"] = exchange.order("BTC", True, 0.01, 59000.5, {"limit": {"tif": "Gtc"}})
    seen["schedule"] = exchange.schedule_cancel(None)
    stranger = eth_account.Account.from_key("0x" + "7" * 64)
    seen["stranger"] = SdkExchange(stranger, server.rest_url).order("BTC", True, 0.01, 59000, {"limit": {"tif": "Gtc"}})
    master = SdkExchange(eth_account.Account.from_key(ACCOUNT_KEY), server.rest_url)
    seen["agent"], key = master.approve_agent("helper")
    other = SdkExchange(eth_account.Account.from_key(key), server.rest_url, account_address=server.account)
    seen["by the agent"] = other.order("ETH", True, 0.1, 2900, {"limit": {"tif": "Gtc"}})
    return seen


def first(answer: dict[str, Any]) -> Any:
    return answer["response"]["data"]["statuses"][0]


async def test_the_official_sdk_trades_unchanged() -> None:
    async with venue(TAPE) as server:
        seen = await asyncio.to_thread(sdk_session, server)
        assert [one["name"] for one in seen["meta"]["universe"]] == ["BTC", "ETH"]
        assert seen["mids"] == {"BTC": "60000.0", "ETH": "3000.0"}
        assert [one["t"] for one in seen["candles"]] == [START, START + 60_000]
        assert seen["flat"]["marginSummary"]["accountValue"] == "10000.0"
        assert seen["leverage"] == {"status": "ok", "response": {"type": "default"}}
        assert seen["too much"] == {"status": "err", "response": "Invalid leverage value"}
        assert first(seen["resting"])["resting"]["cloid"] == seen["open"][0]["cloid"] == "0x" + "0" * 31 + "1"
        assert seen["by cloid"]["order"]["status"] == "open"
        assert "resting" in first(seen["modified"])
        assert first(seen["cancel by cloid"]) == "success"
        assert first(seen["bought"])["filled"]["avgPx"] == "60006.0"
        position = seen["state"]["assetPositions"][0]["position"]
        assert (position["szi"], position["entryPx"], position["leverage"]) == (
            "0.02",
            "60006.0",
            {"type": "cross", "value": 5},
        )
        assert position["marginUsed"] == "240.0"  # 0.02 x 60000 / 5
        assert [one["orderType"] for one in seen["front"]] == ["Stop Market"]
        assert first(seen["cancel"]) == "success"
        gone = "Order was never placed, already canceled, or filled. asset=0"
        assert first(seen["cancel twice"]) == {"error": gone}
        assert first(seen["closed"])["filled"]["totalSz"] == "0.02"
        assert [(one["dir"], one["px"], one["fee"]) for one in seen["fills"]] == [
            ("Close Long", "59994.0", "0.539946"),  # 59994 x 0.02 x 0.00045
            ("Open Long", "60006.0", "0.540054"),
        ]
        assert seen["fills"][0]["closedPnl"] == "-0.24"
        assert seen["history"][0]["status"] == "filled"
        bbo = "59994@60006"
        assert first(seen["post only"])["error"].startswith(
            f"Post only order would have immediately matched, bbo was {bbo}"
        )
        assert first(seen["small"])["error"] == "Order must have minimum value of $10. asset=0"
        assert first(seen["off tick"])["error"] == "Price must be divisible by tick size. asset=0"
        assert seen["schedule"]["response"].startswith("Cannot set scheduled cancel time until enough volume traded.")
        stranger = eth_account.Account.from_key("0x" + "7" * 64).address.lower()
        assert seen["stranger"]["response"] == f"User or API Wallet {stranger} does not exist."
        assert seen["agent"]["status"] == "ok"
        assert "resting" in first(seen["by the agent"])


async def test_standing_alone_it_moves_by_the_wall_clock_and_ends() -> None:
    """60 bars a second: three bars after two of warm-up are over within a second, and the market says so."""
    tape = Tape([series([FLAT, FLAT, FLAT, (60000, 60500, 59500, 60200), (60200, 60300, 60100, 60250)])])
    async with venue(tape, embedded=False, speed=3600.0) as server:
        await asyncio.wait_for(asyncio.gather(*server.tasks), 20)
        info = await asyncio.to_thread(SdkInfo, server.rest_url, True)
        status = await asyncio.to_thread(info.post, "/info", {"type": "exchangeStatus"})
        assert (status["ended"], status["time"]) == (True, START + 300_000)
        bars = await asyncio.to_thread(info.candles_snapshot, "BTC", "1m", START, START + 3_600_000)
        assert [(one["h"], one["l"], one["c"]) for one in bars[3:]] == [
            ("60500.0", "59500.0", "60200.0"),
            ("60300.0", "60100.0", "60250.0"),
        ]


def test_a_tape_is_shifted_by_whole_hours_to_the_nearest() -> None:
    wall = START + 500 * 3_600_000 + 25 * 60_000
    assert shifted_to_now(TAPE, 2, wall).time_of(2) == START + 500 * 3_600_000 + 120_000
