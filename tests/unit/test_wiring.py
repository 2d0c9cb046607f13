"""What the configuration says reaches the parts that act on it."""

from __future__ import annotations

from dataclasses import fields

from aml100.config.models import Params
from aml100.learning.reward import RewardConfig, Shaping
from aml100.learning.settings import TrainingSettings
from aml100.wiring.backtests import training_settings

FOR_OTHERS = {
    "window_bars": "the features' complete window",
    "retrain_hours": "the cycle's schedule",
    "budget_seconds": "the training desk",
    "bootstrap_seconds": "the training desk",
    "shadow_hours": "the shadow of a challenger",
    "shadow_level": "the shadow of a challenger",
}


def test_every_reward_key_reaches_the_learner() -> None:
    params = Params.model_validate({"reward": {"shaping": "pure", "pnl_scale": 7.0, "hold_cap": 5}})
    reward = training_settings(params).reward
    assert reward == RewardConfig(shaping=Shaping.PURE, pnl_scale=7.0, hold_cap=5)


def test_every_learning_key_of_the_configuration_has_a_reader() -> None:
    params = Params()
    configured = {
        name for section in (params.model, params.training, params.replay) for name in type(section).model_fields
    }
    assert configured - {field.name for field in fields(TrainingSettings)} == set(FOR_OTHERS)


def test_a_changed_learning_key_arrives() -> None:
    params = Params.model_validate({"training": {"gamma": 0.9}, "replay": {"capacity": 7}, "model": {"lstm_layers": 1}})
    settings = training_settings(params, epochs=3)
    assert (settings.gamma, settings.capacity, settings.lstm_layers, settings.epochs) == (0.9, 7, 1, 3)
