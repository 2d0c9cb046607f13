"""A cycle's back-test: the live core, in a child, over bars that the model has not seen."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from aml100.config.models import Params
from aml100.domain.clock import SystemClock
from aml100.domain.errors import AmlError
from aml100.domain.market import instrument_for
from aml100.domain.units import DAY_MS, Coin
from aml100.engine.barlog import write_series
from aml100.learning.jobs import TrainingJob, TrainingResult
from aml100.learning.trainer import train
from aml100.training.cycle_backtest import CycleJob, back_test, play
from tests.unit.learning.planted import coin_data, mean_reverting, tiny_settings


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> CycleJob:
    folder = tmp_path_factory.mktemp("cycle")
    series = mean_reverting(4600, 3)
    training = TrainingJob((coin_data(series.rows(0, 1300)),), tiny_settings(epochs=1), seed=1)
    last = list(train(training, SystemClock()))[-1]
    assert isinstance(last, TrainingResult)
    (path,) = write_series(folder, [series])
    from_ms = -(-int(series.open_ms[1400]) // DAY_MS) * DAY_MS
    coin = Coin("TEST")
    return CycleJob(
        model=str(last.save(training, folder)),
        params=Params().model_dump_json(),
        bars={coin: str(path)},
        funding={},
        instruments={coin: instrument_for(coin, 0)},
        from_ms=from_ms,
        to_ms=from_ms + DAY_MS,
    )


async def test_the_window_and_nothing_else_is_played(job: CycleJob) -> None:
    window = await back_test(job)
    assert (window.start_ms, window.end_ms, len(window.equity)) == (job.from_ms, job.to_ms, 1440)
    assert window.opening_equity == Params().backtest.initial_equity_usd
    assert len(window.daily_returns) == 1
    here = play(job)
    assert np.array_equal(here.equity, window.equity)


async def test_a_damaged_model_is_a_reason_not_a_crash(job: CycleJob, tmp_path: Path) -> None:
    with pytest.raises(AmlError, match="no model here"):
        await back_test(msgspec.structs.replace(job, model=str(tmp_path)))
