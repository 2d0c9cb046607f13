"""Numbers published by others."""

from __future__ import annotations

import math

import pytest

from aml100.evaluation.statistics import (
    Moments,
    deflated_sharpe,
    expected_max_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_stderr,
)

# Bailey and Lopez de Prado, The Sharpe Ratio Efficient Frontier (2012): 24 monthly returns of a hedge fund index.
TRACK = Moments(count=24, sharpe=0.036 / 0.079, skewness=-2.448, kurtosis=10.164)


def test_standard_error_with_skew_and_kurtosis_e6() -> None:
    assert sharpe_stderr(TRACK) == pytest.approx(0.336, abs=5e-4)
    assert math.sqrt(TRACK.spread / TRACK.count) == pytest.approx(0.329, abs=5e-4)


def test_probabilistic_sharpe_is_the_normal_tail_of_that_error() -> None:
    psr = probabilistic_sharpe(TRACK)
    assert psr == pytest.approx(0.5 * math.erfc(-TRACK.sharpe / sharpe_stderr(TRACK) / math.sqrt(2.0)), rel=1e-12)
    assert psr == pytest.approx(0.913, abs=1e-3)


def test_deflated_sharpe_of_bailey_and_lopez_de_prado_2014_e7() -> None:
    track = Moments(count=1250, sharpe=2.5 / math.sqrt(250), skewness=-3.0, kurtosis=10.0)
    variance = 0.5 / 250
    assert expected_max_sharpe(100, variance) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(track, 100, variance) == pytest.approx(0.9004, abs=5e-5)


def test_deflated_sharpe_after_46_trials_would_have_been_believed_e7() -> None:
    track = Moments(count=1250, sharpe=2.5 / math.sqrt(250), skewness=-3.0, kurtosis=10.0)
    assert deflated_sharpe(track, 46, 0.5 / 250) == pytest.approx(0.9505, abs=5e-5)


def test_minimum_track_record_turns_the_error_around() -> None:
    needed = minimum_track_record(TRACK)
    assert needed is not None
    longer = Moments(count=math.ceil(needed), sharpe=TRACK.sharpe, skewness=-2.448, kurtosis=10.164)
    shorter = Moments(count=math.floor(needed), sharpe=TRACK.sharpe, skewness=-2.448, kurtosis=10.164)
    assert (probabilistic_sharpe(longer) or 0.0) >= 0.95 > (probabilistic_sharpe(shorter) or 1.0)
