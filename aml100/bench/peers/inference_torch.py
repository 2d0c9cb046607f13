"""torch, eager, one thread: an LSTM of 64 over a window of 60 rows and a small head, call by call."""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from serve import serve

WINDOW, HIDDEN, HEAD = 60, 64, 64

torch.set_num_threads(1)
rows = torch.from_numpy(np.load(Path(sys.argv[1]) / "rows.npy"))
lstm = torch.nn.LSTM(rows.shape[1], HIDDEN, batch_first=True)
head = torch.nn.Sequential(torch.nn.Linear(HIDDEN, HEAD), torch.nn.ReLU(), torch.nn.Linear(HEAD, 3))


def measure():
    taken = []
    with torch.inference_mode():
        for end in range(WINDOW, len(rows)):
            started = time.perf_counter_ns()
            encoding, _ = lstm(rows[end - WINDOW : end].unsqueeze(0))
            head(encoding[:, -1]).tolist()
            taken.append(time.perf_counter_ns() - started)
    return {"p50": float(np.percentile(taken, 50)) / 1e3, "p99": float(np.percentile(taken, 99)) / 1e3}


measure()
serve(measure)
