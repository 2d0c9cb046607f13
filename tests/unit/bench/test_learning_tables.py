"""What is asked for wrongly gets one line and exit code 2, before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from aml100.bench import learning_tables


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "usage: seeds|sweep|walks|devices [NUMBER], real|earlier|levers|peers|earlier-peers [NUMBER] [SET]"),
        ("nosuch", "usage: "),
        ("seeds 1 2", "usage: "),
        ("real 1 2 3", "usage: "),
        ("seeds x", "NUMBER 'x' is refused; allowed: a whole number of at least 1"),
        ("walks 0", "NUMBER '0' is refused"),
        ("sweep -1", "NUMBER '-1' is refused"),
        ("peers 1.5", "NUMBER '1.5' is refused"),
        ("real 1 nosuch", "SET 'nosuch' is refused; allowed: the start of one of: hyperliquid_perp 15m"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hyperliquid_perp_BTC_15m.parquet").touch()
    monkeypatch.setattr(learning_tables, "REAL_FOLDER", tmp_path)
    assert learning_tables.main(arguments.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1


def test_a_folder_without_bars_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learning_tables, "REAL_FOLDER", tmp_path)
    assert learning_tables.main(["real"]) == 2
    assert capsys.readouterr().err.endswith(f"allowed: none, {tmp_path} holds no bars\n")
