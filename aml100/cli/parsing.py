"""From a dataclass of options to an argparse parser and back.

argparse reads the arguments, but its errors become one line (`UsageError`) and its result the command's own frozen
dataclass: nothing untyped goes on from here. Abbreviated options are refused, since an abbreviation of today may mean
something else tomorrow.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from aml100.domain.errors import UsageError

if TYPE_CHECKING:
    from aml100.cli.options import Options

PROGRAM: Final = "aml100-console"
_KEY: Final = "argument"
_OptionsT = TypeVar("_OptionsT", bound="Options")


@dataclass(frozen=True, slots=True)
class Argument:
    """How a field is given on the command line."""

    flag: str
    """`--name`, or the metavar of an operand."""
    parse: Callable[[str], object]
    words: str
    choices: tuple[str, ...] | None
    is_many: bool
    is_flag: bool
    is_operand: bool
    is_required: bool
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
    argument = Argument(flag, parse, words, choices, many, False, False, False, metavar)
    return dataclasses.field(default=default, metadata={_KEY: argument})


def flag(name: str, words: str) -> Any:
    """A field that is true where `--name` is given."""
    return dataclasses.field(
        default=False, metadata={_KEY: Argument(name, str, words, None, False, True, False, False, None)}
    )


def operand(
    metavar: str,
    parse: Callable[[str], object],
    words: str,
    choices: tuple[str, ...] | None = None,
    *,
    many: bool = False,
    default: object = dataclasses.MISSING,
) -> Any:
    """A field given by its place; required unless it has a default."""
    required = default is dataclasses.MISSING
    argument = Argument(metavar, parse, words, choices, many, False, True, required, metavar)
    return dataclasses.field(default=None if required else default, metadata={_KEY: argument})


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
    shared_names = _common_names(options_type)
    for field in dataclasses.fields(options_type):
        argument = field.metadata.get(_KEY)
        if isinstance(argument, Argument):
            group = parser if argument.is_operand else common if field.name in shared_names else own
            _add(group, field.name, field.default, argument)
    return parser


def parse_options(options_type: type[_OptionsT], command: str, summary: str, arguments: Sequence[str]) -> _OptionsT:
    """The options in `arguments`; UsageError of one line, or SystemExit(0) after printing --help."""
    values = vars(build_parser(options_type, command, summary).parse_args(list(arguments)))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return options_type(command=command, given=frozenset(values), **values)


def value_flags(options_type: type[_OptionsT]) -> dict[str, bool]:
    """Each flag of the options, with whether a value follows it."""
    arguments = [field.metadata.get(_KEY) for field in dataclasses.fields(options_type)]
    return {one.flag: not one.is_flag for one in arguments if isinstance(one, Argument) and not one.is_operand}


def _common_names(options_type: type[Any]) -> frozenset[str]:
    root = options_type.__mro__[-2]
    return frozenset(field.name for field in dataclasses.fields(root))


def _add(group: Any, name: str, default: object, argument: Argument) -> None:
    words = argument.words.replace("%", "%%")
    if not argument.is_flag and default not in (None, ()) and not argument.is_required:
        words += f" (default {default})"
    if argument.is_flag:
        group.add_argument(argument.flag, dest=name, action="store_true", help=words)
        return
    settings: dict[str, Any] = {"type": _reporting(argument.parse), "help": words}
    if argument.choices is not None:
        settings["choices"] = argument.choices
    if argument.choices is None:
        settings["metavar"] = argument.metavar or argument.flag.removeprefix("--").upper().replace("-", "_")
    if argument.is_operand:
        if argument.is_many:
            settings["nargs"] = "+" if argument.is_required else "*"
        elif not argument.is_required:
            settings["nargs"] = "?"
        group.add_argument(name, **settings)
    elif argument.is_many:
        group.add_argument(argument.flag, dest=name, nargs="+", action="extend", **settings)
    else:
        group.add_argument(argument.flag, dest=name, **settings)


def _reporting(parse: Callable[[str], object]) -> Callable[[str], object]:
    """argparse replaces a ValueError's words with its own; this keeps ours."""

    def checked(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return checked
