"""A challenger's shadow against the champion: both walks over the same bars, and what the difference is worth."""

from __future__ import annotations

import math

import msgspec

from aml100.control.protocol import ShadowView
from aml100.training.messages import HoldOutResult
from aml100.training.shadow import ModelWalk


class Pairing(msgspec.Struct):
    """Sums of both walks over the bars of a shadow, and of the squared differences. Nets on one unit of notional."""

    champion: str
    hold_out: HoldOutResult | None
    bars: int = 0
    ours: float = 0.0
    theirs: float = 0.0
    squares: float = 0.0

    def take(self, ours: float, theirs: float) -> None:
        """One bar's nets of challenger and champion."""
        self.bars += 1
        self.ours += ours
        self.theirs += theirs
        self.squares += (ours - theirs) ** 2

    @property
    def lead(self) -> float:
        """What the challenger earned more."""
        return self.ours - self.theirs

    @property
    def sigmas(self) -> float:
        """The lead in standard errors; 0 while the two never differed."""
        if self.bars < 2:
            return 0.0
        variance = (self.squares - self.lead**2 / self.bars) / (self.bars - 1) * self.bars
        return self.lead / math.sqrt(variance) if variance > 1e-18 else 0.0

    def words(self) -> str:
        """For the reason of a promotion or a refusal."""
        return (
            f"shadow {self.ours:+.2%} against {self.theirs:+.2%} of one notional over {self.bars} bars"
            f" ({self.sigmas:+.1f} sigmas)"
        )

    def record(self, walk: ModelWalk) -> dict[str, object]:
        """What the decision rests on, for the journal."""
        return {
            "champion": self.champion,
            "bars": self.bars,
            "net": self.ours,
            "champion_net": self.theirs,
            "sigmas": self.sigmas,
            "trades": walk.trades,
            "since_ms": walk.since_ms,
            "hold_out": None if self.hold_out is None else msgspec.to_builtins(self.hold_out),
        }


class ShadowState(msgspec.Struct, frozen=True):
    """A shadow as it is saved with each bar."""

    walk: bytes
    pairing: Pairing


def shadow_view(walk: ModelWalk, pairing: Pairing, bars_needed: int) -> ShadowView:
    """The shadow under way, in percent of one notional."""
    return ShadowView(
        id=walk.bundle.id,
        since_ms=walk.since_ms,
        bars=pairing.bars,
        bars_needed=bars_needed,
        trades=walk.trades,
        net_pct=pairing.ours * 100,
        champion_id=pairing.champion,
        champion_net_pct=pairing.theirs * 100,
        note=f"lead {pairing.sigmas:+.1f} sigmas",
    )
