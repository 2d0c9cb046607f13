"""The other screens: lists that filter, scroll and keep their place."""

from __future__ import annotations

import msgspec
import pytest
from desk import SNAPSHOT, Desk, changed

from aml100.control.protocol import LogLine, ModelView, OpenOrderView, RiskView
from aml100.tui.widgets.listing import Listing


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("y", ["no edge", "52 %", "✗ min_q_gap: gap 0.0112 is under 0.0500", "trend_up", "+0.0312 -0.0041 +0.0427"]),
        ("t", ["PROTECTED", "1234567", "stop_loss", "+3.69", "take_profit", "21m00s"]),
        ("m", ["epoch 12/500", "0.0700", "champion", "retired", "▲"]),
        (
            "k",
            [
                "circuit_breaker",
                "0.42 of 3.5 %",
                "left 3.08",
                "✗ stale_data",
                "212 of 1,200",
                "left 988",
                "leverage 0.08",
                "if every stop is hit -4.80 USD since entry, -6.02 from here",
                "no limit set  off",
            ],
        ),
        ("e", ["BTC   activeAssetCtx", "0.9 s ago", "1.8 ms", "loop lag      3.2 ms", "synthetic:regimes"]),
        (
            "o",
            [
                "phase 1 Foundation",
                "gates honest",
                "phase ≥ -0.40 (95 %)",
                "PROVISIONAL",
                "day 12.9 of 30",
                "luck 31 %",
            ],
        ),
        ("o", ["closed trades", "26 ≥ 100 32 d to go", "cycles 1/3"]),
        ("a", ["feed_stale", "BTC activeAssetCtx is silent", "order_rejected ×3"]),
        ("l", ["bar 59 closed, nothing to do", "INFO"]),
    ],
)
async def test_screen_shows_its_matter(key: str, expected: list[str]) -> None:
    """B2, B3, B4, B7, B8, C29, C38."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press(key)
        await desk.settle(pilot)
        text = await desk.settle(pilot)
        for part in [*expected, "mode SIM", "TRADING", "halt"]:
            assert part in text, part
        await pilot.press("escape")
        assert "10,123.46" in await desk.settle(pilot)


async def test_no_figure_of_a_decision_is_cut() -> None:
    """C1, B2: with a long coin, regime and Q values parts are left out whole; reasons are explained at 80 columns."""
    one = msgspec.structs.replace(
        SNAPSHOT.decisions[0], coin="xyz:XYZ100", regime="trend_down", q=(0.0312, -12.0041, 0.0427), outcome="none"
    )
    desk = Desk(changed(decisions=(one,), why_histogram=(("policy", 164), ("halt", 23))))
    async with desk.open() as pilot:
        await pilot.press("y")
        text = await desk.settle(pilot)
        row = next(part for part in text.splitlines() if "xyz:XYZ100" in part)
        assert row.split()[3:] == ["HOLD", "·", "+0.0312", "-12.0041", "+0.0427", "trend_down"]
        assert "23  12 %  trading was halted or paused" in text


async def test_word_of_a_guard_is_whole_or_not_there() -> None:
    """At 80 columns a guard that tripped says why in place of its bar, the others say nothing rather than a scrap."""
    risk = (
        RiskView("losses_in_row", "tripped", 4.0, 4.0, "", "4 lost in a row, until 14:05"),
        RiskView("circuit_breaker", "ok", 0.2026, 3.5, "%"),
    )
    desk = Desk(changed(risk=risk))
    async with desk.open() as pilot:
        await pilot.press("k")
        text = await desk.settle(pilot)
        assert "4 lost in a row, until 14:05" in text
        row = next(part.rstrip() for part in text.splitlines() if "circuit_breaker" in part)
        assert "0.20 of 3.5 %" in row
        assert row.endswith("left 3.30")


async def test_model_is_listed_once_with_its_state() -> None:
    """The engine names a version by its id: it stands there once, and what became of it beside it."""
    kept = ModelView("m-888106de684c", "m-888106de684c", SNAPSHOT.time_ms, 1.2, "worse than the champion", "refused")
    desk = Desk(changed(models=(kept,)))
    async with desk.open(120, 40) as pilot:
        await pilot.press("m")
        text = await desk.settle(pilot)
        assert text.count("m-888106de684c") == 1
        assert "refused  worse than the champion" in text
        await pilot.press("enter")
        assert "state        refused" in await desk.settle(pilot)


async def test_bound_of_a_market_order_is_not_shown_as_its_price() -> None:
    bound = OpenOrderView(
        "0x" + "c" * 32, 7, "BTC", "buy", "entry", "97500", "0.0123", "filled", False, SNAPSHOT.time_ms, is_market=True
    )
    desk = Desk(changed(open_orders=(), recent_orders=(bound,), trades=()))
    async with desk.open() as pilot:
        await pilot.press("t")
        text = await desk.settle(pilot)
        assert "market  0.0123  filled" in text
        assert "97,500" not in text
        await pilot.press("end", "enter")
        assert "market, at worst 97,500" in await desk.settle(pilot)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
async def test_a_training_is_told_at_a_glance(width: int, height: int) -> None:
    """C38: how far, how long, what it learns with, what it earns, what it would do, and the key that ends it."""
    training = msgspec.structs.replace(
        SNAPSHOT.training, learning_rate=8e-5, epsilon=0.93, actions=(0.726, 0.1, 0.174), cause="schedule"
    )
    desk = Desk(changed(training=training))
    async with desk.open(width, height) as pilot:
        await pilot.press("m")
        await desk.settle(pilot)
        text = await desk.settle(pilot)
        for part in (
            "epoch 12/500", "ETA 3m07s", "seed 7", "cpu", "loss 0.0123", "lr 8.0e-05", "epsilon 0.93", "net +0.41 %",
            "validation: % of one notional", "it would HOLD 73 %  BUY 10 %  SELL 17 %", "running (schedule)",
            "C cancels",
        ):  # fmt: skip
            assert part in text, part
        stopped = msgspec.structs.replace(training, state="cancelled", reason="", cause="operator")
        desk.source.latest = changed(training=stopped, seq=SNAPSHOT.seq + 1)
        await desk.settle(pilot)
        text = await desk.settle(pilot)
        assert "R goes on" in text
        assert "cancelled" in text


@pytest.mark.parametrize("key", "ytmkloea")
async def test_screen_without_a_snapshot_waits(key: str) -> None:
    desk = Desk(None)
    async with desk.open() as pilot:
        await pilot.press(key)
        assert "waiting for the engine" in await desk.settle(pilot)


async def test_filter_shows_only_rows_with_the_text() -> None:
    """C11."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("l", "slash", *"BAR 23", "enter")
        text = await desk.settle(pilot)
        assert "bar 23 closed" in text
        assert "bar 22 closed" not in text
        await pilot.press("slash", *"zzz")
        assert "no row with 'zzz'; Esc shows all" in await desk.settle(pilot)
        await pilot.press("escape")
        assert "bar 59 closed" in await desk.settle(pilot)


async def test_rows_found_stand_under_their_headings() -> None:
    """C11: an order that is open and one that ended look alike."""
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        await pilot.press("t", "slash", *"stop_loss", "enter")
        text = await desk.settle(pilot)
        at = [text.find(word) for word in ("─ open orders", "1234567", "─ trades")]
        assert -1 not in at
        assert at == sorted(at)
        assert "─ positions" not in text, "nothing of that part was found"


async def test_log_follows_its_end_until_it_is_scrolled() -> None:
    """C39."""
    desk = Desk()
    more = LogLine(SNAPSHOT.time_ms + 1, "warning", "something new")
    async with desk.open() as pilot:
        await pilot.press("l")
        await desk.settle(pilot)
        desk.source.latest = changed(log=(*SNAPSHOT.log, more))
        await desk.settle(pilot)
        assert "something new" in await desk.settle(pilot)
        listing = desk.app.screen.query_one(Listing)
        listing.scroll_to(y=10, animate=False, immediate=True)
        first = (await desk.settle(pilot)).splitlines()[2]
        desk.source.latest = changed(log=(*SNAPSHOT.log[1:], more, LogLine(more.time_ms + 1, "info", "and more")))
        assert (await desk.settle(pilot)).splitlines()[2] == first


@pytest.mark.parametrize("key", "ytlm")
async def test_list_never_scrolls_sideways(key: str) -> None:
    """A row is as wide as the screen, with the scroll bar beside it and without: no bar below takes a row."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press(key)
        await desk.settle(pilot)
        await desk.settle(pilot)
        listing = desk.app.screen.query_one(Listing)
        assert listing.show_vertical_scrollbar or key == "m"
        assert not listing.show_horizontal_scrollbar


async def test_list_newest_first_keeps_the_row_being_read() -> None:
    """C39."""
    desk = Desk()
    newer = SNAPSHOT.trades[0].__class__(
        "ETH", "buy", SNAPSHOT.time_ms, SNAPSHOT.time_ms + 60_000, "3000", "3010", "1", "10", "signal"
    )
    async with desk.open() as pilot:
        await pilot.press("t")
        await desk.settle(pilot)
        desk.app.screen.query_one(Listing).scroll_to(y=14, animate=False, immediate=True)
        first = (await desk.settle(pilot)).splitlines()[2]
        desk.source.latest = changed(trades=(newer, *SNAPSHOT.trades))
        assert (await desk.settle(pilot)).splitlines()[2].split() == first.split()


async def test_log_line_cannot_draw_on_the_screen() -> None:
    desk = Desk(changed(log=(LogLine(0, "error", "bad \x1b[2J\nthing"),)))
    async with desk.open() as pilot:
        await pilot.press("l")
        assert "bad  [2J thing" in await desk.settle(pilot)
