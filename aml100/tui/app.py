"""The console application: a client of the engine that holds no trading state.

A timer takes the newest snapshot, makes a `View` of it and shows it on the screen in front. The first frame is painted
before there is an engine and before the configuration was read; what it says of keys and colours is applied when it is
there, and what is wrong with it ends the console with one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen

from aml100.control.protocol import Hello
from aml100.domain.clock import Clock, SystemClock, wall_ms
from aml100.domain.errors import AmlError
from aml100.tui.commands import COMMAND_TABLE, checked_keys
from aml100.tui.figures import moment
from aml100.tui.freshness import SLOWEST_FPS, Freshness
from aml100.tui.looking import Looking
from aml100.tui.palette import CommandPalette
from aml100.tui.screens.base import ConsoleScreen
from aml100.tui.screens.dashboard import DashboardScreen
from aml100.tui.source import EngineSource, SnapshotSource
from aml100.tui.terminal import end_anyway, forget_size, on_signals, require_terminal, terminal_is_gone
from aml100.tui.themes import PALETTES, theme_of, variables_of
from aml100.tui.view import View

DEFAULT_FPS: Final = 4.0
CHART_S: Final = 1.0
CHART_FRAMES: Final = 5
MISSED_S: Final = 30.0
ENGINE_POLL_S: Final = 0.25
NOTHING: Final[frozenset[str]] = frozenset()

SCREENS: Final = {
    "why": ("lists", "WhyScreen"),
    "trades": ("lists", "TradesScreen"),
    "phase": ("lists", "PhaseScreen"),
    "training": ("training", "TrainingScreen"),
    "risk": ("lists", "RiskScreen"),
    "feed": ("lists", "FeedScreen"),
    "alerts": ("lists", "AlertScreen"),
    "log": ("lists", "LogScreen"),
}
"""Module and class of every screen but the first; imported when it is first shown (GUARANTEES C5)."""

SCRUB_KEYS: Final = ("left", "right", "shift+left", "shift+right", "ctrl+left", "ctrl+right")


def screen_of(name: str) -> Screen[Any]:
    """Make one of `SCREENS`."""
    module, kind = SCREENS[name]
    made: Screen[Any] = getattr(import_module(f"aml100.tui.screens.{module}"), kind)()
    return made


class Look(msgspec.Struct, frozen=True):
    """What the configuration says of the console. `theme` None: by what the terminal can show; `fps` None: as it is."""

    theme: str | None = None
    keys: Mapping[str, str] = msgspec.field(default_factory=dict)
    fps: float | None = None


class ConsoleApp(Looking):
    """The console on a source.

    Args:
        source: the engine, or a fake.
        read_only: sends nothing; the engine enforces it as well.
        fps: redraws of text a second; charts once in five of them and at most once a second.
        theme: one of `themes.PALETTES`.
        ascii: 7-bit characters only.
        clock: monotonic seconds for ages and the halt key; wall time for names of files.
        keys: keys by command id, checked.
        folder: of state.db; None where nothing may be read or written.
        load: reads the configuration, after the first frame; None: there is none.
        engine_failed: the error an engine that was started for this console ended with; None while there is none.
    """

    TITLE = "AML-100"
    CSS_PATH = Path(__file__).with_name("console.tcss")
    COMMANDS: ClassVar = {CommandPalette}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(command.keys, command.action, command.label, id=command.id, tooltip=command.tooltip, show=False)
            for command in COMMAND_TABLE
            if command.keys
        ),
        *(Binding(key, f"scrub_by('{key}')", "through the past", show=False) for key in SCRUB_KEYS),
        Binding("g", "scrub_to", "to a moment", show=False),
    ]
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {name: partial(screen_of, name) for name in SCREENS}
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
        load: Callable[[], Look] | None = None,
        engine_failed: Callable[[], AmlError | None] = lambda: None,
    ) -> None:
        super().__init__(folder)
        self.source = source
        self.read_only = read_only
        self.fps = fps or DEFAULT_FPS
        self.ascii_only = ascii
        self.clock: Clock = clock or SystemClock()
        self.failure: AmlError | None = None
        """Why the console ended by itself."""
        self._keys = checked_keys(keys or {})
        self._load = load
        self._engine_failed = engine_failed
        self._beat = 0
        self._freshness = Freshness()
        self._notice = ""
        self._notice_until_s = 0.0
        self._told_missed, self._came_ms = False, 2**62
        for name in PALETTES:
            self.register_theme(theme_of(name))
        self.set_reactive(App.theme, theme)
        self.stylesheet.set_variables(self.get_css_variables())
        self.set_class(ascii, "-ascii")

    @property
    def keys_given(self) -> dict[str, str]:
        return self._keys

    def get_default_screen(self) -> Screen[Any]:
        """The dashboard: a mode like the others only once it is there, since Textual styles a mode's screen twice."""
        return self._dashboard()

    def _dashboard(self) -> DashboardScreen:
        return DashboardScreen(self.view())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {**super().get_theme_variable_defaults(), **variables_of(PALETTES["dark"])}

    def on_mount(self) -> None:
        self.add_mode(self.DEFAULT_MODE, self._dashboard)
        if self._keys:
            self.set_keymap(self._keys)
        self.app_resume_signal.subscribe(self, self._repaint)
        if not self.is_headless:
            on_signals(self.leave_terminal, self.action_help_quit)
            self.set_interval(1.0, self._watch_terminal)
        self.run_worker(self.source.run(), name="source")
        self._ticker = self.set_interval(1.0 / self.fps, self.tick)
        self.set_interval(ENGINE_POLL_S, self._watch_engine)
        self.set_interval(CHART_S, self.fetch_prices)
        if self._load is not None:
            self.call_after_refresh(lambda: self.run_worker(self._read_look(), name="configuration"))

    async def _read_look(self) -> None:
        """Beside the screen's work, since reading it costs as much as painting the first frame."""
        assert self._load is not None
        try:
            look = await asyncio.to_thread(self._load)
            self._keys = checked_keys(look.keys)
        except AmlError as error:
            self._fail(error)
            return
        if self._keys:
            self.set_keymap(self._keys)
        if look.theme is not None:
            self.theme = look.theme
        if look.fps is not None and look.fps != self.fps:
            self.fps = look.fps
            self._ticker.stop()
            self._ticker = self.set_interval(1.0 / self.fps, self.tick)
        self.tick()

    def _fail(self, error: AmlError) -> None:
        self.failure = error
        self.exit(error.exit_code)

    def _watch_engine(self) -> None:
        """An engine that was started for this console and failed before it said anything ends the console too."""
        error = None if self.source.latest is not None else self._engine_failed()
        if error is not None:
            self._fail(error)

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
        past = self.scrubber if self.in_the_past else None
        return View(
            snapshot=self.source.latest if past is None else past.frame,
            link=self.source.link(),
            read_only=self.read_only,
            ascii=self.ascii_only,
            beat=self._beat,
            chart_no=int(now_s / max(CHART_S, CHART_FRAMES / self.fps)) if past is None else past.at_ms,
            operations=self.operations(now_s),
            notice=self._notice,
            seen_ms=self.source.seen_ms,
            came_ms=self._came_ms,
            keys=self._keys,
            prices=self.prices if past is None else None,
            fresh=self._fresh(now_s) if past is None else NOTHING,
            replay=None if past is None else past.where(),
        )

    def _fresh(self, now_s: float) -> frozenset[str]:
        return self._freshness.of(self.source.latest, now_s) if self.fps >= SLOWEST_FPS else NOTHING

    def _tell_missed(self) -> None:
        """Once, after the first snapshot: what was raised while nobody watched (GUARANTEES C29)."""
        snapshot = self.source.latest
        if self._told_missed or snapshot is None:
            return
        self._told_missed, self._came_ms = True, wall_ms()
        missed = [one for one in snapshot.alerts if one.last_ms > self.source.seen_ms > 0]
        if missed:
            since = moment(self.source.seen_ms)
            codes = ", ".join(sorted({one.code for one in missed}))
            many = f"{len(missed)} alert{'s' if len(missed) > 1 else ''}"
            self._notice = f"{many} since {since} (a shows them): {codes}"
            self._notice_until_s = self.clock.monotonic_s() + MISSED_S

    def say(self, text: str, for_s: float = 5.0) -> None:
        self._notice = text
        self._notice_until_s = self.clock.monotonic_s() + for_s
        self.tick()

    async def action_show(self, mode: str) -> None:
        """Bring a screen to the front."""
        await self.switch_mode(mode)
        self.tick()

    def action_command_palette(self) -> None:
        """Textual's own, with a prompt of ours."""
        from textual.command import CommandPalette as Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette", placeholder="some letters of a command"))

    async def action_quit(self) -> None:
        await self.action_leave()

    def action_help_quit(self) -> None:
        self.call_later(self.action_leave)

    # --- the terminal ---

    def _repaint(self, _app: object) -> None:
        """After `fg`: the terminal has forgotten everything that we think stands on it (GUARANTEES C35)."""
        self.refresh(layout=True)

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
    load: Callable[[], Look] | None = None,
    engine_trouble: Callable[[], str | None] = lambda: None,
    engine_failed: Callable[[], AmlError | None] = lambda: None,
) -> int:
    """The console on the engine of a state.db, until the operator leaves; its exit code.

    Args:
        state_path: the engine's state.db.
        who: journalled with each command, `console:USER`.
        read_only: watch only.
        fps: frames a second; None is the default of four.
        theme: a name of `themes.PALETTES`; None chooses by what the terminal can show.
        ascii: 7-bit characters only.
        load: reads what the configuration says of keys and theme, after the first frame.
        engine_trouble: why the engine is not there, where somebody knows; shown while there is none.
        engine_failed: the error that an engine started for this console ended with.

    Raises:
        UsageError: there is no terminal, or none that can show a screen.
        AmlError: the configuration is wrong, or the engine failed to start.
    """
    require_terminal()
    forget_size()
    from aml100.control.attach import OperatorClient

    clock = SystemClock()
    hello = Hello(who=who, read_only=read_only, fps=fps or DEFAULT_FPS)
    source = EngineSource(OperatorClient.connect, state_path, hello, clock, engine_trouble)
    app = ConsoleApp(
        source, read_only=read_only, fps=fps, theme=theme or "dark", ascii=ascii, clock=clock,
        folder=state_path.parent, load=load, engine_failed=engine_failed,
    )  # fmt: skip
    if theme is None and app.console.color_system == "standard":
        app.theme = "16-colour"
    code = app.run(mouse=False) or 0
    if app.failure is not None:
        raise app.failure
    return code
