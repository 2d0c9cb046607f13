"""Dialogs: a confirmation that defaults to No, the way out, and the page of help.

Enter alone never confirms anything. `h` goes on working behind every dialog that takes no text, and in the one that
takes a command's word: no word has an h.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from aml100.domain.units import iso_utc
from aml100.tui.commands import COMMAND_TABLE, ConsoleCommand, Question, shown_keys

EFFECTS_S: Final = 1.0
AnswerT = TypeVar("AnswerT")


class Dialog(ModalScreen[AnswerT]):
    """Stands over the screen until it is answered."""

    CSS_PATH = "../dialogs.tcss"


class Effects(Static):
    """What a yes would do, in the numbers of now: they go on while the question stands (GUARANTEES C15)."""

    def __init__(self, effects: Callable[[], tuple[str, ...]], mark: str) -> None:
        super().__init__(markup=False)
        self.effects = effects
        self.mark = mark

    def on_mount(self) -> None:
        self.refill()
        self.set_interval(EFFECTS_S, self.refill)

    def refill(self) -> None:
        """Write them anew."""
        self.update("\n".join(f"{self.mark}{effect}" for effect in self.effects()))


class WordInput(Input):
    """Takes the word of a command; `h` halts from here too, unless halt was given another key."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("h", "halt", "halt", show=False, priority=True)]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "halt" or "halt" not in getattr(self.app, "keys_given", {})

    async def action_halt(self) -> None:
        await self.run_action("app.halt")


class Confirm(Dialog[bool]):
    """Answers True only to the key `y`, the Yes button, or the word typed in full."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "answer(False)", "No"),
        Binding("n", "answer(False)", "No"),
        Binding("y", "answer(True)", "Yes"),
        Binding("h", "app.halt", "halt", id="halt"),
    ]

    def __init__(self, question: Question, effects: Callable[[], tuple[str, ...]]) -> None:
        super().__init__()
        self.question = question
        self.effects = effects

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self.question.title, classes="dialog-title", markup=False)
            yield Effects(self.effects, "- ")
            if self.question.word is None:
                with Horizontal(classes="dialog-buttons"):
                    yield Button("No (Enter)", id="no")
                    yield Button("Yes (y)", id="yes")
            else:
                yield Static(
                    f"type {self.question.word} and Enter to confirm; Enter alone or Esc cancels", markup=False
                )
                yield WordInput(placeholder="no", id="word")
                yield Static("", id="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one("#no" if self.question.word is None else "#word").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        typed = event.value.strip()
        if not typed:
            self.dismiss(False)
        elif typed == self.question.word:
            self.dismiss(True)
        else:
            self.query_one("#hint", Static).update(f"that is not {self.question.word}; nothing was sent")

    def action_answer(self, yes: bool) -> None:
        """`y` alone is no answer where a word is asked for."""
        if yes and self.question.word is not None:
            return
        self.dismiss(yes)


class Leave(Dialog[str]):
    """The way out: `detach` leaves the engine running, `stop` ends it, `cancel` stays.

    Args:
        effects: of stopping.
        may_stop: this console may stop the engine, and there is one.
        is_gone: there is no engine that could go on.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "choose('cancel')", "Cancel"),
        Binding("n", "choose('cancel')", "Cancel"),
        Binding("d", "choose('detach')", "Detach"),
        Binding("s", "choose('stop')", "Stop"),
        Binding("h", "app.halt", "halt", id="halt"),
    ]

    def __init__(self, effects: Callable[[], tuple[str, ...]], *, may_stop: bool, is_gone: bool = False) -> None:
        super().__init__()
        self.effects = effects
        self.may_stop = may_stop
        self.is_gone = is_gone

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Leave the console?", classes="dialog-title", markup=False)
            if self.is_gone:
                yield Static("- the engine is not there; `aml100-console run` starts it again", markup=False)
            else:
                yield Static("- detach: the engine goes on, `aml100-console attach` returns", markup=False)
            if self.may_stop:
                yield Static("- stop: the engine ends as well", markup=False)
                yield Effects(self.effects, "  ")
            with Horizontal(classes="dialog-buttons"):
                yield Button("Stay (Enter)", id="cancel")
                yield Button("Leave (d)" if self.is_gone else "Detach (d)", id="detach")
                if self.may_stop:
                    yield Button("Stop (s)", id="stop")

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id or "cancel")

    def action_choose(self, choice: str) -> None:
        if choice == "stop" and not self.may_stop:
            return
        self.dismiss(choice)


class Moment(Dialog[int]):
    """Asks for a moment of the past; None for a text that is none."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]

    def __init__(self, now_ms: int, latest_ms: int) -> None:
        super().__init__()
        self.now_ms, self.latest_ms = now_ms, latest_ms

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Go to", classes="dialog-title", markup=False)
            yield Static("a time (UTC) such as 14:05, 14:05:30 or 2025-06-30 14:05, or back by -90m", markup=False)
            yield Input(placeholder=iso_utc(self.now_ms)[:19].replace("T", " "), id="moment")
            yield Static("", id="hint", markup=False)

    def on_mount(self) -> None:
        self.query_one("#moment").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        at_ms = moment_of(event.value, self.now_ms, self.latest_ms)
        if at_ms is None:
            self.query_one("#hint", Static).update(f"{event.value!r} is no time; allowed: 14:05, -90m, -3h")
        else:
            self.dismiss(at_ms)

    def action_leave(self) -> None:
        self.dismiss(None)


_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def moment_of(text: str, now_ms: int, latest_ms: int) -> int | None:
    """The moment a text means, seen from `now_ms`: a time of that day, a date, or so much ago.

    A time of the day that is later than `latest_ms` is one of the day before.

    >>> moment_of("-90m", 10_000_000, 10_000_000), moment_of("00:30", 3_600_000, 3_600_000), moment_of("soon", 0, 0)
    (4600000, 1800000, None)
    >>> moment_of("00:45", 1_800_000, 3_600_000), moment_of("00:45", 88_200_000, 88_200_000)
    (2700000, 2700000)
    """
    text = text.strip()
    if text.startswith("-") and text[-1:] in _UNITS:
        try:
            return now_ms - round(float(text[1:-1]) * _UNITS[text[-1]])
        except ValueError:
            return None
    day = now_ms // 86_400_000 * 86_400_000
    try:
        if len(text) > 8:
            return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
        parts = [int(part) for part in text.split(":")]
    except ValueError:
        return None
    if len(parts) not in (2, 3) or not (0 <= parts[0] < 24 and all(0 <= part < 60 for part in parts[1:])):
        return None
    at_ms = day + sum(part * unit for part, unit in zip(parts, (3_600_000, 60_000, 1000), strict=False))
    return at_ms if at_ms <= latest_ms else at_ms - 86_400_000


HELP_WIDTH = 75

WORDS = (
    ("mode", "SIM simulated venue, PAPER real market and pretended fills, TESTNET, LIVE real money"),
    ("HALTED", "only exits and stops go out, until a person resumes; PAUSED: no entries, exits and stops as ever"),
    ("MANAGE ONLY", "the venue holds other positions or orders than the journal; no entries until both agree"),
    ("READ-ONLY", "another console commands (T takes over), or this one was opened to watch"),
    ("equity", "cash and unrealised profit in USD, after fees, funding and slippage"),
    ("drawdown", "fall of equity from its peak since the last resume; `max` never resets"),
    ("win rate", "share of closed trades with a net profit; the count stands beside it"),
    ("PF", "profit factor: money won / money lost over closed trades; n/a without a loss"),
    ("Sharpe", "daily returns, x sqrt(365), 95 % interval; n/a under 30 daily observations"),
    ("return /month", "compounded to 30 days over the cycle's window"),
    ("trade density", "trades / bars of the window, percent"),
    ("PROTECTED", "a reduce-only stop of full size is seen resting on the venue; NAKED: it is not"),
    ("at stop", "USD that all positions make since their entries if every stop is hit, costs aside"),
    ("PROVISIONAL", "the figure is met, the evidence is short; counts for no live size"),
    ("Q", "value the model gives to HOLD, BUY and SELL; an entry needs a gap between the best two"),
    ("confidence", "0 to 1: how far the best two Q values lie apart; a wider gap makes a larger entry"),
    ("luck", "how often a strategy without any skill looks as good as this phase does"),
    ("feed", "LIVE; STALE: silent for too long, no entries; OFFLINE: not connected"),
    ("STALE", "of the console: the engine is connected and silent; OFFLINE: it is not there"),
    ("lag", "delay of the engine's event loop; `orders`: decision to answer of the venue"),
    ("validation", "net profit of the greedy policy on bars it never trained on, percent of one notional"),
    ("hold-out", "the same on bars that neither trained nor chose the model; it must win there to be promoted"),
    ("lr, epsilon", "of a training: size of its steps, share of random actions"),
)


def hanging(head: str, text: str) -> str:
    """A text beside its head, its further rows under its own beginning."""
    return textwrap.fill(text, HELP_WIDTH, initial_indent=f"  {head}", subsequent_indent=" " * (len(head) + 2))


class Help(Dialog[None]):
    """The real bindings of what may be commanded here, and what each figure means."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "leave", "Close"),
        Binding("h", "app.halt", "halt", id="halt"),
    ]

    def __init__(self, keys: dict[str, str], commands: Sequence[ConsoleCommand] = COMMAND_TABLE) -> None:
        super().__init__()
        self.remapped = keys
        self.commands = commands

    def compose(self) -> ComposeResult:
        rows = [
            hanging(
                f"{shown_keys(command, self.remapped) or '(palette)':<10}{command.label:<16}",
                command.tooltip,
            )
            for command in self.commands
        ]
        words = [hanging(f"{word:<15}", meaning) for word, meaning in WORDS]
        with VerticalScroll(classes="dialog help"):
            yield Static("Keys (Esc closes)", classes="dialog-title", markup=False)
            yield Static("\n".join(rows), markup=False)
            yield Static("Figures and words", classes="dialog-title", markup=False)
            yield Static("\n".join(words), markup=False)

    def action_leave(self) -> None:
        self.dismiss(None)
