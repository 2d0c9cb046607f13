"""What is measured and against whom: trials, figures, goals, peers.

A *trial* prepares something of ours once and then measures it several times; each of its *peers* does the same in a
process of its own, and the two take turns, so that a machine that others use disturbs both alike. A trial yields one
or more *figures*, each with its *goals*: to be so many times better than a peer, or than a fixed limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

PEER_SCRIPTS: Final = Path(__file__).parent / "peers"

Readings: TypeAlias = Mapping[str, float]
"""One repetition's result: values by figure key, in the figures' units."""

Sample: TypeAlias = Callable[[], float | Readings]
"""Measures once; a bare number is the first figure's."""

Prepare: TypeAlias = Callable[[Path], AbstractContextManager[Sample]]
"""Builds what is measured, given an empty folder for inputs; the peers start after it and get the same folder."""

State: TypeAlias = Literal["met", "missed", "absent", "failed", "shown"]
"""Of a goal. `absent` and `failed` (the peer, or ours) leave it open; `shown` has no goal, nor has a figure that is
`absent` for want of what it needs."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another project that does the same work."""

    name: str
    script: str
    """File in peers/, run as `PYTHON SCRIPT FOLDER ARGUMENTS...`; see peers/serve.py for what it answers."""
    environment: str | None = None
    """Folder of its Python environment (see environments.py); None where ours has what it needs."""
    arguments: tuple[str, ...] = ()
    timeout_s: float = 300.0
    """To get ready (imports, compilation, warm-up), and for one answer."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Be `at_least` times better than `peer` (its name), or than the fixed `limit` in the figure's unit."""

    at_least: float
    peer: str | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a trial. Without goals it is shown only."""

    name: str
    unit: str
    goals: tuple[Goal, ...] = ()
    key: str = ""
    """Under which readings hold it; "" is the bare number."""
    less_is_better: bool = False
    needs: str = ""
    """What the machine must have; where no repetition has a reading the figure is `absent`, and this is why."""


@dataclass(frozen=True, slots=True)
class Trial:
    """`budget` is the id in the table of budgets (P1 ...)."""

    budget: str
    prepare: Prepare
    figures: tuple[Figure, ...]
    peers: tuple[Peer, ...] = ()
    repetitions: int = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One figure against one peer or limit; `ratio` is how many times better ours is, above 1 for better."""

    name: str
    unit: str
    ours: float | None
    """None where ours failed or is absent; `note` says why."""
    peer: float | None
    peer_name: str | None
    ratio: float | None
    goal: float | None
    state: State
    low: float | None
    high: float | None
    """Worst and best ratio among the single repetitions."""
    note: str = ""

    def document(self) -> dict[str, Any]:
        """As `bench --json` prints it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer,
            "peer_name": self.peer_name,
            "ratio": self.ratio,
            "goal": self.goal,
            "state": self.state,
            "ratio_low": self.low,
            "ratio_high": self.high,
            "note": self.note,
        }


def reading(readings: float | Readings, key: str) -> float | None:
    """The figure's value in one repetition, None where it was not measured.

    >>> reading(3, ""), reading({"p50": 2.0}, "p50"), reading({"p50": 2.0}, "p99"), reading(3, "p50")
    (3.0, 2.0, None, None)
    """
    if isinstance(readings, Mapping):
        return readings.get(key)
    return float(readings) if key == "" else None
