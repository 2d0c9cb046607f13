"""The training under way as it is shown, or the last one: its state, its curves, and the line when that changes."""

from __future__ import annotations

from typing import Final

import msgspec

from aml100.control.protocol import TrainingView
from aml100.engine.listener import Listeners
from aml100.training.messages import Done, Progress, TrainingSpec

KEPT_CURVE: Final = 200


class TrainingBoard:
    """`view` is what is to be seen; listeners are told when epoch, state or reason change."""

    def __init__(self, listeners: Listeners) -> None:
        self.view = TrainingView(state="idle")
        self._listeners = listeners
        self._losses: list[float] = []
        self._validations: list[float] = []

    def begin(self, spec: TrainingSpec, cause: str) -> None:
        """A training was begun."""
        self._losses, self._validations = [], []
        epochs, seed, eta_s = spec.settings.epochs, spec.seed, spec.budget_s
        self._show(TrainingView(state="running", epochs=epochs, seed=seed, eta_s=eta_s, cause=cause))

    def on_progress(self, seen: Progress, cause: str) -> None:
        """The trainer tells."""
        validation = None if seen.validation is None else seen.validation * 100
        if seen.loss is not None:
            self._losses = [*self._losses, seen.loss][-KEPT_CURVE:]
        if validation is not None:
            self._validations = [*self._validations, validation][-KEPT_CURVE:]
        self._show(
            TrainingView(
                state="running",
                epoch=seen.epoch,
                epochs=seen.epochs,
                loss=seen.loss,
                validation=validation,
                eta_s=seen.eta_s,
                seed=seen.seed,
                device=seen.device,
                losses=tuple(self._losses),
                validations=tuple(self._validations),
                learning_rate=seen.learning_rate,
                epsilon=seen.epsilon,
                actions=seen.actions,
                cause=cause,
                reason=self.view.reason,
            )
        )

    def finish(self, done: Done) -> None:
        """A model was made: what the epoch that was kept earned in validation, not the last one."""
        seen = done.validation
        self._show(
            msgspec.structs.replace(
                self.view,
                state="done",
                epoch=done.epochs,
                eta_s=None,
                validation=seen.net_return * 100,
                actions=(seen.hold_share, seen.buy_share, seen.sell_share),
                reason=f"kept: epoch {done.best_epoch}",
            )
        )

    def say(self, state: str, reason: str, eta_s: float | None = None) -> None:
        """Another state, for a reason; what it has come to stays."""
        self._show(msgspec.structs.replace(self.view, state=state, eta_s=eta_s, reason=reason))

    def _show(self, view: TrainingView) -> None:
        known = self.view
        changed = (view.epoch, view.state, view.reason) != (known.epoch, known.state, known.reason)
        self.view = view
        if changed:
            names = ("state", "epoch", "epochs", "loss", "validation", "eta_s", "reason")
            self._listeners.on_event("training", {name: getattr(view, name) for name in names})
