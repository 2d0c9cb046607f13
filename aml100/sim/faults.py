"""Faults of the simulated venue: what goes wrong, when, how often. From a file, or added while it runs.

The one idea: a fault is a filter and a counter. It counts what matches it (frames, requests, orders) within its span
of market time and strikes each `every`-th, at most `times` times, each with `chance`; the draws come from the venue's
seed. So the same requests meet the same faults. `docs/venue.md` lists the kinds and their fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from aml100.domain.errors import UsageError
from aml100.domain.orders import Order
from aml100.domain.units import Coin
from aml100.sim.accounts import OrderTags

FRAMES: Final = frozenset({"disconnect", "drop", "delay", "duplicate", "reorder", "garble"})
REQUESTS: Final = frozenset({"http", "no_answer", "delay"})
ORDERS: Final = frozenset({"reject", "partial", "lose"})
STATES: Final = frozenset({"skew", "freeze", "silent"})
KINDS: Final = tuple(sorted(FRAMES | REQUESTS | ORDERS | STATES))
ORDER_KINDS: Final = ("entry", "exit", "stop_loss", "take_profit")
_NUMBER: Final = re.compile(r'"\d+(?:\.\d+)?"')


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that goes wrong.

    When: from `from_s` market seconds after the venue first opened, for `for_s` (None: for good). Which: frames of a
    `channel`, requests of a type (`request`; `*` all), orders of a kind (`order`), of one `coin`; all where None.
    """

    kind: str
    from_s: float = 0.0
    for_s: float | None = None
    channel: str | None = None
    request: str | None = None
    order: str | None = None
    coin: str | None = None
    every: int = 1
    times: int | None = None
    chance: float = 1.0
    ms: int = 1000
    status: int = 500
    text: str = "Insufficient margin to place order."
    share: Decimal = Decimal("0.5")
    how: str = "cut"


def _problem(fault: Fault) -> str | None:
    """Why a fault makes no sense: the field, its value and what is allowed."""
    checks: list[tuple[bool, str]] = [
        (fault.kind in KINDS, f"kind {fault.kind!r}; allowed: {', '.join(KINDS)}"),
        (fault.from_s >= 0, f"from_s {fault.from_s}; allowed: 0 or more"),
        (fault.for_s is None or fault.for_s > 0, f"for_s {fault.for_s}; allowed: above 0"),
        (fault.every >= 1, f"every {fault.every}; allowed: 1 or more"),
        (fault.times is None or fault.times >= 1, f"times {fault.times}; allowed: 1 or more"),
        (0 < fault.chance <= 1, f"chance {fault.chance}; allowed: above 0, at most 1"),
        (fault.kind == "skew" or 0 <= fault.ms <= 600_000, f"ms {fault.ms}; allowed: 0 to 600000"),
        (400 <= fault.status <= 599, f"status {fault.status}; allowed: 400 to 599"),
        (fault.share.is_finite() and 0 < fault.share < 1, f"share {fault.share}; allowed: between 0 and 1"),
        (fault.how in ("cut", "nan"), f"how {fault.how!r}; allowed: cut, nan"),
        (
            fault.order is None or fault.order in ORDER_KINDS,
            f"order {fault.order!r}; allowed: {', '.join(ORDER_KINDS)}",
        ),
        (
            fault.kind != "delay" or (fault.channel is None) != (fault.request is None),
            "delay; allowed: with one of channel and request",
        ),
    ]
    return next((text for holds, text in checks if not holds), None)


def parse_faults(body: bytes, name: str) -> list[Fault]:
    """A schedule: a JSON list of faults, or an object with that list under `faults`.

    UsageError names the source, the fault (counted from 1), the field, its value and what is allowed.
    """
    try:
        given = msgspec.json.decode(body)
    except msgspec.DecodeError as problem:
        raise UsageError(f"{name}: not JSON ({problem}); allowed: a list of faults") from None
    rows = given.get("faults") if isinstance(given, dict) and set(given) == {"faults"} else given
    if not isinstance(rows, list):
        raise UsageError(f"{name}: not a list of faults; allowed: a list, or an object with one under 'faults'")
    faults: list[Fault] = []
    for number, row in enumerate(rows, start=1):
        try:
            fault = msgspec.convert(row, type=Fault, strict=True)
        except msgspec.ValidationError as problem:
            allowed = ", ".join(Fault.__struct_fields__)
            raise UsageError(f"{name}: fault {number}: {problem}; allowed fields: {allowed}") from None
        wrong = _problem(fault)
        if wrong is not None:
            raise UsageError(f"{name}: fault {number}: {wrong}")
        faults.append(fault)
    return faults


def load_faults(path: Path) -> list[Fault]:
    """The schedule in a file; UsageError where it cannot be read."""
    try:
        return parse_faults(path.read_bytes(), str(path))
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}; allowed: a JSON file with faults") from None


class _Standing:
    """A fault with its counters and its own stream of draws."""

    def __init__(self, fault: Fault, seed: int, number: int) -> None:
        self.fault = fault
        self.seen = self.struck = 0
        self._draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 77, number])))

    def is_on(self, market_s: float) -> bool:
        fault = self.fault
        ends = fault.for_s is not None and market_s >= fault.from_s + fault.for_s
        return market_s >= fault.from_s and not ends

    def strikes(self) -> bool:
        """Count a match; whether this one is struck."""
        fault = self.fault
        self.seen += 1
        if self.seen % fault.every or (fault.times is not None and self.struck >= fault.times):
            return False
        if fault.chance < 1 and self._draws.random() >= fault.chance:
            return False
        self.struck += 1
        return True


class Faults:
    """The faults of one venue. `market_s` tells the market seconds since it first opened."""

    def __init__(self, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self.market_s: Callable[[], float] = lambda: 0.0
        self._seed = seed
        self._all: list[_Standing] = []
        self._added = 0
        self._frozen: dict[Coin, Decimal] = {}
        self.add(faults)

    def add(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            self._all.append(_Standing(fault, self._seed, self._added))
            self._added += 1

    def clear(self) -> None:
        self._all.clear()
        self._frozen.clear()

    def report(self) -> list[dict[str, object]]:
        """Every fault as it was given, with how many matched and were struck so far."""
        return [
            {**msgspec.to_builtins(one.fault), "on": one.is_on(self.market_s()), "seen": one.seen, "struck": one.struck}
            for one in self._all
        ]

    def _on(self, kinds: frozenset[str]) -> list[_Standing]:
        if not self._all:
            return []
        now = self.market_s()
        return [one for one in self._all if one.fault.kind in kinds and one.is_on(now)]

    def frame(self, channel: str, coin: str | None) -> Fault | None:
        """What happens to a frame that is about to be sent; None: nothing."""
        struck = [
            one.fault
            for one in self._on(FRAMES)
            if one.fault.request is None
            and one.fault.channel in (None, channel)
            and one.fault.coin in (None, coin)
            and one.strikes()
        ]
        return struck[0] if struck else None

    def request(self, path: str, kind: str) -> Fault | None:
        """What happens to a request for `kind` that came to `path` (info or exchange); None: nothing."""
        struck = [
            one.fault
            for one in self._on(REQUESTS)
            if one.fault.channel is None and one.fault.request in (None, "*", path, kind) and one.strikes()
        ]
        return struck[0] if struck else None

    def twists(self, orders: Sequence[Order], tags: Sequence[OrderTags]) -> list[OrderTags]:
        """What becomes of the orders of a request, one by one; an empty list where nothing does."""
        standing = self._on(ORDERS)
        twisted = list(tags)
        for row, order in enumerate(orders):
            for one in standing:
                fault = one.fault
                if fault.coin in (None, order.coin) and fault.order in (None, order.kind.value) and one.strikes():
                    twisted[row] = _twisted(twisted[row], fault)
        return twisted if twisted != list(tags) else []

    def skew_ms(self) -> int:
        """How far the venue's clock is ahead."""
        return sum(one.fault.ms for one in self._on(frozenset({"skew"})))

    def is_silent(self, coin: str | None) -> bool:
        """No market frame of this coin leaves."""
        return coin is not None and any(one.fault.coin in (None, coin) for one in self._on(frozenset({"silent"})))

    def shown(self, coin: Coin, price: Decimal) -> Decimal:
        """The price around which the book is shown: while it is frozen, that of the moment it froze."""
        if any(one.fault.coin in (None, coin) for one in self._on(frozenset({"freeze"}))):
            return self._frozen.setdefault(coin, price)
        self._frozen.pop(coin, None)
        return price


def _twisted(tags: OrderTags, fault: Fault) -> OrderTags:
    share = fault.share if fault.kind == "partial" else tags.share
    text = fault.text if fault.kind == "reject" else tags.refusal
    return replace(tags, share=share, refusal=text, is_lost=tags.is_lost or fault.kind == "lose")


def garbled(frame: str, how: str) -> str:
    """A frame that cannot be what it was: cut off, or with a number that is none.

    >>> garbled('{"px":"60000.0"}', "nan"), garbled('{"px":"60000.0"}', "cut")
    ('{"px":"NaN"}', '{"px":"6')
    """
    if how == "nan":
        return _NUMBER.sub('"NaN"', frame, count=1)
    return frame[: len(frame) // 2]
