"""The trading game as Gymnasium knows it, single and batched, over the compiled kernel.

Importing this module registers `AML100/Perp-v0`. Two facts explain the shape of the code:

- The market does not react to us, so features are computed once for the whole series (learning/arena.py), and what
  will be seen is laid out some steps ahead (`_observations`). The single form hands out copies of its windows (or, if
  asked, views), the batched form row numbers only.
- A step of one environment is one compiled call on one record, a step of many is one compiled call too
  (learning/stepping.py).

An episode is truncated where no bar follows (the position is closed at the last close, at its costs) or when
`episode_bars` are played; it is terminated only when the account is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from aml100.evaluation.kernel import ACTIONS, KernelRules, Records, flat_positions
from aml100.learning.arena import Arena, Float32s
from aml100.learning.inference import SCALED_LIMIT
from aml100.learning.reward import REWARD_TERMS, RewardConfig
from aml100.learning.stepping import BAD_ACTION, direct, step_many, step_one, world_of
from aml100.market.features import FEATURES
from aml100.market.position import PERCENT_LIMIT, POSITION_SIZE
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints

if TYPE_CHECKING:
    import pandas as pd

Observation: TypeAlias = dict[str, Any]

ENV_ID: Final = "AML100/Perp-v0"

_AHEAD: Final = 64
"""Observations laid out at once: the more, the less each costs, until a block outgrows the processor's cache."""
_AHEAD_AT_FIRST: Final = 4
"""And twice as many each time until then: an episode may be short."""
_TIED_TO_MEMORY: Final = ("_ahead", "_address", "_held", "_step_one", "_windows")
"""Attributes that hold for one process's memory only."""


def _observations(windows: Float32s, first: int, copies: bool) -> Iterator[tuple[Float32s, Float32s]]:
    """What is seen from `windows[first]` on, bar by bar: the market, and a place for the position, not yet written.

    They are rows of blocks, and each row is handed out once: no later step changes what somebody keeps. From the last
    bar on the last window is seen again and again.
    """

    def blocks() -> Iterator[Iterator[tuple[Float32s, Float32s]]]:
        row, count = first, _AHEAD_AT_FIRST
        while True:
            row = min(row, len(windows) - 1)
            markets = windows[row : row + count]
            positions = np.empty((len(markets), POSITION_SIZE), np.float32)
            yield zip(markets.copy() if copies else markets, positions, strict=True)
            row, count = row + count, min(2 * count, _AHEAD)

    return chain.from_iterable(blocks())


class PerpEnv(gymnasium.Env[Observation, int]):
    """One position on one perpetual; the actions are 0 HOLD, 1 BUY, 2 SELL.

    The reward is in the units of `reward`; `info` of an episode's last step holds its net profit on one unit of
    notional a trade, its equity (1 at the start) and the sum of every reward term.

    What is seen never changes later. It is a row of a block of up to 64, which lives as long as one of them is kept:
    who keeps few of many observations copies those.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  Gymnasium declares it as an instance's

    def __init__(
        self,
        bars: pd.DataFrame | BarSeries,
        *,
        window: int = 60,
        episode_bars: int = 0,
        rules: KernelRules | None = None,
        reward: RewardConfig | None = None,
        funding: FundingSeries | None = None,
        constant_rate: float = 0.0,
        fit_rows: int | None = None,
        copy_windows: bool = True,
    ) -> None:
        """See `Arena.build`; `episode_bars` of 0 plays until the bars end.

        With `copy_windows` False the market's windows are read-only views that overlap: faster, but not what
        Gymnasium promises its users.
        """
        self.arena = Arena.build(
            bars,
            window=window,
            rules=rules,
            reward=reward,
            funding=funding,
            constant_rate=constant_rate,
            fit_rows=fit_rows,
        )
        spaces: dict[str, gymnasium.Space[Any]] = {
            "market": gymnasium.spaces.Box(-SCALED_LIMIT, SCALED_LIMIT, (window, len(FEATURES)), np.float32),
            "position": gymnasium.spaces.Box(-PERCENT_LIMIT, PERCENT_LIMIT, (POSITION_SIZE,), np.float32),
        }
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self.action_space = gymnasium.spaces.Discrete(ACTIONS)  # type: ignore[assignment]  # of numpy's int64
        self._episode_bars = episode_bars
        self._copies = copy_windows
        self._settle(world_of(self.arena))

    def _settle(self, world: Records) -> None:
        """Play on in this world. It and the arrays that it points at are held here, and from here on never moved."""
        bars, signals = np.ascontiguousarray(self.arena.market.bars), np.ascontiguousarray(self.arena.signals)
        world["bars"], world["signals"] = bars.ctypes.data, signals.ctypes.data
        self._held, self._world = (bars, signals), world
        self._address, self._world_dtype, self._bar_dtype = world.ctypes.data, world.dtype, bars.dtype
        self._windows = np.lib.stride_tricks.sliding_window_view(
            self.arena.features, self.arena.window, axis=0
        ).swapaxes(1, 2)
        blank = np.empty(POSITION_SIZE, np.float32)
        self._step_one = direct(step_one, self._address, 0, blank, self._world_dtype, self._bar_dtype)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Lay out what is seen after the row where the world stands."""
        self._ahead = _observations(self._windows, self._place() + 1, self._copies)

    def _place(self) -> int:
        """Of the window that is seen now."""
        return int(self._world["t"][0]) + 1 - self.arena.window

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what belongs to this place in memory, so that an environment can be copied and sent."""
        return {name: value for name, value in self.__dict__.items() if name not in _TIED_TO_MEMORY}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._settle(self._world.copy())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin flat at a random row; `options={"row": t}` picks the row of the first decision."""
        super().reset(seed=seed)
        starts = self.arena.starts
        row = int(starts[self.np_random.integers(len(starts))]) if not options else int(options["row"])
        if options and row not in starts:
            raise ValueError(f"row {row} has no complete window behind it or no bar after it")
        self._world["state"] = flat_positions(1)
        self._world["t"] = row
        self._world["until"] = row + self._episode_bars if self._episode_bars else -1
        self._world["profit"] = 0.0
        self._world["sums"] = 0.0
        self._look_ahead()
        return {"market": self._market(), "position": np.zeros(POSITION_SIZE, np.float32)}, {"row": row}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        try:
            market, position = next(self._ahead)
            reward = self._step_one(self._address, action, position, self._world_dtype, self._bar_dtype)
        except BaseException:  # a bad action, an interruption: go on from where the world stands
            self._look_ahead()
            raise
        if reward == reward:  # no NaN: the episode goes on
            return {"market": market, "position": position}, reward, False, False, {}
        self._look_ahead()
        observation, world = {"market": self._market(), "position": position}, self._world[0]
        terminated, truncated = bool(world["step"]["terminated"]), bool(world["truncated"])
        return observation, float(world["reward"]), terminated, truncated, self.summary()

    def _market(self) -> Float32s:
        window: Float32s = self._windows[self._place()]
        return window.copy() if self._copies else window

    def summary(self) -> dict[str, Any]:
        """The episode so far: `profit`, `equity` and `terms` (sums by name)."""
        world = self._world[0]
        terms = {name: float(value) for name, value in zip(REWARD_TERMS, world["sums"], strict=True)}
        return {"profit": float(world["profit"]), "equity": float(world["state"]["equity"]), "terms": terms}

    @property
    def state(self) -> Records:
        """The position and its account as they stand, a copy of POSITION_DTYPE [1]."""
        return self._world["state"].copy()

    @property
    def last_step(self) -> Records:
        """What the last step brought, a copy of STEP_DTYPE [1]."""
        return self._world["step"].copy()

    def reward_terms(self) -> dict[str, float]:
        """The terms of the last step's reward, by name."""
        return {name: float(value) for name, value in zip(REWARD_TERMS, self._world[0]["terms"], strict=True)}


class BatchedEnv:
    """Many independent positions over one market, stepped by one compiled call.

    An observation holds `market_index` int64 [n] (the decision row of each; `windows` gathers what they see) and
    `position` float32 [n, P]. An environment that ends begins anew in the same step: its reward and flags are the old
    episode's, its observation the new one's.
    """

    def __init__(
        self,
        bars: pd.DataFrame | BarSeries | Arena,
        n: int,
        *,
        seed: int = 0,
        episode_bars: int = 0,
        window: int = 60,
        rules: KernelRules | None = None,
        reward: RewardConfig | None = None,
        funding: FundingSeries | None = None,
        constant_rate: float = 0.0,
        fit_rows: int | None = None,
    ) -> None:
        """See `Arena.build`; an `Arena` already built is shared and the options about it are not looked at."""
        self.arena = (
            bars
            if isinstance(bars, Arena)
            else Arena.build(
                bars,
                window=window,
                rules=rules,
                reward=reward,
                funding=funding,
                constant_rate=constant_rate,
                fit_rows=fit_rows,
            )
        )
        self.n = n
        self.term_sums = np.zeros(len(REWARD_TERMS))
        """Sums of all reward terms since `reset`, in the order of REWARD_TERMS."""
        self._rng = np.random.default_rng(seed)
        self._episode_bars = episode_bars or 2**62
        self._states = flat_positions(n)
        self._blank = flat_positions(1)
        self._t = np.zeros(n, np.int64)
        self._until = np.zeros(n, np.int64)
        self._starts = self._draw()
        self._step_many: Callable[..., int] | None = None

    @property
    def states(self) -> Records:
        """The positions themselves, POSITION_DTYPE [n]; the caller must not change them."""
        return self._states

    def reset(self) -> dict[str, Any]:
        """Begin all episodes anew, flat, at random rows."""
        self._states[:] = self._blank[0]
        self._t[:] = self._draw()
        self._until[:] = self._t + self._episode_bars
        self._starts = self._draw()
        self.term_sums[:] = 0.0
        return {"market_index": self._t.copy(), "position": np.zeros((self.n, POSITION_SIZE), np.float32)}

    def step(
        self, actions: npt.NDArray[np.int8]
    ) -> tuple[dict[str, Any], Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """One bar for everybody; `actions` int8 [n]. Returns (observation, reward, terminated, truncated), each [n]."""
        actions = np.ascontiguousarray(actions, dtype=np.int8)
        if actions.shape != (self.n,):
            raise ValueError(f"actions must be {self.n} numbers from 0 to {ACTIONS - 1}")
        rewards, position = np.empty(self.n), np.empty((self.n, POSITION_SIZE), np.float32)
        terminated, truncated = np.empty(self.n, np.bool_), np.empty(self.n, np.bool_)
        arena = self.arena
        arguments = (
            arena.market.bars,
            arena.signals,
            arena.rules,
            arena.weights,
            actions,
            self._t,
            self._until,
            self._states,
            self._blank,
            self._starts,
            self._episode_bars,
            rewards,
            terminated,
            truncated,
            position,
            self.term_sums,
        )
        if self._step_many is None:
            self._step_many = direct(step_many, *arguments)
        begun = self._step_many(*arguments)
        if begun == BAD_ACTION:
            raise ValueError(f"actions must be {self.n} numbers from 0 to {ACTIONS - 1}")
        if begun:
            self._starts = self._draw()
        return {"market_index": self._t.copy(), "position": position}, rewards, terminated, truncated

    def windows(self, market_index: Ints) -> Float32s:
        """What is seen at these rows, copied out: float32 [B, window, F]."""
        return self.arena.windows(market_index)

    def _draw(self) -> Ints:
        return self._rng.choice(self.arena.starts, self.n)


__all__ = ["ENV_ID", "BatchedEnv", "PerpEnv"]

gymnasium.register(id=ENV_ID, entry_point="aml100.learning.env:PerpEnv")
