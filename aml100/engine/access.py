"""The standing of clock, key and nonces, in one word for the header: ok, amber or red (GUARANTEES B19)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aml100.control.protocol import AccessView
from aml100.domain.units import DAY_MS
from aml100.venue.clock import VenueClock

if TYPE_CHECKING:
    from aml100.engine.runtime import Engine

AMBER_DAYS: Final = 14
RED_DAYS: Final = 3


def expiry_state(valid_until_ms: int, now_ms: int) -> tuple[str, str]:
    """How near the end of an agent's time is, with the words for it; "ok" says nothing.

    >>> expiry_state(10 * DAY_MS, 0)
    ('amber', 'the key expires in 10.0 days')
    """
    days = (valid_until_ms - now_ms) / DAY_MS
    if days <= 0:
        return "red", "the key has expired"
    state = "red" if days < RED_DAYS else "amber" if days < AMBER_DAYS else "ok"
    return state, "" if state == "ok" else f"the key expires in {days:.1f} days"


def access_view(engine: Engine) -> AccessView:
    """Of an engine on a real venue; nothing to say of others."""
    clock, live = engine.clock, engine.live
    if live is None or not isinstance(clock, VenueClock):
        return AccessView()
    found: list[tuple[str, str]] = []
    allowed_ms = engine.core.rules.risk.max_clock_skew_ms
    if clock.offset_ms is not None and allowed_ms and abs(clock.offset_ms) > allowed_ms:
        found.append(("red", f"the clock is off by {clock.offset_ms} ms"))
    if live.account.agent is not None:
        found.append(expiry_state(live.account.agent.valid_until_ms, clock.venue_wall_ms()))
    refusals = engine.rest.nonce_refusals
    if refusals:
        found.append(("amber", f"{refusals} nonces refused: does another process use this key?"))
    words = [reason for _, reason in found if reason]
    state = next((one for one in ("red", "amber") if any(state == one for state, _ in found)), "ok")
    return AccessView(
        state,
        "; ".join(words),
        clock.offset_ms,
        None if live.account.agent is None else live.account.agent.valid_until_ms,
        refusals,
    )
