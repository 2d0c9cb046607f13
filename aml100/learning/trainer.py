"""The training loop as a generator: split, learn, validate by money, keep one, stop early, resume exactly.

    for event in train(job, clock):
        match event:
            case TrainingProgress(): ...     after every epoch, and every few seconds inside a long one
            case TrainingResult(): ...       the last item: the checkpoint that was kept, or why there is none yet

An epoch is as many updates as cover the training bars once (see `TrainingSettings`). The first check is the untrained
network, epoch 0. A checkpoint is written every `job.checkpoint_s` seconds, between two updates, and at a stop. The
result is the same bit for bit for the same data, settings, seed and thread count on CPU, whether or not the training
was interrupted and resumed between (a wall budget cuts by the clock and is the one exception).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
import torch

from aml100.domain.clock import Clock
from aml100.domain.errors import DataFileError
from aml100.learning.bundle import FORMAT, digest_settings
from aml100.learning.checkpoint import (
    Checkpoint,
    Progress,
    capture,
    load_checkpoint,
    reinstate,
    save_checkpoint,
)
from aml100.learning.checkpoint_files import has_checkpoint
from aml100.learning.dataset import Dataset, build_dataset, feature_names, look_back_bars
from aml100.learning.ensemble import combine, interleave
from aml100.learning.event_files import EventFile
from aml100.learning.inference import Floats32
from aml100.learning.jobs import Ended, Stop, TrainingJob, TrainingProgress, TrainingResult
from aml100.learning.learner import Learner, StepResult
from aml100.learning.memory import POSITIONS, StretchMemory, weights_of
from aml100.learning.network import ACTIONS
from aml100.learning.scores import HealthFinding, Validation, policy_health, summarise
from aml100.learning.selection import Selection
from aml100.learning.settings import TrainingSettings
from aml100.learning.trials import ABORTED, TrialRegistry
from aml100.learning.validation import probe_members, validate_members

log = logging.getLogger(__name__)

REVISION: Final = 2
"""Raised by a change after which the same data, settings and seed make another model: what was begun before is not gone
on with, and what was made before is not taken for what would be made now."""
HEARTBEAT_S: Final = 2.0
WARM_BARS: Final = 512
"""Rows of the embargo that may warm the encoder up before validation begins."""


def train(job: TrainingJob, clock: Clock, stop: Stop = lambda: False) -> Iterator[TrainingProgress | TrainingResult]:
    """Train one model; yields progress and, last, the result.

    Args:
        clock: its `monotonic_s` counts the budget and the ETA; nothing that is learned depends on it.
        stop: asked before every update; once true, training ends and leaves a checkpoint in `job.folder`.

    Raises:
        UsageError: too few bars.
        CheckpointError: `resume` without a fitting checkpoint.
    """
    with deterministic(1 if job.settings.members > 1 else job.settings.threads):
        events = _ensemble(job, clock, stop) if job.settings.members > 1 else _one(job, clock, stop)
        yield from events if job.folder is None or not job.settings.tensorboard else _recorded(events, job)


def _recorded(
    events: Iterator[TrainingProgress | TrainingResult], job: TrainingJob
) -> Iterator[TrainingProgress | TrainingResult]:
    """Pass events on and write each whole epoch's figures to an event file in the job's folder."""
    assert job.folder is not None
    with EventFile(job.folder, f"seed-{job.seed}") as file:
        written: dict[int, int] = {}
        for event in events:
            if isinstance(event, TrainingProgress) and event.epoch > written.get(event.member, -1):
                written[event.member] = event.epoch
                prefix = f"member-{event.member}/" if event.members > 1 else ""
                file.add(event.epoch, {prefix + tag: value for tag, value in event.scalars().items()})
            yield event


def _one(
    job: TrainingJob, clock: Clock, stop: Stop, dataset: Dataset | None = None
) -> Iterator[TrainingProgress | TrainingResult]:
    training = Training(job, clock, stop, dataset)
    yield from training.run() if job.registry is None else _registered(training, job.registry)


def _ensemble(job: TrainingJob, clock: Clock, stop: Stop) -> Iterator[TrainingProgress | TrainingResult]:
    """Members with consecutive seeds, each in a folder of its own, as many at once as there are threads.

    They share nothing, so the result is the same however many run at once. A member that had ended before a stop ends
    at once when resumed, on the weights that it ended with.
    """
    settings = replace(job.settings, members=1, threads=1)
    count, lanes = job.settings.members, min(job.settings.members, job.settings.threads)
    dataset = lay_out(job)
    members: list[Iterator[TrainingProgress | TrainingResult]] = []
    for number in range(count):
        folder = None if job.folder is None else job.folder / f"member-{number}"
        resume = job.resume and folder is not None and has_checkpoint(folder)
        budget_s = None if job.budget_s is None else job.budget_s * lanes / count
        member = replace(
            job, seed=job.seed + number, folder=folder, resume=resume, budget_s=budget_s, settings=settings
        )
        members.append(_one(member, clock, stop, dataset))
    results: dict[int, TrainingResult] = {}
    for number, event in interleave(members, lanes):
        if isinstance(event, TrainingProgress):
            yield replace(event, member=number, members=count)
            continue
        results[number] = event
    stopped = [result for result in results.values() if result.ended == "stopped"]
    yield stopped[0] if stopped else combine([results[number] for number in range(count)], job)


def _registered(training: Training, registry: TrialRegistry) -> Iterator[TrainingProgress | TrainingResult]:
    """Run a training as a trial: written down before it begins, and how it ended.

    One whose checkpoint was refused never came so far: nothing was tried.
    """
    job = training.job
    trial, state, daily = training.key[:16], "failed", None
    data = training.dataset.fingerprint[:16]
    parameters = {"data": data, **asdict(job.settings)}
    registry.begin(trial, source=job.source, seed=job.seed, parameters=parameters, group=data)
    try:
        for event in training.run():
            if isinstance(event, TrainingResult):
                state = ABORTED if event.ended == "stopped" else "done"
                daily = np.array(event.validation.daily)
                registry.finish(trial, state, daily)
            yield event
    except GeneratorExit:
        state = ABORTED
        raise
    finally:
        if daily is None:
            registry.finish(trial, state, daily)


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Same bits for the same seed and thread count; the process's own settings come back afterwards.

    torch would also fill every tensor that it allocates, against code that reads what nobody wrote. Nothing here does
    (a test fills it and compares), and an update took a tenth longer.
    """
    before, threads_before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    filling: Any = torch.utils.deterministic  # what it has is made at run time
    filled_before = filling.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = False
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        filling.fill_uninitialized_memory = filled_before
        torch.set_num_threads(threads_before)


class Training:
    """State of one run of `train`; `kept` is the checkpoint that it would end with."""

    kept: Selection

    def __init__(
        self,
        job: TrainingJob,
        clock: Clock,
        stop: Stop,
        dataset: Dataset | None = None,
        device: torch.device | None = None,
    ) -> None:
        """`dataset`: laid out beforehand, in place of one made of the job's data; `device`: None for a GPU if any."""
        self.job = job
        self.settings = fitted = _fit_stretches(job)
        self.clock = clock
        self.stop = stop
        self.began_s = clock.monotonic_s()
        self.dataset = dataset or lay_out(job)
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.random = np.random.Generator(np.random.PCG64(job.seed))
        self.learner = Learner(len(feature_names()), fitted, job.seed, self.device)
        self.memory = StretchMemory(self.dataset, fitted, self.random)
        if self.memory.teller is not None:
            log.info("nothing is mirrored: %s tells up from down", self.memory.teller)
        self.per_epoch = fitted.updates_per_epoch(self.dataset.train_bars)
        self.key = key_of(job, self.dataset.fingerprint, self.dataset.schema)
        self.checkpoint = load_checkpoint(job.folder, self.key) if job.resume and job.folder is not None else None
        """Where the loop goes on from; None once it does, and for a training from the start."""
        self.earlier_s = 0.0
        self.epoch = 0
        self.updates = 0
        self.transitions = 0
        self.curve: list[float] = []
        self.last_step: StepResult | None = None
        self.losses: list[float] = []
        """Of the updates since the last whole epoch."""
        self.saved_s = self.began_s

    def run(self) -> Iterator[TrainingProgress | TrainingResult]:
        """The loop."""
        if self.checkpoint is not None:
            self._resume(self.checkpoint)
            self.checkpoint = None
        else:
            self._begin()
        yield self._progress()
        ended: Ended = "finished"
        while self.epoch < self.settings.epochs:
            if self.epoch - self.kept.top_epoch >= self.settings.early_stop_patience:
                ended = "early"
                break
            yield from self._learn()
            if len(self.losses) < self.per_epoch and self.stop():
                ended = "stopped"
                break
            self.epoch += 1
            self._validate()
            if len(self.losses) < self.per_epoch:
                ended = "budget"
                break
            losses, self.losses = self.losses, []
            yield self._progress(losses)
        if self.job.folder is not None and ended == "stopped":
            save_checkpoint(self.job.folder, self._capture())
        elif ended != "budget":
            self._save_in_passing()
        yield self._result(ended)

    def _learn(self) -> Iterator[TrainingProgress]:
        """The epoch's updates, those that a checkpoint has already aside, until it is whole, stopped or out of time."""
        beat_s = self.clock.monotonic_s()
        while len(self.losses) < self.per_epoch and not self.stop() and not self._is_over_budget():
            self.losses.append(self.update())
            now_s = self.clock.monotonic_s()
            if now_s - self.saved_s >= self.job.checkpoint_s:
                self._save_in_passing()
            if now_s - beat_s >= HEARTBEAT_S:
                beat_s = now_s
                yield self._progress(self.losses)

    def _save_in_passing(self) -> None:
        """A disk that is full costs the checkpoint, not the training."""
        if self.job.folder is not None:
            try:
                save_checkpoint(self.job.folder, self._capture())
            except DataFileError as error:
                log.warning("no checkpoint, the one before stays: %s", error)
        self.saved_s = self.clock.monotonic_s()

    def _begin(self) -> None:
        settings = self.settings
        self.memory.act(self.learner.online, settings.batch_stretches, 1.0, self.device)
        self.latest, net = self._measure()
        self.kept = Selection.begin(self.latest, net, weights_of(self.learner.average))
        self.curve.append(self.latest.score)

    @property
    def found_epoch(self) -> int | None:
        """The first epoch after which validation found more than not trading earns."""
        return next((epoch for epoch, score in enumerate(self.curve) if epoch > 0 and score > 0.0), None)

    def update(self) -> float:
        """Act, draw a batch, take one gradient step; returns the loss."""
        settings = self.settings
        self.learner.set_learning_rate(settings.learning_rate_at(self.epoch, self.found_epoch))
        self.memory.act(self.learner.online, settings.acted_per_update, settings.epsilon_at(self.epoch), self.device)
        slots, batch = self.memory.sample(settings.batch_stretches, settings.beta_at(self.epoch), self.device)
        result = self.last_step = self.learner.step(batch)
        self.memory.replay.update(slots, result.td_errors)
        self.updates += 1
        self.transitions += settings.batch_stretches * settings.stretch_bars * POSITIONS * ACTIONS
        return result.loss

    def _measure(self) -> tuple[Validation, Floats32]:
        """The averaged network's figures in validation and what it earned there on each bar."""
        settings = self.settings
        walks = validate_members(
            self.learner.average,
            [weights_of(self.learner.average)],
            self.dataset,
            min_q_gap=settings.min_q_gap,
            device=self.device,
            reward_weights=self.memory.reward_weights,
        )
        net = np.concatenate([walk.net for walk in walks]).astype(np.float32)
        return summarise(walks, settings.selection_sigmas), net

    def _validate(self) -> None:
        """Measure the network as it is now and offer it to be kept."""
        self.latest, net = self._measure()
        self.curve.append(self.latest.score)
        self.kept.offer(self.epoch, self.latest, net, weights_of(self.learner.average))

    def _elapsed_s(self) -> float:
        return self.earlier_s + self.clock.monotonic_s() - self.began_s

    def _is_over_budget(self) -> bool:
        return self.job.budget_s is not None and self._elapsed_s() >= self.job.budget_s

    def _progress(self, losses: Sequence[float] = ()) -> TrainingProgress:
        """A picture of now; the ETA is the time so far per epoch, times the epochs that may still come."""
        settings, elapsed = self.settings, self._elapsed_s()
        done = self.epoch + (len(losses) % self.per_epoch / self.per_epoch if losses else 0.0)
        remaining = (settings.epochs - done) * elapsed / done if done > 0.0 else None
        if self.job.budget_s is not None:
            left = max(0.0, self.job.budget_s - elapsed)
            remaining = left if remaining is None else min(left, remaining)
        return TrainingProgress(
            epoch=self.epoch,
            epochs=settings.epochs,
            updates=self.updates,
            transitions=self.transitions,
            loss=math.fsum(losses) / len(losses) if losses else None,
            validation=self.latest,
            best_epoch=self.kept.epoch,
            best_score=self.kept.validation.score,
            learning_rate=settings.learning_rate_at(self.epoch, self.found_epoch),
            epsilon=settings.epsilon_at(self.epoch),
            elapsed_s=elapsed,
            eta_s=remaining,
            largest_q=None if self.last_step is None else self.last_step.largest_q,
            gradient_norm=None if self.last_step is None else self.last_step.gradient_norm,
            device=str(self.device),
        )

    def _capture(self) -> Checkpoint:
        progress = Progress(
            key=self.key,
            epoch=self.epoch,
            updates=self.updates,
            transitions=self.transitions,
            best_epoch=self.kept.epoch,
            best=self.kept.validation,
            top_epoch=self.kept.top_epoch,
            latest=self.latest,
            curve=tuple(self.curve),
            seconds=self._elapsed_s(),
            random_state=json.dumps(self.random.bit_generator.state),
            losses=tuple(self.losses),
        )
        return Checkpoint(progress, capture(self.learner, self.memory, self.kept))

    def _resume(self, checkpoint: Checkpoint) -> None:
        progress = checkpoint.progress
        self.kept = reinstate(checkpoint, self.learner, self.memory)
        self.latest = progress.latest
        self.random.bit_generator.state = json.loads(progress.random_state)
        self.learner.steps = progress.updates
        self.epoch, self.updates, self.transitions = progress.epoch, progress.updates, progress.transitions
        self.curve, self.losses = list(progress.curve), list(progress.losses)
        self.earlier_s = progress.seconds

    def _result(self, ended: Ended) -> TrainingResult:
        return TrainingResult(
            ended=ended,
            members=(self.kept.weights,),
            dataset=self.dataset,
            validation=self.kept.validation,
            health=() if ended == "stopped" else self._health(),
            best_epoch=self.kept.epoch,
            epochs=self.epoch,
            updates=self.updates,
            transitions=self.transitions,
            seconds=self._elapsed_s(),
            curve=tuple(self.curve),
            device=str(self.device),
            teller=self.memory.teller,
        )

    def _health(self) -> tuple[HealthFinding, ...]:
        kept = self.kept
        finite = all(np.isfinite(array).all() for array in kept.weights.values())
        letting = probe_members(self.learner.average.twin(), [kept.weights], self.dataset, self.device)
        return policy_health(kept.validation, max(self.curve), finite, self.settings.gamma, letting)


def key_of(job: TrainingJob, fingerprint: str, schema: str) -> str:
    """What a training makes, as a digest: of data, features, settings, seed and this program's way to train."""
    parts = (FORMAT, REVISION, fingerprint, schema, digest_settings(job.settings), job.seed)
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def lay_out(job: TrainingJob) -> Dataset:
    """The job's data, split and scaled.

    Raises: UsageError for too few bars.
    """
    fitted = _fit_stretches(job)
    return build_dataset(
        job.data,
        validation_fraction=fitted.validation_fraction,
        embargo_bars=fitted.embargo_bars or look_back_bars(job.data[0].series.interval_ms, fitted.n_step),
        warm_bars=WARM_BARS,
        shortest=fitted.burn_in_bars + fitted.stretch_bars + 1,
        regimes=fitted.regimes,
    )


def _fit_stretches(job: TrainingJob) -> TrainingSettings:
    """Shorten stretches to what few bars can hold: a quarter of the training part at most, burn-in included."""
    settings = job.settings
    bars = min(len(coin.series) for coin in job.data) if job.data else 0
    room = int(bars * (1.0 - settings.validation_fraction)) // 4
    if settings.burn_in_bars + settings.stretch_bars + 1 <= max(room, 48):
        return settings
    length = max(16, min(settings.stretch_bars, max(room, 48) * 3 // 4))
    burn_in = max(0, min(settings.burn_in_bars, max(room, 48) - length - 1))
    return replace(settings, stretch_bars=length, burn_in_bars=burn_in)
