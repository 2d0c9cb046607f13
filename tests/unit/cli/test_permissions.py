"""Files and folders that may not be read or written: what can be done is done, the rest is one line and exit code 2."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from aml100.domain.events import LedgerPosted
from aml100.storage.database import Database

BARS = ["time,open,high,low,close,volume", *(f"{1_751_241_600_000 + n * 60_000},100,101,99,100,1" for n in range(120))]
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2

pytestmark = pytest.mark.skipif(
    os.geteuid() == 0 and not sys.platform.startswith("linux"), reason="nothing is closed to this user"
)


def as_anybody() -> None:
    """Root gives up what lets it past every mode; others have nothing to give up."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def ask(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """The command's exit code, its output, and its last line on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "aml100", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=as_anybody,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, (done.stderr.splitlines() or [""])[-1]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A sound state, bars and settings in a folder that may be read and not written, but for what is closed whole."""
    folder = tmp_path / "closed"
    folder.mkdir()
    with Database.open(folder / "state.db", "NORMAL", "sim", "0x1", "venue") as database:
        database.journal([LedgerPosted(1, "deposit", None, Decimal(10_000), "deposit")]).result()
    (folder / "bars.csv").write_text("\n".join(BARS) + "\n")
    (folder / "locked").mkdir()
    for name, mode in (("state.db", 0o444), ("bars.csv", 0o000), ("locked", 0o000), (".", 0o555)):
        (folder / name).chmod(mode)
    yield folder
    for name in (".", "locked"):
        (folder / name).chmod(0o755)


def test_a_sound_state_that_may_only_be_read_is_read(closed: Path) -> None:
    code, out, _ = ask(closed, "verify", "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)
    assert ask(closed, "why", "--json")[0] == 0
    copy = closed.parent / "copy.db"
    assert ask(closed, "backup", str(copy))[0] == 0
    assert copy.is_file()
    assert sorted(path.name for path in closed.iterdir()) == ["bars.csv", "locked", "state.db"]


def test_what_has_to_write_says_that_it_cannot_and_not_that_the_state_is_damaged(closed: Path) -> None:
    code, _, line = ask(closed, "resume")
    assert (code, line) == (2, "state.db: cannot be written (attempt to write a readonly database)")
    code, out, _ = ask(closed, "doctor", "--json")
    disk = next(one for one in json.loads(out)["checks"] if one["name"] == "disk")
    assert (code, disk["state"], disk["detail"]) == (0, "WARN", ". cannot be written")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("backtest --policy flat --data bars.csv", "bars.csv: cannot be read (Permission denied)"),
        ("import bars.csv", "bars.csv: cannot be read (Permission denied)"),
        ("config show --config locked", "locked/params.json: cannot be read: Permission denied"),
        ("config init --config locked", "locked/params.json: cannot be read: Permission denied"),
        ("verify --state locked/state.db", "locked/state.db: cannot be read (Permission denied); left untouched"),
        ("phases locked", "locked: cannot be read (Permission denied); allowed: a folder of yours"),
    ],
)
def test_what_may_not_be_read_is_named(closed: Path, line: str, words: str) -> None:
    assert ask(closed, *line.split())[::2] == (2, words)


def test_settings_behind_a_link_that_leads_nowhere_are_not_taken_for_defaults(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "params.json").symlink_to(tmp_path / "gone.json")
    code, _, line = ask(tmp_path, "config", "check")
    assert (code, line) == (2, "config/params.json: cannot be read: No such file or directory")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("backtest --policy flat --data ours.csv --out closed/locked/x", "closed/locked/x"),
        ("backtest --data ours.csv --state closed/locked/state.db", "closed/locked/state.db"),
        ("backtest --data ours.csv --model closed/locked/x", "closed/locked/x/bundle.json"),
        ("phases closed/locked/x", "closed/locked/x"),
        ("models list --state closed/locked/state.db", "closed/locked/state.db"),
        ("resume --state closed/locked/state.db", "closed/locked/HALT"),
        ("history --state closed/locked/state.db", "closed/locked/history"),
        ("run --no-tui --policy flat --duration 1s --state closed/locked/state.db", "closed/locked/state.db"),
        ("run --no-tui --policy flat --duration 1s --state ours.csv/state.db", "ours.csv"),
        (f"run --no-tui --policy flat --duration 1s --config {'x' * 300}", "x" * 300),
        (f"backtest --policy flat --data ours.csv --out {'x' * 300}", "x" * 300),
    ],
)
def test_a_path_that_cannot_be_used_is_bad_usage(closed: Path, line: str, path: str) -> None:
    """Behind a closed folder, through a file, too long."""
    (closed.parent / "ours.csv").write_text("\n".join(BARS) + "\n")
    code, _, said = ask(closed.parent, *line.split())
    assert (code, said.startswith(f"{path}: cannot be used (")) == (2, True), said


def test_a_link_in_place_of_a_folder_is_followed_or_refused(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text("\n".join(BARS) + "\n")
    back_test = ["backtest", "--policy", "flat", "--data", "bars.csv", "--out"]
    (tmp_path / "loop").symlink_to("loop")
    assert ask(tmp_path, *back_test, "loop")[::2] == (
        2,
        "loop: holds something else; allowed: a new or empty folder, or an earlier back-test",
    )
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):
        assert ask(tmp_path, *back_test, "link")[0] == 0
    assert (tmp_path / "real" / "metrics.json").is_file()
    assert (tmp_path / "link").is_symlink()
