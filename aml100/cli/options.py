"""Every command's options, stated once: a frozen class per command from which its parser is built.

A field made with `option`, `flag` or `operand` carries its flags, its parser and its help; `parsing.parse_options`
turns arguments into an instance. `given` names the fields that the operator set, so that a default can be told from a
choice. A handler is `def handler(options: RunOptions) -> int`; what it
returns is the exit code.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aml100.cli.parsing import Declared, flag, operand, option
from aml100.cli.values import (
    VenueChoice,
    number_from,
    parse_coin,
    parse_count,
    parse_days,
    parse_hex_key,
    parse_interval,
    parse_moment_ms,
    parse_path,
    parse_port,
    parse_positive,
    parse_positive_usd,
    parse_state,
    parse_venue,
    parse_wait_s,
    parse_whole,
)
from aml100.domain.errors import UsageError
from aml100.logs import LEVELS
from aml100.storage.address import DatabaseUrl, note_address

if TYPE_CHECKING:
    from aml100.config.loading import Settings

POLICIES: Final = ("model", "flat", "random", "buy-and-hold", "momentum", "mean-reversion")
BACKTEST_POLICIES: Final = (*POLICIES, "oracle")
NETWORKS: Final = ("mainnet", "testnet")
TUNED_COMMANDS: Final = ("run", "config", "backtest", "train", "walkforward", "optimize")
"""Commands that follow the tuned parameters in force on their state file."""


class Options(Declared):
    """What every command takes, before or after its name."""

    command: str = ""
    given: frozenset[str] = frozenset()
    config: Path | None = option("--config", parse_path, "folder of the three files (default ./config, else defaults)")
    state: Path = option(
        "--state", parse_state, "the state file, or postgresql+psycopg://USER@HOST/DB", default=Path("state.db")
    )
    home: Path | None = option("--home", parse_path, "with a state in PostgreSQL: the folder of everything else")
    log_level: str = option("--log-level", str, "least level logged", "info", LEVELS)
    log_format: str = option("--log-format", str, "lines for people or for machines", "text", ("text", "json"))
    json: bool = flag("--json", "one JSON document on stdout, logs on stderr")

    def __post_init__(self) -> None:
        """A database given by its URL becomes the path of the note that stands for it in the home."""
        given: object = self.state
        if isinstance(given, DatabaseUrl):
            object.__setattr__(self, "state", note_address(given, self.home or Path()))
        elif self.home is not None:
            raise UsageError(
                "--home: only with --state postgresql+psycopg://…; beside a state file its own folder is the home"
            )

    @property
    def folder(self) -> Path:
        """Where history/, models/, HALT and engine.log lie: beside the state file."""
        return self.state.parent

    def load_settings(self) -> Settings:
        """The effective configuration; ConfigError where it cannot be used."""
        from aml100.config.loading import load_settings
        from aml100.storage.tuned import tuned_in_force

        tuned = tuned_in_force(self.state) if self.command in TUNED_COMMANDS else None
        if tuned is None:
            settings = load_settings(self.config, os.environ)
        else:
            settings = load_settings(self.config, os.environ, tuned.values, f"{self.state} {tuned.id}")
        if settings.params.console.keys:  # what may be remapped is the console's to say
            from aml100.tui.commands import checked_keys

            checked_keys(settings.params.console.keys)
        return settings


class ConsoleOptions(Options):
    fps: float | None = option("--fps", number_from(0.1, 30), "redraws per second, for slow links")
    theme: str | None = option("--theme", str, "colours", None, ("dark", "light", "colour-blind", "16-colour"))
    ascii: bool = flag("--ascii", "draw with ASCII only")
    low_bandwidth: bool = flag("--low-bandwidth", "a frame in two seconds: under 0.5 kB/s at real speed")
    read_only: bool = flag("--read-only", "look, never command")


class TapeOptions(Options):
    """What a simulated venue plays."""

    data: tuple[Path, ...] = option("--data", parse_path, "bars to replay (Parquet, Feather, CSV)", (), many=True)
    funding: tuple[Path, ...] = option("--funding", parse_path, "funding history (time, rate)", (), many=True)
    warmup_bars: int | None = option(
        "--warmup-bars", parse_whole, "bars served as history (default 1000, at most half)"
    )
    process: str = option("--process", str, "synthetic market where no file is given", "regimes")
    speed: float = option("--speed", parse_positive, "market time runs so many times faster", 1.0)
    seed: int = option("--seed", parse_whole, "seed of everything random", 0)
    coins: tuple[str, ...] = option("--coin", parse_coin, "market, as BTC or xyz:XYZ100; repeatable", (), many=True)
    faults: Path | None = option("--faults", parse_path, "faults of the simulated venue, a JSON file (docs/venue.md)")


class RunOptions(ConsoleOptions, TapeOptions):
    no_tui: bool = flag("--no-tui", "the engine in the foreground, without a screen; with --json events as JSON lines")
    venue: VenueChoice = option(
        "--venue", parse_venue, "sim, testnet, mainnet or http://HOST:PORT", VenueChoice("sim"), metavar="VENUE"
    )
    execution: str | None = option(
        "--execution", str, "where orders go (default: venue on sim, else paper)", None, ("paper", "venue")
    )
    policy: str = option("--policy", str, "who decides; oracle in backtest only", "model", BACKTEST_POLICIES)
    model: str | None = option("--model", str, "model by id or path (default: the champion)", metavar="ID_OR_PATH")
    duration_s: float | None = option("--duration", parse_wait_s, "stop after, wall clock, as 10m", metavar="TIME")
    cycles: int | None = option("--cycles", parse_count, "stop cleanly after so many cycles")
    arm: bool = flag("--arm", "allow real orders; needed beside --execution venue on mainnet")
    override_phase: str | None = option("--override-phase", str, "typed word that trades live without the phase")

    @property
    def effective_execution(self) -> str:
        """`venue` on the embedded venue, `paper` elsewhere, unless chosen."""
        return self.execution or ("venue" if self.venue.kind == "sim" else "paper")


class SimOptions(TapeOptions):
    host: str = option("--host", str, "address to listen on", "127.0.0.1")
    port: int = option("--port", parse_port, "port to listen on; 0 takes a free one", 0)
    key: str | None = option("--key", parse_hex_key, "the master account's key (default: one of the venue's own)")
    deposit_usd: Decimal | None = option("--deposit", parse_positive_usd, "first deposit (default: the configured one)")


class PhasesOptions(Options):
    directory: Path = operand("DIR", parse_path, "folder whose sub-folders hold equity.csv and trades.csv")
    interval: str | None = option("--interval", parse_interval, "bar interval of the records (default: found)")
    gates_mode: str | None = option("--gates-mode", str, "default: as configured", None, ("honest", "document"))


class DownloadOptions(Options):
    coins: tuple[str, ...] = option("--coin", parse_coin, "market; repeatable", (), many=True)
    interval: str = option("--interval", parse_interval, "bar interval", "1m")
    days: float = option("--days", parse_days, "days back", 3.0)
    venue: VenueChoice = option(
        "--venue", parse_venue, "testnet, mainnet or http://HOST:PORT", VenueChoice("mainnet"), metavar="VENUE"
    )


class ImportOptions(Options):
    files: tuple[Path, ...] = operand("FILE", parse_path, "CSV, Parquet or Feather of bars", many=True)
    coin: str | None = option("--coin", parse_coin, "market (default: from the file's name)")
    network: str = option("--network", str, "whose market the bars are of", "mainnet", NETWORKS)
    source: str | None = option("--source", str, "where they come from (default: from name or shape)", metavar="NAME")


class HistoryOptions(Options):
    coins: tuple[str, ...] = option("--coin", parse_coin, "only these; repeatable", (), many=True)
    network: str | None = option("--network", str, "only this one", None, NETWORKS)


class BarsOptions(Options):
    """Bars from files, or from the history store by coin and span."""

    data: tuple[Path, ...] = option("--data", parse_path, "bars (Parquet, Feather, CSV)", (), many=True)
    funding: tuple[Path, ...] = option("--funding", parse_path, "funding history (time, rate)", (), many=True)
    coins: tuple[str, ...] = option(
        "--coin", parse_coin, "market; with --data its rules, else from the store", (), many=True
    )
    interval: str | None = option("--interval", parse_interval, "bar interval in the store (default: as configured)")
    network: str = option("--network", str, "whose market, in the store", "mainnet", NETWORKS)
    from_ms: int | None = option("--from", parse_moment_ms, "first time, ISO 8601 or ms", metavar="TIME")
    to_ms: int | None = option("--to", parse_moment_ms, "end, ISO 8601 or ms", metavar="TIME")
    seed: int = option("--seed", parse_whole, "seed of everything random", 0)
    out: Path | None = option("--out", parse_path, "folder for the results")


class BacktestOptions(BarsOptions):
    warmup_bars: int | None = option(
        "--warmup-bars", parse_whole, "first decision on this bar (default 1000, at most half)"
    )
    policy: str = option("--policy", str, "who decides", "model", BACKTEST_POLICIES)
    model: str | None = option("--model", str, "model by id or path (default: the champion)", metavar="ID_OR_PATH")


class TrainOptions(BarsOptions):
    epochs: int | None = option("--epochs", parse_count, "epochs at most (default: as configured)")
    budget_s: float | None = option("--budget", parse_wait_s, "wall time at most, as 10m", metavar="TIME")
    resume: bool = flag("--resume", "go on from the checkpoint in --out")


class WalkforwardOptions(BarsOptions):
    train_days: float | None = option("--train-days", parse_days, "length of a training window")
    test_days: float | None = option("--test-days", parse_days, "length of a test window")
    embargo_bars: int | None = option(
        "--embargo-bars", parse_whole, "bars between them (default: look-back and holding time, at least a day)"
    )
    epochs: int | None = option("--epochs", parse_count, "epochs at most (default: as configured)")
    budget_s: float | None = option("--budget", parse_wait_s, "wall time of a fold, as 10m", metavar="TIME")


class OptimizeOptions(WalkforwardOptions):
    trials: int = option("--trials", parse_count, "trials of the search", 20)
    engine: str = option("--engine", str, "where trials run", "local", ("local", "ray"))
    address: str | None = option("--address", str, "Ray's head; without it a Ray of its own on this machine")
    workers: int = option("--workers", parse_count, "trials at once on a Ray of its own", 2)


class ModelsOptions(Options):
    action: str = operand(
        "ACTION", str, "what to do", ("list", "show", "promote", "rollback", "export"), default="list"
    )
    model: str | None = operand("ID", str, "the model", default=None)
    format: str = option("--format", str, "of an export", "onnx", ("onnx",))
    out: Path | None = option("--out", parse_path, "file of an export")
    yes: str | None = option("--yes", str, "the word that confirms without a prompt", metavar="WORD")
    timeout_s: float = option("--timeout", parse_wait_s, "wait so long for the engine's answer", 60.0, metavar="TIME")


class EngineOptions(Options):
    """A one-shot command to the running engine."""

    yes: str | None = option("--yes", str, "the word that confirms without a prompt", metavar="WORD")
    timeout_s: float = option("--timeout", parse_wait_s, "wait so long for the answer", 60.0, metavar="TIME")


class FlattenOptions(EngineOptions):
    coins: tuple[str, ...] = option("--coin", parse_coin, "only these; repeatable", (), many=True)


class SpanOptions(Options):
    from_ms: int | None = option("--from", parse_moment_ms, "first time, ISO 8601 or ms", metavar="TIME")
    to_ms: int | None = option("--to", parse_moment_ms, "end, ISO 8601 or ms", metavar="TIME")


class WhyOptions(SpanOptions):
    coin: str | None = option("--coin", parse_coin, "market (default: all)")
    last: int = option("--last", parse_count, "so many decisions", 20)


class ReportOptions(SpanOptions):
    run: str | None = option("--run", str, "id of a run (default: the last)", metavar="ID")
    csv: Path | None = option("--csv", parse_path, "folder for CSV exports of trades, equity and ledger")
    out: Path | None = option("--out", parse_path, "the HTML file (default: report.html)")


class DoctorOptions(Options):
    venue: VenueChoice = option(
        "--venue", parse_venue, "sim, testnet, mainnet or http://HOST:PORT", VenueChoice("sim"), metavar="VENUE"
    )


class ConfigOptions(Options):
    action: str = operand("ACTION", str, "what to do", ("init", "check", "show"), default="show")
    key: str | None = operand("KEY", str, "only keys that begin so (show)", default=None)
    quick: bool = flag("--quick", "a learner that trains in minutes on a CPU, not in hours (init)")


class BenchOptions(Options):
    names: tuple[str, ...] = operand("NAME", str, "family, or a budget's id as P7; none = all", many=True, default=())
    peers: Path = option(
        "--peers", parse_path, "folder of the peers' environments (see make bench-peers)", Path(".bench-peers")
    )
    repetitions: int | None = option("--repetitions", parse_count, "so many of each (default: as each trial has it)")


class BackupOptions(Options):
    file: Path = operand("FILE", parse_path, "the copy; never overwritten")
