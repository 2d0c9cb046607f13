"""P8 and P11: a year of bars through the network, and one bar while live.

P8: ours encodes bars once, in chunks, and walks the greedy policy through them (training and validation do that); the
window form runs the LSTM over the last 60 bars for every bar, as bots do that keep no state. Shown with a goal of its
own is the parity form, the compiled step a bar at a time with which back-test, replay and live decide.

P11: one bar in, Q values out, measured call by call. Ours carries the state; the peers run a window of 60.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from aml100.bench.frame import Figure, Goal, Peer, Readings, Sample, Trial
from aml100.bench.inputs import made_up_bars, per_second

BARS = 131_400
HEAD = 64
CALLS = 20_000


@contextmanager
def year(folder: Path, hidden: int) -> Iterator[Sample]:
    """Bars a second: encoded in chunks and walked, and by the compiled step."""
    import torch

    from aml100.learning.acting import greedy_walk
    from aml100.learning.arena import Arena
    from aml100.learning.inference import CompiledNetwork, CompiledWeights
    from aml100.learning.memory import weights_of
    from aml100.learning.network import QNetwork
    from aml100.learning.validation import encode_chunked
    from aml100.market.position import POSITION_SIZE

    torch.set_num_threads(1)
    arena = Arena.build(made_up_bars(BARS), constant_rate=0.0000125)
    network = QNetwork(arena.features.shape[1], hidden, 1, HEAD, seed=1)
    weights = CompiledWeights.from_arrays(weights_of(network))
    features, device = np.array(arena.features), torch.device("cpu")
    np.save(folder / "features.npy", features)

    def chunked() -> None:
        share = encode_chunked(network, features, device)
        greedy_walk(arena.market, arena.rules, 0, share, weights, 0.0)

    def stepwise() -> None:
        compiled, position = CompiledNetwork(weights), np.zeros(POSITION_SIZE)
        for row in features:
            compiled.observe(row)
            compiled.q(position)

    def measure() -> Readings:
        return {"chunked": per_second(BARS, chunked), "step": per_second(BARS, stepwise)}

    measure()
    yield measure


@contextmanager
def one_bar(folder: Path) -> Iterator[Sample]:
    """Microseconds from a scaled row to the Q values, LSTM 64: median and 99th percentile."""
    from aml100.learning.inference import CompiledNetwork, CompiledWeights
    from aml100.learning.memory import weights_of
    from aml100.learning.network import QNetwork
    from aml100.market.features import FEATURE_COUNT
    from aml100.market.position import POSITION_SIZE

    network = QNetwork(FEATURE_COUNT, 64, 1, HEAD, seed=1)
    compiled = CompiledNetwork(CompiledWeights.from_arrays(weights_of(network)))
    rows = np.random.default_rng(6).normal(size=(CALLS, FEATURE_COUNT)).astype(np.float32)
    position = np.zeros(POSITION_SIZE)
    np.save(folder / "rows.npy", rows[:2_000])

    def measure() -> Readings:
        taken = np.empty(CALLS)
        for number in range(CALLS):
            row = rows[number]
            started = time.perf_counter_ns()
            compiled.observe(row)
            compiled.q(position)
            taken[number] = time.perf_counter_ns() - started
        return {"p50": float(np.percentile(taken, 50)) / 1e3, "p99": float(np.percentile(taken, 99)) / 1e3}

    measure()
    yield measure


def _year_trial(hidden: int) -> Trial:
    peer = f"window 60, LSTM {hidden}"
    return Trial(
        "P8",
        partial(year, hidden=hidden),
        figures=(
            Figure(f"bars encoded in chunks and walked, LSTM {hidden}", "bars/s", (Goal(20, peer),), "chunked"),
            Figure(f"bars by the compiled step, LSTM {hidden}", "bars/s", (Goal(4, peer),), "step"),
        ),
        peers=(Peer(peer, "inference_windows.py", None, (str(hidden),)),),
        repetitions=3,
    )


TRIALS = (
    _year_trial(64),
    _year_trial(128),
    Trial(
        "P11",
        one_bar,
        figures=tuple(
            Figure(
                f"inference for one bar, LSTM 64, {key}",
                "us",
                (Goal(10, "torch eager window"), Goal(1, "ONNX Runtime window")),
                key,
                less_is_better=True,
            )
            for key in ("p50", "p99")
        ),
        peers=(
            Peer("torch eager window", "inference_torch.py"),
            Peer("ONNX Runtime window", "inference_onnx.py", "onnxruntime"),
        ),
    ),
)
