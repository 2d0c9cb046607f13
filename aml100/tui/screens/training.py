"""Training and models: the curves of the training under way above the list of models."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal

from aml100.tui.ink import Line, line
from aml100.tui.screens.base import ListScreen
from aml100.tui.view import View
from aml100.tui.widgets.account import training_progress
from aml100.tui.widgets.panels import ChartPanel, framed_curve, headed, waiting
from aml100.tui.widgets.rows import model_rows


class LossPanel(ChartPanel):
    """Epoch, time left, and the loss by epoch."""

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        if view.snapshot is None:
            return waiting("training", view, width)
        head = training_progress(view.snapshot.training, width)[:1]
        body = [*head, *self.chart(view, width, height - 1 - len(head))]
        return headed("training: loss", view, width, body, line((view.snapshot.training.state, "accent")))

    def draw(self, view: View, width: int, height: int) -> list[Line]:
        losses = list(view.snapshot.training.losses) if view.snapshot is not None else []
        return framed_curve(losses, width, height, plain=view.ascii, decimals=4)


class ValidationPanel(ChartPanel):
    """Net profit of the greedy policy on the validation part, by epoch."""

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        if view.snapshot is None:
            return waiting("validation", view, width)
        head = training_progress(view.snapshot.training, width)[1:2]
        body = [*head, *self.chart(view, width, height - 1 - len(head))]
        return headed("validation: % of equity", view, width, body)

    def draw(self, view: View, width: int, height: int) -> list[Line]:
        values = list(view.snapshot.training.validations) if view.snapshot is not None else []
        return framed_curve(values, width, height, plain=view.ascii)


class TrainingScreen(ListScreen):
    """Curves above, models below."""

    rows = staticmethod(model_rows)

    def body(self) -> ComposeResult:
        with Horizontal(id="curves"):
            yield LossPanel(id="loss")
            yield ValidationPanel(id="validation")
        yield from super().body()
