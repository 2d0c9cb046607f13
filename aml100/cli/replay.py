"""`replay`: the recorded inputs through a fresh core, compared with what was journalled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from aml100.cli.options import SpanOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.domain.errors import UsageError
from aml100.engine.inputs import PolicyNote
from aml100.engine.replaying import PolicyMaker
from aml100.engine.replaying import replay as run_replay
from aml100.storage.reader import FIRST_MS, LAST_MS, StateReader
from aml100.trading.policies import Policy

SHOWN = 20


def replay(options: SpanOptions) -> int:
    """Decisions, orders, fills and equity must come out as they are in the journal; exit 1 on any difference."""
    from_ms = FIRST_MS if options.from_ms is None else options.from_ms
    to_ms = LAST_MS if options.to_ms is None else options.to_ms
    with StateReader.read(options.state, at_one_instant=True) as reader:  # inputs and journal of one moment
        report = run_replay(reader, from_ms, to_ms, policies_of(options.folder))
    ok = report.difference_count == 0
    if options.json:
        document = {name: value for name, value in asdict(report).items() if name != "differences"}
        write_json({"ok": ok, **document, "differences": [asdict(one) for one in report.differences]})
        return 0 if ok else 1
    write_line(
        f"{len(report.runs)} run{'' if len(report.runs) == 1 else 's'}, {report.inputs} inputs: {report.decisions} "
        f"decisions, {report.orders} orders, {report.fills} fills, {report.equity_marks} marks of equity compared"
    )
    if report.simulated_bps is not None:
        write_line(f"{report.simulated_fills} fills within {report.simulated_bps:.4f} basis points of the simulator's")
    if ok:
        write_line("0 differences")
        return 0
    write_table(
        ("what", "which", "field", "recorded", "replayed"),
        [(one.kind, one.key, one.field, one.recorded[:60], one.replayed[:60]) for one in report.differences[:SHOWN]],
    )
    write_line(f"{report.difference_count} DIFFERENCES")
    return 1


def policies_of(folder: Path) -> PolicyMaker:
    """Builds noted policies: baselines by name and seed, models from where they lay or from models/ID in `folder`."""
    from aml100.learning.bundle import Bundle, BundleError, load_bundle
    from aml100.trading.policies import BASELINES, AwaitingModel

    loaded: dict[str, Bundle] = {}

    def make(note: PolicyNote) -> Policy:
        if note.name == AwaitingModel.name:
            return AwaitingModel()
        if note.model is None:
            if note.name not in BASELINES:
                raise UsageError(
                    f"replay: the recorded policy {note.name!r} is not known; allowed: {', '.join(BASELINES)}"
                )
            return BASELINES[note.name](note.seed)
        for place in (Path(note.path or note.model), folder / "models" / note.model):
            if note.model not in loaded and (place / "bundle.json").is_file():
                try:
                    found = load_bundle(place)
                except BundleError as error:
                    raise UsageError(f"replay: model {note.model} cannot be used: {error}") from None
                if found.id == note.model:
                    loaded[note.model] = found
        if note.model not in loaded:
            raise UsageError(f"replay: model {note.model} decided here and is in {folder / 'models'} no more")
        return loaded[note.model].policy()

    return make
