"""B14: what a back-test pays for funding is what the venue's own rates, hour by hour, charge for the same position."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest


def test_b14_simulated_funding_agrees_with_the_recorded_rates(shared: Path, tmp_path: Path) -> None:
    """Real hourly bars and rates of Hyperliquid; the position is read from the back-test's own fills."""
    market = shared / "data" / "market"
    bars = pd.read_parquet(market / "hyperliquid_perp_BTC_1h.parquet").iloc[:1500]
    rates = pd.read_parquet(market / "hyperliquid_funding_BTC.parquet")
    data, out = tmp_path / "BTC_1h.parquet", tmp_path / "out"
    bars.to_parquet(data)
    command = [sys.executable, "-m", "aml100", "backtest", "--data", str(data), "--policy", "buy-and-hold", "--json"]
    files = ["--funding", str(market / "hyperliquid_funding_BTC.parquet"), "--out", str(out), "--warmup-bars", "200"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with (out / "fills.csv").open() as file:
        entry, leave = list(csv.DictReader(file))
    held = (bars["time"] > int(entry["time"])) & (bars["time"] <= int(leave["time"]))
    paid_on = bars[held].merge(rates, on="time")
    assert len(paid_on) > 1200
    recorded = -(float(entry["size"]) * paid_on["open"] * paid_on["rate"]).sum()
    simulated = json.loads(done.stdout)["funding_usd"]
    assert recorded != 0
    assert simulated == pytest.approx(recorded, rel=0.01)
