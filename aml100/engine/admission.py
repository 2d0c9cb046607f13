"""Which model may be tried, and which may trade at all: health, hold-out, and what loads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from aml100.domain.errors import SafetyRefusal
from aml100.engine.modelbook import CHAMPION
from aml100.learning.bundle import Bundle, BundleError, load_bundle
from aml100.storage.reader import StateReader
from aml100.training.messages import Done, HoldOutResult

log = logging.getLogger(__name__)

UNSOUND: Final = frozenset({"not_finite", "exploding_q", "constant_action", "never_trades"})
"""Findings with which no model may trade, whoever asks (GUARANTEES B15)."""


def check_sound(bundle: Bundle) -> None:
    """SafetyRefusal where a finding says that this model must not trade (GUARANTEES B15)."""
    for finding in bundle.record.health:
        if not finding.healthy and finding.name in UNSOUND:
            raise SafetyRefusal(f"{bundle.id} is refused: {finding.name}: {finding.detail}")


def is_sound(done: Done) -> bool:
    """Whether nothing was found with which a model may not trade."""
    return not any(finding.name in UNSOUND for finding in done.health if not finding.healthy)


def refusal_of(done: Done, champion: Bundle | None) -> str:
    """Why a finished model is not tried in shadow; empty where it is."""
    failed = [finding for finding in done.health if not finding.healthy]
    if failed:
        return f"{failed[0].name}: {failed[0].detail}"
    return _hold_out_refusal(done.hold_out, champion)


def words_of(done: Done) -> str:
    """What a finished model earned, in one line."""
    words = f"validation net {done.validation.net_return:+.2%} of one notional"
    judged = done.hold_out
    if judged is not None:
        words += f", hold-out {judged.net:+.2%} in {judged.trades} trades over {judged.bars} bars"
        words += f" ({judged.seeds_words})" if judged.seeds else ""
    return words


def first_reason(done: Done) -> str:
    """Why a first model trades although its numbers need not show an edge."""
    failed = ", ".join(finding.name for finding in done.health if not finding.healthy)
    return f"first model on a simulated market{f' (not shown to have an edge: {failed})' if failed else ''}"


def _hold_out_refusal(judged: HoldOutResult | None, champion: Bundle | None) -> str:
    """Why the hold-out keeps a model from being tried; empty where it does not."""
    if judged is None:
        return "too few bars for a purged hold-out"
    if judged.score <= 0.0:
        return (
            f"hold-out: net {judged.net:+.2%} less its noise {judged.stderr:.2%} is not above 0, "
            f"{judged.trades} trades over {judged.bars} bars"
        )
    if judged.median <= 0.0:
        return f"hold-out: {judged.net:+.2%} together, but {judged.seeds_words}: an edge of single seeds"
    if champion is not None and judged.champion == champion.id and judged.common_bars and judged.common_net is not None:
        theirs = judged.champion_net or 0.0
        if judged.common_net <= theirs:
            return (
                f"hold-out: {judged.common_net:+.2%} where the champion has {theirs:+.2%} "
                f"over the same {judged.common_bars} bars"
            )
    return ""


def load_champion(database: StateReader, schema: str) -> tuple[Bundle | None, tuple[tuple[str, str], ...]]:
    """The newest champion, or an earlier one, whose folder is whole; none where none is (GUARANTEES D24).

    Returns: the model, and (id, why) of those that should have traded and cannot.
    """
    kept = [one for one in database.models() if one.state in (CHAMPION, "retired") and one.path]
    if not any(one.state == CHAMPION for one in kept):
        return None, ()
    damaged: list[tuple[str, str]] = []
    for version in sorted(kept, key=lambda one: (one.state == CHAMPION, one.updated_ms), reverse=True):
        try:
            return load_bundle(Path(version.path), schema=schema), tuple(damaged)
        except BundleError as error:
            log.warning("model %s is not used: %s", version.id, error)
            damaged.append((version.id, str(error)))
    return None, tuple(damaged)
