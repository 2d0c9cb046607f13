"""Runs trials: ours and every peer take turns, medians are compared.

A peer is a process that answers one JSON line per line it is sent (peers/serve.py): it imports, compiles and warms up
once and then waits, costing nothing while the others are measured. One that is not installed, fails or takes too long
is reported as such and leaves its goals open; it never stops the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from aml100.bench.frame import PEER_SCRIPTS, Figure, Goal, Peer, Readings, Row, State, Trial, reading
from aml100.domain.errors import AmlError

ONE_THREAD: Final = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
        *("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"),
    ),
    "1",
)
LEAVING_S: Final = 10.0
READY: Final = '"ready"'


class PeerFailed(Exception):
    """The peer gave no figure; the message says why."""


@contextlib.contextmanager
def started(peer: Peer, python: Path, folder: Path) -> Iterator[PeerProcess]:
    """The peer's process, ready to measure; it ends with the block. PeerFailed where it does not get ready."""
    command = [str(python), str(PEER_SCRIPTS / peer.script), str(folder), *peer.arguments]
    environ = {**os.environ, **ONE_THREAD} | ({"PYTHONPATH": ""} if peer.environment else {})
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, env=environ, bufsize=0) as process,
    ):
        running = PeerProcess(peer, process, errors)
        try:
            while running.answer() != READY:
                pass  # something that was printed while it imported
            yield running
        finally:
            try:
                process.communicate(timeout=LEAVING_S)  # its input ends, so it leaves
            except subprocess.TimeoutExpired:
                process.kill()


class PeerProcess:
    """A peer that runs."""

    def __init__(self, peer: Peer, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._peer, self._process, self._errors = peer, process, errors
        self._unread = b""

    def sample(self) -> float | Readings:
        """One repetition; PeerFailed where there is none."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")
        line = self.answer()
        try:
            answer: Any = json.loads(line)
        except ValueError:
            raise PeerFailed(f"answered {line[:80]!r}, not JSON") from None
        values = list(answer.values()) if isinstance(answer, dict) else [answer]
        if not values or not all(isinstance(value, int | float) and value > 0 for value in values):
            raise PeerFailed(f"answered {line[:80]}, not positive numbers")
        return answer  # type: ignore[no-any-return]  # a number, or numbers by name

    def answer(self) -> str:
        """Its next line; PeerFailed where it hangs or has left."""
        assert self._process.stdout is not None
        stream, until = self._process.stdout.fileno(), time.monotonic() + self._peer.timeout_s
        while b"\n" not in self._unread:
            if not select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
                self._process.kill()
                raise PeerFailed(f"no answer within {self._peer.timeout_s:g} s")
            more = os.read(stream, 65_536)
            if not more:
                raise PeerFailed(self._last_words())
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace").strip()

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.decode(errors="replace").strip() for line in self._errors if line.strip()]
        return lines[-1][:160] if lines else f"left with exit code {self._process.returncode}"


def python_of(peer: Peer, environments: Path) -> Path | None:
    """The interpreter that runs the peer; None where its environment is absent."""
    if peer.environment is None:
        return Path(sys.executable)
    python = environments / peer.environment / "bin" / "python"
    return python.absolute() if python.exists() else None


def run_trial(
    trial: Trial, environments: Path, repetitions: int | None = None, say: Callable[[str], None] = lambda text: None
) -> list[Row]:
    """Measure one trial; `say` is told what goes on. Where ours cannot run here, its rows say so."""
    try:
        return _run_trial(trial, environments, repetitions, say)
    except (AmlError, OSError, TimeoutError, ImportError) as problem:
        note = f"ours: {type(problem).__name__}: {problem}"
        return [
            _without(trial, figure, "failed", note, goal)
            for figure in trial.figures
            for goal in figure.goals or (None,)
        ]


def _without(trial: Trial, figure: Figure, state: State, note: str, goal: Goal | None = None) -> Row:
    """The row of a figure that ours has no reading of."""
    peer, at_least = (goal.peer, goal.at_least) if goal else (None, None)
    return Row(f"{trial.budget} {figure.name}", figure.unit, None, None, peer, None, at_least, state, None, None, note)


def _run_trial(trial: Trial, environments: Path, repetitions: int | None, say: Callable[[str], None]) -> list[Row]:
    rounds = repetitions or trial.repetitions
    ours: list[float | Readings] = []
    theirs: dict[str, list[float | Readings]] = {peer.name: [] for peer in trial.peers}
    troubles: dict[str, tuple[State, str]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aml100-bench-")))
        measure = stack.enter_context(trial.prepare(folder))
        running: dict[str, PeerProcess] = {}
        for peer in trial.peers:
            python = python_of(peer, environments)
            if python is None:
                troubles[peer.name] = ("absent", f"no {peer.environment} in {environments}; see make bench-peers")
            else:
                say(f"{trial.budget} {trial.figures[0].name}, {peer.name} gets ready")
                try:
                    running[peer.name] = stack.enter_context(started(peer, python, folder))
                except PeerFailed as problem:
                    troubles[peer.name] = ("failed", str(problem))
        for done in range(rounds):
            ours.append(measure())
            for name in list(running):
                say(f"{trial.budget} {trial.figures[0].name}, repetition {done + 1} of {rounds}, {name}")
                try:
                    theirs[name].append(running[name].sample())
                except PeerFailed as problem:
                    troubles[name] = ("failed", str(problem))
                    del running[name]
    return [row for figure in trial.figures for row in _rows(trial, figure, ours, theirs, troubles)]


def _rows(
    trial: Trial,
    figure: Figure,
    ours: Sequence[float | Readings],
    theirs: dict[str, list[float | Readings]],
    troubles: dict[str, tuple[State, str]],
) -> Iterator[Row]:
    values = [value for one in ours if (value := reading(one, figure.key)) is not None]
    if not values and figure.needs:
        yield _without(trial, figure, "absent", f"needs {figure.needs}")
        return
    if not values:
        raise ValueError(f"{trial.budget} {figure.name}: no readings under {figure.key!r}")
    name, mine = f"{trial.budget} {figure.name}", statistics.median(values)
    if not figure.goals:
        yield Row(name, figure.unit, mine, None, None, None, None, "shown", None, None)
    for goal in figure.goals:
        if goal.peer is None:
            assert goal.limit is not None
            others, peer_name = [goal.limit] * len(values), "limit"
        else:
            others, peer_name = _readings(theirs[goal.peer], figure), goal.peer
        state, note = troubles.get(peer_name, ("failed", f"gave no {figure.key or 'number'}"))
        if peer_name in troubles or not others:
            yield Row(name, figure.unit, mine, None, peer_name, None, goal.at_least, state, None, None, note)
            continue
        yield _compared(name, figure, goal, values, others, peer_name)


def _compared(
    name: str, figure: Figure, goal: Goal, values: Sequence[float], others: Sequence[float], peer_name: str
) -> Row:
    mine, other = statistics.median(values), statistics.median(others)

    def times_better(own: float, their: float) -> float:
        return their / own if figure.less_is_better else own / their

    single = [times_better(own, their) for own, their in zip(values, others, strict=False)]
    ratio = times_better(mine, other)
    state: State = "met" if ratio >= goal.at_least else "missed"
    return Row(name, figure.unit, mine, other, peer_name, ratio, goal.at_least, state, min(single), max(single))


def _readings(samples: Sequence[float | Readings], figure: Figure) -> list[float]:
    return [value for one in samples if (value := reading(one, figure.key)) is not None]
