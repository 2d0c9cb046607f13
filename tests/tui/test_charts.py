"""Charts say what happened: falls are shaded, entries and exits stand where they were, targets and stops are named."""

from __future__ import annotations

import pytest
from desk import NOON_MS, SNAPSHOT, Desk, changed

from aml100.control.protocol import ActionCount, Answer
from aml100.tui.ink import cells, plain, to_ascii
from aml100.tui.view import Prices
from aml100.tui.widgets.curves import action_strips, equity_chart, price_chart
from aml100.tui.widgets.plot import Plot

BTC = Prices("BTC", SNAPSHOT.price_curve)


def rows(lines: list[tuple[tuple[str, str], ...]]) -> list[str]:
    return [plain(spans) for spans in lines]


def test_fall_from_the_peak_is_shaded_and_named() -> None:
    """100 to 120, down to 90 and back to 120: a fall of a quarter, shaded between peak and curve only."""
    values = [100.0, 120.0, 90.0, 120.0]
    drawn = equity_chart([(NOON_MS + at * 60_000, value) for at, value in enumerate(values)], 50, 9, plain=True)
    text = rows(drawn)
    assert "fall to 25.00 %" in text[-1]
    shaded = {column for row in text[:-1] for column, sign in enumerate(row) if sign == ":"}
    width = len(text[0].split("120.00")[0].rstrip()) if "120.00" in text[0] else 0
    assert "120.00" in text[0]
    assert "90.00" in text[-2]
    assert shaded
    assert min(shaded) > width // 3, "nothing is shaded before the first peak"
    roles = {role for spans in drawn[:-1] for sign, role in spans if ":" in sign}
    assert roles == {"bad"}


def test_price_shows_entry_exit_target_and_stop() -> None:
    text = "\n".join(rows(price_chart(SNAPSHOT, BTC, 70, 20, plain=False)))
    for sign in ("▲", "▼", "×", "TP 66,170.5", "SL 64,610.5", "╌", "long", "exit"):
        assert sign in text, sign


def test_target_out_of_the_picture_is_an_arrow_with_its_price() -> None:
    position = SNAPSHOT.positions[0].__class__(
        "BTC", "1", "65000", "65000", "0", "10", "900000", 1, True, 1.0, 1, NOON_MS - 600_000
    )
    text = rows(price_chart(changed(positions=(position,)), BTC, 70, 12, plain=False))
    assert "↑" in text[0]
    assert "TP 900,000" in text[0]
    assert "↓" in text[-2]
    assert "SL 10" in text[-2]


@pytest.mark.parametrize("width", [20, 34, 79, 160])
@pytest.mark.parametrize("height", [1, 4, 7, 30])
def test_chart_fits_its_room(width: int, height: int) -> None:
    for drawn in (
        equity_chart(SNAPSHOT.equity_curve, width, height, plain=False),
        price_chart(SNAPSHOT, BTC, width, height, plain=False),
    ):
        assert len(drawn) <= height
        assert all(cells(spans) <= width for spans in drawn)


def test_charts_have_an_ascii_form() -> None:
    """C26."""
    drawn = [*equity_chart(SNAPSHOT.equity_curve, 60, 10, plain=True), *price_chart(SNAPSHOT, BTC, 60, 14, plain=True)]
    text = "\n".join(plain(to_ascii(spans)) for spans in drawn)
    assert text.isascii()
    assert "?" not in text


@pytest.mark.parametrize("points", [(), ((NOON_MS, 1.0),)])
def test_chart_of_too_little_says_so(points: tuple[tuple[int, float], ...]) -> None:
    assert "second point" in plain(equity_chart(points, 60, 6, plain=False)[0])


def test_nearer_layers_hide_farther_ones() -> None:
    plot = Plot(3, 1, 0.0, 1.0, 0, 2)
    plot.add_level(0.5, "bad")
    assert plot.add_mark(1, 0.5, "×", "good")
    plot.add_level(0.5, "dim")
    assert not plot.add_mark(9, 0.5, "×", "good"), "outside the picture"
    assert plain(plot.lines(0)[0]) == " ╌×╌"


def test_actions_over_time_show_shares_and_totals() -> None:
    counts = [ActionCount(0, 4, 0, 0), ActionCount(1, 0, 4, 0)]
    text = [plain(spans) for spans in action_strips(counts, (4, 4, 0), 20, plain=True)]
    assert [row.split()[0] for row in text] == ["HOLD", "BUY", "SELL"]
    assert text[0].rstrip().endswith("4 50%")
    assert text[0].index("#") < text[1].index("#"), "it held first and bought later"
    assert "#" not in text[2]


async def test_charts_are_drawn_once_a_second() -> None:
    """P16: a new snapshot in the same second moves the figures and leaves the chart."""
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        before = await desk.settle(pilot)
        lower = tuple((at, value * 0.9) for at, value in SNAPSHOT.equity_curve)
        desk.source.latest = changed(equity="9000", equity_curve=lower)
        text = await desk.settle(pilot)
        assert "9,000.00 USD" in text
        assert "10,113.31" in before
        assert "10,113.31" in text
        desk.clock.wall_s = 6001.0
        assert "9,101.98" in await desk.settle(pilot)


async def test_price_chart_goes_through_the_coins_with_a_key() -> None:
    """The second coin's closes are asked of the engine; its own entries, exits, target and stop stand in its chart."""
    desk = Desk(changed(feeds=(*SNAPSHOT.feeds, SNAPSHOT.feeds[0].__class__("ETH", "candle", "LIVE", 400))))
    points = [[at, 3000.0 + at % 7] for at, _ in SNAPSHOT.price_curve]
    desk.source.answers["prices"] = Answer(1, True, "", 0, {"coin": "ETH", "points": points})
    async with desk.open(160, 50) as pilot:
        assert "price BTC (1 of 2, v)" in await desk.settle(pilot)
        await pilot.press("v")
        assert "TP 66,170.5" in await desk.settle(pilot)
        await pilot.press("v")
        await desk.finish(pilot, "prices")
        desk.clock.wall_s += 5000.0
        text = await desk.settle(pilot)
        assert desk.source.asked == [("prices", {"coin": "ETH"})]
        assert "price ETH (2 of 2, v)" in text
        assert "3,006.00" in text
        assert "TP 66,170.5" not in text.split("position")[0], "that target belongs to BTC"
        await pilot.press("v")
        assert "price BTC (1 of 2, v)" in await desk.settle(pilot)


async def test_coin_is_chosen_in_the_palette() -> None:
    """C10."""
    desk = Desk(changed(feeds=(*SNAPSHOT.feeds, SNAPSHOT.feeds[0].__class__("DOGE", "candle", "LIVE", 400))))
    async with desk.open(160, 50) as pilot:
        await pilot.press("ctrl+p", *"price doge")
        for _ in range(20):
            await pilot.pause(0.01)
        await pilot.press("enter")
        assert "price DOGE (2 of 2, v)" in await desk.settle(pilot)


async def test_console_of_one_coin_says_so() -> None:
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("v")
        assert "this engine has one coin: BTC" in await desk.settle(pilot)
