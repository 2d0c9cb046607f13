"""How good a network is, in money: the greedy policy walked through the validation part with the kernel's rules.

The market is read in chunks by torch, the positions are walked by the compiled head; `scores` says what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch

from aml100.evaluation.transition import Records
from aml100.learning.acting import RewardView, Walk, greedy_walk
from aml100.learning.dataset import CoinRows, Dataset
from aml100.learning.inference import CompiledWeights, Floats32
from aml100.learning.network import LstmState, QNetwork
from aml100.learning.reward import calm_factor
from aml100.learning.scores import Validation, summarise

CHUNK_BARS: Final = 2048
"""Bars encoded at once; the state is carried over, so the chunks change nothing but speed."""


def encode_chunked(network: QNetwork, scaled: Floats32, device: torch.device) -> Floats32:
    """The head's share of each bar, [n, H] features in, [n, D] out, from zero memory on, in chunks."""
    parts: list[Floats32] = []
    state: LstmState | None = None
    with torch.no_grad():
        for start in range(0, len(scaled), CHUNK_BARS):
            chunk = torch.from_numpy(scaled[start : start + CHUNK_BARS]).to(device)
            share, state = network.encode(chunk.unsqueeze(0), state)
            parts.append(share[0].cpu().numpy())
    return np.ascontiguousarray(np.concatenate(parts))


def walk_range(
    network: QNetwork,
    members: Sequence[Mapping[str, Floats32]],
    rows: CoinRows,
    bounds: tuple[int, int, int],
    min_q_gap: float,
    device: torch.device,
    reward: RewardView | None = None,
) -> Walk:
    """Walk the greedy policy of the members' mean Q values through rows.

    Args:
        network: of the members' shape; it is left with the last one's weights.
        bounds: (from where the memory is warmed up, first decision row, end).
    """
    warm_from, start, stop = bounds
    shares, heads = [], []
    for weights in members:
        load_weights(network, weights)
        shares.append(encode_chunked(network, rows.scaled[warm_from:stop], device)[start - warm_from :])
        heads.append(CompiledWeights.from_arrays(weights))
    return greedy_walk(rows.market, rows.rules, start, np.stack(shares), heads, min_q_gap, reward)


def validate_members(
    network: QNetwork,
    members: Sequence[Mapping[str, Floats32]],
    dataset: Dataset,
    *,
    min_q_gap: float,
    sigmas: float,
    device: torch.device,
    reward_weights: Records | None = None,
) -> Validation:
    """Walk every validation range and sum up; `reward_weights` are the learner's, None for profit alone.

    `network` is of the members' shape; it is left with the last one's weights.
    """
    walks = []
    for rows in dataset.coins:
        view = None
        if reward_weights is not None:
            view = RewardView(reward_weights, calm_factor(reward_weights, rows.volatility), rows.trend)
        walks += [
            walk_range(network, members, rows, (warm, start, stop), min_q_gap, device, view)
            for warm, (start, stop) in zip(rows.warm_from, rows.validate, strict=True)
        ]
    return summarise(walks, sigmas)


def load_weights(network: QNetwork, weights: Mapping[str, Floats32]) -> None:
    """Put arrays back into a network under the names of `memory.weights_of`."""
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
