"""The console application: a client of the engine that holds no trading state.

A timer takes the newest snapshot, makes a `View` of it and shows it on the screen in front. Commands go to the engine
as requests and stay visible from pending to done or failed. Halt is the exception to every rule: two keys, no
question, no waiting for fresh data, and where the engine does not answer, a HALT file is left for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.screen import Screen

from aml100.control.flight import FOLDER as FLIGHT_FOLDER
from aml100.control.incident import write_bundle
from aml100.control.protocol import Hello, ModelView
from aml100.domain.clock import Clock, SystemClock
from aml100.tui.commands import BY_ID, COMMAND_TABLE, ConsoleCommand, halt_warning, question_for
from aml100.tui.figures import moment
from aml100.tui.screens.base import ConsoleScreen, ListScreen
from aml100.tui.screens.dashboard import DashboardScreen
from aml100.tui.screens.lists import (
    AlertScreen,
    FeedScreen,
    LogScreen,
    PhaseScreen,
    RiskScreen,
    TradesScreen,
    WhyScreen,
)
from aml100.tui.screens.training import TrainingScreen
from aml100.tui.scrub import STEPS, Scrubber
from aml100.tui.source import EngineSource, NotDelivered, SnapshotSource
from aml100.tui.terminal import end_anyway, on_signals, require_terminal, terminal_is_gone
from aml100.tui.themes import PALETTES, theme_of, variables_of
from aml100.tui.view import LinkState, Operation, Outcome, View
from aml100.tui.widgets.details import Details
from aml100.tui.widgets.dialogs import Confirm, Help, Leave, Moment
from aml100.tui.widgets.listing import Listing
from aml100.tui.widgets.trading import id_of, ids_of

DEFAULT_FPS = 4.0
CHART_S = 1.0
CHART_FRAMES = 5
HALT_TWICE_S = 3.0
ANSWER_S = 30.0
QUESTION_S = 5.0
MISSED_S = 30.0
HALT_ANSWER_S = 60.0
HALT_ANSWER_SILENT_S = 2.0
SHOWN_S = {Outcome.DONE: 12.0, Outcome.FAILED: 60.0}


class CommandPalette(Provider):
    """Every command of the table, by name and sentence."""

    async def discover(self) -> Hits:
        for command in self._console.available():
            yield DiscoveryHit(command.label, self._runner(command), help=command.tooltip)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for command in self._console.available():
            score = matcher.match(f"{command.label} {command.tooltip}")
            if score > 0:
                yield Hit(score, matcher.highlight(command.label), self._runner(command), help=command.tooltip)

    @property
    def _console(self) -> ConsoleApp:
        app = self.app
        assert isinstance(app, ConsoleApp)
        return app

    def _runner(self, command: ConsoleCommand) -> Callable[[], None]:
        console = self._console
        if command.id == "halt":
            return console.halt_now

        def run() -> None:
            console.call_later(console.run_action, command.action)

        return run


class ConsoleApp(App[int]):
    """The console on a source.

    Args:
        source: the engine, or a fake.
        read_only: sends nothing; the engine enforces it as well.
        fps: redraws of text a second; charts once in five of them and at most once a second.
        theme: one of `themes.PALETTES`.
        ascii: 7-bit characters only.
        clock: monotonic seconds for ages and the halt key; wall time for names of files.
        keys: keys by command id, from the configuration.
        folder: where dumps and copied ids go; None where nothing may be written.
    """

    TITLE = "AML-100"
    CSS_PATH = "console.tcss"
    COMMANDS: ClassVar = {CommandPalette}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(command.keys, command.action, command.label, id=command.id, tooltip=command.tooltip, show=False)
            for command in COMMAND_TABLE
            if command.keys
        ),
        *(Binding(key, f"scrub_by('{key}')", "through the past", show=False) for key in STEPS),
        Binding("g", "scrub_to", "to a moment", show=False),
    ]
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "dashboard": DashboardScreen,
        "why": WhyScreen,
        "trades": TradesScreen,
        "phase": PhaseScreen,
        "training": TrainingScreen,
        "risk": RiskScreen,
        "feed": FeedScreen,
        "alerts": AlertScreen,
        "log": LogScreen,
    }
    DEFAULT_MODE = "dashboard"

    def __init__(
        self,
        source: SnapshotSource,
        *,
        read_only: bool = False,
        fps: float | None = None,
        theme: str = "dark",
        ascii: bool = False,
        clock: Clock | None = None,
        keys: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.read_only = read_only
        self.fps = fps or DEFAULT_FPS
        self.ascii_only = ascii
        self.clock: Clock = clock or SystemClock()
        self.folder = folder
        self._keys = dict(keys or {})
        self._operations: list[Operation] = []
        self._sent = 0
        self._beat = 0
        self._notice = ""
        self._notice_until_s = 0.0
        self._halt_armed_until_s: float | None = None
        self._told_missed = False
        self.scrubber = None if folder is None else Scrubber(folder / FLIGHT_FOLDER)
        for name in PALETTES:
            self.register_theme(theme_of(name))
        self.theme = theme
        self.set_class(ascii, "-ascii")

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {**super().get_theme_variable_defaults(), **variables_of(PALETTES["dark"])}

    def on_mount(self) -> None:
        if self._keys:
            self.set_keymap(self._keys)
        if not self.is_headless:
            on_signals(self.leave_terminal, self.action_help_quit)
            self.set_interval(1.0, self._watch_terminal)
        self.run_worker(self.source.run(), name="source")
        self.set_interval(1.0 / self.fps, self.tick)
        self.call_after_refresh(self.tick)

    # --- frames ---

    def tick(self) -> None:
        """Show the newest snapshot on the screen in front, dialogs aside."""
        self._beat += 1
        self._tell_missed()
        view = self.view()
        for screen in reversed(self.screen_stack):
            if isinstance(screen, ConsoleScreen):
                screen.show(view)
                break

    def view(self) -> View:
        """Everything the screens may show now."""
        now_s = self.clock.monotonic_s()
        if now_s >= self._notice_until_s:
            self._notice = ""
        self._operations = [
            one
            for one in self._operations
            if one.outcome is Outcome.PENDING or now_s - one.since_s < SHOWN_S[one.outcome]
        ]
        return View(
            snapshot=self.scrubber.frame or self.source.latest if self.scrubber is not None else self.source.latest,
            link=self.source.link(),
            read_only=self.read_only,
            ascii=self.ascii_only,
            beat=self._beat,
            chart_no=int(now_s / max(CHART_S, CHART_FRAMES / self.fps)),
            operations=tuple(self._operations),
            notice=self._notice,
            seen_ms=self.source.seen_ms,
            keys=self._keys,
            replay=None if self.scrubber is None else self.scrubber.where(),
        )

    def _tell_missed(self) -> None:
        """Once, after the first snapshot: what was raised while nobody watched (GUARANTEES C29)."""
        snapshot = self.source.latest
        if self._told_missed or snapshot is None:
            return
        self._told_missed = True
        missed = [one for one in snapshot.alerts if one.last_ms > self.source.seen_ms > 0]
        if missed:
            since = moment(self.source.seen_ms)
            codes = ", ".join(sorted({one.code for one in missed}))
            self._notice = f"{len(missed)} alerts since a console last watched ({since}): {codes}; a shows them"
            self._notice_until_s = self.clock.monotonic_s() + MISSED_S

    def say(self, text: str, for_s: float = 5.0) -> None:
        """A line from the console itself."""
        self._notice = text
        self._notice_until_s = self.clock.monotonic_s() + for_s
        self.tick()

    def available(self) -> list[ConsoleCommand]:
        """The commands that may be given here."""
        return [command for command in COMMAND_TABLE if not (self.read_only and command.to_engine)]

    # --- commands to the engine ---

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
        self.say(halt_warning(self.source.latest), HALT_TWICE_S)

    def halt_now(self) -> None:
        """Send halt without a question."""
        self._halt_armed_until_s = None
        self._notice = ""
        silent = self.source.link().state is not LinkState.LIVE
        self.send("halt", {}, HALT_ANSWER_SILENT_S if silent else HALT_ANSWER_S)

    async def action_ask(self, command_id: str) -> None:
        """Ask, where the command asks, and send it on yes."""
        command = BY_ID[command_id]
        if self.read_only:
            self.say("READ-ONLY: this console sends no commands")
            return
        if self.scrubber is not None and self.scrubber.frame is not None:
            self.say("REPLAY: this is the past; Esc returns to the present, h h halts even from here")
            return
        arguments: dict[str, object] = {}
        if command.chosen:
            chosen = getattr(self.screen, "chosen", None)
            if not isinstance(chosen, ModelView):
                self.say(f"{command.label}: choose a model first (m, arrow keys)")
                return
            arguments[command.chosen] = chosen.id
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

        await self.push_screen(Confirm(question), answered)

    async def action_pause(self) -> None:
        await self.action_ask("pause")

    def send(self, command: str, arguments: Mapping[str, object], timeout_s: float = ANSWER_S) -> None:
        """Send a command; it shows as pending, then done or failed (GUARANTEES C22)."""
        self._sent += 1
        operation = Operation(self._sent, command, Outcome.PENDING, "", self.clock.monotonic_s())
        self._operations.append(operation)
        self.run_worker(self._deliver(operation, arguments, timeout_s), name=f"command {command}")
        self.tick()

    async def _deliver(self, operation: Operation, arguments: Mapping[str, object], timeout_s: float) -> None:
        try:
            answer = await self.source.request(operation.command, arguments, timeout_s)
        except NotDelivered as error:
            text = str(error)
            if operation.command == "halt":
                path = self.source.leave_halt_file()
                text = (
                    f"not confirmed ({text}); left {path}, which halts it"
                    if path
                    else f"not confirmed, and no HALT file could be written ({text})"
                )
                self.say("HALT not confirmed: left a file HALT, which halts the engine" if path else text, 10.0)
            self._settle(operation, Outcome.FAILED, text)
            return
        self._settle(operation, Outcome.DONE if answer.ok else Outcome.FAILED, answer.text)
        if operation.command == "stop" and answer.ok:
            self.exit(0)

    def _settle(self, operation: Operation, outcome: Outcome, text: str) -> None:
        settled = replace(operation, outcome=outcome, text=text, since_s=self.clock.monotonic_s())
        self._operations = [one for one in self._operations if one.number != operation.number] + [settled]
        self.tick()

    # --- the console's own ---

    async def action_show(self, mode: str) -> None:
        """Bring a screen to the front."""
        await self.switch_mode(mode)
        self.tick()

    async def action_help(self) -> None:
        await self.push_screen(Help(self._keys))

    async def action_back(self) -> None:
        """One step towards the dashboard as it is now."""
        if self.scrubber is not None and self.scrubber.frame is not None:
            self.scrubber.leave()
            self.say("back in the present")
        else:
            await self.action_show("dashboard")

    def action_scrub(self) -> None:
        """Into the recorded past, and through it."""
        if self.scrubber is None or not (self.scrubber.frame is not None or self.scrubber.enter()):
            self.say("nothing has been recorded yet: the flight recorder keeps a frame every 10 s")
            return
        if self.scrubber.frame is not None and not isinstance(self.screen, Moment):
            self.say("REPLAY: left/right a frame, shift a minute, ctrl an hour, g to a time, Esc to the present", 20.0)

    def action_scrub_by(self, key: str) -> None:
        """Move through the past; elsewhere the key does nothing."""
        if self.scrubber is not None and self.scrubber.frame is not None:
            self.scrubber.move(key)
            self.tick()

    async def action_scrub_to(self) -> None:
        """Ask for a moment and go there."""
        scrubber = self.scrubber
        if scrubber is None or scrubber.where() is None:
            self.say("g goes to a moment of the past: press b first")
            return

        def chosen(at_ms: int | None) -> None:
            if at_ms is not None:
                scrubber.go(at_ms)
                self.tick()

        await self.push_screen(Moment(scrubber.at_ms), chosen)

    def action_sort(self) -> None:
        name = self.screen.next_order() if isinstance(self.screen, ListScreen) else ""
        self.say(name or "s sorts trades and filters the log by level", 3.0)

    def action_incident(self) -> None:
        """Write the redacted bundle, beside the screen's work."""
        if self.folder is None:
            self.say("no folder to write a bundle to")
            return
        self.run_worker(self._write_incident(self.folder / "state.db"), name="incident")

    async def _write_incident(self, state_path: Path) -> None:
        try:
            path = await asyncio.to_thread(write_bundle, state_path, self.clock.now_ms())
        except OSError as error:
            self.say(f"no incident bundle: {error.strerror or error}")
            return
        self.say(f"incident bundle, redacted: {path}", 15.0)

    async def on_listing_chosen(self, message: Listing.Chosen) -> None:
        await self.push_screen(Details(message.item, self._question, ascii=self.ascii_only))

    async def _question(self, command: str, arguments: Mapping[str, object]) -> Mapping[str, Any] | None:
        """Ask the engine something that changes nothing."""
        try:
            answer = await self.source.request(command, arguments, QUESTION_S)
        except NotDelivered:
            return None
        return answer.data if answer.ok else None

    def action_filter(self) -> None:
        if isinstance(self.screen, ListScreen):
            self.screen.begin_filter()
        else:
            self.say("/ filters lists: why, trades, objectives, models, risk, feed, alerts, log")

    async def action_leave(self) -> None:
        """Ask how to leave."""
        if isinstance(self.screen, Leave):
            return
        stop = BY_ID["stop"]
        snapshot = self.source.latest
        effects = stop.ask(snapshot) if stop.ask is not None and snapshot is not None else ()

        def chosen(choice: str | None) -> None:
            if choice == "detach":
                self.exit(0)
            elif choice == "stop":
                self._stop_engine()

        await self.push_screen(Leave(effects, may_stop=not self.read_only), chosen)

    def _stop_engine(self) -> None:
        snapshot = self.source.latest
        if snapshot is not None and snapshot.mode == "LIVE":
            self.call_later(self.action_ask, "stop")
        else:
            self.send("stop", {})

    async def action_quit(self) -> None:
        await self.action_leave()

    def action_help_quit(self) -> None:
        self.call_later(self.action_leave)

    def action_next_theme(self) -> None:
        names = list(PALETTES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)] if self.theme in names else names[0]
        self.say(f"theme {self.theme}")

    def action_copy_ids(self) -> None:
        """Ids to the clipboard by OSC 52, and to a file for terminals that have none (GUARANTEES C32)."""
        snapshot = self.source.latest
        if snapshot is None:
            self.say("no ids yet")
            return
        item = self.screen.item if isinstance(self.screen, Details) else getattr(self.screen, "chosen", None)
        chosen = id_of(item) if item is not None else ""
        ids = [chosen] if chosen else ids_of(snapshot)
        text = "\n".join(ids) + "\n"
        self.copy_to_clipboard(text.strip())
        what = chosen or f"{len(ids)} ids"
        self.say(f"copied {what}{self._write('console-ids.txt', text)}")

    def action_dump(self) -> None:
        """The screen as text and as SVG (GUARANTEES C43)."""
        stem = f"console-{self.clock.now_ms()}"
        rows = [strip.text.rstrip() for strip in self.screen._compositor.render_strips()]
        written = self._write(f"{stem}.txt", "\n".join(rows) + "\n")
        self._write(f"{stem}.svg", self.export_screenshot())
        self.say(f"dumped{written} and .svg" if written else "no folder to dump to")

    def _write(self, name: str, text: str) -> str:
        if self.folder is None:
            return ""
        path = self.folder / name
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            return f"; {path}: {error.strerror}"
        return f" to {path}"

    # --- the terminal ---

    def leave_terminal(self) -> None:
        """The terminal went away or somebody ended us: go, and let the engine be."""
        end_anyway()
        self.exit(0)

    def _watch_terminal(self) -> None:
        if terminal_is_gone():
            self.leave_terminal()


def run_console(
    state_path: Path,
    *,
    who: str,
    read_only: bool = False,
    fps: float | None = None,
    theme: str | None = None,
    ascii: bool = False,
    keys: Mapping[str, str] | None = None,
    engine_trouble: Callable[[], str | None] = lambda: None,
) -> int:
    """The console on the engine of a state.db, until the operator leaves; its exit code.

    Args:
        state_path: the engine's state.db.
        who: journalled with each command, `console:USER`.
        read_only: watch only.
        fps: frames a second; None is the default of four.
        theme: a name of `themes.PALETTES`; None chooses by what the terminal can show.
        ascii: 7-bit characters only.
        keys: keys by command id.
        engine_trouble: why the engine is not there, where somebody knows; shown while there is none.

    Raises:
        UsageError: there is no terminal, or none that can show a screen.
    """
    require_terminal()
    from aml100.control.attach import OperatorClient

    clock = SystemClock()
    hello = Hello(who=who, read_only=read_only, fps=fps or DEFAULT_FPS)
    source = EngineSource(OperatorClient.connect, state_path, hello, clock, engine_trouble)
    app = ConsoleApp(
        source, read_only=read_only, fps=fps, theme=theme or "dark", ascii=ascii, clock=clock, keys=keys,
        folder=state_path.parent,
    )  # fmt: skip
    if theme is None and app.console.color_system == "standard":
        app.theme = "16-colour"
    return app.run(mouse=False) or 0
