"""What clients may send to /exchange: numbers, ids and nesting as the venue reads them, and nothing like them."""

from __future__ import annotations

import msgspec
import pytest

from aml100.sim.requests import OrderAction, decode_action, decode_envelope, order_of
from tests.sim.deal import BTC, d

CLOID = "0x" + 32 * "0"


def order_wire(**other: object) -> dict[str, object]:
    return {"a": 0, "b": True, "p": "60000", "s": "0.01", "r": False, "t": {"limit": {"tif": "Gtc"}}} | other


def read(*orders: dict[str, object]) -> OrderAction:
    action = decode_action({"type": "order", "orders": list(orders), "grouping": "na"})
    assert isinstance(action, OrderAction)
    return action


@pytest.mark.parametrize(
    "number", ["1e30", "1" + 40 * "0", "1e999999", " 0.01", "0_1", "0x1", "NaN", "", "1.", ".5", 5]
)
@pytest.mark.parametrize("field", ["s", "p", "triggerPx"])
def test_a_number_that_is_not_plain_digits_spoils_the_whole_request_before_anything_is_done(
    field: str, number: object
) -> None:
    trigger = {"trigger": {"isMarket": True, "triggerPx": number, "tpsl": "sl"}}
    wrong = order_wire(t=trigger) if field == "triggerPx" else order_wire(**{field: number})
    with pytest.raises(msgspec.ValidationError):
        read(order_wire(), wrong)


def test_plain_digits_are_the_order_s_numbers_and_a_negative_one_is_the_market_s_to_refuse() -> None:
    wires = read(order_wire(s="0.00001", p="123456.5"), order_wire(s="-1")).orders
    orders = [order_of(wire, BTC, 0) for wire in wires]
    assert [(one.size, one.price) for one in orders] == [(d("0.00001"), d("123456.5")), (d("-1"), d("60000"))]


@pytest.mark.parametrize("cloid", ["0x12", 32 * "0", "0x" + 32 * "g", CLOID + "0", CLOID + "\n"])
def test_a_client_id_is_sixteen_bytes_in_hex(cloid: str) -> None:
    read(order_wire(c=CLOID))
    with pytest.raises(msgspec.ValidationError):
        read(order_wire(c=cloid))
    with pytest.raises(msgspec.ValidationError):
        decode_action({"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": cloid}]})
    with pytest.raises(msgspec.ValidationError):
        decode_action({"type": "modify", "oid": cloid, "order": order_wire()})


@pytest.mark.parametrize("levels", [100, 3_000, 200_000])
def test_a_body_that_nests_as_no_request_does_is_not_read(levels: int) -> None:
    body = '{"action":{"type":"noop","x":%s},"nonce":1,"signature":{}}'
    decode_envelope((body % "[[]]").encode())
    with pytest.raises(msgspec.DecodeError):
        decode_envelope((body % ("[" * levels + "]" * levels)).encode())
