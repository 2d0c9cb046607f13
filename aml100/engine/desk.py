"""Training beside trading: starts the trainer's process, listens to it, and hands a finished model to the core.

The child's crash or kill ends in a message, never in trading: the last good model goes on. A model is promoted when it
is healthy and scores better on its validation part than the champion did; the first one on a simulated venue when its
numbers are finite, so that there is something to watch, and it is labelled so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aml100.control.protocol import ModelView, TrainingView
from aml100.domain.clock import wall_ms
from aml100.domain.events import SettledFunding
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.engine.listener import Listeners
from aml100.evaluation.kernel import KernelRules
from aml100.learning.bundle import Bundle, load_bundle
from aml100.learning.settings import TrainingSettings
from aml100.storage.database import Database
from aml100.storage.entries import ModelVersion, Training
from aml100.trading.core import TradingCore
from aml100.trading.policies import AwaitingModel, Policy
from aml100.training.messages import DataSource, Done, Failed, Progress, Stopped, TrainingSpec
from aml100.training.process import TrainingProcess

log = logging.getLogger(__name__)

FEWEST_BARS = 600
RETRY_AFTER_BARS = 240
KEPT_BARS = 100_000
KEPT_CURVE = 200


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """`lenient_first`: the first model need only be sound. Budgets in wall seconds."""

    folder: Path
    rules: Mapping[Coin, KernelRules]
    settings: TrainingSettings
    seed: int
    hourly_rate: float
    lenient_first: bool
    bootstrap_budget_s: float = 30.0
    budget_s: float = 300.0


class TrainingDesk:
    """One engine's trainer and its models."""

    def __init__(
        self, options: DeskOptions, database: Database, listeners: Listeners, champion: Bundle | None = None
    ) -> None:
        self._options = options
        self._database = database
        self._listeners = listeners
        self._bars: dict[Coin, list[Bar]] = {coin: [] for coin in options.rules}
        self._funding: dict[Coin, list[SettledFunding]] = {coin: [] for coin in options.rules}
        self._task: asyncio.Task[None] | None = None
        self._process: TrainingProcess | None = None
        self._ready: tuple[Bundle, Done] | None = None
        self._view = TrainingView(state="idle")
        self._losses: list[float] = []
        self._validations: list[float] = []
        self._trainings = 0
        self._tried_at_bars = 0
        self.champion = champion

    def on_history(self, bars: Sequence[Bar]) -> None:
        """Closed bars, oldest first: what the next training learns from."""
        for bar in bars:
            kept = self._bars[bar.coin]
            kept.append(bar)
            if len(kept) > KEPT_BARS:
                del kept[: KEPT_BARS // 10]

    def on_funding(self, settled: SettledFunding) -> None:
        """A settled rate, oldest first: a feature of the next training, and what its positions pay."""
        self._funding[settled.coin].append(settled)

    def factory(self) -> Callable[[Coin], Policy]:
        """Policies of the champion; without one, policies that wait for it."""
        champion = self.champion
        return lambda coin: AwaitingModel() if champion is None else champion.policy()

    def poll(self, core: TradingCore, now_ms: int) -> None:
        """Between two events: begin the first training, or adopt what a training brought."""
        if self._ready is not None:
            (bundle, done), self._ready = self._ready, None
            self._judge(bundle, done, core, now_ms)
        fewest = min(len(bars) for bars in self._bars.values())
        if self.champion is None and self._task is None and fewest >= max(FEWEST_BARS, self._tried_at_bars):
            self.start("bootstrap")

    def start(self, cause: str) -> str:
        """Begin a training; says what was begun, or why not."""
        if self._task is not None and not self._task.done():
            return "a training is already running"
        self._trainings += 1
        self._tried_at_bars = min(len(bars) for bars in self._bars.values()) + RETRY_AFTER_BARS
        budget_s = self._options.bootstrap_budget_s if self.champion is None else self._options.budget_s
        self._task = asyncio.create_task(self._train(cause, budget_s), name="training")
        return f"training started ({cause}), at most {budget_s:.0f} s"

    def cancel(self) -> None:
        """Ask the child to leave; a checkpoint stays."""
        if self._process is not None:
            self._cancelling = asyncio.create_task(self._process.cancel())

    def retire(self, core: TradingCore, now_ms: int) -> None:
        """The champion decides no more; ledger, phases and history stay."""
        if self.champion is None:
            return
        self._keep(self.champion, "retired", "reset by the operator", now_ms)
        self.champion = None
        core.adopt_policy(self.factory())

    async def close(self) -> None:
        """Leave no child behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- one training ---------------------------------------------------------------------------------------

    async def _train(self, cause: str, budget_s: float) -> None:
        options = self._options
        training_id = f"t-{wall_ms()}-{self._trainings}"
        folder = options.folder / "training" / training_id
        bars = {coin: list(kept) for coin, kept in self._bars.items()}
        await asyncio.to_thread(_write_bars, folder, bars)
        rates = {coin: list(settled) for coin, settled in self._funding.items()}
        funding = await asyncio.to_thread(_write_funding, folder, rates)
        spec = TrainingSpec(
            data=tuple(
                DataSource(str(folder / f"{number}.parquet"), rules, coin, funding[coin], options.hourly_rate)
                for number, (coin, rules) in enumerate(options.rules.items())
            ),
            settings=options.settings,
            seed=options.seed + self._trainings - 1,
            models=str(options.folder / "models"),
            folder=str(folder),
            budget_s=budget_s,
        )
        started_ms = wall_ms()
        self._losses, self._validations = [], []
        self._show(TrainingView(state="running", epochs=spec.settings.epochs, seed=spec.seed, eta_s=budget_s))
        self._database.record_training(Training(training_id, started_ms, "running", cause, spec.seed))
        final: Done | Stopped | Failed = Failed("the trainer said nothing")
        try:
            async with TrainingProcess(spec) as process:
                self._process = process
                async for message in process.messages():
                    if isinstance(message, Progress):
                        self._on_progress(message)
                    else:
                        final = message
        finally:
            self._process = None
        state = "done" if isinstance(final, Done) else "cancelled" if isinstance(final, Stopped) else "failed"
        reason = final.reason if isinstance(final, Failed) else ""
        model = final.id if isinstance(final, Done) else None
        self._database.record_training(
            Training(training_id, started_ms, state, cause, spec.seed, ended_ms=wall_ms(), model=model, reason=reason)
        )
        self._show(_with(self._view, state=state, eta_s=None, reason=reason))
        if isinstance(final, Done):
            self._ready = await asyncio.to_thread(load_bundle, Path(final.path)), final
        elif isinstance(final, Failed):
            log.warning("training failed, the last good model stays: %s", final.reason)
        self._task = None

    def _on_progress(self, seen: Progress) -> None:
        if seen.loss is not None:
            self._losses = [*self._losses, seen.loss][-KEPT_CURVE:]
        if seen.validation is not None:
            self._validations = [*self._validations, seen.validation * 100][-KEPT_CURVE:]
        view = TrainingView(
            state="running",
            epoch=seen.epoch,
            epochs=seen.epochs,
            loss=seen.loss,
            validation=None if seen.validation is None else seen.validation * 100,
            eta_s=seen.eta_s,
            seed=seen.seed,
            device="cpu",
            losses=tuple(self._losses),
            validations=tuple(self._validations),
        )
        self._show(view)

    def _show(self, view: TrainingView) -> None:
        changed = view.epoch != self._view.epoch or view.state != self._view.state
        self._view = view
        if changed:
            self._listeners.on_event(
                "training",
                {
                    "state": view.state,
                    "epoch": view.epoch,
                    "epochs": view.epochs,
                    "loss": view.loss,
                    "validation": view.validation,
                    "eta_s": view.eta_s,
                },
            )

    # --- promotion ------------------------------------------------------------------------------------------

    def _judge(self, bundle: Bundle, done: Done, core: TradingCore, now_ms: int) -> None:
        """Promote or refuse, with the reason."""
        failed = [finding for finding in done.health if not finding.healthy]
        self._tell(done.id, "trained", f"validation net {done.validation.net_return:+.2%} of one notional")
        first = self.champion is None
        sound = not [f for f in failed if f.name in ("not_finite", "exploding_q")]
        if first and self._options.lenient_first and sound:
            words = ", ".join(f.name for f in failed)
            reason = f"first model on a simulated market{f' (not shown to have an edge: {words})' if words else ''}"
        elif failed:
            reason = f"{failed[0].name}: {failed[0].detail}"
            self._keep(bundle, "refused", reason, now_ms)
            self._tell(done.id, "refused", reason)
            return
        elif self.champion is not None and done.validation.score <= self.champion.record.validation.score:
            reason = f"score {done.validation.score:.4f}, the champion has {self.champion.record.validation.score:.4f}"
            self._keep(bundle, "refused", reason, now_ms)
            self._tell(done.id, "refused", reason)
            return
        else:
            reason = f"validation score {done.validation.score:.4f}"
        if self.champion is not None:
            self._keep(self.champion, "retired", f"replaced by {done.id}", now_ms)
        self.champion = bundle
        core.adopt_policy(self.factory())
        self._keep(bundle, "champion", reason, now_ms)
        self._tell(done.id, "promoted", reason)

    def _keep(self, bundle: Bundle, state: str, reason: str, now_ms: int) -> None:
        record = bundle.record
        self._database.record_model(
            ModelVersion(record.id, now_ms, now_ms, state, str(bundle.path or ""), seed=record.seed, reason=reason)
        )

    def _tell(self, model: str, event: str, reason: str) -> None:
        self._listeners.on_event("model", {"id": model, "event": event, "reason": reason})

    # --- what is shown --------------------------------------------------------------------------------------

    def view(self) -> TrainingView:
        """The training under way, or the last one."""
        return self._view

    def model_view(self) -> ModelView:
        """The champion."""
        if self.champion is None:
            return ModelView(id=None, name="none yet")
        record = self.champion.record
        return ModelView(id=record.id, name=record.id, validation=record.validation.net_return * 100)

    def model_views(self) -> tuple[ModelView, ...]:
        """Every version, the latest first."""
        return tuple(
            ModelView(id=m.id, name=m.state, trained_ms=m.created_ms, note=m.reason)
            for m in reversed(self._database.models())
        )


def _with(view: TrainingView, *, state: str, eta_s: float | None, reason: str) -> TrainingView:
    return TrainingView(
        state=state,
        epoch=view.epoch,
        epochs=view.epochs,
        loss=view.loss,
        validation=view.validation,
        eta_s=eta_s,
        seed=view.seed,
        device=view.device,
        reason=reason,
        losses=view.losses,
        validations=view.validations,
    )


def _write_bars(folder: Path, bars: Mapping[Coin, Sequence[Bar]]) -> None:
    """One Parquet file a coin, as `--data` takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(bars.values()):
        table = pa.table(
            {
                "time": pa.array([bar.open_ms for bar in rows], pa.int64()),
                "open": [float(bar.open) for bar in rows],
                "high": [float(bar.high) for bar in rows],
                "low": [float(bar.low) for bar in rows],
                "close": [float(bar.close) for bar in rows],
                "volume": [float(bar.volume) for bar in rows],
            }
        )
        pq.write_table(table, folder / f"{number}.parquet")


def _write_funding(folder: Path, rates: Mapping[Coin, Sequence[SettledFunding]]) -> dict[Coin, str | None]:
    """One file a coin, as `--funding` takes it; None where nothing is known."""
    written: dict[Coin, str | None] = {}
    for number, (coin, settled) in enumerate(rates.items()):
        written[coin] = str(folder / f"funding-{number}.parquet") if settled else None
        if settled:
            columns = {
                "time": pa.array([one.time_ms for one in settled], pa.int64()),
                "rate": [one.rate * one.hours for one in settled],
                "premium": pa.array([one.premium for one in settled], pa.float64()),
                "hours": pa.array([one.hours for one in settled], pa.int64()),
            }
            pq.write_table(pa.table(columns), folder / f"funding-{number}.parquet")
    return written
