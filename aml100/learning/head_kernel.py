"""The head of the network compiled for training on a CPU: what torch does in a dozen passes over memory, in one.

The head is small and the batches of positions are large, so torch spends its time on moving intermediates. Here each
position's hidden layer lives in registers: next states are priced by both networks at once, and loss, gradients and TD
errors come from one further pass. The arithmetic is that of `QNetwork.q_values` and `Learner.loss`, to which tests hold
it; sums may be re-associated, so it is equal to rounding, and equal to itself bit for bit on the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.learning.network import ACTIONS, QNetwork
from aml100.market.compiled import compiled

Floats32 = npt.NDArray[np.float32]

_FAST: Final = {"reassoc", "contract", "nsz"}


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """`position` [P, D], `duel` [4, D] (value, hold, buy, sell), `bias` [4]; float32, along memory."""

    position: Floats32
    duel: Floats32
    bias: Floats32

    @staticmethod
    def of(network: QNetwork) -> HeadWeights:
        """The head as it is now."""
        return HeadWeights(
            np.ascontiguousarray(network.position_share.weight.detach().numpy().T),
            network.duel.weight.detach().numpy(),
            network.duel.bias.detach().numpy(),
        )


@compiled(fastmath=_FAST, error_model="numpy", inline="always")
def _hidden(share: Any, position: Any, weights: Any, hidden: Any) -> None:
    for j in range(hidden.shape[0]):
        hidden[j] = share[j]
    for i in range(position.shape[0]):
        value = position[i]
        if value != 0.0:
            for j in range(hidden.shape[0]):
                hidden[j] += value * weights[i, j]


@compiled(fastmath=_FAST, error_model="numpy", inline="always")
def _outputs(hidden: Any, duel: Any, bias: Any) -> tuple[Any, Any, Any, Any]:
    v, h, b, s = bias[0], bias[1], bias[2], bias[3]
    for j in range(hidden.shape[0]):
        active = max(hidden[j], np.float32(0.0))
        v += active * duel[0, j]
        h += active * duel[1, j]
        b += active * duel[2, j]
        s += active * duel[3, j]
    base = v - (h + b + s) / np.float32(3.0)
    return base, h, b, s


@compiled(fastmath=_FAST, error_model="numpy")
def _next_values(
    share_on: Any, share_target: Any, following: Any, on: Any, on_duel: Any, on_bias: Any, target: Any,
    target_duel: Any, target_bias: Any, values: Any,
) -> None:  # fmt: skip
    hidden = np.empty(share_on.shape[2], np.float32)
    for i in range(following.shape[0]):
        for length in range(following.shape[1]):
            for k in range(following.shape[2]):
                for action in range(ACTIONS):
                    row = following[i, length, k, action]
                    _hidden(share_on[i, length], row, on, hidden)
                    base, h, b, s = _outputs(hidden, on_duel, on_bias)
                    best = 0
                    if b > h:
                        best = 1
                    if s > max(h, b):
                        best = 2
                    _hidden(share_target[i, length], row, target, hidden)
                    base, h, b, s = _outputs(hidden, target_duel, target_bias)
                    values[i, length, k, action] = base + (h if best == 0 else (b if best == 1 else s))


def next_values(
    share_on: Floats32, share_target: Floats32, following: Floats32, online: HeadWeights, target: HeadWeights
) -> Floats32:
    """Double-Q values of next states: `share_*` [B, L, D] of the next bars; `following` [B, L, K, 3, P]."""
    values = np.empty(following.shape[:-1], np.float32)
    _next_values(
        share_on, share_target, following, online.position, online.duel, online.bias, target.position, target.duel,
        target.bias, values,
    )  # fmt: skip
    return values


@compiled(fastmath=_FAST, error_model="numpy")
def _forward(share: Any, position: Any, weights: Any, duel: Any, bias: Any, q: Any, mean: Any) -> None:
    hidden = np.empty(share.shape[2], np.float32)
    for i in range(position.shape[0]):
        for length in range(position.shape[1]):
            for k in range(position.shape[2]):
                _hidden(share[i, length], position[i, length, k], weights, hidden)
                base, h, b, s = _outputs(hidden, duel, bias)
                top = max(h, b, s)
                eh, eb, es = np.exp(h - top), np.exp(b - top), np.exp(s - top)
                total = eh + eb + es
                mean[0] += eh / total
                mean[1] += eb / total
                mean[2] += es / total
                q[i, length, k, 0] = base + h
                q[i, length, k, 1] = base + b
                q[i, length, k, 2] = base + s


@compiled(fastmath=_FAST, error_model="numpy")
def _backward(
    share: Any, position: Any, weights: Any, duel: Any, q: Any, goals: Any, weight: Any, over: Any, penalty: float,
    delta: Any, d_share: Any, d_weights: Any, d_duel: Any, d_bias: Any, errors: Any,
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
                gv = g[0] + g[1] + g[2]
                third = gv / np.float32(3.0)
                gh, gb, gs = g[0] - third, g[1] - third, g[2] - third
                row = position[i, length, k]
                _hidden(share[i, length], row, weights, hidden)
                for j in range(width):
                    active = max(hidden[j], np.float32(0.0))
                    d_duel[0, j] += gv * active
                    d_duel[1, j] += gh * active
                    d_duel[2, j] += gb * active
                    d_duel[3, j] += gs * active
                    flow = gv * duel[0, j] + gh * duel[1, j] + gb * duel[2, j] + gs * duel[3, j]
                    back[j] = flow if hidden[j] > 0.0 else np.float32(0.0)
                    d_share[i, length, j] += back[j]
                d_bias[0] += gv
                d_bias[1] += gh
                d_bias[2] += gb
                d_bias[3] += gs
                for p in range(row.shape[0]):
                    value = row[p]
                    if value != 0.0:
                        for j in range(width):
                            d_weights[p, j] += value * back[j]
            errors[i, length] = total_error / (positions * ACTIONS)
    return float(loss * one)


@dataclass(frozen=True, slots=True, eq=False)
class HeadGradients:
    """Loss and what flows back: to `share` [B, L, D] and to the head's own weights; `errors` [B, L] mean |TD error|."""

    loss: float
    huber: float
    share: Floats32
    weights: HeadWeights
    errors: Floats32


def forward(share: Floats32, position: Floats32, head: HeadWeights) -> tuple[Floats32, npt.NDArray[np.float64]]:
    """Q of `position` [B, L, K, P] on `share` [B, L, D]: [B, L, K, 3], and the mean softmax of it over all, [3]."""
    q = np.empty((*position.shape[:-1], ACTIONS), np.float32)
    mean = np.zeros(ACTIONS)
    _forward(share, position, head.position, head.duel, head.bias, q, mean)
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
    d_share = np.zeros_like(share)
    own = HeadWeights(np.zeros_like(head.position), np.zeros_like(head.duel), np.zeros_like(head.bias))
    errors = np.empty(position.shape[:2], np.float32)
    huber = _backward(
        share, position, head.position, head.duel, q, goals, weight, over, penalty, np.float32(delta), d_share,
        own.position, own.duel, own.bias, errors,
    )  # fmt: skip
    excess = float(np.maximum(mean - threshold, 0.0).sum())
    return HeadGradients(huber + penalty * excess, huber, d_share, own, errors)
