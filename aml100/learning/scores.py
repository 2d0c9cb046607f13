"""The figures of a policy in money, its score, and the named checks of its health. Free of torch.

A checkpoint's score is its net return less some standard errors, in units of notional: never trading scores exactly 0,
so a checkpoint is only preferred to doing nothing where its profit stands out of its own noise. Bars are not the only
measure of that: a position held for ten thousand of them is one bet, and proves no more than one (`net_noise`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from aml100.domain.units import DAY_MS, HOUR_MS
from aml100.learning.acting import Walk
from aml100.learning.probing import Letting
from aml100.market.series import Floats

CORRELATED_BLOCKS: Final = 50
PARTED_CORRELATION: Final = 0.5
"""Reward and money whose correlation is below this have parted."""
FLIPS_PER_HOUR: Final = 20.0
"""A policy that turns about more often than this trades on noise."""
EASY_ACTION_SHARE: Final = 0.98
LEFT_SHARE: Final = 0.05
"""A policy that leaves positions far ahead on fewer of the bars on which it leaves young ones is caught in them."""
FEWEST_LEFT: Final = 40
"""Bars on which young ones are left, so that none where two were to be expected is no chance."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What the greedy policy earned on the validation part, after fees, funding and slippage.

    `net_return` and its noise `net_stderr` on one unit of notional a coin, summed over bars and coins; `win_rate_frac`
    and `profit_factor` are None where nothing stands under them; shares of actions sum to 1.

    `reward` is what the learner's reward summed up to on the same steps, in reward units, `reward_correlation` the
    correlation of the two over CORRELATED_BLOCKS stretches of time, None where nothing moved. `daily` holds the net
    return of each UTC day that lies wholly inside, summed over coins. `entropy` of the action shares in bits,
    `q_spread` the mean distance of best and worst Q, `flips_per_hour` how often BUY follows on SELL or the reverse
    (HOLDs between passed over), `sees_market` whether the action ever differs between bars where the same side is held.
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
    reward: float = 0.0
    reward_correlation: float | None = None
    daily: tuple[float, ...] = ()
    entropy: float = 0.0
    q_spread: float = 0.0
    flips_per_hour: float = 0.0
    sees_market: bool = True


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
    reward = np.concatenate([walk.reward for walk in walks])
    q = np.concatenate([walk.q for walk in walks])
    won, lost = trades[trades > 0.0].sum(), -trades[trades < 0.0].sum()
    stderr = net_noise(net, trades)
    total = float(net.sum())
    shares = np.bincount(actions, minlength=3) / max(1, len(actions))
    hours = sum(float(walk.close_ms[-1] - walk.close_ms[0]) for walk in walks if len(walk.close_ms)) / HOUR_MS
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
        largest_q=float(np.abs(q).max()),
        reward=float(reward.sum()),
        reward_correlation=correlation_of(reward, net),
        daily=tuple(daily_returns(walks).tolist()),
        entropy=entropy_of(shares),
        q_spread=float((q.max(axis=1) - q.min(axis=1)).mean()),
        flips_per_hour=sum(flips_of(walk.actions) for walk in walks) / hours if hours > 0.0 else 0.0,
        sees_market=_sees_market(actions, np.concatenate([walk.sides for walk in walks])),
    )


def net_noise(net: Floats, trades: Floats) -> float:
    """The standard error of what bars [n] and the trades [m] that they make up sum to: the larger of the two.

    That of trades is taken about zero, as if they had no edge, which holds for few of them too: their sum is never more
    than sqrt(m) of it. So a single trade stands out by one at most, whatever it earned, and five are the fewest that
    can stand out by two.

    >>> round(net_noise(np.array([0.1, 0.2, 0.1, 0.2]), np.array([0.6])), 6)
    0.6
    >>> round(net_noise(np.array([0.1, -0.1, 0.1, -0.1]), np.array([0.01] * 4)), 6)
    0.2
    """
    of_bars = float(net.std() * math.sqrt(len(net)))
    return max(of_bars, math.sqrt(float(np.square(trades).sum())))


def correlation_of(reward: Floats, net: Floats) -> float | None:
    """Correlation of two streams [n] over blocks of time; None where one of them does not move."""
    blocks = min(CORRELATED_BLOCKS, len(net))
    if blocks < 3:
        return None
    sums = [np.array([part.sum() for part in np.array_split(stream, blocks)]) for stream in (reward, net)]
    if min(float(one.std()) for one in sums) <= 1e-12:
        return None
    return float(np.corrcoef(np.stack(sums))[0, 1])


def daily_returns(walks: Sequence[Walk]) -> Floats:
    """Net return of each whole UTC day that any walk covers, summed over walks; days without one are left out."""
    totals: dict[int, float] = {}
    for walk in walks:
        if not len(walk.close_ms):
            continue
        day = (walk.close_ms - 1) // DAY_MS
        first, last = int(day[0]), int(day[-1])
        sums = np.bincount(day - first, weights=walk.net)
        whole = set((np.unique(day)).tolist()) - {first, last}
        for number in sorted(whole):
            totals[number] = totals.get(number, 0.0) + float(sums[number - first])
    return np.array([totals[number] for number in sorted(totals)], np.float64)


def entropy_of(shares: Floats) -> float:
    """Entropy of action shares in bits: 0 for one action only, log2(3) for all three alike.

    >>> entropy_of(np.array([0.5, 0.5, 0.0]))
    1.0
    """
    present = shares[shares > 0.0]
    return max(0.0, float(-(present * np.log2(present)).sum()))


def flips_of(actions: npt.NDArray[np.int8]) -> int:
    """How often BUY follows on SELL or the reverse, HOLDs between passed over.

    >>> flips_of(np.array([1, 0, 1, 2, 0, 1], np.int8))
    2
    """
    wanted = actions[actions != 0]
    return int(np.count_nonzero(wanted[1:] != wanted[:-1]))


def _sees_market(actions: npt.NDArray[np.int8], sides: npt.NDArray[np.int8]) -> bool:
    """Whether what is decided differs between bars where the same side is held."""
    return any(len(np.unique(actions[sides == side])) > 1 for side in (-1, 0, 1))


def policy_health(
    chosen: Validation, best_score: float, weights_finite: bool, gamma: float, letting: Letting
) -> tuple[HealthFinding, ...]:
    """Named checks before a model may be promoted.

    Args:
        chosen: validation of the chosen checkpoint.
        best_score: the best score that any epoch reached; above 0 there was an edge to be had.
        weights_finite: no weight is NaN or infinite.
        gamma: rewards are about unit size, so |Q| far beyond 10 / (1 - gamma) has come loose from them.
        letting: whether it leaves positions that are far ahead.
    """
    limit = 10.0 / (1.0 - gamma)
    one_sided = max(chosen.buy_share, chosen.sell_share)
    finite = weights_finite and math.isfinite(chosen.largest_q) and math.isfinite(chosen.net_return)
    return (
        HealthFinding("not_finite", finite, "weights, Q values and profit are finite numbers"),
        HealthFinding(
            "constant_action",
            one_sided < EASY_ACTION_SHARE,
            f"most frequent of buy and sell: {one_sided:.1%} of decisions; entropy {chosen.entropy:.2f} bits",
        ),
        HealthFinding(
            "ignores_market",
            chosen.sees_market or chosen.trades == 0,
            "with the same side held the action " + ("differs between bars" if chosen.sees_market else "is always one"),
        ),
        HealthFinding(
            "never_trades",
            chosen.trades > 0 or best_score <= 0.0,
            f"{chosen.trades} trades in {chosen.bars} bars; best score of any epoch {best_score:.4f}",
        ),
        HealthFinding(
            "flips",
            chosen.flips_per_hour <= FLIPS_PER_HOUR,
            f"{chosen.flips_per_hour:.2f} turns an hour between buy and sell, limit {FLIPS_PER_HOUR:.0f}",
        ),
        HealthFinding(
            "exploding_q",
            chosen.largest_q <= limit,
            f"largest |Q| {chosen.largest_q:.1f}, limit {limit:.0f}; mean spread {chosen.q_spread:.3f}",
        ),
        _letting_finding(letting),
        _reward_finding(chosen),
        HealthFinding("no_edge", chosen.score > 0.0, f"net return less its noise {chosen.score:.4f}; never trading 0"),
    )


def _letting_finding(letting: Letting) -> HealthFinding:
    """A position far ahead is left on about as many bars as a young one, which says nothing where those are few."""
    sides = list(zip(("long", "short"), letting.young, letting.ahead, strict=True))
    side, young, ahead = min(sides, key=lambda one: one[2] / one[1] if one[1] >= FEWEST_LEFT else math.inf)
    if young < FEWEST_LEFT:
        few = f"young positions are left on few of {letting.asked} bars, too"
        return HealthFinding("never_leaves", True, few if letting.asked else "the rules end what is far ahead")
    return HealthFinding(
        "never_leaves",
        ahead >= LEFT_SHARE * young,
        f"a {side} that is far ahead is left on {ahead} of {letting.asked} bars, a young one on {young}",
    )


def _reward_finding(chosen: Validation) -> HealthFinding:
    """B16: the reward and the money that it stands for tell the same story."""
    known = chosen.reward_correlation
    paid_to_lose = chosen.reward > 0.0 and chosen.net_return < 0.0 and chosen.trades > 0
    parted = known is not None and known < PARTED_CORRELATION
    shown = "n/a" if known is None else f"{known:.2f}"
    return HealthFinding(
        "reward_parts_from_money",
        not (paid_to_lose or parted),
        f"reward {chosen.reward:+.2f} beside a net return of {chosen.net_return:+.4f}; correlation {shown}",
    )
