"""One training's life: its process is started, listened to, started again when it died, and ended.

The child's crash, kill or lack of memory ends in a message, never in trading: the reason is on the screen, the last
good model goes on. A trainer that died is started again after a while, a few times, from its last checkpoint. A
training is journalled when it begins, with its job beside its data, so that the next run takes up one that a kill of
the engine interrupted: from its checkpoint where that is whole, from the start where it is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from aml100.control.protocol import TrainingView
from aml100.domain.clock import wall_ms
from aml100.engine.listener import Listeners
from aml100.engine.material import Material
from aml100.engine.training_board import TrainingBoard
from aml100.learning.bundle import Bundle, BundleError, load_bundle
from aml100.learning.checkpoint_files import drop_checkpoints, has_checkpoint
from aml100.storage.database import Database
from aml100.storage.entries import Training
from aml100.storage.files import replace_file
from aml100.training.messages import (
    Done,
    Failed,
    Progress,
    Stopped,
    TrainingSpec,
    decode_message,
    decode_spec,
    encode_line,
)
from aml100.training.process import TrainingProcess

log = logging.getLogger(__name__)

CLOSE_GRACE_S: Final = 10.0
JOB_FILE: Final = "job.json"
DONE_FILE: Final = "done.json"
KEPT_FOLDERS: Final = 5
"""Folders of finished trainings that stay, for a look at their logs."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training: what it is called, why it was begun, and when by the market's clock."""

    id: str
    cause: str
    started_ms: int
    market_ms: int
    spec: TrainingSpec

    @property
    def folder(self) -> Path:
        return Path(self.spec.folder)


class TrainingSupervisor:
    """At most one training at a time, each in a folder of its own below `folder`.

    Args:
        restart_after_s: wall seconds until a trainer that died is started again, the first, second ... time.
        on_model: told of each model that was finished and loads.
    """

    def __init__(
        self,
        folder: Path,
        restart_after_s: Sequence[float],
        material: Material,
        database: Database,
        listeners: Listeners,
        on_model: Callable[[Bundle, Done], None],
    ) -> None:
        self._folder = folder
        self._restart_after_s = restart_after_s
        self._material = material
        self._database = database
        self._board = TrainingBoard(listeners)
        self._on_model = on_model
        self._task: asyncio.Task[None] | None = None
        self._process: TrainingProcess | None = None
        self._cancelling: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._why_cancelled = ""
        self.is_closing = False
        """The engine ends: nothing is to be begun any more."""

    @property
    def is_running(self) -> bool:
        """A training is under way, be it between two lives of its process."""
        return self._task is not None

    @property
    def view(self) -> TrainingView:
        """The training under way, or the last one."""
        return self._board.view

    # --- what earlier runs left -----------------------------------------------------------------------------------

    def recall(self, training: Training) -> Job | None:
        """The job of a training, to go on from its checkpoint where it left one; None where it was not written."""
        folder = self._folder / training.id
        try:
            spec = decode_spec((folder / JOB_FILE).read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None
        spec = msgspec.structs.replace(spec, resume=has_checkpoint(folder))
        return Job(training.id, training.cause, training.started_ms, training.market_ms or 0, spec)

    def take_up(self, training: Training) -> Job | None:
        """`recall` of one that was running when the last run died; the journal says that it goes on."""
        job = self.recall(training)
        if job is not None:
            reason = "the engine ended; taken up again"
            self._database.record_training(replace(training, state="interrupted", reason=reason))
        return job

    def give_up(self, training: Training, reason: str) -> None:
        """One that was running when the last run died, and does not go on, ends in the journal."""
        self._database.record_training(replace(training, state="interrupted", ended_ms=wall_ms(), reason=reason))

    def drop(self, job: Job, reason: str) -> None:
        """One that was to be taken up, and is not wanted any more."""
        self._record(job, "cancelled", Stopped(job.spec.folder, 0), reason=reason)

    def recall_model(self, training: Training) -> tuple[Bundle, Done] | None:
        """A model that was finished, and the engine killed before it was judged or its shadow begun."""
        try:
            done = decode_message((self._folder / training.id / DONE_FILE).read_bytes())
            assert isinstance(done, Done)
            return load_bundle(Path(done.path)), done
        except (OSError, msgspec.MsgspecError, BundleError) as error:
            log.warning("model %s was never judged, and cannot be now: %s", training.model, error)
            return None

    # --- begin and end --------------------------------------------------------------------------------------------

    def begin(self, job: Job) -> None:
        """None may be running. A new one learns from the material as it is, one taken up from what it began with."""
        self._leave.clear()
        self._why_cancelled = ""
        self._task = asyncio.create_task(self._train(job), name="training")
        self._task.add_done_callback(partial(self._on_task_done, job))
        self._board.begin(job.spec, job.cause)
        self._record(job, "running")

    def cancel(self, reason: str = "") -> None:
        """Ask the child to leave, and start no other in its place; its checkpoint stays."""
        self._why_cancelled = reason
        self._leave.set()
        if self._process is not None:
            self._cancelling = asyncio.create_task(self._process.cancel())

    async def close(self) -> None:
        """Leave no child behind; a training under way stays `running` in the journal and the next run takes it up."""
        self.is_closing = True
        task, process = self._task, self._process
        if task is None:
            return
        if process is not None:
            await process.cancel(CLOSE_GRACE_S)
            await asyncio.wait({task}, timeout=CLOSE_GRACE_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _on_task_done(self, job: Job, task: asyncio.Task[None]) -> None:
        """Whatever a training ends in, another can be begun, and the reason is on the screen and in the journal."""
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("the training %s could not be run", job.id, exc_info=error)
            self._finish(job, Failed(f"the training could not be run: {error}"))

    # --- under way ------------------------------------------------------------------------------------------------

    async def _train(self, job: Job) -> None:
        if not (job.folder / JOB_FILE).exists():
            await self._material.write(job.folder)
            await asyncio.to_thread(_write_whole, job.folder / JOB_FILE, encode_line(job.spec))
        final = await self._persist(job)
        bundle: Bundle | None = None
        if isinstance(final, Done):
            try:
                bundle = await asyncio.to_thread(load_bundle, Path(final.path))
                await asyncio.to_thread(_write_whole, job.folder / DONE_FILE, encode_line(final))
            except BundleError as error:
                final = Failed(str(error))
        if self.is_closing and not isinstance(final, Done):
            return  # the next run takes it up
        self._finish(job, final)
        if bundle is not None and isinstance(final, Done):
            self._on_model(bundle, final)
        with suppress(OSError):  # what cannot be tidied away makes no training fail
            await asyncio.to_thread(_prune, self._folder)

    async def _persist(self, job: Job) -> Done | Stopped | Failed:
        """Run the trainer until it ends by itself or has died too often."""
        left = list(self._restart_after_s)
        while not self._leave.is_set():
            final = await self._attend(job)
            if not isinstance(final, Failed) or self.is_closing:
                return final
            if self._leave.is_set():
                break  # told before it listened, it could only be killed
            if final.kind == "checkpoint" and job.spec.resume:
                await asyncio.to_thread(drop_checkpoints, job.folder)
                wait_s, words = 0.0, "training from the start"
            elif final.kind == "died" and left:
                wait_s = left.pop(0)
                words = f"started again in {wait_s:g} s, at most {len(left)} times more"
            else:
                return final
            reason = f"{final.reason}; {words}"
            log.warning("%s: %s", job.id, reason)
            self._record(job, "running", reason=reason)
            self._board.say("running", reason, self._board.view.eta_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), wait_s)
            resume = await asyncio.to_thread(has_checkpoint, job.folder)
            job = replace(job, spec=msgspec.structs.replace(job.spec, resume=resume))
        return Stopped(job.spec.folder, self._board.view.epoch)

    async def _attend(self, job: Job) -> Done | Stopped | Failed:
        """One life of the trainer's process: its progress is shown, its last word returned."""
        final: Done | Stopped | Failed = Failed("the trainer said nothing", "died")
        try:
            async with TrainingProcess(job.spec) as process:
                self._process = process
                if self._leave.is_set():  # told while the process was made
                    self.cancel(self._why_cancelled)
                async for message in process.messages():
                    if isinstance(message, Progress):
                        self._board.on_progress(message, job.cause)
                    else:
                        final = message
        finally:
            self._process = None
        return final

    def _finish(self, job: Job, final: Done | Stopped | Failed) -> None:
        state = "done" if isinstance(final, Done) else "cancelled" if isinstance(final, Stopped) else "failed"
        reason = final.reason if isinstance(final, Failed) else self._why_cancelled if state == "cancelled" else ""
        self._record(job, state, final, reason=reason)
        if isinstance(final, Done):
            self._board.finish(final)
        else:
            self._board.say(state, reason)
        if isinstance(final, Failed):
            log.warning("training failed, the last good model stays: %s", final.reason)

    def _record(self, job: Job, state: str, final: Done | Stopped | Failed | None = None, *, reason: str = "") -> None:
        done = final if isinstance(final, Done) else None
        self._database.record_training(
            Training(
                job.id,
                job.started_ms,
                state,
                job.cause,
                job.spec.seed,
                epoch=done.epochs if done else self._board.view.epoch,
                epochs=job.spec.settings.epochs,
                ended_ms=None if final is None else wall_ms(),
                model=done.id if done else None,
                validation=done.validation.net_return if done else None,
                reason=final.reason if isinstance(final, Failed) else reason,
                market_ms=job.market_ms,
            )
        )


def _write_whole(path: Path, line: bytes) -> None:
    """A job, or its outcome, beside its data: whole or not there."""
    replace_file(path, lambda file: file.write(line))


def _prune(folder: Path) -> None:
    """Data and checkpoints of older trainings go; their jobs and logs stay."""
    for old in sorted(folder.glob("t-*"), key=lambda path: path.stat().st_mtime)[:-KEPT_FOLDERS]:
        drop_checkpoints(old)
        for path in old.glob("*.parquet"):
            path.unlink(missing_ok=True)
