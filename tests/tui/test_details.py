"""Rows that are chosen: their details, the decision behind them, their order."""

from __future__ import annotations

import pytest
from desk import NOON_MS, Desk, changed

from aml100.control.protocol import Answer, ModelView
from aml100.tui.source import NotDelivered
from aml100.tui.widgets.details import Details
from aml100.tui.widgets.listing import Listing

WHY = {
    "decisions": [
        {
            "coin": "BTC", "bar_ms": NOON_MS, "action": 1, "q": [0.01, 0.12, -0.05], "outcome": "order",
            "regime": "trend_up", "confidence": 0.7, "why": "BUY: order sent",
            "gates": [{"name": "halt", "ok": True, "reason": ""}, {"name": "leverage", "ok": True, "reason": ""}],
        }
    ]
}  # fmt: skip


ROOM = 70
"""Cells in a dialog between its padding: 76 less two borders and twice two."""


async def opened(desk: Desk, *keys: str) -> str:
    async with desk.open(100, 40) as pilot:
        await pilot.press(*keys, "enter")
        await desk.settle(pilot)
        assert isinstance(desk.app.screen, Details)
        return desk.app.screen.text


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("t",), ["LONG 0.01230", "at the stop", "-4.80 USD before fees", "at the target"]),
        (("t", "down"), ["stop_loss", "protects the position", "0x" + "a" * 32]),
        (("y", "down"), ["SELL", "✗ min_q_gap", "gap 0.0112 is under 0.0500", "✓ daily_loss", "BUY -0.0041"]),
        (("k",), ["stale_data", "BTC candle silent", "config show"]),
        (("o",), ["return /month", "at least 2 %", "-0.40 %, one-sided", "PROVISIONAL"]),
        (("a",), ["feed_stale", "no entries on that coin", "docs/operating.md, runbook, feed_stale"]),
        (("m",), ["m-0012-abcd", "+0.83 % of one notional, on bars it never trained on"]),
        (("l",), ["bar 59 closed, nothing to do"]),
    ],
)
async def test_row_explains_itself(keys: tuple[str, ...], expected: list[str]) -> None:
    """C13."""
    text = " ".join((await opened(Desk(), *keys)).split())
    for part in expected:
        assert part in text, part


async def test_trade_names_the_decision_that_led_to_it() -> None:
    """B2: from a trade back to Q values and gates."""
    desk = Desk()
    desk.source.answers["why"] = Answer(1, True, "", 0, WHY)
    text = await opened(desk, "t", "down", "down", "down", "down")
    for part in [
        "long 0.0123 BTC",
        "+3.69 USD net",
        "fees 0.72",
        "BUY: order sent",
        "BUY +0.1200",
        "passed halt, leverage",
    ]:
        assert part in text, part
    name, arguments = desk.source.asked[-1]
    assert (name, arguments["coin"], arguments["order"]) == ("why", "BTC", True)


@pytest.mark.parametrize("keys", [("t",), ("t", "down"), ("t", "down", "down", "down", "down"), ("y",), ("o",), ("k",)])
async def test_rows_of_a_dialog_have_room_in_it(keys: tuple[str, ...]) -> None:
    """A row that is wider than the dialog breaks where nobody meant it to, a figure under the wrong word."""
    desk = Desk()
    desk.source.answers["why"] = Answer(1, True, "", 0, WHY)
    assert max(map(len, (await opened(desk, *keys)).splitlines())) <= ROOM


async def test_engine_that_does_not_answer_is_said() -> None:
    desk = Desk()
    desk.source.answers["why"] = NotDelivered("no engine")
    assert "the engine does not answer" in await opened(desk, "t")


async def test_trades_are_sorted_and_the_cursor_stays_on_its_row() -> None:
    """C39."""
    desk = Desk()
    async with desk.open(120, 50) as pilot:
        await pilot.press("t", *["down"] * 4)
        listing = desk.app.screen.query_one(Listing)
        chosen = listing.chosen
        await pilot.press("s")
        text = await desk.settle(pilot)
        assert "largest loss first" in text
        assert listing.chosen == chosen
        losses = [one for one in text.splitlines() if "-2.35" in one or "+3.69" in one]
        assert "-2.35" in losses[0]
        await pilot.press("s")
        text = await desk.settle(pilot)
        assert "+3.69" in next(one for one in text.splitlines() if "-2.35" in one or "+3.69" in one)


async def test_log_hides_the_lesser_levels() -> None:
    """C11."""
    desk = Desk()
    async with desk.open(100, 80) as pilot:
        await pilot.press("l", "s")
        text = await desk.settle(pilot)
        assert "WARNING" in text
        assert "INFO" not in text
        await pilot.press("s")
        assert "nothing yet (errors)" in await desk.settle(pilot)


async def test_chosen_model_is_promoted_after_a_question() -> None:
    """B5, C14, C15: P alone moves nothing; the question names the model and the exposure."""
    desk = Desk()
    async with desk.open(100, 40) as pilot:
        await pilot.press("P")
        assert "choose a model first" in await desk.settle(pilot)
        await pilot.press("m", "down", "P")
        text = await desk.settle(pilot)
        assert "Promote m-0011-ffee?" in text
        assert "in place of m-0012" in text
        assert "1 position, 800.73 USD, SIM on sim" in text
        await pilot.press("enter")
        assert desk.source.asked == []
        await pilot.press("P", "y")
        await pilot.pause()
        assert desk.source.asked == [("promote", {"model": "m-0011-ffee"})]
        await pilot.press("B", "y")
        await pilot.pause()
        assert desk.source.asked[-1] == ("rollback", {})


async def test_champion_stands_against_its_challenger() -> None:
    """B5."""
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        await pilot.press("m")
        text = await desk.settle(pilot)
        for part in ["champion +0.12 %", "challenger +0.31 %", "challenger ahead", "120 of 480 bars", "3 trades"]:
            assert part in text, part
        desk.source.latest = changed(shadow=None, models=(ModelView(None, "none yet"),))
        assert "no challenger in shadow" in await desk.settle(pilot)
