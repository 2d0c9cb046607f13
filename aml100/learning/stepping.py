"""One step of the trading game, compiled: of one environment on a record of its world, of many on arrays.

Handing an array to compiled code takes as long as half of the rules, so the world of a single environment is handed
over by its address, and its step is called without looking at types again (`direct`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import typeof

from aml100.evaluation.kernel import ACTIONS, POSITION_DTYPE, STEP_DTYPE, Records, flat_positions
from aml100.evaluation.transition import advance
from aml100.learning.arena import Arena
from aml100.learning.reward import REWARD_TERMS, WEIGHTS_DTYPE, sum_terms, terms_of_step
from aml100.market.compiled import array_at, compiled
from aml100.market.position import position_features

BAD_ACTION: Final = -1
_FLOAT64: Final = np.dtype(np.float64)


def world_of(arena: Arena) -> Records:
    """All that a step of one environment reads and writes, shape [1]; the rules in their own type.

    It stands flat at the first row where an episode may begin. `bars` and `signals` are addresses (`PerpEnv._settle`
    writes them); `until` is the row at which an episode of given length ends; `reward` and `truncated` are the last
    step's.
    """
    dtype = np.dtype(
        [
            ("before", POSITION_DTYPE),
            ("state", POSITION_DTYPE),
            ("step", STEP_DTYPE),
            ("rule", arena.rules.dtype),
            ("weight", WEIGHTS_DTYPE),
            *((name, "i8") for name in ("bars", "signals", "length", "t", "until", "truncated")),
            ("reward", "f8"),
            ("profit", "f8"),
            ("terms", "f8", len(REWARD_TERMS)),
            ("sums", "f8", len(REWARD_TERMS)),
        ],
        align=True,
    )
    world = np.zeros(1, dtype)
    world["rule"], world["weight"] = arena.rules, arena.weights
    world["length"], world["t"], world["until"] = len(arena.market), arena.starts[0], -1
    world["state"] = flat_positions(1)
    return world


@compiled(error_model="numpy")
def _describe(s: Any, close: float, out: Any) -> None:
    drawdown = max(0.0, 1.0 - s.equity / s.peak)
    position_features(s.side, s.entry, close, s.bars_held, s.target, s.stop, drawdown, s.wins, s.holds, out)


@compiled(error_model="numpy", nogil=False)
def step_one(address: int, action: int, position: Any, world_dtype: Any, bar_dtype: Any) -> float:
    """One step of the world at this address; writes what is seen of the position, returns the reward.

    Where the episode ends it returns NaN, and the reward stands in the world: a pair would cost more than the branch.
    The two types cost nothing: only the compiler reads them.
    """
    if action < 0 or action >= ACTIONS:
        raise ValueError("there are the actions 0, 1 and 2")
    world = array_at(address, (1,), world_dtype)[0]
    bars = array_at(world.bars, (world.length,), bar_dtype)
    signals = array_at(world.signals, (world.length, 2), _FLOAT64)
    world.before = world.state
    t = world.t
    advance(bars, world.rule, t, action, world.state, world.step)
    after = t if world.step.truncated else t + 1
    world.t = after
    world.profit += world.step.net
    terms = terms_of_step(
        world.weight,
        world.step,
        world.before,
        world.state,
        signals[t, 0],
        signals[t, 1],
        signals[after, 1],
    )
    for term in range(len(terms)):
        world.terms[term] = terms[term]
        world.sums[term] += terms[term]
    _describe(world.state, bars[after].close, position)
    world.reward = sum_terms(terms)
    world.truncated = world.step.truncated != 0 or after == world.until
    return math.nan if world.truncated or world.step.terminated else world.reward


@compiled(error_model="numpy")
def step_many(
    bars: Any,
    signals: Any,
    rules: Any,
    weights: Any,
    actions: Any,
    t: Any,
    until: Any,
    states: Any,
    blank: Any,
    starts: Any,
    episode_bars: int,
    rewards: Any,
    terminated: Any,
    truncated: Any,
    position: Any,
    sums: Any,
) -> int:
    """One step of every environment; those that end begin anew at the next of `starts`.

    Returns how many began; BAD_ACTION, with nothing done, where one of the actions is none.
    """
    for row in range(t.shape[0]):
        if actions[row] < 0 or actions[row] >= ACTIONS:
            return BAD_ACTION
    rule, weight = rules[0], weights[0]
    steps = np.zeros(1, STEP_DTYPE)
    before = np.zeros(1, POSITION_DTYPE)
    begun = 0
    for row in range(t.shape[0]):
        now, step = t[row], steps[0]
        before[0] = states[row]
        advance(bars, rule, now, actions[row], states[row], step)
        after = now if step.truncated else now + 1
        terms = terms_of_step(weight, step, before[0], states[row], signals[now, 0], signals[now, 1], signals[after, 1])
        rewards[row] = sum_terms(terms)
        for term in range(len(terms)):
            sums[term] += terms[term]
        terminated[row] = step.terminated != 0
        truncated[row] = step.truncated != 0 or after >= until[row]
        if terminated[row] or truncated[row]:
            after = starts[begun]
            begun += 1
            until[row] = after + episode_bars
            states[row] = blank[0]
        t[row] = after
        _describe(states[row], bars[after].close, position[row])
    return begun


def direct(function: Any, *arguments: Any) -> Callable[..., Any]:
    """A compiled function for arguments of exactly these types, without looking at the types again at every call.

    That look costs as much as the step itself. Whoever calls it must pass arrays of the same types.
    """
    signature = tuple(typeof(argument) for argument in arguments)  # type: ignore[no-untyped-call]
    function.compile(signature)
    entry: Callable[..., Any] = function.overloads[signature].entry_point
    return entry
