"""The stretches that replay draws from, and their way into a batch.

A stretch is a row of one coin where burn-in begins, the states that a position met while the policy walked it through
the bars after the burn-in, and the actions it took. A few hundred bytes a bar; the bars themselves stay where they are.
Beside the path each batch prices three more positions a bar, drawn anew: a long, a short and none, so that the head is
right off the policy's own path as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from aml100.evaluation.kernel import counterfactual, position_rows
from aml100.evaluation.transition import ACTIONS, POSITION_DTYPE, Records
from aml100.learning.acting import random_positions, roll_out
from aml100.learning.dataset import Dataset
from aml100.learning.inference import CompiledWeights
from aml100.learning.learner import Batch
from aml100.learning.network import QNetwork
from aml100.learning.replay import PrioritizedReplay
from aml100.learning.reward import rewards
from aml100.learning.settings import TrainingSettings
from aml100.market.position import POSITION_SIZE

DRAWN_SIDES: Final = (1, -1, 0)
POSITIONS: Final = 1 + len(DRAWN_SIDES)
"""K: one path and the drawn positions."""


class StretchMemory:
    """Prioritised memory of stretches over one dataset.

    Holds as many stretches as make `settings.capacity` transitions, and no fewer than two batches of them.
    """

    def __init__(self, dataset: Dataset, settings: TrainingSettings, random: np.random.Generator) -> None:
        self.dataset = dataset
        self.burn_in = settings.burn_in_bars
        self.length = settings.stretch_bars
        self.gamma = settings.gamma
        self.reward_weights = replace(
            settings.reward,
            discount=settings.gamma,
            reference_volatility=settings.reward.reference_volatility or dataset.usual_volatility,
        ).as_record()
        self.reward_factor = 1.0 / (settings.reward.pnl_scale * dataset.reward_unit)
        self.input_noise = settings.input_noise
        self.random = random
        capacity = max(2 * settings.batch_stretches, settings.capacity // self.length)
        self.replay = PrioritizedReplay(capacity, settings.alpha)
        self._coin = np.zeros(capacity, np.int64)
        self._first = np.zeros(capacity, np.int64)
        self._met = np.zeros((capacity, self.length), POSITION_DTYPE)
        self._taken = np.zeros((capacity, self.length), np.int8)
        self._ranges = [
            (coin, start, stop - self.span + 1)
            for coin, rows in enumerate(dataset.coins)
            for start, stop in rows.train
            if stop - start >= self.span
        ]
        self._room = np.cumsum([stop - start for _, start, stop in self._ranges])

    @property
    def span(self) -> int:
        """Rows of a stretch: burn-in, the learned bars, and the one that the last step leads to."""
        return self.burn_in + self.length + 1

    def act(self, network: QNetwork, count: int, epsilon: float, device: torch.device) -> None:
        """Walk the policy through `count` stretches at random places and remember what it met."""
        draw = self.random.integers(0, self._room[-1], count)
        place = np.searchsorted(self._room, draw, side="right")
        coins = np.array([self._ranges[p][0] for p in place])
        before = np.concatenate([[0], self._room])[place]
        firsts = np.array([self._ranges[p][1] for p in place]) + draw - before
        weights = CompiledWeights.from_arrays(weights_of(network))
        with torch.no_grad():
            encoded, _ = network.encode(self._market(coins, firsts).to(device))
        share = np.ascontiguousarray(encoded[:, self.burn_in : -1].cpu().numpy())
        slots = self.replay.add(count)
        self._coin[slots], self._first[slots] = coins, firsts
        for coin in np.unique(coins):
            rows = self.dataset.coins[coin]
            mine = np.flatnonzero(coins == coin)
            first = firsts[mine] + self.burn_in
            sides = self.random.integers(-1, 2, len(mine)).astype(np.int8)
            live = random_positions(
                rows.market, rows.rules, first, sides, self.dataset.reward_unit, self.random
            ).reshape(-1, 1)
            met, taken = roll_out(rows.market, rows.rules, first, share[mine], weights, epsilon, live, self.random)
            self._met[slots[mine]], self._taken[slots[mine]] = met[:, :, 0], taken[:, :, 0]

    def sample(self, count: int, beta: float, device: torch.device) -> tuple[npt.NDArray[np.int64], Batch]:
        """Draw `count` stretches and lay them out as a batch; also returns their slots."""
        drawn = self.replay.sample(count, beta, self.random)
        coins, firsts = self._coin[drawn.slots], self._first[drawn.slots]
        shape = (count, self.length, POSITIONS)
        position = np.empty((*shape, POSITION_SIZE), np.float32)
        following = np.empty((*shape, ACTIONS, POSITION_SIZE), np.float32)
        reward = np.empty((*shape, ACTIONS), np.float32)
        discount = np.empty((*shape, ACTIONS), np.float32)
        for coin in np.unique(coins):
            mine = np.flatnonzero(coins == coin)
            priced = self._price(int(coin), drawn.slots[mine], firsts[mine])
            position[mine], following[mine], reward[mine], discount[mine] = priced
        market = self._market(coins, firsts)
        if self.input_noise > 0.0:
            market += self.input_noise * torch.from_numpy(self.random.standard_normal(market.shape, np.float32))
        taken = torch.from_numpy(self._taken[drawn.slots].astype(np.int64)).unsqueeze(-1)
        arrays = (market, torch.from_numpy(position), torch.from_numpy(following), torch.from_numpy(reward))
        rest = (torch.from_numpy(discount), torch.from_numpy(drawn.weights), taken)
        return drawn.slots, Batch(*(tensor.to(device) for tensor in (*arrays, *rest)))

    def _price(
        self, coin: int, slots: npt.NDArray[np.int64], firsts: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Rows of the states, rows of what follows, rewards and discounts of stretches of one coin."""
        rows = self.dataset.coins[coin]
        bars = firsts[:, None] + self.burn_in + np.arange(self.length)  # [b, L]
        states = np.empty((*bars.shape, POSITIONS), POSITION_DTYPE)
        states[:, :, 0] = self._met[slots]
        for column, side in enumerate(DRAWN_SIDES, start=1):
            states[:, :, column] = self._draw(coin, bars.reshape(-1), side).reshape(bars.shape)
        t = np.repeat(bars.reshape(-1), POSITIONS)
        following, steps = counterfactual(rows.market, rows.rules, t, states.reshape(-1))
        gains, _ = rewards(
            self.reward_weights,
            steps,
            states.reshape(-1),
            following,
            rows.volatility[t],
            rows.trend[t],
            rows.trend[t + 1],
        )
        after = np.repeat(rows.close[t + 1], ACTIONS)
        shape = (*bars.shape, POSITIONS)
        return (
            position_rows(states.reshape(-1), rows.close[t]).reshape(*shape, -1),
            position_rows(following.reshape(-1), after).reshape(*shape, ACTIONS, -1),
            (gains * self.reward_factor).astype(np.float32).reshape(*shape, ACTIONS),
            (self.gamma * (1.0 - steps["terminated"])).astype(np.float32).reshape(*shape, ACTIONS),
        )

    def _draw(self, coin: int, bars: npt.NDArray[np.int64], side: int) -> Records:
        rows = self.dataset.coins[coin]
        sides = np.full(len(bars), side, np.int8)
        return random_positions(rows.market, rows.rules, bars, sides, self.dataset.reward_unit, self.random)

    def _market(self, coins: npt.NDArray[np.int64], firsts: npt.NDArray[np.int64]) -> torch.Tensor:
        """Scaled features of the stretches, [B, span, F]."""
        rows = firsts[:, None] + np.arange(self.span)
        out = np.empty((*rows.shape, self.dataset.coins[0].scaled.shape[1]), np.float32)
        for coin in np.unique(coins):
            mine = coins == coin
            out[mine] = self.dataset.coins[coin].scaled[rows[mine]]
        return torch.from_numpy(out)

    def export_state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything that `restore` needs, as plain arrays."""
        met = np.ascontiguousarray(self._met).view(np.uint8).reshape(len(self._first), -1)
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "coin": self._coin.copy(), "first": self._first.copy(), "met": met.copy(), "taken": self._taken.copy(),
        }  # fmt: skip
        return arrays | dict(self.replay.export_state())

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Go on exactly where `export_state` was; the random generator is the caller's."""
        self._coin[:], self._first[:], self._taken[:] = state["coin"], state["first"], state["taken"]
        met = np.ascontiguousarray(state["met"]).reshape(-1).view(POSITION_DTYPE)
        self._met[:] = met.reshape(self._met.shape)
        self.replay.restore({name: np.asarray(state[name], np.float64) for name in ("priorities", "counters")})


def weights_of(network: QNetwork) -> dict[str, npt.NDArray[np.float32]]:
    """A copy of the network's tensors as arrays, under their own names."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}
