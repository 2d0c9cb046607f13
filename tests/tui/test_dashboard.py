"""The dashboard says what must be known, at every size and in every state of the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from desk import SNAPSHOT, Desk, changed, screen_text
from textual.events import Resize
from textual.geometry import Size

from aml100.control.protocol import AccessView, FeedView, ModelView, ObjectiveView, PositionView, Snapshot, TrainingView
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
    assert " return /month 2.41 ≥ 2 %  ◐ PROVISIONAL" in lines
    assert " win rate     38.50 ≥ 40 %        ✗ FAIL" in lines
    assert " drawdown max  1.73 ≤ 5 %         ✓ PASS" in lines
    assert any("Sharpe" in one and "○ UNKNOWN" in one for one in lines)


async def test_protection_of_a_position_is_said_with_stop_and_age() -> None:
    """B1: stop id and age; a position without a seen stop is NAKED."""
    bare = PositionView("BTC", "0.1", "65000", "65100", "10", None, None, None, False, None, 1)
    assert "✓ PROTECTED  stop 1234567  age 2.1 s" in await text_of(SNAPSHOT)
    assert "✗ NAKED" in await text_of(changed(positions=(bare,)))
    assert "flat, no open position" in await text_of(changed(positions=()))


@pytest.mark.parametrize("value", [42.86, 100.0])
async def test_provisional_is_said_in_full_at_the_smallest_size(value: float) -> None:
    """B3, C1: beside a value of five digits and a threshold of two as well."""
    win_rate = ObjectiveView("win_rate_pct", value, 40.0, True, "PROVISIONAL", "needs trades")
    phase = msgspec.structs.replace(SNAPSHOT.phase, objectives=(win_rate,))
    row = next(one[:40] for one in (await text_of(changed(phase=phase))).splitlines() if "win rate" in one)
    assert f"{value:.5g}" in row
    assert row.endswith("≥ 40 % ◐ PROVISIONAL")


def many_positions(naked: str = "") -> tuple[PositionView, ...]:
    """Eight of them, one perhaps without a stop."""
    coins = ("BTC", "ETH", "SOL", "kPEPE", "xyz:XYZ100", "HYPE", "DOGE", "ARB")
    held = SNAPSHOT.positions[0]
    return tuple(
        msgspec.structs.replace(
            held, coin=coin, protected=coin != naked, stop_price=None if coin == naked else held.stop_price
        )
        for coin in coins
    )


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
async def test_position_without_a_stop_is_not_the_one_that_is_cut_off(width: int, height: int) -> None:
    """B1: of many it comes first, and the heading counts it."""
    text = await text_of(changed(positions=many_positions(naked="ARB")), width, height)
    assert "positions 8" in text
    assert "1 NAKED" in text
    assert "✗ NAKED" in text
    assert " ARB ▲ LONG" in text


async def test_several_positions_are_summed_up_in_the_heading() -> None:
    """Eight times 12.34; the others are said to be there."""
    assert "─ positions 8 ───── +7 more: t  +98.72 ─" in await text_of(changed(positions=many_positions()))
    desk = Desk(changed(positions=many_positions()))
    async with desk.open() as pilot:
        await pilot.press("t")
        assert "unrealised +98.72" in await desk.settle(pilot)


async def test_protection_that_was_seen_by_an_engine_that_is_gone_is_no_promise() -> None:
    """C36: of the past it is said that it was."""
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        desk.source.now = Link(LinkState.OFFLINE, 75.0, "no socket")
        text = await desk.settle(pilot)
        assert "○ was PROTECTED  stop 1234567" in text
        assert "✓ PROTECTED" not in text


@pytest.mark.parametrize(("state", "words"), [("amber", "the key expires in 10.0 days"), ("red", "the clock is off")])
async def test_what_may_keep_us_from_trading_stands_in_the_header(state: str, words: str) -> None:
    """B19: key, clock and nonces, at the smallest size too; more of it on the screen of the feed."""
    access = AccessView(state, words, 12, SNAPSHOT.wall_ms + 864_000_000, 3)
    desk = Desk(changed(access=access))
    async with desk.open() as pilot:
        assert words in screen_text(desk.app).splitlines()[1]
        await pilot.press("e")
        text = await desk.settle(pilot)
        for part in (words, "clock +12 ms", "key until 2025-07-10 12:02:05 UTC"):
            assert part in text, part
    assert "key" not in (await text_of(SNAPSHOT)).splitlines()[1]


async def test_trading_without_a_model_says_that_it_waits_for_one() -> None:
    """TRADING in green while nothing can be traded: the reason stands beside it, and whole in the decisions."""
    why = "no model yet: the first one is not trained"
    waiting = changed(
        state_reason="",
        model=ModelView(None, "none yet"),
        decisions=tuple(msgspec.structs.replace(one, q=None, why=why) for one in SNAPSHOT.decisions),
    )
    text = await text_of(waiting)
    assert "TRADING  no model yet: in training, 3m to go" in text
    assert f"HOLD no Q · {why}" in text
    given_up = msgspec.structs.replace(waiting, training=TrainingView("cancelled", 7, 500))
    assert "TRADING  no model, training cancelled " in await text_of(given_up)


async def test_equity_of_a_ledger_without_money_is_unknown_not_nothing() -> None:
    """Before the venue's first word on the account: 0.00 USD would be a shock."""
    text = await text_of(changed(equity="0", balance="0", initial_equity="0", equity_curve=()))
    assert "not known: no money booked yet" in text


async def test_reason_of_a_failed_training_is_shown() -> None:
    reason = "killed by the system: too little memory"
    training = msgspec.structs.replace(SNAPSHOT.training, state="failed", reason=reason)
    assert f" {reason[:26]}" in await text_of(changed(training=training))
    desk = Desk(changed(training=training))
    async with desk.open(100, 30) as pilot:
        await pilot.press("m")
        text = await desk.settle(pilot)
        assert reason in text
        assert "r tries again" in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
async def test_prices_are_written_out_however_small(width: int, height: int) -> None:
    """C1: no 1.23e-05 at the edge of a chart."""
    curve = tuple((time_ms, value * 1.9e-10) for time_ms, value in SNAPSHOT.price_curve)
    held = msgspec.structs.replace(
        SNAPSHOT.positions[0], coin="kPEPE", entry_price="0.000012377143", mark="0.00001234",
        stop_price="0.0000123", target_price="0.0000126",
    )  # fmt: skip
    text = await text_of(changed(price_curve=curve, price_coin="kPEPE", positions=(held,)), width, height)
    assert "e-0" not in text
    assert "0.0000123771" in text


async def test_streams_of_many_coins_are_gathered_by_coin() -> None:
    """B7, C1: the good ones of a coin in one row with the oldest age, a bad one by itself, none of them cut."""
    coins = ("BTC", "ETH", "SOL", "kPEPE", "xyz:XYZ100", "HYPE", "DOGE", "ARB")
    channels = ("candle", "bbo", "trades", "activeAssetCtx")
    feeds = tuple(FeedView(coin, channel, "LIVE", 2100) for coin in coins for channel in channels)
    silent = msgspec.structs.replace(feeds[7], state="STALE", age_ms=31_000, gap_bars=2)
    text = await text_of(changed(feeds=(*feeds[:7], silent, *feeds[8:])), 200, 60)
    assert "▲ STALE ETH activeAssetCtx 31 s gap 2" in text
    assert "● LIVE BTC 4 streams 2 s" in text
    assert "● LIVE ETH 3 streams 2 s" in text
    assert "31 LIVE, 1 not" in text


async def test_trade_of_another_day_shows_its_date() -> None:
    """12:02 of today and of the day before would look the same."""
    old = msgspec.structs.replace(SNAPSHOT.trades[0], exit_ms=SNAPSHOT.trades[0].exit_ms - 86_400_000)
    text = await text_of(changed(trades=(SNAPSHOT.trades[0], old)), 200, 60)
    assert "12:02  BTC   short  -2.35" in text
    assert "06-29  BTC   short  -2.35" in text


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
        text = await desk.settle(pilot)
        assert f"In the way: {why}" in text
        assert "Evidence: " not in text


async def test_wide_dashboard_lists_the_trades_that_were_closed() -> None:
    """C4: what they made, how they ended and how long they took, beside the decisions."""
    text = await text_of(SNAPSHOT, 200, 60)
    assert "─ trades ─" in text
    assert "12:02  BTC   short  -2.35  SL" in text
    assert "none closed yet" in await text_of(changed(trades=()), 200, 60)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
async def test_what_was_earned_on_bars_that_the_model_was_made_from_is_called_in_sample(
    width: int, height: int
) -> None:
    seen = msgspec.structs.replace(SNAPSHOT.performance, in_sample=True)
    assert "in-sample figures" in await text_of(changed(performance=seen), width, height)
    assert "in-sample" not in await text_of(SNAPSHOT, width, height)


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


@pytest.mark.parametrize("key", ["d", "t"])
async def test_small_terminal_never_says_live_of_play_money_and_answers_the_halt(key: str) -> None:
    """C2, C19: the line to the engine is no mode; what became of a halt is seen, and a position without a stop."""
    desk = Desk(changed(positions=many_positions(naked="ARB")))
    async with desk.open(60, 20) as pilot:
        await pilot.press(key)
        text = await desk.settle(pilot)
        assert "LIVE" not in text
        assert "CONNECTED" in text
        assert "8 positions" in text
        assert "NAKED: ARB" in text
        await pilot.press("h")
        assert "h again in 3 s HALTS" in await desk.settle(pilot)
        await pilot.press("h")
        text = await desk.settle(pilot)
        assert text.count("✓ halt done") == 1
        desk.source.now = Link(LinkState.OFFLINE, 75.0, "no socket")
        assert "was TRADING" in await desk.settle(pilot)


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
        await pilot.press("ctrl+p")
        for _ in range(30):
            await pilot.pause()
        assert (await desk.settle(pilot)).isascii()
        await pilot.press("escape")
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


@pytest.mark.parametrize("theme", ["dark", "light", "16-colour"])
async def test_no_colour_leaves_the_terminal_its_own_two(monkeypatch: pytest.MonkeyPatch, theme: str) -> None:
    """C23: no colour is sent, so none can be that of its background; a chip is turned round instead."""
    monkeypatch.setenv("NO_COLOR", "1")
    desk = Desk(theme=theme)
    async with desk.open() as pilot:
        for key in ("d", "t", "f"):
            await pilot.press(key)
            await desk.settle(pilot)
            segments = [part for strip in desk.app.screen._compositor.render_strips() for part in strip]
            colours = {
                colour.name
                for part in segments
                if part.style is not None
                for colour in (part.style.color, part.style.bgcolor)
                if colour is not None
            }
            assert colours <= {"default"}
            mode = next(part for part in segments if "mode SIM" in part.text)
            assert mode.style is not None
            assert mode.style.reverse
        await pilot.press("escape", "ctrl+p")
        for _ in range(30):
            await pilot.pause()
        rows = desk.app.screen._compositor.render_strips()
        chosen = [part.text for row in rows for part in row if part.style is not None and part.style.underline]
        assert "dashboard" in chosen
        assert "halt" not in chosen


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
