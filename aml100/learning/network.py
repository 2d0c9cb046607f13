"""The Q network: an LSTM reads the market once, a small duelling head prices actions for any number of positions.

The market does not react to us, so the encoding of a bar is the same whatever is held there. Only the head sees the
position, and its first layer is split: the encoding's share is computed once a bar and shared by all K positions.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeAlias

import torch
from torch import Tensor, nn

from aml100.market.position import POSITION_SIZE

ACTIONS = 3
"""HOLD, BUY, SELL, in the order of their numbers."""

LstmState: TypeAlias = tuple[Tensor, Tensor]
"""(h, c), each [layers, B, H]."""


class QNetwork(nn.Module):
    """Q values of the three actions, float32, in reward units.

    Args:
        features: F, columns of the market observation.
        hidden: H, width of the LSTM; `layers` its depth.
        head_hidden: D, width of the head's one hidden layer.
        seed: of the initial weights; the global random state is not touched.
    """

    def __init__(self, features: int, hidden: int, layers: int, head_hidden: int, seed: int) -> None:
        super().__init__()
        self.features = features
        self.hidden = hidden
        self.layers = layers
        self.head_hidden = head_hidden
        with torch.random.fork_rng(devices=[]):  # the modules draw weights of their own, replaced below
            self.encoder = nn.LSTM(features, hidden, layers, batch_first=True)
            self.market_share = nn.Linear(hidden, head_hidden)
            self.position_share = nn.Linear(POSITION_SIZE, head_hidden, bias=False)
            self.duel = nn.Linear(head_hidden, 1 + ACTIONS)
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Uniform by fan-in, recurrent weights orthogonal, forget gates open."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() == 1:
                    weight.zero_()
                elif "weight_hh" in name:
                    for gate in torch.split(weight, self.hidden):
                        nn.init.orthogonal_(gate, generator=generator)
                else:
                    bound = weight.shape[1] ** -0.5
                    weight.uniform_(-bound, bound, generator=generator)
                if name.startswith("encoder.bias_ih"):
                    weight[self.hidden : 2 * self.hidden] = 1.0
            self.duel.weight.mul_(0.1)

    def twin(self) -> QNetwork:
        """A copy on the same device; a copied LSTM's weights lie apart, and cuDNN would gather them at each call."""
        twin = deepcopy(self)
        twin.encoder.flatten_parameters()
        return twin

    def encode(self, market: Tensor, state: LstmState | None = None) -> tuple[Tensor, LstmState]:
        """Read bars in time order.

        Args:
            market: scaled features [B, T, F].
            state: where a previous call ended; None starts at zero.

        Returns:
            The head's share of each bar [B, T, D], and the state after the last bar.
        """
        encoding, after = self.encoder(market, state)  # [B, T, H]
        # the encoder works, and leaves its result, time first: read in that order the layer needs no copy
        return self.market_share(encoding.transpose(0, 1)).transpose(0, 1), after  # [B, T, D]

    def q_values(self, market_share: Tensor, position: Tensor) -> Tensor:
        """Price the actions: `market_share` [..., D] and `position` [..., K, P] give [..., K, 3]."""
        hidden = torch.relu(market_share.unsqueeze(-2) + self.position_share(position))  # [..., K, D]
        return combine_duel(self.duel(hidden))  # [..., K, 3]

    def forward(self, market: Tensor, position: Tensor) -> Tensor:
        """`market` [B, T, F] and `position` [B, T, K, P] give Q [B, T, K, 3]."""
        market_share, _ = self.encode(market)
        return self.q_values(market_share, position)


def combine_duel(duel: Tensor) -> Tensor:
    """State value and advantages [..., 1 + A] to Q [..., A]; advantages are centred, so the two are identifiable."""
    value, advantage = duel[..., :1], duel[..., 1:]
    return value + advantage - advantage.mean(dim=-1, keepdim=True)


def blend_into(target: nn.Module, online: nn.Module, share: float) -> None:
    """Soft update: move every weight of `target` the given share of the way to `online`."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), share)
