"""The head of the network compiled for training on a CPU: what torch does in a dozen passes over memory, in one.

The head is small and the batches of positions are large, so torch spends its time on moving intermediates. Here a
position's hidden units live in registers, several at once: next states are priced by both networks in one pass, and
loss, gradients and TD errors come from another. All arrays lie along memory; of others the compiler makes slow code.
The arithmetic is that of `QNetwork.q_values` and `Learner.loss`, to which tests hold it; sums may be re-associated, so
it is equal to rounding, and equal to itself bit for bit on the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.learning.network import ACTIONS, QNetwork
from aml100.market.compiled import compiled
from aml100.market.position import POSITION_SIZE
from aml100.market.series import Ints

Floats32 = npt.NDArray[np.float32]

_FAST: Final = {"reassoc", "contract", "nsz"}


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """The head with its two streams added up: `position` [P, D], `actions` [3, D], `bias` [3]; float32, along memory.

    Q is linear in the duel's outputs, so value and centred advantage are one weight an action here.
    """

    position: Floats32
    actions: Floats32
    bias: Floats32

    @staticmethod
    def of(network: QNetwork) -> HeadWeights:
        """The head as it is now."""
        return HeadWeights(
            np.ascontiguousarray(network.position_share.weight.detach().numpy().T),
            _joined(network.duel.weight.detach().numpy()),
            _joined(network.duel.bias.detach().numpy()),
        )


def _joined(duel: Floats32) -> Floats32:
    """The duel's rows (value, then advantages) [4, ...] as one row an action [3, ...]."""
    joined: Floats32 = duel[0] + duel[1:] - duel[1:].mean(axis=0)
    return joined


def _parted(gradient: Floats32) -> Floats32:
    """The gradient of `_joined`'s rows [3, ...] as that of the duel's [4, ...]."""
    return np.concatenate([gradient.sum(axis=0, keepdims=True), gradient - gradient.mean(axis=0)])


@compiled(fastmath=_FAST, error_model="numpy", inline="always")
def _active(share: Any, position: Any, weights: Any, j: int) -> Any:
    """One hidden unit; the caller's loop over j is what runs several at once."""
    value = share[j]
    for i in range(POSITION_SIZE):
        value += position[i] * weights[i, j]
    return max(value, np.float32(0.0))


@compiled(fastmath=_FAST, error_model="numpy", inline="always")
def _q_values(share: Any, position: Any, weights: Any, actions: Any, bias: Any) -> tuple[Any, Any, Any]:
    hold, buy, sell = bias[0], bias[1], bias[2]
    for j in range(share.shape[0]):
        active = _active(share, position, weights, j)
        hold += active * actions[0, j]
        buy += active * actions[1, j]
        sell += active * actions[2, j]
    return hold, buy, sell


@compiled(inline="always")
def _best(hold: Any, buy: Any, sell: Any) -> int:
    best = 1 if buy > hold else 0
    return 2 if sell > max(hold, buy) else best


@compiled(fastmath=_FAST, error_model="numpy")
def _next_values(
    share_on: Any, share_target: Any, following: Any, on: Any, on_actions: Any, on_bias: Any, target: Any,
    target_actions: Any, target_bias: Any, values: Any,
) -> None:  # fmt: skip
    """The three next states of a position side by side, so that each weight is loaded once for them."""
    rows = np.empty((ACTIONS, POSITION_SIZE), np.float32)
    none = np.float32(0.0)
    for i in range(following.shape[0]):
        for length in range(following.shape[1]):
            for k in range(following.shape[2]):
                for action in range(ACTIONS):
                    for p in range(POSITION_SIZE):
                        rows[action, p] = following[i, length, k, action, p]
                h0 = h1 = h2 = on_bias[0]
                b0 = b1 = b2 = on_bias[1]
                s0 = s1 = s2 = on_bias[2]
                for j in range(share_on.shape[2]):
                    x0 = x1 = x2 = share_on[i, length + 1, j]
                    for p in range(POSITION_SIZE):
                        x0 += rows[0, p] * on[p, j]
                        x1 += rows[1, p] * on[p, j]
                        x2 += rows[2, p] * on[p, j]
                    x0, x1, x2 = max(x0, none), max(x1, none), max(x2, none)
                    h0, h1, h2 = h0 + x0 * on_actions[0, j], h1 + x1 * on_actions[0, j], h2 + x2 * on_actions[0, j]
                    b0, b1, b2 = b0 + x0 * on_actions[1, j], b1 + x1 * on_actions[1, j], b2 + x2 * on_actions[1, j]
                    s0, s1, s2 = s0 + x0 * on_actions[2, j], s1 + x1 * on_actions[2, j], s2 + x2 * on_actions[2, j]
                best0, best1, best2 = _best(h0, b0, s0), _best(h1, b1, s1), _best(h2, b2, s2)
                v0, v1, v2 = target_bias[best0], target_bias[best1], target_bias[best2]
                for j in range(share_target.shape[2]):
                    x0 = x1 = x2 = share_target[i, length + 1, j]
                    for p in range(POSITION_SIZE):
                        x0 += rows[0, p] * target[p, j]
                        x1 += rows[1, p] * target[p, j]
                        x2 += rows[2, p] * target[p, j]
                    v0 += max(x0, none) * target_actions[best0, j]
                    v1 += max(x1, none) * target_actions[best1, j]
                    v2 += max(x2, none) * target_actions[best2, j]
                values[i, length, k, 0] = v0
                values[i, length, k, 1] = v1
                values[i, length, k, 2] = v2


def next_values(
    share_on: Floats32, share_target: Floats32, following: Floats32, online: HeadWeights, target: HeadWeights
) -> Floats32:
    """Double-Q values of next states: `share_*` [B, L + 1, D], bar l's are at l + 1; `following` [B, L, K, 3, P]."""
    values = np.empty(following.shape[:-1], np.float32)
    _next_values(
        np.ascontiguousarray(share_on), np.ascontiguousarray(share_target), following, online.position,
        online.actions, online.bias, target.position, target.actions, target.bias, values,
    )  # fmt: skip
    return values


@compiled(error_model="numpy")
def _sum_along_paths(targets: Any, reward: Any, discount: Any, value: Any, q: Any, taken: Any, n: int) -> None:
    length = taken.shape[1]
    for i in range(taken.shape[0]):
        for path in range(taken.shape[2]):
            for first in range(length):
                total, left, last = 0.0, 1.0, min(first + n, length) - 1
                for step in range(first, last + 1):
                    action = taken[i, step, path]
                    here = i, step, path, action
                    if step > first and action != np.argmax(q[i, step, path]):
                        break
                    total += left * reward[here]
                    left *= discount[here]
                    worth = value[here]
                    if left == 0.0:
                        break
                targets[i, first, path, taken[i, first, path]] = total + left * worth


def sum_along_paths(
    targets: Floats32, reward: Floats32, discount: Floats32, value: Floats32, q: Floats32, taken: Ints, n: int
) -> None:
    """`learner.multi_step_targets` on arrays, in place: `targets` [B, L, K, 3] come in as one-step targets."""
    if n > 1:
        _sum_along_paths(targets, reward, discount, value, q, taken, n)


@compiled(fastmath=_FAST, error_model="numpy")
def _forward(share: Any, position: Any, weights: Any, actions: Any, bias: Any, q: Any, mean: Any) -> None:
    for i in range(position.shape[0]):
        for length in range(position.shape[1]):
            for k in range(position.shape[2]):
                hold, buy, sell = _q_values(share[i, length], position[i, length, k], weights, actions, bias)
                top = max(hold, buy, sell)
                eh, eb, es = np.exp(hold - top), np.exp(buy - top), np.exp(sell - top)
                total = eh + eb + es
                mean[0] += eh / total
                mean[1] += eb / total
                mean[2] += es / total
                q[i, length, k, 0] = hold
                q[i, length, k, 1] = buy
                q[i, length, k, 2] = sell


@compiled(fastmath=_FAST, error_model="numpy")
def _backward(
    share: Any, position: Any, weights: Any, actions: Any, q: Any, goals: Any, weight: Any, over: Any, penalty: float,
    delta: Any, d_share: Any, d_weights: Any, d_actions: Any, d_bias: Any, errors: Any,
) -> float:  # fmt: skip
    """Huber loss and all gradients; `over` [3] is 1 where the mean probability of an action is beyond the threshold."""
    stretches, lengths, positions = position.shape[0], position.shape[1], position.shape[2]
    width = share.shape[2]
    hidden, back = np.empty(width, np.float32), np.empty(width, np.float32)
    one = np.float32(1.0 / (stretches * lengths * positions * ACTIONS))
    each = np.float32(penalty / (stretches * lengths * positions))
    loss = 0.0
    penalised = penalty > 0.0 and (over[0] > 0.0 or over[1] > 0.0 or over[2] > 0.0)
    g = np.zeros(ACTIONS, np.float32)
    for i in range(stretches):
        for length in range(lengths):
            total_error = np.float32(0.0)
            for k in range(positions):
                for action in range(ACTIONS):
                    error = q[i, length, k, action] - goals[i, length, k, action]
                    size = abs(error)
                    total_error += size
                    if size <= delta:
                        loss += weight[i] * 0.5 * error * error
                        g[action] = weight[i] * one * error
                    else:
                        loss += weight[i] * delta * (size - 0.5 * delta)
                        g[action] = weight[i] * one * (delta if error > 0.0 else -delta)
                if penalised:
                    top = max(q[i, length, k, 0], q[i, length, k, 1], q[i, length, k, 2])
                    p0 = np.exp(q[i, length, k, 0] - top)
                    p1 = np.exp(q[i, length, k, 1] - top)
                    p2 = np.exp(q[i, length, k, 2] - top)
                    total = p0 + p1 + p2
                    p0, p1, p2 = p0 / total, p1 / total, p2 / total
                    lean = over[0] * p0 + over[1] * p1 + over[2] * p2
                    g[0] += each * p0 * (over[0] - lean)
                    g[1] += each * p1 * (over[1] - lean)
                    g[2] += each * p2 * (over[2] - lean)
                row = position[i, length, k]
                for j in range(width):
                    hidden[j] = _active(share[i, length], row, weights, j)
                for j in range(width):
                    active = hidden[j]
                    for action in range(ACTIONS):
                        d_actions[action, j] += g[action] * active
                    flow = g[0] * actions[0, j] + g[1] * actions[1, j] + g[2] * actions[2, j]
                    back[j] = flow if active > 0.0 else np.float32(0.0)
                    d_share[i, length, j] += back[j]
                for action in range(ACTIONS):
                    d_bias[action] += g[action]
                for p in range(POSITION_SIZE):
                    value = row[p]
                    if value != 0.0:
                        for j in range(width):
                            d_weights[p, j] += value * back[j]
            errors[i, length] = total_error / (positions * ACTIONS)
    return float(loss * one)


@dataclass(frozen=True, slots=True, eq=False)
class HeadGradients:
    """Loss and what flows back: to `share` [B, L + 1, D], whose last bar has none, and to the head's own weights
    `position` [P, D], `duel` [4, D] and `bias` [4]; `errors` [B, L] mean |TD error|."""

    loss: float
    share: Floats32
    position: Floats32
    duel: Floats32
    bias: Floats32
    errors: Floats32


def forward(share: Floats32, position: Floats32, head: HeadWeights) -> tuple[Floats32, npt.NDArray[np.float64]]:
    """Q of `position` [B, L, K, P] on `share` [B, L + 1, D]: [B, L, K, 3], and the mean softmax of it over all, [3]."""
    q = np.empty((*position.shape[:-1], ACTIONS), np.float32)
    mean = np.zeros(ACTIONS)
    _forward(np.ascontiguousarray(share), position, head.position, head.actions, head.bias, q, mean)
    return q, mean / max(1, q.size // ACTIONS)


def backward(
    share: Floats32,
    position: Floats32,
    head: HeadWeights,
    q: Floats32,
    goals: Floats32,
    weight: Floats32,
    mean: npt.NDArray[np.float64],
    threshold: float,
    penalty: float,
    delta: float,
) -> HeadGradients:
    """Weighted Huber loss of `q` against `goals` [B, L, K, 3], plus `penalty` x what `mean` [3] exceeds `threshold` by.

    `weight` [B] are the importance weights of the stretches; errors up to `delta` count squared.
    """
    over = (mean > threshold).astype(np.float32)
    d_share = np.zeros(share.shape, np.float32)
    d_position, d_actions = np.zeros_like(head.position), np.zeros_like(head.actions)
    d_bias = np.zeros_like(head.bias)
    errors = np.empty(position.shape[:2], np.float32)
    huber = _backward(
        np.ascontiguousarray(share), position, head.position, head.actions, q, goals, weight, over, penalty,
        np.float32(delta), d_share, d_position, d_actions, d_bias, errors,
    )  # fmt: skip
    excess = float(np.maximum(mean - threshold, 0.0).sum())
    return HeadGradients(huber + penalty * excess, d_share, d_position, _parted(d_actions), _parted(d_bias), errors)
