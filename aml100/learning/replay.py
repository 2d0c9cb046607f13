"""Prioritised replay without copies: a sum tree over slots, and the arithmetic of multi-step returns.

The tree stores priority = (|TD error| + EPSILON) ** alpha; alpha is applied here, once, when a priority enters. What a
slot means is its owner's business: the trainer keeps stretches of bars there (a start row and the positions met), the
benchmarks single transitions. Nothing is copied into windows; a sample is a set of slot numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

EPSILON: Final = 1e-6
"""Keeps a slot with no error at all reachable."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _tree_set(tree: Floats, leaves: int, slots: Ints, values: Floats) -> None:
    """Write leaves and recompute their ancestors as the sum of two children: no drift builds up."""
    for k in range(slots.shape[0]):
        node = slots[k] + leaves
        tree[node] = values[k]
        node >>= 1
        while node >= 1:
            tree[node] = tree[2 * node] + tree[2 * node + 1]
            node >>= 1


@njit(cache=True, nogil=True)
def _tree_find(tree: Floats, leaves: int, masses: Floats, slots: Ints) -> None:
    """For each mass in [0, total) the slot whose interval of the cumulated priorities holds it."""
    for k in range(masses.shape[0]):
        mass = masses[k]
        node = 1
        while node < leaves:
            left = tree[2 * node]
            if mass < left or tree[2 * node + 1] <= 0.0:
                node = 2 * node
            else:
                mass -= left
                node = 2 * node + 1
        slots[k] = node - leaves


class SumTree:
    """Non-negative numbers in `capacity` slots, drawn in proportion to their value in O(log n)."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a sum tree needs at least one slot, not {capacity}")
        self.capacity = capacity
        self._leaves = 1 << max(0, (capacity - 1).bit_length())
        self._tree: Floats = np.zeros(2 * self._leaves, np.float64)

    @property
    def total(self) -> float:
        """The root: the sum of all slots."""
        return float(self._tree[1])

    def values(self, slots: Ints) -> Floats:
        """The numbers stored in the given slots."""
        return self._tree[slots + self._leaves]

    def set(self, slots: Ints, values: Floats) -> None:
        """Store `values` in `slots`; where a slot is named twice the last value stays."""
        if not (np.all(np.isfinite(values)) and np.all(values >= 0.0)):
            raise ValueError("priorities must be finite and not negative")
        _tree_set(self._tree, self._leaves, slots, values)

    def find(self, masses: Floats) -> Ints:
        """Slots at the given points of the cumulated values, each point in [0, total)."""
        slots = np.empty(masses.shape[0], np.int64)
        _tree_find(self._tree, self._leaves, masses, slots)
        return slots


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Drawn slots [n] and their importance weights [n] float32, the largest of which is 1."""

    slots: Ints
    weights: npt.NDArray[np.float32]


class PrioritizedReplay:
    """Which slots exist and how likely each is drawn; the oldest is overwritten when full."""

    def __init__(self, capacity: int, alpha: float) -> None:
        self.capacity = capacity
        self.alpha = alpha
        self._tree = SumTree(capacity)
        self._next = 0
        self._size = 0
        self._largest = 1.0

    def __len__(self) -> int:
        return self._size

    @property
    def total(self) -> float:
        """Sum of all priorities, alpha applied."""
        return self._tree.total

    def add(self, count: int) -> Ints:
        """Take `count` slots for new entries, at the largest priority yet, so that each is likely seen once."""
        slots = (self._next + np.arange(count, dtype=np.int64)) % self.capacity
        self._next = int((self._next + count) % self.capacity)
        self._size = min(self.capacity, self._size + count)
        self._tree.set(slots, np.full(count, self._largest))
        return slots

    def sample(self, count: int, beta: float, random: np.random.Generator) -> Sample:
        """Draw `count` slots in proportion to priority, one from each of `count` equal parts of the total mass.

        The weights are (size x probability) ** -beta over their largest.
        """
        if self._size == 0:
            raise ValueError("nothing to sample: the replay is empty")
        total = self._tree.total
        points = (np.arange(count) + random.random(count)) * (total / count)
        slots = self._tree.find(np.minimum(points, np.nextafter(total, 0.0)))
        weights = (self._size * self._tree.values(slots) / total) ** -beta
        return Sample(slots, (weights / weights.max()).astype(np.float32))

    def update(self, slots: Ints, td_errors: Floats) -> None:
        """Set the priorities of drawn slots from the sizes of their new TD errors."""
        values = (np.abs(td_errors) + EPSILON) ** self.alpha
        self._tree.set(slots, values)
        self._largest = max(self._largest, float(values.max(initial=0.0)))

    def export_state(self) -> dict[str, Floats]:
        """Everything that `restore` needs, as arrays."""
        counters = np.array([self._next, self._size, self._largest], np.float64)
        return {"priorities": self._tree.values(np.arange(self.capacity)), "counters": counters}

    def restore(self, state: dict[str, Floats]) -> None:
        """Go on exactly where `export_state` was."""
        self._next, self._size = int(state["counters"][0]), int(state["counters"][1])
        self._largest = float(state["counters"][2])
        self._tree.set(np.arange(self.capacity), np.ascontiguousarray(state["priorities"]))


@njit(cache=True, nogil=True)
def n_step_returns(
    reward: Floats, discount: Floats, ends: npt.NDArray[np.bool_], n: int, total: Floats, left: Floats, last: Ints
) -> None:
    """Accumulate up to `n` transitions from each step of B paths of length T.

    Transition t of a path goes from state t to state t + 1 with `reward` [B, T] and its own `discount` [B, T]: gamma,
    or 0 where the episode truly ended. `ends` [B, T] marks transitions that no sum may go beyond (the next action was
    not the policy's, or the path jumps).

    Writes, each [B, T]: `total` the discounted sum, `left` the product of discounts to multiply the bootstrap value
    with, `last` the number of the last transition inside; the bootstrap state is the one that it leads to.
    """
    paths, length = reward.shape
    for b in range(paths):
        for t in range(length):
            gain = 0.0
            factor = 1.0
            step = t
            for i in range(n):
                step = t + i
                gain += factor * reward[b, step]
                factor *= discount[b, step]
                if ends[b, step] or step + 1 >= length or factor == 0.0:
                    break
            total[b, t] = gain
            left[b, t] = factor
            last[b, t] = step
