"""The dialog with everything about one row, and what of the engine's journal belongs to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from aml100.control.protocol import (
    AlertView,
    DecisionView,
    EvidenceView,
    LogLine,
    ModelView,
    ObjectiveView,
    OpenOrderView,
    PositionView,
    RiskView,
    TradeView,
)
from aml100.tui import figures
from aml100.tui.ink import Line, folded, line, plain, to_ascii
from aml100.tui.widgets.account import position_block
from aml100.tui.widgets.curves import ACTION_ROLES
from aml100.tui.widgets.dialogs import Dialog
from aml100.tui.widgets.guards import guard_details
from aml100.tui.widgets.objectives import evidence_details, objective_details
from aml100.tui.widgets.rows import alert_details, decision_details, model_details
from aml100.tui.widgets.trading import order_details, trade_details

WIDTH = 68
"""Cells of a row inside the dialog, its scroll bar aside."""

Ask = Callable[[str, Mapping[str, object]], Awaitable[Mapping[str, Any] | None]]
"""Sends a question to the engine; its data, or None where no answer came."""


def described(item: object) -> tuple[str, list[Line]]:
    """Title and lines of a row's item."""
    match item:
        case TradeView():
            return f"Trade: {item.coin} {figures.day_time(item.exit_ms)}", trade_details(item)
        case OpenOrderView():
            return f"Order: {item.coin} {item.kind}", order_details(item)
        case PositionView():
            return f"Position: {item.coin}", [
                *position_block(item, WIDTH),
                *_position_words(item),
            ]
        case DecisionView():
            return f"Decision: {item.coin} {figures.day_time(item.bar_ms)}", decision_details(item)
        case AlertView():
            return f"Alert: {item.code}", alert_details(item)
        case ModelView():
            return f"Model: {item.id}", model_details(item)
        case RiskView():
            return f"Guard: {item.guard}", guard_details(item)
        case ObjectiveView():
            return "Objective", objective_details(item)
        case EvidenceView():
            return "Evidence", evidence_details(item)
        case LogLine():
            return f"Log: {item.level}", [line(figures.moment(item.time_ms)), line(item.text)]
        case _:
            return "Details", [line(str(item))]


def question_of(item: object) -> dict[str, object] | None:
    """What to ask `why` for a row: the decision that led to it."""
    match item:
        case TradeView():
            return {"coin": item.coin, "before_ms": item.entry_ms, "order": True, "last": 1}
        case PositionView() if item.opened_ms:
            return {"coin": item.coin, "before_ms": item.opened_ms, "order": True, "last": 1}
        case OpenOrderView() if item.created_ms:
            return {"coin": item.coin, "before_ms": item.created_ms + 1, "order": True, "last": 1}
        case _:
            return None


def _position_words(item: PositionView) -> list[Line]:
    size, entry = figures.as_float(item.size), figures.as_float(item.entry_price)
    rows = [("opened", figures.moment(item.opened_ms) if item.opened_ms else figures.UNKNOWN)]
    for name, text in (("at the stop", item.stop_price), ("at the target", item.target_price)):
        if text is not None:
            money = figures.money(size * (figures.as_float(text) - entry), signed=True)
            rows.append((name, f"{money} USD before fees"))
    return [line((f" {name:<15}", "dim"), text) for name, text in rows]


def decision_from(data: Mapping[str, Any]) -> list[Line]:
    """The decision of a `why` answer, with the gates it passed."""
    found = data.get("decisions") or []
    if not found:
        return [line(("no decision of ours led to it: it is older than the journal, or foreign", "dim"))]
    one = found[0]
    q = one.get("q")
    values = "no Q values" if not q else "  ".join(f"{n} {v:+.4f}" for n, v in zip(ACTION_ROLES, q, strict=True))
    passed = [gate["name"] for gate in one["gates"] if gate["ok"]]
    lines = [
        line(("why          ", "dim"), f"decided as the bar of {figures.moment(int(one['bar_ms']))} closed"),
        line(("             ", "dim"), str(one["why"])),
        line(("             ", "dim"), values),
    ]
    if one.get("regime"):
        lines.append(
            line(("             ", "dim"), f"regime {one['regime']}, confidence {one.get('confidence', 0):.2f}")
        )
    if passed:
        lines.append(line(("             ", "dim"), ("passed " + ", ".join(passed), "dim")))
    for gate in one["gates"]:
        if not gate["ok"]:
            lines.append(line(("           ✗ ", "bad"), f"{gate['name']}: {gate['reason']}"))
    return lines


class Details(Dialog[None]):
    """One row in full. `copied` is what `c` copies."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "leave", "Close"),
        Binding("c", "app.copy_ids", "copy", id="copy"),
        Binding("h", "app.halt", "halt", id="halt"),
    ]

    def __init__(self, item: object, ask: Ask, *, ascii: bool = False) -> None:
        super().__init__()
        self.chosen = item
        self._ask = ask
        self._ascii = ascii
        self.text = ""
        """What it says, for tests."""

    def compose(self) -> ComposeResult:
        title, _ = described(self.chosen)
        with VerticalScroll(classes="dialog details"):
            yield Static(title, classes="dialog-title", markup=False)
            yield Static("", id="lines", markup=False)
            yield Static("Esc closes, c copies its id", classes="dialog-foot", markup=False)

    def on_mount(self) -> None:
        self._say(described(self.chosen)[1])
        question = question_of(self.chosen)
        if question is not None:
            self.run_worker(self._fetch(question))

    async def _fetch(self, question: dict[str, object]) -> None:
        data = await self._ask("why", question)
        lines = described(self.chosen)[1]
        more = decision_from(data) if data is not None else [line(("why: the engine does not answer", "warn"))]
        self._say([*lines, (), *more])

    def _say(self, lines: list[Line]) -> None:
        rows = [row for spans in lines for row in folded(spans, WIDTH)]
        shown = [to_ascii(spans) if self._ascii else spans for spans in rows]
        self.text = "\n".join(plain(spans) for spans in shown)
        text = Text()
        variables = self.app.get_css_variables()
        for at, spans in enumerate(shown):
            if at:
                text.append("\n")
            for part, role in spans:
                colour = variables.get(f"ink-{role}", "")
                text.append(part, style=colour if colour.startswith("#") else "")
        self.query_one("#lines", Static).update(text)

    def action_leave(self) -> None:
        self.dismiss(None)
