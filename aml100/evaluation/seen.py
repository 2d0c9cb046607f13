"""What a model was made from, held against the bars that it is judged on: nothing is claimed of bars it has seen.

Times decide, not files or coins: markets move together, and a file may go by another name. Only made-up markets are
told apart by their origin, since all of them may begin at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aml100.domain.market import Bar
from aml100.domain.units import iso_utc
from aml100.evaluation.metrics import Flags, Ints, RunRecord

_MADE_UP: Final = "synthetic"
NO_MODEL: Final = "n/a (no model)"
UNKNOWN: Final = "n/a (the model does not say what it was made from)"


@dataclass(frozen=True, slots=True)
class Seen:
    """The bars of a model's training and validation, of all its coins: [from_ms, to_ms), and their origins."""

    from_ms: int
    to_ms: int
    origin: str

    def among(self, open_ms: Ints, origin: str) -> Flags:
        """Which of these bars of one origin were seen, bool [n]."""
        return (open_ms >= self.from_ms) & (open_ms < self.to_ms) & self.is_of(origin)

    def holds(self, bar: Bar) -> bool:
        """Whether this bar was seen."""
        return self.from_ms <= bar.open_ms < self.to_ms and self.is_of(bar.origin)

    def is_of(self, origin: str) -> bool:
        """Whether a market may be the one that was seen: a made-up one is only itself."""
        ours, theirs = _names(self.origin), _names(origin)
        return bool(ours & theirs) or not any(name.startswith(_MADE_UP) for name in ours | theirs)


def sample_facts(record: RunRecord, since_ms: int, seen: Seen | None) -> dict[str, float | int | str | None]:
    """What of a run's bars from `since_ms` on, where trading begins, its model was made from: parts of metrics.json.

    `in_sample_share` of None is not known, or not asked of who is no model; `in_sample_until` is the time, in ms, from
    which on no bar was seen.
    """
    facts: dict[str, float | int | str | None] = {"in_sample_share": None, "in_sample_until": None}
    if seen is None:
        return facts | {"in_sample_note": NO_MODEL if record.model is None else UNKNOWN}
    judged = record.open_ms[record.open_ms >= since_ms]
    share = float(seen.among(judged, record.data_origin).mean()) if len(judged) else 0.0
    span = f"the model was made from bars of {iso_utc(seen.from_ms)} to {iso_utc(seen.to_ms)}"
    return {
        "in_sample_share": share,
        "in_sample_until": seen.to_ms,
        "in_sample_note": f"{span}, {f'{share:.1%}' if share else 'none'} of these",
    }


def is_out_of_sample(document: Mapping[str, object]) -> bool:
    """Whether what metrics.json tells of may have been skill: no hindsight, and no bar that the model was made from.

    A document that says nothing of it (of an older version, or not ours) is taken at its word.
    """
    if document.get("policy") == "oracle":
        return False
    if document.get("policy") != "model" or "in_sample_share" not in document:
        return True
    return document["in_sample_share"] == 0.0


def _names(origins: str) -> set[str]:
    return {name.strip() for name in origins.split(",")}
