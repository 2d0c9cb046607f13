"""How good a network is, in money: the greedy policy walked through the validation part with the kernel's rules.

The market is read in chunks by torch, the positions are walked by the compiled head; `scores` says what comes of it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from aml100.evaluation.transition import Records
from aml100.learning.acting import RewardView, Walk, greedy_walk
from aml100.learning.dataset import CoinRows, Dataset
from aml100.learning.inference import CompiledWeights, Floats32
from aml100.learning.memory import weights_of
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
    rows: CoinRows,
    warm_from: int,
    start: int,
    stop: int,
    min_q_gap: float,
    device: torch.device,
    reward: RewardView | None = None,
) -> Walk:
    """Walk the greedy policy through the rows [start, stop), its memory warmed up from `warm_from` on."""
    share = encode_chunked(network, rows.scaled[warm_from:stop], device)[start - warm_from :]
    weights = CompiledWeights.from_arrays(weights_of(network))
    return greedy_walk(rows.market, rows.rules, start, np.ascontiguousarray(share), weights, min_q_gap, reward)


def validate(
    network: QNetwork,
    dataset: Dataset,
    *,
    min_q_gap: float,
    sigmas: float,
    device: torch.device,
    reward_weights: Records | None = None,
) -> Validation:
    """Walk every validation range and sum up; `reward_weights` are the learner's, None for profit alone."""
    walks = []
    for rows in dataset.coins:
        view = None
        if reward_weights is not None:
            view = RewardView(reward_weights, calm_factor(reward_weights, rows.volatility), rows.trend)
        walks += [
            walk_range(network, rows, warm, start, stop, min_q_gap, device, view)
            for warm, (start, stop) in zip(rows.warm_from, rows.validate, strict=True)
        ]
    return summarise(walks, sigmas)
