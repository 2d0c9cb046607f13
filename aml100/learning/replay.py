"""Prioritised replay without copies: a sum tree over slots.

The tree stores priority = (|TD error| + EPSILON) ** alpha; alpha is applied here, once, when a priority enters. What a
slot means is its owner's business: the trainer keeps stretches of bars there (a start row and the positions met), the
benchmarks single transitions. Nothing is copied into windows; a sample is a set of slot numbers.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aml100.market.compiled import compiled

EPSILON: Final = 1e-6
"""Keeps a slot with no error at all reachable."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@compiled()
def _tree_set(tree: Floats, leaves: int, slots: Ints, values: Floats) -> None:
    """Write leaves and recompute their ancestors as the sum of two children: no drift builds up.

    All ancestors of one level before those of the next: they do not wait for each other, and neighbours that share an
    ancestor (new entries, and drawn slots, which ascend) have it summed once.
    """
    count = slots.shape[0]
    nodes = np.empty(count, np.int64)
    for k in range(count):
        nodes[k] = slots[k] + leaves
        tree[nodes[k]] = values[k]
    level = leaves
    while level > 1 and count > 0:
        kept, before = 0, 0
        for k in range(count):
            node = nodes[k] >> 1
            if node != before:
                tree[node] = tree[2 * node] + tree[2 * node + 1]
                nodes[kept] = before = node
                kept += 1
        count = kept
        level >>= 1


@compiled()
def _tree_find(tree: Floats, leaves: int, masses: Floats, slots: Ints) -> None:
    """For each mass in [0, total) the slot whose interval of the cumulated priorities holds it.

    All descend side by side, a level at a time; `masses` is used up.
    """
    count = masses.shape[0]
    slots[:] = 1
    level = 1
    while level < leaves:
        for k in range(count):
            node = 2 * slots[k]
            left = tree[node]
            right = np.int64(masses[k] >= left) & np.int64(tree[node + 1] > 0.0)  # no branch: nobody could predict it
            masses[k] -= right * left
            slots[k] = node + right
        level <<= 1
    for k in range(count):
        slots[k] -= leaves


@compiled()
def _add(tree: Floats, leaves: int, first: int, capacity: int, largest: float, slots: Ints) -> None:
    for k in range(slots.shape[0]):
        slots[k] = (first + k) % capacity
    _tree_set(tree, leaves, slots, np.full(slots.shape[0], largest))


@compiled()
def _sample(
    tree: Floats, leaves: int, beta: float, draws: Floats, slots: Ints, weights: npt.NDArray[np.float32]
) -> None:
    """One slot from each of as many equal parts of the total mass as there are `draws` in [0, 1), used up."""
    count, total = draws.shape[0], tree[1]
    below = np.nextafter(total, 0.0)
    for k in range(count):
        draws[k] = min((k + draws[k]) * (total / count), below)
    _tree_find(tree, leaves, draws, slots)
    least = np.inf
    for k in range(count):
        draws[k] = tree[slots[k] + leaves]
        least = min(least, draws[k])
    # (size x priority / total) ** -beta over its largest, which is the least priority's: the rest cancels
    for k in range(count):
        weights[k] = (draws[k] / least) ** -beta


@compiled()
def _update(tree: Floats, leaves: int, alpha: float, slots: Ints, errors: Floats, largest: float) -> float:
    """The largest priority yet; NaN, and nothing written, where an error is not a finite number."""
    values = np.empty(errors.shape[0], np.float64)
    for k in range(errors.shape[0]):
        values[k] = (abs(errors[k]) + EPSILON) ** alpha
        if not np.isfinite(values[k]):
            return np.nan
        largest = max(largest, values[k])
    _tree_set(tree, leaves, slots, values)
    return largest


class SumTree:
    """Non-negative numbers in `capacity` slots, drawn in proportion to their value in O(log n).

    `tree` [2 x leaves] holds the root at 1, the children of node i at 2i and 2i + 1, and the slots from `leaves` on.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a sum tree needs at least one slot, not {capacity}")
        self.capacity = capacity
        self.leaves = 1 << max(0, (capacity - 1).bit_length())
        self.tree: Floats = np.zeros(2 * self.leaves, np.float64)

    @property
    def total(self) -> float:
        """The root: the sum of all slots."""
        return float(self.tree[1])

    def values(self, slots: Ints) -> Floats:
        """The numbers stored in the given slots."""
        return self.tree[slots + self.leaves]

    def set(self, slots: Ints, values: Floats) -> None:
        """Store `values` in `slots`; where a slot is named twice the last value stays."""
        if not (np.all(np.isfinite(values)) and np.all(values >= 0.0)):
            raise ValueError("priorities must be finite and not negative")
        _tree_set(self.tree, self.leaves, slots, values)

    def find(self, masses: Floats) -> Ints:
        """Slots at the given points of the cumulated values, each point in [0, total)."""
        slots = np.empty(masses.shape[0], np.int64)
        _tree_find(self.tree, self.leaves, masses.copy(), slots)
        return slots


class Sample(NamedTuple):
    """Drawn slots [n] and their importance weights [n] float32, the largest of which is 1."""

    slots: Ints
    weights: npt.NDArray[np.float32]


class PrioritizedReplay:
    """Which slots exist and how likely each is drawn; the oldest is overwritten when full.

    Each of `add`, `sample` and `update` is one compiled call for any number of entries.
    """

    def __init__(self, capacity: int, alpha: float) -> None:
        self.capacity = capacity
        self.alpha = alpha
        self._sums = SumTree(capacity)
        self._tree, self._leaves = self._sums.tree, self._sums.leaves
        self._next = 0
        self._size = 0
        self._largest = 1.0

    def __len__(self) -> int:
        return self._size

    @property
    def total(self) -> float:
        """Sum of all priorities, alpha applied."""
        return self._sums.total

    @property
    def nbytes(self) -> int:
        """What the priorities take, in bytes."""
        return self._tree.nbytes

    def add(self, count: int) -> Ints:
        """Take `count` slots for new entries, at the largest priority yet, so that each is likely seen once."""
        slots = np.empty(count, np.int64)
        _add(self._tree, self._leaves, self._next, self.capacity, self._largest, slots)
        self._next = (self._next + count) % self.capacity
        self._size = min(self.capacity, self._size + count)
        return slots

    def sample(self, count: int, beta: float, random: np.random.Generator) -> Sample:
        """Draw `count` slots in proportion to priority, one from each of `count` equal parts of the total mass.

        The weights are (size x probability) ** -beta over their largest.
        """
        if self._size == 0:
            raise ValueError("nothing to sample: the replay is empty")
        slots, weights = np.empty(count, np.int64), np.empty(count, np.float32)
        _sample(self._tree, self._leaves, beta, random.random(count), slots, weights)
        return Sample(slots, weights)

    def update(self, slots: Ints, td_errors: Floats) -> None:
        """Set the priorities of drawn slots from the sizes of their new TD errors.

        Raises: ValueError for an error that is not a finite number; no priority changes then.
        """
        largest = _update(self._tree, self._leaves, self.alpha, slots, td_errors, self._largest)
        if largest != largest:
            raise ValueError("TD errors must be finite numbers")
        self._largest = largest

    def export_state(self) -> dict[str, Floats]:
        """Everything that `restore` needs, as arrays."""
        counters = np.array([self._next, self._size, self._largest], np.float64)
        return {"priorities": self._sums.values(np.arange(self.capacity)), "counters": counters}

    def restore(self, state: dict[str, Floats]) -> None:
        """Go on exactly where `export_state` was."""
        self._next, self._size = int(state["counters"][0]), int(state["counters"][1])
        self._largest = float(state["counters"][2])
        self._sums.set(np.arange(self.capacity), np.ascontiguousarray(state["priorities"]))
