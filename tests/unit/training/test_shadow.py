"""Walks without orders, and the hold-out: priced as the kernel prices, saved and taken up, never trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aml100.domain.orders import Action
from aml100.domain.units import DAY_MS, HOUR_MS, MINUTE_MS, Coin
from aml100.engine.barlog import write_series
from aml100.evaluation.kernel import Market, flat_positions, step_batch
from aml100.learning.dataset import CoinData, fingerprint_of
from aml100.learning.scores import net_noise
from aml100.market.series import BarSeries, FundingSeries
from aml100.storage.importing import read_bars
from aml100.trading.policies import PolicyAnswer
from aml100.training.hold_out import purge_bars, split_for
from aml100.training.messages import DataSource, Done, HoldOut, TrainingSpec
from aml100.training.process import TrainingProcess
from aml100.training.shadow import CoinWalk, Walked, WalkRules, walk_series
from tests.unit.learning.planted import FREE_HANDED, mean_reverting, tiny_settings


class Played:
    """Plays given actions; remembers nothing else."""

    def __init__(self, actions: np.ndarray) -> None:
        self._actions = iter(actions.tolist())

    def observe(self, row: object) -> None: ...

    def decide(self, position: object, bar_ms: int) -> PolicyAnswer:
        return PolicyAnswer(Action(next(self._actions)))

    def reset(self) -> None: ...

    def policy(self) -> Played:
        """As a model hands one out."""
        return self


def walk_over(series: BarSeries, actions: np.ndarray, rules: WalkRules) -> list[float]:
    walk = CoinWalk(Played(actions), rules)  # type: ignore[arg-type]
    nets = []
    for row in range(len(series)):
        values = tuple(float(getattr(series, name)[row]) for name in ("open", "high", "low", "close"))
        nets.append(walk.take(values, int(series.open_ms[row]), series.interval_ms, np.zeros(1)))  # type: ignore[arg-type]
    return nets


def test_a_walk_earns_what_the_kernel_pays_for_the_same_actions() -> None:
    series = mean_reverting(800, 5)
    actions = np.random.default_rng(2).integers(0, 3, 800)
    rules = WalkRules(FREE_HANDED, hourly_rate=0.0001)
    nets = walk_over(series, actions, rules)
    market, state = Market.from_series(series, None, 0.0001), flat_positions(1)
    expected = [0.0]
    for row in range(799):
        step = step_batch(
            market, FREE_HANDED.as_record(), np.array([row]), state, actions[row : row + 1].astype(np.int8)
        )
        expected.append(float(step["net"][0]))
    assert nets == pytest.approx(expected, abs=1e-15)
    assert abs(sum(nets)) > 0.001


def test_an_hour_without_a_settled_rate_is_walked_at_the_configured_one() -> None:
    series = mean_reverting(800, 5)
    rules = {series.coin: WalkRules(FREE_HANDED, hourly_rate=0.0001)}
    hours = series.open_ms[series.open_ms % HOUR_MS == 0]
    partly = FundingSeries(series.coin, hours[:3], np.full(3, 0.0001))

    def walked(funding: dict[Coin, FundingSeries]) -> Walked:
        played = Played(np.random.default_rng(2).integers(0, 3, 800))
        return walk_series(played, {series.coin: series}, rules, 0, funding)  # type: ignore[arg-type]

    assert walked({series.coin: partly}).nets.tolist() == walked({}).nets.tolist()


def test_trades_of_a_walk_sum_up_to_its_bars() -> None:
    series = mean_reverting(800, 5)
    actions = np.zeros(800, np.int64)
    actions[[10, 30, 60, 80, 150]] = 1, 2, 2, 1, 2
    walked = walk_series(Played(actions), {series.coin: series}, {series.coin: WalkRules(FREE_HANDED)}, 0)  # type: ignore[arg-type]
    assert len(walked.trade_nets) == 3  # the last is open at the end
    assert walked.nets.sum() == pytest.approx(walked.trade_nets.sum(), abs=1e-12)


def test_daily_returns_are_of_whole_days_only() -> None:
    start = 1_700_006_400_000
    ends = start + np.arange(1, 3 * 1440 + 1) * MINUTE_MS - 100 * MINUTE_MS
    walked = Walked(ends, np.full(len(ends), 0.001), np.zeros(0))
    assert walked.daily_returns() == pytest.approx([1.44, 1.44])
    assert start % DAY_MS == 0


def test_e9_the_purge_is_a_day_or_longer_and_a_short_history_has_no_hold_out() -> None:
    assert purge_bars(MINUTE_MS, 3) == 1440
    assert purge_bars(15 * MINUTE_MS, 720) == 61 + 720
    assert split_for(0, 2000 * MINUTE_MS, MINUTE_MS, 720) is None
    split = split_for(0, 10_000 * MINUTE_MS, MINUTE_MS, 720)
    assert split is not None
    assert (split.train_until_ms, split.hold_out_from_ms) == (6560 * MINUTE_MS, 8000 * MINUTE_MS)


async def test_b5_the_hold_out_is_walked_and_provably_never_trained_on(tmp_path: Path) -> None:
    """The model's data fingerprint is that of the rows before the cut, whatever stands in the file behind them."""
    series = mean_reverting(2400, 4)
    (path,) = write_series(tmp_path / "job", [series])
    cut_ms, from_ms = int(series.open_ms[1400]), int(series.open_ms[1900])
    spec = TrainingSpec(
        data=(DataSource(str(path), FREE_HANDED, "TEST", until_ms=cut_ms),),
        settings=tiny_settings(epochs=1, members=3),
        seed=1,
        models=str(tmp_path / "models"),
        folder=str(tmp_path / "job"),
        hold_out=HoldOut(from_ms),
    )
    async with TrainingProcess(spec) as process:
        done = [message async for message in process.messages()][-1]
    assert isinstance(done, Done), done
    from aml100.learning.bundle import load_bundle, load_record

    kept = read_bars(path, Coin("TEST")).rows(0, 1400)
    record = load_record(Path(done.path))
    assert record.data_sha256 == fingerprint_of([CoinData(kept, FREE_HANDED)])
    assert done.hold_out is not None
    assert (done.hold_out.from_ms, done.hold_out.bars) == (from_ms, 500)
    # B17: each of its seeds is walked by itself too.
    whole = load_bundle(Path(done.path))
    rules = {Coin("TEST"): WalkRules(FREE_HANDED)}
    every = read_bars(path, Coin("TEST"))
    alone = [replace(whole, members=(one,)) for one in whole.members]
    assert done.hold_out.seeds == tuple(
        float(walk_series(one, {Coin("TEST"): every}, rules, from_ms).nets.sum()) for one in alone
    )
    assert done.hold_out.median == sorted(done.hold_out.seeds)[1]
    walked = walk_series(whole, {Coin("TEST"): every}, rules, from_ms)
    told = (done.hold_out.trades, done.hold_out.net, done.hold_out.stderr)
    assert told == (len(walked.trade_nets), float(walked.nets.sum()), net_noise(walked.nets, walked.trade_nets))
