"""Training beside trading: starts the trainer's process, listens to it, and hands what it made to the succession.

The child's crash, kill or lack of memory ends in a message, never in trading: the reason is on the screen, the last
good model goes on. A trainer that died is started again after a while, a few times, from its last checkpoint. A
training is journalled when it begins, with its job beside its data, so that the next run takes up one that a kill of
the engine interrupted: from its checkpoint where that is whole, from the start where it is not.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from aml100.control.protocol import ModelView, ShadowView, TrainingView
from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError
from aml100.domain.events import SettledFunding
from aml100.domain.market import Bar, Instrument
from aml100.domain.units import HOUR_MS, Coin
from aml100.engine.listener import Listeners
from aml100.engine.material import Material, by_coin
from aml100.engine.pairing import ShadowRules
from aml100.engine.past import Past
from aml100.engine.succession import Succession, SuccessionRules
from aml100.engine.training_board import TrainingBoard
from aml100.evaluation.kernel import KernelRules
from aml100.evaluation.objectives import Trials
from aml100.evaluation.windows import Window
from aml100.learning.bundle import Bundle, BundleError, load_bundle
from aml100.learning.checkpoint_files import CHECKPOINT_S, drop_checkpoints, has_checkpoint
from aml100.learning.dataset import fewest_bars
from aml100.learning.settings import TrainingSettings
from aml100.learning.trials import KnownTrials, TrialRegistry
from aml100.storage.database import Database
from aml100.storage.entries import Entry, ParameterVersion, Training
from aml100.storage.files import replace_file
from aml100.trading.core import TradingCore
from aml100.trading.policies import Policy
from aml100.training.cycle_backtest import CycleJob, back_test
from aml100.training.hold_out import purge_bars, split_for
from aml100.training.messages import (
    DataSource,
    Done,
    Failed,
    HoldOut,
    Progress,
    Stopped,
    TrainingSpec,
    decode_message,
    decode_spec,
    encode_line,
)
from aml100.training.process import TrainingProcess
from aml100.training.shadow import ModelWalk, WalkRules

log = logging.getLogger(__name__)

FEWEST_BARS: Final = 600
"""Under these nothing is trained, however few a training could be laid out from."""
RETRY_AFTER_BARS: Final = 30
CLOSE_GRACE_S: Final = 10.0
JOB_FILE: Final = "job.json"
DONE_FILE: Final = "done.json"
KEPT_FOLDERS: Final = 5
"""Folders of finished trainings that stay, for a look at their logs."""


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """`lenient_first`: the first model need only be sound. Budgets in wall seconds.

    `past` answers a coin's closed bars that end at the given time or before, and the funding settled by then; None
    where there are none: after a restart it gives back what the trainings learned from.
    """

    folder: Path
    rules: Mapping[Coin, KernelRules]
    settings: TrainingSettings
    seed: int
    hourly_rate: float
    lenient_first: bool
    interval_ms: int
    schema: str
    shadow: ShadowRules
    retrain_hours: float = 24.0
    origin: str = ""
    past: Past | None = None
    params: str = "{}"
    instruments: Mapping[Coin, Instrument] = field(default_factory=dict)
    bootstrap_budget_s: float = 30.0
    budget_s: float = 300.0
    checkpoint_s: float = CHECKPOINT_S
    restart_after_s: tuple[float, ...] = (5.0, 30.0, 120.0)
    """Wall seconds until a trainer that died is started again, the first, second ... time; then the training failed."""


class Begun(NamedTuple):
    """Whether a training was begun (or ended), and what to tell who asked for it."""

    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class _Job:
    """One training: what it is called, why it was begun, and when by the market's clock."""

    id: str
    cause: str
    started_ms: int
    market_ms: int
    spec: TrainingSpec

    @property
    def folder(self) -> Path:
        return Path(self.spec.folder)


class TrainingDesk:
    """One engine's trainer, and its models through `succession`."""

    def __init__(
        self, options: DeskOptions, database: Database, listeners: Listeners, champion: Bundle | None = None
    ) -> None:
        self._options = options
        self._database = database
        self._fewest = max(FEWEST_BARS, fewest_bars(options.interval_ms, options.settings))
        self._material = Material(options.rules, options.interval_ms, options.origin)
        self._board = TrainingBoard(listeners)
        self._task: asyncio.Task[None] | None = None
        self._process: TrainingProcess | None = None
        self._warming: asyncio.Task[None] | None = None
        self._ready: tuple[Bundle, Done] | None = None
        self._warm: tuple[ModelWalk, Done] | None = None
        self._warm_rows: dict[Coin, int] = {}
        self._interrupted: _Job | None = None
        self._again: Training | None = None
        self._trainings = 0
        self._closing = False
        self._leave = asyncio.Event()
        self._tried_at_ms = 0
        self._market_ms = 0
        self._tried = KnownTrials(TrialRegistry.beside(options.folder / "models"))
        tuned = database.active_parameters()
        self._overfitting = None if tuned is None else overfitting_of(tuned)
        self.trained_ms: int | None = None
        """Market time at which the last training began."""
        walk = {
            coin: WalkRules(rules, options.settings.min_q_gap, options.hourly_rate)
            for coin, rules in options.rules.items()
        }
        rules = SuccessionRules(walk, options.shadow, options.lenient_first, options.schema)
        self.succession = Succession(rules, database, listeners, champion)

    # --- a run begins, bars come --------------------------------------------------------------------------------

    def restore(self, core: TradingCore) -> None:
        """Take up what the journal and the folders hold: bars, shadows, a training that was interrupted."""
        trainings = self._database.trainings()
        self._trainings = len(trainings)
        begun = [one.market_ms for one in trainings if one.market_ms is not None and one.cause != "reset"]
        self.trained_ms = max(begun, default=None)
        if self._options.past is not None:
            self._material.recall(self._options.past, core)
        self.succession.restore(core)
        if core.cold:
            core.adopt_policy(lambda coin: self.succession.factory())
        for one in trainings:
            if one.state in ("running", "interrupted") and one.ended_ms is None:
                self._take_up(one)
        done = [one for one in trainings if one.state == "done"]
        if done and self.succession.awaits_judgement(done[-1].model or ""):
            self._take_up_model(done[-1])

    def _take_up(self, one: Training) -> None:
        """A training that was running when the last run died is resumed, or begun again; the journal says so."""
        folder = self._options.folder / "training" / one.id
        try:
            spec = decode_spec((folder / JOB_FILE).read_bytes())
        except (OSError, msgspec.MsgspecError):
            self._again = one
            return
        self._database.record_training(replace(one, state="interrupted", reason="the engine ended; taken up again"))
        spec = msgspec.structs.replace(spec, resume=has_checkpoint(folder))
        self._interrupted = _Job(one.id, one.cause, one.started_ms, one.market_ms or 0, spec)

    def _take_up_model(self, one: Training) -> None:
        """A model that was finished, and the engine killed before it was judged or its shadow begun."""
        folder = self._options.folder / "training" / one.id
        try:
            done = decode_message((folder / DONE_FILE).read_bytes())
            assert isinstance(done, Done)
            self._ready = load_bundle(Path(done.path)), done
        except (OSError, msgspec.MsgspecError, BundleError) as error:
            log.warning("model %s was never judged, and cannot be now: %s", one.model, error)

    def on_history(self, bars: Sequence[Bar]) -> None:
        """Closed bars, oldest first: what the next training learns from."""
        self._material.on_bars(bars)

    def on_bars(self, bars: Sequence[Bar], core: TradingCore) -> list[Entry]:
        """Bars that the core has just taken in; answers what is journalled with them."""
        self.on_history(bars)
        return self.succession.on_bars(bars, core)

    @property
    def champion(self) -> Bundle | None:
        return self.succession.champion

    def on_funding(self, settled: SettledFunding) -> None:
        """A settled rate, oldest first: a feature of the next training, and what its positions pay."""
        self._material.on_funding(settled)

    def factory(self) -> Callable[[Coin], Policy]:
        """Policies of the champion; without one, policies that wait for it."""
        return lambda coin: self.succession.factory()

    @property
    def is_busy(self) -> bool:
        """A training runs, or what it made is being tried: nothing else is begun by itself."""
        waiting = (self._ready, self._warm, self._interrupted, self._again)
        return any((self._task, self._warming, *waiting, self.succession.challenger))

    def poll(self, core: TradingCore, now_ms: int) -> None:
        """Between two events: begin what is due, judge what has come."""
        self._market_ms = now_ms
        if self._ready is not None:
            (bundle, done), self._ready = self._ready, None
            self._judge(bundle, done, core, now_ms)
        if self._warm is not None:
            (walk, done), self._warm = self._warm, None
            self._begin_shadow(walk, done, core, now_ms)
        self.succession.poll(core, now_ms)
        if self._interrupted is not None and self._task is None and not self._closing:
            job, self._interrupted = self._interrupted, None
            self._begin(job)
        if self._again is not None and self._task is None and not self._closing:
            lost, self._again = self._again, None
            reason = "the engine ended before its job was written; begun again"
            self._database.record_training(replace(lost, state="interrupted", ended_ms=wall_ms(), reason=reason))
            self.start(lost.cause)
        fewest = self._material.fewest
        waited = now_ms >= self._tried_at_ms + RETRY_AFTER_BARS * self._options.interval_ms
        due = (
            self.champion is None and not self.is_busy and fewest >= self._fewest and (waited or not self._tried_at_ms)
        )
        if due and not self.go_on().ok:
            self.start("bootstrap")

    # --- one training -------------------------------------------------------------------------------------------

    def start(self, cause: str) -> Begun:
        """Begin a training; says what was begun, or why not."""
        if hindrance := self._hindrance():
            return Begun(False, hindrance)
        if self._material.fewest < self._fewest:
            return Begun(False, f"not enough bars to train on: {self._fewest} are needed")
        self._trainings += 1
        now_ms = wall_ms()
        training_id = f"t-{now_ms}-{self._trainings}"
        first = self.champion is None
        budget_s = self._options.bootstrap_budget_s if first else self._options.budget_s
        try:
            spec = self._spec(training_id, budget_s)
        except AmlError as error:  # a database that is away just now
            return Begun(False, f"no training can be begun: {error}")
        self._begin(_Job(training_id, cause, now_ms, self._market_ms, spec))
        return Begun(True, f"training started ({cause}), at most {budget_s:.0f} s")

    def go_on(self) -> Begun:
        """Take the last training up where it was cancelled, on the bars it began with; what it has spent counts."""
        if hindrance := self._hindrance():
            return Begun(False, hindrance)
        last = next(iter(self._database.trainings()[::-1]), None)
        if last is None or last.state != "cancelled":
            return Begun(False, "the last training was not cancelled: there is nothing to go on with")
        folder = self._options.folder / "training" / last.id
        try:
            spec = decode_spec((folder / JOB_FILE).read_bytes())
        except (OSError, msgspec.MsgspecError):
            return Begun(False, f"{last.id} was cancelled before it began")
        spec = msgspec.structs.replace(spec, resume=has_checkpoint(folder))
        self._begin(_Job(last.id, last.cause, last.started_ms, last.market_ms or 0, spec))
        return Begun(True, f"{last.id} goes on after epoch {last.epoch} of {last.epochs}")

    def _hindrance(self) -> str:
        """Why no training can be begun now, whatever it would learn from; empty where one can."""
        if self._closing:
            return "the engine ends"
        busy = self._task is not None or self._interrupted is not None
        return "a training is already running" if busy else ""

    def _spec(self, training_id: str, budget_s: float) -> TrainingSpec:
        options = self._options
        folder = options.folder / "training" / training_id
        first_ms, end_ms = self._material.span_ms
        horizon = max((rules.max_hold for rules in options.rules.values()), default=0)
        split = split_for(first_ms, end_ms, options.interval_ms, horizon)
        champion = self.champion
        hold_out = None
        if split is not None:
            seen_ms = 0 if champion is None else self._seen_until(champion.id)
            unseen_ms = seen_ms + purge_bars(options.interval_ms, horizon) * options.interval_ms if seen_ms else 0
            path = None if champion is None or champion.path is None else str(champion.path)
            hold_out = HoldOut(split.hold_out_from_ms, path, unseen_ms)
        return TrainingSpec(
            data=tuple(
                DataSource(
                    str(one.bars),
                    options.rules[one.coin],
                    one.coin,
                    None if one.funding is None else str(one.funding),
                    options.hourly_rate,
                    None if split is None else split.train_until_ms,
                )
                for one in self._material.files(folder)
            ),
            settings=options.settings,
            seed=options.seed + self._trainings - 1,
            models=str(options.folder / "models"),
            folder=str(folder),
            budget_s=budget_s,
            hold_out=hold_out,
            checkpoint_s=options.checkpoint_s,
        )

    def _seen_until(self, model: str) -> int:
        """Until when a model of ours has been trained; 0 where that is not known (a model from elsewhere)."""
        job = next((one.id for one in self._database.trainings() if one.model == model), None)
        if job is None:
            return 0
        try:
            spec = decode_spec((self._options.folder / "training" / job / JOB_FILE).read_bytes())
        except (OSError, msgspec.MsgspecError):
            return self._market_ms
        untils = [source.until_ms for source in spec.data]
        return max((until for until in untils if until is not None), default=self._market_ms)

    def _begin(self, job: _Job) -> None:
        self.trained_ms = job.market_ms or self._market_ms
        self._tried_at_ms = self._market_ms
        self._leave.clear()
        self._task = asyncio.create_task(self._train(job), name="training")
        self._task.add_done_callback(self._on_task_done)
        self._board.begin(job.spec, job.cause)
        self._record(job, "running")

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """Whatever a training ends in, the desk is free again and the reason is on the screen."""
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("the training desk failed", exc_info=error)
            self._board.say("failed", f"the training could not be run: {error}")

    async def _train(self, job: _Job) -> None:
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
        if self._closing and not isinstance(final, Done):
            return  # the next run takes it up
        self._finish(job, final)
        if bundle is not None and isinstance(final, Done):
            self._ready = bundle, final
        await asyncio.to_thread(_prune, self._options.folder / "training")

    async def _persist(self, job: _Job) -> Done | Stopped | Failed:
        """Run the trainer until it ends by itself or has died too often."""
        left = list(self._options.restart_after_s)
        while True:
            final = await self._attend(job)
            if not isinstance(final, Failed) or self._closing or self._leave.is_set():
                return final
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
                return Stopped(job.spec.folder, self._board.view.epoch)
            resume = await asyncio.to_thread(has_checkpoint, job.folder)
            job = replace(job, spec=msgspec.structs.replace(job.spec, resume=resume))

    async def _attend(self, job: _Job) -> Done | Stopped | Failed:
        """One life of the trainer's process: its progress is shown, its last word returned."""
        final: Done | Stopped | Failed = Failed("the trainer said nothing", "died")
        try:
            async with TrainingProcess(job.spec) as process:
                self._process = process
                async for message in process.messages():
                    if isinstance(message, Progress):
                        self._board.on_progress(message, job.cause)
                    else:
                        final = message
        finally:
            self._process = None
        return final

    def _finish(self, job: _Job, final: Done | Stopped | Failed) -> None:
        state = "done" if isinstance(final, Done) else "cancelled" if isinstance(final, Stopped) else "failed"
        reason = final.reason if isinstance(final, Failed) else ""
        self._record(job, state, final)
        self._board.say(state, reason)
        if isinstance(final, Failed):
            log.warning("training failed, the last good model stays: %s", final.reason)

    def _record(self, job: _Job, state: str, final: Done | Stopped | Failed | None = None, *, reason: str = "") -> None:
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

    def tried(self) -> Trials:
        """Everything ever tried here, which the champion's Sharpe ratio has to answer for (GUARANTEES E7)."""
        known = self._tried()
        return known if self._overfitting is None else replace(known, pbo=self._overfitting)

    def cancel(self) -> Begun:
        """Ask the child to leave, and start no other in its place; `go_on` takes it up from its checkpoint."""
        if self._task is None:
            return Begun(False, "no training is under way")
        self._leave.set()
        self._tried_at_ms = self._market_ms
        if self._process is not None:
            self._cancelling = asyncio.create_task(self._process.cancel())
        view = self._board.view
        return Begun(True, f"training cancelled at epoch {view.epoch} of {view.epochs}; a checkpoint stays")

    def retire(self, core: TradingCore, now_ms: int) -> None:
        """The champion decides no more; ledger, phases, trials and history stay."""
        self._ready = self._warm = None
        self.succession.retire(core, now_ms, "reset by the operator")

    async def close(self) -> None:
        """Leave no child behind; a training under way stays `running` in the journal and the next run takes it up."""
        self._closing = True
        training, process = self._task, self._process
        tasks = [task for task in (training, self._warming) if task is not None]
        if process is not None and training is not None:
            await process.cancel(CLOSE_GRACE_S)
            await asyncio.wait({training}, timeout=CLOSE_GRACE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def out_of_sample(self, from_ms: int, to_ms: int) -> Window | None:
        """The champion back-tested over a window in a process of its own; None where it has seen any of these bars."""
        champion = self.champion
        if champion is None or champion.path is None or self._seen_until(champion.id) > from_ms:
            return None
        folder = self._options.folder / "training" / f"cycle-{from_ms}"
        try:
            bars, funding = by_coin(await self._material.write(folder))
            instruments = {str(coin): one for coin, one in self._options.instruments.items()}
            job = CycleJob(str(champion.path), self._options.params, bars, funding, instruments, from_ms, to_ms)
            return await back_test(job)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # --- what came of it ----------------------------------------------------------------------------------------

    def _judge(self, bundle: Bundle, done: Done, core: TradingCore, now_ms: int) -> None:
        verdict = self.succession.consider(bundle, done, now_ms)
        if verdict == "promote":
            self.succession.promote(bundle, None, self.succession.first_reason(done), {}, core, now_ms)
        elif verdict == "shadow":
            walk = self.succession.fresh_walk(bundle, now_ms)
            rows = {coin: core.recent_rows(coin) for coin in core.instruments}
            ends = {coin: core.coin(coin).last_end_ms for coin in core.instruments}
            self._warm_rows = {coin: core.coin(coin).complete_rows for coin in core.instruments}

            async def warm() -> None:
                await asyncio.to_thread(walk.warm_up, rows, ends)
                self._warm, self._warming = (walk, done), None

            self._warming = asyncio.create_task(warm(), name="shadow warm-up")

    def _begin_shadow(self, walk: ModelWalk, done: Done, core: TradingCore, now_ms: int) -> None:
        """The rows that came while it was warmed up are shown to it first; after a gap only those since."""
        for coin, one in walk.coins.items():
            known = core.coin(coin)
            new = known.complete_rows - self._warm_rows[coin]
            if new < 0:
                one.policy.reset()
                new = known.complete_rows
            one.warm_up(core.recent_rows(coin)[-new:] if new else (), known.last_end_ms)
        self.succession.begin_shadow(walk, done.hold_out, now_ms)

    # --- what is shown ------------------------------------------------------------------------------------------

    def view(self) -> TrainingView:
        """The training under way, or the last one."""
        hours = self._options.retrain_hours
        begun = self.trained_ms
        next_ms = begun + round(hours * HOUR_MS) if hours and begun is not None and self.champion is not None else None
        return msgspec.structs.replace(self._board.view, next_ms=next_ms)

    def model_view(self) -> ModelView:
        """The champion."""
        return self.succession.model_view()

    def model_views(self) -> tuple[ModelView, ...]:
        """Every version, the latest first."""
        return self.succession.model_views()

    def shadow_view(self) -> ShadowView | None:
        """The challenger that is being tried."""
        return self.succession.shadow_view()


def overfitting_of(tuned: ParameterVersion) -> float | None:
    """The probability of overfitting that the study of these parameters found; None where it could not tell."""
    _, _, facts = tuned.source.partition(" ")
    try:
        known = json.loads(facts).get("pbo")
    except ValueError:
        return None
    return None if known is None else float(known)


def _write_whole(path: Path, line: bytes) -> None:
    """A job, or its outcome, beside its data: whole or not there."""
    replace_file(path, lambda file: file.write(line))


def _prune(folder: Path) -> None:
    """Data and checkpoints of older trainings go; their jobs and logs stay."""
    for old in sorted(folder.glob("t-*"), key=lambda path: path.stat().st_mtime)[:-KEPT_FOLDERS]:
        drop_checkpoints(old)
        for path in old.glob("*.parquet"):
            path.unlink(missing_ok=True)
