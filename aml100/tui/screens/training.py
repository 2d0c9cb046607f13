"""Training and models: the curves of the training under way, champion against challenger, the models kept."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal

from aml100.tui import figures
from aml100.tui.ink import Line, gauge, line, pack
from aml100.tui.screens.listed import ListScreen
from aml100.tui.view import View
from aml100.tui.widgets.account import training_progress
from aml100.tui.widgets.curves import ChartPanel, framed_curve
from aml100.tui.widgets.panels import headed, waiting
from aml100.tui.widgets.rows import model_rows
from aml100.tui.widgets.sheet import Sheet


class LossPanel(ChartPanel):
    """Epoch, time left, and the loss by epoch."""

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        if view.snapshot is None:
            return waiting("training", view, width)
        training = view.snapshot.training
        head = training_progress(training, width)[:1]
        body = [*head, *self.chart(view, width, height - 1 - len(head))]
        cause = f" ({training.cause})" if training.cause else ""
        return headed("training: loss", view, width, body, line((training.state + cause, "accent")))

    def draw(self, view: View, width: int, height: int) -> list[Line]:
        losses = list(view.snapshot.training.losses) if view.snapshot is not None else []
        return framed_curve(losses, width, height, plain=view.ascii, decimals=4)


class ValidationPanel(ChartPanel):
    """Net profit of the greedy policy on the validation part, by epoch."""

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        if view.snapshot is None:
            return waiting("validation", view, width)
        training = view.snapshot.training
        head = training_progress(training, width)[1:2]
        if training.actions is not None:
            hold, buy, sell = (round(share * 100) for share in training.actions)
            head.append(line((f" it would HOLD {hold} %  BUY {buy} %  SELL {sell} %", "dim")))
        body = [*head, *self.chart(view, width, height - 1 - len(head))]
        return headed("validation: % of equity, by epoch", view, width, body)

    def draw(self, view: View, width: int, height: int) -> list[Line]:
        values = list(view.snapshot.training.validations) if view.snapshot is not None else []
        return framed_curve(values, width, height, plain=view.ascii)


def contest_lines(view: View, width: int, _height: int) -> list[Line]:
    """Champion against the challenger in shadow, over the same bars; then the health of the one that trades."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("champion and challenger", view, width)
    shadow = snapshot.shadow
    if shadow is None:
        next_ms = snapshot.training.next_ms
        wait = f"; next training {figures.moment(next_ms)}" if next_ms is not None else ""
        body = [line((f" no challenger in shadow{wait}", "dim"))]
        note = line((snapshot.model.name, "strong"))
    else:
        ahead = shadow.net_pct > shadow.champion_net_pct
        mine, theirs = (figures.percent(value, signed=True) for value in (shadow.net_pct, shadow.champion_net_pct))
        progress = shadow.bars / shadow.bars_needed if shadow.bars_needed else 1.0
        body = [
            pack(
                width,
                [
                    line(
                        " ▲ champion ",
                        (f"{theirs} ", figures.tone(shadow.champion_net_pct)),
                        (shadow.champion_id, "dim"),
                    ),
                    line("◆ challenger ", (f"{mine} ", figures.tone(shadow.net_pct)), (shadow.id, "dim")),
                    line(("challenger ahead" if ahead else "champion ahead", "accent")),
                ],
            ),
            pack(
                width,
                [
                    (*line(" shadow "), *gauge(progress, 16), *line(f" {shadow.bars} of {shadow.bars_needed} bars")),
                    line((f"{shadow.trades} trades", "dim")),
                    line((shadow.note, "dim")) if shadow.note else (),
                ],
            ),
        ]
        note = line(("net of costs, same bars, % of one notional", "dim"))
    sick = [one for one in snapshot.health if not one.healthy]
    if snapshot.health:
        words = "; ".join(f"{one.name}: {one.detail}" for one in sick) or f"{len(snapshot.health)} checks fine"
        body.append(
            line((" ✗ health " if sick else " ✓ health ", "bad" if sick else "good"), (words[: width - 12], "text"))
        )
    return headed("champion and challenger", view, width, body, note)


class ContestPanel(Sheet):
    painter = staticmethod(contest_lines)


class TrainingScreen(ListScreen):
    """Curves above, the contest between, models below."""

    rows = staticmethod(model_rows)

    def body(self) -> ComposeResult:
        with Horizontal(id="curves"):
            yield LossPanel(id="loss")
            yield ValidationPanel(id="validation")
        yield ContestPanel(id="contest")
        yield from super().body()
