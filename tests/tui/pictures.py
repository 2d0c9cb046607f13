"""Draws docs/screens/*.svg from the frozen day: `python tests/tui/pictures.py`. No test by itself."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

PICTURES = {"dashboard": "", "why": "y", "trades": "t", "training": "m", "risk": "k"}


async def draw(name: str, key: str) -> str:
    """The screen behind a key as SVG, without references to fonts elsewhere."""
    from desk import Desk

    desk = Desk()
    async with desk.open(120, 40) as pilot:
        if key:
            await pilot.press(key)
        await desk.settle(pilot)
        svg = desk.app.export_screenshot(title=f"AML-100: {name}")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    folder = ROOT / "docs" / "screens"
    folder.mkdir(parents=True, exist_ok=True)
    for name, key in PICTURES.items():
        (folder / f"{name}.svg").write_text(asyncio.run(draw(name, key)), encoding="utf-8")
