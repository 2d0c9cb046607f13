"""The command line: one table of commands, handlers imported when chosen, every failure one line on stderr.

Exit codes: 0 done, 1 failed while running, 2 bad usage, configuration or input, 3 refused for safety, 130 interrupted.
Options of all commands may stand before or after the command; no command means `run`. Nothing heavy is imported for
`--help`, `--version` or a usage error.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from aml100 import __version__
from aml100.cli import options as o
from aml100.cli.output import INTERRUPTED
from aml100.cli.parsing import PROGRAM, parse_options, value_flags
from aml100.domain.errors import AmlError, UsageError
from aml100.learning.threads import sleep_at_barriers
from aml100.logs import LogFormat, add_secrets_of, redact, set_up

Handler = Callable[[o.Options], int]


@dataclass(frozen=True, slots=True)
class Command:
    """`handler` is `module:function`, imported when the command is chosen."""

    options: type[o.Options]
    handler: str
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "run": Command(o.RunOptions, "aml100.cli.run:run", "start the engine, or find it, and open the console (default)"),
    "sim": Command(o.SimOptions, "aml100.cli.run:sim", "only the simulated venue, for any Hyperliquid client"),
    "attach": Command(o.ConsoleOptions, "aml100.cli.operate:attach", "the console of a running engine"),
    "status": Command(o.EngineOptions, "aml100.cli.operate:status", "one snapshot of the running engine"),
    "halt": Command(o.EngineOptions, "aml100.cli.operate:halt", "cancel, flatten, latch, and prove it"),
    "resume": Command(o.EngineOptions, "aml100.cli.operate:resume", "clear a halt or a pause"),
    "pause": Command(o.EngineOptions, "aml100.cli.operate:pause", "no new entries; exits and stops go on"),
    "flatten": Command(o.FlattenOptions, "aml100.cli.operate:flatten", "close positions"),
    "retrain": Command(o.EngineOptions, "aml100.cli.operate:retrain", "start a training now"),
    "reset": Command(o.EngineOptions, "aml100.cli.operate:reset", "retire the champion and start a new model"),
    "stop": Command(o.EngineOptions, "aml100.cli.operate:stop", "stop the engine cleanly"),
    "why": Command(o.WhyOptions, "aml100.cli.checks:why", "why it traded or did not"),
    "download": Command(
        o.DownloadOptions, "aml100.cli.download:download", "candles and funding into the history store"
    ),
    "import": Command(o.ImportOptions, "aml100.cli.data:import_files", "bars of other sources into the history store"),
    "history": Command(o.HistoryOptions, "aml100.cli.data:history", "what the history store holds"),
    "backtest": Command(o.BacktestOptions, "aml100.cli.backtest:backtest", "a policy over past bars"),
    "train": Command(o.TrainOptions, "aml100.cli.train:train", "a model from bars"),
    "walkforward": Command(
        o.WalkforwardOptions, "aml100.cli.walkforward:walkforward", "train and test, window by window"
    ),
    "optimize": Command(o.OptimizeOptions, "aml100.cli.optimize:optimize", "search on walk-forward validation"),
    "models": Command(o.ModelsOptions, "aml100.cli.models:models", "list, show, promote, rollback, export"),
    "phases": Command(o.PhasesOptions, "aml100.cli.phases:phases", "phase accounting over finished records"),
    "replay": Command(o.SpanOptions, "aml100.cli.replay:replay", "run recorded inputs again and compare decisions"),
    "report": Command(o.ReportOptions, "aml100.cli.report:report", "HTML report of a run, CSV exports"),
    "verify": Command(o.Options, "aml100.cli.checks:verify", "recompute balance, positions and equity, and compare"),
    "doctor": Command(o.DoctorOptions, "aml100.cli.doctor:doctor", "check everything around and say what to do"),
    "config": Command(o.ConfigOptions, "aml100.cli.checks:config", "init, check or show the configuration"),
    "bench": Command(o.BenchOptions, "aml100.cli.checks:bench", "measure against named peers"),
    "backup": Command(o.BackupOptions, "aml100.cli.checks:backup", "a consistent copy of the state file"),
}


_BAD_PATH = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG)
)
"""What is wrong with a path rather than with the disk or the moment."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit code."""
    add_secrets_of(os.environ)
    sleep_at_barriers(os.environ)
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except AmlError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone: stdout is pointed elsewhere so that the interpreter's last flush has nothing to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return AmlError.exit_code
    except OSError as error:
        if error.filename is not None and error.errno in _BAD_PATH:
            _say(f"{error.filename}: cannot be used ({error.strerror}); allowed: another path, or one open to you")
            return UsageError.exit_code
        _say(f"{error.filename or PROGRAM}: {error.strerror or error}")
        return AmlError.exit_code


def split_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The command and the arguments without it; `run` where none stands after the leading common options.

    >>> split_command(["--state", "s.db", "status", "--json"])
    ('status', ['--state', 's.db', '--json'])
    """
    takes_value = value_flags(o.Options)
    at = 0
    while at < len(arguments):
        name, equals, _ = arguments[at].partition("=")
        if name not in takes_value:
            break
        at += 2 if takes_value[name] and not equals else 1
    if at >= len(arguments) or arguments[at].startswith("-"):
        return "run", list(arguments)
    word = arguments[at]
    if word not in COMMANDS:
        close = difflib.get_close_matches(word, COMMANDS, n=1)
        hint = f', did you mean "{close[0]}"?' if close else ""
        raise UsageError(f"{PROGRAM}: unknown command {word!r}{hint}; see {PROGRAM} --help")
    return word, [*arguments[:at], *arguments[at + 1 :]]


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] in (["--help"], ["-h"]):
        sys.stdout.write(_help_text())
        return 0
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return 0
    name, rest = split_command(arguments)
    command = COMMANDS[name]
    try:
        options = parse_options(command.options, name, command.summary, rest)
    except SystemExit:  # argparse has printed the command's --help
        return 0
    set_up(options.log_level, cast(LogFormat, options.log_format))
    return _handler(name, command.handler)(options)


def _handler(name: str, where: str) -> Handler:
    module_name, _, function = where.partition(":")
    missing = UsageError(f"{name} is not built yet")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name == module_name:
            raise missing from None
        raise
    handler = getattr(module, function, None)
    if handler is None:
        raise missing
    return cast(Handler, handler)


def _say(line: str) -> None:
    sys.stderr.write(redact(" ".join(line.splitlines())) + "\n")


def _help_text() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        f"usage: {PROGRAM} [COMMAND] [OPTIONS]",
        "",
        "Autonomous trading system for Hyperliquid perpetuals.",
        "",
        "commands:",
        *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
        "",
        "options of all commands, before or after the command:",
        "  --config DIR        folder of objectives.json, params.json, venue.json (default ./config, else defaults)",
        "  --state PATH        the state file (default ./state.db), or postgresql+psycopg://USER@HOST/DB",
        "  --home DIR          with a state in PostgreSQL: the folder of everything else (default .)",
        "  --log-level LEVEL   debug, info, warning or error (default info)",
        "  --log-format FORM   text or json (default text)",
        "  --json              one JSON document on stdout, logs on stderr",
        "  --version           print the version",
        "",
        f"{PROGRAM} COMMAND --help tells the options of a command.",
    ]
    return "\n".join(lines) + "\n"
