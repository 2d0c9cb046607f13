"""The registry of every trial ever begun: what the deflated Sharpe ratio has to answer for (GUARANTEES B17, E7).

A trial is one configuration trained on one data set with one seed and looked at on validation. It is written down
before it begins, so that one which is aborted, fails or is killed counts as well: whoever tries ten things and finishes
the best one has tried ten. The registry is a file of JSON lines beside the models, appended to by any number of
processes under a lock; the last line of an id says how it ended. The same data, settings and seed
are the same trial however often they are run, since they give the same model.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from aml100.domain.clock import wall_ms
from aml100.domain.errors import StateError
from aml100.evaluation.objectives import Trials
from aml100.evaluation.statistics import moments_of, overfitting_of
from aml100.market.series import Floats
from aml100.storage.entries import Trial

REGISTRY_FILE: Final = "trials.jsonl"

BEGUN: Final = "begun"
DONE: Final = "done"
ABORTED: Final = "aborted"
"""How a trial reads that was begun and never said how it ended."""


@dataclass(frozen=True, slots=True)
class TrialRegistry:
    """The trials written down in one file.

    >>> import tempfile
    >>> registry = TrialRegistry(Path(tempfile.mkdtemp()) / REGISTRY_FILE)
    >>> registry.begin("a", source="train", seed=1, parameters={"gamma": 0.9})
    >>> registry.begin("b", source="train", seed=2, parameters={"gamma": 0.9})
    >>> registry.finish("b", "done", daily=np.array([0.01, -0.005, 0.002]))
    >>> [(trial.id, trial.state, trial.observations) for trial in registry.read()]
    [('a', 'aborted', None), ('b', 'done', 3)]
    >>> registry.deflation().count
    2
    """

    path: Path

    @staticmethod
    def beside(models: Path) -> TrialRegistry:
        """The registry of a `models/` folder."""
        return TrialRegistry(models / REGISTRY_FILE)

    def begin(
        self, trial_id: str, *, source: str, seed: int | None, parameters: Mapping[str, object], group: str = ""
    ) -> None:
        """Write a trial down before it starts; durable when this returns.

        Args:
            source: who tries: train, walkforward, optimize, engine.
            group: what trials have in common that are judged by the same days of the same data; empty: nothing.
        """
        rendered = msgspec.json.encode(parameters, order="deterministic").decode()
        self._append(Trial(trial_id, wall_ms(), source, BEGUN, seed, parameters=rendered, group=group))

    def finish(self, trial_id: str, state: str, daily: Floats | None = None) -> None:
        """Say how a trial that was begun ended.

        Args:
            state: done, aborted or failed.
            daily: its daily returns on the part it is judged by; moments are kept where there are two or more.

        Raises:
            StateError: it was never begun.
        """
        begun = {trial.id: trial for trial in self.read()}.get(trial_id)
        if begun is None:
            raise StateError(f"{self.path}: trial {trial_id} was never begun")
        moments = None if daily is None else moments_of(np.asarray(daily, np.float64))
        self._append(
            replace(
                begun,
                state=state,
                sharpe=None if moments is None else moments.sharpe,
                observations=None if daily is None else len(daily),
                skew=None if moments is None else moments.skewness,
                kurtosis=None if moments is None else moments.kurtosis,
                daily=tuple(np.asarray(daily, np.float64).tolist()) if begun.group and daily is not None else (),
            )
        )

    def read(self) -> tuple[Trial, ...]:
        """All trials in the order in which they were first begun, each as it ended.

        Raises:
            StateError: a line does not read. A last line without its end is what a kill left and is passed over; its
                trial stands in an earlier line or was not begun.
        """
        if not self.path.exists():
            return ()
        *lines, _unfinished = self.path.read_bytes().split(b"\n")
        found: dict[str, Trial] = {}
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                trial = msgspec.json.decode(line, type=Trial)
            except msgspec.MsgspecError as error:
                raise StateError(f"{self.path}: line {number} is no trial: {error}") from None
            first = found.get(trial.id, trial)
            found[trial.id] = replace(trial, time_ms=first.time_ms, source=first.source)
        return tuple(replace(t, state=ABORTED) if t.state == BEGUN else t for t in found.values())

    def deflation(self) -> Trials:
        """How many were tried, the variance of their daily Sharpe ratios, and the probability of overfitting."""
        return deflation_of(self.read())

    def _append(self, trial: Trial) -> None:
        """One line at the end, one writer at a time; what a kill left unfinished there is cut off first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            contents = os.pread(handle, os.fstat(handle).st_size, 0)
            whole = contents.rfind(b"\n") + 1
            os.ftruncate(handle, whole)
            os.pwrite(handle, msgspec.json.encode(trial) + b"\n", whole)
            os.fsync(handle)
        finally:
            os.close(handle)


def deflation_of(*sources: Iterable[Trial]) -> Trials:
    """What a Sharpe ratio is deflated by, over trials from several places; one that stands in two counts once.

    The variance is None where fewer than two ratios are known, the probability of overfitting where no two finished
    trials were judged by the same days.

    >>> deflation_of([Trial("a", 0, "train", "done", sharpe=0.1)], [Trial("b", 0, "optimize", "done", sharpe=0.3)])
    Trials(count=2, sharpe_variance=0.019999999999999997, pbo=None)
    """
    trials = {trial.id: trial for source in sources for trial in source}
    known = [trial.sharpe for trial in trials.values() if trial.sharpe is not None]
    variance = float(np.var(known, ddof=1)) if len(known) > 1 else None
    return Trials(max(1, len(trials)), variance, _overfitting(trials.values()))


def _overfitting(trials: Iterable[Trial]) -> float | None:
    """Over the largest set of finished trials that lie side by side; of equal ones the set begun last."""
    sets: dict[tuple[str, int], list[Trial]] = {}
    for trial in trials:
        if trial.state == DONE and trial.group and trial.daily:
            sets.setdefault((trial.group, len(trial.daily)), []).append(trial)
    if not sets:
        return None
    chosen = max(sets.values(), key=lambda found: (len(found), found[-1].time_ms))
    return overfitting_of([trial.daily for trial in chosen])


class KnownTrials:
    """`TrialRegistry.deflation` for whoever asks often: the file is read again only when it has changed."""

    def __init__(self, registry: TrialRegistry) -> None:
        self._registry = registry
        self._stamp: tuple[int, int] | None = None
        self._known = Trials()

    def __call__(self) -> Trials:
        """As of now."""
        try:
            found = self._registry.path.stat()
        except FileNotFoundError:
            return self._known
        stamp = (found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._known, self._stamp = self._registry.deflation(), stamp
        return self._known
