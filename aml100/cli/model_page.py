"""One model on a page, for people: what it was made from, what it earned there, and whether it may trade."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml100.cli.output import write_line
from aml100.domain.units import interval_name, iso_utc

if TYPE_CHECKING:
    from aml100.learning.bundle import BundleRecord
    from aml100.learning.scores import HealthFinding


def write_page(record: BundleRecord, place: Path, journalled: Mapping[str, Any]) -> None:
    """`journalled`: what the state file knows of it (state, reason, parent, record, life); empty where it does not."""
    write_line(f"model {record.id} in {place}")
    for name, words in _facts(record, journalled):
        write_line(f"  {name:<11} {words}")
    write_health(record.health)
    for event in journalled.get("life", ()):
        write_line(f"  {iso_utc(event['time_ms'])} {event['event']}: {event['reason']}")


def write_health(findings: Iterable[HealthFinding]) -> None:
    """Each check by name, and in the last line which of them keep an engine from promoting the model."""
    found = list(findings)
    for finding in found:
        write_line(f"  {'ok ' if finding.healthy else 'BAD'} {finding.name}: {finding.detail}")
    sick = [finding.name for finding in found if not finding.healthy]
    if sick:
        write_line(f"an engine would not promote it: {', '.join(sick)}")


def _facts(record: BundleRecord, journalled: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    settings, found, seen = record.settings, record.validation, record.seen
    if journalled:
        parent = f"; after {journalled['parent']}" if journalled.get("parent") else ""
        yield "state", f"{journalled['state']}: {journalled['reason']}{parent}"
    span = "of a time that it does not say" if seen is None else f"{iso_utc(seen.from_ms)} to {iso_utc(seen.to_ms)}"
    yield (
        "made from",
        f"{', '.join(record.coins)}, {interval_name(record.interval_ms)} bars {span} ({record.data_origin})",
    )
    members = f", {record.members} members" if record.members > 1 else ""
    yield "network", f"LSTM {settings.lstm_layers} x {settings.lstm_hidden}{members}, seed {record.seed}"
    yield (
        "training",
        f"epoch {record.best_epoch} of {record.epochs} kept, {record.updates:,} updates on {record.device}",
    )
    factor = "n/a" if found.profit_factor is None else f"{found.profit_factor:.2f}"
    yield (
        "validation",
        f"net {found.net_return:+.2%} of one notional, standard error {found.net_stderr:.2%}, profit factor {factor}; "
        f"{found.trades:,} trades in {found.bars:,} bars",
    )
    judged = (journalled.get("record") or {}).get("hold_out")
    if judged:
        yield "hold-out", f"net {judged['net']:+.2%}, {judged['trades']:,} trades in {judged['bars']:,} bars"
    if record.not_mirrored_for:
        yield "mirrored", f"nothing: {record.not_mirrored_for} tells up from down"
