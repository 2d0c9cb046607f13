"""The trainer beside trading: whatever becomes of it, trading goes on, the reason is told, the next run takes it up."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aml100.config.models import Objectives, Params
from aml100.domain.units import DAY_MS, MINUTE_MS
from aml100.engine.cycle import CycleKeeper
from aml100.engine.desk import RETRY_AFTER_BARS, Begun, DeskOptions, TrainingDesk
from aml100.engine.listener import Listeners
from aml100.engine.pairing import ShadowRules
from aml100.engine.watch import Watch
from aml100.learning.bundle import Bundle, load_record
from aml100.learning.checkpoint_files import CHECKPOINT_FILE
from aml100.learning.settings import TrainingSettings
from aml100.market.features import schema_digest
from aml100.market.series import BarSeries
from aml100.storage.database import Database
from aml100.storage.entries import Training
from aml100.storage.postgres import StoreUnavailable
from aml100.trading.core import TradingCore
from aml100.training.process import TrainingProcess
from aml100.training.shadow import ModelWalk
from tests.contract import Contract
from tests.harness import BTC, INSTRUMENT, rules_for_tests
from tests.unit.learning.planted import FREE_HANDED, mean_reverting, tiny_settings

WAIT_S = 60


def btc(bars: int = 1200) -> BarSeries:
    return replace(mean_reverting(bars, 2), coin=BTC)


class Stage:
    def __init__(
        self,
        database: Database,
        folder: Path,
        settings: TrainingSettings,
        bars: int = 1200,
        champion: Bundle | None = None,
        **more: Any,
    ) -> None:
        series = btc(bars)
        options = DeskOptions(
            folder=folder,
            rules={BTC: FREE_HANDED},
            settings=settings,
            seed=3,
            hourly_rate=0.0,
            lenient_first=True,
            interval_ms=MINUTE_MS,
            schema=schema_digest(MINUTE_MS),
            shadow=ShadowRules(10),
            past=lambda coin, until_ms: (series, ()),
            **more,
        )
        self.database, self.folder = database, folder
        self.told = Contract()
        self.desk = TrainingDesk(options, database, Listeners(self.told), champion)
        self.core = TradingCore({BTC: INSTRUMENT}, rules_for_tests(), lambda coin: self.desk.factory()(coin), salt="t")
        for row in range(len(series)):
            self.core.warm_up(series.bar(row))
        self.desk.on_history([series.bar(row) for row in range(len(series))])
        self.desk.restore(self.core)

    def poll(self) -> None:
        self.desk.poll(self.core, self.core.coin(BTC).last_end_ms)

    async def until(self, happened: Callable[[], bool]) -> None:
        for _ in range(WAIT_S * 50):
            self.poll()
            if happened():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not seen in {WAIT_S} s; the desk shows {self.desk.view()}")

    async def ended(self) -> None:
        """The training under way has come to its end, and the desk is free again."""
        task = self.desk._supervisor._task
        if task is not None:
            await asyncio.wait({task})

    @property
    def pid(self) -> int | None:
        process = self.desk._supervisor._process
        return None if process is None else process.pid

    @property
    def checkpoint(self) -> Path:
        return self.folder / "training" / self.database.trainings()[-1].id / CHECKPOINT_FILE

    def states(self) -> list[str]:
        self.database.flush()
        return [one.state for one in self.database.trainings()]


async def test_d24_a_trainer_that_is_killed_time_and_again_ends_in_a_reason(database: Database, tmp_path: Path) -> None:
    stage = Stage(database, tmp_path, tiny_settings(epochs=100_000), restart_after_s=(0.1,))
    await stage.until(lambda: stage.desk.view().epoch >= 1)
    first = stage.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await stage.until(lambda: stage.pid not in (None, first))
    assert "SIGKILL; started again" in stage.desk.view().reason
    assert stage.states() == ["running"]
    assert "SIGKILL; started again" in database.trainings()[0].reason
    assert stage.pid is not None
    os.kill(stage.pid, signal.SIGKILL)
    await stage.until(lambda: stage.desk.view().state == "failed")
    assert "SIGKILL" in stage.desk.view().reason
    assert stage.states() == ["failed"]
    assert stage.desk.champion is None
    await stage.until(lambda: "training started (operator)" in stage.desk.start("operator").text)
    await stage.desk.close()


async def test_d24_a_killed_trainer_loses_no_more_than_since_its_last_checkpoint(
    database: Database, tmp_path: Path
) -> None:
    settings = tiny_settings(epochs=60, early_stop_patience=1_000_000)
    stage = Stage(database, tmp_path, settings, restart_after_s=(0.1,), checkpoint_s=0.0)
    await stage.until(lambda: stage.desk.view().epoch >= 5)
    pid = stage.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    before = stage.desk.view().epoch
    await stage.until(lambda: stage.pid not in (None, pid))
    seen: list[int] = []
    await stage.until(lambda: bool(seen.append(stage.desk.view().epoch)) or "done" in stage.states())
    assert min(seen) >= before - 1  # an epoch is in the checkpoint after the first update of the next
    assert stage.states() == ["done"]
    view, (training,) = stage.desk.view(), database.trainings()
    assert view.epoch == 60
    assert view.validation == pytest.approx(100 * (training.validation or 0.0)), "of the kept epoch, as in the list"
    assert view.validation != view.validations[-1]
    assert view.reason.startswith("kept: epoch ")
    await stage.desk.close()


async def test_d24_a_checkpoint_damaged_with_the_trainers_death_is_said_and_costs_the_work_alone(
    database: Database, tmp_path: Path
) -> None:
    settings = tiny_settings(epochs=30, early_stop_patience=1_000_000)
    stage = Stage(database, tmp_path, settings, restart_after_s=(0.3,), checkpoint_s=0.0)
    await stage.until(lambda: stage.desk.view().epoch >= 2)
    pid = stage.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await stage.until(lambda: stage.pid is None)
    stage.checkpoint.write_bytes(stage.checkpoint.read_bytes()[:-100])
    reasons: set[str] = set()
    await stage.until(lambda: bool(reasons.add(stage.desk.view().reason)) or "done" in stage.states())
    assert any("not a checkpoint" in reason and "training from the start" in reason for reason in reasons), reasons
    assert stage.desk.view().epoch == 30
    await stage.desk.close()


async def test_a_cancelled_training_is_not_started_again(database: Database, tmp_path: Path) -> None:
    stage = Stage(database, tmp_path, tiny_settings(epochs=100_000), restart_after_s=(600.0,))
    await stage.until(lambda: stage.desk.view().epoch >= 1)
    assert stage.pid is not None
    os.kill(stage.pid, signal.SIGKILL)
    await stage.until(lambda: "started again" in stage.desk.view().reason)
    assert stage.desk.cancel().ok
    await stage.ended()
    assert stage.desk.view().state == "cancelled"
    assert stage.states() == ["cancelled"]
    assert stage.desk.cancel() == (False, "no training is under way")
    await stage.desk.close()


async def test_a_cancelled_training_goes_on_when_told_to_and_makes_the_model_it_would_have_made(
    database: Database, tmp_path: Path
) -> None:
    settings = tiny_settings(epochs=150, early_stop_patience=1_000_000)
    stage = Stage(database, tmp_path / "one", settings)
    assert stage.desk.go_on() == (False, "the last training was not cancelled: there is nothing to go on with")
    await stage.until(lambda: stage.desk.view().epoch >= 3)
    assert stage.desk.cancel().text.startswith("cancelled at epoch ")
    await stage.ended()
    assert stage.states() == ["cancelled"]
    cancelled = stage.database.trainings()[0]
    assert cancelled.epoch < 150
    assert stage.desk.go_on() == (True, f"{cancelled.id} goes on after epoch {cancelled.epoch} of 150")
    assert stage.desk.go_on() == (False, "a training is already running")
    seen: list[int] = []
    await stage.until(lambda: bool(seen.append(stage.desk.view().epoch)) or "done" in stage.states())
    assert min(epoch for epoch in seen if epoch) >= cancelled.epoch  # it did not begin anew
    (done,) = stage.database.trainings()
    await stage.desk.close()
    with Database.open(tmp_path / "other.db", "NORMAL", "sim", "0xabc", "venue") as other:
        whole = Stage(other, tmp_path / "two", settings)
        await whole.until(lambda: "done" in whole.states())
        assert [one.model for one in other.trainings()] == [done.model]
        await whole.desk.close()


async def test_a_reset_gives_up_the_training_under_way_and_begins_one_of_its_own(
    database: Database, tmp_path: Path
) -> None:
    stage = Stage(database, tmp_path, tiny_settings(epochs=100_000))
    await stage.until(lambda: stage.desk.view().epoch >= 1)
    begun = stage.desk.reset(stage.core, stage.core.coin(BTC).last_end_ms)
    assert begun.ok
    assert stage.desk.start("operator") == (False, "a training is already running")
    await stage.until(lambda: len(stage.states()) == 2)
    before, after = database.trainings()
    assert (before.state, before.reason, before.model) == ("cancelled", "reset by the operator", None)
    assert (after.state, after.cause) == ("running", "reset")
    await stage.desk.close()


async def test_a_model_that_a_reset_came_too_late_to_stop_does_not_trade(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer was done when it was told to leave: what it made belongs to what was given up."""
    monkeypatch.setattr(TrainingProcess, "cancel", lambda *_: asyncio.sleep(0))
    stage = Stage(database, tmp_path, tiny_settings(epochs=3))
    await stage.until(lambda: stage.pid is not None)
    stage.desk.reset(stage.core, stage.core.coin(BTC).last_end_ms)
    await stage.until(lambda: len(stage.states()) == 2)
    (model,) = database.models()
    assert (model.state, model.reason) == ("refused", "reset by the operator")
    assert [one.cause for one in database.trainings()] == ["bootstrap", "reset"]
    await stage.until(lambda: stage.states() == ["done", "done"] and stage.desk.champion is not None)
    await stage.desk.close()


async def test_a_first_training_that_was_cancelled_waits_and_then_goes_on_by_itself(
    database: Database, tmp_path: Path
) -> None:
    stage = Stage(database, tmp_path, tiny_settings(epochs=100_000))
    end_ms = stage.core.coin(BTC).last_end_ms
    await stage.until(lambda: stage.desk.view().epoch >= 2)
    later_ms = end_ms + 10 * RETRY_AFTER_BARS * MINUTE_MS  # it has been learning for long when it is cancelled
    stage.desk.poll(stage.core, later_ms)
    assert stage.desk.cancel().ok
    await stage.ended()
    stage.desk.poll(stage.core, later_ms)
    assert stage.states() == ["cancelled"]
    stage.desk.poll(stage.core, later_ms + RETRY_AFTER_BARS * MINUTE_MS)
    await stage.until(lambda: stage.desk.view().epoch >= 2)
    (again,) = database.trainings()  # the same one, not a new one
    assert (again.state, again.cause) == ("running", "bootstrap")
    await stage.desk.close()


async def test_a_training_under_way_is_taken_up_by_the_next_run_from_its_checkpoint(
    database: Database, tmp_path: Path
) -> None:
    settings = tiny_settings(epochs=60, early_stop_patience=1_000_000)
    first = Stage(database, tmp_path, settings)
    await first.until(lambda: first.desk.view().epoch >= 2)
    await first.desk.close()
    (training,) = database.trainings()
    assert training.state == "running"
    assert (tmp_path / "training" / training.id / CHECKPOINT_FILE).exists()
    for _ in range(2):  # an engine that dies before it has taken the training up leaves it to the next one
        second = Stage(database, tmp_path, settings)
        assert second.states() == ["interrupted"]
    seen: list[int] = []
    await second.until(lambda: bool(seen.append(second.desk.view().epoch)) or "done" in second.states())
    assert min(epoch for epoch in seen if epoch) >= 2  # it did not begin anew
    (training,) = database.trainings()
    assert training.state == "done"
    await second.desk.close()


async def test_a_model_that_nobody_has_judged_yet_is_judged_by_the_next_run(database: Database, tmp_path: Path) -> None:
    settings = tiny_settings(epochs=3)
    first = Stage(database, tmp_path, settings)
    first.poll()
    for _ in range(WAIT_S * 50):  # as an engine that is killed in the instant after its training ended
        if "done" in first.states():
            break
        await asyncio.sleep(0.02)
    assert database.models() == ()
    second = Stage(database, tmp_path, settings)
    await second.until(lambda: second.states()[0] == "done" and bool(database.models()))
    assert second.told.kinds >= {"training", "model"}
    assert [event.model for event in database.model_events() if event.event == "trained"] == [
        database.trainings()[0].model
    ]
    await second.desk.close()


async def test_a_training_whose_job_was_not_written_yet_is_begun_again(database: Database, tmp_path: Path) -> None:
    database.record_training(Training("t-1", 1, "running", "schedule", 3, 0, 3))
    stage = Stage(database, tmp_path, tiny_settings(epochs=3))
    await stage.until(lambda: stage.states() == ["interrupted", "done"])
    assert [one.cause for one in database.trainings()] == ["schedule", "schedule"]
    await stage.desk.close()


async def test_nothing_is_trained_before_there_are_bars_enough_to_lay_a_training_out(
    database: Database, tmp_path: Path
) -> None:
    """At one minute warm-up and embargo take 481 bars: 700 were begun with, and failed, every half hour."""
    stage = Stage(database, tmp_path, tiny_settings(epochs=1), bars=640)
    stage.poll()
    assert stage.states() == []
    begun, text = stage.desk.start("operator")
    assert not begun
    needed = int(re.findall(r"(\d+) are needed", text)[0])
    assert needed > 640
    await stage.desk.close()
    with Database.open(tmp_path / "other.db", "NORMAL", "sim", "0xabc", "venue") as other:
        enough = Stage(other, tmp_path / "other", tiny_settings(epochs=1), bars=needed)
        await enough.until(lambda: enough.states() == ["done"])
        await enough.desk.close()


async def test_a_desk_that_closes_begins_nothing(database: Database, tmp_path: Path) -> None:
    stage = Stage(database, tmp_path, tiny_settings(epochs=100_000))
    await stage.until(lambda: stage.desk.view().epoch >= 1)
    closing = asyncio.create_task(stage.desk.close())
    while not closing.done():
        await asyncio.sleep(0.01)
        stage.poll()
        assert stage.desk.start("status") == (False, "the engine ends")
    assert stage.states() == ["running"]


async def test_a_training_that_is_cancelled_before_its_process_is_there_is_not_run(
    database: Database, tmp_path: Path
) -> None:
    """Its data are still being written; told to go on it begins from the start."""
    stage = Stage(database, tmp_path, tiny_settings(epochs=5))
    stage.poll()
    assert stage.pid is None
    assert stage.desk.cancel().ok
    await stage.ended()
    assert stage.desk.view().state == "cancelled"
    assert (stage.states(), stage.database.trainings()[0].epoch) == (["cancelled"], 0)
    assert stage.desk.go_on().ok
    await stage.until(lambda: stage.states() == ["done"])
    await stage.desk.close()


async def test_a_training_that_is_cancelled_while_its_process_comes_up_ends(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, entered = Stage(database, tmp_path, tiny_settings(epochs=100_000)), TrainingProcess.__aenter__

    async def cancelled_meanwhile(process: TrainingProcess) -> TrainingProcess:
        stage.desk.cancel()
        return await entered(process)

    monkeypatch.setattr(TrainingProcess, "__aenter__", cancelled_meanwhile)
    stage.poll()
    await asyncio.wait_for(stage.ended(), WAIT_S)
    assert stage.states() == ["cancelled"]
    await stage.desk.close()


async def test_a_training_that_cannot_be_written_down_ends_in_the_journal_too(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "training").write_text("a file where the folder should be")
    stage = Stage(database, tmp_path, tiny_settings(epochs=2))
    await stage.until(lambda: stage.desk.view().state == "failed")
    assert "could not be run" in stage.desk.view().reason
    assert stage.states() == ["failed"]
    assert "could not be run" in database.trainings()[0].reason
    (tmp_path / "training").unlink()
    assert stage.desk.start("operator").ok
    await stage.until(lambda: stage.states() == ["failed", "done"])
    await stage.desk.close()


async def test_of_several_trainings_that_never_ended_only_the_last_goes_on(database: Database, tmp_path: Path) -> None:
    for number in (1, 2):
        database.record_training(Training(f"t-{number}", number, "running", "schedule", 3, 0, 3))
    stage = Stage(database, tmp_path, tiny_settings(epochs=3))
    await stage.until(lambda: stage.states() == ["interrupted", "interrupted", "done"])
    assert all(one.ended_ms is not None for one in database.trainings())
    await stage.desk.close()


async def test_a_database_that_is_away_begins_no_training_and_ends_no_engine(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(database, tmp_path, tiny_settings(epochs=3))

    def away() -> None:
        raise StoreUnavailable("the database does not answer")

    with monkeypatch.context() as gone:
        gone.setattr(database, "trainings", away)
        gone.setattr(stage.desk, "_spec", lambda *_: away())
        stage.poll()
        assert not stage.desk.go_on().ok
        assert "does not answer" in stage.desk.start("operator").text
    later_ms = stage.core.coin(BTC).last_end_ms + RETRY_AFTER_BARS * MINUTE_MS
    stage.desk.poll(stage.core, later_ms)
    await stage.until(lambda: stage.states() == ["done"])
    assert database.trainings()[0].seed == 3  # what could not be begun counts as none
    await stage.desk.close()


@pytest.mark.parametrize("how", ["reset", "spoilt"])
async def test_a_model_that_cannot_come_to_its_shadow_is_refused_and_the_desk_is_free(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """While it is shown the bars so far the operator resets, or that fails."""
    let_go = threading.Event()

    def warm_up(*_: object) -> None:
        if how == "spoilt":
            raise ValueError("no such bar")
        let_go.wait(WAIT_S)

    monkeypatch.setattr(ModelWalk, "warm_up", warm_up)
    stage = Stage(database, tmp_path, tiny_settings(epochs=3))
    monkeypatch.setattr(stage.desk.succession, "consider", lambda *_: "shadow")
    await stage.until(lambda: stage.states() == ["done"])
    if how == "reset":
        await stage.until(lambda: stage.desk._warming is not None)
        await stage.ended()  # its model comes before the child has left
        assert stage.desk.is_busy
        monkeypatch.setattr(stage.desk, "start", lambda cause: Begun(False, f"not begun here: {cause}"))
        assert stage.desk.reset(stage.core, stage.core.coin(BTC).last_end_ms).text == "not begun here: reset"
        let_go.set()
    else:
        await stage.until(lambda: bool(database.models()))
    reasons = {"reset": "reset by the operator", "spoilt": "it could not be shown the bars so far: no such bar"}
    for _ in range(5):
        await asyncio.sleep(0.02)
    database.flush()
    (model,) = database.models()
    assert (model.state, model.reason) == ("refused", reasons[how])
    assert stage.desk.shadow_view() is None
    assert not stage.desk.is_busy
    await stage.desk.close()


@pytest.mark.parametrize("damage", [b"", b"no checkpoint at all"])
async def test_d24_a_corrupt_checkpoint_costs_the_work_not_the_training(
    database: Database, tmp_path: Path, damage: bytes
) -> None:
    settings = tiny_settings(epochs=3)
    first = Stage(database, tmp_path, settings)
    await first.until(lambda: first.pid is not None)
    await first.desk.close()
    (training,) = database.trainings()
    (tmp_path / "training" / training.id / CHECKPOINT_FILE).write_bytes(damage)
    second = Stage(database, tmp_path, settings)
    await second.until(lambda: "done" in second.states())
    assert second.states() == ["done"]
    await second.desk.close()


async def test_a_replay_of_bars_that_its_model_was_made_from_is_noticed(
    database: Database, tmp_path: Path, trained: Bundle
) -> None:
    stage = Stage(database, tmp_path, tiny_settings(), bars=700, champion=trained)
    view, seen = stage.desk.model_view(), trained.record.seen
    assert (view.id, view.validation) == (trained.id, None)  # it was walked over no hold-out here
    assert seen is not None
    series, first = btc(1502), 700
    times = series.open_ms.tolist()
    assert (seen.from_ms, seen.to_ms) == (times[0], times[1500])
    for row in range(first, len(series)):
        stage.desk.on_bars([series.bar(row)], stage.core)
        assert stage.desk.in_sample.until_ms == min(times[row] + MINUTE_MS, seen.to_ms)
    await stage.desk.close()


async def test_a_model_from_elsewhere_is_due_for_a_training_until_one_has_begun(
    database: Database, tmp_path: Path, trained: Bundle
) -> None:
    stage = Stage(database, tmp_path, tiny_settings(epochs=100_000), champion=trained)
    desk, core, now_ms = stage.desk, stage.core, stage.core.coin(BTC).last_end_ms
    objectives, listeners = Objectives(), Listeners()
    watch = Watch(objectives, Params(), database, listeners, MINUTE_MS)
    cycles = CycleKeeper(objectives, database, listeners, MINUTE_MS, "sim")

    def schedule(trained_ms: int | None) -> list[str]:
        checked = watch.check(now_ms, core, desk.succession, cycles, trained_ms)
        return [trigger.reason for trigger in checked.triggers if trigger.cause == "schedule"]

    assert desk.trained_ms is None
    assert schedule(desk.trained_ms) == ["nothing has been trained here yet"]
    assert desk.start("schedule").ok  # before anything was polled, as the first bar of a run does
    assert schedule(desk.trained_ms) == []
    assert stage.states() == ["running"]
    assert database.trainings()[0].market_ms == desk.trained_ms == now_ms
    await desk.close()
    again = Stage(database, tmp_path, tiny_settings(epochs=100_000), champion=trained)
    assert again.desk.trained_ms == now_ms
    assert schedule(now_ms - 30 * DAY_MS) == ["720 hours since the last training"]
    await again.desk.close()


@pytest.mark.parametrize("rows", [0, 1, 100])
async def test_the_next_run_knows_of_a_replay_of_seen_bars_too(
    rows: int, database: Database, tmp_path: Path, trained: Bundle
) -> None:
    series = btc(700 + rows)
    first = Stage(database, tmp_path, tiny_settings(), bars=700, champion=trained, origin=series.origin)
    assert first.desk.in_sample.until_ms == 0
    for bar in (series.bar(row) for row in range(700, 700 + rows)):
        first.core.warm_up(bar)
        database.journal(first.desk.on_bars([bar], first.core))
    await first.desk.close()
    database.flush()
    again = Stage(database, tmp_path, tiny_settings(), bars=700 + rows, champion=trained, origin=series.origin)
    assert again.desk.in_sample.until_ms == first.desk.in_sample.until_ms == (rows and series.bar(699 + rows).end_ms)
    await again.desk.close()


async def test_a_model_says_of_which_market_and_time_the_bars_were_that_it_was_made_from(
    database: Database, tmp_path: Path
) -> None:
    stage = Stage(database, tmp_path, tiny_settings(epochs=1), origin="synthetic:regimes")
    await stage.until(lambda: stage.states() == ["done"] and len(database.models()) == 1)
    (version,) = database.models()
    record, opens = load_record(Path(version.path)), btc().open_ms
    assert record.data_origin == "synthetic:regimes"
    assert record.data_from_ms == opens[0]
    assert opens[0] < record.data_to_ms <= opens[-1] + MINUTE_MS
    await stage.desk.close()
