"""The dashboard says what must be known, at every size and in every state of the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from desk import SNAPSHOT, Desk, changed, screen_text
from textual.events import Resize
from textual.geometry import Size

from aml100.control.protocol import PositionView, Snapshot
from aml100.tui.view import Link, LinkState

WORDS = ["mode", "equity", "drawdown", "position", "halt", "HOLD", "BUY", "SELL", "Foundation"]


async def text_of(given: Snapshot | None, width: int = 80, height: int = 24, **options: Any) -> str:
    desk = Desk(given, **options)
    async with desk.open(width, height):
        return screen_text(desk.app)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
async def test_every_word_and_whole_figure_stands_on_the_dashboard(width: int, height: int) -> None:
    """C1, C4: fields of the contract at the smallest size and above."""
    text = await text_of(SNAPSHOT, width, height)
    for word in [*WORDS, "win rate", "profit factor", "Sharpe", "cycles 1/3", "2025-06-30 12:02:05 UTC"]:
        assert word in text, word
    for figure in ["10,123.46", "0.42 %", "38.5 %", "65,000.5", "66,170.5", "64,610.5", "+12.34", "day 12.9 of 30"]:
        assert figure in text, figure
    for figure in ["12,034 93%", "441 3%", "402 3%", "12/500", "3m07s", "0.0123", "+0.41 %", "age 2.1 s"]:
        assert figure in text, figure
    assert "n/a (12 of 30)" in text
    assert "synthetic:regimes ×60" in text


async def test_wide_screen_shows_more() -> None:
    """C4."""
    narrow, wide = await text_of(SNAPSHOT), await text_of(SNAPSHOT, 200, 60)
    for more in ["─ price", "12 days of 38 needed", "last cycle: ◐ PROVISIONAL", "run r-20250630-1", "x reset"]:
        assert more not in narrow
        assert more in wide


async def test_large_numbers_are_shortened_or_left_out_but_never_cut() -> None:
    """C1."""
    position = PositionView(
        "kPEPE", "-123456789", "0.0123456", "0.0123457", "-123456.78", "0.0124", None, None, False, None, 700
    )
    big = changed(
        equity="123456789.123", positions=(position,), performance=changed().performance.__class__(
            trades=123_456, win_rate_pct=51.0, profit_factor=1234.5, actions=(526_000, 24_567, 999)
        ),
    )  # fmt: skip
    text = await text_of(big)
    assert "123,456,789.12 USD" in text
    assert "HOLD 526k 95% BUY 24.6k 4% SELL 999 0%" in text
    assert "SHORT 123456789 " in text
    assert "entry 0.0123456" in text
    assert "-123,456.78" in text


@pytest.mark.parametrize("mode", ["SIM", "PAPER", "TESTNET", "LIVE"])
async def test_mode_is_said_by_word(mode: str) -> None:
    """C19."""
    first = (await text_of(changed(mode=mode))).splitlines()[0]
    assert f"mode {mode}" in first
    assert [word for word in ("SIM", "PAPER", "TESTNET", "LIVE") if word in first] == [mode]


@pytest.mark.parametrize(
    ("state", "word"),
    [("halted", "HALTED"), ("manage_only", "MANAGE ONLY"), ("paused", "PAUSED"), ("starting", "STARTING")],
)
async def test_state_is_said_by_word_with_its_reason(state: str, word: str) -> None:
    first = (await text_of(changed(state=state, state_reason="drawdown 4.6 % over 4.5 %"))).splitlines()[0]
    assert word in first
    assert "drawdown 4.6 % over 4.5 %" in first


async def test_objectives_show_value_threshold_and_verdict() -> None:
    """B3: FAIL, PROVISIONAL, PASS and UNKNOWN by word and glyph."""
    lines = [one[:40] for one in (await text_of(SNAPSHOT)).splitlines()]
    assert " return /month  2.41 ≥ 2 % ◐ PROVISIONAL" in lines
    assert " win rate      38.50 ≥ 40 %       ✗ FAIL" in lines
    assert " drawdown max   1.73 ≤ 5 %        ✓ PASS" in lines
    assert any("Sharpe" in one and "○ UNKNOWN" in one for one in lines)


async def test_protection_of_a_position_is_said_with_stop_and_age() -> None:
    """B1: stop id and age; a position without a seen stop is NAKED."""
    bare = PositionView("BTC", "0.1", "65000", "65100", "10", None, None, None, False, None, 1)
    assert "✓ PROTECTED  stop 1234567  age 2.1 s" in await text_of(SNAPSHOT)
    assert "✗ NAKED" in await text_of(changed(positions=(bare,)))
    assert "flat, no open position" in await text_of(changed(positions=()))


async def test_dashboard_says_what_stopping_would_cost() -> None:
    """The stop is hit: 0.0123 x (64,610.5 - 65,000.5) = -4.80 USD. Closed now: 12.34 made, 0.72 of it costs."""
    assert "at stop -4.80" in await text_of(SNAPSHOT)
    roomy = await text_of(SNAPSHOT, 120, 40)
    assert "closing now leaves +11.62" in roomy
    assert "costs 0.72" in roomy
    unknown = changed(positions=(msgspec.structs.replace(SNAPSHOT.positions[0], close_cost="", stop_price=None),))
    text = await text_of(unknown, 120, 40)
    assert "at stop" not in text
    assert "closing now" not in text


async def test_run_that_can_pass_no_cycle_says_so() -> None:
    """A demonstration's cycle of six hours: the reason, and what would be needed, not only FAIL."""
    why = "no cycle here can pass: it lasts 6 h, and a Sharpe ratio needs 30 whole days"
    phase = msgspec.structs.replace(SNAPSHOT.phase, obstacle=why, cycle_days=0.25, days_to_go=None)
    assert "cannot pass" in await text_of(changed(phase=phase))
    panel = [row[:60] for row in (await text_of(changed(phase=phase), 200, 60)).splitlines()]
    assert why in " ".join(" ".join(panel).split())
    desk = Desk(changed(phase=phase))
    async with desk.open(120, 40) as pilot:
        await pilot.press("o")
        assert f"In the way: {why}" in await desk.settle(pilot)


async def test_wide_dashboard_lists_the_trades_that_were_closed() -> None:
    """C4: what they made, how they ended and how long they took, beside the decisions."""
    text = await text_of(SNAPSHOT, 200, 60)
    assert "─ trades ─" in text
    assert "12:02  BTC   short  -2.35  SL" in text
    assert "none closed yet" in await text_of(changed(trades=()), 200, 60)


async def test_silent_feed_is_not_green() -> None:
    """B7: the worst stream first, in words."""
    stale = changed(feeds=(*SNAPSHOT.feeds, SNAPSHOT.feeds[0].__class__("ETH", "candle", "STALE", 31_000, gap_bars=2)))
    text = await text_of(stale)
    assert "▲ STALE ETH candle 31 s gap 2" in text
    assert "3 LIVE, 1 not" in text


async def test_first_frame_comes_before_the_engine_answers() -> None:
    """C5."""
    text = await text_of(None)
    assert "CONNECTING" in text
    assert "waiting for the engine" in text
    assert "halt" in text


async def test_stale_and_offline_stand_in_every_panel_with_the_age() -> None:
    """C36, C37: a silent engine is STALE while the console's own sign moves on; a missing one is OFFLINE."""
    desk = Desk()
    async with desk.open() as pilot:
        assert "STALE" not in screen_text(desk.app)
        desk.source.now = Link(LinkState.STALE, 12.0)
        first = (await desk.settle(pilot)).splitlines()
        second = (await desk.settle(pilot)).splitlines()
        assert sum(one.count("STALE 12 s") for one in first) >= 8
        assert "the engine is connected but silent" in first[0]
        assert "synthetic:regimes" in first[1]
        assert first[1][0] != second[1][0]
        desk.source.now = Link(LinkState.OFFLINE, 75.0, "no socket")
        third = await desk.settle(pilot)
        assert third.count("OFFLINE 1m15s") >= 8
        assert "no socket" in third
        assert "10,123.46" in third
        assert "was TRADING" in third
        assert "○ was LIVE BTC candle" in third


async def test_read_only_is_said_and_offers_no_commands() -> None:
    """C9, C18."""
    text = await text_of(SNAPSHOT, read_only=True)
    assert "READ-ONLY" in text
    assert "flatten" not in text
    other_commands = Desk()
    other_commands.source.now = Link(LinkState.LIVE, 0.1, controller=False)
    async with other_commands.open():
        assert "READ-ONLY" in screen_text(other_commands.app)


@pytest.mark.parametrize(("width", "height"), [(40, 10), (79, 24), (80, 23), (12, 3)])
async def test_small_terminal_says_what_it_needs_and_recovers(width: int, height: int) -> None:
    """C2."""
    desk = Desk()
    async with desk.open(width, height) as pilot:
        text = screen_text(desk.app)
        if width >= 26:
            assert f"needs 80x24, has {width}x{height}" in text
            assert "SIM" in text
            assert "h h" in text
        await pilot.resize_terminal(80, 24)
        assert "10,123.46" in await desk.settle(pilot)


async def test_one_by_one_does_not_crash_and_halts() -> None:
    """C2, C17."""
    desk = Desk()
    async with desk.open(1, 1) as pilot:
        await pilot.press("h", "h")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]


async def test_fifty_resizes_leave_one_clean_paint() -> None:
    """C3."""
    desk, fresh = Desk(), Desk()
    async with desk.open(80, 24) as pilot:
        for step in range(50):
            size = Size(60 + step * 2, 15 + step)
            desk.app.post_message(Resize(size, size))
        await pilot.resize_terminal(80, 24)
        text = await desk.settle(pilot)
    async with fresh.open(80, 24) as pilot:
        assert text.splitlines()[2:] == (await fresh.settle(pilot)).splitlines()[2:]


async def test_ascii_is_seven_bit() -> None:
    """C26."""
    desk = Desk(ascii=True)
    async with desk.open(120, 40) as pilot:
        assert screen_text(desk.app).isascii()
        for key in "ym":
            await pilot.press(key)
            assert (await desk.settle(pilot)).isascii(), key
        for key in "fxq":
            await pilot.press(key)
            assert (await desk.settle(pilot)).isascii(), key
            await pilot.press("escape")


async def test_no_colour_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """C23, C24: without colour the same words and signs stand there."""
    monkeypatch.setenv("NO_COLOR", "1")
    desk = Desk()
    async with desk.open():
        text = screen_text(desk.app)
        assert desk.app.no_color
        for sign in ["✓ PASS", "✗ FAIL", "+12.34", "▲ LONG", "mode SIM"]:
            assert sign in text


async def test_unchanged_view_repaints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """P16, C30: only cells that differ are refreshed; between two equal snapshots that is the console's sign alone."""
    desk = Desk()
    async with desk.open() as pilot:
        from aml100.tui.widgets.sheet import Sheet

        refreshed: list[tuple[str | None, int]] = []
        plain_refresh = Sheet.refresh

        def counting(self: Sheet, *regions: Any, **options: Any) -> Sheet:
            refreshed.extend((self.id, region.y) for region in regions)
            return plain_refresh(self, *regions, **options)

        monkeypatch.setattr(Sheet, "refresh", counting)
        desk.app.tick()
        await pilot.pause()
        assert refreshed == [("board", 1)]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
def test_picture_of_the_dashboard(snap_compare: Any, width: int, height: int) -> None:
    assert snap_compare(Desk().app, terminal_size=(width, height))


def test_picture_of_a_halted_live_account(snap_compare: Any) -> None:
    live = changed(mode="LIVE", state="halted", state_reason="operator", venue="mainnet", origin="hyperliquid:mainnet")
    assert snap_compare(Desk(live, theme="colour-blind").app, terminal_size=(80, 24), press=["f"])


def test_pictures_of_the_documentation_are_of_this_console() -> None:
    folder = Path(__file__).resolve().parents[2] / "docs" / "screens"
    for name in ("dashboard", "why", "training"):
        assert "<svg" in (folder / f"{name}.svg").read_text()[:200]
