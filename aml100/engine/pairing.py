"""A challenger's shadow against the champion: both walks over the same bars, and what the difference is worth.

The shadow is judged after its length, and where the lead is there but not told from luck, after twice and four times of
it (`evaluation.lead`). A lead that would take far longer is given up, so that the next model gets its turn. Against
nobody there is nothing to be told apart: a first model need have earned something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec

from aml100.control.protocol import ShadowView
from aml100.domain.units import DAY_MS, MINUTE_MS
from aml100.evaluation.lead import FUTILE, LOOKS, lead_of, windows_needed
from aml100.training.messages import HoldOutResult
from aml100.training.shadow import ModelWalk

NOBODY = "nobody"
BLOCKS = 24
"""In one length of the shadow, where it has so many bars."""


@dataclass(frozen=True, slots=True)
class ShadowRules:
    """How long a challenger is tried, and with what chance luck alone may promote it; at 1 any lead does."""

    bars: int
    level: float = 0.05
    interval_ms: int = MINUTE_MS

    @property
    def block_bars(self) -> int:
        return max(1, self.bars // BLOCKS)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one look."""

    verdict: Literal["promote", "refuse", "go on"]
    why: str


class Pairing(msgspec.Struct):
    """Sums of both walks over the bars of a shadow, and the differences of its blocks. Nets on one unit of notional."""

    champion: str
    hold_out: HoldOutResult | None
    bars: int = 0
    ours: float = 0.0
    theirs: float = 0.0
    squares: float = 0.0
    block_bars: int = 1
    blocks: list[float] = []
    in_block: int = 0
    block: float = 0.0
    looks: int = 0

    def take(self, ours: float, theirs: float) -> None:
        """One bar's nets of challenger and champion."""
        self.bars += 1
        self.ours += ours
        self.theirs += theirs
        self.squares += (ours - theirs) ** 2
        self.block += ours - theirs
        self.in_block += 1
        if self.in_block >= self.block_bars:
            self.blocks.append(self.block)
            self.in_block, self.block = 0, 0.0

    @property
    def lead(self) -> float:
        """What the challenger earned more."""
        return self.ours - self.theirs

    @property
    def sigmas(self) -> float:
        """The lead in standard errors of single bars; 0 while the two never differed."""
        if self.bars < 2:
            return 0.0
        variance = (self.squares - self.lead**2 / self.bars) / (self.bars - 1) * self.bars
        return self.lead / math.sqrt(variance) if variance > 1e-18 else 0.0

    def is_due(self, rules: ShadowRules) -> bool:
        """Whether it is time for the next look."""
        return self.bars >= rules.bars * LOOKS[min(self.looks, len(LOOKS) - 1)]

    def look(self, rules: ShadowRules) -> Outcome:
        """Judge the shadow as it stands; to be called once when it `is_due`."""
        self.looks += 1
        if self.lead <= 0.0:
            return Outcome("refuse", "lost against the champion")
        if self.ours <= 0.0:
            return Outcome("refuse", "earned nothing")
        if self.champion == NOBODY or rules.level >= 1.0:
            return Outcome("promote", "")
        lead = lead_of(self.blocks)
        if lead.chance is not None and lead.chance <= rules.level / len(LOOKS):
            return Outcome("promote", f"luck alone brings this lead with probability {lead.chance:.3f}")
        luck = "cannot be told from luck" + ("" if lead.chance is None else f" (probability {lead.chance:.2f})")
        more = windows_needed(lead, rules.level)
        days = None if more is None else (more - 1.0) * self.bars * rules.interval_ms / DAY_MS
        if days is not None:
            luck += f", {days:.1f} days to go if it stays so"
        longest = rules.bars * LOOKS[-1]
        if self.looks >= len(LOOKS) or more is None or more * self.bars > FUTILE * longest:
            return Outcome("refuse", f"its lead {luck}")
        return Outcome("go on", f"its lead {luck}")

    def words(self) -> str:
        """For the reason of a promotion or a refusal."""
        return (
            f"shadow {self.ours:+.2%} against {self.theirs:+.2%} of one notional over {self.bars} bars"
            f" ({self.sigmas:+.1f} sigmas)"
        )

    def record(self, walk: ModelWalk) -> dict[str, object]:
        """What the decision rests on, for the journal."""
        lead = lead_of(self.blocks)
        return {
            "champion": self.champion,
            "bars": self.bars,
            "net": self.ours,
            "champion_net": self.theirs,
            "sigmas": self.sigmas,
            "blocks": lead.blocks,
            "t": None if lead.t is None or math.isinf(lead.t) else lead.t,
            "chance": lead.chance,
            "looks": self.looks,
            "trades": walk.trades,
            "since_ms": walk.since_ms,
            "hold_out": None if self.hold_out is None else msgspec.to_builtins(self.hold_out),
        }


class ShadowState(msgspec.Struct, frozen=True):
    """A shadow as it is saved with each bar."""

    walk: bytes
    pairing: Pairing


def shadow_view(walk: ModelWalk, pairing: Pairing, rules: ShadowRules) -> ShadowView:
    """The shadow under way, in percent of one notional."""
    return ShadowView(
        id=walk.bundle.id,
        since_ms=walk.since_ms,
        bars=pairing.bars,
        bars_needed=rules.bars * LOOKS[min(pairing.looks, len(LOOKS) - 1)],
        trades=walk.trades,
        net_pct=pairing.ours * 100,
        champion_id=pairing.champion,
        champion_net_pct=pairing.theirs * 100,
        note=f"lead {pairing.sigmas:+.1f} sigmas" + (f", look {pairing.looks + 1}" if pairing.looks else ""),
    )
