"""The stretches that replay draws from, and their way into a batch.

A stretch is a row of one coin where burn-in begins, the states that a position met while the policy walked it through
the bars after the burn-in, and the actions it took. A few hundred bytes a bar; the bars themselves stay where they are.
Beside the path each batch prices three more positions a bar, drawn anew: a long, a short and none, so that the head is
right off the policy's own path as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aml100.evaluation.transition import POSITION_DTYPE
from aml100.learning.acting import roll_out
from aml100.learning.dataset import Dataset
from aml100.learning.inference import CompiledHead
from aml100.learning.learner import Batch
from aml100.learning.mirror import ACTION_ORDER, Mirror, direction_teller
from aml100.learning.network import QNetwork
from aml100.learning.pricing import DRAWN_SIDES, Priced, RewardSight, price_stretches, random_positions
from aml100.learning.replay import PrioritizedReplay
from aml100.learning.reward import calm_factor
from aml100.learning.settings import TrainingSettings

HEAD: Final = ("position_share.", "duel.")
"""What a position is priced with on an encoded bar: the beginnings of the tensors' names."""
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
        self.reward_weights = replace(
            settings.reward,
            discount=settings.gamma,
            reference_volatility=settings.reward.reference_volatility or dataset.usual_volatility,
        ).as_record()
        factor = 1.0 / (settings.reward.pnl_scale * dataset.reward_unit)
        self.sights = [
            RewardSight(
                self.reward_weights,
                calm_factor(self.reward_weights, rows.volatility),
                rows.trend,
                factor,
                settings.gamma,
                dataset.reward_unit,
            )
            for rows in dataset.coins
        ]
        self.input_noise = settings.input_noise
        self.teller = direction_teller(dataset) if settings.mirror == "auto" else None
        self.mirrored = settings.mirror is not False and self.teller is None
        self.mirror = Mirror(dataset.scaler)
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

    @property
    def nbytes(self) -> int:
        """What the remembered stretches and their priorities take, in bytes; the bars are the dataset's."""
        return self.replay.nbytes + sum(part.nbytes for part in (self._coin, self._first, self._met, self._taken))

    def act(self, network: QNetwork, count: int, epsilon: float, device: torch.device) -> None:
        """Walk the policy through `count` stretches at random places and remember what it met."""
        draw = self.random.integers(0, self._room[-1], count)
        place = np.searchsorted(self._room, draw, side="right")
        coins = np.array([self._ranges[p][0] for p in place])
        before = np.concatenate([[0], self._room])[place]
        firsts = np.array([self._ranges[p][1] for p in place]) + draw - before
        with torch.no_grad():
            encoded, _ = network.encode(_sent(self._market(coins, firsts), device))
        head = CompiledHead.from_arrays(weights_of(network, HEAD))
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
            met, taken = roll_out(rows.market, rows.rules, first, share[mine], head, epsilon, live, self.random)
            self._met[slots[mine]], self._taken[slots[mine]] = met[:, :, 0], taken[:, :, 0]

    def sample(self, count: int, beta: float, device: torch.device) -> tuple[npt.NDArray[np.int64], Batch]:
        """Draw `count` stretches and lay them out as a batch; also returns their slots."""
        drawn = self.replay.sample(count, beta, self.random)
        coins, firsts = self._coin[drawn.slots], self._first[drawn.slots]
        turned = self.random.random(count) < 0.5 if self.mirrored else np.zeros(count, np.bool_)
        priced = Priced.empty(count, self.length, POSITIONS)
        for coin in np.unique(coins):
            rows, mine = self.dataset.coins[coin], np.flatnonzero(coins == coin)
            price_stretches(
                priced,
                mine,
                turned,
                rows.market,
                rows.rules,
                self.sights[coin],
                firsts[mine] + self.burn_in,
                self._met[drawn.slots[mine]],
                self.random,
            )
        market = self._market(coins, firsts)
        self.mirror.turn(market, turned)
        taken = self._taken[drawn.slots].astype(np.int64)
        taken[turned] = np.asarray(ACTION_ORDER)[taken[turned]]
        if self.input_noise > 0.0:
            market += np.float32(self.input_noise) * self.random.standard_normal(market.shape, np.float32)
        arrays = (
            market, priced.position, priced.following, priced.reward, priced.discount, drawn.weights, taken[..., None],
        )  # fmt: skip
        return drawn.slots, Batch(*(_sent(array, device) for array in arrays))

    def _market(self, coins: npt.NDArray[np.int64], firsts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Scaled features of the stretches, [B, span, F]."""
        rows = firsts[:, None] + np.arange(self.span)
        out = np.empty((*rows.shape, self.dataset.coins[0].scaled.shape[1]), np.float32)
        for coin in np.unique(coins):
            mine = coins == coin
            out[mine] = self.dataset.coins[coin].scaled[rows[mine]]
        return out

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


def _sent(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The array on the device; from pinned memory to a GPU, so that nobody waits for the copy. The CPU shares it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def weights_of(network: QNetwork, parts: tuple[str, ...] = ("",)) -> dict[str, npt.NDArray[np.float32]]:
    """A copy of the network's tensors as arrays, under their own names; of those that begin with one of `parts`."""
    named = network.state_dict().items()
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in named if name.startswith(parts)}
