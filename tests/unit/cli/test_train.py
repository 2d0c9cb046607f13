"""`train` tells what it does: on a terminal, in a pipe, as JSON, stopped and taken up again."""

from __future__ import annotations

import io
import json
import re
import signal
import sys
from pathlib import Path

import pytest

from aml100.cli import progress as drawing
from aml100.cli import train as command_train
from aml100.cli.main import main
from aml100.cli.progress import Progress, training_notes
from aml100.learning.jobs import TrainingProgress
from tests.harness import write_bars
from tests.unit.learning.planted import mean_reverting

EPOCHS = 3


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A day and a half of minutes and a very small network."""
    for name, value in (
        ("MODEL__LSTM_HIDDEN", "4"), ("MODEL__LSTM_LAYERS", "1"), ("TRAINING__STRETCH_BARS", "64"),
        ("TRAINING__BATCH_STRETCHES", "8"),
    ):  # fmt: skip
        monkeypatch.setenv(f"AML100_{name}", value)
    monkeypatch.setattr(drawing, "PIPE_EVERY_S", 0.0)
    monkeypatch.setattr(drawing, "TERMINAL_EVERY_S", 0.0)
    monkeypatch.setenv("COLUMNS", "80")
    series = mean_reverting(2200, 1)
    path = write_bars(tmp_path / "BTC.parquet", series)
    return ["train", "--data", str(path), "--epochs", str(EPOCHS), "--seed", "3", "--out", str(tmp_path / "out")]


def test_a_pipe_is_told_epoch_time_left_losses_money_and_rates(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    sick = [one["name"] for one in document["health"] if not one["healthy"]]
    assert document["healthy"] is (not sick)
    first, *lines = [line for line in said.err.splitlines() if line.startswith("training")]
    assert first == "training on 2,200 bars of BTC, seed 3: laying the bars out"
    assert "epoch 0/3 0%; loss n/a" in lines[0]  # nothing is known of the time left, and nothing is said of it
    told = re.compile(
        r"training, epoch 2/3 67%, \d+ s left; loss \d\.\d{4}  kept score [+-]\d\.\d{4} \(epoch \d\)  "
        r"validation [+-]\d+\.\d\d%, \d+ trades; "
        r"learning rate \d\.\de-\d\d  epsilon [01]\.\d\d  HOLD \d+% BUY \d+% SELL \d+%$"
    )
    assert any(told.match(line) for line in lines)


def test_an_unsound_model_is_named_in_the_last_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    sick = [one["name"] for one in document["health"] if not one["healthy"]]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"trained for \d+ s on {'a GPU' if document['device'] == 'cuda' else 'the CPU'}", lines[1])
    assert sick, "three epochs on a day and a half should not have made a sound model"
    assert lines[-1] == f"an engine would not promote it: {', '.join(sick)}"
    assert sum(line.startswith("  BAD ") for line in lines) == len(sick)


class Screen(io.StringIO):
    """stderr as a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_of_80_columns_gets_three_rows_that_do_not_wrap(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    assert main(command) == 0
    paintings = [
        [row.strip("\r") for row in re.sub(r"\x1b\[1?\d?[AJ]", "", one).split("\n")]
        for one in screen.getvalue().split("\r\x1b[J")
    ]
    assert max(len(row) for rows in paintings for row in rows) < 80
    full = [rows for rows in paintings if len(rows) == 3]
    assert len(full) >= EPOCHS
    assert full[-1][0].startswith(f"[{'#' * drawing.BAR_CELLS}] training, epoch 3/3 100%")
    assert full[-1][2].startswith("learning rate ")
    assert screen.getvalue().endswith("\r\x1b[J")  # the last painting is wiped away


def test_what_is_told_fits_80_columns() -> None:
    class Seen:
        net_return, trades = -1.2345, 1234
        hold_share, buy_share, sell_share = 1.0, 0.1, 0.1

    seen = TrainingProgress(
        499, 500, 1, 1, 0.1234, Seen(), 499, -1.2345, 8e-5, 1.0, 1.0, 1.0, member=2, members=5  # type: ignore[arg-type]
    )  # fmt: skip
    assert max(len(row) for row in training_notes(seen)) < 80


def test_ctrl_c_leaves_stdout_to_json_and_the_resumed_model_is_the_same(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*command, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)

    class Impatient(Progress):
        def show(self, done: int, *_: object) -> None:
            if done == 1:
                signal.raise_signal(signal.SIGINT)

    again = [*command[:-1], str(tmp_path / "again"), "--json"]
    with monkeypatch.context() as patched:
        patched.setattr(command_train, "Progress", Impatient)
        assert main(again) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == "stopped after epoch 1; the same command with --resume goes on"
    assert main([*again, "--resume"]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert (resumed["model"], resumed["updates"]) == (whole["model"], whole["updates"])
    first, second = (Path(one["path"], "weights.safetensors").read_bytes() for one in (whole, resumed))
    assert first == second


def test_a_back_test_counts_the_trials_written_down_beside_its_model_e7(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is asked from: the state file there need not know of them."""
    for seed in ("3", "4", "5"):
        assert main([*command, "--epochs", "1", "--seed", seed, "--json"]) == 0
    place = json.loads(capsys.readouterr().out.splitlines()[-1])["path"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["backtest", "--data", command[2], "--model", place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 3
