"""One websocket connection's conversation, without the websocket: frames in, events out, frames to send.

The same set of subscriptions is asked for at every connection, for the venue resumes nothing. What was heard outlives
a connection: trades and fills that a snapshot repeats are told once (GUARANTEES D16). Where a stream opens with a
snapshot, what arrives ahead of it is held until it has come. The caller owns the socket and the clock; times are
monotonic wall seconds.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from aml100.domain.errors import ProtocolViolation
from aml100.domain.units import Coin, interval_name
from aml100.venue import wire
from aml100.venue.codec import decode_frame, events_from
from aml100.venue.news import FillsSeen, FundingsSeen, TradesSeen, VenueEvent

ACKNOWLEDGE_S: Final = 15.0
_PING: Final = b'{"method":"ping"}'


@dataclass(frozen=True, slots=True)
class Subscription:
    """What to ask for, in the venue's words: the kind of stream and what it is about."""

    type: str
    coin: Coin | None = None
    interval: str | None = None
    user: str | None = None

    def to_wire(self) -> dict[str, str]:
        fields = {"type": self.type, "coin": self.coin, "interval": self.interval, "user": self.user}
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        return " ".join(self.to_wire().values())


def market_subscriptions(coin: Coin, interval_ms: int) -> tuple[Subscription, ...]:
    """The streams of one coin that an engine lives on."""
    return (
        Subscription("candle", coin, interval_name(interval_ms)),
        Subscription("trades", coin),
        Subscription("bbo", coin),
        Subscription("activeAssetCtx", coin),
    )


def account_subscriptions(user: str) -> tuple[Subscription, ...]:
    """The streams of one account; at most one account a connection, for order updates do not name theirs."""
    return (
        Subscription("orderUpdates", user=user),
        Subscription("userFills", user=user),
        Subscription("userFundings", user=user),
    )


@dataclass(frozen=True, slots=True)
class StreamUp:
    """Every subscription is acknowledged."""


@dataclass(frozen=True, slots=True)
class FrameRefused:
    """A frame could not be read; the connection goes on. `reason` names the path inside it."""

    reason: str


@dataclass(frozen=True, slots=True)
class VenueComplaint:
    """The venue's error channel."""

    text: str


SessionEvent: TypeAlias = StreamUp | FrameRefused | VenueComplaint | VenueEvent


@dataclass(frozen=True, slots=True)
class Due:
    """What the passing of time asks for: frames to send, and a reason to give the connection up."""

    frames: tuple[bytes, ...]
    problem: str | None


class _Seen:
    """The latest `capacity` keys, in order of arrival."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._keys: dict[Hashable, None] = {}

    def adds(self, key: Hashable) -> bool:
        """Remember a key; false where it was known."""
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > self._capacity:
            del self._keys[next(iter(self._keys))]
        return True


class Session:
    """Feed it with what the socket brings: `open` at every new connection, `receive` for each frame, `due` by time.

    The venue drops a line on which it said nothing for 60 s. With a ping every `ping_s` it answers that often at least,
    so `idle_s` of silence mean that it is gone.
    """

    def __init__(
        self, subscriptions: Iterable[Subscription], origin: str = "", *, ping_s: float = 30.0, idle_s: float = 50.0
    ) -> None:
        self._ping_s = ping_s
        self._idle_s = idle_s
        self.subscriptions = tuple(dict.fromkeys(subscriptions))
        self._origin = origin
        self._unacknowledged: list[Subscription] = []
        self._opened_s = 0.0
        self._heard_s = 0.0
        self._pinged_s = 0.0
        self._snapshot_due: set[str] = set()
        self._held_fills: list[FillsSeen] = []
        self._held_fundings: list[FundingsSeen] = []
        self._trades: dict[Coin, _Seen] = {}
        self._fills = _Seen(20_000)
        self._fundings = _Seen(5_000)

    @property
    def is_up(self) -> bool:
        return not self._unacknowledged

    def open(self, now_s: float) -> list[bytes]:
        """A connection stands; these are its first frames."""
        self._opened_s = self._heard_s = self._pinged_s = now_s
        self._unacknowledged = list(self.subscriptions)
        self._snapshot_due = {s.type for s in self.subscriptions if s.type in ("userFills", "userFundings")}
        self._held_fills.clear()
        self._held_fundings.clear()
        return [
            msgspec.json.encode({"method": "subscribe", "subscription": subscription.to_wire()})
            for subscription in self.subscriptions
        ]

    def receive(self, data: bytes | str, now_s: float) -> Sequence[SessionEvent]:
        """What a frame tells. Never raises for what the venue sent."""
        self._heard_s = now_s
        try:
            frame = decode_frame(data)
            if frame is None:
                return ()
            if isinstance(frame, wire.AckFrame):
                return self._acknowledge(frame.data.method, frame.data.subscription)
            if isinstance(frame, wire.ErrorFrame):
                return self._complaint(frame.data)
            return [told for event in events_from(frame, self._origin) for told in self._tell(event)]
        except ProtocolViolation as problem:
            return (FrameRefused(str(problem)),)

    def due(self, now_s: float) -> Due:
        """Call it about once a second."""
        if now_s - self._heard_s > self._idle_s:
            return Due((), f"nothing heard for {now_s - self._heard_s:.0f} s")
        if self._unacknowledged and now_s - self._opened_s > ACKNOWLEDGE_S:
            return Due((), f"not acknowledged: {', '.join(map(str, self._unacknowledged))}")
        if now_s - self._pinged_s >= self._ping_s:
            self._pinged_s = now_s
            return Due((_PING,), None)
        return Due((), None)

    def _acknowledge(self, method: str, echo: dict[str, wire.Scalar]) -> Sequence[SessionEvent]:
        """The echo is what we asked for with defaults added and keys reordered: it has to contain ours."""
        if method != "subscribe" or not self._unacknowledged:
            return ()
        for waiting in self._unacknowledged:
            if all(str(echo.get(name, "")).lower() == value.lower() for name, value in waiting.to_wire().items()):
                self._unacknowledged.remove(waiting)
                return () if self._unacknowledged else (StreamUp(),)
        return ()

    def _complaint(self, text: str) -> Sequence[SessionEvent]:
        """`Already subscribed: {...}` is an acknowledgement in other words."""
        prefix, _, rest = text.partition(": ")
        if prefix == "Already subscribed":
            try:
                return self._acknowledge("subscribe", msgspec.json.decode(rest, type=dict[str, wire.Scalar]))
            except msgspec.MsgspecError:
                return (VenueComplaint(text),)
        return (VenueComplaint(text),)

    def _tell(self, event: VenueEvent) -> Sequence[SessionEvent]:
        if isinstance(event, TradesSeen):
            trades = tuple(trade for trade in event.trades if self._trades_of(trade.coin).adds(trade.tid))
            return (TradesSeen(trades),) if trades else ()
        if isinstance(event, FillsSeen):
            return self._tell_fills(event)
        if isinstance(event, FundingsSeen):
            return self._tell_fundings(event)
        return (event,)

    def _trades_of(self, coin: Coin) -> _Seen:
        seen = self._trades.get(coin)
        if seen is None:
            seen = self._trades[coin] = _Seen(4_096)
        return seen

    def _tell_fills(self, event: FillsSeen) -> Sequence[SessionEvent]:
        if event.is_snapshot:
            self._snapshot_due.discard("userFills")
            held, self._held_fills = self._held_fills, []
            return [told for each in (event, *held) for told in self._new_fills(each)]
        if "userFills" in self._snapshot_due:
            self._held_fills.append(event)
            return ()
        return self._new_fills(event)

    def _new_fills(self, event: FillsSeen) -> Sequence[SessionEvent]:
        """Oldest first: a snapshot lists them newest first, so it is turned round before the (stable) sort."""
        rows = reversed(event.fills) if event.is_snapshot else event.fills
        new = [fill for fill in rows if self._fills.adds(fill.fill_id)]
        if not new and not event.is_snapshot:
            return ()
        return (FillsSeen(tuple(sorted(new, key=lambda fill: fill.time_ms)), event.is_snapshot),)

    def _tell_fundings(self, event: FundingsSeen) -> Sequence[SessionEvent]:
        if event.is_snapshot:
            self._snapshot_due.discard("userFundings")
            held, self._held_fundings = self._held_fundings, []
            return [told for each in (event, *held) for told in self._new_fundings(each)]
        if "userFundings" in self._snapshot_due:
            self._held_fundings.append(event)
            return ()
        return self._new_fundings(event)

    def _new_fundings(self, event: FundingsSeen) -> Sequence[SessionEvent]:
        new = tuple(paid for paid in event.payments if self._fundings.adds((paid.coin, paid.time_ms)))
        if not new and not event.is_snapshot:
            return ()
        return (FundingsSeen(tuple(sorted(new, key=lambda paid: paid.time_ms)), event.is_snapshot),)
