"""Back in time: every screen shows the recorded moment, nothing but halt goes out, Esc returns."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from desk import NOON_MS, SNAPSHOT, Desk, changed

from aml100.control.flight import FlightRecorder
from aml100.domain.clock import wall_ms
from aml100.tui.view import Link, LinkState
from aml100.tui.widgets.dialogs import moment_of

STEP_MS = 10_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recorder = FlightRecorder(tmp_path / "flight")
    for at in range(30):
        shown = msgspec.structs.replace(SNAPSHOT, wall_ms=NOON_MS - (30 - at) * STEP_MS, equity=f"{9000 + at}")
        recorder.record(shown)
    return tmp_path


async def test_recorded_frames_are_shown_and_left(folder: Path) -> None:
    """B20: the frame at T is shown; it works while the engine is gone."""
    desk = Desk(folder=folder)
    desk.source.now = Link(LinkState.OFFLINE, 60.0)
    async with desk.open(100, 24) as pilot:
        assert "10,123.46 USD" in await desk.settle(pilot)
        await pilot.press("b")
        text = await desk.settle(pilot)
        assert "REPLAY 06-30 12:01:55 UTC" in text
        assert "9,029.00 USD" in text
        await pilot.press("left", "left")
        assert "9,027.00 USD" in await desk.settle(pilot)
        await pilot.press("shift+left")
        text = await desk.settle(pilot)
        assert "9,021.00 USD" in text
        assert "-1m20s" in text
        await pilot.press("t")
        assert "REPLAY" in await desk.settle(pilot)
        await pilot.press("escape")
        text = await desk.settle(pilot)
        assert "REPLAY" not in text
        assert "back in the present" in text


async def test_moment_is_asked_for(folder: Path) -> None:
    desk = Desk(folder=folder)
    async with desk.open(100, 24) as pilot:
        await pilot.press("b", "g", *"12:00:05", "enter")
        assert "9,018.00 USD" in await desk.settle(pilot)
        await pilot.press("g", *"soon", "enter")
        await pilot.pause()
        assert "is no time" in await desk.settle(pilot)


async def test_the_past_commands_nothing_but_halt(folder: Path) -> None:
    """C17."""
    desk = Desk(folder=folder)
    async with desk.open(100, 24) as pilot:
        await pilot.press("b", "f")
        assert "this is the past; Esc leaves it, h h halts even from here" in await desk.settle(pilot)
        await pilot.press("h", "h")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]


async def test_nothing_recorded_is_said(tmp_path: Path) -> None:
    desk = Desk(folder=tmp_path)
    async with desk.open(100, 24) as pilot:
        await pilot.press("b")
        assert "nothing has been recorded yet" in await desk.settle(pilot)


async def test_incident_bundle_is_written_from_the_palette(folder: Path) -> None:
    """B20."""
    desk = Desk(folder=folder)
    async with desk.open(120, 24) as pilot:
        await desk.app.run_action("incident")
        await desk.finish(pilot, "incident")
        assert "incident bundle, redacted" in await desk.settle(pilot)
    assert f"incident-{NOON_MS}.zip" in os.listdir(folder)


async def test_alerts_missed_are_told_once() -> None:
    """C29: what came after the last console left."""
    desk = Desk()
    desk.source.seen_ms = NOON_MS - 45_000
    async with desk.open(120, 24) as pilot:
        text = await desk.settle(pilot)
        assert "1 alert since 2025-06-30 12:01:20 UTC (a shows them): feed_stale" in text
        assert "1 ALERT" in text
        await pilot.press("a")
        text = await desk.settle(pilot)
        assert "feed_stale MISSED" in text
        assert "order_rejected ×3  " in text
        own = msgspec.structs.replace(SNAPSHOT.alerts[0], id=77, code="paused", last_ms=wall_ms() + 1_000)
        desk.source.latest = changed(alerts=(own, *SNAPSHOT.alerts))
        text = await desk.settle(pilot)
        assert "paused  " in text, "raised before its eyes"
        assert "feed_stale MISSED" in text


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("12:00", NOON_MS - 125_000),
        ("13:00", NOON_MS - 125_000 - 23 * 3_600_000),
        ("2025-06-30 12:00:05", NOON_MS - 120_000),
        ("-2h", NOON_MS - 7_200_000),
        ("-x", None),
        ("25:00", None),
        ("", None),
    ],
)
def test_moments_are_read(text: str, at_ms: int | None) -> None:
    assert moment_of(text, NOON_MS, NOON_MS) == at_ms


def test_a_time_of_day_may_lie_after_the_frame_on_screen_and_not_after_now() -> None:
    """From a frame of an hour ago forward, and no day back."""
    frame_ms = NOON_MS - 3_600_000
    assert moment_of("12:00", frame_ms, NOON_MS) == NOON_MS - 125_000
    assert moment_of("13:00", frame_ms, NOON_MS) == NOON_MS - 125_000 - 23 * 3_600_000
