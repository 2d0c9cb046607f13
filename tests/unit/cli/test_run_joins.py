"""`run` finds an engine on its state: it joins the one that was asked for, and no other."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
PATIENCE_S = 60.0


def bars(path: Path, price: int) -> Path:
    rows = [f"{1_751_241_600_000 + n * 60_000},{price},{price},{price},{price},1" for n in range(600)]
    path.write_text("\n".join(["time,open,high,low,close,volume", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An engine that replays BTC.csv, slowly."""
    folder = tmp_path_factory.mktemp("joins")
    bars(folder / "BTC.csv", 100)
    bars(folder / "other.csv", 101)
    command = [sys.executable, "-m", "aml100", "run", "--no-tui", "--json", "--data", "BTC.csv", "--policy", "flat"]
    engine = subprocess.Popen(
        [*command, "--seed", "3"], cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert engine.stdout is not None
    assert json.loads(engine.stdout.readline())["type"] == "started"
    yield folder
    engine.terminate()
    engine.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "4"], "--seed 4: the engine on state.db runs with 3"),
        (["--data", "other.csv"], "other.csv: the engine on state.db runs with "),
        (["--process", "random-walk"], "--process random-walk: the engine on state.db runs without it"),
        (["--warmup-bars", "200"], "--warmup-bars 200: the engine on state.db runs with 300"),
        (["--duration", "5s"], "--duration 5.0: the engine on state.db runs without it"),
        (["--cycles", "3"], "--cycles 3: the engine on state.db runs without it"),
        (["--coin", "ETH"], "--coin ETH: the engine on state.db runs with BTC"),
        (["--seed", "3", "--policy", "random"], "--policy random: the engine on state.db runs with flat"),
    ],
)
def test_an_engine_that_runs_otherwise_is_not_joined(folder: Path, options: list[str], words: str) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "aml100", "run", *options],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert words in line
    assert line.endswith("; allowed: the options it was started with, none, or another --state")


def test_the_options_it_was_started_with_are_the_same_engine_s(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aml100.cli import options as o
    from aml100.cli.parsing import parse_options
    from aml100.cli.run import _check_agreement

    monkeypatch.chdir(folder)
    line = [
        "--data",
        "./BTC.csv",
        "--seed",
        "3",
        "--warmup-bars",
        "300",
        "--policy",
        "flat",
        "--coin",
        "BTC",
        "--speed",
        "1",
    ]
    options = parse_options(o.RunOptions, "run", "start", line)
    assert isinstance(options, o.RunOptions)
    _check_agreement(options)
