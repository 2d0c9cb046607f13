"""What every screen has around its body: the banner, the line of commands under way, and the keys.

The banner says by word what must never be mistaken: the mode, the trading state, where the data comes from, and
whether what is shown is fresh. The character under it moves with the console's own frames, so a console that hangs
(nothing moves) and an engine that hangs (STALE, and the character moves) look different.
"""

from __future__ import annotations

from aml100.control.protocol import Snapshot
from aml100.tui import figures
from aml100.tui.commands import COMMAND_TABLE, halt_keys, held
from aml100.tui.ink import Line, cells, cut_words, line, pack, spread
from aml100.tui.view import Link, LinkState, Outcome, Replay, View

MIN_WIDTH = 80
MIN_HEIGHT = 24

STATE_ROLES = {
    "trading": "chip-good",
    "starting": "chip",
    "paused": "chip-warn",
    "manage_only": "chip-warn",
    "halted": "alarm",
    "stopped": "chip-warn",
}
_BEATS = "|/-\\"
REPLAY_KEYS = (
    ("Esc", "present"),
    ("←", "frame"),
    ("→", "frame"),
    ("shift ← →", "minute"),
    ("ctrl ← →", "hour"),
    ("g", "go to"),
    ("d", "screens d t o m k e a l"),
)


def state_word(state: str) -> str:
    """`manage_only` -> `MANAGE ONLY`."""
    return state.upper().replace("_", " ")


def banner_lines(view: View, width: int, _height: int) -> list[Line]:
    """Mode, state and its reason; freshness; then origin, venue, clock and health."""
    snapshot = view.snapshot
    tail = _tail(view, width)
    if snapshot is None:
        head = line((" mode ? ", "chip"), " ", ("no word from the engine yet", "dim"))
        return [spread(head, tail, width), _console_line(view, width)]
    fresh = view.link.state is LinkState.LIVE and view.replay is None
    state = (f" {state_word(snapshot.state)} ", view.role(STATE_ROLES.get(snapshot.state, "alarm"), "state"))
    chips = line(
        (f" mode {snapshot.mode} ", f"mode-{snapshot.mode.lower()}" if _known(snapshot.mode) else "alarm"),
        " ",
        state if fresh else (f" was {state_word(snapshot.state)} ", "chip"),
        " ",
    )
    if view.replay is not None:
        return [spread((*chips, *_replay_chip(view.replay)), tail, width), _facts_line(view, snapshot, width)]
    trouble = _trouble(view.link) or ("" if snapshot.state_reason else _no_model(snapshot))
    reason = cut_words(trouble or snapshot.state_reason, max(width - cells(chips) - cells(tail) - 1, 0))
    return [spread((*chips, (reason, "warn" if trouble else "text")), tail, width), _facts_line(view, snapshot, width)]


def _no_model(snapshot: Snapshot) -> str:
    """Why nothing is traded though trading is on; empty where there is a model, or a policy that needs none."""
    training = snapshot.training
    if snapshot.state != "trading" or snapshot.model.id is not None or training.state == "idle":
        return ""
    if training.state != "running":
        return f"no model, training {training.state}"
    wait = f", {figures.calm_span(training.eta_s)} to go" if training.eta_s is not None else ""
    return f"no model yet: in training{wait}"


def _tail(view: View, width: int) -> Line:
    """At the right: alerts that stand, who may command, and the line to the engine."""
    parts: list[Line] = []
    shown = view.snapshot.alerts if view.snapshot is not None and view.link.state is LinkState.LIVE else ()
    active = [one for one in shown if one.active]
    link = _link_chip(view.link)
    if view.read_only or not view.link.controller:
        parts.append(line((" READ-ONLY ", "chip-warn")))
    if active:
        role = "alarm" if any(one.level == "alarm" for one in active) else "chip-warn"
        parts.append(line((f" {len(active)} ALERT{'S' if len(active) > 1 else ''} ", role)))
    parts.append(link)
    return pack(width, parts, " ")


def _replay_chip(replay: Replay) -> Line:
    """Where in the past this is."""
    ago = figures.span((replay.last_ms - replay.frame_ms) / 1000)
    return line(
        (f" REPLAY {figures.day_time(replay.frame_ms)}:{figures.second(replay.frame_ms)[6:]} UTC, -{ago} ", "alarm")
    )


def _trouble(link: Link) -> str:
    """Why what is shown is old; empty while it is not."""
    match link.state:
        case LinkState.STALE:
            return "the engine is connected but silent"
        case LinkState.OFFLINE:
            return link.detail or "the engine is not there"
        case _:
            return ""


def _known(mode: str) -> bool:
    return mode in ("SIM", "PAPER", "TESTNET", "LIVE")


def _link_chip(link: Link) -> Line:
    """The line to the engine. Never the word LIVE: that is the mode of real money."""
    match link.state:
        case LinkState.LIVE:
            return line((" CONNECTED ", "good"))
        case LinkState.STALE:
            return line((f" STALE {figures.span(link.age_s)} ", "alarm"))
        case LinkState.OFFLINE:
            return line((f" OFFLINE {figures.span(link.age_s)} " if link.age_s is not None else " OFFLINE ", "alarm"))
        case LinkState.CONNECTING:
            return line((" CONNECTING ", "chip"))


def _beat(view: View) -> Line:
    """A character that moves with the console's own frames; at the left, since a row is sent up to its last change."""
    return line((_BEATS[view.beat % len(_BEATS)], "dim"))


def _console_line(view: View, width: int) -> Line:
    return (*_beat(view), (cut_words(" " + view.link.detail, width - 1), "dim"))


def _facts_line(view: View, snapshot: Snapshot, width: int) -> Line:
    origin_role = "warn" if snapshot.origin.startswith("synthetic") else "text"
    speed = f" ×{figures.trimmed(snapshot.speed)}" if snapshot.speed != 1 else ""
    lag_role = "text" if snapshot.loop_lag_ms < 100 else "warn"
    parts = [
        (*_beat(view), (f" {snapshot.origin}{speed}", origin_role)),
        line((figures.moment(snapshot.time_ms), "strong")),
        _access(snapshot),
        line(f"{snapshot.venue}/{snapshot.execution}"),
        line((f"lag {snapshot.loop_lag_ms:.0f} ms", lag_role)),
        line((f"up {figures.calm_span(snapshot.uptime_s)}", "dim")),
        line(("orders ", "dim"), _latency(snapshot)),
        line((f"model {snapshot.model.name}", view.role("dim", "model"))),
        line((f"run {snapshot.run_id}", "dim")),
        line((f"engine {snapshot.pid}", "dim")),
    ]
    return pack(width, parts)


def _access(snapshot: Snapshot) -> Line:
    """What may soon keep us from trading: key, clock or nonces (GUARANTEES B19); empty while they are in order."""
    access = snapshot.access
    role = {"amber": "warn", "red": "alarm"}.get(access.state)
    return line((f" {access.reason} " if role == "alarm" else access.reason, role)) if role is not None else ()


def _latency(snapshot: Snapshot) -> str:
    latency = snapshot.order_latency_ms
    return figures.UNKNOWN if latency is None else f"{latency:.1f} ms"


def operation_lines(view: View, width: int, _height: int) -> list[Line]:
    """The console's own notice, else the latest command: pending, then done or failed."""
    if view.notice:
        return [line((" " + cut_words(view.notice, width - 1), "alarm" if "HALT" in view.notice else "warn"))]
    if not view.operations:
        return []
    latest = view.operations[-1]
    glyph, role = {
        Outcome.PENDING: ("…", "accent"),
        Outcome.DONE: ("✓", "good"),
        Outcome.FAILED: ("✗", "bad"),
    }[latest.outcome]
    pending = sum(1 for one in view.operations if one.outcome is Outcome.PENDING)
    more = f" ({pending} pending)" if pending > 1 else ""
    head = line((f" {glyph} {latest.command.replace('_', ' ')} {latest.outcome}{more}", role), "  ")
    return [(*head, (cut_words(latest.text, width - cells(head)), "text"))]


def key_lines(view: View, width: int, _height: int) -> list[Line]:
    """The keys that work here, halt first; what has no room is in help and palette."""
    if view.replay is not None:
        return [
            pack(
                width,
                [_key(halt_keys(view.keys), "halt now", "alarm"), *(_key(key, word) for key, word in REPLAY_KEYS)],
                " ",
            )
        ]
    watches = not view.read_only and not view.link.controller
    idle = view.read_only or watches
    state = view.snapshot.state if view.snapshot is not None else ""
    useless = {"trading": "resume", "paused": "pause", "halted": "pause"}.get(state)
    shown = [
        command
        for command in sorted(COMMAND_TABLE, key=lambda one: 99 if one.bar is None else one.bar)
        if command.bar is not None
        and (command.id in ("halt", "take_over") or not (idle and command.to_engine))
        and not (command.id == "halt" and view.read_only)
        and (command.id != "take_over" or watches)
        and command.id != useless
    ]
    parts = []
    for command in shown:
        key = view.keys.get(command.id) or command.keys.split(",")[0].replace("question_mark", "?")
        is_halt = command.id == "halt"
        parts.append(_key(f"{key} {key}" if is_halt else key, command.label, "alarm" if is_halt else "key"))
    return [pack(width, parts, " ")]


def _key(key: str, label: str, role: str = "key") -> Line:
    return line((f" {key} ", role), label)


def notice_lines(view: View, width: int, height: int) -> list[Line]:
    """For a terminal too small: the size that is needed, and what must be known even so."""
    size = f"needs {MIN_WIDTH}x{MIN_HEIGHT}, has {width}x{height}"
    snapshot = view.snapshot
    facts: list[Line] = [line(("AML-100 ", "strong"), size), line((size, "text"))]
    if snapshot is not None:
        was = "" if view.link.state is LinkState.LIVE and view.replay is None else "was "
        facts.append(line((f" {snapshot.mode} ", "strong"), was + state_word(snapshot.state)))
    facts += operation_lines(view, width, 1)
    if snapshot is not None:
        facts.append(line(f"equity {figures.money(snapshot.equity)}"))
        facts.append(line(f"drawdown {figures.percent(snapshot.drawdown_pct)}"))
    facts.append(_link_chip(view.link))
    facts.append(
        line(("READ-ONLY", "warn")) if view.read_only else line((f" {halt_keys(view.keys)} ", "alarm"), " halt")
    )
    if snapshot is not None:
        naked = [one.coin for one in snapshot.positions if not one.protected]
        facts.append(line(held(snapshot)))
        if naked:
            facts.append(line((cut_words(f" NAKED: {', '.join(naked)}", width), "alarm")))
    fitting = [fact for fact in facts if cells(fact) <= width]
    return fitting[1:] if len(fitting) > 1 and fitting[0] == facts[0] and fitting[1] == facts[1] else fitting
