"""Compiled functions whose code on disk is never somebody else's, nor yesterday's.

Compiling takes tens of seconds, so the result is kept beside the sources (numba's cache). What numba does by itself is
not safe enough for money, in two ways. It numbers the files of a function, so two processes that compile at the same
moment can take each other's code, and a back-test trades by other rules without a word. And it looks only at the
function's own file: a constant or a function that was changed in another one leaves the old code in force. So here a
file is named by a digest of all that its code is made of, the functions it calls and the constants it reads included,
and is put in its place as a whole (docs/adr/0010).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numba import njit, types
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from numba.core.serialize import dumps
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
_VERSIONS: Final = f"{sys.implementation.cache_tag} numba-{numba.__version__}".encode()
_CONSTANTS: Final = (bool, int, float, str, bytes, type(None), tuple, frozenset, np.dtype, np.generic)
_PACKAGE: Final = __name__.partition(".")[0]


def compiled(**options: Any) -> Callable[[F], F]:
    """As `numba.njit` with these options, kept on disk; the interpreter's lock is let go while it runs."""

    def decorate(function: F) -> F:
        dispatcher = njit(**{"nogil": True, **options})(function)
        dispatcher._cache = _Cache(function)
        return dispatcher  # type: ignore[no-any-return]

    return decorate


class _Cache(FunctionCache):
    """numba's cache of one function, over our files."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file = _Files(Path(self._cache_path), function)  # type: ignore[assignment]


class _Files:
    """A file for each signature of one function, in the folder that numba chose."""

    def __init__(self, folder: Path, function: Callable[..., Any]) -> None:
        self._folder, self._function = folder, function
        self._base = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}".replace("<locals>", "_")
        self._made_of = ""

    def load(self, key: object) -> object | None:
        """What was saved under this key and made of the same sources; None where nothing was."""
        try:
            return pickle.loads(self._path(key).read_bytes())  # type: ignore[no-any-return]
        except (OSError, EOFError, pickle.UnpicklingError):
            return None

    def save(self, key: object, data: object) -> None:
        """Put the file there as a whole; what was made of older sources goes."""
        path = self._path(key)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        draft.write_bytes(dumps(data))  # type: ignore[no-untyped-call]
        os.replace(draft, path)
        for old in self._folder.glob(f"{self._base}.*.code"):
            if not old.name.startswith(f"{self._base}.{self._made_of}."):
                old.unlink(missing_ok=True)

    def flush(self) -> None:
        """Forget all signatures."""
        for path in self._folder.glob(f"{self._base}.*.code"):
            path.unlink(missing_ok=True)

    def _path(self, key: object) -> Path:
        if not self._made_of:
            self._made_of = digest_of(self._function)
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return self._folder / f"{self._base}.{self._made_of}.{name}.code"


def digest_of(function: Callable[..., Any]) -> str:
    """Of the code of a function, the constants it reads, and in turn the functions that it calls: 24 hex digits."""
    found = hashlib.sha256(_VERSIONS)
    for part in _parts_of(function, set()):
        found.update(hashlib.sha256(part).digest())
    return found.hexdigest()[:24]


def _parts_of(function: Any, seen: set[int]) -> Iterator[bytes]:
    if id(function) in seen:
        return
    seen.add(id(function))
    names: list[str] = []
    for code in _codes(function.__code__):
        names += code.co_names
        constants = [one for one in code.co_consts if not isinstance(one, CodeType)]
        yield repr((code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars)).encode()
    yield repr((function.__defaults__, function.__kwdefaults__)).encode()
    for cell in function.__closure__ or ():
        yield from _part(cell.cell_contents, names, seen)
    for name in sorted(set(names) & set(function.__globals__)):
        yield from _part(function.__globals__[name], names, seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions written inside it."""
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


def _part(value: Any, names: list[str], seen: set[int]) -> Iterator[bytes]:
    """What a value that compiled code refers to adds to it; of a module, the attributes among `names`."""
    if isinstance(value, Dispatcher):
        yield from _parts_of(value.py_func, seen)
    elif isinstance(value, _Intrinsic):
        yield from _part(value._defn, names, seen)
    elif isinstance(value, FunctionType):  # what is compiled in its place stands in the same module
        yield Path(value.__code__.co_filename).read_bytes()
        yield from _parts_of(value, seen)
    elif isinstance(value, ModuleType) and value.__name__.partition(".")[0] == _PACKAGE:
        for name in sorted(set(names) & set(vars(value))):
            yield from _part(vars(value)[name], names, seen)
    elif isinstance(value, np.ndarray):
        yield repr((value.dtype, value.shape)).encode() + value.tobytes()
    elif isinstance(value, _CONSTANTS):
        yield repr(value).encode()


@intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), generate


@compiled(inline="always")
def array_at(address: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """For compiled code: the array of this shape and dtype, without gaps, that begins at this address.

    Taking an array costs a call more than a short function's work does; a number costs next to nothing. Nobody checks
    the address: whoever passes it owns the array, keeps it and never moves it.
    """
    return numba.carray(_pointer(address), shape, dtype)  # type: ignore[attr-defined, call-arg]  # as numba calls it
