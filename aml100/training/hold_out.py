"""The purged hold-out: bars behind the last one trained on, on which a finished model and the champion are walked.

    | training, its own validation part |  purge  |  hold-out  |
                                                    now ------^

Nothing behind the purge is read by the trainer: its sources are cut before it. The purge is as long as the features
look back and a position may last, and at least a day (GUARANTEES B5, E9).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from aml100.domain.units import DAY_MS, Coin
from aml100.learning.bundle import BundleError, load_bundle
from aml100.learning.scores import net_noise
from aml100.market.features import warmup_bars
from aml100.market.series import BarSeries, FundingSeries
from aml100.storage.funding_files import read_funding
from aml100.storage.importing import read_bars
from aml100.training.messages import HoldOut, HoldOutResult, TrainingSpec
from aml100.training.shadow import WalkRules, walk_series

HOLD_OUT_SHARE: Final = 0.2
HOLD_OUT_DAYS_MAX: Final = 30
FEWEST_TRAINED: Final = 600

log = logging.getLogger("aml100.training")


@dataclass(frozen=True, slots=True)
class Split:
    """Bars that open before `train_until_ms` are trained on, those from `hold_out_from_ms` on judged by."""

    train_until_ms: int
    hold_out_from_ms: int


def purge_bars(interval_ms: int, horizon_bars: int) -> int:
    """Bars between training and hold-out: look-back plus horizon, at least a day."""
    return max(warmup_bars(interval_ms) + horizon_bars, -(-DAY_MS // interval_ms))


def split_for(first_ms: int, end_ms: int, interval_ms: int, horizon_bars: int) -> Split | None:
    """Where to cut bars over [first_ms, end_ms); None where a hold-out of a fifth leaves too few to train on."""
    bars = (end_ms - first_ms) // interval_ms
    most = HOLD_OUT_DAYS_MAX * DAY_MS // interval_ms
    judged = min(int(bars * HOLD_OUT_SHARE), most)
    trained = bars - judged - purge_bars(interval_ms, horizon_bars)
    if trained < max(FEWEST_TRAINED, judged):
        return None
    return Split(first_ms + trained * interval_ms, end_ms - judged * interval_ms)


def judge_hold_out(spec: TrainingSpec, asked: HoldOut, model: Path) -> HoldOutResult:
    """Walk the new model over its hold-out, each of its seeds alone, and the champion over the part new to it too."""
    settings = spec.settings
    series: dict[Coin, BarSeries] = {}
    rules: dict[Coin, WalkRules] = {}
    funding: dict[Coin, FundingSeries] = {}
    for source in spec.data:
        one = read_bars(Path(source.path), None if source.coin is None else Coin(source.coin))
        series[one.coin] = one
        if source.funding is not None:
            funding[one.coin] = read_funding(Path(source.funding), one.coin)
        rules[one.coin] = WalkRules(source.rules, settings.min_q_gap, source.constant_funding_rate)
    bundle = load_bundle(model)
    walked = walk_series(bundle, series, rules, asked.from_ms, funding)
    alone = [replace(bundle, members=(one,)) for one in bundle.members] if len(bundle.members) > 1 else []
    seeds = [float(walk_series(one, series, rules, asked.from_ms, funding).nets.sum()) for one in alone]
    result = HoldOutResult(
        from_ms=asked.from_ms,
        to_ms=int(walked.ends_ms[-1]) if len(walked.ends_ms) else asked.from_ms,
        bars=len(walked.nets),
        trades=len(walked.trade_nets),
        net=float(walked.nets.sum()),
        stderr=net_noise(walked.nets, walked.trade_nets) if len(walked.nets) else 0.0,
        daily_returns=tuple(walked.daily_returns().tolist()),
        seeds=tuple(seeds),
    )
    if asked.champion is None:
        return result
    try:
        champion = load_bundle(Path(asked.champion))
    except BundleError as error:
        log.warning("the champion is not walked: %s", error)
        return result
    since_ms = max(asked.from_ms, asked.champion_from_ms)
    theirs = walk_series(champion, series, rules, since_ms, funding)
    ours = walked.nets[walked.ends_ms > since_ms]
    return msgspec.structs.replace(
        result,
        common_bars=len(theirs.nets),
        common_net=float(ours.sum()),
        champion=champion.record.id,
        champion_net=float(theirs.nets.sum()),
    )
