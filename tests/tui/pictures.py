"""Takes docs/screens/*.svg from the real console on a real engine: `make screens`. No test by itself.

The engine is that of `make run`, only faster: the embedded venue, a made-up market, a model trained on the spot. The
pictures differ from run to run as any two days do.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from aml100.control.attach import OperatorClient
from aml100.control.protocol import Hello
from aml100.domain.clock import SystemClock
from aml100.tui.app import ConsoleApp
from aml100.tui.source import EngineSource

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screens"
PICTURES = {
    "dashboard": (), "why": ("y",), "trades": ("t",), "phase": ("o",), "training": ("m",), "risk": ("k",),
    "feed": ("e",), "alerts": ("a",), "log": ("l",), "flatten": ("d", "f"),
    "replay": ("escape", "d", "b", "shift+left"),
}  # fmt: skip
DEMO = {
    "AML100_OBJECTIVES__CYCLE_DAYS": "0.25",
    "AML100_MODEL__LSTM_LAYERS": "1",
    "AML100_MODEL__LSTM_HIDDEN": "64",
    "AML100_TRAINING__LEARNING_RATE": "0.001",
}
FRAME_S = 0.5
TRADES = 12
LONGEST_S = 300.0


async def take(state: Path) -> None:
    """Watch until there is something to see, then go through the screens."""
    source = EngineSource(OperatorClient.connect, state, Hello("pictures", fps=4.0), SystemClock())
    app = ConsoleApp(source, folder=state.parent)
    async with app.run_test(size=(120, 40)) as pilot:
        async with asyncio.timeout(LONGEST_S):
            while source.latest is None or len(source.latest.trades) < TRADES or not source.latest.positions:
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
        command = [sys.executable, "-m", "aml100", "run", "--no-tui", "--speed", "120", "--state", str(state)]
        with (Path(folder) / "engine.log").open("wb") as log:
            engine = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **DEMO})
            try:
                asyncio.run(take(state))
            finally:
                engine.terminate()
                engine.wait()


if __name__ == "__main__":
    main()
