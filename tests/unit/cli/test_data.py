"""`import` puts bars into the store and tells gaps and duplicates; `history` tells what is held."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aml100.cli.main import main

HOUR = 3_600_000
START = 1_751_241_600_000  # 2025-06-30


def write_bars(path: Path, hours: list[int]) -> Path:
    rows = [f"{START + hour * HOUR},100,101,99,100.5,7" for hour in hours]
    path.write_text("\n".join(["time,open,high,low,close,volume", *rows]) + "\n")
    return path


def test_import_then_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_bars(tmp_path / "ETH_1h.csv", [0, 1, 1, 2, 5, 6])
    state = str(tmp_path / "state.db")
    assert main(["import", str(file), "--state", state, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    gap = [START + 3 * HOUR, START + 5 * HOUR]
    assert (report["coin"], report["interval"], report["rows"], report["added"]) == ("ETH", "1h", 5, 5)
    assert (report["duplicates"], report["gaps"]) == (1, [gap])

    assert main(["history", "--state", state, "--json"]) == 0
    (held,) = json.loads(capsys.readouterr().out)
    assert {key: held[key] for key in ("coin", "interval", "first_ms", "last_ms", "rows", "gaps")} == {
        "coin": "ETH",
        "interval": "1h",
        "first_ms": START,
        "last_ms": START + 6 * HOUR,
        "rows": 5,
        "gaps": [gap],
    }
    assert main(["history", "--state", state]) == 0
    assert "2025-06-30T00:00:00Z" in capsys.readouterr().out


def test_import_says_in_words_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_bars(tmp_path / "BTC_1h.csv", [0, 1, 2, 5, 6])
    assert main(["import", str(file), "--state", str(tmp_path / "state.db")]) == 0
    assert "1 gap (2 missing)" in capsys.readouterr().out


def test_history_of_one_coin_and_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = str(tmp_path / "state.db")
    for coin in ("BTC", "ETH"):
        assert main(["import", str(write_bars(tmp_path / f"{coin}.csv", [0, 1, 2])), "--state", state, "--json"]) == 0
    capsys.readouterr()
    assert main(["history", "--coin", "BTC", "--state", state, "--json"]) == 0
    assert [one["coin"] for one in json.loads(capsys.readouterr().out)] == ["BTC"]
    assert main(["history", "--state", str(tmp_path / "other" / "state.db"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_file_that_cannot_be_used_is_exit_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "BTC.csv"
    file.write_text("time,open,high,low,close,volume\n1751241600000,100,90,99,100,1\n1751245200000,1,1,1,1,1\n")
    assert main(["import", str(file), "--state", str(tmp_path / "state.db")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(file) in error
    assert "row 2" in error
