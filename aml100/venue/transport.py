"""Requests over HTTP, and which of them may be repeated.

A question (/info) changes nothing: it is asked again, with growing jittered pauses, until it is answered or patience
ends. An action (/exchange) is sent exactly once. Whatever goes wrong after that, a timeout, a reset, a 5xx, an answer
that cannot be read, leaves its outcome unknown: `VenueUnavailable`, for the caller to find out by client id, never to
send again (GUARANTEES D1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np

from aml100.domain.errors import ConfigError, ProtocolViolation, VenueUnavailable
from aml100.venue import wire
from aml100.venue.backoff import Backoff
from aml100.venue.budget import IpBudget, Use
from aml100.venue.codec import decode_answer

if TYPE_CHECKING:
    from aml100.domain.clock import Clock
    from aml100.venue.signing import Json

T = TypeVar("T")

_JSON: Final = {"Content-Type": "application/json"}
_TOO_MANY: Final = 429
_NETWORK: Final = (aiohttp.ClientError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Wall seconds, and how often a question is asked before patience ends."""

    connect_s: float = 5.0
    info_s: float = 15.0
    exchange_s: float = 10.0
    info_attempts: int = 5


class Transport:
    """One HTTP session to one venue; `async with`."""

    def __init__(
        self, rest_url: str, clock: Clock, ip_budget: IpBudget, timeouts: Timeouts, rng: np.random.Generator
    ) -> None:
        """ConfigError unless `rest_url` is http(s)://HOST[:PORT]. Nothing is connected yet."""
        parts = urlsplit(rest_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"venue address {rest_url!r} is not usable; allowed: http(s)://HOST[:PORT]")
        self._base = rest_url.rstrip("/")
        self._clock = clock
        self._budget = ip_budget
        self._timeouts = timeouts
        self._rng = rng
        self._http: aiohttp.ClientSession | None = None
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def __aenter__(self) -> Transport:
        self._http = aiohttp.ClientSession(headers=_JSON, raise_for_status=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def fetch_info(self, request: Mapping[str, Json], answer: type[T], weight: int, use: Use = Use.ROUTINE) -> T:
        """Ask, and ask again.

        Args:
            request: the body.
            answer: shape of the answer.
            weight: what it costs of the address's allowance; waits until that is free, unless protective.
            use: whether the reserve may be touched.

        Raises:
            VenueUnavailable: no answer after all attempts.
            ProtocolViolation: an answer of another shape, or the venue does not know the question.
        """
        what = f"info {request['type']}"
        body = msgspec.json.encode(request)
        backoff = Backoff(self._rng, most_s=8.0)
        while True:
            await self._wait_for_weight(weight, use)
            try:
                status, data = await self._post("/info", body, self._timeouts.info_s)
            except _NETWORK as problem:
                reason = _described(problem)
            else:
                if status == 200:
                    self._budget.note_answer()
                    return decode_answer(data, answer, what)
                reason = f"HTTP {status}: {_excerpt(data)}"
                if status == _TOO_MANY:
                    self._budget.note_refusal(self._clock.monotonic_s())
                elif 400 <= status < 500:
                    raise ProtocolViolation(f"{what}: {reason}")
            if backoff.failures + 1 >= self._timeouts.info_attempts:
                raise VenueUnavailable(f"{what}: {reason} ({self._timeouts.info_attempts} attempts)")
            await self._sleep(backoff.next_s())

    async def send_action(self, body: Mapping[str, Json], weight: int) -> wire.ExchangeAnswer:
        """Send a signed action, once.

        Returns:
            The venue's answer; an HTTP 4xx, with which it refuses to read the request, counts as a refusal.

        Raises:
            VenueUnavailable: whether it was carried out is unknown.
        """
        self._budget.take(self._clock.monotonic_s(), weight)
        try:
            status, data = await self._post("/exchange", msgspec.json.encode(body), self._timeouts.exchange_s)
        except _NETWORK as problem:
            raise VenueUnavailable(f"exchange: {_described(problem)}; outcome unknown") from None
        if status == _TOO_MANY:
            self._budget.note_refusal(self._clock.monotonic_s())
        elif 400 <= status < 500 and status != 408:
            return wire.ExchangeAnswer("err", f"HTTP {status}: {_excerpt(data)}")
        if status != 200:
            raise VenueUnavailable(f"exchange: HTTP {status}: {_excerpt(data)}; outcome unknown")
        self._budget.note_answer()
        try:
            return decode_answer(data, wire.ExchangeAnswer, "exchange")
        except ProtocolViolation as problem:
            raise VenueUnavailable(f"{problem}; outcome unknown") from None

    async def _wait_for_weight(self, weight: int, use: Use) -> None:
        """Several may wait for the same moment, so after waking it is looked at again."""
        while (wait_s := self._budget.wait_s(self._clock.monotonic_s(), weight, use)) > 0:
            await self._sleep(wait_s)
        self._budget.take(self._clock.monotonic_s(), weight)

    async def _post(self, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        if self._http is None:
            raise VenueUnavailable("venue client: not open; use it with `async with`")
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=self._timeouts.connect_s)
        async with self._http.post(self._base + path, data=body, timeout=timeout, allow_redirects=False) as response:
            return response.status, await response.read()


def _described(problem: BaseException) -> str:
    return str(problem) or type(problem).__name__


def _excerpt(data: bytes) -> str:
    """The beginning of a body that is no JSON of ours, on one line."""
    return " ".join(data[:200].decode("utf-8", "replace").split()) or "empty body"
