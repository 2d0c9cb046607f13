"""`backtest --model` says which of its bars the model was made from, and claims nothing of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aml100.cli.main import main
from aml100.domain.units import iso_utc
from aml100.market.series import BarSeries
from tests.harness import write_bars
from tests.unit.learning.planted import mean_reverting

BARS, MADE_FROM = 4_000, 2_000
WARMUP = 300


@pytest.fixture(scope="module")
def series() -> BarSeries:
    return mean_reverting(BARS, 1)


@pytest.fixture(scope="module")
def bars(series: BarSeries, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bars(tmp_path_factory.mktemp("bars") / "BTC.parquet", series)


@pytest.fixture(scope="module")
def model(series: BarSeries, bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the first two thirds."""
    out, until = tmp_path_factory.mktemp("out"), str(int(series.open_ms[MADE_FROM]))
    assert main(["train", "--data", str(bars), "--to", until, "--epochs", "1", "--out", str(out)]) == 0
    (found,) = (out / "models").glob("m-*")
    return found


def judged(capsys: pytest.CaptureFixture[str], bars: Path, model: Path, *more: str) -> dict[str, object]:
    arguments = ["backtest", "--data", str(bars), "--model", str(model), "--warmup-bars", str(WARMUP), *more]
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_share_of_bars_that_the_model_was_made_from_is_a_figure(
    series: BarSeries, bars: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    until = int(series.open_ms[MADE_FROM])
    found = judged(capsys, bars, model)
    assert found["in_sample_share"] == pytest.approx((MADE_FROM - WARMUP) / (BARS - WARMUP))
    assert found["in_sample_until"] == until
    span = f"{iso_utc(int(series.open_ms[0]))} to {iso_utc(until)}"
    assert found["in_sample_note"] == f"the model was made from bars of {span}, 45.9% of these"


@pytest.mark.parametrize("way", ["--from", "--warmup-bars"])
def test_bars_behind_them_are_out_of_sample(
    way: str, series: BarSeries, bars: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warm-up may be of bars that were seen: nothing is traded there."""
    asked = str(int(series.open_ms[MADE_FROM])) if way == "--from" else str(MADE_FROM)
    found = judged(capsys, bars, model, way, asked)
    assert found["in_sample_share"] == 0.0
    assert str(found["in_sample_note"]).endswith("none of these")


def test_a_model_that_does_not_say_what_it_was_made_from_is_not_believed(
    bars: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = tmp_path / model.name
    older.mkdir()
    (older / "weights.safetensors").write_bytes((model / "weights.safetensors").read_bytes())
    record = json.loads((model / "bundle.json").read_text())
    del record["data_from_ms"], record["data_to_ms"]
    (older / "bundle.json").write_text(json.dumps(record))
    found = judged(capsys, bars, older)
    assert found["in_sample_share"] is None
    assert found["in_sample_note"] == "n/a (the model does not say what it was made from)"


def test_a_rule_is_made_from_no_bars(bars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", "--data", str(bars), "--policy", "momentum", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["in_sample_share"], found["in_sample_note"]) == (None, "n/a (no model)")


def test_models_show_says_it_for_people_and_for_scripts(
    series: BarSeries, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin, until = int(series.open_ms[0]), int(series.open_ms[MADE_FROM])
    assert main(["models", "show", str(model), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["data_from_ms"], document["data_to_ms"]) == (begin, until)
    assert main(["models", "show", str(model)]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"model {model.name} in {model}"
    made_from = f"BTC, 1m bars {iso_utc(begin)} to {iso_utc(until)} (file:BTC.parquet)"
    assert lines[0] == f"  made from   {made_from}"
    assert [line.split()[1].rstrip(":") for line in lines if line.startswith(("  ok ", "  BAD "))] == [
        finding["name"] for finding in document["health"]
    ]
