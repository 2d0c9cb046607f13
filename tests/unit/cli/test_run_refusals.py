"""What `run` refuses before anything is opened, each with its exit code and one clear line."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from aml100.cli.main import main
from aml100.storage.database import Database
from aml100.storage.entries import PhaseStep
from tests.unit.engine.conftest import MakeBundle, make_bundle, trained

__all__ = ["make_bundle", "trained"]

KEY = "0x" + "12" * 32
ARMED = ["--venue", "mainnet", "--execution", "venue", "--arm"]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mainnet that is a closed port, given up at once."""
    monkeypatch.setenv("AML100_VENUE__MAINNET__REST_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AML100_VENUE__MAINNET__WS_URL", "ws://127.0.0.1:9/ws")
    monkeypatch.setenv("AML100_VENUE__START_RETRY_SECONDS", "0.3")
    for name in ("AML100_PRIVATE_KEY", "AML100_PRIVATE_KEY_FILE", "AML100_ACCOUNT_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, *options: str) -> tuple[int, str]:
    code = main(["run", "--no-tui", "--policy", "flat", "--state", str(tmp_path / "state.db"), *options])
    return code, capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--process trending --data bars.csv", "--process: not beside --data, whose bars are the market"),
        ("--model m-1", "--model: not beside --policy flat, which has none"),
    ],
)
def test_two_that_contradict_each_other_are_not_chosen_between(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: str, line: str
) -> None:
    """The one that would be passed over in silence is what was asked for as well."""
    code, said = refused(capsys, tmp_path, *options.split())
    assert (code, said) == (2, f"{line}; allowed: one of the two")


def test_mainnet_orders_need_arm(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, line = refused(capsys, tmp_path, "--venue", "mainnet", "--execution", "venue")
    assert (code, "--arm" in line) == (3, True)


def test_mainnet_orders_need_the_phase_or_the_word(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AML100_PRIVATE_KEY", KEY)
    code, line = refused(capsys, tmp_path, *ARMED)
    assert code == 3
    assert "live_min_phase: mainnet orders need the phase Production" in line
    code, line = refused(capsys, tmp_path, *ARMED, "--override-phase", "please")
    assert (code, "OVERRIDE" in line) == (3, True)
    code, line = refused(capsys, tmp_path, *ARMED, "--override-phase", "OVERRIDE")
    assert (code, "not reachable" in line) == (1, True)


def test_phases_without_honest_cycles_behind_them_unlock_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AML100_PRIVATE_KEY", KEY)
    steps = [("Foundation", "Growth"), ("Growth", "Production")]
    with Database.open(tmp_path / "state.db", "NORMAL", "mainnet", "", "paper") as database:
        for number, (before, after) in enumerate(steps):
            step = PhaseStep(number, before, after, "passed", provisional=True, network="mainnet")
            database.journal([step]).result()
    assert refused(capsys, tmp_path, *ARMED)[0] == 3


def test_b15_a_model_that_may_not_trade_is_refused_by_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, make_bundle: MakeBundle
) -> None:
    """On the simulated venue as well, as `models promote` refuses it."""
    bundle = make_bundle(0.0, 1.0, 0.0, healthy=False)
    state = tmp_path / "new" / "state.db"
    assert main(["run", "--no-tui", "--state", str(state), "--model", str(bundle.path), "--duration", "1s"]) == 3
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"{bundle.id} is refused: constant_action: ")
    assert not state.exists()


def test_d24_a_model_of_other_features_neither_trades_nor_is_back_tested(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was trained on bars of a minute, by the usual regime thresholds."""
    bundle = make_bundle(0.0, 1.0, 0.0)
    state = tmp_path / "new" / "state.db"
    run = ["run", "--no-tui", "--state", str(state), "--model", str(bundle.path), "--duration", "1s"]
    for number, step_ms in (("quarters", 900_000), ("minutes", 60_000)):
        rows = [f"{1_751_241_600_000 + n * step_ms},100,101,99,100,1" for n in range(600)]
        (tmp_path / f"{number}.csv").write_text("\n".join(["time,open,high,low,close,volume", *rows]) + "\n")
    test = ["backtest", "--model", str(bundle.path), "--state", str(state), "--data"]
    assert main([*test, str(tmp_path / "minutes.csv")]) == 0
    words = f"{bundle.path}: made for bars of 1 min and feature schema {bundle.record.schema}; "
    for command in ([*test, str(tmp_path / "quarters.csv")], [*run, "--data", str(tmp_path / "quarters.csv")]):
        capsys.readouterr()
        assert main(command) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(words)
    monkeypatch.setenv("AML100_MODEL__REGIME_TREND_PCT", "2")
    for command in ([*test, str(tmp_path / "minutes.csv")], run):
        assert main(command) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(words)
    assert not state.exists()


def test_a_stop_is_required_where_money_is_real(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AML100_TRADING__STOP_LOSS_PCT", "0")
    code, line = refused(capsys, tmp_path, *ARMED, "--override-phase", "OVERRIDE")
    assert (code, "stop_loss_pct" in line) == (3, True)


def test_orders_need_a_key_that_only_its_owner_can_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, line = refused(capsys, tmp_path, "--venue", "http://127.0.0.1:9", "--execution", "venue")
    assert (code, "AML100_PRIVATE_KEY" in line) == (2, True)
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o644)
    monkeypatch.setenv("AML100_PRIVATE_KEY_FILE", str(file))
    for execution in ("venue", "paper"):
        code, line = refused(capsys, tmp_path, "--venue", "http://127.0.0.1:9", "--execution", execution)
        assert (code, "0644" in line, KEY in line) == (3, True, False)


def test_a_venue_that_does_not_answer_is_tried_and_given_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, line = refused(capsys, tmp_path, "--venue", "mainnet")
    assert (code, "not reachable within 0.3 s" in line) == (1, True)


def test_a_state_of_another_network_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db", "NORMAL", "testnet", "0x" + "1" * 40, "paper"):
        pass
    code, line = refused(capsys, tmp_path, "--venue", "mainnet")
    assert (code, "testnet" in line, "mainnet" in line) == (3, True, True)


def test_options_of_the_embedded_venue_go_with_it_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refused(capsys, tmp_path, "--execution", "paper")[0] == 2
    code, line = refused(capsys, tmp_path, "--venue", "testnet", "--speed", "5")
    assert (code, line.startswith("--speed")) == (2, True)


def test_a_venue_that_cannot_listen_says_where_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--host", "192.0.2.1"]) == 2  # an address that no machine has
    words = capsys.readouterr().err.splitlines()[-1]
    assert words.startswith("--host 192.0.2.1, --port 0: cannot listen there (")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["sim", "--port", str(port)]) == 2
        assert f"--port {port}: in use on 127.0.0.1" in capsys.readouterr().err
