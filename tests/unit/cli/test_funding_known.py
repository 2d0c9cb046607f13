"""Funding that a file does not hold: charged at the configured rate, and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aml100.cli.main import main
from aml100.domain.units import HOUR_MS

START = 1_704_067_200_000
HOURS = 200
KNOWN = 151
HELD = range(101, HOURS)
"""Hours at which a position is held that was opened a quarter of an hour after bar 400 of 15 minutes."""
SETTLED, ASSUMED = -40 * 100 * 0.001, -40 * 100 * 0.0001 / 8  # of 40 coins at 100 USD, per hour
NOTE = "settled rates for 151 of 200 hours (75.5 %); 0.01 % per 8 h assumed for the other 49"

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    """A market that stands still at 100."""
    rows = [f"{START + n * HOUR_MS // 4},100,100,100,100,1" for n in range(HOURS * 4)]
    path = tmp_path / "X.csv"
    path.write_text("\n".join(["time,open,high,low,close,volume", *rows]) + "\n")
    return path


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """0.1 % an hour, up to hour 150."""
    rows = [f"{START + hour * HOUR_MS},0.001" for hour in range(KNOWN)]
    path = tmp_path / "rates.csv"
    path.write_text("\n".join(["time,rate", *rows]) + "\n")
    return path


@pytest.fixture
def ask(bars: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def answer(*arguments: object) -> dict[str, Any]:
        given = ["backtest", "--data", str(bars), "--warmup-bars", "400", "--json", *map(str, arguments)]
        assert main(given) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return answer


def test_hours_without_a_rate_pay_the_configured_one(ask: Ask, rates: Path) -> None:
    """Through the core, and on the compiled path that the baselines take."""
    paid = sum(SETTLED if hour < KNOWN else ASSUMED for hour in HELD)
    found = ask("--policy", "buy-and-hold", "--funding", rates)
    assert found["funding_usd"] == pytest.approx(paid)
    assert (found["funding_known_share"], found["funding_note"]) == (0.755, NOTE)
    compiled = ask("--policy", "flat", "--funding", rates)["baselines"]["buy-and-hold"]
    assert compiled["funding_usd"] == pytest.approx(paid)


def test_without_simulated_funding_they_pay_nothing_and_that_is_said(
    ask: Ask, rates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AML100_BACKTEST__FUNDING_RATE_SIM", "false")
    found = ask("--policy", "buy-and-hold", "--funding", rates)
    assert found["funding_usd"] == pytest.approx(SETTLED * sum(hour < KNOWN for hour in HELD))
    assert found["funding_note"].endswith("; nothing charged for the other 49")


def test_without_a_file_every_hour_is_an_assumption(ask: Ask) -> None:
    found = ask("--policy", "buy-and-hold")
    assert found["funding_usd"] == pytest.approx(ASSUMED * len(HELD))
    assert found["funding_known_share"] == 0.0
    assert found["funding_note"] == "settled rates for 0 of 200 hours (0 %); 0.01 % per 8 h assumed for the other 200"


def test_a_whole_file_leaves_nothing_to_assume(ask: Ask, rates: Path) -> None:
    with rates.open("a") as file:
        file.writelines(f"{START + hour * HOUR_MS},0.001\n" for hour in range(KNOWN, HOURS))
    found = ask("--policy", "buy-and-hold", "--funding", rates)
    assert found["funding_usd"] == pytest.approx(SETTLED * len(HELD))
    assert (found["funding_known_share"], found["funding_note"]) == (1.0, "settled rates for 200 of 200 hours")


def test_people_are_told_too(
    bars: Path, rates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--data", str(bars), "--funding", str(rates)]
    assert main(["backtest", *given, "--policy", "flat", "--out", str(tmp_path / "out")]) == 0
    assert NOTE in capsys.readouterr().out
    assert NOTE in (tmp_path / "out" / "report.html").read_text()
    for name, value in (("LSTM_HIDDEN", 4), ("LSTM_LAYERS", 1)):
        monkeypatch.setenv(f"AML100_MODEL__{name}", str(value))
    assert main(["train", *given, "--epochs", "1", "--out", str(tmp_path / "model")]) == 0
    assert NOTE in capsys.readouterr().out
