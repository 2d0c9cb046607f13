"""Defaults are the plan's, percent becomes an exact fraction once, and nothing that is no number passes for one."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from aml100.config.loading import FILES, default_text
from aml100.config.models import Objectives, Params, VenueConfig

REPOSITORY = Path(__file__).parents[3]

# Written down from the contract's section 3 and 9, not from the models.
CONTRACT = {
    "trading": {
        "take_profit_pct": 1.8,
        "stop_loss_pct": 0.6,
        "position_size_pct": 4.0,
        "leverage": 10,
        "max_hold_bars": 720,
        "on_opposite": "close",
        "entry_style": "taker",
        "on_exit": "keep",
        "decision_bars": 1,
        "min_q_gap": 0,
        "confidence_sizing": True,
        "interval": "1m",
    },
    "reward": {
        "pnl_scale": 25,
        "win_multiplier": 1.5,
        "streak_bonus_max": 0.3,
        "trend_bonus": 0.05,
        "hold_cap": 3,
        "hold_floor": -0.15,
    },
    "model": {"lstm_layers": 2, "lstm_hidden": 128, "window_bars": 60},
    "training": {
        "epochs": 500,
        "early_stop_patience": 150,
        "learning_rate": 8e-5,
        "gradient_clip_norm": 1.0,
        "weight_decay": 1e-5,
        "cosine_t_0": 50,
        "cosine_t_mult": 2,
        "cosine_eta_min": 1e-6,
        "epsilon_start": 1.0,
        "epsilon_end": 0.03,
        "epsilon_decay": 0.985,
        "validation_fraction": 0.2,
        "bias_threshold": 0.7,
    },
    "replay": {"capacity": 50_000, "alpha": 0.6, "beta": 0.4, "beta_end": 1.0},
    "backtest": {
        "initial_equity_usd": 10_000,
        "risk_checks": True,
        "funding_rate_sim": True,
        "funding_rate_pct": 0.01,
        "taker_fee_pct": 0.045,
        "maker_fee_pct": 0.015,
        "slippage_pct": 0.01,
    },
    "risk": {
        "circuit_breaker_dd_pct": 3.5,
        "hard_stop_dd_pct": 4.5,
        "max_dd_pct": 5.0,
        "breaker_pause_minutes": 1440,
        "max_daily_loss_pct": 0,
        "cooldown_losses": 0,
        "cooldown_minutes": 0,
        "max_daily_trades": 0,
        "min_seconds_between_trades": 0,
        "max_position_notional_usd": 0,
        "max_leverage": 10,
        "max_orders_per_minute": 60,
        "price_collar_pct": 1,
        "stale_seconds": 30,
        "max_loop_lag_ms": 1000,
        "max_clock_skew_ms": 1000,
        "max_rejects_in_row": 5,
        "min_liquidation_distance_pct": 2,
        "status_sizing": False,
    },
    "storage": {"retain_days": 14},
}


def test_defaults_of_params_are_the_contracts() -> None:
    ours = Params().model_dump()
    for section, keys in CONTRACT.items():
        assert {key: ours[section][key] for key in keys} == keys, section


def test_defaults_of_objectives_are_the_contracts() -> None:
    objectives = Objectives()
    assert (objectives.cycle_hours, objectives.cycle_days) == (1, 30)
    assert (objectives.gates_mode, objectives.provisional_advances) == ("honest", True)
    assert objectives.live_min_phase == "Production"
    assert objectives.phase_names == ("Foundation", "Growth", "Production")
    asked = {
        name: (
            phase.monthly_return_min_pct,
            phase.sharpe_min,
            phase.profit_factor_min,
            phase.win_rate_min_pct,
            phase.max_drawdown_pct,
            phase.trade_density_min_pct,
            phase.cycles,
        )
        for name, phase in objectives.phases.items()
    }
    assert asked == {
        "Foundation": (2, 0.5, 0.8, 40, 5, 0.3, 3),
        "Growth": (8, 1.0, 1.0, 45, 5, 0.5, 5),
        "Production": (15, 1.5, 1.3, 50, 5, 0.7, 10),
    }


def test_evidence_of_honest_gates_is_that_of_guarantee_e11() -> None:
    evidence = {
        name: (
            phase.sharpe_bound_min,
            phase.dsr_min,
            phase.pbo_max,
            phase.trades_min,
            phase.drawdown_probability_max_pct,
        )
        for name, phase in Objectives().phases.items()
    }
    assert evidence == {
        "Foundation": (0, None, None, 100, 10),
        "Growth": (None, 0.90, None, 100, 10),
        "Production": (None, 0.95, 0.2, 100, 10),
    }


@pytest.mark.parametrize(("stem", "name"), FILES.items())
def test_files_of_the_repository_hold_the_models_defaults(stem: str, name: str) -> None:
    assert (REPOSITORY / "config" / name).read_text(encoding="utf-8") == default_text(stem)


def test_percent_becomes_its_exact_fraction() -> None:
    params = Params()
    assert params.trading.take_profit_frac == Decimal("0.018")
    assert params.trading.stop_loss_frac == Decimal("0.006")
    assert params.trading.position_size_frac == Decimal("0.04")
    assert params.backtest.taker_fee_frac == Decimal("0.00045")
    assert params.backtest.maker_fee_frac == Decimal("0.00015")
    assert params.backtest.slippage_frac == Decimal("0.0001")
    assert params.risk.circuit_breaker_dd_frac == Decimal("0.035")
    assert VenueConfig().slippage_bound_frac == Decimal("0.05")


def test_simulated_funding_is_an_eighth_an_hour_and_nothing_when_off() -> None:
    assert Params().backtest.funding_rate_hour_frac == Decimal("0.0000125")
    off = Params.model_validate({"backtest": {"funding_rate_sim": False}})
    assert off.backtest.funding_rate_hour_frac == 0


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("trading", "take_profit_pct", float("nan")),
        ("trading", "take_profit_pct", float("inf")),
        ("trading", "take_profit_pct", True),
        ("trading", "take_profit_pct", "1.8"),
        ("trading", "leverage", True),
        ("trading", "leverage", 2.5),
        ("trading", "confidence_sizing", 1),
        ("trading", "interval", "7m"),
        ("risk", "stale_seconds", 0),
        ("reward", "hold_floor", 0.1),
        ("training", "validation_fraction", 1),
        ("storage", "retain_days", 0),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused(section: str, key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Params.model_validate({section: {key: value}})


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"ping_seconds": 30.0, "idle_timeout_seconds": 30.0}, "idle_timeout_seconds: 30 .* more than ping_seconds"),
        ({"reconnect_min_seconds": 9.0, "reconnect_max_seconds": 5.0}, "reconnect_min_seconds: 9 .* at most"),
    ],
)
def test_seconds_of_the_line_that_contradict_each_other_are_refused(values: dict[str, float], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        VenueConfig.model_validate(values)


def test_every_key_is_documented() -> None:
    for model in (Params, Objectives, VenueConfig):
        definitions = json.loads(json.dumps(model.model_json_schema()))
        for name, definition in {**definitions.get("$defs", {}), model.__name__: definitions}.items():
            for key, field in definition["properties"].items():
                assert "$ref" in field or field.get("description"), f"{name}.{key}"


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Params().trading.leverage = 50  # type: ignore[misc]
