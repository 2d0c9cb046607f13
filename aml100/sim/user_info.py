"""Answers to POST /info about accounts. An address never seen answers like a flat one, an agent's like a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from aml100.domain.units import ZERO
from aml100.sim import account_answers
from aml100.sim.accounts import FILLS_KEPT, Account, FillEvent
from aml100.sim.dexes import dexes_of
from aml100.sim.limits import Addresses
from aml100.sim.questions import UnknownRequest, coin_in, dex_in, end_in, start_in, time_in
from aml100.sim.views import Views
from aml100.sim.words import Json, address_of, rough, text

PAGE: Final = 500
FILLS_PAGE: Final = 2000
Body: TypeAlias = Mapping[str, object]


class UserInfo:
    """Reads the accounts; changes nothing."""

    def __init__(self, views: Views, addresses: Addresses, wall_ms: Callable[[], int]) -> None:
        self.views, self.exchange, self.gate = views, views.exchange, views.replay.gate
        self._addresses = addresses
        self._wall_ms = wall_ms

    def _account(self, body: Body) -> Account | None:
        return self.views.account(_user(body))

    def _dex(self, body: Body) -> str:
        return dex_in(body, self.exchange.instruments)

    def clearinghouse(self, body: Body) -> Json:
        return self.views.clearinghouse(_user(body), self._dex(body))

    def open_orders(self, body: Body) -> Json:
        return self.views.open_orders(_user(body), self._dex(body))

    def front_orders(self, body: Body) -> Json:
        return self.views.front_orders(_user(body), self._dex(body))

    def order_status(self, body: Body) -> Json:
        ref = body.get("oid")
        if not isinstance(ref, int | str) or isinstance(ref, bool):
            raise UnknownRequest("oid")
        if isinstance(ref, str) and ref.isdigit():
            ref = int(ref)
        record = self.exchange.order(_user(body), ref.lower() if isinstance(ref, str) else ref)
        if record is None:
            return {"status": "unknownOid"}
        found = account_answers.historical_order(record, self.exchange.orders, self.exchange.size_of)
        return {"status": "order", "order": found}

    def historical_orders(self, body: Body) -> Json:
        account = self._account(body)
        oids = [] if account is None else account.all_oids[: -FILLS_PAGE - 1 : -1]
        orders, size_of = self.exchange.orders, self.exchange.size_of
        return [account_answers.historical_order(orders[oid], orders, size_of) for oid in oids]

    def fills(self, body: Body) -> Json:
        account = self._account(body)
        fills = account.fills[: -FILLS_PAGE - 1 : -1] if account else []
        return [account_answers.fill(one) for one in _joined(fills, body)]

    def fills_by_time(self, body: Body) -> Json:
        account, start, end = self._account(body), time_in(body, "startTime"), end_in(body)
        kept = account.fills[-FILLS_KEPT:] if account else []
        fills = [one for one in kept if start <= one.fill.time_ms <= end]
        if body.get("reversed") is True:
            fills.reverse()
        return [account_answers.fill(one) for one in _joined(fills[:FILLS_PAGE], body)]

    def funding(self, body: Body) -> Json:
        account, start, end = self._account(body), start_in(body), end_in(body)
        paid = [one for one in (account.fundings if account else []) if start <= one.time_ms <= end]
        return [account_answers.funding_entry(one) for one in paid[:PAGE]]

    def ledger_updates(self, body: Body) -> Json:
        account, start, end = self._account(body), start_in(body), end_in(body)
        moved = [one for one in (account.transfers if account else []) if start <= one.time_ms <= end]
        return [account_answers.ledger_entry(one) for one in moved[:PAGE]]

    def fees(self, body: Body) -> Json:
        return account_answers.user_fees(self.exchange.rules, self._account(body), self.exchange.now_ms)

    def rate_limit(self, body: Body) -> Json:
        user, account = _user(body), self._account(body)
        cap = self._addresses.cap(account.volume) if account else self._addresses.cap(ZERO)
        return account_answers.rate_limit(account, self._addresses.used(user), cap)

    def active_asset(self, body: Body) -> Json:
        return self.views.active_asset(_user(body), coin_in(body, self.exchange.instruments))

    def extra_agents(self, body: Body) -> Json:
        user, now_ms = _user(body), self._wall_ms()
        return [
            {"name": one.name, "address": address, "validUntil": one.valid_until_ms}
            for address, one in self.gate.agents.items()
            if one.account == user and one.name and one.valid_until_ms > now_ms
        ]

    def role(self, body: Body) -> Json:
        user = _user(body)
        if user in self.exchange.accounts:
            return {"role": "user"}
        agent = self.gate.agents.get(user)
        return {"role": "missing"} if agent is None else {"role": "agent", "data": {"user": agent.account}}

    def abstraction(self, _: Body) -> Json:
        """With builders' exchanges listed, the account's money serves them all."""
        return "dexAbstraction" if len(dexes_of(self.exchange.instruments.values())) > 1 else "default"

    def dex_abstraction(self, _: Body) -> Json:
        return len(dexes_of(self.exchange.instruments.values())) > 1

    def spot_state(self, body: Body) -> Json:
        _user(body)
        return {"balances": []}

    def portfolio(self, body: Body) -> Json:
        """Account value and profit from the first deposit to now, the same in every period: no samples are kept."""
        account = self._account(body)
        now = self.exchange.now_ms
        rows: list[list[Json]] = []
        profits: list[list[Json]] = []
        volume = "0.0"
        if account is not None and account.transfers:
            value = self.exchange.margin(account.address).account_value
            first = account.transfers[0]
            rows = [[first.time_ms, text(first.amount)], [now, rough(value)]]
            profits = [[first.time_ms, "0.0"], [now, rough(value - account.deposits)]]
            volume = text(account.volume)
        series: Json = {"accountValueHistory": rows, "pnlHistory": profits, "vlm": volume}
        periods = ("day", "week", "month", "allTime", "perpDay", "perpWeek", "perpMonth", "perpAllTime")
        return [[period, series] for period in periods]

    def referral(self, body: Body) -> Json:
        account = self._account(body)
        volume = text(account.volume) if account else "0.0"
        none: Json = {"stage": "needToTrade", "data": {"required": "10000.0"}}
        return {
            "referredBy": None,
            "cumVlm": volume,
            "unclaimedRewards": "0.0",
            "claimedRewards": "0.0",
            "builderRewards": "0.0",
            "referrerState": none,
            "rewardHistory": [],
            "tokenToState": [],
        }

    def nothing(self, body: Body) -> Json:
        """A list that is empty here: vaults, staking, TWAPs."""
        _user(body)
        return []

    def null(self, body: Body) -> Json:
        """What no account here has: sub-accounts, several signers."""
        _user(body)
        return None

    def builder_fee(self, body: Body) -> Json:
        """No builder is ever approved."""
        _user(body)
        return 0

    def staking(self, body: Body) -> Json:
        _user(body)
        return {"delegated": "0.0", "undelegated": "0.0", "totalPendingWithdrawal": "0.0", "nPendingWithdrawals": 0}


def _user(body: Body) -> str:
    user = address_of(body.get("user"))
    if user is None:
        raise UnknownRequest("user")
    return user


def _joined(fills: Sequence[FillEvent], body: Body) -> list[FillEvent]:
    """With `aggregateByTime` the executions of one order at one moment are one, at their average price."""
    if body.get("aggregateByTime") is not True:
        return list(fills)
    kept: list[FillEvent] = []
    for one in fills:
        last = kept[-1] if kept else None
        if last is None or (last.fill.oid, last.fill.time_ms) != (one.fill.oid, one.fill.time_ms):
            kept.append(one)
        else:
            kept[-1] = account_answers.joined(last, one)
    return kept


_Answer: TypeAlias = Callable[[UserInfo, Body], Json]

USER_ANSWERS: Final[dict[str, _Answer]] = {
    "clearinghouseState": UserInfo.clearinghouse,
    "openOrders": UserInfo.open_orders,
    "frontendOpenOrders": UserInfo.front_orders,
    "orderStatus": UserInfo.order_status,
    "historicalOrders": UserInfo.historical_orders,
    "userFills": UserInfo.fills,
    "userFillsByTime": UserInfo.fills_by_time,
    "userFunding": UserInfo.funding,
    "userNonFundingLedgerUpdates": UserInfo.ledger_updates,
    "userFees": UserInfo.fees,
    "userRateLimit": UserInfo.rate_limit,
    "activeAssetData": UserInfo.active_asset,
    "extraAgents": UserInfo.extra_agents,
    "userRole": UserInfo.role,
    "userAbstraction": UserInfo.abstraction,
    "userDexAbstraction": UserInfo.dex_abstraction,
    "spotClearinghouseState": UserInfo.spot_state,
    "portfolio": UserInfo.portfolio,
    "referral": UserInfo.referral,
    "subAccounts": UserInfo.null,
    "userToMultiSigSigners": UserInfo.null,
    "maxBuilderFee": UserInfo.builder_fee,
    "delegatorSummary": UserInfo.staking,
    "delegations": UserInfo.nothing,
    "delegatorRewards": UserInfo.nothing,
    "delegatorHistory": UserInfo.nothing,
    "userVaultEquities": UserInfo.nothing,
    "userTwapSliceFills": UserInfo.nothing,
    "twapHistory": UserInfo.nothing,
}
