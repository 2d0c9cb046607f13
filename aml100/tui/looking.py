"""What an operator does without commanding anything: rows in detail, filters, ids, dumps, and the recorded past."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aml100.domain.clock import wall_ms
from aml100.tui.figures import moment
from aml100.tui.operating import Operating
from aml100.tui.screens.base import ConsoleScreen
from aml100.tui.source import NotDelivered
from aml100.tui.themes import PALETTES
from aml100.tui.view import Prices, coins_of

if TYPE_CHECKING:
    from aml100.tui.scrub import Scrubber
    from aml100.tui.widgets.listing import Listing

QUESTION_S: Final = 5.0


class Looking(Operating):
    """The half of the console that looks.

    Args:
        folder: of state.db: where ids, dumps and bundles go and the flight recorder's frames lie; None where nothing
            may be written.
    """

    ascii_only: bool

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self.folder = folder
        self.prices: Prices | None = None
        """Of the coin that was chosen for the price chart."""
        self.scrubber: Scrubber | None = None
        """There once the past was looked at."""

    @property
    def in_the_past(self) -> bool:
        return self.scrubber is not None and self.scrubber.frame is not None

    # --- the past ---

    async def action_back(self) -> None:
        """One step towards the dashboard as it is now."""
        if self.scrubber is not None and self.scrubber.frame is not None:
            self.scrubber.leave()
            self.say("back in the present")
        else:
            await self.run_action("show('dashboard')")

    def action_scrub(self) -> None:
        """Into the recorded past."""
        if self.folder is not None and self.scrubber is None:
            from aml100.control.flight import FOLDER
            from aml100.tui.scrub import Scrubber

            self.scrubber = Scrubber(self.folder / FOLDER)
        if self.scrubber is None or not (self.in_the_past or self.scrubber.enter()):
            self.say("nothing has been recorded yet: the flight recorder keeps a frame every 10 s")
            return
        self.say("REPLAY: left/right a frame, shift a minute, ctrl an hour, g to a time, Esc to the present", 20.0)

    def action_scrub_by(self, key: str) -> None:
        """Move through the past; elsewhere the key does nothing."""
        if self.scrubber is not None and self.in_the_past:
            self.scrubber.move(key)
            self.tick()

    async def action_scrub_to(self) -> None:
        """Ask for a moment and go there."""
        scrubber = self.scrubber
        if scrubber is None or not self.in_the_past:
            self.say("g goes to a moment of the past: press b first")
            return

        def chosen(at_ms: int | None) -> None:
            if at_ms is not None:
                scrubber.go(at_ms)
                place = scrubber.where()
                if place is not None and not place.first_ms <= at_ms <= place.last_ms:
                    self.say(
                        f"kept from {moment(place.first_ms)} to {moment(place.last_ms)}: this is the nearest frame"
                    )
                self.tick()

        from aml100.tui.widgets.dialogs import Moment

        await self.push_screen(Moment(scrubber.at_ms, wall_ms()), chosen)

    def action_incident(self) -> None:
        """Write the redacted bundle, beside the screen's work."""
        if self.folder is None:
            self.say("no folder to write a bundle to")
            return
        self.run_worker(self._write_incident(self.folder / "state.db"), name="incident")

    async def _write_incident(self, state_path: Path) -> None:
        from aml100.control.incident import write_bundle

        try:
            path = await asyncio.to_thread(write_bundle, state_path, self.clock.now_ms())
        except OSError as error:
            self.say(f"no incident bundle: {error.strerror or error}")
            return
        self.say(f"incident bundle, redacted: {path}", 15.0)

    # --- the coin of the price chart ---

    def action_next_coin(self) -> None:
        """Through the coins of the engine, then back to its own choice."""
        coins = coins_of(self.source.latest) if self.source.latest is not None else ()
        if len(coins) < 2:
            self.say(f"this engine has one coin: {coins[0]}" if coins else "no coin yet")
            return
        at = coins.index(self.prices.coin) + 1 if self.prices is not None and self.prices.coin in coins else 0
        self.choose_coin(coins[at] if at < len(coins) else None)

    def choose_coin(self, coin: str | None) -> None:
        """Chart this coin from now on; None leaves it to the engine."""
        self.prices = None if coin is None else Prices(coin)
        self.say(f"price chart: {coin or 'the coin in hand, else the first one'}")
        self.fetch_prices()

    def fetch_prices(self) -> None:
        """Ask for the closes of the chosen coin, which snapshots do not carry."""
        prices, latest = self.prices, self.source.latest
        if prices is not None and latest is not None and prices.coin != latest.price_coin and not self.in_the_past:
            self.run_worker(self._fetch(prices.coin), name="prices", exclusive=True, group="prices")

    async def _fetch(self, coin: str) -> None:
        data = await self._question("prices", {"coin": coin})
        if data is not None and self.prices is not None and self.prices.coin == coin:
            self.prices = Prices(coin, tuple((int(at), float(value)) for at, value in data["points"]))

    # --- rows ---

    async def on_listing_chosen(self, message: Listing.Chosen) -> None:
        from aml100.tui.widgets.details import Details

        await self.push_screen(Details(message.item, self._question, ascii=self.ascii_only))

    async def _question(self, command: str, arguments: Mapping[str, object]) -> Mapping[str, Any] | None:
        """Ask the engine something that changes nothing."""
        try:
            answer = await self.source.request(command, arguments, QUESTION_S)
        except NotDelivered:
            return None
        return answer.data if answer.ok else None

    def action_filter(self) -> None:
        if not (isinstance(self.screen, ConsoleScreen) and self.screen.begin_filter()):
            self.say("/ filters lists: why, trades, objectives, models, risk, feed, alerts, log")

    def action_sort(self) -> None:
        name = self.screen.next_order() if isinstance(self.screen, ConsoleScreen) else ""
        self.say(name or "s sorts trades and filters the log by level", 3.0)

    def action_copy_ids(self) -> None:
        """Ids to the clipboard by OSC 52, and to a file for terminals that have none (GUARANTEES C32)."""
        from aml100.tui.widgets.trading import id_of, ids_of

        snapshot = self.source.latest
        if snapshot is None:
            self.say("no ids yet")
            return
        item = getattr(self.screen, "chosen", None)
        chosen = id_of(item) if item is not None else ""
        ids = [chosen] if chosen else ids_of(snapshot)
        text = "\n".join(ids) + "\n"
        self.copy_to_clipboard(text.strip())
        what = chosen or f"{len(ids)} ids"
        self.say(f"copied {what}{self._write('console-ids.txt', text)}")

    # --- the screen itself ---

    async def action_help(self) -> None:
        from aml100.tui.widgets.dialogs import Help

        await self.push_screen(Help(self.keys_given, self.available()))

    def action_next_theme(self) -> None:
        names = list(PALETTES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)] if self.theme in names else names[0]
        self.say(f"theme {self.theme}")

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
