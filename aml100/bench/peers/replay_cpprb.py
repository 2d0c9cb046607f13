"""cpprb: `cycles` adds 4 small transitions, samples 64 and updates 64; `memory` fills a buffer with windows."""

import resource
import sys
import time

import numpy as np
from cpprb import PrioritizedReplayBuffer
from serve import serve

mode, capacity = sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(7)
CYCLES = 3_000


def small_buffer():
    fields = {
        "row": {"dtype": np.int64},
        "position": {"shape": 9},
        "act": {"dtype": np.int8},
        "rew": {},
        "discount": {},
    }
    buffer = PrioritizedReplayBuffer(capacity, fields, alpha=0.6)
    for start in range(0, capacity, 10_000):
        count = min(10_000, capacity - start)
        buffer.add(priorities=rng.random(count), **batch(count))
    return buffer


def batch(count):
    return {
        "row": np.arange(count),
        "position": np.zeros((count, 9), np.float32),
        "act": np.zeros(count, np.int8),
        "rew": np.zeros(count, np.float32),
        "discount": np.ones(count, np.float32),
    }


def cycles():
    started = time.process_time()
    for number in range(CYCLES):
        buffer.add(**four)
        sample = buffer.sample(64, 0.4)
        buffer.update_priorities(sample["indexes"], errors[number % 64])
    return CYCLES / (time.process_time() - started)


def resident_mb():
    """Now, as Linux tells it: its peak a process inherits from whoever started it."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def memory():
    before = resident_mb()
    shape = (60, 36)
    windows = PrioritizedReplayBuffer(
        capacity,
        {"obs": {"shape": shape}, "next_obs": {"shape": shape}, "act": {"dtype": np.int8}, "rew": {}, "done": {}},
    )
    block = np.zeros((1_000, *shape), np.float32)
    for _ in range(capacity // 1_000):
        windows.add(obs=block, next_obs=block, act=np.zeros(1_000), rew=np.zeros(1_000), done=np.zeros(1_000))
    return resident_mb() - before


if mode == "cycles":
    buffer, four, errors = small_buffer(), batch(4), rng.random((64, 64))
    cycles()
    serve(cycles)
else:
    taken = memory()  # once: what a process has had it gets again for nothing
    serve(lambda: taken)
