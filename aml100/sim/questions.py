"""The fields of a question to /info, read strictly: what is missing or mistyped is not understood."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Final

from aml100.domain.units import Coin
from aml100.sim.dexes import MAIN, dex_names


class UnknownRequest(ValueError):
    """The venue cannot make sense of a question: HTTP 422."""


_FOREVER: Final = 2**62


def text_in(body: Mapping[str, object], key: str) -> str:
    """A text field; UnknownRequest where it is missing or something else."""
    value = body.get(key)
    if not isinstance(value, str):
        raise UnknownRequest(key)
    return value


def time_in(body: Mapping[str, object], key: str) -> int:
    """An integer field; UnknownRequest where it is missing or something else."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnknownRequest(key)
    return value


def start_in(body: Mapping[str, object]) -> int:
    """`startTime` where it may be left out: from the beginning."""
    return 0 if body.get("startTime") is None else time_in(body, "startTime")


def end_in(body: Mapping[str, object]) -> int:
    """`endTime`, which may be left out or null."""
    return _FOREVER if body.get("endTime") is None else time_in(body, "endTime")


def coin_in(body: Mapping[str, object], known: Container[object]) -> Coin:
    """A listed coin; UnknownRequest for another."""
    name = text_in(body, "coin")
    if name not in known:
        raise UnknownRequest("coin")
    return Coin(name)


def dex_in(body: Mapping[str, object], coins: Iterable[str]) -> str:
    """A listed exchange, the main one where nothing is said; UnknownRequest for another."""
    dex = body.get("dex")
    if dex is None or dex == "":
        return MAIN
    if not isinstance(dex, str) or dex not in dex_names(coins):
        raise UnknownRequest("dex")
    return dex
