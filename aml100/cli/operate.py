"""One-shot commands to a running engine, and the console on it.

What may cost money is confirmed: at a terminal by a question that states the effect in numbers and defaults to No,
without one by `--yes WORD` where a word is needed at all. `reset` and everything on a live account need their word;
`halt` never asks (GUARANTEES C15 to C17). The engine's answer decides the exit code.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from aml100.cli.options import ConsoleOptions, EngineOptions, FlattenOptions
from aml100.cli.output import write_json, write_line
from aml100.control.attach import engine_is_running, request_once
from aml100.control.protocol import Answer
from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError, SafetyRefusal
from aml100.domain.units import ZERO
from aml100.storage.stores import has_state

_ASKED: Final = ("retrain", "reset", "flatten", "resume", "stop", "promote", "rollback")
"""Commands that ask at a terminal, also where no live account is touched."""

SLOW_LINK_FPS: Final = 0.5
"""Redraws a second that keep the dashboard of a market at real speed under half a kilobyte a second."""


def status(options: EngineOptions) -> int:
    """One snapshot of the engine, as plain lines or as the JSON document of the contract."""
    return _finish(_request(options, "status", {}), options)


def halt(options: EngineOptions) -> int:
    """Cancel, flatten, read back, latch; never asks. Exit 1 where something is left open, or nobody answers."""
    try:
        answer = _request(options, "halt", {})
    except AmlError as error:
        raise AmlError(f"{error}; a file {options.folder / 'HALT'} halts it too, now or at its next start") from None
    return _finish(answer, options)


def pause(options: EngineOptions) -> int:
    """No new entries."""
    return _confirmed_request(options, {})


def flatten(options: FlattenOptions) -> int:
    """Close positions, of the given coins only where some are given."""
    return _confirmed_request(options, {"coins": list(options.coins)} if options.coins else {})


def retrain(options: EngineOptions) -> int:
    """Start a training now."""
    return _confirmed_request(options, {})


def reset(options: EngineOptions) -> int:
    """Close positions, retire the champion, start a new model."""
    return _confirmed_request(options, {})


def stop(options: EngineOptions) -> int:
    """Stop the engine cleanly."""
    return _confirmed_request(options, {})


def resume(options: EngineOptions) -> int:
    """Clear a halt or a pause; without an engine, the latch in the state file."""
    halt_file = options.folder / "HALT"
    if halt_file.exists():
        raise SafetyRefusal(f"resume: refused while {halt_file} is there; remove it first")
    if engine_is_running(options.state):
        return _confirmed_request(options, {})
    if not has_state(options.state):
        raise AmlError(f"resume: no engine runs on {options.state} and there is no such file")
    from aml100.storage.database import clear_halt_latch
    from aml100.storage.reader import StateReader

    with StateReader.read(options.state) as reader:
        runs, kept = reader.runs(), reader.load_core_state()
    last = {"venue": runs[-1].venue, "execution": runs[-1].execution} if runs else {"venue": "sim"}
    confirm(options.command, options.yes, last)
    was_halted = clear_halt_latch(options.state, operator(), wall_ms())
    text = f"halt cleared in {options.state}" if was_halted else f"{options.state} was not halted"
    stays = "" if was_halted or kept is None else _still_paused(kept)
    text += f", but {stays}: resume it while an engine runs" if stays else ""
    data = {"halted": False, "was_halted": was_halted}
    return _finish(Answer(id=0, ok=not stays, text=text, exit_code=1 if stays else 0, data=data), options)


def _still_paused(kept: bytes) -> str:
    """What, besides a halt, an engine on this state will go on to keep entries back for; "" where nothing does."""
    from aml100.trading.state import decode_state

    state = decode_state(kept)
    if state.paused_by:
        return f"entries are paused by {state.paused_by}"
    return "the circuit breaker pauses it" if state.risk.breaker_until_ms else ""


def attach(options: ConsoleOptions) -> int:
    """The console of a running engine."""
    if not engine_is_running(options.state):
        raise AmlError(f"no engine runs on {options.state}")
    return open_console(options)


def open_console(
    options: ConsoleOptions,
    engine_trouble: Callable[[], str | None] = lambda: None,
    engine_failed: Callable[[], AmlError | None] = lambda: None,
) -> int:
    """The console on a state.db, whether an engine is there yet or not.

    The configuration is read behind the first frame, and ends the console where it is wrong.
    """
    from aml100.tui.app import Look, run_console

    def load() -> Look:
        console = options.load_settings().params.console
        theme = options.theme or (None if console.theme == "auto" else console.theme)
        return Look(theme, console.keys, console.fps if options.fps is None and not options.low_bandwidth else None)

    fps = options.fps
    return run_console(
        options.state,
        who=operator(),
        read_only=options.read_only,
        fps=min(fps or SLOW_LINK_FPS, SLOW_LINK_FPS) if options.low_bandwidth else fps,
        theme=options.theme,
        ascii=options.ascii,
        load=load,
        engine_trouble=engine_trouble,
        engine_failed=engine_failed,
    )


def operator() -> str:
    """Who acts, for the journal: the account's name and where it sits."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = f"uid {os.getuid()}"
    try:
        place = os.ttyname(sys.stdin.fileno())
    except (OSError, ValueError):
        place = "no terminal"
    return f"{name} ({place})"


def _request(options: EngineOptions, command: str, arguments: dict[str, Any]) -> Answer:
    return request_once(options.state, operator(), command, arguments, options.timeout_s)


def _confirmed_request(options: EngineOptions, arguments: dict[str, Any]) -> int:
    state = _request(options, "status", {}).data or {}
    coins = arguments.get("coins")
    if coins:  # what is asked about are the positions that it is about
        state = {**state, "positions": [one for one in state.get("positions") or [] if one.get("coin") in coins]}
    confirm(options.command, options.yes, state)
    return _finish(_request(options, options.command, arguments), options)


def _finish(answer: Answer, options: EngineOptions) -> int:
    if options.json:
        write_json(answer.data if answer.data is not None else {"ok": answer.ok, "text": answer.text})
    elif answer.ok:
        write_line(answer.text)
    if not answer.ok:
        sys.stderr.write(answer.text + "\n")
    return answer.exit_code


def confirm(command: str, yes: str | None, state: Mapping[str, Any]) -> None:
    """Return if the command may go out; SafetyRefusal (exit 3) otherwise.

    `state` is the engine's status document, or what the last run tells of venue and execution.
    """
    word = command.upper()
    is_live = _is_live(state)
    needs_word = command == "reset" or is_live
    if yes is not None:
        if yes != word:
            raise SafetyRefusal(f"{command}: --yes {yes} does not confirm it; needs --yes {word}")
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        if needs_word:
            where = " on a live account" if is_live else ""
            raise SafetyRefusal(f"{command}{where} is not done without confirmation; needs --yes {word}")
        return
    if command not in _ASKED and not needs_word:
        return
    effect = _effect(command, state)
    question = f"{effect} Type {word} to confirm: " if needs_word else f"{effect} Go on? [y/N] "
    sys.stderr.write(question)
    sys.stderr.flush()
    reply = sys.stdin.readline().strip()
    if reply != word if needs_word else reply.lower() not in ("y", "yes"):
        raise SafetyRefusal(f"{command}: not confirmed, nothing was done")


def _is_live(state: Mapping[str, Any]) -> bool:
    """Whether real money is touched; what is unknown counts as live."""
    return bool(state.get("venue", "mainnet") == "mainnet" and state.get("execution", "venue") == "venue")


def _effect(command: str, state: Mapping[str, Any]) -> str:
    """The effect in numbers, as `Close 2 positions, $412, on mainnet (venue).`"""
    positions = state.get("positions") or []
    orders = state.get("open_orders") or []
    closed = f"close {len(positions)} position{'' if len(positions) == 1 else 's'}{_notional(positions)}"
    effects = {
        "flatten": closed,
        "reset": f"{closed}, retire model {_name_of(state.get('model'))} and start a new one",
        "stop": f"stop the engine with {len(positions)} positions and {len(orders)} orders open",
        "resume": "take new entries again",
        "retrain": "start a training",
        "pause": "take no new entries",
        "promote": f"let another model decide in place of {_name_of(state.get('model'))}",
        "rollback": f"let the model before {_name_of(state.get('model'))} decide",
    }
    effect = effects.get(command, command)
    where = f"{state.get('venue', 'an unknown venue')} ({state.get('execution', 'unknown execution')})"
    return f"{effect[0].upper()}{effect[1:]}, on {where}."


def _notional(positions: list[dict[str, Any]]) -> str:
    """`, $412` where every position tells size and mark."""
    try:
        usd = sum((abs(Decimal(one["size"])) * Decimal(one["mark"]) for one in positions), ZERO)
    except (KeyError, TypeError, InvalidOperation):
        return ""
    return f", ${usd:,.0f}" if positions else ""


def _name_of(model: object) -> str:
    name = model.get("id") if isinstance(model, dict) else model
    return str(name) if name else "none"
