"""One-shot commands to a running engine, and the console on it.

What may cost money is confirmed: at a terminal by a question that states the effect in numbers and defaults to No,
without one by `--yes WORD` where a word is needed at all. `reset` and everything on a live account need their word;
`halt` never asks (GUARANTEES C15 to C17). The engine's answer decides the exit code.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Any, Final

from aml100.cli.options import ConsoleOptions, EngineOptions, FlattenOptions
from aml100.cli.output import write_json, write_line
from aml100.control.attach import engine_is_running, request_once
from aml100.control.protocol import Answer
from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError, SafetyRefusal

_ASKED: Final = ("retrain", "reset", "flatten", "resume", "stop")
"""Commands that ask at a terminal, also where no live account is touched."""


def status(options: EngineOptions) -> int:
    """One snapshot of the engine, as plain lines or as the JSON document of the contract."""
    return _finish(_request(options, "status", {}), options)


def halt(options: EngineOptions) -> int:
    """Cancel, flatten, read back, latch; never asks. Exit 1 where something is left open."""
    return _finish(_request(options, "halt", {}), options)


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
    if not options.state.is_file():
        raise AmlError(f"resume: no engine runs on {options.state} and there is no such file")
    from aml100.storage.database import clear_halt_latch

    _confirm(options, None)
    was_halted = clear_halt_latch(options.state, operator(), wall_ms())
    text = f"halt cleared in {options.state}" if was_halted else f"{options.state} was not halted"
    return _finish(Answer(id=0, ok=True, text=text, data={"halted": False, "was_halted": was_halted}), options)


def attach(options: ConsoleOptions) -> int:
    """The console of a running engine."""
    from aml100.tui.app import run_console

    if not engine_is_running(options.state):
        raise _no_engine(options.state)
    return run_console(options.state, read_only=options.read_only, fps=options.fps)


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
    state = _request(options, "status", {}).data
    _confirm(options, state or {})
    return _finish(_request(options, options.command, arguments), options)


def _finish(answer: Answer, options: EngineOptions) -> int:
    if options.json:
        write_json(answer.data if answer.data is not None else {"ok": answer.ok, "text": answer.text})
    elif answer.ok:
        write_line(answer.text)
    if not answer.ok:
        sys.stderr.write(answer.text + "\n")
    return answer.exit_code


def _confirm(options: EngineOptions, state: dict[str, Any] | None) -> None:
    """Return if the command may go out; SafetyRefusal (exit 3) otherwise.

    `state` is the engine's status document; None where no engine runs, which touches no account.
    """
    command = options.command
    word = command.upper()
    is_live = state is not None and _is_live(state)
    needs_word = command == "reset" or is_live
    if options.yes is not None:
        if options.yes != word:
            raise SafetyRefusal(f"{command}: --yes {options.yes} does not confirm it; needs --yes {word}")
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


def _is_live(state: dict[str, Any]) -> bool:
    """Whether real money is touched; what is unknown counts as live."""
    return state.get("venue", "mainnet") == "mainnet" and state.get("execution", "venue") == "venue"


def _effect(command: str, state: dict[str, Any] | None) -> str:
    """The effect in numbers, as `close 2 positions, $412, mainnet`."""
    if state is None:
        return "No engine runs; this clears the halt for the next run."
    positions = state.get("positions") or []
    orders = state.get("open_orders") or []
    where = f"{state.get('venue', 'unknown venue')}, {state.get('execution', 'unknown execution')}"
    money = f"equity ${state.get('equity', 'unknown')}"
    verbs = {
        "flatten": f"Close {len(positions)} positions",
        "reset": f"Close {len(positions)} positions, retire model {state.get('model') or 'none'}",
        "stop": f"Stop with {len(positions)} positions and {len(orders)} orders open",
        "resume": "Take new entries again",
        "retrain": "Start a training",
        "pause": "Take no new entries",
    }
    return f"{verbs.get(command, command)}: {where}, {money}."


def _no_engine(state: Path) -> AmlError:
    return AmlError(f"no engine runs on {state}")
