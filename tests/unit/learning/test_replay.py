"""The sum tree and prioritised draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml100.learning.replay import PrioritizedReplay, SumTree

writes = st.lists(st.tuples(st.integers(0, 12), st.floats(0, 1e6)), min_size=1, max_size=60)


@given(writes)
def test_root_is_the_sum_of_the_leaves(pairs: list[tuple[int, float]]) -> None:
    tree, plain = SumTree(13), np.zeros(13)
    for slot, value in pairs:
        tree.set(np.array([slot]), np.array([value]))
        plain[slot] = value
    assert tree.total == pytest.approx(plain.sum(), rel=1e-12)
    assert np.array_equal(tree.values(np.arange(13)), plain)


batches = st.lists(st.lists(st.tuples(st.integers(0, 12), st.floats(0, 1e6)), max_size=9), min_size=1, max_size=20)


@given(batches)
def test_many_writes_at_once_are_the_same_as_one_after_the_other(written: list[list[tuple[int, float]]]) -> None:
    together, single = SumTree(13), SumTree(13)
    for batch in written:
        together.set(np.array([slot for slot, _ in batch], np.int64), np.array([value for _, value in batch]))
        for slot, value in batch:
            single.set(np.array([slot]), np.array([value]))
    assert np.array_equal(together.tree, single.tree)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20), st.floats(0, 1, exclude_max=True))
def test_a_point_of_the_cumulated_values_finds_its_slot(values: list[float], share: float) -> None:
    tree = SumTree(len(values))
    tree.set(np.arange(len(values)), np.array(values))
    slot = int(tree.find(np.array([share * tree.total]))[0])
    below = sum(values[:slot])
    assert below - 1e-9 <= share * sum(values) <= below + values[slot] + 1e-9


def test_priorities_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        SumTree(2).set(np.array([0]), np.array([np.nan]))


def test_a_td_error_that_is_no_number_is_refused_and_changes_nothing() -> None:
    replay = PrioritizedReplay(4, alpha=0.5)
    replay.update(replay.add(2), np.array([4.0, 16.0]))
    before = replay.total
    with pytest.raises(ValueError, match="finite"):
        replay.update(np.array([0, 1]), np.array([1.0, np.nan]))
    assert replay.total == before


def test_draws_of_many_priorities_come_as_often_as_their_share() -> None:
    priorities = np.random.default_rng(3).gamma(1.0, 2.0, 3000)
    replay = PrioritizedReplay(3000, alpha=1.0)
    replay.update(replay.add(3000), priorities)
    random, counts = np.random.default_rng(4), np.zeros(3000)
    for _ in range(400):
        counts += np.bincount(replay.sample(64, 0.4, random).slots, minlength=3000)
    expected = priorities / priorities.sum() * counts.sum()
    # sums of independent 0/1 draws: no further off than chance allows, slot by slot and in the whole
    assert np.all(np.abs(counts - expected) < 6.0 * np.sqrt(expected + 1.0))
    assert np.sum((counts - expected) ** 2 / (expected + 1e-3)) < 3000 * 1.2


def test_alpha_is_applied_once() -> None:
    replay = PrioritizedReplay(4, alpha=0.5)
    replay.update(replay.add(2), np.array([4.0, 16.0]))
    assert replay.total == pytest.approx(2.0 + 4.0, rel=1e-5)


def test_draws_follow_priorities_and_weights_undo_them() -> None:
    replay = PrioritizedReplay(2, alpha=1.0)
    replay.update(replay.add(2), np.array([1.0, 3.0]))
    drawn = replay.sample(4000, beta=1.0, random=np.random.default_rng(0))
    assert np.mean(drawn.slots == 1) == pytest.approx(0.75, abs=0.001)  # stratified: nearly exact
    # probabilities 1/4 and 3/4 of 2 slots: weights 1 / 0.5 and 1 / 1.5, over the larger
    assert drawn.weights[drawn.slots == 0] == pytest.approx(1.0)
    assert drawn.weights[drawn.slots == 1] == pytest.approx(1 / 3, rel=1e-5)


def test_new_entries_are_sure_to_be_seen_and_the_oldest_gives_way() -> None:
    replay = PrioritizedReplay(3, alpha=1.0)
    replay.update(replay.add(3), np.array([0.0, 0.0, 9.0]))
    assert replay.add(2).tolist() == [0, 1]
    assert len(replay) == 3
    assert replay.total == pytest.approx(27.0, rel=1e-5)  # new ones at the largest priority yet


def test_replay_goes_on_from_its_saved_state() -> None:
    first, second = PrioritizedReplay(8, 0.6), PrioritizedReplay(8, 0.6)
    first.update(first.add(5), np.arange(5.0))
    second.restore(first.export_state())
    draws = [r.sample(6, 0.4, np.random.default_rng(1)).slots.tolist() for r in (first, second)]
    assert draws[0] == draws[1]
    assert first.add(4).tolist() == second.add(4).tolist()
