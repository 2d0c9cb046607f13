"""The figures of a policy in money, its score, and the named checks of its health. Free of torch.

A checkpoint's score is its net return less some standard errors, in units of notional: never trading scores exactly 0,
so a checkpoint is only preferred to doing nothing where its profit stands out of its own noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aml100.learning.acting import Walk


@dataclass(frozen=True, slots=True)
class Validation:
    """What the greedy policy earned on the validation part, after fees, funding and slippage.

    `net_return` and `net_stderr` on one unit of notional a coin, summed over bars and coins; `win_rate_frac` and
    `profit_factor` are None where nothing stands under them; shares of actions sum to 1.
    """

    score: float
    net_return: float
    net_stderr: float
    trades: int
    win_rate_frac: float | None
    profit_factor: float | None
    bars: int
    hold_share: float
    buy_share: float
    sell_share: float
    largest_q: float


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """One named check of a policy's health (GUARANTEES B15): `healthy` or not, and why in a few words."""

    name: str
    healthy: bool
    detail: str


def summarise(walks: Sequence[Walk], sigmas: float) -> Validation:
    """The figures of a set of walks."""
    net = np.concatenate([walk.net for walk in walks])
    trades = np.concatenate([walk.trade_nets for walk in walks])
    actions = np.concatenate([walk.actions for walk in walks])
    largest_q = max(float(np.abs(walk.q).max()) for walk in walks)
    won, lost = trades[trades > 0.0].sum(), -trades[trades < 0.0].sum()
    stderr = float(net.std() * math.sqrt(len(net)))
    total = float(net.sum())
    shares = np.bincount(actions, minlength=3) / max(1, len(actions))
    return Validation(
        score=total - sigmas * stderr,
        net_return=total,
        net_stderr=stderr,
        trades=len(trades),
        win_rate_frac=float((trades > 0.0).mean()) if len(trades) else None,
        profit_factor=float(won / lost) if lost > 0.0 else None,
        bars=len(net),
        hold_share=float(shares[0]),
        buy_share=float(shares[1]),
        sell_share=float(shares[2]),
        largest_q=largest_q,
    )


def policy_health(
    chosen: Validation, best_score: float, weights_finite: bool, gamma: float
) -> tuple[HealthFinding, ...]:
    """Named checks before a model may be promoted.

    Args:
        chosen: validation of the chosen checkpoint.
        best_score: the best score that any epoch reached; above 0 there was an edge to be had.
        weights_finite: no weight is NaN or infinite.
        gamma: rewards are about unit size, so |Q| far beyond 10 / (1 - gamma) has come loose from them.
    """
    limit = 10.0 / (1.0 - gamma)
    one_sided = max(chosen.buy_share, chosen.sell_share)
    finite = weights_finite and math.isfinite(chosen.largest_q) and math.isfinite(chosen.net_return)
    return (
        HealthFinding("not_finite", finite, "weights, Q values and profit are finite numbers"),
        HealthFinding(
            "constant_action", one_sided < 0.98, f"most frequent of buy and sell: {one_sided:.1%} of decisions"
        ),
        HealthFinding(
            "never_trades",
            chosen.trades > 0 or best_score <= 0.0,
            f"{chosen.trades} trades in {chosen.bars} bars; best score of any epoch {best_score:.4f}",
        ),
        HealthFinding(
            "exploding_q", chosen.largest_q <= limit, f"largest |Q| {chosen.largest_q:.1f}, limit {limit:.0f}"
        ),
        HealthFinding("no_edge", chosen.score > 0.0, f"net return less its noise {chosen.score:.4f}; never trading 0"),
    )
