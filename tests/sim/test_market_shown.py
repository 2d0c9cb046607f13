"""The market as it is shown: ladder, candles of every interval, prints, exchanges, subscriptions, limits."""

from __future__ import annotations

import itertools
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml100.domain.market import Bar, instrument_for
from aml100.domain.orders import Side
from aml100.domain.units import DAY_MS, MINUTE_MS, Coin
from aml100.market.series import BarSeries
from aml100.sim import freerun
from aml100.sim.candles import EVERY_INTERVAL, MONTH, candles_between, opens_of
from aml100.sim.freerun import FREE_PRINTS, pieces_of
from aml100.sim.ladder import Ladder
from aml100.sim.limits import Addresses, Peers, answer_weight, info_weight
from aml100.sim.prints import Prints, split
from aml100.sim.topics import Wanted, read_subscription
from tests.sim.deal import d

BTC = Coin("BTC")
INSTRUMENT = instrument_for(BTC)
prices = st.decimals("0.0002", "200000", places=6)


@settings(max_examples=150, deadline=None)
@given(prices, st.sampled_from(["BTC", "DOGE", "kPEPE", "nobody"]), st.sampled_from(["0", "0.0001", "0.002"]))
def test_the_book_is_ordered_on_the_tick_and_around_the_price(price: Decimal, name: str, slip: str) -> None:
    instrument = instrument_for(Coin(name))
    price = instrument.round_price(max(price, d("0.01") if instrument.sz_decimals == 0 else d(1)))
    ladder = Ladder(d(slip))
    bids, asks = (ladder.levels(price, instrument, side) for side in (Side.BUY, Side.SELL))
    rows = [*reversed(bids), *asks]
    assert [one.price for one in rows] == sorted({one.price for one in rows})
    assert all(one.price == instrument.round_price(one.price) and one.size > 0 for one in rows)
    assert all(one.size == instrument.round_size(one.size) for one in rows)
    assert bids[0].price < price < asks[0].price
    assert asks[0].price >= price * (1 + d(slip))


def minutes(first_ms: int, n: int) -> BarSeries:
    times = first_ms + np.arange(n, dtype=np.int64) * MINUTE_MS
    path = 100.0 + np.sin(np.arange(n)) * 5
    return BarSeries(BTC, MINUTE_MS, "made:test", times, path, path + 1, path - 1, path + 0.5, np.full(n, 2.0))


def test_every_interval_is_put_together_from_the_bars() -> None:
    series = minutes(1_751_241_600_000, 3 * 1440)  # 2025-06-30 00:00, a Monday
    for name, span in EVERY_INTERVAL.items():
        found = candles_between(series, None, span, 0, 2**62, 5000, 4)
        assert sum(one.volume for one in found) == 2 * 3 * 1440, name
        assert max(one.high for one in found) == Decimal(repr(float(series.high.max())))
        assert sum(one.trades for one in found) == 4 * 3 * 1440
        assert all(a.end_ms == b.open_ms for a, b in itertools.pairwise(found))
    assert [one.open_ms for one in candles_between(series, None, MONTH, 0, 2**62, None, 4)] == [
        1_748_736_000_000,  # 2025-06-01
        1_751_328_000_000,  # 2025-07-01
    ]
    assert opens_of(series.open_ms[:1], 7 * DAY_MS)[0] == series.open_ms[0]


def test_the_range_asked_for_has_both_ends_and_only_the_latest_exist() -> None:
    series = minutes(1_751_241_600_000, 100)
    t = series.open_ms
    some = candles_between(series, None, MINUTE_MS, int(t[10]) + 1, int(t[20]), None, 4)
    assert (some[0].open_ms, some[-1].open_ms) == (t[10], t[20])
    assert [one.open_ms for one in candles_between(series, None, MINUTE_MS, 0, 2**62, 5, 4)] == t[-5:].tolist()
    assert candles_between(series, None, MINUTE_MS, 0, int(t[20]), 5, 4) == []
    five = candles_between(series, None, 5 * MINUTE_MS, int(t[7]), int(t[12]), None, 4)
    assert [one.open_ms for one in five] == [t[5], t[10]]
    forming = Bar(BTC, MINUTE_MS, int(t[-1]) + MINUTE_MS, d(1), d(300), d(1), d(2), d(1), 3)
    assert candles_between(series, forming, 5 * MINUTE_MS, 0, 2**62, 1, 4)[-1].high == 300
    assert candles_between(series, None, 30_000, 0, 2**62, None, 4) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.decimals("50000", "70000", places=1), min_size=4, max_size=4), st.decimals("0", "900", places=4))
def test_prints_rebuild_their_bar_exactly(levels: list[Decimal], volume: Decimal) -> None:
    low, first, second, high = sorted(levels)
    bar = Bar(BTC, MINUTE_MS, 1_751_241_600_000, first, high, low, second, volume, 0)
    pieces, sizes = pieces_of(bar, INSTRUMENT), split(volume, FREE_PRINTS, INSTRUMENT)
    path = [bar.open, *(one.close for one in pieces)]
    rows = Prints().make(bar, INSTRUMENT, path, sizes, 0, FREE_PRINTS)
    seen = [Decimal(str(one["px"])) for one in rows]  # type: ignore[index,call-overload]
    assert (seen[0], max(seen), min(seen), seen[-1]) == (bar.open, bar.high, bar.low, bar.close)
    assert sum(Decimal(str(one["sz"])) for one in rows) == volume  # type: ignore[index,call-overload]
    times = [one["time"] for one in rows]  # type: ignore[index,call-overload]
    assert times == sorted(times)
    assert times[0] == bar.open_ms
    assert times[-1] < bar.end_ms
    assert len({one["tid"] for one in rows}) == freerun.FREE_PRINTS  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("asked", "topic"),
    [
        ({"type": "l2Book", "coin": "BTC", "nSigFigs": 5, "mantissa": 2}, ("l2Book", "BTC", "5", "2", "")),
        ({"type": "l2Book", "coin": "BTC", "nSigFigs": 4, "mantissa": 2}, None),
        ({"type": "candle", "coin": "BTC", "interval": "3d"}, ("candle", "BTC", "3d")),
        ({"type": "candle", "coin": "BTC", "interval": "7m"}, None),
        ({"type": "clearinghouseState", "user": "0x" + 20 * "Ab"}, ("clearinghouseState", "0x" + 20 * "ab", "")),
        ({"type": "openOrders", "user": "0x" + 20 * "Ab", "dex": "xyz"}, ("openOrders", "0x" + 20 * "ab", "xyz")),
        ({"type": "userFills", "user": "zz"}, None),
        ({"type": "allMids", "dex": "xyz"}, ("allMids", "xyz")),
        ({"type": "orderUpdates"}, None),
        ({"type": ["x"]}, None),
    ],
)
def test_subscriptions_are_read_strictly(asked: dict[str, object], topic: tuple[str, ...] | None) -> None:
    read = read_subscription(asked, {"BTC"})
    assert (read.topic if isinstance(read, Wanted) else None) == topic


def test_webdata_and_unknown_coins_are_refused_in_words() -> None:
    assert read_subscription({"type": "webData2", "user": "0x" + 40 * "1"}, {"BTC"}) == "Invalid subscription"
    assert read_subscription({"type": "trades", "coin": "NOPE"}, {"BTC"}) == "Invalid subscription"


# --- limits -------------------------------------------------------------------------------------------------------


def test_an_address_has_its_weight_a_minute() -> None:
    peers = Peers(True)
    assert all(peers.admits_weight("1.2.3.4", 20, 0.0) for _ in range(60))
    assert not peers.admits_weight("1.2.3.4", 2, 59.9)
    assert peers.admits_weight("5.6.7.8", 2, 59.9)
    assert peers.admits_weight("1.2.3.4", 2, 60.0)
    assert all(Peers(False).admits_weight("1.2.3.4", 1200, 0.0) for _ in range(3))


def test_weights_are_those_of_the_venue() -> None:
    kinds = ("l2Book", "clearinghouseState", "userRole", "meta", "userFills")
    assert [info_weight({"type": kind}) for kind in kinds] == [2, 2, 60, 20, 20]
    assert 20 + answer_weight({"type": "candleSnapshot"}, [0] * 5000) == 103
    assert answer_weight({"type": "userFills"}, [0] * 2000) == 100


def test_an_account_has_an_action_for_each_dollar_traded_and_more_cancels() -> None:
    addresses = Addresses(True)

    def charge(count: int, at_s: float, *, is_cancel: bool = False) -> str | None:
        return addresses.charge("0xa", count, d("5.5"), is_cancel=is_cancel, now_s=at_s)

    assert charge(10_005, 0.0) is None
    assert charge(1, 1.0) is None  # one is let through
    assert charge(1, 10.9) == (
        "Too many cumulative requests sent (10007 > 10005) for cumulative volume traded $5.50. "
        "Place taker orders to free up 1 request per USDC traded."
    )
    assert charge(1, 11.0) is None
    assert charge(10_003, 11.1, is_cancel=True) is None  # up to twice as many
    assert charge(1, 11.2, is_cancel=True) is not None
    assert addresses.used("0xa") == 20_010
