"""A back-test rebuilt from its fills and the bars by a few lines of pandas, which know nothing of our ledger.

Cash accounting: what was paid and received for coins, fees and funding, and what the coins held are worth at the close.
"""

from __future__ import annotations

import json
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from aml100.cli.main import main

ROWS = 8_000
HOUR = 3_600_000
SLIPPAGE = 0.0001


def truncated(amount: float) -> float:
    return float(Decimal(repr(round(amount, 12))).quantize(Decimal("0.000001"), ROUND_DOWN))


@pytest.fixture(scope="module", params=["momentum", "mean-reversion", "random"])
def run(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    market = shared / "data" / "market"
    folder = tmp_path_factory.mktemp("run")
    path = folder / "hyperliquid_perp_BTC_5m.parquet"
    pq.write_table(pq.read_table(market / path.name).slice(0, ROWS), path)
    funding = market / "hyperliquid_funding_BTC.parquet"
    arguments = ["--data", path, "--funding", funding, "--policy", request.param, "--out", folder / "out"]
    assert main(["backtest", *map(str, arguments), "--json"]) == 0
    rates = pd.read_parquet(funding).set_index("time")["rate"]
    return {
        "bars": pd.read_parquet(path).set_index("time"),
        "rates": rates,
        "metrics": json.loads((folder / "out" / "metrics.json").read_text()),
        **{name: pd.read_csv(folder / "out" / f"{name}.csv") for name in ("fills", "trades", "equity")},
    }


def rebuilt(run: dict[str, object]) -> pd.DataFrame:
    """By bar: position at the close, funding and fees so far, cash and equity."""
    bars, rates, fills, trades = run["bars"], run["rates"], run["fills"].copy(), run["trades"]
    fills["signed"] = np.where(fills["side"] == "buy", 1.0, -1.0) * fills["size"]
    # A stop or target inside a bar is stamped with the bar's end, which is the open of the next one: it belongs to the
    # earlier bar where that bar's range reached its level.
    protective = trades.loc[trades["exit_reason"].isin(["stop_loss", "take_profit", "end"])]
    slipped = np.where(fills["side"] == "buy", 1 + SLIPPAGE, 1 - SLIPPAGE)
    earlier = bars.reindex(fills["time"] - 300_000)
    reached = np.zeros(len(fills), bool)
    for level in (fills["price"].to_numpy() / slipped, fills["price"].to_numpy()):
        reached |= (earlier["low"].to_numpy() - 1e-6 <= level) & (level <= earlier["high"].to_numpy() + 1e-6)
    exits = fills["signed"].cumsum().abs() < 1e-9
    inside = fills["time"].isin(set(protective["exit_time"])) & exits & reached
    fills["bar"] = np.where(inside, fills["time"] - 300_000, fills["time"])
    by_bar = fills.groupby("bar").agg(
        signed=("signed", "sum"),
        spent=("signed", lambda s: float((s * fills.loc[s.index, "price"]).sum())),
        fees=("fee_usd", "sum"),
    )
    table = bars[["open", "close"]].join(by_bar).fillna({"signed": 0.0, "spent": 0.0, "fees": 0.0})
    table["position"] = table["signed"].cumsum().round(9)
    held = table["position"].shift(1, fill_value=0.0)
    charged = pd.Series(table.index % HOUR == 0, table.index)
    amounts = -held * table["open"] * rates.reindex(table.index).fillna(0.0)
    table["funding"] = [truncated(a) if on and a else 0.0 for a, on in zip(amounts, charged, strict=True)]
    table["cash"] = 10_000.0 - table["spent"].cumsum() - table["fees"].cumsum() + table["funding"].cumsum()
    table["equity"] = table["cash"] + table["position"] * table["close"]
    return table


def test_equity_position_fees_and_funding_are_what_the_fills_say(run: dict[str, object]) -> None:
    table, equity, metrics = rebuilt(run), run["equity"], run["metrics"]
    assert len(run["fills"]) >= 50
    np.testing.assert_array_equal(table.index, equity["time"])
    np.testing.assert_allclose(table["position"], equity["position"], atol=1e-9)
    np.testing.assert_allclose(table["equity"], equity["equity"], rtol=1e-9)
    assert table["fees"].sum() == pytest.approx(metrics["fees_usd"], abs=1e-6)
    assert table["funding"].sum() == pytest.approx(metrics["funding_usd"], abs=1e-6)
    assert table["equity"].iloc[-1] == pytest.approx(metrics["final_equity"], rel=1e-9)
    peak = np.maximum(table["equity"].cummax(), 10_000.0)
    assert ((1 - table["equity"] / peak) * 100).max() == pytest.approx(metrics["max_drawdown_pct"], rel=1e-9)


def test_trades_are_the_fills_from_flat_to_flat(run: dict[str, object]) -> None:
    fills, trades, metrics = run["fills"], run["trades"], run["metrics"]
    signed = np.where(fills["side"] == "buy", 1.0, -1.0) * fills["size"]
    number = (pd.Series(signed).cumsum().round(9) == 0).shift(fill_value=False).cumsum()
    grouped = fills.assign(signed=signed, cash=-signed * fills["price"]).groupby(number)
    assert len(trades) == grouped.ngroups
    net = grouped["cash"].sum() - grouped["fee_usd"].sum()
    np.testing.assert_allclose(net.to_numpy() + trades["funding_usd"], trades["pnl_usd"], atol=1e-7)
    np.testing.assert_allclose(grouped["fee_usd"].sum(), trades["fees_usd"], atol=1e-9)
    np.testing.assert_allclose(grouped["price"].first(), trades["entry_price"], rtol=1e-12)
    np.testing.assert_allclose(grouped["price"].last(), trades["exit_price"], rtol=1e-12)
    np.testing.assert_array_equal(grouped["time"].first(), trades["entry_time"])
    np.testing.assert_allclose(
        trades["pnl_usd"] / (trades["entry_price"] * trades["size"]) * 100, trades["return_pct"], rtol=1e-9
    )
    assert trades["funding_usd"].sum() == pytest.approx(metrics["funding_usd"], abs=1e-6)
    assert trades["pnl_usd"].sum() == pytest.approx(metrics["final_equity"] - 10_000.0, rel=1e-9)
    lost = trades.loc[trades["pnl_usd"] < 0, "pnl_usd"].sum()
    assert metrics["profit_factor"] == pytest.approx(-trades.loc[trades["pnl_usd"] > 0, "pnl_usd"].sum() / lost)


def test_stops_and_targets_are_where_the_rules_put_them(run: dict[str, object]) -> None:
    """Each exit by hand from the entry's fill: levels, the open beyond a stop, the first touch."""
    bars, trades = run["bars"], run["trades"]
    sign = np.where(trades["side"] == "buy", 1.0, -1.0)
    stopped = trades["exit_reason"] == "stop_loss"
    level = (trades["entry_price"] * (1 - sign * 0.006)).map(lambda p: float(f"{p:.5g}"))
    opens = bars["open"].reindex(trades["exit_time"]).to_numpy()
    beyond = stopped & (((opens <= level) & (sign > 0)) | ((opens >= level) & (sign < 0)))
    wanted = np.where(beyond & np.isclose(trades["exit_price"], opens * (1 - sign * SLIPPAGE)), opens, level)
    np.testing.assert_allclose(
        trades.loc[stopped, "exit_price"], (wanted * (1 - sign * SLIPPAGE))[stopped.to_numpy()], rtol=1e-12
    )
    reached = trades["exit_reason"] == "take_profit"
    target = (trades["entry_price"] * (1 + sign * 0.018)).map(lambda p: float(f"{p:.5g}"))
    np.testing.assert_allclose(trades.loc[reached, "exit_price"], target[reached], rtol=1e-12)
    assert stopped.sum() > 10
    for _, one in trades[stopped | reached].iterrows():
        last = int(one["exit_time"]) - (0 if one["exit_time"] == one["entry_time"] else 300_000)
        before = bars.loc[int(one["entry_time"]) : last - 300_000]
        side = 1.0 if one["side"] == "buy" else -1.0
        stop, goal = (float(f"{one['entry_price'] * (1 + side * d):.5g}") for d in (-0.006, 0.018))
        assert not ((before["low"] <= stop) if side > 0 else (before["high"] >= stop)).any()
        assert not ((before["high"] >= goal) if side > 0 else (before["low"] <= goal)).any()


def test_resting_entries_pay_the_maker_s_fee_and_are_traded_through(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that rest for a bar, then take, under a trailing stop: fees, prices and the balance by hand."""
    monkeypatch.setenv("AML100_TRADING__ENTRY_STYLE", "maker_then_taker")
    monkeypatch.setenv("AML100_TRADING__TRAILING_STOP_PCT", "0.5")
    path, out = tmp_path / "hyperliquid_perp_BTC_5m.parquet", tmp_path / "out"
    pq.write_table(pq.read_table(shared / "data" / "market" / path.name).slice(0, ROWS), path)
    assert main(["backtest", "--data", str(path), "--policy", "mean-reversion", "--out", str(out), "--json"]) == 0
    bars, metrics = pd.read_parquet(path).set_index("time"), json.loads((out / "metrics.json").read_text())
    fills, trades = pd.read_csv(out / "fills.csv"), pd.read_csv(out / "trades.csv")
    signed = np.where(fills["side"] == "buy", 1.0, -1.0) * fills["size"]
    share = fills["liquidity"].map({"maker": 0.00015, "taker": 0.00045})
    paid = [truncated(amount) for amount in fills["price"] * fills["size"] * share]
    np.testing.assert_allclose(fills["fee_usd"], paid, atol=1.1e-6)
    resting = fills[fills["liquidity"] == "maker"]
    entries = set(zip(trades["entry_time"], trades["entry_price"], strict=True))
    assert all((one["time"], one["price"]) in entries for _, one in resting.iterrows())
    assert 50 < len(resting) < len(trades)
    for _, one in resting.iterrows():  # at a close, and beyond it in the bar that fills: the one after, from its open
        decided = [t for t in (one["time"] - 600_000, one["time"] - 300_000) if bars["close"].get(t) == one["price"]]
        after = bars.loc[[t + 300_000 for t in decided]]
        through = after["low"] < one["price"] if one["side"] == "buy" else after["high"] > one["price"]
        assert through.any()
    spent, fees = float((signed * fills["price"]).sum()), float(fills["fee_usd"].sum())
    assert signed.sum() == pytest.approx(0.0, abs=1e-9)
    assert metrics["final_equity"] == pytest.approx(10_000.0 - spent - fees + metrics["funding_usd"], rel=1e-9)
    assert metrics["fees_usd"] == pytest.approx(fees, abs=1e-6)
