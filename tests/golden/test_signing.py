"""Signing, held to the vectors made with the official SDK and to the SDK's own."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import msgpack
import pytest

from aml100.domain.errors import ConfigError, ProtocolViolation
from aml100.venue.signing import (
    NonceSource,
    Signer,
    action_hash,
    approve_agent_action,
    recover_approve_agent_signer,
    recover_signer,
)

KEY = "0x" + "11" * 32


@pytest.fixture(scope="module")
def vectors(shared: Path) -> list[dict[str, Any]]:
    document = json.loads((shared / "data/hyperliquid/signing_vectors.json").read_text())
    return document["vectors"] + document["sdk_test_vectors"]


def test_every_vector_signs_byte_for_byte(vectors: list[dict[str, Any]]) -> None:
    assert len(vectors) == 33
    for vector in vectors:
        signer = Signer(vector["private_key"], "mainnet" if vector["network"] == "mainnet" else "other")
        assert signer.address == vector["address"], vector["id"]
        if vector["kind"] == "user_signed":
            assert signer.sign_approve_agent(vector["action"]) == vector["signature"], vector["id"]
            continue
        args = (vector["action"], vector["nonce"], vector["vaultAddress"], vector["expiresAfter"])
        assert "0x" + action_hash(*args).hex() == vector["connection_id"], vector["id"]
        assert signer.sign(vector["action"], vector["nonce"], args[2], args[3]) == vector["signature"], vector["id"]
        if "msgpack_hex" in vector:
            assert "0x" + msgpack.packb(vector["action"]).hex() == vector["msgpack_hex"], vector["id"]


def test_every_vector_gives_its_signer_back(vectors: list[dict[str, Any]]) -> None:
    for vector in vectors:
        if vector["kind"] == "user_signed":
            assert recover_approve_agent_signer(vector["action"], vector["signature"]) == vector["address"]
            continue
        address = recover_signer(
            vector["action"],
            vector["nonce"],
            vector["signature"],
            vector["vaultAddress"],
            vector["expiresAfter"],
            is_mainnet=vector["network"] == "mainnet",
        )
        assert address == vector["address"], vector["id"]


def test_anything_changed_recovers_a_stranger(vectors: list[dict[str, Any]]) -> None:
    vector = next(v for v in vectors if v["id"] == "order_gtc_buy_testnet")
    action, nonce, signature = vector["action"], vector["nonce"], vector["signature"]
    reordered = {"grouping": action["grouping"], "orders": action["orders"], "type": action["type"]}
    vault = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"
    strangers = [
        recover_signer(action, nonce + 1, signature),
        recover_signer(reordered, nonce, signature),
        recover_signer(action, nonce, signature, vault),
        recover_signer(action, nonce, signature, None, nonce),
        recover_signer(action, nonce, signature, is_mainnet=True),
    ]
    assert recover_signer(action, nonce, signature) == vector["address"]
    assert vector["address"] not in strangers
    assert len(set(strangers)) == len(strangers)


def test_unnamed_agent_is_signed_with_an_empty_name() -> None:
    from eth_account import Account
    from hyperliquid.utils.signing import sign_agent

    agent = "0xaf839c31b642fac5f3ae9914933f3f37cf1d5ed5"
    as_sdk = {"type": "approveAgent", "agentAddress": agent, "agentName": "", "nonce": 7}
    expected = sign_agent(Account.from_key(KEY), as_sdk, False)
    action = approve_agent_action(agent, None, 7, "Testnet")
    signer = Signer(KEY, "other")
    assert "agentName" not in action
    assert signer.sign_approve_agent(action) == expected
    assert recover_approve_agent_signer(action, expected) == signer.address


def test_the_key_is_shown_nowhere() -> None:
    signer = Signer(KEY, "other")
    assert "11" * 8 not in f"{signer!r} {signer!s}"
    for leak in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            leak(signer)
    for bad in ("0x" + "ab" * 31, "zz" * 32, "00" * 32, ""):
        with pytest.raises(ConfigError) as refusal:
            Signer(bad, "mainnet")
        assert not bad or bad not in str(refusal.value)


@pytest.mark.parametrize(
    "signature",
    [
        {},
        {"r": "0x1", "s": "0x1", "v": 26},
        {"r": "0x0", "s": "0x0", "v": 27},
        {"r": "zz", "s": "0x1", "v": 27},
        {"r": "0x" + "f" * 65, "s": "0x1", "v": 27},
        {"r": None, "s": [], "v": {}},
    ],
)
def test_malformed_signatures_are_named(signature: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation, match="signature"):
        recover_signer({"type": "noop"}, 1, signature)


def test_what_has_no_encoding_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        action_hash({"type": "noop", "n": 2**70}, 1)
    with pytest.raises(ProtocolViolation):
        action_hash({"type": "noop"}, -1)
    with pytest.raises(ProtocolViolation):
        action_hash({"type": "noop"}, 1, "0x12")


def test_nonces_follow_the_clock_and_never_repeat() -> None:
    times = iter([1000, 1000, 1000, 900, 2000])
    nonces = NonceSource(lambda: next(times))
    assert [nonces.next() for _ in range(5)] == [1000, 1001, 1002, 1003, 2000]
