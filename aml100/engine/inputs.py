"""Everything that ever enters a decision core, as it is recorded and read back.

A core is a function of these: how it began (rules, instruments, policies, saved state), the bars of its warm-up, what
was changed from outside, and its events. They are packed as MessagePack, each as its name and its fields.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias, get_args

import msgspec

from aml100.domain.errors import StateError
from aml100.domain.events import CoreEvent
from aml100.domain.market import Bar, Instrument
from aml100.domain.units import Coin
from aml100.trading.rules import TradingRules


@dataclass(frozen=True, slots=True)
class PolicyNote:
    """Who decides for a coin: a baseline by name and seed, or a model by id and folder; and the memory it has."""

    coin: Coin
    name: str
    seed: int
    model: str | None
    path: str | None
    memory: bytes


@dataclass(frozen=True, slots=True)
class CoreBegan:
    """A core as it was built at the start of a run, or as it stands (`is_start` False), for a replay to begin with.

    `standing`, packed, are the latest events of the kinds that a core keeps in no state: books, feeds, the time.
    `slippage` is what a market that waits for its engine worsens market fills by, a fraction; None: it waits for none.
    """

    run_id: str
    is_start: bool
    instruments: tuple[Instrument, ...]
    rules: TradingRules
    policies: tuple[PolicyNote, ...]
    salt: str
    state: bytes | None
    standing: bytes = b""
    slippage: Decimal | None = None


@dataclass(frozen=True, slots=True)
class WarmBar:
    """A bar of history that nothing was decided on."""

    bar: Bar


@dataclass(frozen=True, slots=True)
class Ready:
    """Reconciled and warm: `begin`."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class RulesChanged:
    rules: TradingRules


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """Another policy decides from here on, with the memory it was given."""

    note: PolicyNote


@dataclass(frozen=True, slots=True)
class Deposited:
    """Money that was put on the account, USD."""

    amount: Decimal


CoreInput: TypeAlias = CoreBegan | WarmBar | Ready | RulesChanged | PolicyChanged | Deposited | CoreEvent

_TYPES: Final[dict[str, type]] = {one.__name__: one for one in get_args(CoreInput)}
_encoder: Final = msgspec.msgpack.Encoder()
_outer: Final = msgspec.msgpack.Decoder(list[tuple[int, str, msgspec.Raw]])
_decoders: Final[dict[str, Any]] = {name: msgspec.msgpack.Decoder(kind) for name, kind in _TYPES.items()}


def pack(entries: Iterable[tuple[int, CoreInput]]) -> bytes:
    """Inputs with the market time at which each entered, compressed."""
    return zlib.compress(_encoder.encode([(time_ms, type(one).__name__, one) for time_ms, one in entries]), 1)


def unpack(data: bytes) -> Sequence[tuple[int, CoreInput]]:
    """The inputs again; StateError where they were recorded by a program that knew other ones."""
    try:
        return [(time_ms, _decoders[name].decode(raw)) for time_ms, name, raw in _outer.decode(zlib.decompress(data))]
    except (zlib.error, msgspec.MsgspecError, KeyError) as error:
        raise StateError(f"recorded inputs do not read ({error}); they are of another version or damaged") from None
