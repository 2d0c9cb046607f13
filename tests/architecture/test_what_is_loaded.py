"""What the import contracts cannot see: which libraries a running process really has in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_HEADLESS = """
import json, sys
from aml100.cli.main import main
code = main(sys.argv[1:])
json.dump({"code": code, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}, sys.stderr)
"""


def loaded_after(*arguments: str) -> set[str]:
    """Top-level packages in memory after a command that succeeded."""
    done = subprocess.run(
        [sys.executable, "-c", _HEADLESS, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    told = json.loads(done.stderr.splitlines()[-1])
    assert told["code"] == 0, done.stderr[-2000:]
    return set(told["loaded"])


def test_a_headless_engine_loads_no_textual(tmp_path: Path) -> None:
    state = str(tmp_path / "state.db")
    loaded = loaded_after("run", "--no-tui", "--policy", "flat", "--duration", "1s", "--state", state)
    assert "aml100" in loaded
    assert not loaded & {"textual", "rich"}


def test_the_engine_leaves_torch_to_the_trainer_where_no_model_decides(tmp_path: Path) -> None:
    state = str(tmp_path / "state.db")
    loaded = loaded_after("run", "--no-tui", "--policy", "momentum", "--duration", "1s", "--state", state)
    assert not loaded & {"torch", "pandas", "optuna"}


def test_help_and_configuration_load_nothing_heavy() -> None:
    heavy = {"torch", "pandas", "numba", "textual", "sqlmodel", "sqlalchemy", "aiohttp", "pyarrow"}
    assert not loaded_after("--help") & heavy
    assert not loaded_after("config", "show") & heavy
