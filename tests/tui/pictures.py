"""Takes docs/screens/*.svg from the real console on a real engine: `make screens`. No test by itself.

The engine is that of `make run`: the embedded venue, a made-up market, a model trained on the spot, `demo/` for the
settings. The pictures differ from run to run as any two days do.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from aml100.control.attach import OperatorClient
from aml100.control.protocol import Hello, Snapshot
from aml100.domain.clock import SystemClock
from aml100.tui.app import ConsoleApp
from aml100.tui.source import EngineSource

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screens"
PICTURES = {
    "dashboard": (), "why": ("y",), "trades": ("t",), "phase": ("o",), "training": ("m",), "risk": ("k",),
    "feed": ("e",), "alerts": ("a",), "log": ("l",), "flatten": ("d", "f"),
    "replay": ("escape", "d", "b", "shift+left"),
}  # fmt: skip
ROOT = FOLDER.parents[1]
DEMO = ("--config", str(ROOT / "demo"), "--speed", "60", "--warmup-bars", "20000")
FRAME_S = 0.5
TRADES = 4
LONGEST_S = 900.0


def worth_a_picture(seen: Snapshot | None) -> bool:
    """A trained model decides, it has closed some trades, and a position stands under its stop."""
    if seen is None or seen.model.id is None or len(seen.trades) < TRADES:
        return False
    return any(one.protected and one.bars_held > 2 for one in seen.positions)


async def take(state: Path) -> None:
    """Watch until there is something to see, then go through the screens."""
    source = EngineSource(OperatorClient.connect, state, Hello("pictures", fps=4.0), SystemClock())
    app = ConsoleApp(source, folder=state.parent)
    async with app.run_test(size=(120, 40)) as pilot:
        async with asyncio.timeout(LONGEST_S):
            while not worth_a_picture(source.latest):
                await pilot.pause(FRAME_S)
        for name, keys in PICTURES.items():
            for key in keys:
                await pilot.press(key)
            for _ in range(4):
                app.tick()
                await pilot.pause(FRAME_S)
            svg = app.export_screenshot(title=f"AML-100: {name}")
            clean = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace(str(state.parent), "run")
            (FOLDER / f"{name}.svg").write_text(clean, encoding="utf-8")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.db"
        command = [sys.executable, "-m", "aml100", "run", "--no-tui", *DEMO, "--state", str(state)]
        with (Path(folder) / "engine.log").open("wb") as log:
            engine = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                asyncio.run(take(state))
            finally:
                engine.terminate()
                engine.wait()


if __name__ == "__main__":
    main()
