"""Single points of GUARANTEES that belong to every screen."""

from __future__ import annotations

import gc

import pytest
from desk import NOON_MS, Desk, changed
from textual.color import Color

from aml100.control.protocol import Snapshot
from aml100.tui.themes import PALETTES
from aml100.tui.view import View

SCREENS = "dytomkeal"
FRAMES = 60
KEPT = 30
"""One a sheet and a few under way: far fewer than there were frames."""


@pytest.mark.parametrize("key", SCREENS)
async def test_every_screen_says_that_its_clock_is_utc(key: str) -> None:
    """C41: market time in the banner, and the list's own times by their heading or a Z."""
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        await pilot.press(key)
        text = await desk.settle(pilot)
        assert "2025-06-30 12:02:05 UTC" in text
        if key in "dyta":
            assert "UTC" in "\n".join(text.splitlines()[2:])
        if key == "l":
            assert "12:02:04Z INFO" in text


@pytest.mark.parametrize("key", SCREENS)
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
async def test_every_screen_fits_in_seven_bits(key: str, width: int, height: int) -> None:
    """C26, C1: no sign without a stand-in, no row beyond the edge."""
    desk = Desk(ascii=True)
    async with desk.open(width, height) as pilot:
        await pilot.press(key)
        text = await desk.settle(pilot)
        assert text.isascii()
        assert "?" not in text.replace(" ? ", "")
        assert max(map(len, text.splitlines())) == width


@pytest.mark.parametrize("theme", PALETTES)
@pytest.mark.parametrize("key", "dtmk")
async def test_screens_say_the_same_in_every_theme(theme: str, key: str) -> None:
    """C24, C25: colour repeats what sign and word say."""
    plain, themed = Desk(), Desk(theme=theme)
    async with plain.open(100, 30) as pilot:
        await pilot.press(key)
        wanted = await plain.settle(pilot)
    async with themed.open(100, 30) as pilot:
        await pilot.press(key)
        assert await themed.settle(pilot) == wanted


@pytest.mark.parametrize("theme", PALETTES)
async def test_dialogs_wear_the_theme_too(theme: str) -> None:
    """C25, C27: the ground of a dialog is the theme's, from the first frame on."""
    desk = Desk(theme=theme)
    async with desk.open() as pilot:
        await pilot.press("f")
        await desk.settle(pilot)
        ground = desk.app.screen.query_one(".dialog").styles.background
        assert ground == Color.parse(PALETTES[theme].ground)


async def test_console_keeps_nothing_of_old_snapshots() -> None:
    """C44: a day of frames weighs what the last one does, on the dashboard and in a list."""
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        for key in "dtl":
            await pilot.press(key)
            for at in range(FRAMES):
                passed_ms = at * 60_000
                desk.clock.wall_s = 1000.0 + at
                desk.source.latest = changed(seq=at, time_ms=NOON_MS + passed_ms, equity=f"{10_000 + at}")
                desk.app.tick()
            await pilot.pause()
        gc.collect()
        alive = [one for one in gc.get_objects() if type(one) is Snapshot]
        views = [one for one in gc.get_objects() if type(one) is View]
        assert len(alive) <= KEPT
        assert len(views) <= KEPT
