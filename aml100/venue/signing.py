"""Signatures of actions, and the nonces that make each one count once.

The venue recovers the signer from the signature and looks that address up, so a wrong signature is never called
wrong: it belongs to somebody who does not exist. What is signed is a digest of the action's msgpack bytes, hence the
order of an action's keys matters. Two kinds of actions exist:

* L1 actions (orders, cancels, leverage): digest = keccak(msgpack(action) + nonce + vault + expiry), put as
  `connectionId` into an EIP-712 struct `Agent(source, connectionId)`; the source is `a` on mainnet and `b` elsewhere.
* user-signed actions (only `approveAgent` here): their fields are the EIP-712 struct, under the chain id they name.

The structs are few and fixed, so their encoding is written out instead of derived from type tables at each call: a
signature costs some 50 microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import msgpack
from coincurve import PrivateKey, PublicKey
from eth_hash.auto import keccak

from aml100.domain.clock import wall_ms
from aml100.domain.errors import ConfigError, ProtocolViolation

Network: TypeAlias = Literal["mainnet", "other"]
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Action: TypeAlias = Mapping[str, Json]

_HEX_KEY: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_MAX_U64: Final = 2**64 - 1

_DOMAIN_TYPE: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_AGENT_TYPE: Final = keccak(b"Agent(string source,bytes32 connectionId)")
_APPROVE_AGENT_TYPE: Final = keccak(
    b"HyperliquidTransaction:ApproveAgent(string hyperliquidChain,address agentAddress,string agentName,uint64 nonce)"
)
_ZERO_WORD: Final = bytes(32)


def _domain(name: bytes, chain_id: int) -> bytes:
    """EIP-712 domain separator, version 1, verified by no contract."""
    return keccak(_DOMAIN_TYPE + keccak(name) + keccak(b"1") + chain_id.to_bytes(32, "big") + _ZERO_WORD)


_L1_DOMAIN: Final = _domain(b"Exchange", 1337)
_SOURCE: Final = {True: keccak(b"a"), False: keccak(b"b")}


def action_hash(action: Action, nonce: int, vault: str | None = None, expires_after: int | None = None) -> bytes:
    """The 32 bytes that stand for an L1 action: its `connectionId`.

    Args:
        action: JSON-like; the order of its keys is part of the hash.
        nonce: milliseconds.
        vault: address of the vault or sub-account traded for, None for the signer's own.
        expires_after: milliseconds after which the venue refuses the action, None for never.

    Raises:
        ProtocolViolation: something in it has no encoding (a number too large, an address that is none).
    """
    try:
        data = bytearray(msgpack.packb(action))
        data += nonce.to_bytes(8, "big")
        data += b"\x00" if vault is None else b"\x01" + _address_bytes(vault)
        if expires_after is not None:
            data += b"\x00" + expires_after.to_bytes(8, "big")
    except (OverflowError, ValueError, TypeError, AttributeError) as problem:
        raise ProtocolViolation(f"action cannot be hashed: {problem}") from None
    return keccak(bytes(data))


def _address_bytes(address: object) -> bytes:
    if not isinstance(address, str) or _ADDRESS.fullmatch(address) is None:
        raise ProtocolViolation(f"not an address: {str(address)[:80]!r}")
    return bytes.fromhex(address[2:])


def _l1_digest(action: Action, nonce: int, vault: str | None, expires_after: int | None, is_mainnet: bool) -> bytes:
    agent = keccak(_AGENT_TYPE + _SOURCE[is_mainnet] + action_hash(action, nonce, vault, expires_after))
    return keccak(b"\x19\x01" + _L1_DOMAIN + agent)


def _approve_agent_digest(action: Action) -> bytes:
    """Digest of an `approveAgent` action; an absent `agentName` counts as empty, which is how clients sign it."""
    try:
        chain_id = int(str(action["signatureChainId"]), 16)
        nonce = action["nonce"]
        if not isinstance(nonce, int) or not 0 <= nonce <= _MAX_U64 or not 0 <= chain_id <= _MAX_U64:
            raise ValueError("number out of range")
        struct = keccak(
            _APPROVE_AGENT_TYPE
            + keccak(str(action["hyperliquidChain"]).encode())
            + bytes(12)
            + _address_bytes(action["agentAddress"])
            + keccak(str(action.get("agentName") or "").encode())
            + nonce.to_bytes(32, "big")
        )
    except (KeyError, ValueError) as problem:
        raise ProtocolViolation(f"approveAgent cannot be hashed: {problem}") from None
    return keccak(b"\x19\x01" + _domain(b"HyperliquidSignTransaction", chain_id) + struct)


def _address_of(public: PublicKey) -> str:
    return "0x" + keccak(public.format(compressed=False)[1:])[12:].hex()


class Signer:
    """Holds one private key, for as long as the process lives, and shows it to nobody.

    `network` decides the source of L1 signatures: `mainnet` only for the real one.
    """

    __slots__ = ("_key", "address", "is_mainnet")

    def __init__(self, private_key_hex: str, network: Network) -> None:
        """ConfigError unless the key is 64 hex digits (with or without 0x) and valid; the text never quotes it."""
        match = _HEX_KEY.fullmatch(private_key_hex.strip())
        if match is None:
            raise ConfigError("private key: not usable; allowed: 64 hex digits, with or without 0x")
        try:
            self._key = PrivateKey(bytes.fromhex(match[1]))
        except ValueError:
            raise ConfigError("private key: not usable; allowed: a number within the curve's order") from None
        self.is_mainnet = network == "mainnet"
        self.address = _address_of(self._key.public_key)

    def __repr__(self) -> str:
        return f"Signer({self.address}, {'mainnet' if self.is_mainnet else 'other'})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a signer is never pickled or copied")

    def sign(
        self, action: Action, nonce: int, vault: str | None = None, expires_after: int | None = None
    ) -> dict[str, str | int]:
        """Signature {r, s, v} of an L1 action, in the venue's spelling (r and s without leading zeros)."""
        return self._sign(_l1_digest(action, nonce, vault, expires_after, self.is_mainnet))

    def sign_approve_agent(self, action: Action) -> dict[str, str | int]:
        """Signature of a complete `approveAgent` action."""
        return self._sign(_approve_agent_digest(action))

    def _sign(self, digest: bytes) -> dict[str, str | int]:
        raw = self._key.sign_recoverable(digest, hasher=None)
        return {
            "r": hex(int.from_bytes(raw[:32], "big")),
            "s": hex(int.from_bytes(raw[32:64], "big")),
            "v": raw[64] + 27,
        }


def approve_agent_action(agent: str, name: str | None, nonce: int, network: Literal["Mainnet", "Testnet"]) -> Action:
    """The action by which a master account lets `agent` (an address) trade for it; unnamed where `name` is None."""
    action: dict[str, Json] = {"type": "approveAgent", "agentAddress": agent}
    if name is not None:
        action["agentName"] = name
    action |= {"nonce": nonce, "signatureChainId": "0x66eee", "hyperliquidChain": network}
    return action


def recover_signer(
    action: Action,
    nonce: int,
    signature: Mapping[str, Json],
    vault: str | None = None,
    expires_after: int | None = None,
    is_mainnet: bool = False,
) -> str:
    """Address (lower case) whose key signed an L1 action; a stranger's where anything was changed on the way.

    Raises:
        ProtocolViolation: the signature is not of the form {r, s, v}, or belongs to no point of the curve.
    """
    return _recover(_l1_digest(action, nonce, vault, expires_after, is_mainnet), signature)


def recover_approve_agent_signer(action: Action, signature: Mapping[str, Json]) -> str:
    """As `recover_signer`, for a user-signed `approveAgent`."""
    return _recover(_approve_agent_digest(action), signature)


def _recover(digest: bytes, signature: Mapping[str, Json]) -> str:
    try:
        r, s, v = int(str(signature["r"]), 16), int(str(signature["s"]), 16), int(str(signature["v"]))
        if v not in (27, 28):
            raise ValueError("v is neither 27 nor 28")
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((v - 27,))
        public = PublicKey.from_signature_and_message(raw, digest, hasher=None)
    except KeyError as problem:
        raise ProtocolViolation(f"signature: {problem} is missing") from None
    except (ValueError, OverflowError) as problem:
        raise ProtocolViolation(f"signature: {problem}") from None
    return _address_of(public)


class NonceSource:
    """Strictly increasing nonces in wall milliseconds: two actions within one millisecond must not collide.

    One per signer, for the venue remembers nonces by signer. `now_ms` is wall time, whatever runs the market.
    """

    def __init__(self, now_ms: Callable[[], int] = wall_ms) -> None:
        self._now_ms = now_ms
        self._last = 0

    def next(self) -> int:
        self._last = max(self._now_ms(), self._last + 1)
        return self._last
