"""`report`: the story of a run from its journal as an HTML page, and its trades, equity and ledger as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aml100.cli.options import ReportOptions
from aml100.cli.output import write_json, write_line
from aml100.domain.errors import UsageError
from aml100.domain.units import decimal_text, iso_utc
from aml100.evaluation.story import CycleStory, Moment, RunStory, deciding_gate, render_story

if TYPE_CHECKING:
    from aml100.storage.entries import Cycle, Run
    from aml100.storage.reader import StateReader

LAST_MS = 2**62


def report(options: ReportOptions) -> int:
    """Write the page (default report.html) and, with --csv, three tables; reads only."""
    from aml100.storage.reader import StateReader

    out = options.out or Path("report.html")
    with StateReader.read(options.state) as reader:
        run = _run(options, reader)
    with StateReader.read(options.state, book=_book(run), at_one_instant=True) as reader:
        from_ms, to_ms = _span(options, run, reader)
        story = _story(reader, run, from_ms, to_ms)
        tables = [] if options.csv is None else _write_tables(options.csv, reader, from_ms, to_ms)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(render_story(story))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error})") from None
    if options.json:
        cycles = [
            {"number": c.number, "verdict": c.verdict, "source": c.source, "in_sample": c.in_sample}
            for c in story.cycles
        ]
        write_json({"run": run.run_id, "report": str(out), "csv": [str(path) for path in tables], "cycles": cycles})
    else:
        write_line(f"{run.run_id}: {len(story.cycles)} cycles, written to {out}")
        for path in tables:
            write_line(f"  {path}")
    return 0


def _run(options: ReportOptions, reader: StateReader) -> Run:
    runs = reader.runs()
    if not runs:
        raise UsageError(f"{options.state}: no run here yet; allowed: a state file that `run` has written to")
    if options.run is None:
        return runs[-1]
    found = next((one for one in runs if one.run_id == options.run), None)
    if found is None:
        raise UsageError(f"--run {options.run}: no such run; allowed: {', '.join(one.run_id for one in runs[-5:])}")
    return found


def _book(run: Run) -> str:
    return "paper" if run.execution == "paper" else "venue"


def _span(options: ReportOptions, run: Run, reader: StateReader) -> tuple[int, int]:
    """Of market time: as asked, or with --run what that run lived through, else everything on its ledger."""
    from_ms = 0 if options.from_ms is None else options.from_ms
    to_ms = LAST_MS if options.to_ms is None else options.to_ms
    if from_ms >= to_ms:
        raise UsageError("--from/--to: the span is empty; allowed: a --from before --to")
    if options.run is not None and options.from_ms is None and options.to_ms is None:
        lived = reader.equity_span(run.run_id)
        if lived is not None:
            return lived
    return from_ms, to_ms


def _story(reader: StateReader, run: Run, from_ms: int, to_ms: int) -> RunStory:
    points = reader.equity_curve(from_ms, to_ms)
    trades = reader.trades(from_ms, to_ms)
    profit = sum((trade.pnl for trade in trades), start=trades[0].pnl * 0) if trades else 0
    fees = sum((trade.fees for trade in trades), start=trades[0].fees * 0) if trades else 0
    cycles = [_cycle(one) for one in reader.cycles() if from_ms < one.to_ms <= to_ms]
    moments = _moments(reader, from_ms, to_ms)
    equity = np.array([float(point.equity) for point in points])
    facts = [
        ("run", f"{run.run_id}, {run.venue}, execution {run.execution}, {', '.join(run.coins)}"),
        ("market data", run.origin),
        ("policy", run.policy),
        ("span", f"{iso_utc(points[0].time_ms)} to {iso_utc(points[-1].time_ms)}" if points else "no bars"),
        ("equity", f"{equity[0]:,.2f} to {equity[-1]:,.2f} USD" if len(equity) else "n/a"),
        ("trades", f"{len(trades)}, net {float(profit):+,.2f} USD after {float(fees):,.2f} USD of fees"),
        ("ended", f"{run.reason or 'still running or killed'}" + (f", exit {run.exit_code}" if run.reason else "")),
    ]
    return RunStory(
        title=f"AML-100 on {run.origin}",
        facts=facts,
        times=np.array([point.time_ms for point in points], dtype=np.int64),
        equity=equity,
        drawdown_pct=np.array([point.drawdown_pct for point in points]),
        cycles=cycles,
        moments=moments,
        note=_note(run, cycles, moments),
    )


def _note(run: Run, cycles: Sequence[CycleStory], moments: Sequence[Moment]) -> str:
    judged = {"realised": 0, "backtest": 0}
    for one in cycles:
        judged[one.source] = judged.get(one.source, 0) + 1
    words = f"{judged['realised']} cycles were judged by realised results, "
    words += f"{judged['backtest']} by an out-of-sample back-test."
    if any(one.in_sample for one in cycles) or any(moment.what == "in_sample" for moment in moments):
        words += " A model traded on bars that it had been made from (in sample): what was earned there is no evidence."
    if run.origin.startswith("synthetic"):
        words += " The market was made up: nothing here says anything about a real one."
    return words


def _cycle(one: Cycle) -> CycleStory:
    record = json.loads(one.metrics)
    opening = float(record.get("opening_equity") or 0.0)
    closing = float(record.get("closing_equity") or opening)
    return CycleStory(
        number=one.number,
        phase=one.phase,
        from_ms=one.from_ms,
        to_ms=one.to_ms,
        source=one.source,
        in_sample=bool(record.get("in_sample")),
        verdict=one.verdict,
        counted=one.counted,
        model=one.model,
        earned_pct=(closing / opening - 1.0) * 100.0 if opening else 0.0,
        trades=int(record.get("trades", 0)),
        deciding=deciding_gate(one.verdict, record.get("objectives", [])),
        figures=record.get("figures", record),
    )


def _moments(reader: StateReader, from_ms: int, to_ms: int) -> list[Moment]:
    found = [Moment(e.time_ms, e.event, f"{e.model}: {e.reason}") for e in reader.model_events()]
    for step in reader.phases():
        label = " (provisional: unlocks no live size)" if step.provisional else ""
        found.append(Moment(step.time_ms, "phase", f"{step.from_phase} to {step.to_phase}: {step.reason}{label}"))
    for training in reader.trainings():
        when = training.market_ms or 0
        words = f"{training.id} ({training.cause}), seed {training.seed}, {training.epoch} epochs: {training.state}"
        found.append(Moment(when, "training", words + (f", {training.reason}" if training.reason else "")))
    for record in reader.fills(from_ms, to_ms):
        fill = record.fill
        if fill.is_liquidation:
            words = f"{fill.coin}: the venue closed {decimal_text(fill.size)} at {decimal_text(fill.price)}"
            found.append(Moment(fill.time_ms, "liquidation", words))
    last = ""
    for check in reader.checks():
        if check.status != last:
            found.append(Moment(check.time_ms, "status", f"{check.status}: {check.reason}"))
            last = check.status
    return sorted((one for one in found if not one.time_ms or from_ms <= one.time_ms <= to_ms), key=lambda m: m.time_ms)


# --- CSV ----------------------------------------------------------------------------------------------------------


def _write_tables(folder: Path, reader: StateReader, from_ms: int, to_ms: int) -> list[Path]:
    from aml100.evaluation.artefacts import write_trades

    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_trades(folder / "trades.csv", reader.trades(from_ms, to_ms))
        equity = (
            (p.time_ms, decimal_text(p.equity), decimal_text(p.balance), repr(p.drawdown_pct))
            for p in reader.equity_curve(from_ms, to_ms)
        )
        _write_csv(folder / "equity.csv", ("time", "equity", "balance", "drawdown_pct"), equity)
        ledger = (
            (row.time_ms, row.kind, row.coin or "", decimal_text(row.amount), row.ref)
            for row in reader.ledger_rows(from_ms, to_ms)
        )
        _write_csv(folder / "ledger.csv", ("time", "kind", "coin", "amount", "ref"), ledger)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return [folder / name for name in ("trades.csv", "equity.csv", "ledger.csv")]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
