"""Compiled code on disk: taken again where it was made of the same sources, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CALLED = """
import numpy as np
from numba.extending import intrinsic, overload
from aml100.market.compiled import compiled

TABLE = np.array([{table}])
FACTOR = {factor}

def reads(x):
    raise NotImplementedError

@overload(reads, strict=False)
def _reads(x):
    return lambda x: x * {overloaded}

@intrinsic
def times(typing, x):
    return x(x), lambda context, builder, signature, arguments: builder.fmul(
        arguments[0], arguments[0].type({generated})
    )

@compiled()
def inner(x):
    return x * {inner}
"""
CALLER = """
from aml100.market.compiled import compiled
from called import FACTOR, TABLE, inner, reads, times

@compiled()
def outer(x):
    return times(inner(x)) * FACTOR * TABLE[0] * reads(1.0)

if __name__ == "__main__":
    import sys
    print(*(outer(float(one)) for one in sys.argv[1:]), sum(outer._cache_misses.values()))
"""
PARTS = {"table": "1.0", "factor": "1.0", "overloaded": "1.0", "generated": "1.0", "inner": "1.0"}


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "caller.py").write_text(CALLER)
    return tmp_path


def outcome(folder: Path, **parts: str) -> tuple[float, int]:
    """The value of outer(2) in a new process, and how many signatures of it had to be compiled there."""
    (folder / "called.py").write_text(CALLED.format(**PARTS | parts))
    run = subprocess.run(
        [sys.executable, "-B", "caller.py", "2"], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    value, misses = run.stdout.split()
    return float(value), int(misses)


def test_what_was_compiled_is_not_compiled_again(module: Path) -> None:
    assert outcome(module) == (2.0, 1)
    assert outcome(module) == (2.0, 0)


def test_a_change_in_another_file_is_never_missed(module: Path) -> None:
    for part in PARTS:
        assert outcome(module, **{part: "3.0"}) == (6.0, 1), part
    assert len(list(module.rglob("caller.outer.*.code"))) == 1  # what was made of older sources is gone


def test_processes_that_compile_at_the_same_time_never_take_each_others_code(module: Path) -> None:
    (module / "called.py").write_text(CALLED.format(**PARTS))
    code = "from caller import outer; import sys; print([outer(eval(one)) for one in sys.argv[1:]])"
    orders = [["2", "2.0", "True"], ["2.0", "True", "2"], ["True", "2", "2.0"]]
    running = [
        subprocess.Popen([sys.executable, "-B", "-c", code, *order], cwd=module, stdout=subprocess.PIPE, text=True)
        for order in orders
    ]
    for process, order in zip(running, orders, strict=True):
        out, _ = process.communicate(timeout=120)
        assert out.strip() == str([float(eval(one)) for one in order])
    again = subprocess.run(
        [sys.executable, "-B", "-c", code, *orders[0]], cwd=module, capture_output=True, text=True, check=True
    )
    assert again.stdout.strip() == "[2.0, 2.0, 1.0]"
    assert len(list(module.rglob("caller.outer.*.code"))) == 3


def test_a_file_that_is_cut_short_is_compiled_anew(module: Path) -> None:
    assert outcome(module) == (2.0, 1)
    (kept,) = module.rglob("caller.outer.*.code")
    kept.write_bytes(kept.read_bytes()[:100])
    assert outcome(module) == (2.0, 1)
