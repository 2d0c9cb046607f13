"""`phases DIR`: which phase finished records would have reached, cycle by cycle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

from aml100.cli.options import PhasesOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.config.models import GatesMode
from aml100.domain.units import INTERVALS
from aml100.evaluation.objectives import CycleResult, PhaseTracker, Trials, account_phases, phase_rules
from aml100.evaluation.records import holds_evidence, read_phase_record, read_trials, record_folders


def phases(options: PhasesOptions) -> int:
    """Phase and cycle accounting over the sub-folders of DIR; only PASS counts, whatever trading is allowed."""
    objectives = options.load_settings().objectives
    mode = cast(GatesMode, options.gates_mode or objectives.gates_mode)
    interval_ms = None if options.interval is None else INTERVALS[options.interval]
    rules = phase_rules(objectives)
    folders = record_folders(options.directory)
    shared = _registered(options.directory)
    runs: list[tuple[str, str, Trials, list[CycleResult]]] = []
    seen: list[str] = []
    with Progress("phases, record", len(folders)) as progress:
        for number, folder in enumerate(folders, start=1):
            tracker = PhaseTracker(rules, mode, step_back_after=objectives.step_back_after_failures)
            trials = _together(read_trials(folder), shared)
            record, sound = read_phase_record(folder, interval_ms), holds_evidence(folder)
            cycles = account_phases(record, objectives.cycle_days, tracker, trials, is_evidence=sound)
            runs.append((folder.name, tracker.rules.name, trials, cycles))
            seen += [] if sound else [folder.name]
            progress.update(number, folder.name)
    if options.json:
        write_json(
            {
                "gates_mode": mode,
                "runs": [
                    {
                        "name": name,
                        "phase": phase,
                        "trials": trials.count,
                        "pbo": trials.pbo,
                        "pbo_note": trials.pbo_note,
                        "out_of_sample": name not in seen,
                        "cycles": [_cycle(one) for one in cycles],
                    }
                    for name, phase, trials, cycles in runs
                ],
            }
        )
        return 0
    write_table(
        ("record", "phase", "cycles", "passed", "provisional", "last verdict", "overfitting"),
        [
            (
                name,
                phase,
                len(cycles),
                sum(one.verdict == "PASS" for one in cycles),
                sum(one.verdict == "PROVISIONAL" for one in cycles),
                cycles[-1].verdict if cycles else "n/a (no finished window)",
                trials.pbo_note if trials.pbo is None else f"{trials.pbo:.0%} ({trials.count} trials)",
            )
            for name, phase, trials, cycles in runs
        ],
    )
    write_line(_words(mode))
    if seen:
        write_line(f"no evidence, made from bars that they are judged by (or by hindsight): {', '.join(seen)}")
    return 0


def _registered(directory: Path) -> Trials:
    """The trials of a registry among the records: one copied there, or the one that a walk-forward left."""
    from aml100.learning.trials import REGISTRY_FILE, TrialRegistry, deflation_of

    places = (directory / REGISTRY_FILE, directory / "models" / REGISTRY_FILE)
    return deflation_of(*(TrialRegistry(place).read() for place in places))


def _together(own: Trials, shared: Trials) -> Trials:
    """What a record says of itself and what the registry beside it says: the greater number of trials counts."""
    most = own if own.count >= shared.count else shared
    return replace(most, pbo=shared.pbo if own.pbo is None else own.pbo)


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
        "evidence": [
            {"name": e.name, "value": e.value, "threshold": e.threshold, "met": e.met, "note": e.note}
            for e in one.evidence
        ],
    }
