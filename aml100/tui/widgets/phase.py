"""The phase: each objective with value, bound, threshold and state; the cycle; what evidence is missing, how long.

The panel shows what its room allows, the screen `o` everything. What the figures alone would suggest is never shown
without what they are worth: days of evidence to go, and how often luck alone would look as good.
"""

from __future__ import annotations

from aml100.control.protocol import EvidenceView, ObjectiveView, PhaseView
from aml100.tui import figures
from aml100.tui.ink import Line, cells, cut_words, emphasised, first_fit, gauge, line, pack, spread, wrapped
from aml100.tui.view import View
from aml100.tui.widgets.panels import VERDICTS, headed, waiting

NARROW = 40
"""Width in which a value is moved a cell to the left, so that PROVISIONAL has room behind a value of five digits."""

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
    "sharpe_bound": "Sharpe lower bound",
    "dsr": "deflated Sharpe",
    "pbo": "odds of overfitting",
    "trades": "closed trades",
    "drawdown_probability": "odds of deep fall",
}
AT_MOST = frozenset({"pbo", "drawdown_probability"})
"""Evidence that must not exceed its threshold."""

EVIDENCE_MEANINGS = {
    "sharpe_bound": "95 % sure that the true ratio is no lower",
    "dsr": "probability that skill is behind the best of all trials",
    "pbo": "probability that the best of the trials is the best by overfitting",
    "trades": "round trips over the phase",
    "drawdown_probability": "probability of a fall deeper than allowed within 30 days",
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
    body = [objective_line(one, width, fresh=f"objective {one.name}" in view.fresh) for one in phase.objectives]
    body.append(cycle_line(phase, width))
    spare = height - 1 - len(body)
    for extra in (last_line(phase, width), *_sentences(phase, width, roomy=spare >= ROOM_FOR_ALL)):
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
    return headed(f"phase {phase.name}", view, width, body, cycles_note(phase, view.role("strong", "cycles")))


def cycles_note(phase: PhaseView, role: str = "strong") -> Line:
    """`cycles 1/3`, and whether any of it is only provisional."""
    note = line((f"cycles {phase.cycles_done}/{phase.cycles_required}", role))
    return (*note, (" PROVISIONAL", "warn")) if phase.provisional else note


def _with_notes(phase: PhaseView, body: list[Line], width: int) -> list[Line]:
    spaced: list[Line] = []
    for one, shown in zip(phase.objectives, body, strict=False):
        spaced.append(shown)
        if one.note and one.value is not None:
            spaced.append(line(("   " + cut_words(note_words(one), width - 3), "dim")))
    return spaced + body[len(phase.objectives) :]


def note_words(one: ObjectiveView) -> str:
    """The note in words: `needs trades, dsr` names pieces of evidence."""
    wanted = one.note.removeprefix("needs ")
    if wanted == one.note:
        return one.note
    return "evidence missing: " + ", ".join(EVIDENCE_LABELS.get(name, name) for name in wanted.split(", "))


def objective_line(one: ObjectiveView, width: int, *, fresh: bool = False) -> Line:
    """`return /month  1.21 ≥ 2 %  phase ≥ 0.30 (95 %)  ✗ FAIL`, or the note in place of a value that is unknown."""
    label, unit = label_of(one.name)
    sign = "≤" if "drawdown" in one.name else "≥"
    glyph, role = VERDICTS.get(one.state, ("○", "dim"))
    role = emphasised(role) if fresh else role
    verdict = line((f"{glyph} {one.state}", role))
    short = line((glyph, role))
    threshold = f"{sign} {figures.trimmed(one.threshold)}{unit}"
    left: list[Line] = []
    if one.value is None and one.note:
        left.append(line(f" {label:<13} ", (one.note, "dim"), " ", (threshold, "dim")))
        left.append(line(f" {label:<13} ", (one.note, "dim")))
    value = figures.number(one.value, 2 if one.value is None or abs(one.value) < 100 else 1)
    if width <= NARROW:
        shown = f"{value:>5}" if len(label) < 13 or len(value) < 5 else f" {value}"
    else:
        shown = f"{value:>6}" if len(value) < 6 else f" {value}"
    head = line(f" {label:<13}", (f"{shown} ", "strong"), (threshold, "dim"))
    if one.bound is not None:
        gap = " " * max(30 - cells(head), 1)
        left.append((*head, (gap, "text"), (f"phase {sign} {figures.number(one.bound)} (95 %)", "dim")))
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
    if phase.obstacle:
        return line(("cannot pass", "warn"))
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


def last_line(phase: PhaseView, width: int) -> Line:
    if not phase.last_verdict:
        return ()
    source = f" ({phase.last_source})" if phase.last_source else ""
    glyph, role = VERDICTS.get(phase.last_verdict.split()[0], ("○", "dim"))
    return line((" last cycle: ", "dim"), (cut_words(f"{glyph} {phase.last_verdict}{source}", width - 13), role))


def _sentences(phase: PhaseView, width: int, *, roomy: bool) -> list[Line]:
    """What stands in the way, feasibility and status: whole where there is room, else one row each."""
    found = []
    status = f"status {phase.status}: {phase.status_reason}" if phase.status_reason else f"status {phase.status}"
    said = ((phase.obstacle, "warn"), (phase.feasibility, "dim"), (status if phase.status else "", "text"))
    for words, role in said:
        if words:
            rows = wrapped(words, width - 1) if roomy else [cut_words(words, width - 1)]
            found += [line((f" {row}", role)) for row in rows]
    return found


def evidence_line(one: EvidenceView, width: int) -> Line:
    """`✗ closed trades  26 ≥ 100  24 d to go`; with room for it, what the figure means."""
    glyph, role = ("✓", "good") if one.met else ("✗", "warn")
    label = EVIDENCE_LABELS.get(one.name, one.name.replace("_", " "))
    asked = f"{'≤' if one.name in AT_MOST else '≥'} {figures.trimmed(one.threshold)}"
    value = figures.UNKNOWN if one.value is None else f"{one.value:.4g}"
    head = line((f" {glyph} ", role), f"{label:<19}", (f"{value:>6} ", "strong"), (f"{asked:<6}", "dim"))
    wait = "" if one.met else "days unknown" if one.days_to_go is None else f"{days(one.days_to_go)} to go"
    waiting_words = (f"{wait:<13}", "warn")
    meaning = (EVIDENCE_MEANINGS.get(one.name, ""), "dim")
    bare = line((f" {glyph} ", role), f"{label:<19}", (f"{value:>6} ", "strong"), (asked, "dim"))
    return first_fit(width, (*head, waiting_words, meaning), (*head, (wait, "warn")), bare)
