"""What has just changed, so that an eye that was elsewhere finds it: underlined for a moment (GUARANTEES C40).

Only facts that change seldom and matter count: the state, a position and its protection, a closed trade, a verdict, a
stream, the model. Prices, ages and clocks move all the time and would only make the screen flicker. An underline reads
without colour as well; on a slow line there is none, since it costs two repaints.
"""

from __future__ import annotations

from typing import Final

from aml100.control.protocol import Snapshot

LASTS_S: Final = 2.0
SLOWEST_FPS: Final = 1.0
"""Below it a frame lasts too long for an emphasis to be taken off in time."""


class Freshness:
    """Remembers the facts of the last snapshot, and until when each change is emphasised."""

    def __init__(self) -> None:
        self._seen: Snapshot | None = None
        self._facts: dict[str, object] = {}
        self._until_s: dict[str, float] = {}

    def of(self, snapshot: Snapshot | None, now_s: float) -> frozenset[str]:
        """Names of the facts that changed within `LASTS_S`; at the first snapshot nothing has."""
        if snapshot is not None and snapshot is not self._seen:
            facts = facts_of(snapshot)
            if self._seen is not None:
                changed = (name for name, value in facts.items() if self._facts.get(name) != value)
                self._until_s.update(dict.fromkeys(changed, now_s + LASTS_S))
            self._seen, self._facts = snapshot, facts
        self._until_s = {name: until_s for name, until_s in self._until_s.items() if until_s > now_s}
        return frozenset(self._until_s)


def facts_of(snapshot: Snapshot) -> dict[str, object]:
    """What is watched, by name; painters ask for these names."""
    facts: dict[str, object] = {
        "state": snapshot.state,
        "cycles": (snapshot.phase.name, snapshot.phase.cycles_done),
        "trades": snapshot.performance.trades,
        "model": snapshot.model.id,
    }
    for objective in snapshot.phase.objectives:
        facts[f"objective {objective.name}"] = objective.state
    for position in snapshot.positions:
        facts[f"position {position.coin}"] = (position.size, position.entry_price)
        facts[f"target {position.coin}"] = position.target_price
        facts[f"stop {position.coin}"] = position.stop_price
        facts[f"protection {position.coin}"] = position.protected
    for feed in snapshot.feeds:
        facts[f"feed {feed.coin} {feed.channel}"] = feed.state
    return facts
