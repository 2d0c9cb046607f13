"""Commands to the engine: asked where they must be, sent, and followed from pending to done or failed (GUARANTEES C22).

Halt is the exception to every rule: two keys, no question, no waiting for fresh data, and where the engine does not
answer, a file HALT is left for it.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from textual.app import App

from aml100.control.protocol import ModelView
from aml100.domain.clock import Clock
from aml100.tui.commands import (
    BY_ID,
    COMMAND_TABLE,
    ConsoleCommand,
    halt_keys,
    halt_warning,
    nothing_to_do,
    question_for,
)
from aml100.tui.source import NotDelivered, SnapshotSource
from aml100.tui.view import LinkState, Operation, Outcome

HALT_TWICE_S: Final = 3.0
ANSWER_S: Final = 30.0
HALT_ANSWER_S: Final = 60.0
HALT_ANSWER_SILENT_S: Final = 2.0
SHOWN_S: Final = {Outcome.DONE: 12.0, Outcome.FAILED: 60.0}


class Operating(App[int]):
    """The half of the console that commands. The other half gives it its source, clock and voice."""

    source: SnapshotSource
    clock: Clock
    read_only: bool

    def __init__(self) -> None:
        # Textual makes greys of our colours otherwise, and black on black of the terminal's own sixteen.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self._operations: list[Operation] = []
        self._sent = 0
        self._halt_armed_until_s: float | None = None

    @abstractmethod
    def tick(self) -> None:
        """Repaint."""

    @abstractmethod
    def say(self, text: str, for_s: float = 5.0) -> None:
        """A line from the console itself."""

    @property
    @abstractmethod
    def in_the_past(self) -> bool:
        """Whether a recorded frame is on screen."""

    @property
    @abstractmethod
    def keys_given(self) -> dict[str, str]:
        """Keys that were remapped, by command id."""

    def available(self) -> list[ConsoleCommand]:
        """The commands that may be given here."""
        return [command for command in COMMAND_TABLE if not (self.read_only and command.to_engine)]

    def operations(self, now_s: float) -> tuple[Operation, ...]:
        """What is pending, and what was settled a short while ago."""
        self._operations = [
            one
            for one in self._operations
            if one.outcome is Outcome.PENDING or now_s - one.since_s < SHOWN_S[one.outcome]
        ]
        return tuple(self._operations)

    def action_halt(self) -> None:
        """The first `h` warns, the second within three seconds halts, whatever else is broken."""
        if self.read_only:
            self.say("READ-ONLY: this console sends no commands; `aml100-console halt` does")
            return
        now_s = self.clock.monotonic_s()
        if self._halt_armed_until_s is not None and now_s <= self._halt_armed_until_s:
            self.halt_now()
            return
        self._halt_armed_until_s = now_s + HALT_TWICE_S
        link = self.source.link()
        silence = "no engine answers" if link.state is LinkState.OFFLINE else ""
        self.say(halt_warning(self.source.latest, self.keys_given, silence), HALT_TWICE_S)

    def halt_now(self) -> None:
        """Send halt without a question."""
        self._halt_armed_until_s = None
        silent = self.source.link().state is not LinkState.LIVE
        self.send("halt", {}, HALT_ANSWER_SILENT_S if silent else HALT_ANSWER_S)

    async def action_ask(self, command_id: str) -> None:
        """Ask, where the command asks, and send it on yes."""
        command = BY_ID[command_id]
        if self.read_only:
            self.say("READ-ONLY: this console sends no commands")
            return
        if self.in_the_past:
            halts = halt_keys(self.keys_given)
            self.say(f"REPLAY: this is the past; Esc leaves it, {halts} halts even from here")
            return
        link = self.source.link()
        if link.state is LinkState.LIVE and not link.controller and command_id != "take_over":
            halts = halt_keys(self.keys_given)
            self.say(f"READ-ONLY: another console commands; T takes over, {halts} halts even from here")
            return
        arguments: dict[str, object] = {}
        if command.chosen:
            chosen = getattr(self.screen, "chosen", None)
            if not isinstance(chosen, ModelView):
                self.say(f"{command.label}: choose a model first (m, arrow keys)")
                return
            arguments[command.chosen] = chosen.id
        if idle := nothing_to_do(command_id, self.source.latest, str(arguments.get("model", ""))):
            self.say(f"{command.label}: {idle}")
            return
        question = question_for(command, self.source.latest, arguments)
        if question is None:
            self.send(command.id, arguments)
            return
        word = question.word

        def answered(yes: bool | None) -> None:
            if yes:
                self.send(command.id, arguments if word is None else {**arguments, "yes": word})
            else:
                self.say(f"{command.label}: nothing was sent")

        from aml100.tui.widgets.dialogs import Confirm

        await self.push_screen(Confirm(question, self._effects_of(command)), answered)

    def _effects_of(self, command: ConsoleCommand) -> Callable[[], tuple[str, ...]]:
        """What the command would do as things stand when it is asked."""
        return lambda: command.ask(self.source.latest) if command.ask is not None else ()

    async def action_pause(self) -> None:
        await self.action_ask("pause")

    def send(self, command: str, arguments: Mapping[str, object], timeout_s: float = ANSWER_S) -> None:
        """Send a command; it shows as pending, then done or failed, in place of what was said and settled before."""
        self.say("", 0.0)
        self._operations = [one for one in self._operations if one.outcome is Outcome.PENDING]
        self._sent += 1
        operation = Operation(self._sent, command, Outcome.PENDING, "", self.clock.monotonic_s())
        self._operations.append(operation)
        self.run_worker(self._deliver(operation, arguments, timeout_s), name=f"command {command}")
        self.tick()

    async def _deliver(self, operation: Operation, arguments: Mapping[str, object], timeout_s: float) -> None:
        try:
            answer = await self.source.request(operation.command, arguments, timeout_s)
        except NotDelivered as error:
            text = self._leave_halt(str(error)) if operation.command == "halt" else str(error)
            self._settle(operation, Outcome.FAILED, text)
            return
        self._settle(operation, Outcome.DONE if answer.ok else Outcome.FAILED, answer.text)
        if operation.command == "stop" and answer.ok:
            self.exit(0)

    def _leave_halt(self, why: str) -> str:
        """Nobody heard the halt: the file, and what to say of it."""
        path = self.source.leave_halt_file()
        if path is None:
            text = f"not confirmed, and no HALT file could be written ({why})"
            self.say(text, 10.0)
            return text
        self.say("HALT not confirmed, positions stay open: a file HALT halts the engine now or at its start", 10.0)
        return f"not confirmed; left a file HALT, which halts it now or at its next start: {path} ({why})"

    def _settle(self, operation: Operation, outcome: Outcome, text: str) -> None:
        settled = msgspec.structs.replace(operation, outcome=outcome, text=text, since_s=self.clock.monotonic_s())
        self._operations = [one for one in self._operations if one.number != operation.number] + [settled]
        self.tick()

    async def action_leave(self) -> None:
        """Ask how to leave."""
        from aml100.tui.widgets.dialogs import Leave

        if isinstance(self.screen, Leave):
            return
        stop = BY_ID["stop"]
        link = self.source.link()
        may_stop = not self.read_only and link.controller and link.state in (LinkState.LIVE, LinkState.STALE)

        def chosen(choice: str | None) -> None:
            if choice == "detach":
                self.exit(0)
            elif choice == "stop":
                self._stop_engine()

        is_gone = link.state is LinkState.OFFLINE
        await self.push_screen(Leave(self._effects_of(stop), may_stop=may_stop, is_gone=is_gone), chosen)

    def _stop_engine(self) -> None:
        snapshot = self.source.latest
        if snapshot is not None and snapshot.mode == "LIVE":
            self.call_later(self.action_ask, "stop")
        else:
            self.send("stop", {})
