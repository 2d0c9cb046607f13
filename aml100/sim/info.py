"""Answers to POST /info of the simulated venue: one small function a request type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from aml100.domain.units import HOUR_MS, INTERVALS, Coin
from aml100.sim import answers
from aml100.sim.accounts import Account
from aml100.sim.answers import Json
from aml100.sim.feed import Feed

PAGE: Final = 500
FILLS_PAGE: Final = 2000
LATEST_CANDLES: Final = 5000
_FOREVER: Final = 2**62


class UnknownRequest(ValueError):
    """The venue cannot make sense of the body: HTTP 422."""


class Info:
    """Reads the replay; changes nothing. `candle_limit` None serves every closed bar."""

    def __init__(self, feed: Feed, status: Callable[[], Mapping[str, Json]], candle_limit: int | None) -> None:
        """`status` gives the body of exchangeStatus: its time is the market's now."""
        self.feed, self.replay, self.exchange = feed, feed.replay, feed.replay.exchange
        self._status = status
        self._candle_limit = candle_limit
        self.used: dict[str, int] = {}

    def answer(self, body: Mapping[str, object]) -> Json:
        """UnknownRequest for a type that does not exist or a field that is missing or mistyped."""
        kind = body.get("type")
        by_kind = _ANSWERS.get(kind) if isinstance(kind, str) else None
        if by_kind is None:
            raise UnknownRequest(str(kind))
        return by_kind(self, body)

    # --- the market -------------------------------------------------------------------------------------------

    def meta(self, body: Mapping[str, object]) -> Json:
        if body.get("dex"):
            raise UnknownRequest("dex")
        return answers.meta(sorted(self.exchange.instruments.values(), key=lambda one: one.asset_id))

    def contexts(self, body: Mapping[str, object]) -> Json:
        return [self.meta(body), [self._context(one) for one in self._coins()]]

    def spot_meta(self, _: Mapping[str, object]) -> Json:
        return answers.spot_meta()

    def spot_contexts(self, _: Mapping[str, object]) -> Json:
        return [answers.spot_meta(), []]

    def perp_dexs(self, _: Mapping[str, object]) -> Json:
        return [None]

    def all_mids(self, _: Mapping[str, object]) -> Json:
        return self.feed.mids()

    def book(self, body: Mapping[str, object]) -> Json:
        name = _text(body, "coin")
        if name not in self.exchange.instruments:
            return None
        coin = Coin(name)
        return {"coin": coin, "time": self.exchange.now_ms, "levels": answers.levels(self.exchange, coin)}

    def candles(self, body: Mapping[str, object]) -> Json:
        wanted = body.get("req")
        if not isinstance(wanted, dict):
            raise UnknownRequest("req")
        coin, interval = self._coin(wanted), _text(wanted, "interval")
        if interval not in INTERVALS:
            raise UnknownRequest("interval")
        bars = self.feed.candles(coin, INTERVALS[interval], max(_time(wanted, "startTime"), 1), _end(wanted))
        if self._candle_limit is not None:
            bars = bars[-self._candle_limit :]
        return [answers.candle(one) for one in bars]

    def funding_history(self, body: Mapping[str, object]) -> Json:
        coin = self._coin(body)
        first = int(self.replay.tape.time_of(0))
        hour = -(-max(_time(body, "startTime"), first) // HOUR_MS) * HOUR_MS
        rows: list[Json] = []
        while hour <= min(_end(body), self.exchange.now_ms) and len(rows) < PAGE:
            rate = self.replay.tape.rate_at(coin, hour)
            if rate is not None:
                rows.append({"coin": coin, "fundingRate": answers.text(rate), "premium": "0.0", "time": hour})
            hour += HOUR_MS
        return rows

    def recent_trades(self, body: Mapping[str, object]) -> Json:
        return self.feed.recent_trades(self._coin(body))

    def status(self, _: Mapping[str, object]) -> Json:
        return self._status()

    # --- accounts ---------------------------------------------------------------------------------------------

    def clearinghouse(self, body: Mapping[str, object]) -> Json:
        account = self._account(body)
        view = None if account is None else self.exchange.margin(account.address)
        return answers.clearinghouse(view, self.exchange.now_ms)

    def open_orders(self, body: Mapping[str, object]) -> Json:
        account = self._account(body)
        return [answers.open_order(one) for one in self.exchange.open_orders(account.address)] if account else []

    def front_orders(self, body: Mapping[str, object]) -> Json:
        account = self._account(body)
        if account is None:
            return []
        return [answers.front_order(one, self.exchange.orders) for one in self.exchange.open_orders(account.address)]

    def order_status(self, body: Mapping[str, object]) -> Json:
        ref = body.get("oid")
        if not isinstance(ref, int | str):
            raise UnknownRequest("oid")
        record = self.exchange.order(_text(body, "user").lower(), ref.lower() if isinstance(ref, str) else ref)
        if record is None:
            return {"status": "unknownOid"}
        return {"status": "order", "order": answers.historical_order(record, self.exchange.orders)}

    def historical_orders(self, body: Mapping[str, object]) -> Json:
        account = self._account(body)
        oids = [] if account is None else account.all_oids[: -FILLS_PAGE - 1 : -1]
        return [answers.historical_order(self.exchange.orders[oid], self.exchange.orders) for oid in oids]

    def fills(self, body: Mapping[str, object]) -> Json:
        account = self._account(body)
        return [answers.fill(one) for one in account.fills[: -FILLS_PAGE - 1 : -1]] if account else []

    def fills_by_time(self, body: Mapping[str, object]) -> Json:
        account, start, end = self._account(body), _time(body, "startTime"), _end(body)
        fills = [one for one in (account.fills if account else []) if start <= one.fill.time_ms <= end]
        if body.get("reversed") is True:
            fills.reverse()
        return [answers.fill(one) for one in fills[:FILLS_PAGE]]

    def funding(self, body: Mapping[str, object]) -> Json:
        account, start, end = self._account(body), _time(body, "startTime"), _end(body)
        paid = [one for one in (account.fundings if account else []) if start <= one.time_ms <= end]
        return [answers.funding_entry(one) for one in paid[:PAGE]]

    def ledger_updates(self, body: Mapping[str, object]) -> Json:
        account, start = self._account(body), _time(body, "startTime")
        first = int(self.replay.tape.time_of(self.replay.first_row))
        if account is None or not start <= first <= _end(body):
            return []
        delta: Json = {"type": "deposit", "usdc": answers.text(account.deposits)}
        return [{"time": first, "hash": answers.ZERO_HASH, "delta": delta}]

    def fees(self, _: Mapping[str, object]) -> Json:
        return answers.user_fees(self.exchange.rules)

    def rate_limit(self, body: Mapping[str, object]) -> Json:
        user = _text(body, "user").lower()
        return answers.rate_limit(self._account(body), self.used.get(user, 0))

    def active_asset(self, body: Mapping[str, object]) -> Json:
        return answers.active_asset(self.exchange, _text(body, "user").lower(), self._coin(body))

    def extra_agents(self, body: Mapping[str, object]) -> Json:
        user = _text(body, "user").lower()
        return [
            {"name": one.name, "address": address, "validUntil": one.valid_until_ms}
            for address, one in self.replay.gate.agents.items()
            if one.account == user and one.name
        ]

    def role(self, body: Mapping[str, object]) -> Json:
        user = _text(body, "user").lower()
        if user in self.exchange.accounts:
            return {"role": "user"}
        agent = self.replay.gate.agents.get(user)
        return {"role": "missing"} if agent is None else {"role": "agent", "data": {"user": agent.account}}

    def abstraction(self, _: Mapping[str, object]) -> Json:
        return "default"

    def spot_state(self, _: Mapping[str, object]) -> Json:
        return {"balances": []}

    # --- fields -----------------------------------------------------------------------------------------------

    def _coins(self) -> list[Coin]:
        return [one.coin for one in sorted(self.exchange.instruments.values(), key=lambda one: one.asset_id)]

    def _context(self, coin: Coin) -> Json:
        return answers.context(self.exchange, coin, self.replay.seen(coin), self.replay.rate(coin))

    def _coin(self, body: Mapping[str, object]) -> Coin:
        name = _text(body, "coin")
        if name not in self.exchange.instruments:
            raise UnknownRequest("coin")
        return Coin(name)

    def _account(self, body: Mapping[str, object]) -> Account | None:
        return self.exchange.accounts.get(_text(body, "user").lower())


def _text(body: Mapping[str, object], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise UnknownRequest(key)
    return value


def _time(body: Mapping[str, object], key: str) -> int:
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnknownRequest(key)
    return value


def _end(body: Mapping[str, object]) -> int:
    return _FOREVER if body.get("endTime") is None else _time(body, "endTime")


_Answer: TypeAlias = Callable[[Info, Mapping[str, object]], Json]

_ANSWERS: Final[dict[str, _Answer]] = {
    "meta": Info.meta,
    "metaAndAssetCtxs": Info.contexts,
    "spotMeta": Info.spot_meta,
    "spotMetaAndAssetCtxs": Info.spot_contexts,
    "perpDexs": Info.perp_dexs,
    "allMids": Info.all_mids,
    "l2Book": Info.book,
    "candleSnapshot": Info.candles,
    "fundingHistory": Info.funding_history,
    "recentTrades": Info.recent_trades,
    "exchangeStatus": Info.status,
    "clearinghouseState": Info.clearinghouse,
    "openOrders": Info.open_orders,
    "frontendOpenOrders": Info.front_orders,
    "orderStatus": Info.order_status,
    "historicalOrders": Info.historical_orders,
    "userFills": Info.fills,
    "userFillsByTime": Info.fills_by_time,
    "userFunding": Info.funding,
    "userNonFundingLedgerUpdates": Info.ledger_updates,
    "userFees": Info.fees,
    "userRateLimit": Info.rate_limit,
    "activeAssetData": Info.active_asset,
    "extraAgents": Info.extra_agents,
    "userRole": Info.role,
    "userAbstraction": Info.abstraction,
    "spotClearinghouseState": Info.spot_state,
}
