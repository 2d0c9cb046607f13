"""Training and models: the curves of the training under way, champion against challenger, the models kept."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult

from aml100.control.protocol import TrainingView
from aml100.tui import figures
from aml100.tui.ink import Line, cut_words, first_fit, gauge, line, pack
from aml100.tui.screens.listed import ListScreen
from aml100.tui.view import View
from aml100.tui.widgets.account import training_progress
from aml100.tui.widgets.board import ROOMY_HEIGHT, beside
from aml100.tui.widgets.curves import Charts, framed_curve
from aml100.tui.widgets.panels import headed, waiting
from aml100.tui.widgets.rows import model_rows
from aml100.tui.widgets.sheet import Sheet

CURVES_HEIGHT = 8
ROOMY_CURVES_HEIGHT = 16
CONTEST_HEIGHT = 4


class Upper:
    """Paints what stands over the models; it keeps the charts of the second."""

    def __init__(self) -> None:
        self._charts = Charts()

    def paint(self, view: View, width: int, height: int) -> list[Line]:
        """The two curves beside each other, the contest under them."""
        widths = (width - width // 2 - 1, width // 2)
        curves = beside(view, (self._loss, self._validation), widths, height - CONTEST_HEIGHT)
        return [*curves, *contest_lines(view, width, CONTEST_HEIGHT)]

    def _loss(self, view: View, width: int, height: int) -> list[Line]:
        """Epoch, time left, rates, and the loss by epoch."""
        if view.snapshot is None:
            return waiting("training", view, width)
        training = view.snapshot.training
        head = training_progress(training, width)[:1]
        if training.epoch or training.state == "running":
            head.append(_learning(training, width))
        body = [*head, *self._charts.drawn(_draw_loss, view, width, height - 1 - len(head))]
        cause = f" ({training.cause})" if training.cause else ""
        words = [line((text, "accent")) for text in (training.state + cause, training.state)]
        return headed("training: loss", view, width, body, first_fit(width - len("training: loss") - 7, *words))

    def _validation(self, view: View, width: int, height: int) -> list[Line]:
        """Net profit of the greedy policy on the validation part, by epoch."""
        if view.snapshot is None:
            return waiting("validation", view, width)
        training = view.snapshot.training
        begun = training.epoch or training.state == "running" or training.reason
        head = [_earned(training, width)] if begun else []
        if training.reason:
            role = "bad" if training.state == "failed" else "dim"
            head.append(line((" " + cut_words(training.reason, width - 1), role)))
        if training.actions is not None:
            hold, buy, sell = (round(share * 100) for share in training.actions)
            head.append(line((f" it would HOLD {hold} %  BUY {buy} %  SELL {sell} %", "dim")))
        body = [*head, *self._charts.drawn(_draw_validation, view, width, height - 1 - len(head))]
        return headed("validation: % of one notional", view, width, body, line(("by epoch", "dim")))


def _learning(training: TrainingView, width: int) -> Line:
    """Loss, learning rate and share of random actions."""
    return pack(
        width,
        [
            line((" loss ", "dim"), (figures.number(training.loss, 4), "strong")),
            line(
                ("lr ", "dim"), figures.UNKNOWN if training.learning_rate is None else f"{training.learning_rate:.1e}"
            ),
            line(("epsilon ", "dim"), figures.number(training.epsilon, 2)),
        ],
    )


def _earned(training: TrainingView, width: int) -> Line:
    """Net profit on the validation part; the key that ends the training, takes it up again or tries anew."""
    key = {"running": "C cancels", "cancelled": "R goes on", "failed": "r tries again"}.get(training.state, "")
    return pack(
        width,
        [
            line(
                (" net ", "dim"), (figures.percent(training.validation, signed=True), figures.tone(training.validation))
            ),
            line((key, "dim")) if key else (),
        ],
    )


def _draw_loss(view: View, width: int, height: int) -> list[Line]:
    losses = list(view.snapshot.training.losses) if view.snapshot is not None else []
    return framed_curve(losses, width, height, plain=view.ascii, decimals=4)


def _draw_validation(view: View, width: int, height: int) -> list[Line]:
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
        when = "" if next_ms is None else "due" if next_ms <= snapshot.time_ms else figures.moment(next_ms)
        wait = f"; next training {when}" if when else ""
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
    if snapshot.health and snapshot.model.id is not None:
        words = "; ".join(f"{one.name}: {one.detail}" for one in sick) or f"{len(snapshot.health)} checks fine"
        body.append(
            line(
                (" ✗ health " if sick else " ✓ health ", "bad" if sick else "good"),
                (cut_words(words, width - 11), "text"),
            )
        )
    return headed("champion and challenger", view, width, body, note)


class TrainingScreen(ListScreen):
    """Curves above, the contest between, models below."""

    rows = staticmethod(model_rows)

    def above(self) -> ComposeResult:
        yield Sheet(Upper().paint, id="upper")

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        curves = ROOMY_CURVES_HEIGHT if event.size.height >= ROOMY_HEIGHT else CURVES_HEIGHT
        self.query_one("#upper").styles.height = curves + CONTEST_HEIGHT
