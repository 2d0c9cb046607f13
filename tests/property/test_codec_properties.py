"""Whatever bytes arrive, the codec answers or says what is wrong; whatever is ordered, it is on the venue's grid."""

from __future__ import annotations

import functools
import json
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml100.domain.errors import InvariantBroken, ProtocolViolation
from aml100.domain.market import Instrument
from aml100.domain.orders import Order, OrderKind, Side, TimeInForce
from aml100.domain.units import Cloid, Coin
from aml100.venue import codec, placing, wire, words
from aml100.venue.session import Session, Subscription

SHARED = Path(__file__).resolve().parents[3] / "shared"

CHANNELS = st.sampled_from(sorted(wire.CHANNELS))
NUMBERS = st.sampled_from(["1", "0", "-1", "NaN", "Infinity", "-inf", "sNaN", "1e999999", "", "x", "1_0", "\ud800"])
KEYS = st.sampled_from(
    sorted({field for kind in vars(wire).values() for field in getattr(kind, "__struct_fields__", ())} | {"channel"})
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | NUMBERS | st.text(max_size=8)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=8),
    max_leaves=20,
)


def assert_told_or_refused(data: bytes) -> None:
    """Whatever comes, it becomes events of ours or is refused by our own exception; the session lives on."""
    with suppress(ProtocolViolation):
        frame = codec.decode_frame(data)
        if frame is not None:
            events = codec.events_from(frame, "o")
            assert all(type(event).__module__.startswith("aml100.") for event in events)
    session = Session([Subscription("trades", Coin("BTC"))])
    session.receive(data, 0.0)
    assert session.receive(b'{"channel":"pong"}', 1.0) is not None


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_codec(data: bytes) -> None:
    assert_told_or_refused(data)


@given(CHANNELS, TREES)
@settings(max_examples=300)
def test_no_json_crashes_the_codec(channel: str, data: object) -> None:
    assert_told_or_refused(json.dumps({"channel": channel, "data": data}).encode("utf-8", "surrogatepass"))


@functools.cache
def recorded_frames() -> tuple[bytes, ...]:
    found = []
    for path in sorted((SHARED / "data/hyperliquid/ws").glob("*.json")):
        for frame in json.loads(path.read_text())["frames"]:
            found.append((frame.get("raw") or json.dumps(frame["message"])).encode())
    return tuple(found)


@given(st.data())
@settings(max_examples=300)
def test_no_damaged_recording_crashes_the_codec(shared: Path, data: st.DataObject) -> None:
    """Real frames with one stretch replaced: closer to what a broken line brings than bytes drawn at random."""
    frame = data.draw(st.sampled_from(recorded_frames()))
    at = data.draw(st.integers(0, len(frame)))
    width = data.draw(st.integers(0, 12))
    patch = data.draw(st.binary(max_size=6) | st.sampled_from([b"NaN", b"-1", b'"', b"null", b"1e400", b"{}", b"[]"]))
    assert_told_or_refused(frame[:at] + patch + frame[at + width :])


def test_deep_nesting_is_refused() -> None:
    assert_told_or_refused(b'{"channel":"trades","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert_told_or_refused(b'{"channel":"simStep","x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}")


@given(st.decimals(allow_nan=True, allow_infinity=True))
def test_only_usable_numbers_pass(value: Decimal) -> None:
    if value.is_finite() and abs(value.adjusted()) < 40 and len(str(value)) <= 64:
        assert words.number(str(value), "path") == value
    else:
        with pytest.raises(ProtocolViolation, match="path: "):
            words.number(str(value), "path")


@functools.cache
def recorded_instruments() -> tuple[Instrument, ...]:
    document = json.loads((SHARED / "data/hyperliquid/rest/meta_mainnet_2025-12.json").read_text())
    meta = msgspec.json.decode(json.dumps(document["exchanges"][0]["response"]), type=wire.Meta)
    return tuple(codec.instruments_from(meta).values())


@given(
    st.data(),
    st.decimals("0.0000001", "1000000", places=12),
    st.decimals("0.0000001", "1000000", places=12),
    st.sampled_from(Side),
)
@settings(max_examples=500)
def test_every_order_is_on_the_grid_of_every_recorded_instrument(
    shared: Path, data: st.DataObject, price: Decimal, size: Decimal, side: Side
) -> None:
    """D7: at most 5 significant figures (or an integer) and 6 - szDecimals decimals; never tighter, never larger."""
    instrument = data.draw(st.sampled_from(recorded_instruments()))
    bound = instrument.limit_price(price, side)
    lots = instrument.round_size(size)
    order = Order(Cloid("0x" + "a" * 32), instrument.coin, side, OrderKind.ENTRY, lots, bound, False, TimeInForce.IOC)
    if bound <= 0 or lots <= 0:
        with pytest.raises(InvariantBroken):
            placing.order_to_wire(order, instrument.asset_id)
        return
    sent = placing.order_to_wire(order, instrument.asset_id)
    p, s = str(sent["p"]), str(sent["s"])
    decimals = len(p.partition(".")[2])
    assert decimals <= 6 - instrument.sz_decimals
    assert decimals == 0 or len(p.replace(".", "").lstrip("0")) <= 5
    assert len(s.partition(".")[2]) <= instrument.sz_decimals
    assert Decimal(s) <= size
    assert Decimal(p) >= price if side is Side.BUY else Decimal(p) <= price
    assert not p.endswith(".")
    assert "E" not in p.upper() + s.upper()
