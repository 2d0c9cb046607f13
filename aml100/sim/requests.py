"""What clients send to /exchange, decoded: wire actions in, domain orders out.

An action that does not have the venue's shape raises `msgspec.ValidationError`, which the server answers as the venue
does: HTTP 422. What is well formed but not allowed is the exchange's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final, TypeAlias

import msgspec

from aml100.domain.events import Grouping
from aml100.domain.orders import Order, OrderKind, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.sim.accounts import PLAIN, OrderTags
from aml100.sim.gate import Envelope
from aml100.venue.signing import Json

NUMBER: Final = r"\A-?[0-9]{1,15}(\.[0-9]{1,20})?\Z"
"""Digits as the venue reads them: no exponent, no blanks, and no more of them than a price or a size can have."""
DEEPEST: Final = 32
"""How deep the JSON of a request may nest; what the venue reads has seven levels."""

Number: TypeAlias = Annotated[str, msgspec.Meta(pattern=NUMBER)]
ClientId: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A0x[0-9a-fA-F]{32}\Z")]


class LimitType(msgspec.Struct):
    tif: str


class TriggerType(msgspec.Struct):
    isMarket: bool
    triggerPx: Number
    tpsl: str


class TypeOfOrder(msgspec.Struct):
    limit: LimitType | None = None
    trigger: TriggerType | None = None


class OrderWire(msgspec.Struct):
    a: int
    b: bool
    p: Number
    s: Number
    r: bool
    t: TypeOfOrder
    c: ClientId | None = None


class BuilderWire(msgspec.Struct):
    b: str
    f: int


class PriorityWire(msgspec.Struct):
    p: int


class OrderAction(msgspec.Struct, tag_field="type", tag="order"):
    orders: list[OrderWire]
    grouping: str | PriorityWire = "na"
    builder: BuilderWire | None = None


class CancelWire(msgspec.Struct):
    a: int
    o: int


class CancelAction(msgspec.Struct, tag_field="type", tag="cancel"):
    cancels: list[CancelWire]
    f: bool = False


class CancelByCloidWire(msgspec.Struct):
    asset: int
    cloid: ClientId


class CancelByCloidAction(msgspec.Struct, tag_field="type", tag="cancelByCloid"):
    cancels: list[CancelByCloidWire]
    f: bool = False


class ModifyWire(msgspec.Struct):
    oid: int | ClientId
    order: OrderWire


class ModifyAction(msgspec.Struct, tag_field="type", tag="modify"):
    oid: int | ClientId
    order: OrderWire
    a: bool = False


class BatchModifyAction(msgspec.Struct, tag_field="type", tag="batchModify"):
    modifies: list[ModifyWire]
    a: bool = False


class UpdateLeverageAction(msgspec.Struct, tag_field="type", tag="updateLeverage"):
    asset: int
    isCross: bool
    leverage: int


class UpdateIsolatedMarginAction(msgspec.Struct, tag_field="type", tag="updateIsolatedMargin"):
    asset: int
    isBuy: bool
    ntli: int


class ScheduleCancelAction(msgspec.Struct, tag_field="type", tag="scheduleCancel"):
    time: int | None = None


class ApproveAgentAction(msgspec.Struct, tag_field="type", tag="approveAgent"):
    agentAddress: str
    agentName: str | None = None


class NoopAction(msgspec.Struct, tag_field="type", tag="noop"):
    pass


class UsdSendAction(msgspec.Struct, tag_field="type", tag="usdSend"):
    destination: str
    amount: str
    time: int


class SetReferrerAction(msgspec.Struct, tag_field="type", tag="setReferrer"):
    code: str = ""


class ApproveBuilderFeeAction(msgspec.Struct, tag_field="type", tag="approveBuilderFee"):
    builder: str = ""


class UnservedAction(msgspec.Struct):
    """An action that the venue has and this one does not: understood, and refused in words."""

    kind: str


UNSERVED: Final = frozenset(
    {
        "agentEnableDexAbstraction",
        "agentSetAbstraction",
        "claimRewards",
        "convertToMultiSigUser",
        "createSubAccount",
        "createVault",
        "evmUserModify",
        "multiSig",
        "reserveRequestWeight",
        "sendAsset",
        "setDisplayName",
        "spotSend",
        "spotUser",
        "subAccountModify",
        "subAccountSpotTransfer",
        "subAccountTransfer",
        "tokenDelegate",
        "twapCancel",
        "twapOrder",
        "usdClassTransfer",
        "userDexAbstraction",
        "userSetAbstraction",
        "vaultTransfer",
        "withdraw3",
    }
)


ServedAction: TypeAlias = (
    OrderAction
    | CancelAction
    | CancelByCloidAction
    | ModifyAction
    | BatchModifyAction
    | UpdateLeverageAction
    | UpdateIsolatedMarginAction
    | ScheduleCancelAction
    | ApproveAgentAction
    | NoopAction
    | UsdSendAction
    | SetReferrerAction
    | ApproveBuilderFeeAction
)
Action: TypeAlias = ServedAction | UnservedAction


class _Body(msgspec.Struct):
    action: dict[str, object]
    nonce: int
    signature: dict[str, object]
    vaultAddress: str | None = None
    expiresAfter: int | None = None


def decoded(text: bytes | str) -> object:
    """Any JSON that a client may send; msgspec.DecodeError where it is none, or nests as nothing does."""
    try:
        value = msgspec.json.decode(text)
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
    if not _is_shallow(value, DEEPEST):
        raise msgspec.DecodeError("nested too deeply")
    return value


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inside = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inside)


def decode_envelope(body: bytes) -> Envelope:
    """A body of /exchange with its action as it came; msgspec.DecodeError where it is none."""
    return envelope_of(decoded(body))


def envelope_of(payload: object) -> Envelope:
    """The same from decoded JSON, as a websocket post carries it."""
    kept = msgspec.convert(payload, type=_Body)
    return Envelope(as_json(kept.action), kept.nonce, as_json(kept.signature), kept.vaultAddress, kept.expiresAfter)


def as_json(value: Mapping[str, object]) -> Mapping[str, Json]:
    return value  # type: ignore[return-value]  # decoded JSON holds nothing else


def decode_action(action: Mapping[str, Json]) -> Action:
    """An action as a typed message; msgspec.ValidationError where the venue would not understand it."""
    kind = action.get("type")
    if isinstance(kind, str) and kind in UNSERVED:
        return UnservedAction(kind)
    decoded: ServedAction = msgspec.convert(action, type=ServedAction)
    match decoded:
        case OrderAction():
            grouping_of(decoded.grouping)
            wires = decoded.orders
        case ModifyAction():
            wires = [decoded.order]
        case BatchModifyAction():
            wires = [one.order for one in decoded.modifies]
        case _:
            wires = []
    for wire in wires:
        _check(wire)
    return decoded


def _check(wire: OrderWire) -> None:
    """What the types alone do not say; ValidationError."""
    trigger, limit = wire.t.trigger, wire.t.limit
    if (trigger is None) == (limit is None):
        raise msgspec.ValidationError("an order is a limit or a trigger")
    if trigger is not None and trigger.tpsl not in ("tp", "sl"):
        raise msgspec.ValidationError(f"unknown tpsl {trigger.tpsl!r}")
    if limit is not None and limit.tif not in _TIFS:
        raise msgspec.ValidationError(f"unknown tif {limit.tif!r}")


_TIFS: Final[dict[str, TimeInForce]] = {one.value: one for one in TimeInForce} | {"FrontendMarket": TimeInForce.IOC}


def grouping_of(name: str | PriorityWire) -> Grouping:
    """A priority fee groups nothing."""
    if isinstance(name, PriorityWire):
        return Grouping.NA
    try:
        return Grouping(name)
    except ValueError:
        raise msgspec.ValidationError(f"unknown grouping {name!r}") from None


def actions_in(action: Action) -> int:
    """How many actions a request counts as against the address's budget: a batch of n counts n."""
    match action:
        case OrderAction():
            return max(len(action.orders), 1)
        case CancelAction() | CancelByCloidAction():
            return max(len(action.cancels), 1)
        case BatchModifyAction():
            return max(len(action.modifies), 1)
        case _:
            return 1


def tags_of(wire: OrderWire) -> OrderTags:
    """What an order's time in force says beside how long it lives."""
    return FRONT if wire.t.limit is not None and wire.t.limit.tif == "FrontendMarket" else PLAIN


FRONT: Final = OrderTags(is_front_market=True)


def order_of(wire: OrderWire, coin: Coin, now_ms: int) -> Order:
    """A domain order of a checked wire order; `FrontendMarket` executes like Ioc."""
    trigger = wire.t.trigger
    tif: TimeInForce | None
    if trigger is not None:
        kind = OrderKind.STOP_LOSS if trigger.tpsl == "sl" else OrderKind.TAKE_PROFIT
        tif = None if trigger.isMarket else TimeInForce.GTC
    else:
        kind = OrderKind.EXIT if wire.r else OrderKind.ENTRY
        tif = None if wire.t.limit is None else _TIFS[wire.t.limit.tif]
    return Order(
        cloid=Cloid((wire.c or "").lower()),
        coin=coin,
        side=Side.BUY if wire.b else Side.SELL,
        kind=kind,
        size=Decimal(wire.s),
        price=Decimal(wire.p),
        reduce_only=wire.r,
        tif=tif,
        trigger_price=None if trigger is None else Decimal(trigger.triggerPx),
        created_ms=now_ms,
    )
