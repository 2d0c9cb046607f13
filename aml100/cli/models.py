"""`models`: what there is, which one trades, and changing that by hand, with a running engine or without one.

Tuned parameters are versions too (`p-...`): shown with what they change, promoted and rolled back by the same words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from aml100.cli.operate import confirm, operator
from aml100.cli.options import ModelsOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.control.attach import engine_is_running, request_once
from aml100.domain.clock import wall_ms
from aml100.domain.errors import AmlError, UsageError
from aml100.domain.events import CommandDone
from aml100.storage.stores import has_state

if TYPE_CHECKING:
    from aml100.storage.entries import ModelVersion, ParameterVersion


def models(options: ModelsOptions) -> int:
    """`list`, `show ID`, `promote ID`, `rollback`, `export ID --out FILE`."""
    match options.action:
        case "list":
            if options.model is not None:
                raise UsageError(f"models list takes no id; allowed: models list, or models show {options.model}")
            return _list(options)
        case "show":
            return _show(options)
        case "export":
            return _export(options)
        case "promote":
            return _promote(options, _asked(options))
        case _:
            return _rollback(options)


def _asked(options: ModelsOptions) -> str:
    if options.model is None:
        raise UsageError(f"models {options.action}: no model; allowed: an id of models list")
    return options.model


# --- looking ------------------------------------------------------------------------------------------------------


def _list(options: ModelsOptions) -> int:
    from aml100.learning.bundle import BundleError, load_record

    versions, parameters = _journalled(options.state)
    folders = {path.parent.name: path.parent for path in sorted((options.folder / "models").glob("*/bundle.json"))}
    known = {version.id: version for version in versions}
    rows: list[tuple[object, ...]] = []
    documents: list[dict[str, object]] = []
    for model in [*known, *(name for name in folders if name not in known)]:
        version = known.get(model)
        place = Path(version.path) if version is not None and version.path else folders.get(model, Path(model))
        state, reason = (version.state, version.reason) if version is not None else ("not used", "")
        try:
            record = load_record(place)
        except BundleError as error:
            documents.append({"id": model, "state": state, "reason": str(error), "damaged": True})
            rows.append((model, f"{state}, DAMAGED", "", "", "", "", str(error)))
            continue
        judged = (json.loads(version.metrics) if version is not None else {}).get("hold_out")
        documents.append(
            msgspec.to_builtins(record)
            | {"state": state, "reason": reason, "hold_out": judged, "path": str(place), "damaged": False}
        )
        net = "" if not judged else f"{judged['net']:+.2%}"
        shown = f"{record.validation.net_return:+.2%}"
        rows.append((model, state, record.seed, shown, net, "yes" if record.healthy else "no", reason))
    if options.json:
        write_json(documents)
        return 0
    write_table(("model", "state", "seed", "validation", "hold-out", "healthy", "why"), rows)
    if parameters:
        write_line("")
        changes = [(one.id, one.state, one.source, _changes_words(one)) for one in parameters]
        write_table(("parameters", "state", "from", "what they change"), changes)
    return 0


def _show(options: ModelsOptions) -> int:
    from aml100.cli.model_page import write_page
    from aml100.learning.bundle import load_record
    from aml100.wiring.backtests import model_folder

    model = _asked(options)
    versions, parameters = _journalled(options.state)
    tuned = next((one for one in parameters if one.id == model), None)
    if tuned is not None:
        return _show_parameters(tuned, options.json)
    version = next((one for one in versions if one.id == model), None)
    place = Path(version.path) if version is not None and version.path else model_folder(options.folder, model)
    record, journalled = load_record(place), {} if version is None else _told(options.state, version)
    if options.json:
        write_json(msgspec.to_builtins(record) | journalled)
    else:
        write_page(record, place, journalled)
    return 0


def _show_parameters(tuned: ParameterVersion, as_json: bool) -> int:
    if as_json:
        write_json(msgspec.to_builtins(tuned) | {"changes": json.loads(tuned.changes), "reason": tuned.reason})
        return 0
    write_line(f"parameters {tuned.id}, {tuned.state}, from {tuned.source}: {tuned.reason}")
    write_line(f"  {_changes_words(tuned)}")
    return 0


def _export(options: ModelsOptions) -> int:
    from aml100.learning.bundle import load_bundle
    from aml100.learning.onnx_export import export_onnx
    from aml100.wiring.backtests import model_folder

    model = options.model or _champion_id(options.state)
    bundle = load_bundle(model_folder(options.folder, model))
    path = export_onnx(bundle, options.out or Path(f"{bundle.id}.onnx"))
    if options.json:
        write_json({"model": bundle.id, "path": str(path), "bytes": path.stat().st_size})
    else:
        write_line(f"{bundle.id} written to {path}")
    return 0


# --- changing who trades ------------------------------------------------------------------------------------------


def _promote(options: ModelsOptions, model: str) -> int:
    if model.startswith("p-"):
        return _switch_parameters(options, model)
    if engine_is_running(options.state):
        return _ask_engine(options, "promote", {"model": model})
    from aml100.engine.seating import promote_offline

    confirm("promote", options.yes, _last_run(options.state))
    return _said(options, promote_offline(options.state, model, operator(), wall_ms()))


def _rollback(options: ModelsOptions) -> int:
    if options.model is not None and options.model.startswith("p-"):
        return _switch_parameters(options, None)
    if options.model is not None:
        raise UsageError(
            f"models rollback {options.model}: goes back to the model before, not to a chosen one; allowed: models "
            f"rollback, models rollback p-…, or models promote {options.model}"
        )
    if engine_is_running(options.state):
        return _ask_engine(options, "rollback", {})
    from aml100.engine.seating import rollback_offline

    confirm("rollback", options.yes, _last_run(options.state))
    return _said(options, rollback_offline(options.state, operator(), wall_ms()))


def _switch_parameters(options: ModelsOptions, chosen: str | None) -> int:
    from aml100.engine.seating import open_to_write, switch_parameters

    confirm(options.action, options.yes, _last_run(options.state))
    with open_to_write(options.state) as database:
        text = switch_parameters(database, chosen, operator(), wall_ms())
        database.journal((CommandDone(options.action, operator(), text, wall_ms()),)).result()
    return _said(options, text)


def _ask_engine(options: ModelsOptions, command: str, arguments: dict[str, str]) -> int:
    state = request_once(options.state, operator(), "status", {}, options.timeout_s).data or {}
    confirm(command, options.yes, state)
    answer = request_once(options.state, operator(), command, arguments, options.timeout_s)
    if not answer.ok:
        raise _as_error(answer.text, answer.exit_code)
    return _said(options, answer.text)


def _as_error(text: str, code: int) -> AmlError:
    from aml100.domain.errors import SafetyRefusal

    return {2: UsageError, 3: SafetyRefusal}.get(code, AmlError)(text)


def _said(options: ModelsOptions, text: str) -> int:
    if options.json:
        write_json({"ok": True, "text": text})
    else:
        write_line(text)
    return 0


# --- what the journal knows ---------------------------------------------------------------------------------------


def _journalled(state: Path) -> tuple[tuple[ModelVersion, ...], tuple[ParameterVersion, ...]]:
    from aml100.storage.reader import StateReader

    if not has_state(state):
        return (), ()
    with StateReader.read(state) as reader:
        return reader.models(), reader.parameter_versions()


def _told(state: Path, version: ModelVersion) -> dict[str, object]:
    """What a state file knows of a model beside the model itself."""
    return {
        "state": version.state,
        "reason": version.reason,
        "parent": version.parent,
        "record": json.loads(version.metrics),
        "life": _life(state, version.id),
    }


def _life(state: Path, model: str) -> list[dict[str, object]]:
    from aml100.storage.reader import StateReader

    with StateReader.read(state) as reader:
        events = [one for one in reader.model_events() if one.model == model]
    return [
        {"time_ms": one.time_ms, "event": one.event, "reason": one.reason, "detail": json.loads(one.detail)}
        for one in events
    ]


def _champion_id(state: Path) -> str:
    champions = [version.id for version in _journalled(state)[0] if version.state == "champion"]
    if not champions:
        raise UsageError("models export: no champion here; allowed: an id of models list")
    return champions[-1]


def _last_run(state: Path) -> dict[str, str]:
    from aml100.storage.reader import StateReader

    with StateReader.read(state) as reader:
        runs = reader.runs()
    return {"venue": runs[-1].venue, "execution": runs[-1].execution} if runs else {"venue": "sim"}


def _changes_words(one: ParameterVersion) -> str:
    return ", ".join(f"{key} {was} -> {now}" for key, (was, now) in json.loads(one.changes).items())
