"""What `bench console` shows is a whole dashboard."""

from __future__ import annotations

from aml100.bench.console import made_up_day
from aml100.control.protocol import decode_engine_frame, encode_frame
from aml100.tui.app import ConsoleApp
from aml100.tui.source import FakeSource


async def test_made_up_day_fills_every_panel() -> None:
    day = made_up_day()
    assert decode_engine_frame(encode_frame(day)) == day
    app = ConsoleApp(FakeSource(day), fps=0.001)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.tick()
        await pilot.pause()
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
    for part in ["10,123.45 USD", "TP 66,170.5", "PROTECTED", "no edge", "synthetic:bench", "HOLD"]:
        assert part in text, part
    assert "waiting" not in text
