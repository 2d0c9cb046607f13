"""Makes the peers' Python environments: `python -m aml100.bench.environments FOLDER [NAME...]`.

Each peer gets a folder of its own under FOLDER, made with pip, so that no peer's requirements touch ours or another's.
Releases are pinned. One that cannot be installed here is reported and left out: its goals then stay open. A finished
environment holds a file that names what went in, and is not made again while that is the same.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "installed.txt"
TORCH: Final = "torch==2.13.0"
"""First and by itself wherever a peer needs torch: a resolver left to choose may take a CUDA build of several GB."""


@dataclass(frozen=True, slots=True)
class Environment:
    """`steps` are pip's arguments, one call each."""

    steps: tuple[tuple[str, ...], ...]


ENVIRONMENTS: Final[dict[str, Environment]] = {
    "gym-anytrading": Environment((("gym-anytrading==2.0.0",),)),
    "gym-trading-env": Environment((("gym-trading-env==0.3.5",),)),
    "cpprb": Environment((("cpprb==11.0.0",),)),
    "talib": Environment((("TA-Lib==0.8.2",),)),
    "polars": Environment((("polars==2.1.0", "numpy==2.4.6"),)),
    "orjson": Environment((("orjson==3.13.0", "websockets==17.4"),)),
    "vectorbt": Environment((("vectorbt==1.2.0",),)),
    "raptorbt": Environment((("raptorbt==0.13.4", "numpy==2.4.6"),)),
    "backtesting": Environment((("backtesting==0.6.6",),)),
    "nautilus": Environment((("nautilus_trader==1.221.0",),)),
    "freqtrade": Environment((("freqtrade==2026.9", "gymnasium==1.4.0"),)),
    "elegantrl": Environment(((TORCH,), ("numpy==2.4.6", "pandas==3.1.1"), ("--no-deps", "elegantrl==0.3.6"))),
    "torchrl": Environment(((TORCH,), ("torchrl==0.14.1",))),
    "sdk": Environment((("hyperliquid-python-sdk==0.24.0", "numpy==2.4.6"),)),
    "onnxruntime": Environment((("onnxruntime==1.32.0", "onnx==1.23.2"),)),
    "textual-plot": Environment((("textual==8.2.8", "textual-plot==0.10.1"),)),
    "sb3": Environment(((TORCH,), ("stable-baselines3==2.9.2", "sb3-contrib==2.9.2", "gymnasium==1.4.0"))),
}


def make(folder: Path, name: str) -> str | None:
    """Make one environment unless it is there; None, or the last line of what went wrong."""
    home, wanted = folder / name, repr(ENVIRONMENTS[name].steps)
    mark = home / MARK
    if mark.exists() and mark.read_text() == wanted:
        return None
    if home.exists():
        shutil.rmtree(home)
    venv.create(home, with_pip=True)
    for step in ENVIRONMENTS[name].steps:
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *step]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(home)
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            return lines[-1] if lines else f"pip left with exit code {done.returncode}"
    mark.write_text(wanted)
    return None


def main(arguments: Sequence[str]) -> int:
    """Make all, or those named; 0 where all could be made, 1 where some could not, 2 for bad usage."""
    folders = [one for one in arguments[:1] if not one.startswith("-")]
    if not folders or (unknown := [name for name in arguments[1:] if name not in ENVIRONMENTS]):
        what = f"unknown {unknown[0]!r}" if folders else "no folder given"
        sys.stderr.write(f"environments: {what}; usage: FOLDER [{'|'.join(ENVIRONMENTS)}]...\n")
        return 2
    folder = Path(folders[0])
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in arguments[1:] or ENVIRONMENTS:
        problem = make(folder, name)
        failed += problem is not None
        sys.stdout.write(f"{name}: {problem or 'ready'}\n")
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
