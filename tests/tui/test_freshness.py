"""C40: what has just changed is underlined for a moment; nothing else flickers, and slow lines pay nothing for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from desk import SNAPSHOT, Desk, changed

from aml100.control.protocol import Snapshot
from aml100.tui.freshness import facts_of


def underlined(desk: Desk) -> list[str]:
    """Texts that stand underlined on the terminal, from the top."""
    strips = desk.app.screen._compositor.render_strips()
    return [one.text for strip in strips for one in strip if one.style is not None and one.style.underline]


def with_position(**fields: Any) -> Snapshot:
    return changed(positions=(msgspec.structs.replace(SNAPSHOT.positions[0], **fields),))


async def test_change_is_underlined_for_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """C40, C23: by a line under it, which needs no colour; the first frame has nothing to tell."""
    monkeypatch.setenv("NO_COLOR", "1")
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        desk.app.fps = 4.0
        await desk.settle(pilot)
        assert underlined(desk) == []
        desk.source.latest = changed(
            state="paused", positions=with_position(stop_price="64700.5", size="0.02").positions
        )
        await desk.settle(pilot)
        assert underlined(desk) == [" PAUSED ", "0.02", "64,700.5"]
        desk.clock.wall_s += 2.5
        await desk.settle(pilot)
        assert underlined(desk) == []


async def test_what_moves_all_the_time_is_not_emphasised() -> None:
    """C40: marks, unrealised profit, ages, clocks, equity."""
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        desk.app.fps = 4.0
        await desk.settle(pilot)
        moved = with_position(mark="65200", unrealised="24.1", stop_age_s=3.0)
        desk.source.latest = msgspec.structs.replace(moved, equity="10150", time_ms=SNAPSHOT.time_ms + 1000)
        assert "10,150.00" in await desk.settle(pilot)
        assert underlined(desk) == []


async def test_slow_line_has_no_emphasis() -> None:
    """C40, C30: --low-bandwidth draws half a frame a second."""
    desk = Desk()
    async with desk.open(120, 40) as pilot:
        desk.app.fps = 0.5
        await desk.settle(pilot)
        desk.source.latest = changed(state="paused")
        assert "PAUSED" in await desk.settle(pilot)
        assert underlined(desk) == []


def test_new_position_and_closed_trade_are_facts() -> None:
    before = facts_of(changed(positions=()))
    after = facts_of(SNAPSHOT)
    assert after.keys() - before.keys() == {f"{what} BTC" for what in ("position", "target", "stop", "protection")}
    assert before["trades"] == 26
