"""What `doctor` says of account and key at the venue: who the key is, until when, and what the account is worth (B19).

Questions only: nothing is signed, so nonces can be judged by the clock alone (the venue takes those within two days
before and one day after its own time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from aml100.domain.units import DAY_MS, decimal_text, iso_utc
from aml100.engine.access import expiry_state
from aml100.venue import codec, wire
from aml100.venue.signing import Signer

Found: TypeAlias = tuple[str, str, str, str]
"""Name, state (OK, WARN, FAIL), what was found, what to do."""
_STATES: Final = {"ok": "OK", "amber": "WARN", "red": "FAIL"}


def examine_account(
    key: str, account: str | None, *, is_mainnet: bool, ask: Callable[[Mapping[str, str]], bytes], now_ms: int
) -> Iterator[Found]:
    """The findings on a key (its hex) and the account it is to trade; msgspec.MsgspecError for odd answers."""
    address = Signer(key, "mainnet" if is_mainnet else "other").address
    role = msgspec.json.decode(ask({"type": "userRole", "user": address}), type=wire.RoleWire)
    master = role.data.user.lower() if role.data is not None and role.data.user is not None else None
    owner = account or address
    if role.role == "agent" and master != owner:
        yield "signer", "FAIL", f"{address} is an agent of {master}", f"set AML100_ACCOUNT_ADDRESS={master}"
    elif role.role == "missing":
        yield "signer", "FAIL", f"{address} is not known here", "is it the other network's key? approve the agent again"
    elif role.role == "agent":
        yield "signer", "OK", f"{address}, an agent of {owner}", ""
    else:
        yield "signer", "WARN", f"{address} is the account's own key", "an agent wallet cannot withdraw: use one"
    if role.role == "agent" and master == owner:
        yield _agent(ask, owner, address, now_ms)
    yield _nonces(ask, now_ms)
    yield _worth(ask, owner)


def _agent(ask: Callable[[Mapping[str, str]], bytes], owner: str, address: str, now_ms: int) -> Found:
    rows = msgspec.json.decode(ask({"type": "extraAgents", "user": owner}), type=list[wire.AgentWire])
    mine = next((row for row in rows if row.address.lower() == address), None)
    if mine is None:
        return "agent", "WARN", "unnamed: the venue does not tell when it expires", "approve a named agent"
    state, words = expiry_state(mine.validUntil, now_ms)
    found = f"{mine.name}, valid until {iso_utc(mine.validUntil)}"
    return "agent", _STATES[state], f"{found}{f' ({words})' if words else ''}", "approve it again" if words else ""


def _nonces(ask: Callable[[Mapping[str, str]], bytes], now_ms: int) -> Found:
    status = msgspec.json.decode(ask({"type": "exchangeStatus"}), type=wire.ExchangeStatusWire)
    if status.speed is not None:
        return "nonces", "OK", "counted by the wall clock on this simulated venue", ""
    off_ms = now_ms - status.time
    if not -2 * DAY_MS < off_ms < DAY_MS:
        return (
            "nonces",
            "FAIL",
            f"ours are off by {off_ms / DAY_MS:.1f} days and would be refused",
            "set the clock (NTP)",
        )
    return "nonces", "OK", f"{off_ms} ms from the venue's clock; 2 days before and 1 after are taken", ""


def _worth(ask: Callable[[Mapping[str, str]], bytes], owner: str) -> Found:
    state = codec.account_from(
        msgspec.json.decode(ask({"type": "clearinghouseState", "user": owner}), type=wire.ClearinghouseState)
    )
    if state.equity is not None:
        held = f"{len(state.positions)} positions" if state.positions else "no position"
        return "account", "OK", f"{owner}: {decimal_text(round(state.equity, 2))} USD, {held}", ""
    kind = msgspec.json.decode(ask({"type": "userAbstraction", "user": owner}), type=str)
    if kind not in ("default", "disabled"):
        advice = "its collateral is not seen here: trade an account of the default kind"
        return "account", "WARN", f"{owner}: equity unknown, a {kind} account", advice
    return "account", "WARN", f"{owner}: no money, or no such account", "deposit, or correct AML100_ACCOUNT_ADDRESS"
