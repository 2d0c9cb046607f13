"""How good a network is, in money: the greedy policy walked through the validation part with the kernel's rules.

The market is read in chunks by torch, the positions are walked by the compiled head; `scores` says what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from aml100.evaluation.transition import Records
from aml100.learning.acting import RewardView, Walk, greedy_walk
from aml100.learning.dataset import CoinRows, Dataset
from aml100.learning.inference import CompiledWeights, Floats32
from aml100.learning.network import LstmState, QNetwork
from aml100.learning.probing import Letting, is_open_ended, positions_left
from aml100.learning.reward import calm_factor

LANES: Final = 32
WARM_BARS: Final = 512
"""Bars that a lane reads before its own, to have forgotten that it began with nothing."""
CHUNK_BARS: Final = 128
"""Bars encoded at once in all lanes; the state is carried over, so the chunks change nothing but speed."""
LONE_CHUNK_BARS: Final = 2048
"""The same where there is one lane."""
AGREED: Final = 1e-6
"""Two states are the same where no number of them differs by more, or by more than this share of it."""


def encode_chunked(network: QNetwork, scaled: Floats32, device: torch.device) -> Floats32:
    """The head's share of each bar, [n, F] features in, [n, D] out, from zero memory on.

    A long series is read in LANES side by side, since one bar at a time leaves the processor idle. Each lane but the
    first guesses the memory it begins with by reading the bars before its own. The guess is held against the memory
    that the lane before ended with, and where they differ the lane is read again from that: the result is that of one
    reading from first to last, to AGREED.
    """
    out = np.empty((len(scaled), network.head_hidden), np.float32)
    length = len(scaled) // LANES
    with torch.no_grad():
        if length < 2 * WARM_BARS:
            _read(network, scaled[None], out[None], None, LONE_CHUNK_BARS, device)
            return out
        whole = length * LANES
        lanes, shares = scaled[:whole].reshape(LANES, length, -1), out[:whole].reshape(LANES, length, -1)
        guessed = _read(network, lanes[:-1, -WARM_BARS:], None, None, CHUNK_BARS, device)
        began = tuple(torch.cat([torch.zeros_like(one[:, :1]), one], dim=1) for one in guessed)  # [layers, LANES, H]
        ended = _read(network, lanes, shares, (began[0], began[1]), CHUNK_BARS, device)
        for lane in range(1, LANES):
            before = _of_lane(ended, lane - 1)
            if not _agree(before, _of_lane(began, lane)):
                again = _read(network, lanes[lane][None], shares[lane][None], before, LONE_CHUNK_BARS, device)
                for all_lanes, one in zip(ended, again, strict=True):
                    all_lanes[:, lane] = one[:, 0]
        _read(network, scaled[None, whole:], out[None, whole:], _of_lane(ended, LANES - 1), LONE_CHUNK_BARS, device)
    return out


def _read(
    network: QNetwork, rows: Floats32, out: Floats32 | None, state: LstmState | None, chunk: int, device: torch.device
) -> LstmState:
    """Read `rows` [lanes, n, F] from `state` on in chunks; writes the shares [lanes, n, D], returns the last state."""
    for start in range(0, rows.shape[1], chunk):
        market = torch.from_numpy(rows[:, start : start + chunk]).to(device)
        if out is None:
            _, state = network.encoder(market, state)
        else:
            share, state = network.encode(market, state)
            out[:, start : start + chunk] = share.cpu().numpy()
    if state is None:  # there was nothing to read
        shape = (network.layers, len(rows), network.hidden)
        state = (torch.zeros(shape, device=device), torch.zeros(shape, device=device))
    return state


def _of_lane(state: tuple[Tensor, ...], lane: int) -> LstmState:
    h, c = (one[:, lane : lane + 1].contiguous() for one in state)
    return h, c


def _agree(one: LstmState, other: LstmState) -> bool:
    return all(
        bool(((a - b).abs() <= AGREED * torch.clamp(a.abs(), min=1.0)).all()) for a, b in zip(one, other, strict=True)
    )


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
    share = _shares(network, members, rows, bounds, device)
    return greedy_walk(rows.market, rows.rules, bounds[1], share, _heads(members), min_q_gap, reward)


def probe_members(
    network: QNetwork, members: Sequence[Mapping[str, Floats32]], dataset: Dataset, device: torch.device
) -> Letting:
    """Ask the members' mean Q values on every validation range whether a position that is far ahead is let go.

    `network` is of the members' shape; it is left with the last one's weights.
    """
    heads = _heads(members)
    return Letting.of(
        positions_left(
            rows.market, rows.rules, start, _shares(network, members, rows, (warm, start, stop), device), heads
        )
        for rows in dataset.coins
        if is_open_ended(rows.rules)
        for warm, (start, stop) in zip(rows.warm_from, rows.validate, strict=True)
    )


def _shares(
    network: QNetwork,
    members: Sequence[Mapping[str, Floats32]],
    rows: CoinRows,
    bounds: tuple[int, int, int],
    device: torch.device,
) -> Floats32:
    """The head's share of the rows [start, stop) of each member, [M, n, D]."""
    warm_from, start, stop = bounds
    shares = []
    for weights in members:
        load_weights(network, weights)
        shares.append(encode_chunked(network, rows.scaled[warm_from:stop], device)[start - warm_from :])
    return np.stack(shares)


def _heads(members: Sequence[Mapping[str, Floats32]]) -> list[CompiledWeights]:
    return [CompiledWeights.from_arrays(weights) for weights in members]


def validate_members(
    network: QNetwork,
    members: Sequence[Mapping[str, Floats32]],
    dataset: Dataset,
    *,
    min_q_gap: float,
    device: torch.device,
    reward_weights: Records | None = None,
) -> list[Walk]:
    """Walk every validation range; `reward_weights` are the learner's, None for profit alone.

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
    return walks


def load_weights(network: QNetwork, weights: Mapping[str, Floats32]) -> None:
    """Put arrays back into a network under the names of `memory.weights_of`."""
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
