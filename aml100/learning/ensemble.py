"""Several seeds as one model: their Q values averaged, so that what one seed alone believes counts for little.

One seed's gaps between actions are part edge, part accident. The accidents of several seeds are independent; averaging
keeps the edge, and where the members disagree about a gap the policy's confidence falls (`bundle.ModelPolicy`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np
import torch

from aml100.learning.dataset import feature_names
from aml100.learning.jobs import TrainingJob, TrainingProgress, TrainingResult
from aml100.learning.memory import StretchMemory
from aml100.learning.network import QNetwork
from aml100.learning.scores import policy_health, summarise
from aml100.learning.validation import probe_members, validate_members


def combine(results: Sequence[TrainingResult], job: TrainingJob) -> TrainingResult:
    """One result of several trained on the same data: Q values averaged, and what that earns in validation.

    The curve is the first member's; epochs, updates and seconds are sums, the best epoch the latest of theirs.
    """
    settings = job.settings
    first = results[0]
    members = tuple(result.members[0] for result in results)
    network = QNetwork(
        len(feature_names()), settings.lstm_hidden, settings.lstm_layers, settings.head_hidden, seed=job.seed
    )
    device = torch.device("cpu")
    weights_of_reward = StretchMemory(first.dataset, settings, np.random.default_rng(0)).reward_weights
    walks = validate_members(
        network,
        members,
        first.dataset,
        min_q_gap=settings.min_q_gap,
        device=device,
        reward_weights=weights_of_reward,
    )
    letting = probe_members(network, members, first.dataset, device)
    validation = summarise(walks, settings.selection_sigmas)
    finite = all(np.isfinite(array).all() for weights in members for array in weights.values())
    best = max(max(result.curve) for result in results)
    return replace(
        first,
        members=members,
        validation=validation,
        health=policy_health(validation, best, finite, settings.gamma, letting),
        best_epoch=max(result.best_epoch for result in results),
        epochs=sum(result.epochs for result in results),
        updates=sum(result.updates for result in results),
        transitions=sum(result.transitions for result in results),
        seconds=sum(result.seconds for result in results),
        ended=first.ended if len({result.ended for result in results}) == 1 else "budget",
    )


def interleave(
    members: Sequence[Iterator[TrainingProgress | TrainingResult]], lanes: int
) -> Iterator[tuple[int, TrainingProgress | TrainingResult]]:
    """Events of the members by number as they come, `lanes` members at a time; compiled code and torch release the
    interpreter, so they do run at once."""
    waiting = list(range(len(members)))[::-1]
    with ThreadPoolExecutor(lanes, "member", torch.set_num_threads, (1,)) as pool:
        running: dict[Future[TrainingProgress | TrainingResult], int] = {}

        def go_on(number: int) -> None:
            running[pool.submit(next, members[number])] = number

        for _ in range(lanes):
            go_on(waiting.pop())
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=running.__getitem__):
                number, event = running.pop(future), future.result()
                if isinstance(event, TrainingProgress):
                    go_on(number)
                elif waiting:
                    go_on(waiting.pop())
                yield number, event
