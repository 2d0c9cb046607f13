"""The network's shapes, its initial weights, and its compiled single-bar form against the chunked one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aml100.learning.dataset import Scaler
from aml100.learning.inference import CompiledNetwork, CompiledWeights, greedy_action, scale_row
from aml100.learning.memory import weights_of
from aml100.learning.network import QNetwork, blend_into, combine_duel
from aml100.learning.validation import LANES, LONE_CHUNK_BARS, WARM_BARS, encode_chunked
from aml100.market.position import POSITION_SIZE

CPU = torch.device("cpu")


def test_one_encoding_prices_every_position_at_every_bar() -> None:
    network = QNetwork(features=5, hidden=6, layers=2, head_hidden=4, seed=0)
    market, position = torch.randn(3, 7, 5), torch.randn(3, 7, 11, POSITION_SIZE)
    q = network(market, position)
    assert q.shape == (3, 7, 11, 3)
    share, _ = network.encode(market)
    alone = network.q_values(share[1, 4], position[1, 4, 9:10])
    torch.testing.assert_close(alone[0], q[1, 4, 9], rtol=0, atol=1e-6)


def test_initial_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (weights_of(QNetwork(5, 6, 1, 4, seed)) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["encoder.weight_ih_l0"], other["encoder.weight_ih_l0"])


def test_duel_centres_advantages_around_the_state_value() -> None:
    q = combine_duel(torch.tensor([10.0, 1.0, 2.0, 6.0]))  # value 10, advantages with mean 3
    torch.testing.assert_close(q, torch.tensor([8.0, 9.0, 13.0]))


def test_soft_update_moves_the_given_share_of_the_way() -> None:
    slow, fast = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        slow.weight.fill_(1.0)
        fast.weight.fill_(3.0)
    blend_into(slow, fast, 0.25)
    torch.testing.assert_close(slow.weight, torch.full((1, 2), 1.5))


@pytest.mark.parametrize(("hidden", "layers"), [(64, 1), (24, 2)])
def test_compiled_steps_equal_the_chunked_network(hidden: int, layers: int) -> None:
    bars = LONE_CHUNK_BARS + 300  # over the border of a chunk
    random = np.random.default_rng(3)
    network = QNetwork(36, hidden, layers, 16, seed=5)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "weight_hh" not in name:  # away from the gentle start, but not into chaos
                weight.mul_(2.0)
    scaled = random.standard_normal((bars, 36)).astype(np.float32)
    positions = random.standard_normal((bars, POSITION_SIZE))
    share = torch.from_numpy(encode_chunked(network, scaled, CPU))
    with torch.no_grad():
        chunked = network.q_values(share, torch.from_numpy(positions.astype(np.float32)).unsqueeze(1))[:, 0].numpy()
    compiled = CompiledNetwork(CompiledWeights.from_arrays(weights_of(network)))
    stepped = np.empty((bars, 3))
    for row in range(bars):
        compiled.observe(scaled[row])
        stepped[row] = compiled.q(positions[row])
    np.testing.assert_allclose(stepped, chunked, rtol=0, atol=1e-5)
    assert np.abs(chunked).max() > 0.1


@pytest.mark.parametrize("remembers", [False, True])
def test_a_long_series_read_side_by_side_equals_one_read_from_first_to_last(remembers: bool) -> None:
    """Also where the network never forgets, so that no lane can guess the memory it begins with."""
    bars = 2 * WARM_BARS * LANES + 77
    scaled = np.random.default_rng(4).standard_normal((bars, 36)).astype(np.float32)
    network = QNetwork(36, 8, 1, 8, seed=5)
    if remembers:
        with torch.no_grad():
            network.encoder.bias_ih_l0[8:16] = 12.0  # the forget gates
    with torch.no_grad():
        whole = network.encode(torch.from_numpy(scaled).unsqueeze(0))[0][0].numpy()
        late = network.encode(torch.from_numpy(scaled[-WARM_BARS:]).unsqueeze(0))[0][0, -1].numpy()
    read = encode_chunked(network, scaled, CPU)
    # what is never forgotten sums up the rounding too, of which each batch size has its own
    np.testing.assert_allclose(read, whole, rtol=0, atol=1e-4 if remembers else 2e-6)
    assert (np.abs(late - whole[-1]).max() > 1e-2) == remembers  # a guess alone would not have done


def test_scaling_a_row_equals_scaling_the_block_bit_for_bit() -> None:
    random = np.random.default_rng(0)
    block = random.standard_normal((50, 6)) * [1, 10, 1e-3, 0, 5, 1e4] + 2.0
    block[0, 0] = 1e9  # beyond the cut
    scaler = Scaler.fit([block[5:]])
    together = scaler.apply(block)
    alone = np.empty(6, np.float32)
    for row in range(50):
        scale_row(block[row], scaler.mean, scaler.inverse_sd, alone)
        assert alone.tobytes() == together[row].tobytes()
    assert together[0, 0] == 8.0
    assert not together[:, 3].any()  # a constant says nothing


def test_greedy_action_holds_on_ties_and_asks_a_gap_of_entries_only() -> None:
    tie, buys = np.array([1.0, 1.0, 1.0]), np.array([1.0, 1.05, 0.0])
    assert greedy_action(tie, 0.0, 0.0) == 0
    assert greedy_action(buys, 0.0, 0.04) == 1
    assert greedy_action(buys, 0.0, 0.06) == 0
    assert greedy_action(buys, -1.0, 0.06) == 1  # closing a short needs no gap
