"""Subscriptions of the simulated venue, read: what a client asked for, as a topic and as the venue echoes it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from aml100.sim.candles import EVERY_INTERVAL
from aml100.sim.dexes import MAIN
from aml100.sim.words import Object, address_of

Topic: TypeAlias = tuple[str, ...]
"""Kind first, then what tells one stream of the kind from another: `("candle", "BTC", "1m")`."""

BY_COIN: Final = frozenset({"trades", "bbo", "activeAssetCtx"})
BY_USER: Final = frozenset(
    {
        "orderUpdates",
        "userEvents",
        "userFills",
        "userFundings",
        "userNonFundingLedgerUpdates",
        "notification",
    }
)
BY_USER_AND_DEX: Final = frozenset({"clearinghouseState", "openOrders"})
REFUSED: Final = frozenset({"webData2", "webData3"})
OF_MARKET: Final = BY_COIN | {"l2Book", "candle"}
STEP: Final = ("simStep",)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscription that can be served: its topic and its echo with the server's defaults."""

    topic: Topic
    echo: Object


def user_of(topic: Topic) -> str | None:
    """The account a topic belongs to."""
    return topic[1] if topic[0] in BY_USER | BY_USER_AND_DEX | {"activeAssetData"} else None


def coin_of(topic: Topic) -> str | None:
    """The market a topic shows; None for those of accounts and of all markets."""
    return topic[1] if topic[0] in OF_MARKET else None


def followed_coin(topic: Topic) -> str | None:
    """The coin with whose price a topic moves."""
    return topic[2] if topic[0] == "activeAssetData" else coin_of(topic)


def read_subscription(wanted: Mapping[str, object], coins: Container[object]) -> Wanted | str | None:
    """A served subscription, the venue's text where it refuses it, None where it cannot be understood."""
    kind, coin, user = wanted.get("type"), wanted.get("coin"), wanted.get("user")
    if not isinstance(kind, str):
        return None
    name = address_of(user)
    dex = wanted.get("dex")
    dex = dex if isinstance(dex, str) else MAIN
    if isinstance(coin, str) and coin not in coins and kind in OF_MARKET | {"activeAssetData"}:
        return "Invalid subscription"
    match kind:
        case "trades" | "bbo" | "activeAssetCtx" if isinstance(coin, str):
            return Wanted((kind, coin), {"type": kind, "coin": coin})
        case "l2Book" if isinstance(coin, str):
            return _book(wanted, coin)
        case "candle" if isinstance(coin, str):
            interval = wanted.get("interval")
            if not isinstance(interval, str) or interval not in EVERY_INTERVAL:
                return None
            return Wanted((kind, coin, interval), {"type": kind, "coin": coin, "interval": interval})
        case "activeAssetData" if isinstance(coin, str) and name is not None:
            return Wanted((kind, name, coin), {"type": kind, "user": name, "coin": coin})
        case "allMids":
            echo: Object = {"type": kind}
            if dex:
                echo["dex"] = dex
            return Wanted((kind, dex), echo)
        case "simStep":
            return Wanted(STEP, {"type": kind})
    if name is None:
        return None
    if kind in REFUSED:
        return "Invalid subscription"
    if kind in BY_USER_AND_DEX:
        echo = {"type": kind, "user": name}
        if dex:
            echo["dex"] = dex
        return Wanted((kind, name, dex), echo)
    if kind not in BY_USER:
        return None
    echo = {"type": kind, "user": name}
    if kind == "userFills":
        echo["aggregateByTime"] = wanted.get("aggregateByTime") is True
    return Wanted((kind, name), echo)


def _book(wanted: Mapping[str, object], coin: str) -> Wanted | None:
    figures, mantissa, fast = wanted.get("nSigFigs"), wanted.get("mantissa"), wanted.get("fast", False)
    if not are_figures(figures, mantissa) or not isinstance(fast, bool):
        return None
    echo: Object = {"type": "l2Book", "coin": coin}
    echo["nSigFigs"] = figures if isinstance(figures, int) else None
    echo["mantissa"] = mantissa if isinstance(mantissa, int) else None
    echo["fast"] = fast
    return Wanted(("l2Book", coin, str(figures or ""), str(mantissa or ""), "fast" if fast else ""), echo)


def are_figures(figures: object, mantissa: object) -> bool:
    """A book is shown whole, or by 2 to 5 significant figures, and by 5 in steps of 1, 2 or 5."""
    if mantissa is not None and (figures != 5 or mantissa not in (1, 2, 5)):
        return False
    return figures is None or (isinstance(figures, int) and not isinstance(figures, bool) and 2 <= figures <= 5)
