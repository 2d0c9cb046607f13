"""Trials on a Ray cluster: pure functions of their task, so one whose worker died is simply evaluated again.

Needs the extra `ray`. Only the driver talks to the study; a result is taken once, whoever computed it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from aml100.domain.errors import AmlError, UsageError
from aml100.research.search import Outcome, Task

RETRIES: Final = 5
ASK_S: Final = 0.5


class RayRunner:
    """Evaluates tasks on the cluster at `address`, or on one of its own on this machine.

    Args:
        evaluate: picklable; called as `evaluate(context, task)` in a worker.
        context: what all tasks share (bars, folds, base parameters); sent once.
        workers: how many at once on a local cluster.
    """

    def __init__(
        self,
        evaluate: Callable[[Any, Task], Outcome | None],
        context: object,
        stop: Callable[[], bool],
        *,
        address: str | None = None,
        workers: int = 2,
    ) -> None:
        self._evaluate, self._context, self._stop = evaluate, context, stop
        self._address, self._workers = address, workers
        self._ray: Any = None
        self._shared: Any = None
        self._remote: Any = None

    def __enter__(self) -> RayRunner:
        try:
            import ray
        except ImportError:
            raise UsageError("--engine ray: the package ray is missing; allowed: pip install 'aml100[ray]'") from None
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            if self._address is None:
                ray.init(num_cpus=self._workers, include_dashboard=False, **options)
            else:
                ray.init(address=self._address, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"--address {self._address}: no Ray cluster there ({_first_line(error)})") from None
        self._ray = ray
        self._shared = ray.put(self._context)
        self._remote = ray.remote(max_retries=RETRIES, num_cpus=1)(self._evaluate)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._ray is not None:
            self._ray.shutdown()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Outcome]]:
        """Outcomes as they come. Ray starts a task again where its worker died; a result that was taken stays taken."""
        ray = self._ray
        pending = {self._remote.remote(self._shared, task): task for task in tasks}
        while pending:
            if self._stop():
                for reference in pending:
                    ray.cancel(reference, force=True)
                return
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=ASK_S)
            for reference in ready:
                task = pending.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayError as error:
                    raise AmlError(f"trial {task.number}: the cluster gave up on it: {_first_line(error)}") from None
                if outcome is not None:
                    yield task.number, outcome


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
