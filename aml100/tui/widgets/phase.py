"""The phase: each objective with value, bound, threshold and state; the cycle; what evidence is missing, how long.

The panel shows what its room allows, the screen `o` everything. What the figures alone would suggest is never shown
without what they are worth: days of evidence to go, and how often luck alone would look as good.
"""

from __future__ import annotations

from aml100.control.protocol import EvidenceView, ObjectiveView, PhaseView, Snapshot
from aml100.tui import figures
from aml100.tui.ink import Line, Span, cells, cut_words, first_fit, gauge, line, pack, spread, wrapped
from aml100.tui.view import View
from aml100.tui.widgets.listing import Row
from aml100.tui.widgets.panels import VERDICTS, headed, waiting
from aml100.tui.widgets.rows import WAITING, section
from aml100.tui.widgets.sheet import Sheet

ROOM_FOR_ALL = 8
"""Rows left under the cycle from which sentences are shown whole."""

LABELS = {
    "monthly_return": ("return /month", " %"),
    "sharpe": ("Sharpe", ""),
    "profit_factor": ("profit factor", ""),
    "win_rate": ("win rate", " %"),
    "max_drawdown": ("drawdown max", " %"),
    "trade_density": ("trade density", " %"),
}
EVIDENCE_LABELS = {
    "sharpe_bound": "Sharpe, lower 95 % bound",
    "dsr": "deflated Sharpe (probability)",
    "pbo": "probability of overfitting",
    "trades": "closed trades",
    "drawdown_probability": "chance of too deep a drawdown in 30 days",
}


def label_of(name: str) -> tuple[str, str]:
    """How an objective is called on screen, and its unit."""
    bare = name.removesuffix("_pct").removesuffix("_min")
    return LABELS.get(bare, (bare.replace("_", " "), ""))


def phase_lines(view: View, width: int, height: int) -> list[Line]:
    """Cycles done of those required, each objective, the cycle; with more room its evidence, luck and feasibility."""
    snapshot = view.snapshot
    if snapshot is None:
        return waiting("phase", view, width)
    phase = snapshot.phase
    body = [objective_line(one, width) for one in phase.objectives]
    body.append(cycle_line(phase, width))
    spare = height - 1 - len(body)
    for extra in (_last_line(phase, width), *_sentences(phase, width, roomy=spare >= ROOM_FOR_ALL)):
        if extra and spare > 0:
            body.append(extra)
            spare -= 1
    missing = [one for one in phase.evidence if not one.met]
    if missing and spare > len(missing):
        body += [line((" evidence missing:", "dim")), *(evidence_line(one, width) for one in missing)]
        spare -= len(missing) + 1
    noted = [one for one in phase.objectives if one.note and one.value is not None]
    if noted and spare >= len(noted):
        body = _with_notes(phase, body, width)
    return headed(f"phase {phase.name}", view, width, body, cycles_note(phase))


def cycles_note(phase: PhaseView) -> Line:
    """`cycles 1/3`, and whether any of it is only provisional."""
    note = line((f"cycles {phase.cycles_done}/{phase.cycles_required}", "strong"))
    return (*note, (" PROVISIONAL", "warn")) if phase.provisional else note


def _with_notes(phase: PhaseView, body: list[Line], width: int) -> list[Line]:
    spaced: list[Line] = []
    for one, shown in zip(phase.objectives, body, strict=False):
        spaced.append(shown)
        if one.note and one.value is not None:
            spaced.append(line(("   " + cut_words(one.note, width - 3), "dim")))
    return spaced + body[len(phase.objectives) :]


def objective_line(one: ObjectiveView, width: int) -> Line:
    """`return /month  1.21 ≥ 2 %  95 %: 0.30  ✗ FAIL`, or the note in place of a value that is unknown."""
    label, unit = label_of(one.name)
    sign = "≤" if "drawdown" in one.name else "≥"
    glyph, role = VERDICTS.get(one.state, ("○", "dim"))
    verdict = line((f"{glyph} {one.state}", role))
    short = line((glyph, role))
    threshold = f"{sign} {figures.trimmed(one.threshold)}{unit}"
    left: list[Line] = []
    if one.value is None and one.note:
        left.append(line(f" {label:<13} ", (one.note, "dim"), " ", (threshold, "dim")))
        left.append(line(f" {label:<13} ", (one.note, "dim")))
    value = figures.number(one.value)
    shown = f"{value:>6}" if len(value) < 6 else f" {value}"
    head = line(f" {label:<13}", (f"{shown} ", "strong"), (threshold, "dim"))
    if one.bound is not None:
        gap = " " * max(30 - cells(head), 1)
        left.append((*head, (gap, "text"), (f"95 % {sign} {figures.number(one.bound)}", "dim")))
    left.append(head)
    choices = [spread(start, tail, width) for tail in (verdict, short) for start in left if _room(start, tail, width)]
    return first_fit(width, *choices, left[-1])


def _room(head: Line, tail: Line, width: int) -> bool:
    return cells(head) + cells(tail) + 1 <= width


def cycle_clock(phase: PhaseView) -> str:
    """How far the running cycle is: `day 12.9 of 30`, in hours where it is shorter than two days."""
    if phase.cycle_days < 2:
        hours = phase.cycle_days * 24
        return f"hour {phase.cycle_progress * hours:.1f} of {figures.trimmed(hours)}"
    return f"day {phase.cycle_progress * phase.cycle_days:.1f} of {figures.trimmed(phase.cycle_days)}"


def cycle_line(phase: PhaseView, width: int) -> Line:
    """The running cycle, what evidence is missing in days, and the chance of luck."""
    parts = [
        line(f" cycle {phase.cycle_number} ", (cycle_clock(phase), "strong")),
        _to_go(phase),
        line((f"luck {phase.luck * 100:.0f} %", "warn" if phase.luck > 0.05 else "good"))
        if phase.luck is not None
        else (),
    ]
    words = pack(width, parts)
    room = width - cells(words) - 2
    return (*words, ("  ", "text"), *gauge(phase.cycle_progress, min(room, 24))) if room >= 4 else words


def _to_go(phase: PhaseView) -> Line:
    if phase.gates_mode != "honest" or not phase.evidence:
        return ()
    if all(one.met for one in phase.evidence):
        return line(("evidence ✓", "good"))
    if phase.days_to_go is None:
        return line(("evidence short", "warn"))
    return line((f"{days(phase.days_to_go)} to go", "warn"))


def days(count: float) -> str:
    """
    >>> days(0.3), days(12.4), days(4000.0)
    ('0.3 d', '13 d', '11 years')
    """
    if count < 10:
        return f"{count:.1f} d"
    return f"{int(-(-count // 1))} d" if count < 1000 else f"{count / 365:.0f} years"


def _last_line(phase: PhaseView, width: int) -> Line:
    if not phase.last_verdict:
        return ()
    source = f" ({phase.last_source})" if phase.last_source else ""
    glyph, role = VERDICTS.get(phase.last_verdict.split()[0], ("○", "dim"))
    return line((" last cycle: ", "dim"), (cut_words(f"{glyph} {phase.last_verdict}{source}", width - 13), role))


def _sentences(phase: PhaseView, width: int, *, roomy: bool) -> list[Line]:
    """Feasibility and status: whole where there is room, else one row each."""
    found = []
    status = f"status {phase.status}: {phase.status_reason}" if phase.status_reason else f"status {phase.status}"
    for words, role in ((phase.feasibility, "warn"), (status if phase.status else "", "text")):
        if words:
            rows = wrapped(words, width - 1) if roomy else [cut_words(words, width - 1)]
            found += [line((f" {row}", role)) for row in rows]
    return found


# --- the screen --------------------------------------------------------------------------------------------------


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
            rows.append(Row(f"note {one.name}", line(("   " + cut_words(one.note, width - 3), "dim"))))
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
    words = [_last_line(phase, width)]
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


def evidence_line(one: EvidenceView, width: int) -> Line:
    """`✗ closed trades  26 of 100  24 d to go`."""
    glyph, role = ("✓", "good") if one.met else ("✗", "warn")
    label = EVIDENCE_LABELS.get(one.name, one.name.replace("_", " "))
    value = figures.trimmed(one.value) if one.value is None or abs(one.value) >= 10 else figures.number(one.value)
    room = max(min(width - 26, 42), 18)
    head = line((f" {glyph} ", role), f"{cut_words(label, room):<{room}}", (f"{value:>8}", "strong"))
    asked = line((f"  asked {figures.trimmed(one.threshold)}", "dim"))
    if one.met:
        return first_fit(width, (*head, *asked), head)
    never = "not known yet" if one.value is None else "never at this rate"
    wait = never if one.days_to_go is None else f"{days(one.days_to_go)} to go"
    return first_fit(width, (*head, *asked, (f"   {wait}", "warn")), (*head, (f"  {wait}", "warn")), head)


def _meaning(snapshot: Snapshot, width: int) -> list[Line]:
    phase = snapshot.phase
    sentences: list[Span] = []
    if phase.luck is not None:
        sentences.append(
            (f"Luck: a strategy without any skill looks this good in {phase.luck * 100:.1f} % of cases.", "text")
        )
    else:
        sentences.append(("Luck: not known yet, the record is too short.", "dim"))
    if phase.gates_mode == "honest" and phase.evidence and not all(one.met for one in phase.evidence):
        wait = (
            "the evidence does not grow at this rate" if phase.days_to_go is None else f"{days(phase.days_to_go)} to go"
        )
        sentences.append((f"Evidence: {wait}, if things go on as in this phase so far.", "text"))
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


def objective_details(one: ObjectiveView) -> list[Line]:
    """An objective in words."""
    label, unit = label_of(one.name)
    sign = "at most" if "drawdown" in one.name else "at least"
    bound = "not known yet" if one.bound is None else f"{figures.number(one.bound)}{unit}, one-sided"
    rows = [
        ("objective", label),
        ("value", f"{figures.number(one.value)}{unit}" if one.value is not None else one.note or figures.UNKNOWN),
        ("asked", f"{sign} {figures.trimmed(one.threshold)}{unit}"),
        ("95 % bound", bound),
        ("state", one.state),
        ("note", one.note or "-"),
        ("window", "the running cycle; evidence counts over all windows of the phase"),
    ]
    return [line((f"{name:<13}", "dim"), text) for name, text in rows]


class PhasePanel(Sheet):
    painter = staticmethod(phase_lines)
