"""The child process from its parent's side: real training, and every way in which a child can fail."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import pytest
import torch

from aml100.learning.bundle import load_bundle
from aml100.training.messages import DataSource, Done, Failed, Message, Progress, Stopped, TrainingSpec, encode_line
from aml100.training.process import WORKER, TrainingProcess
from aml100.training.worker import is_out_of_memory
from tests.unit.learning.planted import FREE_HANDED, mean_reverting, tiny_settings


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    series = mean_reverting(1500, 1)
    columns = (series.open_ms, series.open, series.high, series.low, series.close, series.volume)
    lines = [",".join(repr(value.item()) for value in row) for row in zip(*columns, strict=True)]
    path = tmp_path_factory.mktemp("bars") / "BTC.csv"
    path.write_text("time,open,high,low,close,volume\n" + "\n".join(lines) + "\n")
    return path


def spec_for(bars: Path, folder: Path, epochs: int = 2, resume: bool = False) -> TrainingSpec:
    return TrainingSpec(
        data=(DataSource(str(bars), FREE_HANDED),),
        settings=tiny_settings(epochs=epochs, early_stop_patience=1_000_000),
        seed=1,
        models=str(folder / "models"),
        folder=str(folder / "job"),
        resume=resume,
    )


async def collect(process: TrainingProcess) -> list[Message]:
    return [message async for message in process.messages()]


async def fake(tmp_path: Path, code: str) -> list[Message]:
    """Run a Python one-liner in the worker's place."""
    async with TrainingProcess(spec_for(tmp_path / "none.csv", tmp_path), (sys.executable, "-c", code)) as process:
        return await collect(process)


async def test_a_child_that_is_told_again_and_again_leaves_all_the_same(bars: Path, tmp_path: Path) -> None:
    """As the engine and the kernel tell it in the same moment: a handler is interrupted by itself."""
    async with TrainingProcess(spec_for(bars, tmp_path, epochs=1_000_000)) as process:
        messages = process.messages()
        assert isinstance(await anext(messages), Progress)
        assert process.pid is not None
        child = psutil.Process(process.pid)
        last: object = None
        while not isinstance(last, Stopped):
            with suppress(psutil.NoSuchProcess):  # it has left, what it said last is still to be read
                for _ in range(1000):
                    child.send_signal(signal.SIGTERM)
            last = await asyncio.wait_for(anext(messages), 60)


@pytest.mark.parametrize("said", [None, "ACTIVE"])
async def test_threads_of_a_childs_torch_sleep_at_barriers(
    said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenMP itself tells when it is loaded; what somebody has set stays."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "TRUE")
    if said is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", said)
    await fake(tmp_path, "import torch")
    shown = (tmp_path / "job" / "training.log").read_text()
    if "OPENMP DISPLAY ENVIRONMENT" not in shown:
        pytest.skip("torch's OpenMP here says nothing about itself")
    assert f"OMP_WAIT_POLICY = '{said or 'PASSIVE'}'" in shown


async def test_a_training_runs_in_its_child_and_leaves_a_model(bars: Path, tmp_path: Path) -> None:
    async with TrainingProcess(spec_for(bars, tmp_path)) as process:
        messages = await collect(process)
    *progress, done = messages
    assert isinstance(done, Done), done
    assert [message.epoch for message in progress if isinstance(message, Progress)] == [0, 1, 2]
    bundle = load_bundle(Path(done.path))
    assert bundle.id == done.id
    assert bundle.record.coins == ("BTC",)


async def test_told_to_stop_it_leaves_a_checkpoint_and_can_be_resumed(bars: Path, tmp_path: Path) -> None:
    async with TrainingProcess(spec_for(bars, tmp_path, epochs=100_000)) as process:
        stream = process.messages()
        async for message in stream:
            if isinstance(message, Progress) and message.epoch >= 1:
                break
        waiting = asyncio.create_task(process.cancel())
        rest = [message async for message in stream]
        await waiting
    assert isinstance(rest[-1], Stopped), rest[-1]
    assert (Path(rest[-1].checkpoint) / "checkpoint.safetensors").exists()


async def test_d24_a_trainer_that_was_killed_makes_the_same_model_from_its_checkpoint(
    bars: Path, tmp_path: Path
) -> None:
    async with TrainingProcess(spec_for(bars, tmp_path / "straight", epochs=30)) as process:
        *_, straight = await collect(process)
    spec = msgspec.structs.replace(spec_for(bars, tmp_path, epochs=30), checkpoint_s=0.0)
    async with TrainingProcess(spec) as process:
        stream = process.messages()
        async for message in stream:
            if isinstance(message, Progress) and message.epoch >= 3:
                break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        *_, died = [message async for message in stream]
    assert isinstance(died, Failed)
    assert (died.kind, "SIGKILL" in died.reason) == ("died", True)
    async with TrainingProcess(msgspec.structs.replace(spec, resume=True)) as process:
        first, *_, done = await collect(process)
    assert isinstance(first, Progress)
    assert first.epoch >= 2
    assert isinstance(straight, Done)
    assert isinstance(done, Done)
    assert done.id == straight.id


def test_out_of_memory_is_told_apart_from_a_mistake() -> None:
    with pytest.raises(RuntimeError) as torch_on_cpu:
        torch.empty(1 << 48)
    assert is_out_of_memory(torch_on_cpu.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


async def test_d23_training_yields_the_processor_to_trading(bars: Path, tmp_path: Path) -> None:
    """A process of its own, of lower priority, in one thread of work: the engine's loop never waits for it."""
    async with TrainingProcess(spec_for(bars, tmp_path, epochs=100_000)) as process:
        stream = process.messages()
        async for message in stream:
            if isinstance(message, Progress) and message.epoch >= 1:
                break
        assert process.pid is not None
        child = psutil.Process(process.pid)
        assert child.pid != os.getpid()
        assert child.nice() > psutil.Process().nice()
        waiting = asyncio.create_task(process.cancel())
        assert isinstance([message async for message in stream][-1], Stopped)
        await waiting


async def test_a_refused_file_is_reported_in_its_own_words(tmp_path: Path) -> None:
    broken = tmp_path / "BTC.csv"
    broken.write_text("time,open,high,low,close,volume\n")
    async with TrainingProcess(spec_for(broken, tmp_path)) as process:
        (failed,) = await collect(process)
    assert isinstance(failed, Failed)
    assert "BTC.csv" in failed.reason


async def test_a_child_that_crashes_gives_the_reason(tmp_path: Path) -> None:
    (failed,) = await fake(tmp_path, "raise RuntimeError('out of luck')")
    assert failed == Failed("the trainer ended with exit code 1: RuntimeError: out of luck")


async def test_a_child_that_is_killed_gives_the_signal(tmp_path: Path) -> None:
    (failed,) = await fake(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("the trainer was killed by SIGKILL")


async def test_a_child_that_talks_nonsense_is_no_exception_of_ours(tmp_path: Path) -> None:
    (failed,) = await fake(tmp_path, "print('hello')")
    assert isinstance(failed, Failed)
    assert "no message" in failed.reason


async def test_leaving_the_block_leaves_no_child_behind(tmp_path: Path) -> None:
    async with TrainingProcess(spec_for(tmp_path, tmp_path), (sys.executable, "-c", "input(); input()")) as process:
        pid = process.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_deaf_child_is_killed_after_the_grace(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(sys.argv[1], flush=True); time.sleep(1000)"
    )
    progress = encode_line(Progress(0, 1, 0, 0, None, None, 0, 0.0, 1.0, 1.0, 1, 0.0, None)).decode().strip()
    async with TrainingProcess(spec_for(tmp_path, tmp_path), (sys.executable, "-c", code, progress)) as process:
        stream = process.messages()
        assert isinstance(await anext(stream), Progress)  # it is deaf by now
        await process.cancel(grace_s=0.05)
        (failed,) = [message async for message in stream]
    assert isinstance(failed, Failed)
    assert "SIGKILL after it was told to stop" in failed.reason


def test_a_worker_whose_parent_is_gone_stops_by_itself(bars: Path, tmp_path: Path) -> None:
    """The end of stdin is enough."""
    child = subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdin is not None
    child.stdin.write(encode_line(spec_for(bars, tmp_path, epochs=100_000)))
    out, _ = child.communicate()  # closes stdin, then waits
    assert b'"type":"stopped"' in out.splitlines()[-1]
    assert child.returncode == 0


def test_ctrl_c_stops_a_worker_like_sigterm(bars: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(encode_line(spec_for(bars, tmp_path, epochs=100_000)))
    child.stdin.flush()
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate()
    assert b'"type":"stopped"' in out.splitlines()[-1]
