"""The peers on real bars: what they learn from, what they are judged on, and by which rules."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aml100.bench.learning_peers import EPISODE_BARS, KINDS, learn, peer_rows, training_environment, walk_coins
from aml100.bench.learning_real import EARLIER, ENTRIES, HEADER, Fold, folds_of, sets_in
from aml100.domain.units import HOUR_MS
from aml100.evaluation.kernel import flat_positions
from aml100.evaluation.transition import STEP_DTYPE, advance

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

BARS = 4_400
GAP_AT = 3_800
"""Row of the second coin before which an hour is missing: its last test has two spans."""
MOMENT_S = 0.2


def write(folder: Path, coin: str, seed: int, gap_at: int = 0) -> None:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).standard_normal(BARS) * 0.003))
    opened = np.concatenate([close[:1], close[:-1]])
    time = 1_700_006_400_000 + np.arange(BARS, dtype=np.int64) * HOUR_MS
    if gap_at:
        time[gap_at:] += HOUR_MS
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    columns = {"time": time, "open": opened, "high": high, "low": low, "close": close, "volume": np.ones(BARS)}
    pq.write_table(pa.table(columns), folder / f"venue_perp_{coin}_1h.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bars = tmp_path / "bars"
    bars.mkdir()
    write(bars, "AAA", 0)
    write(bars, "BBB", 1, gap_at=GAP_AT)
    return bars


def last_fold(folder: Path) -> Fold:
    return folds_of(sets_in(folder)["venue_perp 1h"], ENTRIES["taker"])[-1]


class Drawn:
    """A policy that draws its actions, a generator a span, and remembers them and the first rows that it was shown."""

    def __init__(self, fold: Fold) -> None:
        self._random = [np.random.default_rng(span) for span in range(sum(len(coin.spans) for coin in fold))]
        self.actions: list[list[int]] = []
        self.first_rows: Any = None

    def predict(self, rows: dict[str, Any], state: Any, episode_start: Any, deterministic: bool) -> tuple[Any, Any]:
        assert deterministic
        lanes = len(rows["market"])
        self.first_rows = rows["market"][:, 0] if self.first_rows is None else self.first_rows
        assert rows["position"].shape[0] == len(episode_start) == lanes
        drawn = [int(random.choice(3, p=[0.9, 0.05, 0.05])) for random in self._random]
        self.actions.append(drawn)
        return np.array(drawn), state


@pytest.mark.parametrize("kind", KINDS)
def test_both_kinds_learn_and_are_walked_over_exactly_the_test(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind = tmp_path / "temp"
    left_behind.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(left_behind))
    fold = last_fold(folder)
    model = learn(kind, fold, seed=0, budget_s=MOMENT_S)
    assert model.num_timesteps > 0
    for coin, walk in zip(fold, walk_coins(model, fold), strict=True):
        times = np.concatenate([coin.market.open_ms[start:stop] for start, stop in coin.spans])
        np.testing.assert_array_equal(walk.close_ms, times + 2 * HOUR_MS)
        assert np.isfinite(walk.net).all()
    assert [len(coin.spans) for coin in fold] == [1, 2]
    assert not list(left_behind.glob("SB3*"))


def test_the_money_of_a_walk_is_the_kernels_for_the_same_actions(folder: Path) -> None:
    """Position by position through our own kernel, each span from flat and closed at its last close."""
    fold = last_fold(folder)
    policy = Drawn(fold)
    first, second = walk_coins(policy, fold)
    actions = iter(policy.actions)
    lanes = [(0, fold[0].spans[0]), (1, fold[1].spans[0]), (1, fold[1].spans[1])]
    states = [flat_positions(1) for _ in lanes]
    nets: list[list[float]] = [[] for _ in lanes]
    trades: dict[int, list[float]] = {0: [], 1: []}
    for place in range(max(stop - start for _, (start, stop) in lanes)):
        taken = next(actions)
        for lane, (number, (start, stop)) in enumerate(lanes):
            if start + place >= stop:
                continue
            step = np.zeros(1, STEP_DTYPE)
            rules, bars = fold[number].data.rules.as_record()[0], fold[number].market.bars[:stop]
            advance(bars, rules, start + place, taken[lane], states[lane][0], step[0])
            nets[lane].append(float(step[0]["net"]))
            if step[0]["exit_reason"]:
                trades[number].append(float(step[0]["closed_net"]))
    assert next(actions, None) is None
    np.testing.assert_allclose(first.net, nets[0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(second.net, nets[1] + nets[2], rtol=0, atol=1e-15)
    for number, walk in enumerate((first, second)):
        np.testing.assert_allclose(np.sort(walk.trade_nets), np.sort(trades[number]), rtol=0, atol=1e-15)
        assert len(trades[number]) > 10
        assert walk.net.sum() == pytest.approx(sum(trades[number]), abs=1e-12)


def test_what_is_walked_is_scaled_by_the_training_part_alone(folder: Path) -> None:
    fold = last_fold(folder)
    policy = Drawn(fold)
    walk_coins(policy, fold)
    begun = [(coin, start) for coin in fold for start, _ in coin.spans]
    for (coin, start), shown in zip(begun, policy.first_rows, strict=True):
        frame = coin.frame
        known = frame.values[: coin.train_stop][frame.valid[: coin.train_stop]]
        moves = known.std(axis=0) > 1e-9  # the volume never does
        expected = (frame.values[start] - known.mean(axis=0))[moves] / known.std(axis=0)[moves]
        np.testing.assert_allclose(shown[moves], np.clip(expected, -8.0, 8.0), rtol=1e-5, atol=1e-6)
        assert moves.sum() > 20


def test_episodes_come_from_the_training_part_and_what_is_tested_may_be_anything(folder: Path) -> None:
    fold = last_fold(folder)
    pooled = training_environment(fold)
    other = training_environment(tuple(replace(coin, data=replace(coin.data, series=altered(coin))) for coin in fold))
    played: set[int] = set()
    for episode in range(12):
        seen, info = pooled.reset(seed=episode)
        again, info_again = other.reset(seed=episode)
        number = pooled._parts.index(pooled._now)
        played.add(number)
        coin, row, bars = fold[number], info["row"], 0
        assert info == info_again
        ended = False
        while not ended:
            assert row + bars < coin.train_stop
            np.testing.assert_array_equal(seen["market"], again["market"])
            seen, reward, terminated, truncated, _ = pooled.step(bars % 3)
            again, reward_again, *_ = other.step(bars % 3)
            assert reward == reward_again
            bars, ended = bars + 1, terminated or truncated
        assert bars <= EPISODE_BARS
    assert played == {0, 1}


def altered(coin: Any) -> Any:
    """The coin's series with other prices from where its test begins."""
    series, late = coin.data.series, np.arange(len(coin.data.series)) >= coin.train_stop
    prices = {name: np.where(late, 3.0 * getattr(series, name), getattr(series, name)) for name in
              ("open", "high", "low", "close")}  # fmt: skip
    return replace(series, **prices)


def test_the_table_has_the_columns_of_the_learners(folder: Path) -> None:
    rows = list(peer_rows(folder, seeds=1, budget_s=0.05, only="venue_perp"))
    names = [f"{kind}, {which} of 1 seeds" for kind in KINDS for which in ("median", "worst")]
    assert [row[HEADER.index("policy")] for row in rows] == names
    for row in rows:
        assert len(row) == len(HEADER)
        assert row[:3] == ("venue_perp 1h", "taker", "2")
        days = (BARS + 1) // 24 - (BARS // 2 + 2) // 24 + 1  # the first bar opens at midnight; a step ends 2 bars on
        assert int(row[HEADER.index("test days")]) == days
    assert not list(peer_rows(folder, seeds=1, budget_s=0.05, only="venue_spot"))


def test_the_quarter_before_can_be_asked_for(folder: Path) -> None:
    rows = list(peer_rows(folder, seeds=1, budget_s=0.05, only="venue_perp", edges=EARLIER))
    days = (BARS // 2 + 1) // 24 - (BARS // 4 + 2) // 24 + 1
    assert {int(row[HEADER.index("test days")]) for row in rows} == {days}
