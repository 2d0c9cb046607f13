"""The story of a run as one page: what each cycle earned, which gate decided, which model traded, and why.

Drawn from the journal alone. Realised figures and those of back-tests stand apart and are named in every line.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aml100.domain.units import iso_utc
from aml100.evaluation.drawing import Chart, Curve, Mark
from aml100.evaluation.style import STYLE
from aml100.market.series import Floats, Ints


@dataclass(frozen=True, slots=True)
class CycleStory:
    """One cycle. `earned_pct` is realised or computed as `source` says; `deciding` is the gate that decided and why.

    `in_sample`: some of its bars were those that the model had been made from.
    """

    number: int
    phase: str
    from_ms: int
    to_ms: int
    source: str
    in_sample: bool
    verdict: str
    counted: bool
    model: str
    earned_pct: float
    trades: int
    deciding: str
    figures: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened: `what` is its kind, `text` the sentence."""

    time_ms: int
    what: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class RunStory:
    """A run, or a span of a journal. Money in USD; `facts` are the head's lines, name and value."""

    title: str
    facts: Sequence[tuple[str, str]]
    times: Ints
    equity: Floats
    drawdown_pct: Floats
    cycles: Sequence[CycleStory]
    moments: Sequence[Moment]
    note: str


def deciding_gate(verdict: str, objectives: Sequence[Mapping[str, object]]) -> str:
    """Which objective decided a verdict, in words.

    >>> deciding_gate("FAIL", [{"name": "sharpe", "state": "UNKNOWN", "note": "n/a (3 of 30)", "threshold": 0.5}])
    'sharpe: n/a (3 of 30)'
    """
    order = {"FAIL": ("FAIL", "UNKNOWN"), "PROVISIONAL": ("PROVISIONAL",)}.get(verdict, ())
    words = []
    for one in objectives:
        if one["state"] in order:
            value, threshold = one.get("value"), one["threshold"]
            seen = f"{value:.4g} where {threshold:.4g} is asked" if isinstance(value, float) else ""
            words.append(f"{one['name']}: {one.get('note') or seen}")
    return "; ".join(words) or "every gate was passed"


def render_story(story: RunStory) -> str:
    """The whole page, self-contained."""
    marks = [
        Mark(one.time_ms, _level(story, one.time_ms), "dot", "won" if one.what == "promoted" else "lost", one.text)
        for one in story.moments
        if one.what in ("promoted", "rolled_back", "phase")
    ]
    equity = Chart("equity, USD", [Curve(story.times, story.equity, "own", "equity")], marks=marks)
    drawdown = Chart(
        "drawdown, %",
        [Curve(story.times, story.drawdown_pct, "area", "")],
        height=140,
        filled=True,
        unit="%",
        floor=0.0,
    )
    facts = _table(("", ""), [(html.escape(name), html.escape(value)) for name, value in story.facts])
    body = (
        f"<header><h1>{html.escape(story.title)}</h1></header>"
        f"<p class='note'>{html.escape(story.note)}</p>{facts}"
        f"<h2>Equity, USD</h2>{equity.svg()}<h2>Drawdown</h2>{drawdown.svg()}"
        f"<h2>Cycles</h2>{_cycles(story.cycles)}"
        f"<h2>Models, phases, checks</h2>{_moments(story.moments)}"
    )
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{html.escape(story.title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def _level(story: RunStory, time_ms: int) -> float:
    if not len(story.times):
        return 0.0
    row = int(np.searchsorted(story.times, time_ms, side="right")) - 1
    return float(story.equity[max(row, 0)])


def _cycles(cycles: Sequence[CycleStory]) -> str:
    if not cycles:
        return "<p class='quiet'>no cycle was finished</p>"
    rows = []
    for one in cycles:
        figures = ", ".join(
            f"{name} {'n/a' if value is None else f'{value:.2f}'}" for name, value in one.figures.items()
        )
        counted = "counted" if one.counted else "not counted"
        source = f"{one.source}, <b>in sample</b>" if one.in_sample else one.source
        rows.append(
            (
                str(one.number),
                html.escape(one.phase),
                f"{iso_utc(one.from_ms)[:10]} to {iso_utc(one.to_ms)[:10]}",
                f"{one.earned_pct:+.2f}&nbsp;% ({source})",
                str(one.trades),
                html.escape(one.model or "no model"),
                f"<b>{one.verdict}</b>, {counted}",
                html.escape(one.deciding) + f"<br><span class='quiet'>{html.escape(figures)}</span>",
            )
        )
    header = ("cycle", "phase", "window (UTC)", "earned", "trades", "model", "verdict", "which gate decided")
    return _table(header, rows)


def _moments(moments: Sequence[Moment]) -> str:
    if not moments:
        return "<p class='quiet'>nothing happened</p>"
    rows = [(iso_utc(one.time_ms) if one.time_ms else "", one.what, html.escape(one.text)) for one in moments]
    return _table(("when (UTC)", "what", "why"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in header)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if any(header) else ''}{lines}</table>"
