"""`backtest --coin --from --to`: bars and funding of the history store, as the same rows in a file would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aml100.cli.main import main
from aml100.domain.units import HOUR_MS, MINUTE_MS, iso_utc

START = 1_751_241_600_000  # 2025-06-30
BARS = 1_500


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(4)
    close = np.round(60_000 * np.exp(np.cumsum(rng.normal(0, 0.0015, BARS))), 0)
    opening = np.concatenate([[60_000.0], close[:-1]])
    bars = pd.DataFrame(
        {
            "time": START + np.arange(BARS) * MINUTE_MS,
            "open": opening,
            "high": np.maximum(opening, close) + 5.0,
            "low": np.minimum(opening, close) - 5.0,
            "close": close,
            "volume": 1.0,
        }
    )
    funding = pd.DataFrame({"time": START + np.arange(0, 25, 8) * HOUR_MS, "rate": [0.002, -0.001, 0.003, 0.001]})
    paths = tmp_path / "hyperliquid_perp_BTC_1m.csv", tmp_path / "hyperliquid_funding_BTC.csv"
    bars.to_csv(paths[0], index=False)
    funding.to_csv(paths[1], index=False)
    return paths


def metrics(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["backtest", "--policy", "random", "--seed", "3", "--warmup-bars", "300", "--json", *arguments]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_span_of_the_store_is_back_tested_as_the_same_rows_of_a_file(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bars, funding = files
    state = ["--state", str(tmp_path / "state.db")]
    assert main(["import", str(bars), str(funding), *state]) == 0
    capsys.readouterr()
    first, last = START + 60 * MINUTE_MS, START + 1_400 * MINUTE_MS
    span = ["--from", iso_utc(first), "--to", str(last)]
    stored = metrics(capsys, "--coin", "BTC", *span, *state)
    filed = metrics(capsys, "--data", str(bars), "--funding", str(funding), *span, *state)
    assert stored["bars"] == filed["bars"] == 1_340
    assert (stored["start"], stored["end"]) == (filed["start"], filed["end"])
    for name in ("final_equity", "trades", "funding_usd", "fees_usd", "max_drawdown_pct"):
        assert stored[name] == filed[name], name
    assert stored["funding_usd"] != 0
    assert stored["data_origin"] == "hyperliquid:mainnet"
    unfunded = metrics(capsys, "--data", str(bars), *span, *state)
    assert unfunded["funding_usd"] != stored["funding_usd"], "without a history the configured rate is charged"
    given = metrics(capsys, "--coin", "BTC", "--funding", str(funding), *span, *state)
    assert given["funding_usd"] == stored["funding_usd"]


def test_what_the_store_does_not_have_is_said(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(tmp_path / "state.db")]
    assert main(["import", str(files[0]), *state]) == 0
    for arguments, words in (
        (["--coin", "ETH"], "no 1m of ETH"),
        (["--coin", "BTC", "--interval", "1h"], "no 1h of BTC"),
        (["--coin", "BTC", "--network", "testnet"], "no 1m of BTC"),
        (["--coin", "BTC", "--from", "2030-01-01"], "no bar of BTC in that span"),
        (["--coin", "BTC", "--funding", str(files[1]), str(files[1])], "--funding: 2 given for 1 coins"),
        ([], "no bars"),
    ):
        capsys.readouterr()
        assert main(["backtest", "--policy", "flat", *arguments, *state]) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
