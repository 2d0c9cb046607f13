"""The command palette: every command of the table, by name and sentence (GUARANTEES C10)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from aml100.tui.commands import ConsoleCommand
from aml100.tui.looking import Looking
from aml100.tui.view import coins_of


class CommandPalette(Provider):
    """What may be commanded here; halt at once, the rest as its key would."""

    async def discover(self) -> Hits:
        """All of it, something harmless first: ctrl+p and Enter are also a shell's last command again."""
        for command in sorted(self._console.available(), key=lambda one: one.id != "dashboard"):
            yield DiscoveryHit(command.label, self._runner(command), help=command.tooltip)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for command in self._console.available():
            score = matcher.match(f"{command.label} {command.tooltip}")
            if score > 0:
                yield Hit(score, matcher.highlight(command.label), self._runner(command), help=command.tooltip)

        for coin in self._coins():
            words = f"price {coin}"
            score = matcher.match(words)
            if score > 0:
                chart = partial(self._console.choose_coin, coin)
                yield Hit(score, matcher.highlight(words), chart, help=f"Chart the price of {coin}")

    def _coins(self) -> tuple[str, ...]:
        latest = self._console.source.latest
        return coins_of(latest) if latest is not None else ()

    @property
    def _console(self) -> Looking:
        app = self.app
        assert isinstance(app, Looking)
        return app

    def _runner(self, command: ConsoleCommand) -> Callable[[], None]:
        console = self._console
        if command.id == "halt":
            return console.halt_now

        def run() -> None:
            console.call_later(console.run_action, command.action)

        return run
