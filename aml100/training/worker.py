"""The trainer's process: `python -m aml100.training.worker` reads one job on stdin and answers in lines on stdout.

It runs at low priority with few threads, and its log goes to stderr. SIGTERM, SIGINT and the end of stdin (its parent
is gone, or asks it to leave) stop it between two updates: it writes a checkpoint and leaves, well inside 30 seconds.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch

from aml100.domain.clock import Clock, SystemClock
from aml100.domain.errors import AmlError
from aml100.domain.units import Coin
from aml100.learning.checkpoint import CheckpointError
from aml100.learning.dataset import CoinData
from aml100.learning.jobs import TrainingJob, TrainingProgress, TrainingResult
from aml100.learning.trainer import train
from aml100.learning.trials import TrialRegistry
from aml100.storage.funding_files import read_funding
from aml100.storage.importing import read_bars
from aml100.training.hold_out import judge_hold_out
from aml100.training.messages import (
    DataSource,
    Done,
    Failed,
    HoldOutResult,
    Message,
    Progress,
    Stopped,
    TrainingSpec,
    decode_spec,
    encode_line,
)

NICENESS: Final = 10
LOCK_FILE: Final = "trainer.lock"
LARGEST_SPEC: Final = 1 << 20
_PR_SET_PDEATHSIG: Final = 1

log = logging.getLogger("aml100.training")


class Leave:
    """Whether the training is to end.

    A signal may come while the handler of another is at work, as the engine's SIGTERM and the kernel's when the engine
    dies. Whoever takes a lock there, as `threading.Event` does, waits for itself.
    """

    def __init__(self) -> None:
        self.told = False

    def tell(self) -> None:
        self.told = True


def main() -> int:
    """Serve one job; the exit code is 0 when it ended with Done or Stopped."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    leave = Leave()
    _lower_priority()
    _die_first()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: leave.tell())
    _die_with_parent()
    line = _read_line()
    threading.Thread(target=_watch_stdin, args=(leave,), daemon=True).start()
    final: Done | Stopped | Failed
    try:
        spec = decode_spec(line)
        with only_one_in(Path(spec.folder)):
            final = serve(spec, SystemClock(), leave)
    except msgspec.MsgspecError as error:
        final = Failed(f"the training job does not read: {error}")
    except CheckpointError as error:
        final = Failed(str(error), "checkpoint")
    except AmlError as error:
        final = Failed(str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        final = Failed("out of memory", "died")
    _send(final, leave)
    return 1 if isinstance(final, Failed) else 0


def is_out_of_memory(error: Exception) -> bool:
    """Torch has no type of its own for what its allocator says on a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def serve(spec: TrainingSpec, clock: Clock, leave: Leave) -> Done | Stopped:
    """Train as told, sending progress on stdout; returns how it ended."""
    job = load_job(spec)
    log.info("training on %d series, seed %d, %d epochs", len(job.data), job.seed, job.settings.epochs)
    for event in train(job, clock, lambda: leave.told):
        match event:
            case TrainingProgress():
                _send(_progress(event, spec.seed), leave)
            case TrainingResult(ended="stopped"):
                log.info("stopped after %d epochs, checkpoint in %s", event.epochs, spec.folder)
                return Stopped(checkpoint=spec.folder, epoch=event.epochs)
            case TrainingResult():
                path = event.save(job, Path(spec.models))
                log.info("%s after %d epochs, %d kept: %s", event.ended, event.epochs, event.best_epoch, path)
                judged = None if spec.hold_out is None else judge_hold_out(spec, spec.hold_out, path)
                return _done(event, path, spec.seed, judged)
    raise AmlError("the training ended without a result")


def load_job(spec: TrainingSpec) -> TrainingJob:
    """Read the bars and funding that a job names.

    Raises:
        DataFileError: a file is refused.
    """
    return TrainingJob(
        data=tuple(_load_source(source) for source in spec.data),
        settings=spec.settings,
        seed=spec.seed,
        folder=Path(spec.folder),
        budget_s=spec.budget_s,
        resume=spec.resume,
        git_revision=spec.git_revision,
        registry=TrialRegistry.beside(Path(spec.models)),
        source=spec.source,
        checkpoint_s=spec.checkpoint_s,
    )


def _load_source(source: DataSource) -> CoinData:
    coin = Coin(source.coin) if source.coin is not None else None
    series = read_bars(Path(source.path), coin)
    if source.until_ms is not None:
        series = series.rows(0, int(np.searchsorted(series.open_ms, source.until_ms)))
    funding = read_funding(Path(source.funding), series.coin) if source.funding is not None else None
    return CoinData(series, source.rules, funding, source.constant_funding_rate)


def _progress(event: TrainingProgress, seed: int) -> Progress:
    seen = event.validation
    return Progress(
        epoch=event.epoch,
        epochs=event.epochs,
        updates=event.updates,
        transitions=event.transitions,
        loss=event.loss,
        validation=None if seen is None else seen.net_return,
        best_epoch=event.best_epoch,
        score=event.best_score,
        learning_rate=event.learning_rate,
        epsilon=event.epsilon,
        seed=seed + event.member,
        elapsed_s=event.elapsed_s,
        eta_s=event.eta_s,
        actions=None if seen is None else (seen.hold_share, seen.buy_share, seen.sell_share),
        reward=None if seen is None else seen.reward,
        reward_correlation=None if seen is None else seen.reward_correlation,
        largest_q=event.largest_q,
        gradient_norm=event.gradient_norm,
        device=event.device,
        member=event.member,
        members=event.members,
    )


def _done(result: TrainingResult, path: Path, seed: int, judged: HoldOutResult | None) -> Done:
    assert result.ended != "stopped"
    return Done(
        id=path.name,
        path=str(path),
        ended=result.ended,
        seed=seed,
        best_epoch=result.best_epoch,
        epochs=result.epochs,
        updates=result.updates,
        transitions=result.transitions,
        seconds=result.seconds,
        device=result.device,
        validation=result.validation,
        health=result.health,
        healthy=all(finding.healthy for finding in result.health),
        hold_out=judged,
    )


def _send(message: Message, leave: Leave) -> None:
    """Write one line; a parent that no longer reads ends the training like a signal does."""
    try:
        sys.stdout.buffer.write(encode_line(message))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        leave.tell()


def _read_line() -> bytes:
    """The first line of stdin, read unbuffered so that the watcher sees what comes after it."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LARGEST_SPEC:
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return line


def _watch_stdin(leave: Leave) -> None:
    while os.read(0, 4096):
        continue
    leave.tell()


def _lower_priority() -> None:
    if os.nice(0) < NICENESS:
        os.nice(NICENESS - os.nice(0))


def _die_first() -> None:
    """Where memory runs out the kernel takes this process before the one that trades."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


@contextmanager
def only_one_in(folder: Path) -> Iterator[None]:
    """Wait until no other trainer works in this folder; an orphan of a killed engine is writing its checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _die_with_parent() -> None:
    """On Linux the kernel sends SIGTERM when the parent dies; elsewhere the end of stdin has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
