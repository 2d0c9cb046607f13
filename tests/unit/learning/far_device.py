"""A device that is not there: torch takes it for an accelerator, and what lies on it cannot be read by accident.

It holds ordinary arrays and computes with torch's own CPU kernels, so it is of no use but for one thing: code that
reads a tensor of the device as if it were the CPU's, mixes the two, or waits for the device, fails here or is counted,
as it would be on a GPU. What a GPU computes, and how fast, only one can tell: test_cuda.py.

A process can learn of a device only before its first gradient, and cannot forget it: `far_process` is one that has.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME: Final = "far"
HERE: Final = torch.device("cpu")

reads: list[str] = []
"""Of this process: the operations that waited for the device and brought something back."""


class FarTensor(Tensor):
    """Says that it lies on the device; `raw` is where it does."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> FarTensor:
        far = Tensor._make_wrapper_subclass(
            cls, raw.size(), raw.stride(), raw.storage_offset(), dtype=raw.dtype, device=torch.device(NAME, 0)
        )
        far.raw = raw
        return far

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(op, *args, **(kwargs or {}))


def _compute(op: Any, *args: Any, **kwargs: Any) -> Any:
    """The operation on what the tensors hold; what it returns is on the device, unless it was asked to come back."""
    name = op.overloadpacket.__name__
    known: dict[int, FarTensor] = {}

    def bare(value: Any) -> Any:
        if isinstance(value, FarTensor):
            known[id(value.raw)] = value
            return value.raw
        if isinstance(value, Tensor) and value.dim() > 0 and name not in ("copy_", "_copy_from"):
            raise RuntimeError(f"{op}: expected all tensors to be on the same device")
        return HERE if isinstance(value, torch.device) and value.type == NAME else value

    bare_args, bare_kwargs = tree_map(bare, (args, kwargs))
    result = _CELL.get(name, op)(*bare_args, **bare_kwargs)
    asked = kwargs.get("device")
    comes_back = name == "_local_scalar_dense" or (name == "_to_copy" and asked is not None and asked.type == "cpu")
    if comes_back:
        reads.append(name)
        return result
    return tree_map(lambda one: known.get(id(one), FarTensor(one)) if isinstance(one, Tensor) else one, result)


def _cell(
    inputs: Tensor, hidden: Tensor, c: Tensor, input_bias: Tensor | None = None, hidden_bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM's bar, which torch has on accelerators alone; gates [B, 4H] before their functions, c [B, H]."""
    raw = inputs + hidden
    if input_bias is not None and hidden_bias is not None:
        raw = raw + input_bias + hidden_bias
    i, f, g, o = raw.chunk(4, 1)
    gates = torch.cat([i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()], 1)
    i, f, g, o = gates.chunk(4, 1)
    after = f * c + i * g
    return o * after.tanh(), after, gates


def _cell_backward(
    of_h: Tensor | None, of_c: Tensor | None, c: Tensor, after: Tensor, gates: Tensor, has_bias: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of `_cell`: of its gates, of `c`, and of its bias."""
    i, f, g, o = gates.chunk(4, 1)
    seen = after.tanh()
    out = torch.zeros_like(after) if of_h is None else of_h
    whole = out * o * (1.0 - seen**2) + (0.0 if of_c is None else of_c)
    of_gates = torch.cat(
        [whole * g * i * (1.0 - i), whole * c * f * (1.0 - f), whole * i * (1.0 - g**2), out * seen * o * (1.0 - o)], 1
    )
    return of_gates, whole * f, of_gates.sum(0) if has_bias else None


_CELL: Final[dict[str, Callable[..., Any]]] = {
    "_thnn_fused_lstm_cell": _cell,
    "_thnn_fused_lstm_cell_backward_impl": _cell_backward,
}
_library = torch.library.Library("_", "IMPL")


def register() -> None:
    """Make the device known to this process."""
    _setup_privateuseone_for_python_backend(NAME)
    _library.fallback(_compute, "PrivateUse1")
    torch.set_num_threads(1)


def far_process() -> ProcessPoolExecutor:
    """A process of its own that knows the device; give it functions of modules."""
    return ProcessPoolExecutor(1, get_context("spawn"), register)
