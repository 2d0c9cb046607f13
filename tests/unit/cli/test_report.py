"""`report` tells the story that the journal holds, and `models` changes who trades next."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path

import pytest

from aml100.cli.main import main
from aml100.config.loading import load_settings
from aml100.domain.events import EquityMarked, FillRecorded, LedgerPosted
from aml100.domain.orders import Fill, Side
from aml100.domain.units import DAY_MS, Coin
from aml100.storage.database import Database
from aml100.storage.entries import Cycle, ModelEvent, ParameterVersion, PhaseStep, Run
from aml100.storage.tuned import tuned_in_force

FIRST_MS = 1_700_006_400_000


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    with Database.open(path, "NORMAL", "sim", "0x" + "ab" * 20, "venue") as database:
        database.start_run(Run("r-1", 1, "sim", "venue", (Coin("BTC"),), "synthetic:regimes", "model", 1, 7))
        money = [Decimal(10_000), Decimal(10_300)]
        marks = [EquityMarked(FIRST_MS + day * DAY_MS, m, m, 0.0, m) for day, m in enumerate(money, start=1)]
        paid = LedgerPosted(FIRST_MS, "deposit", None, Decimal(10_000), "initial")
        record = {
            "figures": {"monthly_return_pct": 3.0, "sharpe": None},
            "objectives": [{"name": "sharpe", "state": "UNKNOWN", "note": "n/a (2 of 30)", "threshold": 0.5}],
            "trades": 12,
            "opening_equity": 10_000.0,
            "closing_equity": 10_300.0,
        }
        window = (FIRST_MS, FIRST_MS + 2 * DAY_MS)
        cycle = Cycle(1, "Foundation", *window, "realised", "FAIL", False, json.dumps(record), "m-one", "sim")
        step = PhaseStep(FIRST_MS + 2 * DAY_MS, "Foundation", "Growth", "3 of 3 cycles done", True)
        told = ModelEvent(FIRST_MS + DAY_MS, "m-one", "promoted", "hold-out <+5%>")
        version = ParameterVersion("p-1", 1, 1, "proposed", "optimize {}", '{"training.n_step": [3, 7]}')
        database.journal([paid, *marks, cycle, step, told, version]).result()
    return path


def test_the_page_tells_what_each_cycle_earned_by_which_gate_and_model(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, tables = tmp_path / "r.html", tmp_path / "csv"
    assert main(["report", "--state", str(state), "--out", str(out), "--csv", str(tables), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["cycles"] == [{"number": 1, "verdict": "FAIL", "source": "realised", "in_sample": False}]
    page = out.read_text()
    for words in ("+3.00&nbsp;% (realised)", "m-one", "sharpe: n/a (2 of 30)", "Foundation to Growth", "made up"):
        assert words in page
    assert "in sample" not in page
    assert "<+5%>" not in page  # what the journal holds is text, never markup
    with (tables / "ledger.csv").open() as file:
        assert list(csv.reader(file))[1] == [str(FIRST_MS), "deposit", "", "10000", "initial"]


def test_the_page_says_what_was_earned_on_bars_that_the_model_was_made_from(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, to_ms = tmp_path / "r.html", FIRST_MS + 2 * DAY_MS
    with Database.open(state, "NORMAL", "sim", "0x" + "ab" * 20, "venue") as database:
        began = ModelEvent(FIRST_MS + DAY_MS, "m-two", "in_sample", "made from the bars that it trades on")
        seen = Cycle(
            1, "Foundation", FIRST_MS, to_ms, "realised", "PROVISIONAL", False, '{"in_sample": true}', "m-two", "sim"
        )
        database.journal([began, seen]).result()
    assert main(["report", "--state", str(state), "--out", str(out), "--json"]) == 0
    (cycle,) = json.loads(capsys.readouterr().out)["cycles"]
    assert cycle == {"number": 1, "verdict": "PROVISIONAL", "source": "realised", "in_sample": True}
    page = out.read_text()
    for words in ("(realised, <b>in sample</b>)", "m-two: made from the bars", "what was earned there is no evidence"):
        assert words in page


def test_a_liquidation_stands_in_the_story(state: Path, tmp_path: Path) -> None:
    forced = Fill(
        Coin("BTC"), Side.SELL, Decimal(55_613), Decimal("0.1"), Decimal(0), FIRST_MS + 9, 1, 2, None, True, True
    )
    with Database.open(state, "NORMAL", "sim", "0x" + "ab" * 20, "venue") as database:
        database.journal([FillRecorded(forced, None, "liquidation", Decimal(-9_000), Decimal(0))]).result()
    assert main(["report", "--state", str(state), "--out", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "liquidation" in page
    assert "BTC: the venue closed 0.1 at 55613" in page


def test_an_unknown_run_is_named(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--state", str(state), "--run", "r-9"]) == 2
    assert "r-9: no such run; allowed: r-1" in capsys.readouterr().err


def test_a_span_that_ends_before_it_begins_is_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--state", str(state), "--from", "2025-08-02", "--to", "2025-08-01"]) == 2
    assert "the span is empty; allowed: a --from before --to" in capsys.readouterr().err


def test_tuned_parameters_are_in_force_only_once_promoted_and_config_stays_as_it_was(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuned_in_force(state) is None
    assert main(["models", "promote", "p-1", "--state", str(state)]) == 0
    assert "training.n_step 3 -> 7" in capsys.readouterr().out
    tuned = tuned_in_force(state)
    assert tuned is not None
    settings = load_settings(None, {}, tuned.values, "state.db p-1")
    assert settings.params.training.n_step == 7
    assert settings.origins["training.n_step"] == "state.db p-1"
    over = load_settings(None, {"AML100_TRAINING__N_STEP": "5"}, tuned.values, "state.db p-1")
    assert over.params.training.n_step == 5  # the environment has the last word
    assert main(["models", "rollback", "p-1", "--state", str(state)]) == 0
    assert tuned_in_force(state) is None


def test_a_back_test_is_made_with_the_parameters_that_a_run_on_that_state_has(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder whose name no URI holds as it is, too."""
    folder = tmp_path / "a%20b#c?d"
    folder.mkdir()
    place = str(state.rename(folder / "state.db"))
    rows = [f"{FIRST_MS + hour * 3_600_000},100,101,99,100,1" for hour in range(400)]
    bars = tmp_path / "BTC.csv"
    bars.write_text("\n".join(["time,open,high,low,close,volume", *rows]) + "\n")
    with Database.open(Path(place), "NORMAL", "sim", "0x" + "ab" * 20, "venue") as database:
        changes = json.dumps({"backtest.taker_fee_pct": [0.045, 0.09]})
        database.journal([ParameterVersion("p-2", 2, 2, "proposed", "optimize {}", changes)]).result()
    command = ["backtest", "--data", str(bars), "--policy", "buy-and-hold", "--state", place, "--json"]

    def fees() -> float:
        assert main(command) == 0
        return float(json.loads(capsys.readouterr().out)["fees_usd"])

    before = fees()
    assert main(["models", "promote", "p-2", "--state", place]) == 0
    capsys.readouterr()
    assert fees() == pytest.approx(2 * before, rel=1e-3)


def test_rollback_without_an_earlier_champion_changes_nothing(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "rollback", "--state", str(state)]) == 2
    assert "no earlier champion" in capsys.readouterr().err
