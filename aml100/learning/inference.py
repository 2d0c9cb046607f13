"""One bar at a time, compiled: the form of the network that back-test, replay and live all use.

Every decision goes through `step_lstm` and `price_actions`, whoever asks, so equal inputs give equal bits on every
path. Sums run over inputs in a fixed order with no re-association, in float32 like the training form, from which they
differ by rounding only (within 1e-5, tested).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aml100.market.compiled import compiled

Floats32 = npt.NDArray[np.float32]

SCALED_LIMIT = 8.0
"""Scaled features are cut here, in standard deviations of the training rows."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledHead:
    """What prices a position on an encoded bar: `w_position` [P, D], `w_duel` [D, 4], `b_duel` [4]."""

    w_position: Floats32
    w_duel: Floats32
    b_duel: Floats32

    @staticmethod
    def from_arrays(arrays: Mapping[str, npt.NDArray[np.float32]]) -> CompiledHead:
        """From tensors under the names of `QNetwork.state_dict()`, of which only the head's are read."""
        return CompiledHead(
            w_position=np.ascontiguousarray(arrays["position_share.weight"].T, dtype=np.float32),
            w_duel=np.ascontiguousarray(arrays["duel.weight"].T, dtype=np.float32),
            b_duel=np.ascontiguousarray(arrays["duel.bias"], dtype=np.float32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class CompiledWeights:
    """One network's weights, laid out so that the inner loops run along memory.

    `w_in` [layers, max(F, H), 4H], `w_back` [layers, H, 4H], `bias` [layers, 4H], `w_market` [H, D],
    `b_market` [D], `w_position` [P, D], `w_duel` [D, 4], `b_duel` [4]; gates in the order i, f, g, o.
    """

    features: int
    w_in: Floats32
    w_back: Floats32
    bias: Floats32
    w_market: Floats32
    b_market: Floats32
    w_position: Floats32
    w_duel: Floats32
    b_duel: Floats32

    @staticmethod
    def from_arrays(arrays: Mapping[str, npt.NDArray[np.float32]]) -> CompiledWeights:
        """From tensors under the names of `QNetwork.state_dict()`."""
        layers = sum(name.startswith("encoder.weight_ih_l") for name in arrays)
        hidden = arrays["encoder.weight_hh_l0"].shape[1]
        features = arrays["encoder.weight_ih_l0"].shape[1]
        w_in = np.zeros((layers, max(features, hidden), 4 * hidden), np.float32)
        w_back = np.zeros((layers, hidden, 4 * hidden), np.float32)
        bias = np.zeros((layers, 4 * hidden), np.float32)
        for layer in range(layers):
            w = arrays[f"encoder.weight_ih_l{layer}"]
            w_in[layer, : w.shape[1]] = w.T
            w_back[layer] = arrays[f"encoder.weight_hh_l{layer}"].T
            bias[layer] = arrays[f"encoder.bias_ih_l{layer}"] + arrays[f"encoder.bias_hh_l{layer}"]
        head = CompiledHead.from_arrays(arrays)
        return CompiledWeights(
            features=features,
            w_in=w_in,
            w_back=w_back,
            bias=bias,
            w_market=np.ascontiguousarray(arrays["market_share.weight"].T, dtype=np.float32),
            b_market=np.ascontiguousarray(arrays["market_share.bias"], dtype=np.float32),
            w_position=head.w_position,
            w_duel=head.w_duel,
            b_duel=head.b_duel,
        )


@compiled()
def scale_row(
    row: npt.NDArray[np.float64], mean: npt.NDArray[np.float64], inverse_sd: npt.NDArray[np.float64], out: Floats32
) -> None:
    """Standardise one row of features [F] into float32, cut at +-SCALED_LIMIT."""
    for i in range(row.shape[0]):
        value = (row[i] - mean[i]) * inverse_sd[i]
        out[i] = np.float32(min(max(value, -SCALED_LIMIT), SCALED_LIMIT))


@compiled(inline="always")
def _sigmoid(x: Any) -> Any:
    return np.float32(1.0) / (np.float32(1.0) + np.exp(-x))


@compiled()
def step_lstm(
    x: Floats32,
    h: Floats32,
    c: Floats32,
    gates: Floats32,
    w_in: Floats32,
    w_back: Floats32,
    bias: Floats32,
) -> None:
    """One bar through all layers: `x` [F]; `h` and `c` [layers, H] are moved on in place; `gates` [4H] is scratch."""
    layers, hidden = h.shape
    for layer in range(layers):
        gates[:] = bias[layer]
        if layer == 0:
            for i in range(x.shape[0]):
                value = x[i]
                for j in range(4 * hidden):
                    gates[j] += value * w_in[layer, i, j]
        else:
            for i in range(hidden):
                value = h[layer - 1, i]
                for j in range(4 * hidden):
                    gates[j] += value * w_in[layer, i, j]
        for i in range(hidden):
            value = h[layer, i]
            for j in range(4 * hidden):
                gates[j] += value * w_back[layer, i, j]
        for j in range(hidden):
            remembered = _sigmoid(gates[hidden + j]) * c[layer, j]
            c[layer, j] = remembered + _sigmoid(gates[j]) * np.float32(math.tanh(gates[2 * hidden + j]))
            h[layer, j] = _sigmoid(gates[3 * hidden + j]) * np.float32(math.tanh(c[layer, j]))


@compiled()
def share_of_market(h_top: Floats32, w_market: Floats32, b_market: Floats32, out: Floats32) -> None:
    """The head's part that every position of a bar shares: `h_top` [H] gives `out` [D]."""
    out[:] = b_market
    for i in range(h_top.shape[0]):
        value = h_top[i]
        for j in range(out.shape[0]):
            out[j] += value * w_market[i, j]


@compiled()
def price_actions(
    market_share: Floats32,
    position: npt.NDArray[np.float64],
    w_position: Floats32,
    w_duel: Floats32,
    b_duel: Floats32,
    scratch: Floats32,
    q: npt.NDArray[np.float64],
) -> None:
    """Q of hold, buy, sell for one position: `market_share` [D], `position` [P], `scratch` [D], `q` [3] is written."""
    scratch[:] = market_share
    for i in range(position.shape[0]):
        value = np.float32(position[i])
        if value != 0.0:
            for j in range(scratch.shape[0]):
                scratch[j] += value * w_position[i, j]
    state_value, hold, buy, sell = b_duel[0], b_duel[1], b_duel[2], b_duel[3]
    for j in range(scratch.shape[0]):
        active = scratch[j]
        if active > 0.0:
            state_value += active * w_duel[j, 0]
            hold += active * w_duel[j, 1]
            buy += active * w_duel[j, 2]
            sell += active * w_duel[j, 3]
    centre = (hold + buy + sell) / np.float32(3.0)
    q[0] = state_value + hold - centre
    q[1] = state_value + buy - centre
    q[2] = state_value + sell - centre


@compiled(inline="always")
def greedy_action(q: npt.NDArray[np.float64], side: float, min_q_gap: float) -> int:
    """The best action, HOLD on ties; an entry whose gap to the second best is not above `min_q_gap` becomes HOLD.

    A signal against an open position needs no gap: it closes, and closing is always allowed.
    """
    best = 0
    if q[1] > q[best]:
        best = 1
    if q[2] > q[best]:
        best = 2
    if best != 0 and side == 0.0 and q[best] - max(q[0], q[3 - best]) <= min_q_gap:
        return 0
    return best


class CompiledNetwork:
    """One network's running state: a bar in, Q values of any position out."""

    def __init__(self, weights: CompiledWeights) -> None:
        self.weights = weights
        layers, hidden = weights.w_back.shape[:2]
        head = weights.w_market.shape[1]
        self.h = np.zeros((layers, hidden), np.float32)
        self.c = np.zeros((layers, hidden), np.float32)
        self._gates = np.zeros(4 * hidden, np.float32)
        self._share = np.zeros(head, np.float32)
        self._scratch = np.zeros(head, np.float32)
        self._q = np.zeros(3, np.float64)
        self.reset()

    def reset(self) -> None:
        """A contiguous series begins: memory is zero."""
        self.h[:] = 0.0
        self.c[:] = 0.0
        share_of_market(self.h[-1], self.weights.w_market, self.weights.b_market, self._share)

    def restore(self, h: Floats32, c: Floats32) -> None:
        """Go on from a saved memory."""
        self.h[:] = h
        self.c[:] = c
        share_of_market(self.h[-1], self.weights.w_market, self.weights.b_market, self._share)

    def observe(self, scaled: Floats32) -> None:
        """Take one bar's scaled features [F] in."""
        weights = self.weights
        step_lstm(scaled, self.h, self.c, self._gates, weights.w_in, weights.w_back, weights.bias)
        share_of_market(self.h[-1], weights.w_market, weights.b_market, self._share)

    def q(self, position: npt.NDArray[np.float64]) -> tuple[float, float, float]:
        """(hold, buy, sell) for one position row [P], at the bar last observed."""
        weights = self.weights
        price_actions(self._share, position, weights.w_position, weights.w_duel, weights.b_duel, self._scratch, self._q)
        return float(self._q[0]), float(self._q[1]), float(self._q[2])
