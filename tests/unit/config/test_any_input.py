"""Whatever stands in a file or a variable: settings, or one line that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aml100.config.loading import flatten, load_settings
from aml100.config.models import Params
from aml100.domain.errors import ConfigError

KEYS = st.sampled_from(
    [
        "trading",
        "risk",
        "console",
        "keys",
        "leverage",
        "max_dd_pct",
        "phases",
        "Growth",
        "cycles",
        "mainnet",
        "rest_url",
    ]
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
DOCUMENTS = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def assert_loaded_or_one_line(folder: Path, environ: dict[str, str]) -> None:
    line = ""
    try:
        assert flatten(load_settings(folder, environ))
    except ConfigError as error:
        line = str(error)
    assert len(line.splitlines()) <= 1
    assert line.isprintable()


@pytest.mark.parametrize("name", ["params.json", "objectives.json", "venue.json"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=DOCUMENTS)
def test_any_document(name: str, document: object, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
    assert_loaded_or_one_line(tmp_path, {})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40))
def test_any_bytes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "params.json").write_bytes(content)
    assert_loaded_or_one_line(tmp_path, {})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        ["TRADING__LEVERAGE", "RISK__MAX_DD_PCT", "OBJECTIVES__PHASES__GROWTH__CYCLES", "CONSOLE__KEYS__X"]
    )
    | st.text(st.characters(codec="ascii", exclude_characters="=\0"), max_size=20),
    text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
)
def test_any_variable(name: str, text: str, tmp_path: Path) -> None:
    assert_loaded_or_one_line(tmp_path, {f"AML100_{name}": text})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.floats(0, 100))
def test_a_number_in_range_is_taken_as_it_was_written(value: float, tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps({"risk": {"max_dd_pct": value}}), encoding="utf-8")
    risk = load_settings(tmp_path, {}).params.risk
    assert risk.max_dd_pct == value
    assert float(risk.max_dd_frac) == pytest.approx(value / 100, rel=1e-15)
    assert Params.model_validate({"risk": {"max_dd_pct": value}}).risk == risk
