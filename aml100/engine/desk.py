"""Training beside trading: when a training is begun, what it learns from, and what becomes of the model it made.

`training_supervisor` keeps the training alive, `succession` judges what it made; in between, a model that is to be
tried is shown the bars of before. Until there is a first model one is trained as soon as there are bars enough.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from aml100.control.protocol import ModelView, ShadowView, TrainingView
from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError
from aml100.domain.events import SettledFunding
from aml100.domain.market import Bar, Instrument
from aml100.domain.units import HOUR_MS, Coin
from aml100.engine.in_sample import InSample
from aml100.engine.listener import Listeners
from aml100.engine.material import Material, by_coin
from aml100.engine.pairing import ShadowRules
from aml100.engine.past import Past
from aml100.engine.succession import Succession, SuccessionRules
from aml100.engine.training_supervisor import Job, TrainingSupervisor
from aml100.evaluation.kernel import KernelRules
from aml100.evaluation.objectives import Trials
from aml100.evaluation.windows import Window
from aml100.learning.bundle import Bundle
from aml100.learning.checkpoint_files import CHECKPOINT_S
from aml100.learning.dataset import fewest_bars
from aml100.learning.settings import TrainingSettings
from aml100.learning.trials import KnownTrials, TrialRegistry
from aml100.storage.database import Database
from aml100.storage.entries import Entry, ParameterVersion, Training
from aml100.trading.core import TradingCore
from aml100.trading.policies import Policy
from aml100.training.cycle_backtest import CycleJob, back_test
from aml100.training.hold_out import purge_bars, split_for
from aml100.training.messages import DataSource, Done, HoldOut, TrainingSpec
from aml100.training.shadow import ModelWalk, WalkRules

log = logging.getLogger(__name__)

FEWEST_BARS: Final = 600
"""Under these nothing is trained, however few a training could be laid out from."""
RETRY_AFTER_BARS: Final = 30
RESET_REASON: Final = "reset by the operator"


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


class _Warming(NamedTuple):
    """A model that is shown the bars so far, in a thread."""

    task: asyncio.Task[None]
    bundle: Bundle


class _Warm(NamedTuple):
    """A model that has seen them, up to `rows` complete ones of each coin."""

    walk: ModelWalk
    done: Done
    rows: Mapping[Coin, int]


class TrainingDesk:
    """The trainings of one engine, and its models through `succession`."""

    def __init__(
        self, options: DeskOptions, database: Database, listeners: Listeners, champion: Bundle | None = None
    ) -> None:
        self._options = options
        self._database = database
        self._fewest = max(FEWEST_BARS, fewest_bars(options.interval_ms, options.settings))
        self._material = Material(options.rules, options.interval_ms, options.origin)
        self._folder = options.folder / "training"
        self._supervisor = TrainingSupervisor(
            self._folder, options.restart_after_s, self._material, database, listeners, self._on_model
        )
        self._warming: _Warming | None = None
        self._ready: tuple[Bundle, Done] | None = None
        self._warm: _Warm | None = None
        self._spoilt: tuple[Bundle, str] | None = None
        self._interrupted: Job | None = None
        self._again: Training | None = None
        self._is_resetting = False
        """A reset waits for the training of before to leave: what that still makes is refused."""
        self._trainings = 0
        self._tried_at_ms = 0
        self._market_ms = 0
        self.in_sample = InSample(database)
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
        self._market_ms = max(core.coin(coin).last_end_ms for coin in core.instruments)
        self.in_sample.restore(self._market_ms)
        if core.cold:
            core.adopt_policy(lambda coin: self.succession.factory())
        unended = [one for one in trainings if one.state in ("running", "interrupted") and one.ended_ms is None]
        for one in unended[:-1]:
            self._supervisor.give_up(one, "the engine ended; a later one goes on")
        if unended:
            self._take_up(unended[-1])
        for left in self._folder.glob("cycle-*"):  # back-tests that a kill interrupted
            shutil.rmtree(left, ignore_errors=True)
        done = [one for one in trainings if one.state == "done"]
        if done and self.succession.awaits_judgement(done[-1].model or ""):
            self._ready = self._supervisor.recall_model(done[-1])

    def _take_up(self, one: Training) -> None:
        """A training that was running when the last run died is resumed, or begun again where it left no job."""
        job = self._supervisor.take_up(one)
        if job is None:
            self._again = one
        else:
            self._interrupted = job

    def on_history(self, bars: Sequence[Bar]) -> None:
        """Closed bars, oldest first: what the next training learns from."""
        self._material.on_bars(bars)

    def on_bars(self, bars: Sequence[Bar], core: TradingCore) -> list[Entry]:
        """Bars that the core has just taken in; answers what is journalled with them."""
        self.on_history(bars)
        return [*self.in_sample.on_bars(self.champion, bars), *self.succession.on_bars(bars, core)]

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
        waiting = (self._ready, self._warming, self._warm, self._spoilt, self._interrupted, self._again)
        return self._is_resetting or any((self._supervisor.is_running, *waiting, self.succession.challenger))

    @property
    def _is_free(self) -> bool:
        return not (self._supervisor.is_running or self._supervisor.is_closing)

    def poll(self, core: TradingCore, now_ms: int) -> None:
        """Between two events: begin what is due, judge what has come."""
        self._market_ms = now_ms
        if self._ready is not None:
            (bundle, done), self._ready = self._ready, None
            if self._is_resetting:  # it was finished before it heard that it was to leave
                self.succession.refuse(bundle, RESET_REASON, now_ms)
            else:
                self._judge(bundle, done, core, now_ms)
        if self._warm is not None:
            warm, self._warm = self._warm, None
            self._begin_shadow(warm, core, now_ms)
        if self._spoilt is not None:
            (bundle, reason), self._spoilt = self._spoilt, None
            self.succession.refuse(bundle, reason, now_ms)
        self.succession.poll(core, now_ms)
        if self._is_resetting and self._is_free:
            self._is_resetting = False
            self.start("reset")
        if self._interrupted is not None and self._is_free:
            job, self._interrupted = self._interrupted, None
            self._begin(job)
        if self._again is not None and self._is_free:
            lost, self._again = self._again, None
            self._supervisor.give_up(lost, "the engine ended before its job was written; begun again")
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
        now_ms = wall_ms()
        training_id = f"t-{now_ms}-{self._trainings + 1}"
        first = self.champion is None
        budget_s = self._options.bootstrap_budget_s if first else self._options.budget_s
        try:
            spec = self._spec(training_id, budget_s)
        except AmlError as error:  # a database that is away just now
            self._tried_at_ms = self._market_ms
            return Begun(False, f"no training can be begun: {error}")
        self._trainings += 1
        self._begin(Job(training_id, cause, now_ms, self._market_ms, spec))
        return Begun(True, f"training started ({cause}), at most {budget_s:.0f} s")

    def go_on(self) -> Begun:
        """Take the last training up where it was cancelled, on the bars it began with; what it has spent counts."""
        if hindrance := self._hindrance():
            return Begun(False, hindrance)
        try:
            last = next(iter(self._database.trainings()[::-1]), None)
        except AmlError as error:
            return Begun(False, f"no training can be taken up: {error}")
        if last is None or last.state != "cancelled" or last.reason == RESET_REASON:
            return Begun(False, "the last training was not cancelled: there is nothing to go on with")
        job = self._supervisor.recall(last)
        if job is None:
            return Begun(False, f"{last.id} was cancelled before it began")
        self._begin(job)
        return Begun(True, f"{last.id} goes on after epoch {last.epoch} of {last.epochs}")

    def _hindrance(self) -> str:
        """Why no training can be begun now, whatever it would learn from; empty where one can."""
        if self._supervisor.is_closing:
            return "the engine ends"
        busy = self._supervisor.is_running or self._is_resetting or self._interrupted is not None
        return "a training is already running" if busy else ""

    def _spec(self, training_id: str, budget_s: float) -> TrainingSpec:
        options = self._options
        folder = self._folder / training_id
        first_ms, end_ms = self._material.span_ms
        horizon = max((rules.max_hold for rules in options.rules.values()), default=0)
        split = split_for(first_ms, end_ms, options.interval_ms, horizon)
        champion = self.champion
        hold_out = None
        if split is not None:
            seen_ms = 0 if champion is None else self._seen_until(champion)
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
            seed=options.seed + self._trainings,
            models=str(options.folder / "models"),
            folder=str(folder),
            budget_s=budget_s,
            hold_out=hold_out,
            checkpoint_s=options.checkpoint_s,
        )

    def _seen_until(self, model: Bundle) -> int:
        """Until when a model has been trained; 0 where nobody knows (one from elsewhere that does not say)."""
        if model.record.seen is not None:
            return model.record.seen.to_ms
        training = next((one for one in self._database.trainings() if one.model == model.id), None)
        if training is None:
            return 0
        job = self._supervisor.recall(training)
        if job is None:
            return self._market_ms
        untils = [source.until_ms for source in job.spec.data]
        return max((until for until in untils if until is not None), default=self._market_ms)

    def _begin(self, job: Job) -> None:
        self.trained_ms = job.market_ms or self._market_ms
        self._tried_at_ms = self._market_ms
        self._supervisor.begin(job)

    def _on_model(self, bundle: Bundle, done: Done) -> None:
        self._ready = bundle, done

    def tried(self) -> Trials:
        """Everything ever tried here, which the champion's Sharpe ratio has to answer for (GUARANTEES E7)."""
        known = self._tried()
        return known if self._overfitting is None else replace(known, pbo=self._overfitting)

    def cancel(self) -> Begun:
        """Ask the child to leave, and start no other in its place; `go_on` takes it up from its checkpoint."""
        if not self._supervisor.is_running:
            return Begun(False, "no training is under way")
        self._supervisor.cancel()
        self._tried_at_ms = self._market_ms
        view = self._supervisor.view
        return Begun(True, f"cancelled at epoch {view.epoch} of {view.epochs}; a checkpoint stays")

    def reset(self, core: TradingCore, now_ms: int) -> Begun:
        """The champion decides no more and a new model is begun; ledger, phases, trials and history stay.

        A training under way belongs to what is given up: it is cancelled, and the new one begins when it has left.
        """
        self._retire(core, now_ms, RESET_REASON)
        job, lost, self._interrupted, self._again = self._interrupted, self._again, None, None
        if job is not None:
            self._supervisor.drop(job, RESET_REASON)
        if lost is not None:
            self._supervisor.give_up(lost, RESET_REASON)
        if not self._supervisor.is_running:
            return self.start("reset")
        self._supervisor.cancel(RESET_REASON)
        self._is_resetting = True
        return Begun(True, "the training under way is given up, that of the new model begins when it has left")

    def _retire(self, core: TradingCore, now_ms: int, reason: str) -> None:
        ready, warming, warm = self._ready, self._warming, self._warm
        self._ready = self._warming = self._warm = None
        if ready is not None:
            self.succession.refuse(ready[0], reason, now_ms)
        if warming is not None:
            warming.task.cancel()
            self.succession.refuse(warming.bundle, reason, now_ms)
        if warm is not None:
            self.succession.refuse(warm.walk.bundle, reason, now_ms)
        self.succession.retire(core, now_ms, reason)

    async def close(self) -> None:
        """Leave no child behind; a training under way stays `running` in the journal and the next run takes it up."""
        await self._supervisor.close()
        if self._warming is not None:
            self._warming.task.cancel()
            await asyncio.gather(self._warming.task, return_exceptions=True)

    async def out_of_sample(self, from_ms: int, to_ms: int) -> Window | None:
        """The champion back-tested over a window in a process of its own; None where it has seen any of these bars."""
        champion = self.champion
        if champion is None or champion.path is None or self._seen_until(champion) > from_ms:
            return None
        folder = self._folder / f"cycle-{from_ms}"
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
            known = {coin: core.coin(coin).complete_rows for coin in core.instruments}
            task = asyncio.create_task(asyncio.to_thread(walk.warm_up, rows, ends), name="shadow warm-up")
            self._warming = _Warming(task, bundle)
            task.add_done_callback(partial(self._on_warmed, _Warm(walk, done, known)))

    def _on_warmed(self, warm: _Warm, task: asyncio.Task[None]) -> None:
        """Nothing where it was called off: then somebody else has seen to the model."""
        if self._warming is None or self._warming.task is not task or task.cancelled():
            return
        self._warming, error = None, task.exception()
        if error is None:
            self._warm = warm
            return
        log.error("model %s could not be warmed up", warm.walk.bundle.id, exc_info=error)
        self._spoilt = warm.walk.bundle, f"it could not be shown the bars so far: {error}"

    def _begin_shadow(self, warm: _Warm, core: TradingCore, now_ms: int) -> None:
        """The rows that came while it was warmed up are shown to it first; after a gap only those since."""
        for coin, one in warm.walk.coins.items():
            known = core.coin(coin)
            new = known.complete_rows - warm.rows[coin]
            if new < 0:
                one.policy.reset()
                new = known.complete_rows
            one.warm_up(core.recent_rows(coin)[-new:] if new else (), known.last_end_ms)
        self.succession.begin_shadow(warm.walk, warm.done.hold_out, now_ms)

    # --- what is shown ------------------------------------------------------------------------------------------

    def view(self) -> TrainingView:
        """The training under way, or the last one."""
        hours = self._options.retrain_hours
        begun = self.trained_ms
        next_ms = begun + round(hours * HOUR_MS) if hours and begun is not None and self.champion is not None else None
        return msgspec.structs.replace(self._supervisor.view, next_ms=next_ms)

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
