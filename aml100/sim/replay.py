"""A market being played: the exchange, its tape, and who may act, moved by inputs that a store can repeat.

Inputs are four: `open` (the next bars open), `play` (their range is walked), `act` (an admitted request), `deposit`.
Each is made durable before it is applied. `row` is the last closed step of the tape; between `open` and `play` the
next step is in `opened`.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np

from aml100.domain.events import SeriesEnd
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.market.series import BarSeries
from aml100.sim import account_answers, requests
from aml100.sim.accounts import OrderTags, Transfer, VenueEvent
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.gate import Gate
from aml100.sim.scenario import Tape, TapeStep
from aml100.sim.store import SNAPSHOT_EVERY, VenueStore
from aml100.sim.words import Json


class Act(msgspec.Struct):
    """An admitted request as the store keeps it."""

    signer: str
    account: str
    nonce: int
    wall_ms: int
    action: dict[str, object]
    twists: list[OrderTags] = []
    """What faults make of its orders, one by one; none where nothing is wrong."""


class Deposit(msgspec.Struct):
    """Money paid in by the venue's operator, as the store keeps it."""

    user: str
    usd: Decimal


class _Snapshot(msgspec.Struct):
    row: int
    is_open: bool
    rules: ExchangeRules
    gate: Gate
    exchange: msgspec.Raw


class Replay:
    """The venue without its sockets. `first_row` is the first step that is played live."""

    def __init__(self, exchange: Exchange, tape: Tape, warmup_bars: int, store: VenueStore | None = None) -> None:
        self.exchange, self.tape, self.store = exchange, tape, store
        self.gate = Gate()
        self.first_row = warmup_bars
        self.row = warmup_bars - 1
        self.closed: TapeStep | None = None
        self.opened: TapeStep | None = None
        self.forming: dict[Coin, Bar] = {}
        self.coin_of = {one.asset_id: coin for coin, one in exchange.instruments.items()}

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on from the store, or stand at the close of the warm-up (without one, at the first open)."""
        saved = None if self.store is None else self.store.load()
        rules = self.exchange.rules
        if saved is not None and saved.snapshot is not None:
            kept = msgspec.json.decode(saved.snapshot, type=_Snapshot)
            self.exchange.restore(bytes(kept.exchange))
            self.exchange.rules, self.gate, self.row = kept.rules, kept.gate, kept.row
            self.closed = self.tape.step(self.row) if self.row >= 0 else None
            self.opened = self.tape.step(self.row + 1) if kept.is_open else None
        else:
            self._stand_at_start()
            if self.store is not None and not (saved and saved.inputs):
                self.store.compact(self._snapshot())
        for kind, body in () if saved is None else saved.inputs:
            self._repeat(kind, body)
        self.exchange.rules = rules

    def stop(self) -> None:
        if self.store is not None:
            self.store.compact(self._snapshot())
            self.store.close()

    def _stand_at_start(self) -> None:
        for row in range(self.first_row):  # every coin gets the last price it had before the replay
            if row < self.first_row - 1 and not self._ends_before_start(row):
                continue
            step = self.tape.step(row)
            assert step is not None
            self.exchange.open_bars(step.bars, {})
            self.exchange.play_bars()
            self.closed = step
        first = self.tape.step(self.first_row)
        for bar in () if first is None else first.bars:
            self.exchange.prices.setdefault(bar.coin, bar.open)
        if self.closed is None and first is not None:
            self.exchange.now_ms = first.open_ms

    def _ends_before_start(self, row: int) -> bool:
        """Some coin has a bar in this step of the warm-up and none in its last one."""
        time, last = self.tape.time_of(row), self.tape.time_of(self.first_row - 1)
        for coin in self.tape.coins:
            times = self.tape.series_of(coin).open_ms
            at = int(np.searchsorted(times, last, side="right")) - 1
            if at >= 0 and int(times[at]) == time:
                return True
        return False

    def _snapshot(self) -> bytes:
        state = msgspec.Raw(self.exchange.export_state())
        kept = _Snapshot(self.row, self.opened is not None, self.exchange.rules, self.gate, state)
        return msgspec.json.encode(kept)

    def _repeat(self, kind: str, body: bytes) -> None:
        match kind:
            case "open":
                self._open()
            case "play":
                self._play()
            case "deposit":
                paid = msgspec.json.decode(body, type=Deposit)
                self._deposit(paid.user, paid.usd)
            case _:
                act = msgspec.json.decode(body, type=Act)
                self._act(act, requests.decode_action(requests.as_json(act.action)))

    def _journal(self, kind: str, body: bytes = b"") -> None:
        if self.store is None:
            return
        if self.store.since_snapshot >= SNAPSHOT_EVERY:
            self.store.compact(self._snapshot())
        self.store.append(kind, body)

    # --- market time ------------------------------------------------------------------------------------------

    @property
    def has_next(self) -> bool:
        return self.opened is not None or self.tape.has(self.row + 1)

    def ending(self) -> dict[Coin, SeriesEnd]:
        """Coins whose series stops with the step closed last."""
        return {} if self.closed is None else dict(self.closed.ending)

    def open_next(self) -> list[VenueEvent]:
        """Open the step after the closed one; there must be one."""
        self._journal("open")
        return self._open()

    def _open(self) -> list[VenueEvent]:
        step = self.tape.step(self.row + 1)
        assert step is not None
        self.opened = step
        return self.exchange.open_bars(step.bars, step.funding)

    def play(self) -> list[VenueEvent]:
        """Walk the range of the opened step and close it."""
        self._journal("play")
        return self._play()

    def _play(self) -> list[VenueEvent]:
        events = self.exchange.play_bars()
        self.close_opened()
        return events

    def close_opened(self) -> None:
        """Count the opened step as closed; for those who walked its range in pieces of their own."""
        self.row += 1
        self.closed, self.opened = self.opened, None
        self.forming.clear()

    def seen(self, coin: Coin) -> BarSeries:
        """The closed bars of a coin, warm-up included."""
        series = self.tape.series_of(coin)
        if self.closed is None:
            return series.rows(0, 0)
        return series.rows(0, int(np.searchsorted(series.open_ms, self.closed.open_ms, side="right")))

    def rate(self, coin: Coin) -> Decimal | None:
        """The funding rate of the running hour."""
        return self.tape.rate_at(coin, self.exchange.now_ms // 3_600_000 * 3_600_000)

    # --- money ------------------------------------------------------------------------------------------------

    def deposit(self, user: str, usd: Decimal) -> Transfer:
        """Pay into an account, opened where it does not exist."""
        self._journal("deposit", msgspec.json.encode(Deposit(user, usd)))
        return self._deposit(user, usd)

    def _deposit(self, user: str, usd: Decimal) -> Transfer:
        if user not in self.exchange.accounts:
            self.exchange.add_account(user, usd)
            return self.exchange.accounts[user].transfers[-1]
        return self.exchange.deposit(user, usd)

    # --- requests ---------------------------------------------------------------------------------------------

    def act(self, act: Act, action: requests.Action) -> tuple[Json, list[VenueEvent]]:
        """Carry out an admitted request; the answer to it and what came of it."""
        self._journal("act", msgspec.json.encode(act))
        return self._act(act, action)

    def _act(self, act: Act, action: requests.Action) -> tuple[Json, list[VenueEvent]]:
        self.gate.burn(act.signer, act.nonce)
        user = act.account
        exchange = self.exchange
        match action:
            case requests.OrderAction():
                return self._order(user, action, act.twists)
            case requests.CancelAction():
                return self._cancel(user, [(one.a, one.o) for one in action.cancels])
            case requests.CancelByCloidAction():
                return self._cancel(user, [(one.asset, one.cloid.lower()) for one in action.cancels])
            case requests.ModifyAction():
                return self._modify(user, [requests.ModifyWire(action.oid, action.order)], always=action.a)
            case requests.BatchModifyAction():
                return self._modify(user, action.modifies, always=action.a)
            case requests.UpdateLeverageAction():
                coin = self.coin_of.get(action.asset)
                if coin is None:
                    return _refused("Invalid asset"), []
                return _plain(exchange.set_leverage(user, coin, action.leverage, is_cross=action.isCross)), []
            case requests.UpdateIsolatedMarginAction():
                coin = self.coin_of.get(action.asset)
                if coin is None:
                    return _refused("Invalid asset"), []
                return _plain(exchange.move_margin(user, coin, Decimal(action.ntli).scaleb(-6))), []
            case requests.ScheduleCancelAction():
                return _plain(exchange.schedule_cancel(user, action.time)), []
            case requests.ApproveAgentAction():
                name = action.agentName or ""
                return _plain(self.gate.approve(user, action.agentAddress, name, act.wall_ms)), []
            case requests.NoopAction():
                return _plain(None), []
            case requests.UsdSendAction():
                return _plain(exchange.send_usd(user, action.destination, action.amount)), []
            case requests.UnservedAction():
                raise AssertionError("refused before it was admitted")
            case requests.SetReferrerAction():
                return _refused("Referral code not registered"), []
            case requests.ApproveBuilderFeeAction():
                return _refused("Builder fee has not been approved"), []

    def _order(self, user: str, action: requests.OrderAction, twists: list[OrderTags]) -> tuple[Json, list[VenueEvent]]:
        if action.builder is not None:
            return _refused("Builder fee has not been approved"), []
        unknown = [one.a for one in action.orders if one.a not in self.coin_of]
        if unknown or not action.orders:
            text = f"Invalid asset. asset={unknown[0]}" if unknown else "Empty batch of orders"
            errors: list[Json] = [{"error": text} for _ in action.orders or (None,)]
            return _statuses("order", errors), []
        orders = [requests.order_of(one, self.coin_of[one.a], self.exchange.now_ms) for one in action.orders]
        tags = twists or [requests.tags_of(one) for one in action.orders]
        results, events = self.exchange.place(user, orders, requests.grouping_of(action.grouping), tags)
        return _statuses("order", [account_answers.order_answer(one) for one in results]), events

    def _cancel(self, user: str, cancels: list[tuple[int, int | str]]) -> tuple[Json, list[VenueEvent]]:
        statuses: list[Json] = []
        events: list[VenueEvent] = []
        for asset, ref in cancels:
            coin = self.coin_of.get(asset)
            error: str | None = f"Invalid asset. asset={asset}"
            if coin is not None:
                error, more = self.exchange.cancel(user, coin, ref)
                events.extend(more)
            statuses.append("success" if error is None else {"error": error})
        return _statuses("cancel", statuses), events

    def _modify(self, user: str, modifies: list[requests.ModifyWire], *, always: bool) -> tuple[Json, list[VenueEvent]]:
        statuses: list[Json] = []
        events: list[VenueEvent] = []
        for one in modifies:
            coin = self.coin_of.get(one.order.a)
            if coin is None:
                statuses.append({"error": f"Invalid asset. asset={one.order.a}"})
                continue
            order = requests.order_of(one.order, coin, self.exchange.now_ms)
            ref = one.oid.lower() if isinstance(one.oid, str) else one.oid
            result, more = self.exchange.modify(user, ref, order, always=always)
            statuses.append(account_answers.order_answer(result))
            events.extend(more)
        return _statuses("order", statuses), events

    def opens_the_next(self, action: requests.Action) -> bool:
        """An order for a coin whose series goes on executes at the next open; others at the price there is."""
        ending = self.ending()
        assets: list[int] = []
        if isinstance(action, requests.OrderAction):
            assets = [one.a for one in action.orders]
        elif isinstance(action, requests.ModifyAction):
            assets = [action.order.a]
        elif isinstance(action, requests.BatchModifyAction):
            assets = [one.order.a for one in action.modifies]
        return any(self.coin_of.get(one) is not None and self.coin_of[one] not in ending for one in assets)


def _statuses(kind: str, statuses: list[Json]) -> Json:
    return {"status": "ok", "response": {"type": kind, "data": {"statuses": statuses}}}


def _refused(text: str) -> Json:
    return {"status": "err", "response": text}


def _plain(error: str | None) -> Json:
    return {"status": "ok", "response": {"type": "default"}} if error is None else _refused(error)
