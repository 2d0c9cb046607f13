"""The history store from the shell: `import` other people's bars, and `history` of what is held."""

from __future__ import annotations

import sys

from aml100.cli.options import NETWORKS, HistoryOptions, ImportOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.cli.progress import Progress
from aml100.domain.errors import AmlError, DataFileError, SafetyRefusal
from aml100.domain.units import Coin, iso_utc
from aml100.storage.history import FUNDING, HistoryStore, SeriesSummary
from aml100.storage.importing import ImportReport, import_file


def import_files(options: ImportOptions) -> int:
    """Each file into the store of `--network`; gaps and duplicates are told, none is filled.

    A file that is refused leaves the others alone; its line stands on stderr, the last one's at the end.
    """
    store = HistoryStore(options.folder / "history", options.network)
    coin = Coin(options.coin) if options.coin is not None else None
    reports: list[ImportReport] = []
    refused: AmlError | None = None
    with Progress("import, file", len(options.files)) as progress:
        for number, file in enumerate(options.files):
            progress.update(number, file.name)
            try:
                reports.append(import_file(file, store, coin, options.source))
            except (DataFileError, SafetyRefusal) as error:
                if refused is not None:
                    sys.stderr.write(f"{refused}\n")
                refused = error
    if options.json:
        write_json([_report_document(report) for report in reports])
    else:
        for report in reports:
            write_line(_report_sentence(report))
    if refused is not None:
        raise refused
    return 0


def _report_sentence(report: ImportReport) -> str:
    what = "rates" if report.interval == FUNDING else "bars"
    replaced = f"{report.replaced} in place of others that were held, " if report.replaced else ""
    return (
        f"{report.path}: {report.coin} {report.interval} {report.rows} {what} from "
        f"{iso_utc(report.first_ms)} to {iso_utc(report.last_ms)}, {report.added} new, "
        f"{replaced}{report.duplicates} duplicates, {gaps_text(report.gaps, report.interval_ms)} ({report.origin})"
    )


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
        "interval": report.interval,
        "origin": report.origin,
        "first_ms": report.first_ms,
        "last_ms": report.last_ms,
        "rows": report.rows,
        "added": report.added,
        "duplicates": report.duplicates,
        "replaced": report.replaced,
        "gaps": [list(gap) for gap in report.gaps],
    }


def gaps_text(gaps: tuple[tuple[int, int], ...], interval_ms: int) -> str:
    """How many gaps there are, and how much is missing in them."""
    if not gaps:
        return "no gaps"
    missing = sum((to_ms - from_ms) // interval_ms for from_ms, to_ms in gaps)
    return f"{len(gaps)} gap{'' if len(gaps) == 1 else 's'} ({missing} missing)"
