"""The command line: every command parses, every failure is one line with its exit code, nothing heavy for help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from decimal import Decimal
from pathlib import Path

import pytest

from aml100 import __version__
from aml100.cli import options as o
from aml100.cli.main import COMMANDS, main, split_command
from aml100.cli.parsing import parse_options
from aml100.cli.values import VenueChoice, parse_venue
from aml100.domain.errors import SafetyRefusal, UsageError, VenueUnavailable

# From the contract's table of commands, not from our own.
CONTRACT_COMMANDS = [
    *("run", "sim", "phases", "download", "import", "history", "backtest", "train", "walkforward", "optimize"),
    *("models", "status", "halt", "resume", "pause", "flatten", "retrain", "reset", "stop", "attach"),
    *("why", "replay", "report", "verify", "doctor", "config", "bench", "backup"),
]


def parsed(line: str) -> o.Options:
    name, rest = split_command(line.split())
    return parse_options(COMMANDS[name].options, name, COMMANDS[name].summary, rest)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err.strip()


def use_handler(monkeypatch: pytest.MonkeyPatch, name: str, handler: object) -> None:
    module_name, _, function = COMMANDS[name].handler.partition(":")
    module = types.ModuleType(module_name)
    setattr(module, function, handler)
    monkeypatch.setitem(sys.modules, module_name, module)


def test_every_command_of_the_contract_exists() -> None:
    assert sorted(COMMANDS) == sorted(CONTRACT_COMMANDS)


def test_threads_of_torch_sleep_at_barriers_in_every_command() -> None:
    """As OpenMP itself tells when a command loads torch."""
    code = "from aml100.cli.main import main; main(['--version']); import torch"
    environ = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environ | {"OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        check=True,
    )
    if "OPENMP DISPLAY ENVIRONMENT" not in done.stderr:
        pytest.skip("torch's OpenMP here says nothing about itself")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


@pytest.mark.parametrize("name", CONTRACT_COMMANDS)
def test_help_is_everywhere(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: aml100-console {name}")
    for flag in ("--config", "--state", "--log-level", "--log-format"):
        assert flag in shown


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in CONTRACT_COMMANDS)


def test_no_command_means_run() -> None:
    assert isinstance(parsed(""), o.RunOptions)
    options = parsed("--speed 60 --no-tui")
    assert isinstance(options, o.RunOptions)
    assert (options.command, options.speed, options.no_tui) == ("run", 60.0, True)


@pytest.mark.parametrize(
    "line", ["--state s.db --json status", "status --state s.db --json", "--json status --state=s.db"]
)
def test_common_options_stand_before_or_after_the_command(line: str) -> None:
    options = parsed(line)
    assert (options.command, options.state, options.json) == ("status", Path("s.db"), True)


def test_a_common_options_value_may_be_named_like_a_command() -> None:
    options = parsed("--config run status")
    assert (options.command, options.config) == ("status", Path("run"))


def test_every_option_of_run() -> None:
    options = parsed(
        "run --no-tui --json --venue http://127.0.0.1:3001/ --execution venue --coin BTC --coin xyz:XYZ100 "
        "--data a.parquet --warmup-bars 0 --process trending --speed 2.5 --policy random --model m-1 --seed 7 "
        "--duration 10m --cycles 3 --arm --funding f.csv"
    )
    assert isinstance(options, o.RunOptions)
    assert options.venue == VenueChoice("url", "http://127.0.0.1:3001")
    assert options.venue.ws_url == "ws://127.0.0.1:3001/ws"
    assert options.coins == ("BTC", "xyz:XYZ100")
    assert options.data == (Path("a.parquet"),)
    assert (options.warmup_bars, options.speed, options.seed, options.cycles) == (0, 2.5, 7, 3)
    assert (options.duration_s, options.policy, options.model, options.arm) == (600.0, "random", "m-1", True)
    assert {"venue", "execution", "seed"} <= options.given
    assert "fps" not in options.given


@pytest.mark.parametrize(
    ("line", "execution"),
    [
        ("run", "venue"),
        ("run --venue sim", "venue"),
        ("run --venue mainnet", "paper"),
        ("run --venue http://h:1", "paper"),
        ("run --venue testnet --execution venue", "venue"),
    ],
)
def test_execution_is_venue_on_sim_and_paper_elsewhere(line: str, execution: str) -> None:
    options = parsed(line)
    assert isinstance(options, o.RunOptions)
    assert options.effective_execution == execution


def test_options_of_other_commands() -> None:
    backtest = parsed("backtest --data BTC.csv --from 2025-06-30 --to 1751328000000 --policy oracle --out d")
    assert isinstance(backtest, o.BacktestOptions)
    assert (backtest.from_ms, backtest.to_ms) == (1751241600000, 1751328000000)
    train = parsed("train --data a.csv b.csv --data c.csv --epochs 3 --budget 90s --resume")
    assert isinstance(train, o.TrainOptions)
    assert [str(path) for path in train.data] == ["a.csv", "b.csv", "c.csv"]
    assert (train.epochs, train.budget_s, train.resume) == (3, 90.0, True)
    sim = parsed(f"sim --port 0 --key {'ab' * 32} --deposit 2500.5 --faults f.json")
    assert isinstance(sim, o.SimOptions)
    assert (sim.key, sim.deposit_usd) == ("0x" + "ab" * 32, Decimal("2500.5"))
    phases = parsed("phases runs --interval 15m --gates-mode document --json")
    assert isinstance(phases, o.PhasesOptions)
    assert (phases.directory, phases.interval, phases.gates_mode) == (Path("runs"), "15m", "document")
    walk = parsed("walkforward --data a.csv --train-days 90 --test-days 30 --embargo-bars 60 --out w")
    assert isinstance(walk, o.WalkforwardOptions)
    assert (walk.train_days, walk.test_days, walk.embargo_bars) == (90.0, 30.0, 60)
    flatten = parsed("flatten --coin BTC --yes FLATTEN")
    assert isinstance(flatten, o.FlattenOptions)
    assert (flatten.coins, flatten.yes) == (("BTC",), "FLATTEN")
    models = parsed("models export m-1 --format onnx --out m.onnx")
    assert isinstance(models, o.ModelsOptions)
    assert (models.action, models.model, models.format) == ("export", "m-1", "onnx")
    imported = parsed("import a.csv b.feather --coin ETH")
    assert isinstance(imported, o.ImportOptions)
    assert imported.files == (Path("a.csv"), Path("b.feather"))


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--sped 3", 'did you mean "--speed"?'),
        ("run --sped=3", 'did you mean "--speed"?'),
        ("run --spe 3", "unknown option --spe"),
        ("stauts", 'did you mean "status"?'),
        ("status extra", "unknown argument extra"),
        ("--speed 3 status", "unknown argument status"),
        ("run --speed 0", "above 0"),
        ("run --speed nan", "finite"),
        ("run --speed", "--speed"),
        ("run --venue ftp://x", "sim, testnet, mainnet or http://HOST:PORT"),
        ("run --execution real", "paper"),
        ("run --duration soon", "as 10m"),
        ("run --duration 0", "more than 0"),
        ("run --seed -1", "--seed"),
        ("run --cycles 0", "at least 1"),
        ("run --coin B/TC", "no coin"),
        ("run --policy genius", "momentum"),
        ("backtest --from yesterday", "ISO 8601"),
        ("replay --from 1751241600000000", "before the year 10000"),
        ("why --to 9999999999999999999999999", "before the year 10000"),
        ("report --from=-9999999999999999999999999", "before the year 10000"),
        ("walkforward --data a.csv --train-days 1e308", "0 to 36500"),
        ("optimize --data a.csv --test-days 1e308", "0 to 36500"),
        ("download --coin BTC --days 1e308", "0 to 36500"),
        ("sim --deposit 1e999999999", "above 0 to 1000000000000"),
        ("run --no-tui --state .", ". is a folder; allowed: the path of a state.db"),
        ("status --state /", "/ is a folder"),
        ("models list m-1", "models list takes no id"),
        ("models rollback m-1", "models rollback m-1"),
        ("download --interval 7m", "15m"),
        ("phases", "DIR"),
        ("import", "FILE"),
        ("backup", "FILE"),
        ("sim --port 65536", "0 to 65535"),
        ("sim --deposit 0", "above 0"),
        ("sim --deposit NaN", "not a finite number"),
        ("train --epochs 1.5", "whole number"),
        ("status --state mysql://me:s3cret@host/db", "is not known"),
        ("config explode", "init"),
    ],
)
def test_bad_usage_is_exit_2_and_one_line(line: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    error = one_line(capsys)
    assert part in error
    assert "s3cret" not in error


def test_a_bad_key_is_never_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--key", "deadbeef" * 7]) == 2
    assert "deadbeef" not in one_line(capsys)


def test_a_command_that_is_not_built_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "aml100.cli.checks", types.ModuleType("aml100.cli.checks"))
    assert main(["bench"]) == 2
    assert one_line(capsys) == "bench is not built yet"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (VenueUnavailable("the venue is away"), 1),
        (UsageError("a.csv: row 3: high < low"), 2),
        (SafetyRefusal("not armed"), 3),
        (FileNotFoundError(2, "No such file or directory", "x.csv"), 1),
    ],
)
def test_a_failure_is_its_line_and_its_exit_code(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: o.Options) -> int:
        raise error

    use_handler(monkeypatch, "verify", fail)
    assert main(["verify"]) == code
    assert one_line(capsys) == (str(error) if code != 1 or error.args[0] != 2 else "x.csv: No such file or directory")


def test_an_error_with_several_lines_and_a_key_is_one_redacted_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: o.Options) -> int:
        raise UsageError(f"bad\nkey 0x{'ab' * 32}")

    use_handler(monkeypatch, "verify", fail)
    assert main(["verify"]) == 2
    assert one_line(capsys) == "bad key [redacted]"


def test_ctrl_c_is_quiet_and_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(options: o.Options) -> int:
        raise KeyboardInterrupt

    use_handler(monkeypatch, "verify", interrupt)
    assert main(["verify"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_handlers_answer_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    use_handler(monkeypatch, "verify", lambda options: 1 if options.json else 0)
    assert (main(["verify"]), main(["verify", "--json"])) == (0, 1)


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    script = f"{sys.executable} -m aml100 config show --config {tmp_path} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_config_show_check_and_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """C42: every value with its origin."""
    folder = str(tmp_path / "c")
    assert main(["config", "init", "--config", folder]) == 0
    assert main(["config", "init", "--config", folder]) == 2
    capsys.readouterr()
    monkeypatch.setenv("AML100_TRADING__LEVERAGE", "7")
    assert main(["config", "show", "--json", "--config", folder]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["trading.leverage"]["value"] == 7
    assert shown["trading.leverage"]["origin"] == "AML100_TRADING__LEVERAGE"
    assert shown["objectives.cycle_days"]["origin"].endswith("objectives.json")
    assert main(["config", "show", "trading.lev", "--config", folder]) == 0
    told = capsys.readouterr().out
    assert "AML100_TRADING__LEVERAGE" in told
    assert main(["config", "show", "--config", folder, "trading.lev"]) == 0  # options may stand between operands
    assert capsys.readouterr().out == told
    assert main(["config", "check", "--config", folder]) == 0
    assert main(["config", "init", "--quick", "--config", str(tmp_path / "quick")]) == 0
    capsys.readouterr()
    assert main(["config", "show", "model.lstm_hidden", "--json", "--config", str(tmp_path / "quick")]) == 0
    assert json.loads(capsys.readouterr().out)["model.lstm_hidden"]["value"] == 32
    assert main(["config", "check", "--quick", "--config", folder]) == 2
    assert "allowed: config init --quick" in one_line(capsys)
    monkeypatch.setenv("AML100_TRADING__LEVRAGE", "7")
    capsys.readouterr()
    assert main(["config", "check", "--config", folder]) == 2
    assert "AML100_TRADING__LEVRAGE" in one_line(capsys)


@pytest.mark.parametrize("command", ["models", "config"])
def test_an_action_that_is_left_out_is_the_default_and_an_unknown_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    place = ["--state", str(tmp_path / "state.db"), "--config", str(tmp_path / "c")]
    assert main(["config", "init", "--config", str(tmp_path / "c")]) == 0
    capsys.readouterr()
    assert main([command, "show" if command == "config" else "list", *place]) == 0
    told = capsys.readouterr().out
    assert main([command, *place]) == 0
    assert capsys.readouterr().out == told
    assert main([command, "bogus", *place]) == 2
    assert "show" in one_line(capsys)


@pytest.mark.parametrize("line", ["config check", "run --no-tui --policy flat"])
def test_keys_that_clash_are_named_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    """C12: one line, exit code 2, from `config check` and from a start alike."""
    folder = tmp_path / "c"
    assert main(["config", "init", "--config", str(folder)]) == 0
    params = json.loads((folder / "params.json").read_text())
    params["console"]["keys"] = {"pause": "ctrl+e", "flatten": "ctrl+e"}
    (folder / "params.json").write_text(json.dumps(params))
    capsys.readouterr()
    state = tmp_path / "state.db"
    assert main([*line.split(), "--config", str(folder), "--state", str(state)]) == 2
    said = one_line(capsys)
    assert 'params.json: console.keys.flatten: "ctrl+e" is the key of pause' in said
    assert not state.exists()


@pytest.mark.parametrize("line", ["--help", "--version", "run --help", "train --help", "--nonsense"])
def test_help_and_errors_load_nothing_heavy(line: str) -> None:
    probe = (
        "import sys; from aml100.cli.main import main; main(sys.argv[1:]); "
        "heavy = set('torch pandas textual sqlmodel aiohttp numba numpy pyarrow'.split()) & set(sys.modules); "
        "sys.exit(1 if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", probe, *line.split()], capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("text", ["", "main net", "http://", "https://host:1/path", "http://h:1?x=1", "http://u:p@h"])
def test_what_is_no_venue_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no venue"):
        parse_venue(text)


def test_a_database_becomes_a_note_in_the_home(tmp_path: Path) -> None:
    options = parsed(f"status --state postgresql+psycopg://me@host/db --home {tmp_path}")
    assert options.state == tmp_path / "state.postgresql"
    assert options.folder == tmp_path
    with pytest.raises(UsageError, match="--home"):
        parsed(f"status --state s.db --home {tmp_path}")
