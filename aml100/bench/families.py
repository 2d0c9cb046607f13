"""Which families of benchmarks there are, and which trials a list of names means."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Final

from aml100.bench.frame import Trial
from aml100.domain.errors import UsageError

FAMILIES: Final[dict[str, str]] = {
    "env": "aml100.bench.env",
    "backtest": "aml100.bench.backtest",
    "market": "aml100.bench.market",
    "inference": "aml100.bench.inference",
    "replay": "aml100.bench.replay",
    "venue": "aml100.bench.venue",
    "storage": "aml100.bench.storage",
    "console": "aml100.bench.console",
    "learning": "aml100.bench.learning",
    "end-to-end": "aml100.bench.end_to_end",
}
"""Family -> module that holds its `TRIALS`; imported when it is run."""


def trials_of(names: Sequence[str]) -> list[tuple[str, Trial]]:
    """(family, trial) for families or budget ids (`env`, `P7`); all for no names.

    Raises UsageError, with the nearest name, where one is not known.
    """
    families = [name for name in names if name in FAMILIES]
    budgets = {name.upper() for name in names if name not in FAMILIES}
    known: set[str] = set()
    chosen = []
    for family, module in FAMILIES.items():
        if names and not budgets and family not in families:
            continue
        for trial in importlib.import_module(module).TRIALS:
            known.add(trial.budget)
            if not names or family in families or trial.budget in budgets:
                chosen.append((family, trial))
    if unknown := budgets - known:
        name = next(one for one in names if one.upper() in unknown)
        close = difflib.get_close_matches(name, [*FAMILIES, *known], n=1)
        hint = f', did you mean "{close[0]}"?' if close else ""
        raise UsageError(
            f"bench: unknown benchmark {name!r}{hint}; allowed: {', '.join(FAMILIES)}, or a budget's id as P7"
        )
    return chosen
