"""Looking after the house: `config`, `verify`, `why`, `backup` and `bench`.

What reads the state file reads the file itself, so it works with an engine running and without one, and changes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from aml100.cli.options import BackupOptions, BenchOptions, ConfigOptions, Options, WhyOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.config.loading import config_init, flatten
from aml100.domain.errors import UsageError
from aml100.domain.events import Decision
from aml100.domain.units import Coin, iso_utc


def config(options: ConfigOptions) -> int:
    """`config init` writes the three files, `check` reads everything, `show` prints effective values and origins."""
    if options.quick and options.action != "init":
        raise UsageError(f"config {options.action} --quick is refused; allowed: config init --quick")
    match options.action:
        case "init":
            paths = config_init(options.config if options.config is not None else Path("config"), options.quick)
            if options.json:
                write_json({"written": [str(path) for path in paths]})
            else:
                for path in paths:
                    write_line(f"wrote {path}")
        case "check":
            settings = options.load_settings()
            directory = str(settings.directory) if settings.directory is not None else None
            if options.json:
                write_json({"ok": True, "directory": directory})
            else:
                write_line(f"ok: {directory or 'packaged defaults'}")
        case _:
            _show(options)
    return 0


def verify(options: Options) -> int:
    """Recompute balance, positions and equity from the journal; exit 1 on any difference."""
    from aml100.storage import verifying
    from aml100.trading.ledger import apply_fill

    checks = verifying.verify(options.state, apply_fill, _saved_positions)
    ok = all(check.ok for check in checks)
    if options.json:
        write_json({"ok": ok, "checks": [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in checks]})
    else:
        write_table(("check", "", "what was found"), [(one.name, _word(one.ok), one.detail) for one in checks])
        write_line("verified" if ok else "DIFFERENCES FOUND")
    return 0 if ok else 1


def why(options: WhyOptions) -> int:
    """The last decisions with Q values and every gate's verdict, and how often each reason decided."""
    from aml100.storage.reader import FIRST_MS, LAST_MS, StateReader

    coin = Coin(options.coin) if options.coin is not None else None
    from_ms = FIRST_MS if options.from_ms is None else options.from_ms
    to_ms = LAST_MS if options.to_ms is None else options.to_ms
    with StateReader.read(options.state) as reader:
        if options.from_ms is None and options.to_ms is None:
            decisions = reader.last_decisions(coin, options.last)
        else:
            decisions = tuple(reversed(reader.decisions(from_ms, to_ms, coin)))[: options.last]
        histogram = reader.why_histogram(coin, from_ms, to_ms)
    if options.json:
        write_json(
            {"decisions": [_decision_document(one) for one in decisions], "histogram": dict(histogram)},
        )
        return 0
    write_table(
        ("bar", "coin", "action", "q hold, buy, sell", "regime", "outcome", "gates"),
        [
            (
                *(iso_utc(one.bar_ms), one.coin, one.action.name, _q_text(one.q), one.regime, one.outcome),
                _gates_text(one),
            )
            for one in decisions
        ],
    )
    total = sum(count for _, count in histogram)
    write_line("")
    write_table(
        ("reason", "decisions", "share"),
        [(label, count, f"{100 * count / total:.1f} %") for label, count in histogram],
    )
    return 0


def backup(options: BackupOptions) -> int:
    """A consistent copy of the state and its archives of inputs, also while an engine writes; never over another."""
    from aml100.storage.database import backup as copy_database
    from aml100.storage.inputs import archive_folder

    copy_database(options.state, options.file)
    archives = sorted(archive_folder(options.file).glob("*.parquet"))
    size = sum(file.stat().st_size for file in (options.file, *archives))
    if options.json:
        write_json({"path": str(options.file), "bytes": size, "archives": len(archives)})
    else:
        beside = f" and {len(archives)} archives to {archive_folder(options.file)}" if archives else ""
        write_line(f"copied {options.state} to {options.file}{beside}")
    return 0


def bench(options: BenchOptions) -> int:
    """Measure against the named peers; a missed or open goal is in the figures, not in the exit code."""
    from aml100.bench.families import trials_of
    from aml100.bench.report import TABLE_HEADER, summary, table_row
    from aml100.bench.running import run_trial

    trials = trials_of(options.names)
    rows = []
    with Progress("bench", len(trials)) as progress:
        for done, (family, trial) in enumerate(trials):

            def say(text: str, done: int = done) -> None:
                progress.update(done, text)

            say(f"{family}: {trial.budget} {trial.figures[0].name}")
            rows += run_trial(trial, options.peers, options.repetitions, say)
    if options.json:
        write_json([row.document() for row in rows])
    else:
        write_table(TABLE_HEADER, map(table_row, rows))
        write_line("")
        write_line(summary(rows))
    return 0


def _show(options: ConfigOptions) -> None:
    lines = [line for line in flatten(options.load_settings()) if line.key.startswith(options.key or "")]
    if not lines:
        raise UsageError(f"config show: no key begins with {options.key!r}; allowed: the keys of `config show`")
    if options.json:
        write_json({line.key: line._asdict() for line in lines})
    else:
        write_table(("key", "value", "origin", "what it is"), [(*line[:3], line.description) for line in lines])


def _saved_positions(state: bytes) -> Mapping[Coin, Decimal]:
    """Signed sizes by coin in the core's saved state."""
    from aml100.trading.state import decode_state

    return {coin: position.size for coin, position in decode_state(state).book.positions.items()}


def _decision_document(one: Decision) -> dict[str, object]:
    return {
        "coin": one.coin,
        "bar_ms": one.bar_ms,
        "action": int(one.action),
        "q": list(one.q) if one.q is not None else None,
        "regime": one.regime,
        "confidence": one.confidence,
        "outcome": one.outcome,
        "gates": [{"name": gate.name, "ok": gate.ok, "reason": gate.reason} for gate in one.gates],
    }


def _gates_text(one: Decision) -> str:
    """The gates that refused, with their reasons; all that passed as a number."""
    refusing = [f"{gate.name}: {gate.reason}" for gate in one.gates if not gate.ok]
    return "; ".join(refusing) or f"{len(one.gates)} passed"


def _q_text(q: tuple[float, float, float] | None) -> str:
    return "-" if q is None else " ".join(f"{value:+.4f}" for value in q)


def _word(ok: bool) -> str:
    return "ok" if ok else "WRONG"
