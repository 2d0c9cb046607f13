"""Files and environment become settings with origins; what cannot be used is one line that says what is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from aml100.config.loading import QUICK, SECRET_VARIABLES, Settings, config_init, flatten, load_settings
from aml100.config.models import Objectives, Params, VenueConfig
from aml100.domain.errors import ConfigError


def write(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def refusal(folder: Path | None, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(folder, environ or {})
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "\n" not in text
    return text


def lines_by_key(settings: Settings) -> dict[str, tuple[object, str]]:
    return {line.key: (line.value, line.origin) for line in flatten(settings)}


def test_an_empty_folder_gives_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"HOME": "/root"})
    assert (settings.params, settings.objectives, settings.venue) == (Params(), Objectives(), VenueConfig())
    assert settings.origins == {}


def test_without_a_folder_the_defaults_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).directory is None


def test_config_beside_the_caller_is_read_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    write(tmp_path / "config", "params.json", {"trading": {"leverage": 3}})
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).params.trading.leverage == 3


def test_file_overrides_default_and_environment_overrides_file(tmp_path: Path) -> None:
    path = write(tmp_path, "params.json", {"trading": {"leverage": 3, "stop_loss_pct": 1}})
    settings = load_settings(tmp_path, {"AML100_TRADING__LEVERAGE": "5"})
    assert (settings.params.trading.leverage, settings.params.trading.stop_loss_pct) == (5, 1.0)
    shown = lines_by_key(settings)
    assert shown["trading.leverage"] == (5, "AML100_TRADING__LEVERAGE")
    assert shown["trading.stop_loss_pct"] == (1.0, str(path))
    assert shown["trading.take_profit_pct"] == (1.8, "default")


def test_environment_reaches_every_file_and_every_depth(tmp_path: Path) -> None:
    settings = load_settings(
        tmp_path,
        {
            "AML100_OBJECTIVES__PHASES__GROWTH__WIN_RATE_MIN_PCT": "47.5",
            "AML100_OBJECTIVES__CYCLE_DAYS": "0.25",
            "AML100_OBJECTIVES__GATES_MODE": "document",
            "AML100_OBJECTIVES__PHASES__PRODUCTION__PBO_MAX": "null",
            "AML100_VENUE__TESTNET__REST_URL": "http://127.0.0.1:3001",
            "AML100_RISK__STATUS_SIZING": "True",
            "AML100_CONSOLE__KEYS__HALT": "9",
        },
    )
    assert settings.objectives.phases["Growth"].win_rate_min_pct == 47.5
    assert settings.objectives.cycle_days == 0.25
    assert settings.objectives.gates_mode == "document"
    assert settings.objectives.phases["Production"].pbo_max is None
    assert settings.venue.testnet.rest_url == "http://127.0.0.1:3001"
    assert settings.params.risk.status_sizing is True
    assert settings.params.console.keys == {"halt": "9"}
    assert lines_by_key(settings)["objectives.cycle_days"] == (0.25, "AML100_OBJECTIVES__CYCLE_DAYS")


@pytest.mark.parametrize(
    "variable",
    [
        "AML100_TRADING__LEVRAGE",
        "AML100_TRADNG__LEVERAGE",
        "AML100_LEVERAGE",
        "AML100_TRADING",
        "AML100_TRADING__LEVERAGE__MORE",
        "AML100_OBJECTIVES__PHASES__GROWHT__CYCLES",
        "AML100_OBJECTIVES__PHASES__GROWTH",
        "AML100_VENUE",
        "AML100_",
        "AML100_CONSOLE__KEYS__",
    ],
)
def test_an_unknown_variable_is_an_error_that_names_it(tmp_path: Path, variable: str) -> None:
    said = refusal(tmp_path, {variable: "5"})
    assert said.startswith(f"{variable}: unknown environment variable")
    assert f'"{variable}"' not in said


def test_an_object_is_set_key_by_key(tmp_path: Path) -> None:
    """What the variable means exists, so no other is proposed."""
    said = refusal(tmp_path, {"AML100_CONSOLE__KEYS": '{"halt": "x"}'})
    assert said == "AML100_CONSOLE__KEYS: is an object; allowed: AML100_CONSOLE__KEYS__<KEY> with a key of it"


def test_an_unknown_variable_is_told_the_nearest(tmp_path: Path) -> None:
    assert 'did you mean "AML100_TRADING__LEVERAGE"?' in refusal(tmp_path, {"AML100_TRADING__LEVRAGE": "5"})


def test_variables_of_secrets_are_known_and_never_shown(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, dict.fromkeys(SECRET_VARIABLES, "s3cr3t"))
    assert "s3cr3t" not in repr(settings)
    assert not any("s3cr3t" in str(line) for line in flatten(settings))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("ten", "a whole number from 1 to 100"), ("0", "from 1 to 100"), ("2.5", "a whole number"), ("NaN", "a whole")],
)
def test_a_refused_variable_names_itself_key_value_and_what_is_allowed(tmp_path: Path, text: str, allowed: str) -> None:
    line = refusal(tmp_path, {"AML100_TRADING__LEVERAGE": text})
    assert line.startswith("AML100_TRADING__LEVERAGE: trading.leverage = ")
    assert text in line
    assert allowed in line


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"trading": {"levrage": 3}}, ("trading.levrage = 3", "unknown key", 'did you mean "leverage"?')),
        ({"tradng": {}}, ("tradng", "unknown key", 'did you mean "trading"?')),
        ({"trading": {"leverage": "3"}}, ('trading.leverage = "3"', "a whole number from 1 to 100")),
        ({"trading": {"leverage": True}}, ("trading.leverage = true", "a whole number")),
        ({"trading": {"interval": "7m"}}, ('trading.interval = "7m"', '"1m", "5m", "15m", "1h"')),
        ({"trading": {"take_profit_pct": -1}}, ("trading.take_profit_pct = -1", "from 0 to 100")),
        ({"trading": 4}, ("trading = 4", "an object")),
        ({"training": {"validation_fraction": 1}}, ("training.validation_fraction = 1", "above 0 below 1")),
    ],
)
def test_a_refused_value_names_file_key_value_and_what_is_allowed(
    tmp_path: Path, content: object, parts: tuple[str, ...]
) -> None:
    path = write(tmp_path, "params.json", content)
    line = refusal(tmp_path)
    assert line.startswith(f"{path}: ")
    for part in parts:
        assert part in line


def test_broken_json_names_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path, "params.json", '{\n  "trading": {,}\n}')
    assert refusal(tmp_path).startswith(f"{path}: line 2 column 15:")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"trading": {"leverage": NaN}}', "NaN"),
        ('{"trading": {"min_q_gap": Infinity}}', "Infinity"),
        ('{"trading": {"min_q_gap": 1e999}}', "trading.min_q_gap"),
        ('{"trading": {"leverage": 3, "leverage": 4}}', "leverage is given twice"),
        ("[]", "one JSON object"),
        ("", "line 1 column 1"),
        ("[" * 100_000, "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_json_that_is_no_configuration_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    path = write(tmp_path, "params.json", text)
    line = refusal(tmp_path)
    assert line.startswith(str(path))
    assert part in line


def test_a_file_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "venue.json").write_bytes(b'{"\xff": 1}')
    assert "UTF-8" in refusal(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")


def test_a_phase_in_part_keeps_the_rest_of_it_and_the_other_phases(tmp_path: Path) -> None:
    write(tmp_path, "objectives.json", {"phases": {"Growth": {"cycles": 1}}})
    phases = load_settings(tmp_path, {}).objectives.phases
    assert list(phases) == ["Foundation", "Growth", "Production"]
    assert (phases["Growth"].cycles, phases["Growth"].sharpe_min) == (1, 1.0)


def test_phases_of_ones_own_replace_the_list_in_their_order(tmp_path: Path) -> None:
    own = Objectives().phases["Growth"].model_dump()
    write(tmp_path, "objectives.json", {"live_min_phase": "B", "phases": {"B": own, "Foundation": {}, "A": own}})
    assert load_settings(tmp_path, {}).objectives.phase_names == ("B", "Foundation", "A")


def test_a_mistyped_phase_is_told_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "objectives.json", {"phases": {"Growht": {"cycles": 1}}})
    line = refusal(tmp_path)
    assert "phases.Growht.monthly_return_min_pct is missing" in line
    assert 'did you mean "Growth"?' in line


def test_live_min_phase_must_be_one_of_the_phases(tmp_path: Path) -> None:
    line = refusal(tmp_path, {"AML100_OBJECTIVES__LIVE_MIN_PHASE": "Prod"})
    assert line.startswith("AML100_OBJECTIVES__LIVE_MIN_PHASE: live_min_phase")
    assert "Foundation, Growth, Production" in line


def test_a_trailing_stop_needs_a_stop_that_it_moves(tmp_path: Path) -> None:
    path = write(tmp_path, "params.json", {"trading": {"trailing_stop_pct": 1.0, "stop_loss_pct": 0.0}})
    assert refusal(tmp_path).startswith(f"{path}: trading.trailing_stop_pct: 1 is refused; allowed: 0 where")
    write(
        tmp_path, "params.json", {"trading": {"trailing_stop_pct": 1.0, "atr_stop_multiple": 2, "stop_loss_pct": 0.0}}
    )
    load_settings(tmp_path, {})


def test_a_reserve_as_large_as_the_budget_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "venue.json", {"ip_weight_reserve": 1200})
    assert refusal(tmp_path).startswith(f"{path}: ip_weight_reserve")


def test_init_writes_the_defaults_and_never_overwrites(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert [path.name for path in config_init(folder)] == ["params.json", "objectives.json", "venue.json"]
    settings = load_settings(folder, {})
    assert (settings.params, settings.objectives, settings.venue) == (Params(), Objectives(), VenueConfig())
    (folder / "params.json").unlink()
    before = (folder / "venue.json").read_bytes()
    with pytest.raises(ConfigError, match="not overwritten"):
        config_init(folder)
    assert not (folder / "params.json").exists()
    assert (folder / "venue.json").read_bytes() == before


def test_init_quick_writes_a_learner_that_trains_in_minutes_and_the_defaults_else(tmp_path: Path) -> None:
    config_init(tmp_path, quick=True)
    given = json.loads((tmp_path / "params.json").read_text())
    changed = {
        f"{section}.{key}"
        for section, values in Params().model_dump().items()
        for key, value in values.items()
        if given[section][key] != value
    }
    assert changed == {f"{section}.{key}" for section, values in QUICK.items() for key in values}
    settings = load_settings(tmp_path, {})
    assert settings.params == Params.model_validate(QUICK)
    assert (settings.objectives, settings.venue) == (Objectives(), VenueConfig())


def test_show_lists_every_value_with_unit_and_range(tmp_path: Path) -> None:
    lines = {line.key: line for line in flatten(load_settings(tmp_path, {}))}
    assert lines["risk.max_dd_pct"].allowed == "a number from 0 to 100"
    assert "%" in lines["risk.max_dd_pct"].description
    assert lines["objectives.phases.Growth.dsr_min"].value == 0.90
    assert lines["venue.mainnet.rest_url"].value == "https://api.hyperliquid.xyz"
