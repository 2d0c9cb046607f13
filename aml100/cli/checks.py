"""Looking after the house: `config` init, check and show."""

from __future__ import annotations

from pathlib import Path

from aml100.cli.options import ConfigOptions
from aml100.cli.output import write_json, write_line, write_table
from aml100.config.loading import config_init, flatten
from aml100.domain.errors import UsageError


def config(options: ConfigOptions) -> int:
    """`config init` writes the three files, `check` reads everything, `show` prints effective values and origins."""
    match options.action:
        case "init":
            paths = config_init(options.config if options.config is not None else Path("config"))
            if options.json:
                write_json({"written": [str(path) for path in paths]})
            else:
                for path in paths:
                    write_line(f"wrote {path}")
        case "check":
            settings = options.load_settings()
            directory = str(settings.directory) if settings.directory is not None else None
            if options.json:
                write_json({"ok": True, "directory": directory})
            else:
                write_line(f"ok: {directory or 'packaged defaults'}")
        case _:
            _show(options)
    return 0


def _show(options: ConfigOptions) -> None:
    lines = [line for line in flatten(options.load_settings()) if line.key.startswith(options.key or "")]
    if not lines:
        raise UsageError(f"config show: no key begins with {options.key!r}; allowed: the keys of `config show`")
    if options.json:
        write_json({line.key: line._asdict() for line in lines})
    else:
        write_table(("key", "value", "origin", "what it is"), [(*line[:3], line.description) for line in lines])
