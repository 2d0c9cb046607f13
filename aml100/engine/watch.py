"""The operational check, every `cycle_hours` of market time: status, health, and what speaks for retraining.

It is apart from the evaluation of cycles: it judges nobody's phase. What it finds is journalled with its figures, and
a restart goes on from the last check.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Final

import numpy as np

from aml100.config.models import Objectives, Params
from aml100.control.protocol import HealthView
from aml100.domain.events import Decision, Record
from aml100.domain.units import DAY_MS, HOUR_MS, Coin
from aml100.engine.condition import Decided, bias_of, feature_drift, live_health, result_drift
from aml100.engine.cycle import CycleKeeper
from aml100.engine.listener import Listeners
from aml100.engine.succession import Succession
from aml100.evaluation.standing import SIZE_FACTORS, Standing, Status, check_every_ms, judge_status
from aml100.learning.scores import HealthFinding
from aml100.storage.database import Database
from aml100.storage.entries import StatusCheck
from aml100.trading.core import TradingCore

WATCHED: Final = 1440
"""Decisions that health and bias look at."""
REST_SHARE: Final = 0.25
"""Of `retrain_hours`: so long nothing but the schedule starts a training after the last one."""
FEWEST_ROWS: Final = 240


@dataclass(frozen=True, slots=True)
class Trigger:
    """A reason to train: `cause` is schedule, status, bias or drift."""

    cause: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What an operational check found. `halts`: the status became CRITICAL with this check."""

    standing: Standing
    health: tuple[HealthFinding, ...]
    triggers: tuple[Trigger, ...]
    halts: bool
    size_factor: Decimal


class Watch:
    """Listens to decisions; `check` when `is_due`."""

    def __init__(
        self, objectives: Objectives, params: Params, database: Database, listeners: Listeners, interval_ms: int
    ) -> None:
        self._objectives = objectives
        self._params = params
        self._database = database
        self._listeners = listeners
        self._interval_ms = interval_ms
        self._every_ms = check_every_ms(objectives, interval_ms)
        self._decided: dict[Coin, deque[Decided]] = {}
        self._last_ms = 0
        self._standing: Standing | None = None
        self._causes: tuple[str, ...] = ()
        self.health: tuple[HealthFinding, ...] = ()

    def restore(self, coins: tuple[Coin, ...]) -> None:
        """Take up where the journal ends."""
        last = self._database.last_check()
        if last is not None:
            self._last_ms = last.time_ms
            self._standing = Standing(Status(last.status), last.reason, json.loads(last.figures))
            self.health = tuple(HealthFinding(**one) for one in json.loads(last.health))
        for coin in coins:
            for decision in reversed(self._database.last_decisions(coin, WATCHED)):
                self._take(decision)

    def on_record(self, record: Record) -> None:
        if isinstance(record, Decision):
            self._take(record)

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "model" and fields.get("event") == "promoted":
            self._decided.clear()

    def _take(self, decision: Decision) -> None:
        kept = self._decided.setdefault(decision.coin, deque(maxlen=WATCHED))
        kept.append(Decided(decision.action, decision.q))

    def is_due(self, now_ms: int) -> bool:
        """Checks lie on multiples of `cycle_hours` since the epoch."""
        return now_ms // self._every_ms > self._last_ms // self._every_ms

    def check(
        self, now_ms: int, core: TradingCore, succession: Succession | None, cycles: CycleKeeper, trained_ms: int | None
    ) -> Checked:
        """Look at everything, journal what is found.

        Args:
            trained_ms: market time at which the last training began; None: there was none.
        """
        before = self._standing
        days = self._objectives.cycle_days
        limit = float(self._params.risk.max_dd_frac)
        standing = judge_status(cycles.ledger_window(now_ms, round(days * DAY_MS)), cycles.rules, limit)
        champion = succession.champion if succession is not None else None
        promised = None if champion is None else champion.record.validation
        gamma = self._params.training.gamma
        self.health = tuple(
            finding
            for decided in self._decided.values()
            for finding in live_health(decided, self._interval_ms, gamma, promised)
        )
        triggers = (
            ()
            if succession is None or champion is None
            else self._triggers(now_ms, core, succession, standing, trained_ms)
        )
        self._note(now_ms, standing, triggers)
        critical = standing.status is Status.CRITICAL and (before is None or before.status is not Status.CRITICAL)
        factor = SIZE_FACTORS[standing.status] if self._params.risk.status_sizing else Decimal(1)
        return Checked(standing, self.health, triggers, critical, factor)

    def _note(self, now_ms: int, standing: Standing, triggers: Sequence[Trigger]) -> None:
        """Journal a check; it is told where something has changed."""
        self._database.journal(
            (
                StatusCheck(
                    now_ms,
                    standing.status.value,
                    standing.reason,
                    json.dumps(standing.figures),
                    json.dumps([asdict(finding) for finding in self.health]),
                    json.dumps([asdict(trigger) for trigger in triggers]),
                ),
            )
        )
        before, known = self._standing, self._causes
        self._last_ms, self._standing, self._causes = now_ms, standing, tuple(trigger.cause for trigger in triggers)
        if before is None or before.status is not standing.status or self._causes != known:
            self._listeners.on_event(
                "check",
                {
                    "status": standing.status.value,
                    "reason": standing.reason,
                    "triggers": [f"{trigger.cause}: {trigger.reason}" for trigger in triggers],
                },
            )

    def _triggers(
        self, now_ms: int, core: TradingCore, succession: Succession, standing: Standing, trained_ms: int | None
    ) -> tuple[Trigger, ...]:
        training = self._params.training
        since_ms = now_ms - (trained_ms if trained_ms is not None else 0)
        found: list[Trigger] = []
        if training.retrain_hours and since_ms >= training.retrain_hours * HOUR_MS:
            hours = f"{since_ms / HOUR_MS:.0f} hours since the last training"
            found.append(Trigger("schedule", hours if trained_ms is not None else "nothing has been trained here yet"))
        if since_ms < training.retrain_hours * REST_SHARE * HOUR_MS:
            return ()
        if standing.status in (Status.CRITICAL, Status.POOR):
            found.append(Trigger("status", f"{standing.status}: {standing.reason}"))
        for coin, decided in self._decided.items():
            biased = bias_of(decided, training.bias_threshold)
            if biased:
                found.append(Trigger("bias", f"{coin} {biased}"))
        found += self._drifts(core, succession)
        return tuple(found)

    def _drifts(self, core: TradingCore, succession: Succession) -> list[Trigger]:
        champion, walk = succession.champion, succession.own_walk
        assert champion is not None
        record, found = champion.record, []
        mean, inverse_sd = np.array(record.scaler_mean), np.array(record.scaler_inverse_sd)
        for coin in core.instruments:
            rows = core.recent_rows(coin)[-max(FEWEST_ROWS, 5 * DAY_MS // self._interval_ms) :]
            if len(rows) >= max(FEWEST_ROWS, DAY_MS // self._interval_ms):
                moved = feature_drift(np.array(rows), mean, inverse_sd)
                if moved:
                    found.append(Trigger("drift", f"{coin} features: {moved}"))
        if walk is not None:
            parted = result_drift(walk.bars, walk.net, walk.stderr, record.validation)
            if parted:
                found.append(Trigger("drift", f"results: {parted}"))
        return found

    # --- what is shown ------------------------------------------------------------------------------------------

    @property
    def status(self) -> tuple[str, str]:
        """Status and reason; empty before the first check."""
        return ("", "") if self._standing is None else (self._standing.status.value, self._standing.reason)

    def health_views(self) -> tuple[HealthView, ...]:
        return tuple(HealthView(one.name, one.healthy, one.detail) for one in self.health)
