"""Rolling windows: what may be seen when, and one curve of what never was (GUARANTEES E9, B5)."""

from __future__ import annotations

import csv
import itertools
import json
import signal
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aml100.cli import optimize as search_command
from aml100.cli import walkforward as command
from aml100.cli.main import main
from aml100.cli.progress import Progress
from aml100.domain.errors import UsageError
from aml100.domain.events import TradeClosed
from aml100.domain.orders import Fill, Side
from aml100.domain.units import DAY_MS, HOUR_MS, MINUTE_MS, Coin
from aml100.evaluation.metrics import RunRecord, compute_metrics
from aml100.learning import trainer
from aml100.market.features import warmup_bars
from aml100.research.walkforward import Span, common_span, cut, default_embargo, joined, plan_folds, trimmed
from aml100.sim.scenario import synthetic_series
from tests.harness import write_bars

BTC = Coin("BTC")
QUARTER = 15 * MINUTE_MS
START = 1_704_067_200_000


def test_folds_roll_by_a_test_leave_the_embargo_out_and_never_overlap_their_tests_e9() -> None:
    folds = plan_folds(Span(0, 100 * DAY_MS), HOUR_MS, 40 * DAY_MS, 10 * DAY_MS, 24)
    assert [fold.number for fold in folds] == [1, 2, 3, 4, 5]
    assert folds[0].train == Span(0, 40 * DAY_MS)
    assert folds[0].test == Span(41 * DAY_MS, 51 * DAY_MS)
    for fold, after in itertools.pairwise(folds):
        assert after.test.from_ms == fold.test.to_ms
        assert after.train.from_ms - fold.train.from_ms == 10 * DAY_MS
    assert folds[-1].test.to_ms <= 100 * DAY_MS
    assert folds[1].name == "fold-02"


def test_without_room_for_a_fold_the_line_says_how_much_is_needed() -> None:
    with pytest.raises(UsageError, match=r"span 5\.0 days.*needs 7\.0"):
        plan_folds(Span(0, 5 * DAY_MS), HOUR_MS, 4 * DAY_MS, 2 * DAY_MS, 24)


@pytest.mark.parametrize("interval_ms", [MINUTE_MS, 5 * MINUTE_MS, QUARTER, HOUR_MS])
def test_the_embargo_covers_look_back_window_and_outcome_and_a_day_e9(interval_ms: int) -> None:
    embargo = default_embargo(interval_ms, 60, 720)
    assert embargo >= warmup_bars(interval_ms) + 60 + 720
    assert embargo * interval_ms >= DAY_MS


def test_a_cut_reaches_back_for_warm_up_only_as_far_as_there_are_bars() -> None:
    series = synthetic_series("random-walk", BTC, HOUR_MS, START, 100, 1)
    span = Span(START + 10 * HOUR_MS, START + 20 * HOUR_MS)
    assert cut(series, span).open_ms.tolist() == series.open_ms[10:20].tolist()
    assert len(cut(series, span, 4)) == 14
    assert len(cut(series, span, 1000)) == 20
    other = synthetic_series("random-walk", Coin("ETH"), HOUR_MS, START + 50 * HOUR_MS, 100, 1)
    assert common_span([series, other]) == Span(START + 50 * HOUR_MS, START + 100 * HOUR_MS)
    with pytest.raises(UsageError, match="no time in common"):
        common_span([series, synthetic_series("random-walk", Coin("ETH"), HOUR_MS, START + DAY_MS * 9, 9, 1)])


def run_of(first_ms: int, equity: list[float], pnl: str) -> RunRecord:
    times = first_ms + np.arange(len(equity), dtype=np.int64) * HOUR_MS
    trade = TradeClosed(BTC, Side.BUY, first_ms, Decimal(100), first_ms + HOUR_MS, Decimal(101), Decimal(1),
                        Decimal(pnl), Decimal("0.1"), Decimal("0.2"), "signal", 1)  # fmt: skip
    fill = Fill(BTC, Side.BUY, Decimal(100), Decimal(1), Decimal("0.1"), first_ms, 1, 1, None, True)
    curve = np.array(equity)
    exposed = np.ones(len(equity), np.bool_)
    return RunRecord(
        times, curve, exposed, HOUR_MS, 1000.0, [trade], [fill], (1, 2, 3), 0.2, 0.3, "model", "m", "t", None
    )


def test_the_joined_curve_compounds_the_tests_as_one_account() -> None:
    whole = joined([run_of(0, [1050.0, 1100.0], "100"), run_of(2 * HOUR_MS, [900.0, 1200.0], "200")])
    np.testing.assert_allclose(whole.equity, [1050.0, 1100.0, 990.0, 1320.0])
    assert [float(trade.pnl) for trade in whole.trades] == [100.0, pytest.approx(220.0)]
    metrics = compute_metrics(whole)
    assert metrics.total_return_frac == pytest.approx(0.32)
    assert metrics.max_drawdown_frac == pytest.approx(0.1)
    assert (metrics.actions, metrics.trades, metrics.bars) == ((2, 4, 6), 2, 4)
    assert metrics.fees_usd == pytest.approx(0.1 + 0.11)
    assert metrics.funding_usd == pytest.approx(0.2 + 0.22)


def test_a_trimmed_run_counts_its_own_bars_only() -> None:
    short = trimmed(run_of(0, [1000.0, 1000.0, 1010.0, 1020.0], "20"), Span(2 * HOUR_MS, 4 * HOUR_MS))
    document = compute_metrics(short).to_json()
    assert (document["bars"], document["start"]) == (2, 2 * HOUR_MS)
    assert document["total_return_pct"] == pytest.approx(2.0)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A month of quarter hours, a very small network, and the command over two folds."""
    for name, value in (("LSTM_HIDDEN", "4"), ("LSTM_LAYERS", "1")):
        monkeypatch.setenv(f"AML100_MODEL__{name}", value)
    series = synthetic_series("mean-reverting", BTC, QUARTER, START, 24 * 96, 2, 60_000.0)
    path = write_bars(tmp_path / "BTC_made.parquet", series)
    options = ["--train-days", "12", "--test-days", "5", "--embargo-bars", "96", "--epochs", "1", "--seed", "3"]
    return ["walkforward", "--data", str(path), *options, "--out", str(tmp_path / "out"), "--json"]


def test_folds_leave_their_artefacts_and_a_joined_curve_and_are_not_trained_twice(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [fold["test"][0] for fold in answer["folds"]] == [START + 13 * DAY_MS, START + 18 * DAY_MS]
    growth = 1.0
    for number, fold in enumerate(answer["folds"], start=1):
        assert fold["train"][1] + 96 * QUARTER == fold["test"][0]
        growth *= 1.0 + fold["metrics"]["total_return_pct"] / 100.0
        folder = tmp_path / "out" / f"fold-{number:02d}"
        assert json.loads((folder / "metrics.json").read_text())["model"] == fold["model"]
        with (folder / "equity.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(rows[0]["time"]), int(rows[-1]["time"]) + QUARTER] == fold["test"]
        assert (folder / "report.html").stat().st_size > 1000
        assert fold["metrics"]["bars"] == fold["metrics"]["baselines"]["flat"]["bars"] == 5 * 96
        assert sorted(fold["metrics"]["baselines"]) == ["buy-and-hold", "flat", "mean-reversion", "momentum", "random"]
    assert answer["joined"]["total_return_pct"] == pytest.approx((growth - 1.0) * 100.0, abs=1e-9)
    assert answer["joined"]["bars"] == 2 * 5 * 96
    assert [fold["metrics"]["in_sample_share"] for fold in answer["folds"]] == [0.0, 0.0]
    assert answer["joined"]["in_sample_share"] == 0.0
    assert answer["joined"]["trials"] == 2  # each fold's training was one
    assert [fold["metrics"]["trials"] for fold in answer["folds"]] == [2, 2], "E7: every trial, for each of them"
    assert answer["joined"]["pbo_note"] == "n/a (2 trials, no two of them judged by the same days)"
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "models").rglob("*.safetensors")}
    assert main(small) == 0
    assert json.loads(capsys.readouterr().out) == answer
    assert {path: path.stat().st_mtime_ns for path in weights} == weights


@pytest.mark.parametrize("learner", ["the same", "another"])
def test_ctrl_c_in_a_fold_keeps_what_is_done_and_the_next_call_goes_on(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, learner: str
) -> None:
    """Where the program was replaced by one that learns otherwise in between, both folds are trained anew."""

    class Impatient(Progress):
        def __init__(self, what: str, total: int) -> None:
            super().__init__(what, total)
            self.is_second = what.startswith("fold 2 of 2, training")

        def update(self, done: int, note: str = "") -> None:
            if self.is_second:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "Progress", Impatient)
    assert main(small) == 130
    said = capsys.readouterr()
    assert said.out == ""  # --json: a document or nothing
    assert said.err.splitlines()[-1].startswith("stopped in fold 2 of 2; go on with the same command")
    assert not (tmp_path / "out" / "fold-01").exists(), "what is tried in the second deflates the first one too"
    monkeypatch.undo()
    notes = tmp_path / "out" / "training"
    first = (notes / "fold-01.json").read_text()
    if learner == "another":
        monkeypatch.setattr(trainer, "REVISION", trainer.REVISION + 1)
    for name, value in (("LSTM_HIDDEN", "4"), ("LSTM_LAYERS", "1")):
        monkeypatch.setenv(f"AML100_MODEL__{name}", value)
    assert main(small) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["folds"]) == 2
    assert len({fold["model"] for fold in answer["folds"]}) == 2
    assert ((notes / "fold-01.json").read_text() == first) is (learner == "the same")
    assert len([one for one in notes.glob("fold-02-*") if one.is_dir()]) == (1 if learner == "the same" else 2)


def test_ctrl_c_between_two_tests_ends_the_walk_and_the_next_call_trains_nothing(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Progress):
        def __init__(self, what: str, total: int) -> None:
            super().__init__(what, total)
            if what == "fold 1, test":
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(command, "Progress", Impatient)
    assert main(small) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("stopped in fold 2 of 2; go on with the same command")
    assert (tmp_path / "out" / "fold-01" / "metrics.json").is_file()
    monkeypatch.setattr(command, "Progress", Progress)
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "models").rglob("*.safetensors")}
    assert main(small) == 0
    assert len(json.loads(capsys.readouterr().out)["folds"]) == len(weights) == 2
    assert {path: path.stat().st_mtime_ns for path in weights} == weights


def test_a_fold_s_model_is_taken_over_only_where_all_that_it_learned_from_is_the_same(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The funding, too: as where nothing had been trained before."""

    def models(*more: str) -> list[str]:
        assert main([*small, *more]) == 0
        return [fold["model"] for fold in json.loads(capsys.readouterr().out)["folds"]]

    def funding(name: str, rate: float) -> str:
        rows = [f"{START + hour * HOUR_MS},{rate * (hour % 5 - 2)}" for hour in range(24 * 24)]
        (tmp_path / name).write_text("\n".join(["time,rate", *rows]) + "\n")
        return str(tmp_path / name)

    first, second = funding("first.csv", 0.0001), funding("second.csv", 0.002)
    with_first, with_second = models("--funding", first), models("--funding", second)
    assert set(with_first).isdisjoint(with_second)
    elsewhere = models("--funding", second, "--out", str(tmp_path / "fresh"))
    assert with_second == elsewhere
    note = tmp_path / "out" / "training" / "fold-01.json"
    note.write_text(note.read_text()[:20])  # as a kill in the middle of a write left it
    assert models("--funding", second) == elsewhere


def test_an_out_that_will_not_do_is_said_before_anything_is_trained(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "fold-02").mkdir(parents=True)
    (tmp_path / "out" / "fold-02" / "mine.txt").write_text("mine")
    assert main(small) == 2
    assert "fold-02: holds something else" in capsys.readouterr().err
    assert not (tmp_path / "out" / "models").exists()
    for name in ("walkforward", "optimize", "train"):
        options = small[1:] if name != "train" else ["--data", small[2]]
        assert main([name, *options, "--out", str(tmp_path / "BTC_made.parquet")]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.endswith("BTC_made.parquet: cannot be made (File exists); allowed: a new folder, or one of yours")


def test_a_search_that_is_stopped_leaves_stdout_to_json(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Progress):
        def update(self, done: int, note: str = "") -> None:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(search_command, "Progress", Impatient)
    assert main(["optimize", *small[1:], "--state", str(tmp_path / "state.db")]) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("stopped after 0 of 20 trials")


def test_bars_of_a_later_fold_are_no_part_of_an_earlier_model_b5(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Change every bar after the first training: the first fold's model stays the same, bit for bit."""
    assert main(small) == 0
    first = json.loads(capsys.readouterr().out)["folds"][0]["model"]
    path = Path(small[2])
    table = pq.read_table(path).to_pandas()
    later = table["time"] >= START + 12 * DAY_MS
    table.loc[later, ["open", "high", "low", "close"]] *= 1.5
    changed = path.with_name("BTC_changed.parquet")
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), changed)
    again = [str(changed) if one == str(path) else one for one in small]
    again[again.index(str(tmp_path / "out"))] = str(tmp_path / "other")
    assert main(again) == 0
    folds = json.loads(capsys.readouterr().out)["folds"]
    assert Span(*folds[0]["train"]) == Span(START, START + 12 * DAY_MS)
    assert sha_of(tmp_path / "out" / "models" / first) == sha_of(tmp_path / "other" / "models" / folds[0]["model"])


def sha_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.safetensors"))]
