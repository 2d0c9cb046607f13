"""Which checkpoint is kept: the latest that validation cannot tell from the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aml100.learning.inference import Floats32
from aml100.learning.selection import Selection
from tests.unit.learning.test_scores import SOUND

MARKET = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
"""What the market pays on each bar, whoever holds it: far more noise than two policies differ by."""


def offered(*nets: Floats32) -> list[int]:
    """Which epoch is kept after each of these streams; scores are their sums."""
    idle = np.zeros(len(MARKET), np.float32)
    kept = Selection.begin(replace(SOUND, score=0.0), idle, {})
    epochs = []
    for epoch, net in enumerate(nets, start=1):
        kept.offer(epoch, replace(SOUND, score=float(net.sum())), net, {"of": np.array([epoch], np.float32)})
        assert (kept.weights["of"][0] if kept.weights else 0) == kept.epoch
        epochs.append(kept.epoch)
    return epochs


def otherwise(seed: int, worth: float) -> Floats32:
    """The same bars but for fifty of them, on which it earns `worth` more in all, give or take a unit each."""
    other = MARKET + 1.0
    bars = np.random.default_rng(seed).permutation(len(MARKET))[:50]
    swing = np.where(np.arange(50) % 2 == 0, 1.0, -1.0)
    other[bars] += (swing + worth / 50.0).astype(np.float32)
    return other


def test_a_later_one_that_earns_as_much_but_for_chance_is_kept() -> None:
    """Fifty bars of a unit each: seven units are one standard error, beside thirty of the market's own."""
    assert offered(MARKET + 1.0, otherwise(2, -6.0), otherwise(3, 0.0)) == [1, 2, 3]
    assert offered(MARKET + 1.0, otherwise(2, -9.0), otherwise(3, -8.5)) == [1, 1, 1]
    assert offered(MARKET + 1.0, otherwise(2, 9.0), MARKET + 1.0) == [1, 2, 2]


def test_small_losses_do_not_add_up() -> None:
    """Each is within chance of the one before, and the third of the highest no more."""
    assert offered(MARKET + 1.0, otherwise(2, -3.0), otherwise(2, -6.0), otherwise(2, -9.0)) == [1, 2, 3, 3]


def test_what_scores_no_more_than_not_trading_is_not_kept_for_being_later() -> None:
    idle = np.zeros(len(MARKET), np.float32)
    assert offered(idle, MARKET - float(MARKET.sum()) / 1000 - 0.001, idle) == [0, 0, 0]
    assert offered(MARKET + 1.0, idle) == [1, 1]
