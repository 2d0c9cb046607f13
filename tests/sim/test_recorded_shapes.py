"""What the simulated venue says has the keys and the kinds of values of what the real one was recorded saying.

Every key that was recorded is there, with a value of the same JSON kind. Recordings of older shapes are left out, as
are keys that only other kinds of accounts have.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from aml100.domain.units import Coin
from aml100.market.series import FundingSeries
from aml100.sim.scenario import Tape
from tests.sim.stage import START, Follower, StagedClock, action, alone, order, series

FLAT = (60000.0, 60000.0, 60000.0, 60000.0)

OPTIONAL = {"cloid", "reduceOnly", "builderFee", "isDelisted", "onlyIsolated", "marginMode", "nSamples", "twapId"}
"""Keys that an entry may lack, or whose value may be null."""

REST = {
    "activeAssetData_testnet_2025-08": {"type": "activeAssetData", "user": "ME", "coin": "BTC"},
    "allMids_mainnet_2025-12": {"type": "allMids", "dex": ""},
    "candleSnapshot_kPEPE_1h_2023-05": {
        "type": "candleSnapshot",
        "req": {"coin": "BTC", "interval": "1h", "startTime": START, "endTime": START + 10**7},
    },
    "clearinghouseState_flat_2025-12": {"type": "clearinghouseState", "user": "0x" + 40 * "9"},
    "clearinghouseState_isolated_2025-08": {"type": "clearinghouseState", "user": "ME"},
    "extraAgents_2025-09": {"type": "extraAgents", "user": "ME"},
    "frontendOpenOrders_bracket_2023-11": {"type": "frontendOpenOrders", "user": "ME"},
    "fundingHistory_BTC_2023-05": {"type": "fundingHistory", "coin": "BTC", "startTime": 0},
    "historicalOrders_2025-08": {"type": "historicalOrders", "user": "ME"},
    "l2Book_DYDX_2023-07": {"type": "l2Book", "coin": "BTC"},
    "meta_mainnet_2025-12": {"type": "meta", "dex": ""},
    "metaAndAssetCtxs_mainnet_2026-02": {"type": "metaAndAssetCtxs", "dex": ""},
    "openOrders_one_testnet_2026-07": {"type": "openOrders", "user": "ME"},
    "orderStatus_filled_buy_testnet_2025-08": {"type": "orderStatus", "user": "ME", "oid": 100_000_001},
    "orderStatus_unknownOid_2025-08": {"type": "orderStatus", "user": "ME", "oid": 1},
    "perpDexs_mainnet_2025-12": {"type": "perpDexs"},
    "spotMeta_mainnet_2025-08": {"type": "spotMeta"},
    "userFillsByTime_testnet_2025-08": {"type": "userFillsByTime", "user": "ME", "startTime": 0},
    "userFills_maker_rebate_cloid_2026-09": {"type": "userFills", "user": "ME"},
    "userFunding_2023-04": {"type": "userFunding", "user": "ME", "startTime": 0},
    "userRateLimit_2025-08": {"type": "userRateLimit", "user": "ME"},
}


def kind(value: object) -> str:
    names = {bool: "bool", int: "int", float: "number", str: "str", list: "list", dict: "object", type(None): "null"}
    return names[type(value)]


def differences(ours: Any, theirs: Any, where: str = "$") -> list[str]:
    """Where ours lacks a key of theirs, or has a value of another kind. Of lists the first elements are compared."""
    if kind(ours) != kind(theirs):
        key = where.rpartition(".")[2]
        excused = key in OPTIONAL or "null" in (kind(ours), kind(theirs))
        return [] if excused else [f"{where}: {kind(ours)}, recorded {kind(theirs)}"]
    if isinstance(theirs, dict):
        if theirs and all(isinstance(value, str) for value in theirs.values()) and "BTC" in theirs:
            return [] if all(isinstance(value, str) for value in ours.values()) else [f"{where}: not a map of texts"]
        missing = [f"{where}.{key}: missing" for key in theirs if key not in ours and key not in OPTIONAL]
        return missing + [
            one for key in theirs if key in ours for one in differences(ours[key], theirs[key], f"{where}.{key}")
        ]
    if isinstance(theirs, list) and theirs and ours:
        pairs = (
            zip(ours, theirs, strict=False) if where.endswith("$") and len(theirs) == 2 else [(ours[-1], theirs[-1])]
        )
        return [one for row, (a, b) in enumerate(pairs) for one in differences(a, b, f"{where}[{row}]")]
    return []


async def told() -> dict[str, Any]:
    """The simulated venue's answers to the recorded questions, from an account with some of everything."""
    rates = FundingSeries(Coin("BTC"), np.array([START, START + 3_600_000], dtype=np.int64), np.array([0.0001, 0.0001]))
    tape = Tape(
        [series([FLAT] * 70), series([FLAT] * 70, coin="xyz:INDEX")], funding={Coin("BTC"): rates}, hourly_rate=None
    )
    clock = StagedClock()
    async with alone(tape, clock) as server, aiohttp.ClientSession() as http:
        me = Follower(http, None, server)  # type: ignore[arg-type]
        await me.act({"type": "updateLeverage", "asset": 0, "isCross": False, "leverage": 10})
        await me.act(action(order("buy", "0.02", "63000", cloid="0x" + 32 * "1")))
        clock.wall_s += 3700
        bracket = [
            {**order("buy", "0.01", "59000", cloid="0x" + 32 * "2"), "t": {"limit": {"tif": "Gtc"}}},
            order("sell", "0.01", "55000", trigger=("sl", "58000")),
            order("sell", "0.01", "55000", trigger=("tp", "62000")),
        ]
        await me.act(action(*bracket, grouping="normalTpsl"))
        server.replay.gate.approve(server.account, "0x" + 40 * "8", "bot", clock.now_ms())
        answers: dict[str, Any] = {}
        for name, question in REST.items():
            body = {key: server.account if value == "ME" else value for key, value in question.items()}
            answers[name] = await me.info(**body)
        return answers


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> dict[str, Any]:
    request.getfixturevalue("shared")
    return asyncio.run(told())


@pytest.mark.parametrize("name", sorted(REST))
def test_answers_have_the_recorded_shape(name: str, shared: Path, answers: dict[str, Any]) -> None:
    recording = json.loads((shared / "data" / "hyperliquid" / "rest" / f"{name}.json").read_text())
    assert differences(answers[name], recording["exchanges"][0]["response"]) == []


# --- streams ------------------------------------------------------------------------------------------------------

STREAMS = [
    *({"type": kind, "coin": "BTC"} for kind in ("trades", "l2Book", "bbo", "activeAssetCtx")),
    {"type": "candle", "coin": "BTC", "interval": "1m"},
    {"type": "allMids"},
    *({"type": kind, "user": "ME"} for kind in ("userFills", "orderUpdates", "userEvents")),
]
FRAMES = (
    "allMids_trimmed_2026",
    "bbo_HYPE_2025-12",
    "candle_1m_stream_AAVE_2025-03",
    "frames_testnet_2026-07-28",
    "l2Book_BTC_20levels_2025-08-10",
    "l2Book_HYPE_2025-12",
    "orderUpdates_2025-12",
    "public_frames_mainnet_2026-09-03",
    "trades_HYPE_2025-12",
)


@pytest.fixture(scope="module")
def frames() -> dict[str, Any]:
    """The newest frame of every channel that the simulated venue sends, after an order and some bars."""
    return asyncio.run(heard())


async def heard() -> dict[str, Any]:
    clock = StagedClock()
    newest: dict[str, Any] = {}
    async with (
        alone(Tape([series([FLAT] * 9)]), clock) as server,
        aiohttp.ClientSession() as http,
        http.ws_connect(server.ws_url) as socket,
    ):
        me = Follower(http, socket, server)
        for wanted in STREAMS:
            await me.subscribe(**{key: server.account if value == "ME" else value for key, value in wanted.items()})
        await socket.send_json({"method": "subscribe", "subscription": {"type": "noSuchType"}})
        await me.act(action({**order("buy", "0.01", "59000", cloid="0x" + 32 * "2"), "t": {"limit": {"tif": "Alo"}}}))
        await me.act(action(order("buy", "0.02", "63000", cloid="0x" + 32 * "1")))
        clock.wall_s += 90
        await me.info(type="exchangeStatus")
        await socket.send_json({"method": "ping"})
        while (frame := await asyncio.wait_for(socket.receive_json(), 10))["channel"] != "pong":
            if frame["channel"] != "orderUpdates" or "cloid" in frame["data"][0]["order"]:
                newest[frame["channel"]] = frame
        newest["pong"] = frame
    return newest


@pytest.mark.parametrize("name", FRAMES)
def test_frames_have_the_recorded_shape(name: str, shared: Path, frames: dict[str, Any]) -> None:
    recording = json.loads((shared / "data" / "hyperliquid" / "ws" / f"{name}.json").read_text())
    compared = 0
    for row in recording["frames"]:
        theirs = json.loads(row["raw"]) if "raw" in row else row["message"]
        if not isinstance(theirs, dict) or theirs.get("channel") not in frames:
            continue
        data = theirs.get("data")
        if isinstance(data, dict) and (data.get("fast") or data.get("isSnapshot") or "subscription" in data):
            continue  # asked for otherwise, or compared by the tests of streams
        assert differences(frames[theirs["channel"]], theirs) == [], theirs["channel"]
        compared += 1
    assert compared > 0


def test_a_difference_would_be_seen() -> None:
    ours, theirs = {"a": 1, "c": [{"d": "1"}]}, {"a": "1", "b": 2, "c": [{"d": 1}]}
    assert differences(ours, theirs) == ["$.b: missing", "$.a: int, recorded str", "$.c[0].d: str, recorded int"]
