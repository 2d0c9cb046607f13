"""The book of model versions: what state each is in, what happened to it, and what of that is to be journalled.

Whoever decides writes into the book; `commit` journals everything of one step in one transaction and tells listeners.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aml100.control.protocol import MODELS_SHOWN, ModelView
from aml100.domain.errors import UsageError
from aml100.engine.listener import Listeners
from aml100.learning.bundle import Bundle, BundleError, load_bundle
from aml100.storage.database import Database
from aml100.storage.entries import Entry, ModelEvent, ModelVersion, ShadowSaved

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"


class ModelBook:
    """Every version known to one state. Not thread-safe: used between two events of the consumer."""

    def __init__(self, database: Database, listeners: Listeners, schema: str) -> None:
        self._database = database
        self._listeners = listeners
        self._schema = schema
        self._facts: list[Entry] = []
        self._told: list[dict[str, object]] = []
        self.versions: dict[str, ModelVersion] = {}

    def restore(self) -> None:
        """Read the versions; what was told but not committed yet stays."""
        self.versions = {version.id: version for version in self._database.models()}

    # --- what is written ----------------------------------------------------------------------------------------

    def keep(
        self, bundle: Bundle, state: str, reason: str, now_ms: int, *, metrics: str = "", parent: str | None = None
    ) -> None:
        """A version in a new state."""
        known = self.versions.get(bundle.id)
        self._record(
            ModelVersion(
                bundle.id,
                now_ms if known is None else known.created_ms,
                now_ms,
                state,
                str(bundle.path or ""),
                parent=parent or (known.parent if known else None),
                seed=bundle.record.seed,
                metrics=metrics or (known.metrics if known else "{}"),
                reason=reason,
            )
        )

    def mark(self, model: str, state: str, reason: str, now_ms: int) -> None:
        """The same of a version that is only known by its id; nothing where it is not known."""
        if model in self.versions:
            self._record(replace(self.versions[model], state=state, reason=reason, updated_ms=now_ms))

    def tell(self, model: str, event: str, reason: str, now_ms: int, record: Mapping[str, object]) -> None:
        """An event, with the record that it rests on."""
        self._facts.append(ModelEvent(now_ms, model, event, reason, json.dumps(record)))
        self._told.append({"id": model, "event": event, "reason": reason})

    def save_shadow(self, role: str, model: str, state: bytes | None) -> None:
        """The walk of a role as it stands; None: there is none any more."""
        self._facts.append(ShadowSaved(role, model, state))

    def commit(self) -> None:
        """What belongs to one step enters the journal in one transaction; then it is told."""
        facts, told, self._facts, self._told = self._facts, self._told, [], []
        if facts:
            self._database.journal(facts)
        for fields in told:
            self._listeners.on_event("model", fields)

    @property
    def has_news(self) -> bool:
        """Something was told and is not committed yet."""
        return bool(self._told)

    def _record(self, version: ModelVersion) -> None:
        self.versions[version.id] = version
        self._facts.append(version)

    # --- what is read -------------------------------------------------------------------------------------------

    def saved_shadow(self, role: str) -> ShadowSaved | None:
        """The walk of a role as the journal has it."""
        saved = self._database.shadow(role)
        return None if saved is None or saved.state is None else saved

    def load(self, model: str) -> Bundle:
        """A version by its id; BundleError where its folder is not whole, or is none."""
        version = next((one for one in self._database.models() if one.id == model), None)
        path = Path(version.path) if version is not None else Path(self._database.path).parent / "models" / model
        return load_bundle(path, schema=self._schema)

    def predecessor_of(self, present: str | None) -> Bundle:
        """The champion before; UsageError where there is none that loads."""
        seats = [e.model for e in self._database.model_events() if e.event == "promoted"]
        known = {version.id: version for version in self._database.models()}
        for model in reversed(seats):
            version = known.get(model)
            if model == present or version is None or version.state in ("rolled_back", "refused"):
                continue
            try:
                return load_bundle(Path(version.path), schema=self._schema)
            except BundleError as error:
                log.warning("no way back to %s: %s", model, error)
        raise UsageError("rollback: there is no earlier champion that can be loaded")

    # --- what is shown ------------------------------------------------------------------------------------------

    def view_of(self, bundle: Bundle | None) -> ModelView:
        """One model; None: there is none. What one from elsewhere would earn on a hold-out, nobody has seen."""
        if bundle is None:
            return ModelView(id=None, name="none yet")
        version = self.versions.get(bundle.id)
        if version is None:
            return ModelView(id=bundle.id, name=bundle.id, state=CHAMPION)
        return _view(version)

    def views(self) -> tuple[ModelView, ...]:
        """Every version, the latest first."""
        ordered = sorted(self.versions.values(), key=lambda version: version.created_ms, reverse=True)
        return tuple(map(_view, ordered[:MODELS_SHOWN]))


def _view(version: ModelVersion) -> ModelView:
    judged = (json.loads(version.metrics) or {}).get("hold_out")
    return ModelView(
        id=version.id,
        name=version.id,
        trained_ms=version.created_ms,
        validation=None if not judged else float(judged["net"]) * 100,
        note=version.reason,
        state=version.state,
    )
