"""Who trades next, decided while no engine runs: the same rules as with one, journalled for its next start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from aml100.domain.errors import StateError, UsageError
from aml100.domain.events import CommandDone
from aml100.engine.admission import check_sound
from aml100.engine.modelbook import CHALLENGER, CHAMPION
from aml100.learning.bundle import Bundle, BundleError, load_bundle
from aml100.market.features import schema_digest
from aml100.storage.database import Database
from aml100.storage.entries import Entry, ModelEvent, ModelVersion, ParameterVersion, ShadowSaved
from aml100.storage.reader import StateReader


@contextmanager
def open_to_write(state: Path) -> Iterator[Database]:
    """The journal of a state file that no engine holds, as the account and ledger it belongs to.

    Raises:
        StateError: there is none, or it is damaged.
    """
    with StateReader.read(state) as reader:
        network, account, book = reader.meta("network"), reader.meta("account"), reader.book
    if network is None or account is None:
        raise StateError(f"{state}: names no network or account; allowed: one that `run` has made")
    with Database.open(state, "FULL", network, account, book) as database:
        yield database


def promote_offline(state: Path, model: str, by: str, now_ms: int) -> str:
    """Seat a model for the next start; it must load and be sound (SafetyRefusal, GUARANTEES B15)."""
    with open_to_write(state) as database:
        versions = {version.id: version for version in database.models()}
        place = Path(versions[model].path) if model in versions else state.parent / "models" / model
        bundle = _loaded(place)
        check_sound(bundle)
        facts = _seated(versions, bundle, f"by {by}", now_ms)
        facts.append(ModelEvent(now_ms, bundle.id, "promoted", f"by {by}, no engine was running"))
        text = f"{bundle.id} decides from the next start on"
        database.journal([*facts, CommandDone("promote", by, text, now_ms)]).result()
    return text


def rollback_offline(state: Path, by: str, now_ms: int) -> str:
    """Back to the champion before; UsageError where there is none that loads."""
    with open_to_write(state) as database:
        versions = {version.id: version for version in database.models()}
        present = next((one.id for one in versions.values() if one.state == CHAMPION), None)
        for event in reversed([one for one in database.model_events() if one.event == "promoted"]):
            version = versions.get(event.model)
            if version is None or version.id == present or version.state in ("rolled_back", "refused"):
                continue
            try:
                bundle = _loaded(Path(version.path))
            except BundleError:
                continue
            facts = _seated(versions, bundle, f"rolled back to by {by}", now_ms, left="rolled_back")
            if present is not None:
                facts.append(ModelEvent(now_ms, present, "rolled_back", f"by {by}, back to {bundle.id}"))
            facts.append(ModelEvent(now_ms, bundle.id, "promoted", f"rolled back to by {by}"))
            text = f"{bundle.id} decides from the next start on"
            database.journal([*facts, CommandDone("rollback", by, text, now_ms)]).result()
            return text
    raise UsageError("rollback: there is no earlier champion that can be loaded")


def _loaded(place: Path) -> Bundle:
    bundle = load_bundle(place)
    expected = schema_digest(bundle.record.interval_ms, bundle.record.settings.regimes)
    if bundle.record.schema != expected:
        raise BundleError(f"{place}: made for feature schema {bundle.record.schema}, this program has {expected}")
    return bundle


def _seated(
    versions: dict[str, ModelVersion], bundle: Bundle, reason: str, now_ms: int, *, left: str = "retired"
) -> list[Entry]:
    """The versions as they stand once this one is the champion; a shadow under way ends."""
    facts: list[Entry] = []
    for version in versions.values():
        if version.id == bundle.id:
            continue
        if version.state == CHAMPION:
            facts.append(replace(version, state=left, updated_ms=now_ms, reason=f"replaced by {bundle.id}"))
        elif version.state == CHALLENGER:
            facts.append(replace(version, state="refused", updated_ms=now_ms, reason=f"{bundle.id} was seated"))
            facts.append(ModelEvent(now_ms, version.id, "refused", f"{bundle.id} was seated {reason}"))
            facts.append(ShadowSaved(CHALLENGER, "", None))
    known = versions.get(bundle.id)
    fresh = ModelVersion(bundle.id, now_ms, now_ms, CHAMPION, str(bundle.path), seed=bundle.record.seed)
    facts.append(replace(known or fresh, state=CHAMPION, updated_ms=now_ms, reason=reason))
    return facts


def switch_parameters(database: Database, chosen: str | None, by: str, now_ms: int) -> str:
    """Put tuned parameters in force, or with None go back to the ones before them (or to the configuration alone).

    Raises:
        UsageError: no such version, or nothing to go back from.
    """
    versions = {one.id: one for one in database.parameter_versions()}
    active = database.active_parameters()
    if chosen is not None and chosen not in versions:
        raise UsageError(f"{chosen}: no such parameters; allowed: {', '.join(versions) or 'none yet, see optimize'}")
    if chosen is None and active is None:
        raise UsageError("rollback: no tuned parameters are in force")
    facts: list[ParameterVersion] = []
    if active is not None and active.id != chosen:
        left = "retired" if chosen is not None else "rolled_back"
        facts.append(replace(active, state=left, updated_ms=now_ms))
    if chosen is None:
        earlier = [one for one in versions.values() if one.state == "retired"]
        chosen = max(earlier, key=lambda one: one.updated_ms).id if earlier else None
    if chosen is not None:
        facts.append(replace(versions[chosen], state="active", updated_ms=now_ms, reason=f"promoted by {by}"))
    database.journal(facts).result()
    if chosen is None:
        return "the configuration alone is in force from the next start on"
    changes = json.loads(versions[chosen].changes)
    words = ", ".join(f"{key} {was} -> {now}" for key, (was, now) in changes.items())
    return f"{chosen} is in force from the next start on: {words}"
