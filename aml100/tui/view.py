"""What a screen is given to paint: the newest snapshot, how old it is, and what the operator has asked for.

Everything here is frozen. A painter that gets the same view paints the same lines; that is what the tests rest on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from aml100.control.protocol import Snapshot
from aml100.tui import figures
from aml100.tui.ink import Line, emphasised, line


class LinkState(StrEnum):
    """The line to the engine. STALE: it is connected and silent, so the engine hangs; OFFLINE: nobody is there."""

    CONNECTING = "CONNECTING"
    LIVE = "LIVE"
    STALE = "STALE"
    OFFLINE = "OFFLINE"


class Link(msgspec.Struct, frozen=True):
    """`age_s` of the newest snapshot in wall seconds, None before the first. `controller`: commands are accepted."""

    state: LinkState
    age_s: float | None = None
    detail: str = ""
    controller: bool = True


class Outcome(StrEnum):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Operation(msgspec.Struct, frozen=True):
    """One command on its way; `since_s` is monotonic time of its last change."""

    number: int
    command: str
    outcome: Outcome
    text: str
    since_s: float


class Replay(msgspec.Struct, frozen=True):
    """A recorded frame on screen: its wall time, and the recording's span."""

    frame_ms: int
    first_ms: int
    last_ms: int


class Prices(msgspec.Struct, frozen=True):
    """The latest closes of one coin, (open_ms, close), oldest first."""

    coin: str
    points: tuple[tuple[int, float], ...] = ()


class View(msgspec.Struct, frozen=True):
    """One frame's worth of facts.

    `beat` counts the console's own frames: it moves while the console lives, whatever the engine does. `chart_no`
    changes at most once a second, on slow links less often; charts are drawn anew only then. `notice` is a line from
    the console itself.
    """

    snapshot: Snapshot | None
    link: Link
    read_only: bool = False
    ascii: bool = False
    beat: int = 0
    chart_no: int = 0
    operations: tuple[Operation, ...] = ()
    notice: str = ""
    seen_ms: int = 0
    """Wall time at which the console before this one left; 0 where nobody watched before."""
    came_ms: int = 2**62
    """Wall time at which this one came: what was raised since then has not been missed."""
    keys: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Keys that were remapped, by command id."""
    prices: Prices | None = None
    """What the price chart shows where the operator chose a coin; None: the engine's choice."""
    fresh: frozenset[str] = frozenset()
    """What changed a moment ago, by the names of `freshness.facts_of`."""
    replay: Replay | None = None
    """Where in the past `snapshot` is taken from; None: it is the newest one."""

    def role(self, role: str, *facts: str) -> str:
        """The role, emphasised while one of the facts is fresh."""
        return emphasised(role) if any(fact in self.fresh for fact in facts) else role

    @property
    def age_note(self) -> Line:
        """STALE or OFFLINE with the age of what is shown; empty while it is fresh."""
        if self.snapshot is None or self.link.state is LinkState.LIVE:
            return ()
        word = "OFFLINE" if self.link.state is not LinkState.STALE else "STALE"
        return line((f"{word} {figures.span(self.link.age_s)}", "warn"))


CALM: Final = View(None, Link(LinkState.LIVE))
"""For what is painted outside a frame: nothing in it is fresh."""

Painter: TypeAlias = Callable[[View, int, int], list[Line]]
"""Lines for a view in a width and a height of cells."""


def coins_of(snapshot: Snapshot) -> tuple[str, ...]:
    """The coins of the engine, in its own order."""
    return tuple(dict.fromkeys(one.coin for one in snapshot.feeds))
