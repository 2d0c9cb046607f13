"""The history store from the shell: `import` other people's bars, and `history` of what is held."""

from __future__ import annotations

from aml100.cli.options import NETWORKS, HistoryOptions, ImportOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.domain.units import Coin, interval_name, iso_utc
from aml100.storage.history import HistoryStore, SeriesSummary
from aml100.storage.importing import ImportReport
from aml100.storage.importing import import_files as import_bars


def import_files(options: ImportOptions) -> int:
    """Each file into the store of `--network`; gaps and duplicates are told, none is filled."""
    store = HistoryStore(options.folder / "history", options.network)
    coin = Coin(options.coin) if options.coin is not None else None
    reports = [import_bars([file], store, coin, options.source)[0] for file in options.files]
    if options.json:
        write_json([_report_document(report) for report in reports])
        return 0
    for report in reports:
        write_line(
            f"{report.path}: {report.coin} {interval_name(report.interval_ms)} {report.rows} bars from "
            f"{iso_utc(report.first_ms)} to {iso_utc(report.last_ms)}, {report.added} new, "
            f"{report.duplicates} duplicates, {_gaps_text(report.gaps, report.interval_ms)} ({report.origin})"
        )
    return 0


def history(options: HistoryOptions) -> int:
    """Span, rows and gaps of every series, of both networks unless one is chosen."""
    networks = (options.network,) if options.network is not None else NETWORKS
    held = [one for network in networks for one in HistoryStore(options.folder / "history", network).summary()]
    if options.coins:
        held = [one for one in held if one.coin in options.coins]
    if options.json:
        write_json([_summary_document(one) for one in held])
        return 0
    write_table(
        ("coin", "interval", "network", "from", "to", "rows", "gaps", "origin"),
        [
            (
                *(one.coin, one.interval, one.network, iso_utc(one.first_ms), iso_utc(one.last_ms)),
                *(one.rows, len(one.gaps), one.origin),
            )
            for one in held
        ],
    )
    return 0


def _summary_document(one: SeriesSummary) -> dict[str, object]:
    return {
        "coin": one.coin,
        "interval": one.interval,
        "first_ms": one.first_ms,
        "last_ms": one.last_ms,
        "rows": one.rows,
        "gaps": [list(gap) for gap in one.gaps],
        "origin": one.origin,
        "network": one.network,
    }


def _report_document(report: ImportReport) -> dict[str, object]:
    return {
        "path": str(report.path),
        "coin": report.coin,
        "interval": interval_name(report.interval_ms),
        "origin": report.origin,
        "first_ms": report.first_ms,
        "last_ms": report.last_ms,
        "rows": report.rows,
        "added": report.added,
        "duplicates": report.duplicates,
        "gaps": [list(gap) for gap in report.gaps],
    }


def _gaps_text(gaps: tuple[tuple[int, int], ...], interval_ms: int) -> str:
    if not gaps:
        return "no gaps"
    missing = sum((to_ms - from_ms) // interval_ms for from_ms, to_ms in gaps)
    return f"{len(gaps)} gap{'' if len(gaps) == 1 else 's'} ({missing} bars missing)"
