"""Every action of the console, once: id, key, words, and the question it asks first.

Bindings, the key bar, the help page and the palette are all made from `COMMAND_TABLE`. A question states the effect in
numbers and defaults to No. Reset, and everything on a live account except halt, wants its word typed: halt is the
one command that must never wait for anything.
"""

from __future__ import annotations

import difflib
import string
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from aml100.control.protocol import MODELS_SHOWN, Snapshot
from aml100.domain.errors import UsageError
from aml100.tui import figures


class Question(msgspec.Struct, frozen=True):
    """`word`: what must be typed to confirm; None where one key is enough."""

    title: str
    word: str | None = None


class ConsoleCommand(msgspec.Struct, frozen=True):
    """One thing an operator can do.

    Args:
        id: name in the palette, of the binding, and for remapping keys in the configuration.
        keys: comma-separated; empty: palette only.
        label: one word for the key bar.
        tooltip: one sentence.
        action: the app's action.
        to_engine: goes to the engine, so a read-only console has it not.
        ask: makes the question; None where nothing is asked.
        bar: place in the key bar, lowest first; None: not shown there.
        chosen: acts on the row the cursor is on; its id goes along under this name.
    """

    id: str
    keys: str
    label: str
    tooltip: str
    action: str
    to_engine: bool = False
    ask: Callable[[Snapshot | None], tuple[str, ...]] | None = None
    bar: int | None = None
    chosen: str = ""


def held(snapshot: Snapshot) -> str:
    """`1 position, 800.73 USD`."""
    notional = sum(abs(figures.as_float(p.size) * figures.as_float(p.mark)) for p in snapshot.positions)
    many = len(snapshot.positions)
    return f"{many} position{'s' if many > 1 else ''}, {figures.money(notional)} USD" if many else "no open position"


def _exposure(snapshot: Snapshot | None) -> str:
    if snapshot is None:
        return "positions unknown: the engine has sent nothing yet"
    return f"{held(snapshot)}, {snapshot.mode} on {snapshot.venue}"


def _cost(snapshot: Snapshot | None) -> str:
    """`, costs 2.31`, where positions are open and the engine says so."""
    costs = [one.close_cost for one in snapshot.positions] if snapshot is not None else []
    return f", costs {figures.money(sum(map(figures.as_float, costs)))}" if costs and all(costs) else ""


def _afterwards(snapshot: Snapshot | None) -> str:
    """What a command that stops nothing leaves as it is."""
    state = "trading" if snapshot is None else snapshot.state.replace("_", " ")
    return "trading goes on" if state == "trading" else f"it stays {state}"


def _ask_flatten(snapshot: Snapshot | None) -> tuple[str, ...]:
    return (
        f"close {_exposure(snapshot)}{_cost(snapshot)}",
        f"each at the market, reduce-only; {_afterwards(snapshot)}",
    )


def _ask_resume(snapshot: Snapshot | None) -> tuple[str, ...]:
    if snapshot is None:
        return ("entries are allowed again",)
    return (
        f"entries are allowed again, {snapshot.mode} on {snapshot.venue}",
        f"the drawdown counts from equity {figures.money(snapshot.equity)} USD on",
        f"state now: {snapshot.state.upper()} {snapshot.state_reason}".rstrip(),
    )


def _ask_retrain(snapshot: Snapshot | None) -> tuple[str, ...]:
    model = snapshot.model.name if snapshot is not None else "the champion"
    return (
        f"train a challenger in the background; {_afterwards(snapshot)}",
        f"it replaces {model} only if it wins on bars kept out of it, and in shadow",
    )


def _ask_reset(snapshot: Snapshot | None) -> tuple[str, ...]:
    model = snapshot.model.name if snapshot is not None else "the champion"
    return (
        f"close {_exposure(snapshot)}",
        f"retire {model} and start 1 new, untrained model",
        "ledger, phases, trials and history stay",
    )


def _untouched(snapshot: Snapshot | None) -> str:
    """What becomes of positions when the model changes."""
    if snapshot is not None and not snapshot.positions:
        return f"nothing else changes: {_exposure(snapshot)}"
    return f"{_exposure(snapshot)}: stays as it is under its stop"


def _ask_promote(snapshot: Snapshot | None) -> tuple[str, ...]:
    model = snapshot.model.name if snapshot is not None else "the champion"
    return (
        f"the chosen model trades from the next bar on, in place of {model}",
        _untouched(snapshot),
        "no validation is asked: this is your decision; roll back undoes it",
    )


def _ask_rollback(snapshot: Snapshot | None) -> tuple[str, ...]:
    model = snapshot.model.name if snapshot is not None else "the champion"
    return (
        f"the champion before {model} trades again from the next bar on",
        _untouched(snapshot),
    )


def _training_epoch(snapshot: Snapshot | None) -> str:
    training = snapshot.training if snapshot is not None else None
    return "" if training is None else f" at epoch {training.epoch} of {training.epochs}"


def _ask_cancel_training(snapshot: Snapshot | None) -> tuple[str, ...]:
    has_champion = snapshot is None or snapshot.model.id is not None
    return (
        f"end the training{_training_epoch(snapshot)}; resume training takes it up there",
        "the champion trades on" if has_champion else "nothing trades without a model: it goes on by itself in 30 bars",
    )


def _ask_resume_training(snapshot: Snapshot | None) -> tuple[str, ...]:
    return (
        f"go on with the training that was cancelled{_training_epoch(snapshot)}",
        "on the bars it began with; the time it has used counts",
    )


def _ask_pause(snapshot: Snapshot | None) -> tuple[str, ...]:
    return (f"no new entries; {_exposure(snapshot)} stays managed",)


def _ask_stop(snapshot: Snapshot | None) -> tuple[str, ...]:
    pid = f"stop the engine, pid {snapshot.pid}" if snapshot is not None else "stop the engine"
    return (pid, _exposure(snapshot), "open positions are kept under their stops or closed, as on_exit says")


def _ask_take_over(snapshot: Snapshot | None) -> tuple[str, ...]:
    return ("this console commands; the other one becomes a viewer", _exposure(snapshot))


COMMAND_TABLE: Final = (
    ConsoleCommand("halt", "h", "halt", "Stop everything now: cancel, close, stay halted", "halt", True, None, 0),
    ConsoleCommand(
        "resume", "u", "resume", "Allow entries again after a halt or pause", "ask('resume')", True, _ask_resume, 2
    ),
    ConsoleCommand("pause", "p", "pause", "No new entries; positions stay managed", "pause", True, _ask_pause, 3),
    ConsoleCommand(
        "flatten", "f", "flatten", "Close every position at the market", "ask('flatten')", True, _ask_flatten, 4
    ),
    ConsoleCommand(
        "retrain", "r", "retrain", "Train a challenger in the background", "ask('retrain')", True, _ask_retrain, 11
    ),
    ConsoleCommand(
        "reset", "x", "reset", "Retire the champion and start a new model", "ask('reset')", True, _ask_reset, 16
    ),
    ConsoleCommand(
        "cancel_training",
        "C",
        "cancel training",
        "End the training under way; a checkpoint stays",
        "ask('cancel_training')",
        True,
        _ask_cancel_training,
    ),
    ConsoleCommand(
        "resume_training",
        "R",
        "resume training",
        "Go on with the training that was cancelled",
        "ask('resume_training')",
        True,
        _ask_resume_training,
    ),
    ConsoleCommand(
        "promote",
        "P",
        "promote",
        "On models: have the chosen one trade",
        "ask('promote')",
        True,
        _ask_promote,
        chosen="model",
    ),
    ConsoleCommand(
        "rollback",
        "B",
        "roll back",
        "Have the champion before this one trade again",
        "ask('rollback')",
        True,
        _ask_rollback,
    ),
    ConsoleCommand("stop", "", "stop", "Stop the engine cleanly", "ask('stop')", True, _ask_stop),
    ConsoleCommand(
        "take_over",
        "T",
        "take over",
        "Make this console the one that commands",
        "ask('take_over')",
        True,
        _ask_take_over,
        bar=1,
    ),
    ConsoleCommand("dashboard", "d", "dashboard", "Everything at a glance", "show('dashboard')", bar=14),
    ConsoleCommand("why", "y", "why", "Why it traded or did not: every gate's verdict", "show('why')", bar=5),
    ConsoleCommand("trades", "t", "trades", "Positions, orders and closed trades", "show('trades')", bar=6),
    ConsoleCommand(
        "phase", "o", "objectives", "The phase: objectives, evidence, luck, feasibility", "show('phase')", bar=8
    ),
    ConsoleCommand("training", "m", "models", "Training progress and the models kept", "show('training')", bar=7),
    ConsoleCommand("risk", "k", "risk", "Each guard with what is left of its limit", "show('risk')", bar=9),
    ConsoleCommand("feed", "e", "feed", "Every stream's age and gaps, latency", "show('feed')", bar=12),
    ConsoleCommand("alerts", "a", "alerts", "What is wrong now and what was missed", "show('alerts')", bar=10),
    ConsoleCommand("log", "l", "log", "What the engine said, newest last", "show('log')", bar=13),
    ConsoleCommand("scrub", "b", "back in time", "Look at the last 48 hours, frame by frame", "scrub", bar=15),
    ConsoleCommand("coin", "v", "next coin", "Price chart: the next coin, then the engine's choice again", "next_coin"),
    ConsoleCommand("filter", "slash", "filter", "Show only the rows that contain a text", "filter"),
    ConsoleCommand("sort", "s", "sort", "Next order of the rows; in the log: next level", "sort"),
    ConsoleCommand("copy", "c", "copy ids", "Copy the chosen row's id, or all ids, to the clipboard", "copy_ids"),
    ConsoleCommand("dump", "ctrl+s", "dump", "Save the screen as text and SVG beside state.db", "dump"),
    ConsoleCommand("incident", "", "incident", "Write a redacted bundle of the last hour beside state.db", "incident"),
    ConsoleCommand("theme", "", "theme", "Next theme: dark, light, colour-blind, 16 colours", "next_theme"),
    ConsoleCommand("back", "escape", "back", "Back to the present, then to the dashboard", "back"),
    ConsoleCommand("suspend", "ctrl+z", "suspend", "Put the console in the background; fg returns", "suspend_process"),
    ConsoleCommand("help", "question_mark,f1", "help", "Keys, figures and words", "help", bar=1),
    ConsoleCommand("palette", "ctrl+p", "palette", "Every action by name", "command_palette"),
    ConsoleCommand("quit", "q,ctrl+c", "quit", "Leave: detach or stop the engine", "leave", bar=1),
)
"""Order of the help page. Nothing that is journalled is missing here: the engine journals every command it is sent."""

BY_ID: Final = {command.id: command for command in COMMAND_TABLE}

_KEY_NAMES: Final = {"question_mark": "?", "slash": "/", "f1": "F1", "escape": "Esc"}


def shown_keys(command: ConsoleCommand, remapped: Mapping[str, str]) -> str:
    """The keys as people read them: `? F1`, `ctrl+p`, and `h h` for halt."""
    if command.id == "halt":
        return halt_keys(remapped)
    keys = remapped.get(command.id, command.keys)
    return " ".join(_KEY_NAMES.get(key, key) for key in keys.split(",") if key)


def question_for(
    command: ConsoleCommand, snapshot: Snapshot | None, arguments: Mapping[str, object] = MappingProxyType({})
) -> Question | None:
    """What to ask before `command`; None where it may go out at once."""
    live = snapshot is not None and snapshot.mode == "LIVE"
    if command.ask is None or (command.id == "pause" and not live):
        return None
    word = command.id.upper() if live or command.id == "reset" else None
    what = " ".join(str(value) for value in arguments.values())
    return Question(f"{command.label.capitalize()} {what}".rstrip() + "?", word)


def nothing_to_do(command: str, snapshot: Snapshot | None, chosen: str = "") -> str:
    """Why a command would change nothing as things stand, "" where it may; `chosen`: the id of the model it is for."""
    if snapshot is None:
        return ""
    training, model = snapshot.training.state, snapshot.model
    over = {"idle": "none was begun", "cancelled": "the last one is cancelled already"}
    if command == "cancel_training" and training != "running":
        return over.get(training, f"none is under way, the last one is {training}")
    if command in ("retrain", "resume_training") and training == "running":
        return f"a training is under way{_training_epoch(snapshot)}"
    if command == "resume_training" and training == "done":
        return "the last training is done: there is nothing to go on with"
    if command == "promote" and chosen == model.id:
        return f"{model.name} trades already"
    earlier = [one for one in snapshot.models if one.state == "retired" and one.id != model.id]
    if command == "rollback" and not earlier and len(snapshot.models) < MODELS_SHOWN:
        return "there is no earlier champion"
    return ""


def halt_keys(keys: Mapping[str, str]) -> str:
    """What halts, as people read it; `keys` are those that were remapped."""
    key = keys.get("halt", "h").split(",")[0]
    return f"{key} {key}"


def halt_warning(snapshot: Snapshot | None, keys: Mapping[str, str] = MappingProxyType({}), silence: str = "") -> str:
    """What the second press does; `silence`: how the engine is, where it does not answer."""
    again = f"{halt_keys(keys).split()[0]} again in 3 s"
    if silence:
        return f"{silence}: {again} leaves a file HALT; what is open stays open until an engine reads it"
    what = _exposure(None) if snapshot is None else held(snapshot) + _cost(snapshot)
    return f"{again} HALTS: cancel, close {what}"


# --- keys of the operator's own ----------------------------------------------------------------------------------

_MOVES: Final = ("up", "down", "left", "right", "pageup", "pagedown", "home", "end", "enter", "tab", "shift+tab")
_PAST: Final = ("g", "shift+left", "shift+right", "ctrl+left", "ctrl+right")
_SENT_AS_ANOTHER: Final = {"ctrl+h", "ctrl+i", "ctrl+m", "return"}
"""To a terminal these are backspace, tab and enter."""
RESERVED: Final = frozenset({*_MOVES, *_PAST, "y", "n"})
"""Keys of lists, dialogs and the recorded past, which no command may be given."""


def checked_keys(keys: Mapping[str, str]) -> dict[str, str]:
    """Keys by command id, as the configuration gives them, if they can be used together.

    Raises:
        UsageError: a name that is no command, a key that another command has, a command left without a key.
    """
    place = "params.json: console.keys"
    for name, wanted in keys.items():
        if name not in BY_ID:
            close = difflib.get_close_matches(name, BY_ID, n=1)
            hint = f', did you mean "{close[0]}"?' if close else ""
            raise UsageError(f'{place}: "{name}" is no command{hint}; allowed: {", ".join(BY_ID)}')
        if not BY_ID[name].keys:
            raise UsageError(f'{place}.{name}: "{wanted}": this command has no key; allowed: use the palette')
        for part in wanted.split(","):
            if key_sent(part) is None:
                raise UsageError(
                    f'{place}.{name}: "{part}" is no key that a terminal sends; allowed: such as p, ctrl+e, f5, or p,f5'
                )
    named = {name: ",".join(str(key_sent(part)) for part in wanted.split(",")) for name, wanted in keys.items()}
    owners: dict[str, str] = {}
    for command in COMMAND_TABLE:
        for key in filter(None, named.get(command.id, command.keys).split(",")):
            given = command.id in keys
            if given and key in RESERVED and key not in command.keys.split(","):
                raise UsageError(f'{place}.{command.id}: "{key}" moves in lists and dialogs; allowed: another key')
            if key in owners:
                mine, theirs = (command.id, owners[key]) if given else (owners[key], command.id)
                raise UsageError(f'{place}.{mine}: "{key}" is the key of {theirs}; allowed: a key no other command has')
            owners[key] = command.id
    return named


def key_sent(text: str) -> str | None:
    """A key under its name in Textual; None for one that no terminal sends, or only as another.

    >>> key_sent(" p"), key_sent("?"), key_sent("ctrl+e"), key_sent("shift+h"), key_sent("ctrl+m"), key_sent("banana")
    ('p', 'question_mark', 'ctrl+e', None, None, None)
    """
    from textual.keys import KEY_NAME_REPLACEMENTS, Keys

    def name_of(character: str) -> str:
        if character.isalnum():
            return character
        name = unicodedata.name(character).lower().replace("-", "_").replace(" ", "_")
        return KEY_NAME_REPLACEMENTS.get(name, name)

    key = text.strip()
    if len(key) == 1:
        return name_of(key) if key.isprintable() else None
    names = {one.value for one in Keys if one.value.replace("+", "").isalnum() or "_" in one.value} - _SENT_AS_ANOTHER
    return key if key in names or key in map(name_of, string.punctuation) else None
