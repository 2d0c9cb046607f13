"""How the running system stands, as pure functions: its policy's health, and what speaks for retraining.

Its status is judged by evaluation/standing.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from aml100.domain.orders import Action
from aml100.learning.scores import HealthFinding, Validation
from aml100.market.features import FEATURES
from aml100.market.series import Floats

FEWEST_DECISIONS: Final = 240
CONSTANT_SHARE: Final = 0.98
FLIPS_PER_HOUR: Final = 20.0
DRIFTED_SIGMAS: Final = 2.0
DRIFTED_SHARE: Final = 0.25
RESULT_SIGMAS: Final = -2.33
"""Results this far under what the hold-back of training promised happen by chance once in a hundred times."""

_CALENDAR: Final = frozenset({"day_sin", "day_cos", "week_sin", "week_cos"})
_COMPARED: Final = np.array([name not in _CALENDAR for name in FEATURES])


# --- the live policy's health -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision as health sees it."""

    action: Action
    q: tuple[float, float, float] | None


def live_health(
    decided: Sequence[Decided], interval_ms: int, gamma: float, promised: Validation | None
) -> tuple[HealthFinding, ...]:
    """Named checks of the policy's latest decisions (GUARANTEES B15); none before there are enough of them.

    Args:
        promised: what the model's training saw; with trades and a score above 0 it should trade now too.
    """
    count = len(decided)
    if count < FEWEST_DECISIONS:
        return ()
    actions = np.array([one.action.value for one in decided])
    shares = np.bincount(actions, minlength=3) / count
    wanted = actions[actions != Action.HOLD.value]
    flips = float(np.count_nonzero(np.diff(wanted))) / (count * interval_ms / 3_600_000) if len(wanted) else 0.0
    known = shares[shares > 0]
    entropy = float(-(known * np.log(known)).sum() / math.log(3))
    one_sided = float(max(shares[1], shares[2]))
    findings = [
        HealthFinding(
            "constant_action", one_sided < CONSTANT_SHARE, f"buy {shares[1]:.1%}, sell {shares[2]:.1%} of {count}"
        ),
        HealthFinding("flips", flips <= FLIPS_PER_HOUR, f"{flips:.1f} changes of side an hour, entropy {entropy:.2f}"),
    ]
    edge = promised is not None and promised.trades > 0 and promised.score > 0.0
    expected = count * promised.trades / max(promised.bars, 1) if promised is not None else 0.0
    silent = edge and len(wanted) == 0 and expected >= 10.0
    findings.append(
        HealthFinding("never_trades", not silent, f"{len(wanted)} signals in {count} bars, {expected:.0f} expected")
    )
    qs = np.array([one.q for one in decided if one.q is not None])
    if len(qs):
        limit, largest = 10.0 / (1.0 - gamma), float(np.abs(qs).max())
        spread = float((qs.max(axis=1) - qs.min(axis=1)).std())
        findings.append(HealthFinding("exploding_q", largest <= limit, f"largest |Q| {largest:.2f}, limit {limit:.0f}"))
        findings.append(HealthFinding("frozen_q", spread > 1e-9, f"spread of Q varies by {spread:.2g}"))
    return tuple(findings)


# --- what speaks for retraining -----------------------------------------------------------------------------------


def bias_of(decided: Sequence[Decided], threshold: float) -> str:
    """Why the actions are biased: one side in more than `threshold` of the decisions; empty where they are not."""
    if len(decided) < FEWEST_DECISIONS:
        return ""
    for action in (Action.BUY, Action.SELL):
        share = sum(one.action is action for one in decided) / len(decided)
        if share > threshold:
            return f"{action.name} in {share:.0%} of the last {len(decided)} decisions, {threshold:.0%} allowed"
    return ""


def feature_drift(rows: Floats, mean: Floats, inverse_sd: Floats) -> str:
    """Why the features have moved away from those trained on; empty where they have not.

    Args:
        rows: recent unscaled features [n, F]; `mean`, `inverse_sd` the model's scaler [F].
    """
    alive = _COMPARED & (inverse_sd > 0.0)
    if not len(rows) or not alive.any():
        return ""
    shift = np.abs((rows.mean(axis=0) - mean) * inverse_sd)
    moved = alive & (shift > DRIFTED_SIGMAS)
    share = float(moved.sum() / alive.sum())
    if share <= DRIFTED_SHARE:
        return ""
    worst = sorted(np.flatnonzero(moved), key=lambda i: -shift[i])[:3]
    names = ", ".join(f"{FEATURES[i]} {shift[i]:.1f}" for i in worst)
    return f"{share:.0%} of the features lie over {DRIFTED_SIGMAS:g} sd from training: {names}"


def result_drift(bars: int, net: float, stderr: float, promised: Validation) -> str:
    """Why live results contradict what training promised; empty where they do not, or it is too early to say.

    Args:
        bars, net, stderr: of the champion's own walk since it was promoted, in training's accounting.
    """
    if bars < 2 * FEWEST_DECISIONS or promised.bars == 0 or promised.net_return <= 0.0:
        return ""
    expected = promised.net_return * bars / promised.bars
    doubt = promised.net_stderr * bars / promised.bars
    scatter = math.hypot(stderr, doubt)
    if scatter <= 0.0 or (net - expected) / scatter >= RESULT_SIGMAS:
        return ""
    return f"{net:+.2%} over {bars} bars where {expected:+.2%} was promised ({(net - expected) / scatter:+.1f} sigmas)"
