"""From a class of options to an argparse parser and back.

argparse reads the arguments, but its errors become one line (`UsageError`) and its result an instance of the command's
own frozen class: nothing untyped goes on from here. Such a class reads like a dataclass and is none: making two dozen
of those took as long as every screen of the console together, at each start (GUARANTEES C5). Abbreviated options are
refused, since an abbreviation of today may mean something else tomorrow.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, NoReturn, TypeVar, dataclass_transform

from aml100.domain.errors import UsageError

if TYPE_CHECKING:
    from aml100.cli.options import Options

PROGRAM: Final = "aml100-console"
REQUIRED: Final = object()
_OptionsT = TypeVar("_OptionsT", bound="Options")


class Argument(NamedTuple):
    """How a field is given on the command line."""

    flag: str
    """`--name`, or the metavar of an operand."""
    parse: Callable[[str], object]
    words: str
    choices: tuple[str, ...] | None
    is_many: bool
    is_flag: bool
    is_operand: bool
    default: object
    """`REQUIRED` where there is none."""
    metavar: str | None


def option(
    flag: str,
    parse: Callable[[str], object],
    words: str,
    default: object = None,
    choices: tuple[str, ...] | None = None,
    *,
    many: bool = False,
    metavar: str | None = None,
) -> Any:
    """A field given as `--flag VALUE`; `many` takes several and may be repeated."""
    return Argument(flag, parse, words, choices, many, False, False, default, metavar)


def flag(name: str, words: str) -> Any:
    """A field that is true where `--name` is given."""
    return Argument(name, str, words, None, False, True, False, False, None)


def operand(
    metavar: str,
    parse: Callable[[str], object],
    words: str,
    choices: tuple[str, ...] | None = None,
    *,
    many: bool = False,
    default: object = REQUIRED,
) -> Any:
    """A field given by its place; required unless it has a default."""
    return Argument(metavar, parse, words, choices, many, False, True, default, metavar)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option, flag, operand))
class Declared:
    """Base of the options. `declared` holds a class's arguments by field name, those of its bases first."""

    declared: ClassVar[Mapping[str, Argument]] = {}

    def __init_subclass__(cls) -> None:
        found = {name: value for base in reversed(cls.__mro__[1:]) for name, value in _declared_in(base).items()}
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Argument)}
        cls.declared = {**found, **own}
        for name, argument in own.items():
            setattr(cls, name, None if argument.default is REQUIRED else argument.default)

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)
        self.__post_init__()

    def __post_init__(self) -> None:
        """What follows from several options together."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"options are frozen: {name}")


def _declared_in(base: type) -> Mapping[str, Argument]:
    return base.declared if issubclass(base, Declared) else {}


class OneLineParser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Raises UsageError with what argparse found wrong, and the nearest option where one was unknown."""
        _, marker, rest = message.partition("unrecognized arguments: ")
        if marker:
            unknown = rest.split()[0]
            known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
            close = difflib.get_close_matches(unknown.partition("=")[0], known, n=1)
            hint = f', did you mean "{close[0]}"?' if close else ""
            noun = "option" if unknown.startswith("-") else "argument"
            message = f"unknown {noun} {unknown}{hint}"
        raise UsageError(" ".join(f"{self.prog}: {message}; see {self.prog} --help".split()))


def build_parser(options_type: type[_OptionsT], command: str, summary: str) -> OneLineParser:
    """The parser of one command."""
    parser = OneLineParser(
        prog=f"{PROGRAM} {command}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    own = parser.add_argument_group("options of this command")
    common = parser.add_argument_group("options of all commands")
    shared_names = _declared_in(options_type.__mro__[-3])  # those of `Options`, under `Declared` and `object`
    for name, argument in options_type.declared.items():
        group = parser if argument.is_operand else common if name in shared_names else own
        _add(group, name, argument)
    return parser


def parse_options(options_type: type[_OptionsT], command: str, summary: str, arguments: Sequence[str]) -> _OptionsT:
    """The options in `arguments`; UsageError of one line, or SystemExit(0) after printing --help."""
    values = vars(build_parser(options_type, command, summary).parse_intermixed_args(list(arguments)))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return options_type(command=command, given=frozenset(values), **values)


def value_flags(options_type: type[_OptionsT]) -> dict[str, bool]:
    """Each flag of the options, with whether a value follows it."""
    return {one.flag: not one.is_flag for one in options_type.declared.values() if not one.is_operand}


def _add(group: Any, name: str, argument: Argument) -> None:
    words = argument.words.replace("%", "%%")
    if not argument.is_flag and argument.default not in (None, (), REQUIRED):
        words += f" (default {argument.default})"
    if argument.is_flag:
        group.add_argument(argument.flag, dest=name, action="store_true", help=words)
        return
    settings: dict[str, Any] = {"type": _reporting(argument), "help": words}
    if argument.choices is not None:
        settings["metavar"] = "{" + ",".join(argument.choices) + "}"
    else:
        settings["metavar"] = argument.metavar or argument.flag.removeprefix("--").upper().replace("-", "_")
    if argument.is_operand:
        if argument.is_many:
            settings["nargs"] = "+" if argument.default is REQUIRED else "*"
        elif argument.default is not REQUIRED:
            settings["nargs"] = "?"
        group.add_argument(name, **settings)
    elif argument.is_many:
        group.add_argument(argument.flag, dest=name, nargs="+", action="extend", **settings)
    else:
        group.add_argument(argument.flag, dest=name, **settings)


def _reporting(argument: Argument) -> Callable[[str], object]:
    """argparse replaces a ValueError's words with its own; this keeps ours.

    Some releases of Python hand over what stands for an operand that was left out as if it had been typed, and hold it
    against `choices`: so they are looked at here.
    """

    def checked(text: str) -> object:
        if text is argparse.SUPPRESS:
            return text
        if argument.choices is not None and text not in argument.choices:
            # argparse names an operand by its choices, and an option by its flag
            known = "" if argument.is_operand else f" (choose from {', '.join(map(repr, argument.choices))})"
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r}{known}")
        try:
            return argument.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked
