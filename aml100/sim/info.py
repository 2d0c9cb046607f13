"""Answers to POST /info about the market: one small function a request type, and the table of all types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from aml100.domain.units import HOUR_MS, Coin
from aml100.sim import market_answers
from aml100.sim.candles import EVERY_INTERVAL
from aml100.sim.dexes import dexes_of, listed
from aml100.sim.feed import Feed
from aml100.sim.limits import Addresses
from aml100.sim.questions import UnknownRequest, coin_in, dex_in, end_in, text_in, time_in
from aml100.sim.topics import are_figures
from aml100.sim.user_info import USER_ANSWERS, UserInfo
from aml100.sim.words import Json, text

PAGE: Final = 500
LATEST_CANDLES: Final = 5000


class Info:
    """Reads the replay; changes nothing. `candle_limit` None serves every closed bar."""

    def __init__(
        self,
        feed: Feed,
        addresses: Addresses,
        status: Callable[[], Mapping[str, Json]],
        wall_ms: Callable[[], int],
        candle_limit: int | None,
    ) -> None:
        """`status` gives the body of exchangeStatus: its time is the market's now; `wall_ms` is the venue's clock."""
        self.feed, self.views = feed, feed.views
        self.replay, self.exchange = feed.replay, feed.replay.exchange
        self.users = UserInfo(self.views, addresses, wall_ms)
        self._status = status
        self._candle_limit = candle_limit

    def answer(self, body: Mapping[str, object]) -> Json:
        """UnknownRequest for a type that does not exist or a field that is missing or mistyped."""
        kind = body.get("type")
        if not isinstance(kind, str):
            raise UnknownRequest("type")
        of_market, of_user = _ANSWERS.get(kind), USER_ANSWERS.get(kind)
        if of_market is not None:
            return of_market(self, body)
        if of_user is not None:
            return of_user(self.users, body)
        raise UnknownRequest(kind)

    def _dex(self, body: Mapping[str, object]) -> str:
        return dex_in(body, self.exchange.instruments)

    def meta(self, body: Mapping[str, object]) -> Json:
        return market_answers.meta(listed(self.exchange.instruments.values(), self._dex(body)))

    def contexts(self, body: Mapping[str, object]) -> Json:
        return [self.meta(body), [self.views.context(one) for one in self.views.coins(self._dex(body))]]

    def all_metas(self, _: Mapping[str, object]) -> Json:
        known = self.exchange.instruments.values()
        return [market_answers.meta(listed(known, dex)) for dex in dexes_of(known)]

    def spot_meta(self, _: Mapping[str, object]) -> Json:
        return market_answers.spot_meta()

    def spot_contexts(self, _: Mapping[str, object]) -> Json:
        return [market_answers.spot_meta(), []]

    def perp_dexs(self, _: Mapping[str, object]) -> Json:
        names = dexes_of(self.exchange.instruments.values())
        return [market_answers.perp_dex(name, self.views.coins(name)) for name in names]

    def margin_table(self, body: Mapping[str, object]) -> Json:
        number = time_in(body, "id")
        if not 1 <= number < 50:
            raise UnknownRequest("id")
        return market_answers.margin_table(number)

    def all_mids(self, body: Mapping[str, object]) -> Json:
        return self.views.mids(self._dex(body))

    def book(self, body: Mapping[str, object]) -> Json:
        name, figures, mantissa = text_in(body, "coin"), body.get("nSigFigs"), body.get("mantissa")
        if name not in self.exchange.instruments:
            return None
        if not are_figures(figures, mantissa):
            raise UnknownRequest("nSigFigs")
        wanted = figures if isinstance(figures, int) else 0
        return self.views.book(Coin(name), None, wanted, mantissa if isinstance(mantissa, int) else None)

    def candles(self, body: Mapping[str, object]) -> Json:
        wanted = body.get("req")
        if not isinstance(wanted, dict):
            raise UnknownRequest("req")
        coin, interval = coin_in(wanted, self.exchange.instruments), text_in(wanted, "interval")
        if interval not in EVERY_INTERVAL:
            raise UnknownRequest("interval")
        start, end = max(time_in(wanted, "startTime"), 0), end_in(wanted)
        bars = self.views.candles(coin, EVERY_INTERVAL[interval], start, end, self._candle_limit)
        return [market_answers.candle(one, interval) for one in bars]

    def funding_history(self, body: Mapping[str, object]) -> Json:
        coin = coin_in(body, self.exchange.instruments)
        first = int(self.replay.tape.time_of(0))
        hour = -(-max(time_in(body, "startTime"), first) // HOUR_MS) * HOUR_MS
        last = min(end_in(body), self.exchange.now_ms)
        rows: list[Json] = []
        while hour <= last and len(rows) < PAGE:
            rate = self.replay.tape.rate_at(coin, hour)
            if rate is not None:
                rows.append({"coin": coin, "fundingRate": text(rate), "premium": "0.0", "time": hour})
            hour += HOUR_MS
        return rows

    def predicted_fundings(self, _: Mapping[str, object]) -> Json:
        """The rate of the running hour, which is what will be paid."""
        due = self.exchange.now_ms // HOUR_MS * HOUR_MS + HOUR_MS
        rows: list[Json] = []
        for coin in self.views.coins(""):
            rate = self.replay.rate(coin)
            said: Json = None
            if rate is not None:
                said = {"fundingRate": text(rate), "nextFundingTime": due, "fundingIntervalHours": 1}
            rows.append([coin, [["HlPerp", said]]])
        return rows

    def recent_trades(self, body: Mapping[str, object]) -> Json:
        return list(reversed(self.feed.prints.latest(coin_in(body, self.exchange.instruments))))

    def at_cap(self, _: Mapping[str, object]) -> Json:
        """Open interest is not capped here."""
        return []

    def status(self, _: Mapping[str, object]) -> Json:
        return self._status()


_Answer: TypeAlias = Callable[[Info, Mapping[str, object]], Json]

_ANSWERS: Final[dict[str, _Answer]] = {
    "meta": Info.meta,
    "metaAndAssetCtxs": Info.contexts,
    "allPerpMetas": Info.all_metas,
    "spotMeta": Info.spot_meta,
    "spotMetaAndAssetCtxs": Info.spot_contexts,
    "perpDexs": Info.perp_dexs,
    "marginTable": Info.margin_table,
    "allMids": Info.all_mids,
    "l2Book": Info.book,
    "candleSnapshot": Info.candles,
    "fundingHistory": Info.funding_history,
    "predictedFundings": Info.predicted_fundings,
    "recentTrades": Info.recent_trades,
    "perpsAtOpenInterestCap": Info.at_cap,
    "exchangeStatus": Info.status,
}
