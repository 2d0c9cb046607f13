"""Rows of the objectives screen: everything about the phase, with what each figure rests on."""

from __future__ import annotations

from aml100.control.protocol import EvidenceView, ObjectiveView, PhaseView, Snapshot
from aml100.tui import figures
from aml100.tui.ink import Line, Span, cut_words, line, wrapped
from aml100.tui.view import View
from aml100.tui.widgets.listing import Row
from aml100.tui.widgets.phase import (
    AT_MOST,
    EVIDENCE_LABELS,
    EVIDENCE_MEANINGS,
    cycle_line,
    cycles_note,
    days,
    evidence_line,
    label_of,
    last_line,
    note_words,
    objective_line,
)
from aml100.tui.widgets.rows import WAITING, section


def phase_rows(view: View, width: int, _order: int = 0) -> list[Row]:
    """Everything about the phase, with what each figure rests on."""
    snapshot = view.snapshot
    if snapshot is None:
        return [WAITING]
    phase = snapshot.phase
    mode = line((f"gates {phase.gates_mode}", "good" if phase.gates_mode == "honest" else "warn"))
    rows = [section(f"phase {phase.number} {phase.name}", view, width, (*cycles_note(phase), ("  ", "text"), *mode))]
    for one in phase.objectives:
        rows.append(Row(f"objective {one.name}", objective_line(one, min(width, 90)), one))
        if one.note and one.value is not None:
            rows.append(Row(f"note {one.name}", line(("   " + cut_words(note_words(one), width - 3), "dim"))))
    if not phase.objectives:
        rows.append(Row("no objective", line((" the first bar of a cycle begins its figures", "dim"))))
    rows += [Row("gap", ()), section("cycle", view, width)]
    rows.append(Row("cycle", cycle_line(phase, min(width, 90))))
    rows += [Row(f"line {at}", one) for at, one in enumerate(_cycle_words(phase, width))]
    rows += [Row("gap 2", ()), section("evidence", view, width, line(("over all windows of the phase", "dim")))]
    rows += _evidence_rows(phase, width)
    rows += [Row("gap 3", ()), section("what it means", view, width)]
    rows += [Row(f"meaning {at}", one) for at, one in enumerate(_meaning(snapshot, width))]
    return rows


def _cycle_words(phase: PhaseView, width: int) -> list[Line]:
    words = [last_line(phase, width)]
    if phase.failures_in_row:
        limit = f" of {phase.step_back_after}, then one phase back" if phase.step_back_after else ""
        words.append(line((f" {phase.failures_in_row} failed in a row{limit}", "warn")))
    if phase.live_min_phase:
        earned = phase.live_phase or "none"
        words.append(
            line((" live trading needs ", "dim"), phase.live_min_phase, ("; earned on real data: ", "dim"), earned)
        )
    return [one for one in words if one]


def _evidence_rows(phase: PhaseView, width: int) -> list[Row]:
    if phase.gates_mode != "honest":
        return [
            Row("document", line((" gates_mode document: figures count as they are, no evidence is asked", "warn")))
        ]
    if not phase.evidence:
        return [Row("no evidence", line((" none gathered yet", "dim")))]
    return [Row(f"evidence {one.name}", evidence_line(one, width), one) for one in phase.evidence]


def _meaning(snapshot: Snapshot, width: int) -> list[Line]:
    phase = snapshot.phase
    sentences: list[Span] = []
    if phase.obstacle:
        sentences.append((f"In the way: {phase.obstacle}.", "warn"))
    if phase.luck is not None:
        sentences.append(
            (f"Luck: a strategy without any skill looks this good in {phase.luck * 100:.1f} % of cases.", "text")
        )
    else:
        sentences.append(("Luck: not known yet, the record is too short.", "dim"))
    is_short = phase.gates_mode == "honest" and not all(one.met for one in phase.evidence)
    if is_short and not phase.obstacle:  # days to go would promise an end
        wait = (
            "how many days are missing is not known yet"
            if phase.days_to_go is None
            else f"{days(phase.days_to_go)} to go, if things go on as in this phase so far"
        )
        sentences.append((f"Evidence: {wait}.", "text"))
    if phase.feasibility:
        sentences.append((f"Feasibility: {phase.feasibility}", "warn"))
    if phase.status:
        reason = f" ({phase.status_reason})" if phase.status_reason else ""
        sentences.append((f"Status: {phase.status}{reason}", "text"))
    if phase.provisional:
        sentences.append(("PROVISIONAL: figures met, evidence short; it unlocks no live size.", "warn"))
    found: list[Line] = []
    for text, role in sentences:
        found += [line((f" {part}", role)) for part in wrapped(text, min(width, 100) - 2)]
    return found


def evidence_details(one: EvidenceView) -> list[Line]:
    """A piece of evidence in words."""
    wait = "not known yet" if one.days_to_go is None else f"{days(one.days_to_go)}, if things go on as so far"
    rows = [
        ("evidence", EVIDENCE_LABELS.get(one.name, one.name)),
        ("means", EVIDENCE_MEANINGS.get(one.name, "-")),
        ("value", figures.UNKNOWN if one.value is None else f"{one.value:.4g}"),
        ("asked", f"{'at most' if one.name in AT_MOST else 'at least'} {figures.trimmed(one.threshold)}"),
        ("state", "enough" if one.met else "missing"),
        ("to go", "-" if one.met else wait),
        ("note", one.note or "-"),
    ]
    return [line((f"{name:<13}", "dim"), text) for name, text in rows]


def objective_details(one: ObjectiveView) -> list[Line]:
    """An objective in words."""
    label, unit = label_of(one.name)
    sign = "at most" if "drawdown" in one.name else "at least"
    bound = (
        "not known yet" if one.bound is None else f"{figures.number(one.bound)}{unit}, one-sided, over the phase so far"
    )
    rows = [
        ("objective", label),
        ("value", f"{figures.number(one.value)}{unit}" if one.value is not None else one.note or figures.UNKNOWN),
        ("asked", f"{sign} {figures.trimmed(one.threshold)}{unit}"),
        ("95 % bound", bound),
        ("state", one.state),
        ("note", one.note or "-"),
        ("window", "the running cycle; bound and evidence are of all windows of the phase"),
    ]
    return [line((f"{name:<13}", "dim"), text) for name, text in rows]
