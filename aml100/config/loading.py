"""From files and environment to settings, each value with its origin.

Three layers, the later wins: the models' defaults, the files of the configuration folder, the variables
`AML100_<SECTION>__<KEY>`. Objects merge key by key, so a file need only hold what it changes. `phases` too, as long as
it names known phases; a file that names a phase of its own lists all of them, in its order.

A value that cannot be used is one `ConfigError` of one line: file (or variable), dotted key, value, what is allowed.
Pydantic decides what is wrong; the words come from the models' JSON schema, so range and type are stated once.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from aml100.config.models import Objectives, Params, Section, VenueConfig
from aml100.config.schema import allowed_at, field_at, keys_at
from aml100.domain.errors import ConfigError

FILES: Final = {"params": "params.json", "objectives": "objectives.json", "venue": "venue.json"}
PREFIX: Final = "AML100_"
SECRET_VARIABLES: Final = (
    "AML100_PRIVATE_KEY",
    "AML100_PRIVATE_KEY_FILE",
    "AML100_ACCOUNT_ADDRESS",
    "AML100_ALERT_WEBHOOK",
)
"""Read by name elsewhere, never part of the settings; a webhook's URL is a secret as well."""
DEFAULT_ORIGIN: Final = "default"

_MODELS: Final[dict[str, type[Section]]] = {"params": Params, "objectives": Objectives, "venue": VenueConfig}

Tree: TypeAlias = dict[str, Any]
"""Decoded JSON on its way to a model; nothing past this module sees one."""

KeyPath: TypeAlias = tuple[str, ...]
_SectionT = TypeVar("_SectionT", bound=Section)


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration.

    `origins` maps a dotted key (as `flatten` names them) to the file or variable that set it; absent means default.
    `directory` is the folder that was read, None where the packaged defaults serve.
    """

    params: Params
    objectives: Objectives
    venue: VenueConfig
    origins: Mapping[str, str]
    directory: Path | None


class SettingLine(NamedTuple):
    """One effective value, as `config show` prints it."""

    key: str
    value: object
    origin: str
    description: str
    allowed: str


def load_settings(
    config_dir: Path | None,
    environ: Mapping[str, str],
    tuned: Mapping[str, object] = MappingProxyType({}),
    tuned_origin: str = "",
) -> Settings:
    """Defaults, then the files of `config_dir` (None: `./config` where it exists), then the environment.

    Args:
        tuned: values by dotted key of params.json that stand over the files and under the environment, from
            `tuned_origin`.

    Raises:
        ConfigError: one line that names file or variable, key, value and what is allowed.
    """
    directory = _directory(config_dir)
    trees: dict[str, Tree] = {}
    origins: dict[tuple[str, KeyPath], str] = {}
    for stem, name in FILES.items():
        base = _MODELS[stem].model_validate({}).model_dump()
        path = directory / name if directory is not None else None
        if path is not None and _is_there(path):
            given = _read_object(path)
            if stem == "objectives":
                _drop_unlisted_phases(base, given)
            _merge(base, given)
            origins.update({(stem, key): str(path) for key, _ in _leaves(given, ())})
        trees[stem] = base
    for name, value in tuned.items():
        path_of = tuple(name.split("."))
        _put(trees["params"], path_of, value)
        origins["params", path_of] = tuned_origin
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in SECRET_VARIABLES:
            stem, key = _locate(variable, trees)
            _put(trees[stem], key, _parse_variable(stem, key, environ[variable]))
            origins[stem, key] = variable
    return Settings(
        params=_validated(Params, "params", trees, origins),
        objectives=_validated(Objectives, "objectives", trees, origins),
        venue=_validated(VenueConfig, "venue", trees, origins),
        origins={_public_key(stem, key): origin for (stem, key), origin in origins.items()},
        directory=directory,
    )


def flatten(settings: Settings) -> list[SettingLine]:
    """Every effective value in file order: params keys as they stand, the others under `objectives.` and `venue.`."""
    lines: list[SettingLine] = []
    for stem, model in (("params", settings.params), ("objectives", settings.objectives), ("venue", settings.venue)):
        for key, value in _leaves(model.model_dump(), ()):
            name = _public_key(stem, key)
            origin = settings.origins.get(name, DEFAULT_ORIGIN)
            field = field_at(_MODELS[stem], key)
            lines.append(SettingLine(name, value, origin, field.description, field.allowed))
    return lines


QUICK: Final[Tree] = {
    "model": {"lstm_layers": 1, "lstm_hidden": 32, "head_hidden": 32},
    "training": {
        "learning_rate": 1e-3,
        "cosine_t_0": 20,
        "epsilon_start": 0.2,
        "target_update": 0.03,
        "batch_stretches": 4,
        "burn_in_bars": 64,
        "stretch_bars": 256,
        "input_noise": 0.2,
        "average_update": 0.001,
    },
    "replay": {"alpha": 0.0},
}
"""What of params.json learns within a minute on one core (docs/learning.md); the plan's defaults take hours."""


def default_text(stem: str, quick: bool = False) -> str:
    """The text of one of the three files with all its defaults, or with QUICK's; `stem` is a key of `FILES`."""
    tree = _MODELS[stem].model_validate(QUICK if quick and stem == "params" else {}).model_dump()
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def config_init(directory: Path, quick: bool = False) -> list[Path]:
    """Write the three files with their defaults, or with QUICK's; never overwrites.

    Raises:
        ConfigError: one of them is there already (nothing is written then), or the folder cannot be written.
    """
    paths = [directory / name for name in FILES.values()]
    for path in paths:
        if _is_there(path):
            raise _refusal(f"{path}: exists already and is not overwritten; allowed: a folder without it")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for stem, path in zip(FILES, paths, strict=True):
            with path.open("x", encoding="utf-8") as file:
                file.write(default_text(stem, quick))
    except OSError as error:
        raise _refusal(f"{directory}: cannot be written: {error.strerror or error}") from None
    return paths


def _directory(config_dir: Path | None) -> Path | None:
    if config_dir is None:
        here = Path("config")
        return here if here.is_dir() else None
    if not config_dir.is_dir():
        raise _refusal(f"{config_dir}: no such folder; allowed: a folder with {', '.join(FILES.values())}")
    return config_dir


def _is_there(path: Path) -> bool:
    """Also a link that leads nowhere: a file that somebody meant to be read is not passed over in silence."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _refusal(f"{path}: cannot be read: {error.strerror or error}") from None
    return True


def _read_object(path: Path) -> Tree:
    def unique(pairs: list[tuple[str, Any]]) -> Tree:
        tree: Tree = {}
        for key, value in pairs:
            if key in tree:
                raise _refusal(f"{path}: {key} is given twice; allowed: each key once")
            tree[key] = value
        return tree

    def refuse_constant(text: str) -> Any:
        raise _refusal(f"{path}: {text} is no JSON number; allowed: finite numbers")

    try:
        text = path.read_text(encoding="utf-8-sig")
        tree = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant)
    except OSError as error:
        raise _refusal(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise _refusal(f"{path}: is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _refusal(f"{path}: line {error.lineno} column {error.colno}: not JSON: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise _refusal(f"{path}: not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise _refusal(f"{path}: holds {_shown(tree)}; allowed: one JSON object")
    return tree


def _drop_unlisted_phases(base: Tree, given: Tree) -> None:
    phases = given.get("phases")
    if isinstance(phases, dict) and not set(phases) <= set(base["phases"]):
        base["phases"] = {name: base["phases"].get(name, {}) for name in phases}


def _merge(base: Tree, given: Tree) -> None:
    """Put `given` over `base`, object by object."""
    for key, value in given.items():
        old = base.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            base[key] = value


def _leaves(value: Any, at: KeyPath) -> list[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, child in value.items() for leaf in _leaves(child, (*at, str(key)))]
    return [(at, value)]


def _locate(variable: str, trees: Mapping[str, Tree]) -> tuple[str, KeyPath]:
    """Which file and key a variable means; names are matched without regard to case."""
    words = variable.removeprefix(PREFIX).split("__")
    stem = words[0].lower() if words[0].lower() in ("objectives", "venue") else "params"
    wanted = words if stem == "params" else words[1:]
    key: KeyPath = ()
    for depth, word in enumerate(wanted):
        keys = keys_at(_MODELS[stem], key, trees[stem])
        if keys is None:
            raise _unknown_variable(variable, trees)
        found = next((name for name in keys.names if name.lower() == word.lower()), None)
        if found is None:
            if not (keys.is_open and word and depth == len(wanted) - 1):
                raise _unknown_variable(variable, trees)
            found = word.lower()
        key = (*key, found)
    if not key or keys_at(_MODELS[stem], key, trees[stem]) is not None:
        raise _unknown_variable(variable, trees)
    return stem, key


def _unknown_variable(variable: str, trees: Mapping[str, Tree]) -> ConfigError:
    known = [_variable_name(stem, key) for stem, tree in trees.items() for key, _ in _leaves(tree, ())]
    known.extend(SECRET_VARIABLES)
    if variable in known:  # an object: its keys are set one by one
        return _refusal(f"{variable}: is an object; allowed: {variable}__<KEY> with a key of it")
    return _refusal(
        f"{variable}: unknown environment variable{_did_you_mean(variable, known)}; "
        f"allowed: {PREFIX}<SECTION>__<KEY> with the keys of `config show`"
    )


def _variable_name(stem: str, key: KeyPath) -> str:
    return PREFIX + "__".join(_public_key(stem, key).split(".")).upper()


def _parse_variable(stem: str, key: KeyPath, text: str) -> Any:
    """The JSON value of a variable's text; text itself where the key takes text or the text is no JSON."""
    if field_at(_MODELS[stem], key).is_text:
        return text
    lowered = text.strip().lower()
    if lowered in ("true", "false", "null"):
        return json.loads(lowered)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(tree: Tree, key: KeyPath, value: Any) -> None:
    for word in key[:-1]:
        child = tree.get(word)
        if not isinstance(child, dict):
            child = tree[word] = {}
        tree = child
    tree[key[-1]] = value


def _validated(
    model: type[_SectionT], stem: str, trees: Mapping[str, Tree], origins: Mapping[tuple[str, KeyPath], str]
) -> _SectionT:
    try:
        return model.model_validate(trees[stem])
    except ValidationError as error:
        details = error.errors(include_url=False)
    raise _refusal(_one_line(stem, details, trees[stem], origins))


def _one_line(
    stem: str, details: Sequence[ErrorDetails], tree: Tree, origins: Mapping[tuple[str, KeyPath], str]
) -> str:
    detail = details[0]
    key = tuple(str(word) for word in detail["loc"])
    if detail["type"] == "value_error":  # a rule between keys; its text opens with the key it is about
        text = str(detail["ctx"]["error"])
        key = (*key, text.partition(":")[0])
        return f"{_origin(stem, key, origins)}: {text}"
    where = f"{_origin(stem, key, origins)}: {'.'.join(key)}"
    parent = keys_at(_MODELS[stem], key[:-1], tree)
    if detail["type"] == "extra_forbidden":
        names = parent.names if parent is not None else ()
        return (
            f"{where} = {_shown(detail['input'])} is an unknown key{_did_you_mean(key[-1], names)}; "
            f"allowed: {', '.join(names)}"
        )
    if detail["type"] == "missing":
        given = cast("Tree", detail["input"])
        phases = Objectives().phases if stem == "objectives" else {}
        hint = _did_you_mean(key[-2], tuple(phases)) if len(key) == 3 and key[-2] not in phases else ""
        beside = ", ".join(given) or "nothing"
        return f"{where} is missing beside {beside}{hint}; allowed: {allowed_at(_MODELS[stem], key)}"
    return f"{where} = {_shown(detail['input'])} is refused; allowed: {allowed_at(_MODELS[stem], key)}"


def _origin(stem: str, key: KeyPath, origins: Mapping[tuple[str, KeyPath], str]) -> str:
    """What set a key; for an object, what set the first thing below it."""
    for (other, path), origin in origins.items():
        if other == stem and (path[: len(key)] == key or (len(path) < len(key) and key[: len(path)] == path)):
            return origin
    return next((origin for (other, _), origin in origins.items() if other == stem), FILES[stem])


def _public_key(stem: str, key: KeyPath) -> str:
    return ".".join(key if stem == "params" else (stem, *key))


def _refusal(text: str) -> ConfigError:
    """The error of one line, whatever characters a key or a value held."""
    return ConfigError("".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text))


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f', did you mean "{by_lower[close[0]]}"?' if close else ""


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
