"""`backtest` as a user runs it: figures, baselines, artefacts, the oracle, and the page."""

from __future__ import annotations

import csv
import errno
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from aml100.cli import backtest as command
from aml100.cli.main import main
from aml100.domain.units import Coin
from aml100.evaluation import artefacts
from aml100.sim.scenario import synthetic_series
from tests.harness import write_bars

METRICS = [  # from the contract, not from our own
    "initial_equity", "final_equity", "total_return_pct", "monthly_return_pct", "sharpe", "sharpe_hourly",
    "sharpe_days", "sharpe_stderr", "psr", "dsr", "trials", "sortino", "calmar", "max_drawdown_pct", "profit_factor",
    "win_rate_pct", "expectancy_usd", "trades", "trade_density_pct", "exposure_pct", "turnover", "fees_usd",
    "funding_usd", "slippage_usd", "action_distribution", "start", "end", "bars", "days", "policy", "model",
    "data_origin", "data_sha256", "baselines", "risk_checks",
]  # fmt: skip


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty days of quarter hours in regimes, so that there are daily returns enough for a Sharpe ratio."""
    series = synthetic_series("regimes", Coin("BTC"), 900_000, 1_704_067_200_000, 4_800, 7, 60_000.0)
    return write_bars(tmp_path_factory.mktemp("bars") / "BTC_made.parquet", series)


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert main(["backtest", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def out(bars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "run"
    assert main(["backtest", "--data", str(bars), "--policy", "mean-reversion", "--out", str(folder)]) == 0
    return folder


def test_metrics_have_the_names_of_the_contract_and_every_baseline(out: Path) -> None:
    found = json.loads((out / "metrics.json").read_text())
    assert set(METRICS) <= set(found)
    assert sorted(found["baselines"]) == ["buy-and-hold", "flat", "momentum", "random"]
    assert all(set(METRICS) - {"baselines"} <= set(one) for one in found["baselines"].values())
    assert found["baselines"]["flat"]["total_return_pct"] == 0.0
    assert found["baselines"]["random"]["trades"] == pytest.approx(found["trades"], rel=0.1)
    assert 0.0 <= found["luck"]["better_share"] <= 1.0
    assert found["trades"] > 50


def test_breakdown_and_costs_add_up_to_the_run(out: Path) -> None:
    found = json.loads((out / "metrics.json").read_text())
    for kind in ("exit_reason", "regime", "hour", "side"):
        parts = found["breakdown"][kind].values()
        assert sum(one["trades"] for one in parts) == found["trades"]
        assert sum(one["pnl_usd"] for one in parts) == pytest.approx(found["final_equity"] - 10_000.0, abs=1e-6)
    assert "unknown" not in found["breakdown"]["regime"]
    costs = found["costs"]
    taken = costs["taken_usd"]
    assert costs["gross_usd"] - taken["all"] == pytest.approx(costs["net_usd"])
    assert taken["fees"] == pytest.approx(found["fees_usd"])
    assert taken["all"] == pytest.approx(found["fees_usd"] - found["funding_usd"] + found["slippage_usd"])


def test_each_figure_lies_in_its_interval_and_the_seed_is_kept_e10(out: Path) -> None:
    found = json.loads((out / "metrics.json").read_text())
    intervals = found["intervals"]
    assert isinstance(intervals["seed"], int)
    assert {"sharpe", "sortino", "total_return_pct", "max_drawdown_pct", "win_rate_pct"} <= set(intervals["figures"])
    for name in ("sharpe", "total_return_pct", "win_rate_pct", "expectancy_usd", "profit_factor"):
        one = intervals["figures"][name]
        assert one["low"] <= found[name] <= one["high"], name


def test_tables_have_the_columns_of_the_contract(out: Path) -> None:
    heads = {
        "trades.csv": "id coin side entry_time entry_price exit_time exit_price size pnl_usd fees_usd funding_usd "
        "return_pct exit_reason bars_held",
        "fills.csv": "time coin side price size fee_usd liquidity",
        "equity.csv": "time equity balance drawdown_pct position",
    }
    for name, head in heads.items():
        with (out / name).open() as file:
            rows = list(csv.reader(file))
        assert rows[0] == head.split()
    assert len(rows) == 1 + 4_800
    columns = pq.read_schema(out / "decisions.parquet").names
    assert columns[:9] == ["time_ms", "coin", "bar_ms", "action", "q_hold", "q_buy", "q_sell", "outcome", "gates"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(out: Path) -> None:
    text = (out / "report.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.links == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 3
    found = json.loads((out / "metrics.json").read_text())
    assert found["evidence"].split(":")[0] in text
    for words in ("Drawdown", "Actions", "Months", "Held against", "mean-reversion"):
        assert words in text


def test_the_oracle_earns_more_than_everybody_and_trades_by_the_rules(
    bars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "--data", bars, "--policy", "oracle")
    best = found["total_return_pct"]
    assert all(best > one["total_return_pct"] for one in found["baselines"].values())  # type: ignore[attr-defined]
    assert "no strategy" in str(found["evidence"])
    assert found["luck"]["better_share"] == 0.0  # type: ignore[index]


def test_settings_that_the_compiled_path_does_not_know_go_through_the_core(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AML100_RISK__MAX_DAILY_TRADES", "2")
    found = document(capsys, "--data", bars, "--policy", "flat", "--to", "2024-01-25")
    assert sorted(found["baselines"]) == ["buy-and-hold", "mean-reversion", "momentum", "random"]  # type: ignore[call-overload]
    assert found["luck"] is None
    assert all(one["trades"] <= 2 * 25 for one in found["baselines"].values())  # type: ignore[attr-defined]


def test_a_place_that_holds_something_else_is_left_alone(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["backtest", "--data", str(bars), "--policy", "flat", "--out", str(tmp_path)]) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]
    assert "holds something else" in capsys.readouterr().err


def test_a_place_that_will_not_do_is_said_before_the_run(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object, **__: object) -> None:
        raise AssertionError("the run has begun")

    monkeypatch.setattr(command, "build_backtest", begun)
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for place, words in (
        (tmp_path, "holds something else"),
        (tmp_path / "mine.txt" / "run", "mine.txt: cannot be made (File exists)"),
        (Path(), "is the folder you are in"),
        (Path("/proc/run"), "/proc: cannot be written ("),
    ):
        assert main(["backtest", "--data", str(bars), "--policy", "flat", "--out", str(place)]) == 2
        assert words in capsys.readouterr().err


def test_a_full_disk_is_said_of_the_folder_and_leaves_nothing_half(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(artefacts, "write_equity", full)
    assert main(["backtest", "--data", str(bars), "--policy", "flat", "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.strip().endswith(f"{tmp_path / 'run'}: No space left on device")
    assert list(tmp_path.iterdir()) == []
