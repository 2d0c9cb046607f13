"""Who may act on the simulated venue: signatures, agents, nonces and expiry.

The one idea, taken from the venue: a signature is never wrong, it belongs to somebody. So the gate recovers an
address and looks it up; a stranger is told that he does not exist. A client that was only given another URL signs for
the network it knows: both are tried (docs/adr/0008). Wall time counts here, never market time.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final

from aml100.domain.errors import ProtocolViolation
from aml100.domain.units import DAY_MS
from aml100.sim.user_signed import USER_SIGNED, recover_user
from aml100.venue.signing import Json, recover_signer

NONCES_KEPT: Final = 100
ZERO_ADDRESS: Final = "0x" + 40 * "0"
AGENT_LIFE_MS: Final = 90 * DAY_MS
AGENT_LONGEST_MS: Final = 180 * DAY_MS
NAMED_AGENTS: Final = 3
REMOVAL_MS: Final = 5_000
_VALID_UNTIL: Final = re.compile(r"(.*) valid_until (\d{1,15})")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A decoded /exchange body. `action` keeps the order of its keys, for that is what was signed."""

    action: Mapping[str, Json]
    nonce: int
    signature: Mapping[str, Json]
    vault: str | None
    expires_after: int | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """Passed: who signed, and the account acted for."""

    signer: str
    account: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The venue's text for the whole request; `is_expired` where it came too late for `account`."""

    text: str
    account: str = ""
    is_expired: bool = False


@dataclass(slots=True)
class Agent:
    """A key that may trade for an account. Unnamed where `name` is empty."""

    account: str
    name: str
    valid_until_ms: int


@dataclass(slots=True)
class Gate:
    """Agents by address, and each signer's highest nonces, ascending; serialisable as it stands.

    `retired` are addresses that were agents once; `removing` says until when an account waits for a removal.
    """

    agents: dict[str, Agent] = field(default_factory=dict)
    nonces: dict[str, list[int]] = field(default_factory=dict)
    retired: list[str] = field(default_factory=list)
    removing: dict[str, int] = field(default_factory=dict)

    def admit(self, envelope: Envelope, accounts: Container[str], now_ms: int) -> Admitted | Refused:
        """Check a request at wall time `now_ms`; changes nothing (see `burn`)."""
        by_user = envelope.action.get("type") in USER_SIGNED
        try:
            signer = recover_user(envelope.action, envelope.signature) if by_user else self._signer(envelope, accounts)
        except ProtocolViolation:
            return Refused("Unable to recover signer.")
        agent = self.agents.get(signer)
        if signer in accounts:
            account = signer
        elif agent is not None and agent.valid_until_ms > now_ms and not by_user:
            account = agent.account
        elif agent is not None or signer in self.retired:
            return Refused(f"Must deposit before performing actions. User: {signer}")
        else:
            return Refused(f"User or API Wallet {signer} does not exist.")
        if envelope.vault is not None:
            return Refused(f"Vault not registered: {envelope.vault.lower()}")
        if envelope.expires_after is not None and envelope.expires_after < now_ms:
            return Refused("Action already expired", account, is_expired=True)
        problem = self._nonce_problem(signer, envelope.nonce, now_ms)
        return Refused(problem) if problem is not None else Admitted(signer, account)

    def _signer(self, envelope: Envelope, accounts: Container[str]) -> str:
        """Who signed an L1 action: for a test network, or for the real one where that makes it somebody known here."""
        stranger, other = (
            recover_signer(
                envelope.action,
                envelope.nonce,
                envelope.signature,
                envelope.vault,
                envelope.expires_after,
                is_mainnet=is_mainnet,
            )
            for is_mainnet in (False, True)
        )
        is_known = other in accounts or other in self.agents or other in self.retired
        return other if is_known else stranger

    def _nonce_problem(self, signer: str, nonce: int, now_ms: int) -> str | None:
        kept = self.nonces.get(signer, [])
        least, most = now_ms - 2 * DAY_MS, now_ms + DAY_MS
        if len(kept) >= NONCES_KEPT:
            least = max(least, kept[0])
        if nonce in kept:
            return f"Invalid nonce: duplicate nonce {nonce}"
        if nonce < least:
            return f"Invalid nonce: nonce too low {nonce} < {least}"
        return f"Invalid nonce: nonce too high {nonce} > {most}" if nonce > most else None

    def burn(self, signer: str, nonce: int) -> None:
        """Remember a nonce as used; only the highest hundred are kept."""
        kept = self.nonces.setdefault(signer, [])
        bisect.insort(kept, nonce)
        del kept[:-NONCES_KEPT]

    def approve(self, account: str, agent: str, name: str, now_ms: int) -> str | None:
        """Let `agent` act for `account`; the same name again replaces, address zero removes. The text of a refusal.

        A name may end with ` valid_until MS`; an address that was ever an agent is not taken again.
        """
        agent = agent.lower()
        name, until_ms = _validity(name, now_ms)
        if until_ms is None:
            return "Agent valid_until already expired."
        if now_ms < self.removing.get(account, 0):
            return "User has pending agent removal"
        others = {key: one for key, one in self.agents.items() if (one.account, one.name) != (account, name)}
        if agent == ZERO_ADDRESS:
            if len(others) < len(self.agents):
                self.removing[account] = now_ms + REMOVAL_MS
            self._keep(others)
            return None
        if agent in self.agents or agent in self.retired:
            return "Extra agent already used."
        named = sum(1 for one in others.values() if one.account == account and one.name and one.valid_until_ms > now_ms)
        if name and named >= NAMED_AGENTS:
            return f"Too many extra agents for cumulative volume traded. Current limit is {NAMED_AGENTS}"
        self._keep(others | {agent: Agent(account, name, until_ms)})
        return None

    def _keep(self, agents: dict[str, Agent]) -> None:
        self.retired.extend(sorted(set(self.agents) - set(agents)))
        self.agents = agents


def _validity(name: str, now_ms: int) -> tuple[str, int | None]:
    """An agent's name without its ` valid_until MS`, and until when it lives; None for a moment not allowed."""
    found = _VALID_UNTIL.fullmatch(name)
    if found is None:
        return name, now_ms + AGENT_LIFE_MS
    until_ms = int(found[2])
    return found[1], until_ms if now_ms < until_ms <= now_ms + AGENT_LONGEST_MS else None
