"""What was there when trading began is walked by the garbage collector no more."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aml100.domain.events import StateChanged, TradingState
from aml100.engine.collector import SparesTheStart, start_spared


@pytest.fixture(autouse=True)
def unspared() -> Iterator[None]:
    """As others of this process may have left it, and as they shall find it."""
    gc.unfreeze()
    yield
    gc.unfreeze()


COUNTING = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count(), file=sys.stderr))
from aml100.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_is_spared_once_and_when_trading_begins() -> None:
    listener = SparesTheStart()
    listener.on_record(StateChanged(TradingState.HALTED, "latched", 1))
    listener.on_event("started", {})
    assert gc.get_freeze_count() == 0, "history is yet to come"
    listener.on_record(StateChanged(TradingState.TRADING, "", 2))
    assert gc.get_freeze_count() > 10_000
    gc.unfreeze()
    listener.on_record(StateChanged(TradingState.TRADING, "resumed", 3))
    assert gc.get_freeze_count() == 0, "what came since may become garbage"


def test_a_process_that_goes_on_gets_its_objects_back() -> None:
    with start_spared():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_a_running_engine_has_spared_its_modules_and_history(tmp_path: Path) -> None:
    line = ["run", "--no-tui", "--policy", "flat", "--speed", "600", "--duration", "1s"]
    command = [sys.executable, "-c", COUNTING, *line, "--state", str(tmp_path / "state.db")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(ended.stderr.split()[-1]) > 50_000
