"""`phases DIR`: which phase finished records would have reached, cycle by cycle."""

from __future__ import annotations

from typing import cast

from aml100.cli.options import PhasesOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.config.models import GatesMode
from aml100.domain.units import INTERVALS
from aml100.evaluation.objectives import CycleResult, PhaseTracker, account_phases, phase_rules
from aml100.evaluation.records import read_phase_record, record_folders


def phases(options: PhasesOptions) -> int:
    """Phase and cycle accounting over the sub-folders of DIR; only PASS counts, whatever trading is allowed."""
    objectives = options.load_settings().objectives
    mode = cast(GatesMode, options.gates_mode or objectives.gates_mode)
    interval_ms = None if options.interval is None else INTERVALS[options.interval]
    rules = phase_rules(objectives)
    folders = record_folders(options.directory)
    runs: list[tuple[str, str, list[CycleResult]]] = []
    with Progress("phases, record", len(folders)) as progress:
        for number, folder in enumerate(folders, start=1):
            tracker = PhaseTracker(rules, mode, step_back_after=objectives.step_back_after_failures)
            cycles = account_phases(read_phase_record(folder, interval_ms), objectives.cycle_days, tracker)
            runs.append((folder.name, tracker.rules.name, cycles))
            progress.update(number, folder.name)
    if options.json:
        write_json(
            {
                "gates_mode": mode,
                "runs": [
                    {"name": name, "phase": phase, "cycles": [_cycle(one) for one in cycles]}
                    for name, phase, cycles in runs
                ],
            }
        )
        return 0
    write_table(
        ("record", "phase", "cycles", "passed", "provisional", "last verdict"),
        [
            (
                name,
                phase,
                len(cycles),
                sum(one.verdict == "PASS" for one in cycles),
                sum(one.verdict == "PROVISIONAL" for one in cycles),
                cycles[-1].verdict if cycles else "n/a (no finished window)",
            )
            for name, phase, cycles in runs
        ],
    )
    write_line(_words(mode))
    return 0


def _words(mode: GatesMode) -> str:
    if mode == "document":
        return "gates: document, the plain thresholds; luck alone passes them often (docs/evaluation.md)"
    return "gates: honest, a figure counts with its evidence only (docs/evaluation.md)"


def _cycle(one: CycleResult) -> dict[str, object]:
    return {
        "number": one.number,
        "phase": one.phase,
        "verdict": str(one.verdict),
        "from": one.start_ms,
        "to": one.end_ms,
        "days_to_go": one.days_to_go,
        "luck": one.luck,
        "objectives": [
            {"name": o.name, "value": o.value, "threshold": o.threshold, "state": str(o.state)} for o in one.objectives
        ],
        "evidence": [{"name": e.name, "value": e.value, "threshold": e.threshold, "met": e.met} for e in one.evidence],
    }
