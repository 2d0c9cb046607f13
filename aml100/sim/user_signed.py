"""Actions that a person signs by themselves, as the simulated venue verifies them.

Their fields are the signed struct, under the chain id that they name. Of these the venue serves `approveAgent` and
`usdSend`; `approveBuilderFee` it understands and refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from coincurve import PublicKey
from eth_hash.auto import keccak

from aml100.domain.errors import ProtocolViolation
from aml100.venue.signing import Json, recover_approve_agent_signer

_CHAIN: Final = ("hyperliquidChain", "string")
_FIELDS: Final[dict[str, tuple[str, tuple[tuple[str, str], ...]]]] = {
    "usdSend": ("UsdSend", (_CHAIN, ("destination", "string"), ("amount", "string"), ("time", "uint64"))),
    "approveBuilderFee": (
        "ApproveBuilderFee",
        (_CHAIN, ("maxFeeRate", "string"), ("builder", "address"), ("nonce", "uint64")),
    ),
}
USER_SIGNED: Final = frozenset({"approveAgent", *_FIELDS})

_DOMAIN_TYPE: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


def recover_user(action: Mapping[str, Json], signature: Mapping[str, Json]) -> str:
    """Address (lower case) whose key signed a user-signed action.

    Raises:
        ProtocolViolation: a field is missing or has no encoding, or the signature belongs to no point of the curve.
    """
    kind = str(action.get("type"))
    if kind == "approveAgent":
        return recover_approve_agent_signer(action, signature)
    name, fields = _FIELDS[kind]
    try:
        chain_id = int(str(action["signatureChainId"]), 16)
        text = f"HyperliquidTransaction:{name}({','.join(f'{kind} {field}' for field, kind in fields)})"
        struct = keccak(text.encode()) + b"".join(_word(action[field], kind) for field, kind in fields)
        domain = _DOMAIN_TYPE + keccak(b"HyperliquidSignTransaction") + keccak(b"1")
        domain += chain_id.to_bytes(32, "big") + bytes(32)
        digest = keccak(b"\x19\x01" + keccak(domain) + keccak(struct))
        r, s, v = int(str(signature["r"]), 16), int(str(signature["s"]), 16), int(str(signature["v"]))
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((v - 27,))
        public = PublicKey.from_signature_and_message(raw, digest, hasher=None)
    except (KeyError, ValueError, OverflowError) as problem:
        raise ProtocolViolation(f"{name}: not signed as it should be: {problem}") from None
    return "0x" + keccak(public.format(compressed=False)[1:])[12:].hex()


def _word(value: Json, kind: str) -> bytes:
    """One field as 32 bytes."""
    if kind == "string":
        return keccak(str(value).encode())
    if kind == "address":
        return bytes(12) + bytes.fromhex(str(value).removeprefix("0x")).rjust(20, b"\0")
    return int(str(value)).to_bytes(32, "big")
