"""torchrl: its prioritised buffer (C++ sum trees), 4 transitions added, 64 sampled, 64 priorities set."""

import sys
import time
import warnings

import torch
from serve import serve

warnings.simplefilter("ignore")
from tensordict import TensorDict  # noqa: E402
from torchrl.data import LazyTensorStorage, TensorDictPrioritizedReplayBuffer  # noqa: E402

capacity = int(sys.argv[2])
CYCLES = 500
torch.set_num_threads(1)


def batch(count):
    return TensorDict(
        {
            "row": torch.arange(count),
            "position": torch.zeros(count, 9),
            "action": torch.zeros(count, dtype=torch.int8),
            "reward": torch.zeros(count),
            "discount": torch.ones(count),
        },
        [count],
    )


buffer = TensorDictPrioritizedReplayBuffer(
    alpha=0.6, beta=0.4, storage=LazyTensorStorage(capacity), batch_size=64, priority_key="td_error"
)
for start in range(0, capacity, 10_000):
    buffer.extend(batch(min(10_000, capacity - start)))
four, errors = batch(4), torch.rand(64, 64)


def measure():
    started = time.process_time()
    for number in range(CYCLES):
        buffer.extend(four)
        sample = buffer.sample()
        sample["td_error"] = errors[number % 64]
        buffer.update_tensordict_priority(sample)
    return CYCLES / (time.process_time() - started)


measure()
serve(measure)
