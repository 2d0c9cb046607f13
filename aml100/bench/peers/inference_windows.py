"""torch, one thread: for every bar an LSTM over its window of 60 rows, in batches of 512 windows, and a small head."""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from serve import serve

WINDOW, BATCH, BARS, HEAD = 60, 512, 10_240, 64

hidden = int(sys.argv[2])
torch.set_num_threads(1)
features = torch.from_numpy(np.load(Path(sys.argv[1]) / "features.npy")[: BARS + WINDOW])
windows = features.unfold(0, WINDOW, 1).transpose(1, 2)  # [bars, window, F], a view
lstm = torch.nn.LSTM(features.shape[1], hidden, batch_first=True)
head = torch.nn.Sequential(torch.nn.Linear(hidden, HEAD), torch.nn.ReLU(), torch.nn.Linear(HEAD, 3))


def measure():
    started = time.process_time()
    with torch.no_grad():
        for start in range(0, BARS, BATCH):
            encoding, _ = lstm(windows[start : start + BATCH].contiguous())
            head(encoding[:, -1]).argmax(dim=1).numpy()
    rate = BARS / (time.process_time() - started)
    return {"chunked": rate, "step": rate}


measure()
serve(measure)
