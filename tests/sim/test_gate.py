"""Who may act: agents, nonces, expiry, vaults and networks, with the venue's texts."""

from __future__ import annotations

import pytest

from aml100.domain.units import DAY_MS
from aml100.sim.gate import Admitted, Agent, Envelope, Gate, Refused
from aml100.sim.requests import as_json
from aml100.venue.signing import Signer, approve_agent_action
from tests.sim.stage import ACCOUNT_KEY, AGENT_KEY

NOW = 1_764_000_000_000
MASTER, AGENT = Signer(ACCOUNT_KEY, "other"), Signer(AGENT_KEY, "other")
NOOP = {"type": "noop"}


def envelope(
    signer: Signer = MASTER, nonce: int = NOW, vault: str | None = None, expires: int | None = None
) -> Envelope:
    signature = as_json(dict(signer.sign(NOOP, nonce, vault, expires)))  # type: ignore[arg-type]
    return Envelope(NOOP, nonce, signature, vault, expires)  # type: ignore[arg-type]


def asked(gate: Gate, one: Envelope, now_ms: int = NOW) -> str:
    """Empty where it is admitted, else the text."""
    answer = gate.admit(one, {MASTER.address}, now_ms)
    return answer.text if isinstance(answer, Refused) else ""


def with_agent(until_ms: int = NOW + DAY_MS) -> Gate:
    return Gate({AGENT.address: Agent(MASTER.address, "bot", until_ms)})


def test_the_master_and_a_living_agent_act_for_the_account() -> None:
    assert with_agent().admit(envelope(AGENT), {MASTER.address}, NOW) == Admitted(AGENT.address, MASTER.address)
    assert asked(Gate(), envelope(MASTER)) == ""


def test_a_stranger_does_not_exist_and_a_dead_agent_must_deposit() -> None:
    assert asked(Gate(), envelope(AGENT)) == f"User or API Wallet {AGENT.address} does not exist."
    dead = f"Must deposit before performing actions. User: {AGENT.address}"
    assert asked(with_agent(NOW - 1), envelope(AGENT)) == dead
    replaced = with_agent()
    assert replaced.approve(MASTER.address, "0x" + 40 * "9", "bot", NOW) is None
    assert asked(replaced, envelope(AGENT)) == dead


def test_a_client_that_knows_only_the_real_network_acts_for_its_account_and_nobody_else() -> None:
    for key in (ACCOUNT_KEY, AGENT_KEY):
        signer = Signer(key, "mainnet")
        assert with_agent().admit(envelope(signer), {MASTER.address}, NOW) == Admitted(signer.address, MASTER.address)
    stranger = asked(Gate(), envelope(Signer(AGENT_KEY, "mainnet")))
    assert stranger.startswith("User or API Wallet 0x")
    assert MASTER.address not in stranger
    retired = Gate(retired=[AGENT.address])
    assert asked(retired, envelope(Signer(AGENT_KEY, "mainnet"))).startswith("Must deposit before")


def test_a_broken_signature_belongs_to_nobody() -> None:
    one = envelope()
    assert asked(Gate(), Envelope(one.action, one.nonce, {"r": "0x0", "s": "0x0", "v": 27}, None, None)) == (
        "Unable to recover signer."
    )


def test_vaults_are_not_registered_and_expired_actions_are_told_so() -> None:
    vault = "0x" + 40 * "A"
    assert asked(Gate(), envelope(vault=vault)) == f"Vault not registered: {vault.lower()}"
    late = Gate().admit(envelope(expires=NOW - 1), {MASTER.address}, NOW)
    assert late == Refused("Action already expired", MASTER.address, is_expired=True)
    assert asked(Gate(), envelope(expires=NOW + 1)) == ""


def test_nonces_lie_in_their_window_and_count_once_per_signer() -> None:
    gate = with_agent()
    for nonce, word in ((NOW - 2 * DAY_MS - 1, "too low"), (NOW + DAY_MS + 1, "too high")):
        assert f"nonce {word} {nonce}" in asked(gate, envelope(nonce=nonce))
    gate.burn(MASTER.address, NOW)
    assert asked(gate, envelope()) == f"Invalid nonce: duplicate nonce {NOW}"
    assert asked(gate, envelope(AGENT)) == ""
    for nonce in range(NOW + 1, NOW + 101):
        gate.burn(MASTER.address, nonce)
    assert asked(gate, envelope(nonce=NOW - 5)) == f"Invalid nonce: nonce too low {NOW - 5} < {NOW + 1}"


@pytest.mark.parametrize("network", ["Testnet", "Mainnet"])
def test_an_approval_is_signed_by_the_master(network: str) -> None:
    action = approve_agent_action(AGENT.address, "bot", NOW, network)  # type: ignore[arg-type]
    signature = as_json(dict(MASTER.sign_approve_agent(action)))
    assert asked(Gate(), Envelope(action, NOW, signature, None, None)) == ""
    own = as_json(dict(AGENT.sign_approve_agent(action)))
    by_agent = asked(with_agent(), Envelope(action, NOW, own, None, None))
    assert by_agent.startswith("Must deposit before performing actions.")


def test_names_replace_address_zero_removes_and_an_address_serves_once() -> None:
    gate, me = Gate(), MASTER.address
    a, b, c, e, f = ("0x" + 40 * letter for letter in "1234f")
    assert gate.approve(me, a, "", NOW) is None
    assert gate.approve(me, b, "one", NOW) is None
    assert gate.approve(me, b, "two", NOW) == "Extra agent already used."
    assert gate.approve(me, c, "two", NOW) is None
    assert gate.approve(me, e, "three", NOW) is None
    assert str(gate.approve(me, f, "four", NOW)).startswith("Too many extra agents")
    assert gate.approve(me, f, "one", NOW) is None
    assert set(gate.agents) == {a, c, e, f}
    assert gate.approve(me, b, "one", NOW) == "Extra agent already used."
    assert gate.approve(me, "0x" + 40 * "0", "two", NOW) is None
    assert gate.approve(me, "0x" + 40 * "5", "two", NOW + 4999) == "User has pending agent removal"
    assert gate.approve(me, "0x" + 40 * "5", "two", NOW + 5000) is None


def test_a_name_may_say_how_long_it_lives() -> None:
    gate, me = Gate(), MASTER.address
    assert gate.approve(me, "0x" + 40 * "1", f"bot valid_until {NOW + DAY_MS}", NOW) is None
    assert gate.agents["0x" + 40 * "1"] == Agent(me, "bot", NOW + DAY_MS)
    for until in (NOW, NOW + 181 * DAY_MS):
        assert gate.approve(me, "0x" + 40 * "2", f"b valid_until {until}", NOW) == "Agent valid_until already expired."
    assert gate.approve(me, "0x" + 40 * "3", "", NOW) is None
    assert gate.agents["0x" + 40 * "3"].valid_until_ms == NOW + 90 * DAY_MS
