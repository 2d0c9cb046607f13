"""Bars from a stream that never says closed (GUARANTEES D16, D17)."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml100.domain.errors import ProtocolViolation
from aml100.domain.market import Bar, Trade
from aml100.domain.orders import Side
from aml100.domain.units import Coin
from aml100.market.bars import BarAssembler, TradeBars

MIN = 60_000
BTC = Coin("BTC")


def bar(minute: int, close: str = "100", volume: str = "1", trades: int = 1) -> Bar:
    price = Decimal(close)
    return Bar(BTC, MIN, minute * MIN, Decimal(100), max(price, Decimal(100)), min(price, Decimal(100)), price,
               Decimal(volume), trades)  # fmt: skip


def minutes(bars: list[Bar]) -> list[int]:
    return [b.open_ms // MIN for b in bars]


def assembler() -> BarAssembler:
    return BarAssembler(BTC, MIN, "test:bars")


def recorded_candles(shared: Path) -> list[tuple[int, Bar]]:
    text = (shared / "data/hyperliquid/ws/candle_1m_stream_AAVE_2025-03.json").read_text()
    rows = []
    for frame in json.loads(text)["frames"]:
        message = json.loads(frame["raw"])
        if message["channel"] == "candle":
            c = message["data"]
            figures = (Decimal(c[k]) for k in "ohlcv")
            rows.append((frame["recv_ns"] // 1_000_000, Bar(Coin(c["s"]), MIN, c["t"], *figures, c["n"])))
    return rows


def test_recorded_stream_closes_the_bar_whose_last_update_came_after_its_end(shared: Path) -> None:
    frames = recorded_candles(shared)
    feed = BarAssembler(Coin("AAVE"), MIN, "hyperliquid:mainnet")
    received_ms, first = frames[0]
    assert received_ms > first.end_ms
    assert feed.apply_candle(first) == []
    closed = feed.apply_candle(frames[1][1])
    assert [(b.open_ms, b.close, b.volume, b.origin) for b in closed] == [
        (1742428740000, Decimal("182.58"), Decimal("0.21"), "hyperliquid:mainnet")
    ]
    for _, update in frames[2:]:
        assert feed.apply_candle(update) == []
    last = feed.apply_time(frames[-1][1].end_ms + 1000, 1000)
    assert last is not None
    assert (last.open, last.high, last.low, last.close, last.volume, last.trades) == (
        Decimal("182.61"), Decimal("182.65"), Decimal("182.61"), Decimal("182.64"), Decimal("2.07"), 6,
    )  # fmt: skip


def test_forming_bar_is_never_handed_out_d17() -> None:
    feed = assembler()
    assert feed.apply_candle(bar(0)) == []
    assert feed.apply_time(MIN - 1, 0) is None
    assert feed.apply_time(MIN + 499, 500) is None
    assert feed.confirm([bar(0, "101", "2", 2)], now_ms=MIN - 1) == []


def test_bar_closes_at_its_end_plus_grace_and_stays_provisional_until_confirmed() -> None:
    feed = assembler()
    feed.apply_candle(bar(0))
    closed = feed.apply_time(MIN + 500, 500)
    assert closed is not None
    assert closed.open_ms == 0
    assert feed.provisional == {0}
    assert feed.confirm([bar(0)], now_ms=2 * MIN) == []
    assert feed.provisional == set()
    assert feed.revised == 0


def test_update_inside_the_grace_is_taken_and_a_later_one_is_counted() -> None:
    feed = assembler()
    feed.apply_candle(bar(0))
    feed.apply_candle(bar(0, "102", "3", 3))
    closed = feed.apply_time(MIN + 500, 500)
    assert closed is not None
    assert closed.close == 102
    assert feed.apply_candle(bar(0, "103", "4", 4)) == []
    assert feed.revised == 1
    feed.apply_candle(bar(0, "102", "3", 3))  # an echo says nothing new
    assert feed.revised == 1
    assert feed.apply_time(2 * MIN + 500, 500) is None


def test_duplicates_and_older_updates_change_nothing() -> None:
    feed = assembler()
    feed.apply_candle(bar(0, "102", "3", 3))
    feed.apply_candle(bar(0, "102", "3", 3))
    feed.apply_candle(bar(0, "101", "2", 2))
    (closed,) = feed.apply_candle(bar(1))
    assert (closed.close, closed.volume) == (102, 3)


def test_cut_stream_loses_no_bar_that_rest_has_d16() -> None:
    feed = assembler()
    feed.apply_candle(bar(0))
    feed.apply_candle(bar(1, "101", "1", 1))
    feed.suspend()
    assert feed.apply_candle(bar(4)) == []
    assert feed.apply_candle(bar(5)) == []
    assert feed.apply_time(10 * MIN, 0) is None
    assert feed.is_suspended
    history = [bar(1, "107", "9", 9), bar(2), bar(3), bar(4), bar(5, "103", "2", 2)]
    released = feed.confirm(history, now_ms=5 * MIN + 20)
    assert minutes(released) == [1, 2, 3, 4]
    assert released[0].close == 107
    assert feed.gaps == []
    last = feed.apply_time(6 * MIN, 0)
    assert last is not None
    assert last.close == 103


def test_bars_that_the_venue_does_not_have_are_a_recorded_gap() -> None:
    feed = assembler()
    feed.apply_candle(bar(0))
    assert minutes(feed.apply_candle(bar(5))) == [0]
    assert minutes(feed.apply_candle(bar(6))) == [5]
    assert feed.gaps == [(MIN, 5 * MIN)]
    assert feed.confirm([bar(0), bar(3), bar(5)], now_ms=7 * MIN) == []
    assert feed.gaps == [(MIN, 3 * MIN), (4 * MIN, 5 * MIN)]


def test_history_at_the_start_hands_out_its_closed_bars_and_keeps_the_forming_one() -> None:
    feed = assembler()
    feed.apply_candle(bar(3, "101", "1", 1))
    assert minutes(feed.confirm([bar(m) for m in (0, 1, 2)] + [bar(3, "102", "2", 2)], now_ms=3 * MIN + 30)) == [
        0,
        1,
        2,
    ]
    closed = feed.apply_time(4 * MIN, 0)
    assert closed is not None
    assert closed.close == 102


def test_rest_that_contradicts_a_handed_out_bar_is_counted() -> None:
    feed = assembler()
    feed.apply_candle(bar(0))
    feed.apply_time(MIN, 0)
    feed.confirm([bar(0, "105", "9", 9)], now_ms=2 * MIN)
    assert feed.revised == 1


def test_bar_of_another_coin_or_off_the_grid_is_a_violation() -> None:
    feed = assembler()
    with pytest.raises(ProtocolViolation, match="ETH"):
        feed.apply_candle(Bar(Coin("ETH"), MIN, 0, *[Decimal(1)] * 5, 1))
    with pytest.raises(ProtocolViolation, match="30001"):
        feed.apply_candle(Bar(BTC, MIN, 30_001, *[Decimal(1)] * 5, 1))


@given(
    st.lists(
        st.tuples(st.sampled_from(["candle", "time", "rest", "cut"]), st.integers(0, 12), st.integers(0, 12)),
        max_size=40,
    )
)
def test_whatever_comes_each_bar_is_handed_out_once_in_order_with_every_hole_recorded(
    events: list[tuple[str, int, int]],
) -> None:
    feed = assembler()
    out: list[Bar] = []
    told: set[int] = set()
    for kind, a, b in events:
        if kind == "candle":
            out += feed.apply_candle(bar(a, trades=b))
        elif kind == "time":
            closed = feed.apply_time(a * MIN, 0)
            out += [] if closed is None else [closed]
            assert closed is None or closed.end_ms <= a * MIN
        elif kind == "cut":
            feed.suspend()
        else:
            history = range(min(a, b), max(a, b))
            told.update(history)
            out += feed.confirm([bar(m) for m in history], now_ms=20 * MIN)
    opens = minutes(out)
    assert opens == sorted(set(opens))
    holes = {m for lo, hi in feed.gaps for m in range(lo // MIN, hi // MIN)}
    assert not holes & set(opens)
    if opens:
        assert set(range(opens[0], opens[-1] + 1)) - set(opens) - holes <= told, "what REST had after all is no hole"


def trade(time_ms: int, price: str, size: str, tid: int) -> Trade:
    return Trade(BTC, Side.BUY, Decimal(price), Decimal(size), time_ms, tid)


def test_bar_from_trades_takes_each_print_once() -> None:
    feed = TradeBars(BTC, MIN, "test:trades", complete_from_ms=1)
    assert feed.apply_trades([trade(MIN - 5, "99", "1", 1)]) == []
    feed.apply_trades([trade(MIN, "100", "1.5", 2), trade(MIN + 9, "103", "0.5", 3)])
    feed.apply_trades([trade(MIN + 9, "103", "0.5", 3), trade(MIN + 4, "98", "1", 4)])
    (closed,) = feed.apply_trades([trade(3 * MIN, "101", "2", 5)])
    assert (closed.open_ms, closed.open, closed.high, closed.low, closed.close, closed.volume, closed.trades) == (
        MIN, 100, 103, 98, 103, Decimal("3.0"), 3,
    )  # fmt: skip
    assert feed.apply_trades([trade(2 * MIN, "101", "2", 6)]) == []
    assert feed.apply_time(4 * MIN + 99, 100) is None
    last = feed.apply_time(4 * MIN + 100, 100)
    assert last is not None
    assert last.open_ms == 3 * MIN


def test_bars_from_recorded_trades_equal_the_exchanges_candles(shared: Path) -> None:
    folder = shared / "data/market"
    prints = pq.read_table(folder / "binance_perp_BTC_trades_sample.parquet").to_pydict()
    start = -(-prints["time"][0] // MIN) * MIN
    feed = TradeBars(BTC, MIN, "binance", complete_from_ms=prints["time"][0])
    closed: list[Bar] = []
    rows = zip(prints["time"], prints["price"], prints["qty"], strict=True)
    for tid, (time_ms, price, size) in enumerate(rows):
        closed += feed.apply_trades([trade(int(time_ms), repr(price), repr(size), tid)])
    last = feed.apply_time(start + 60 * MIN, 0)
    assert last is not None
    closed.append(last)
    assert [b.open_ms for b in closed] == [start + k * MIN for k in range(5)]
    five = pq.read_table(folder / "binance_perp_BTC_5m.parquet").to_pydict()
    row = five["time"].index(start)
    assert closed[0].open == Decimal(repr(five["open"][row]))
    assert max(b.high for b in closed) == Decimal(repr(five["high"][row]))
    assert min(b.low for b in closed) == Decimal(repr(five["low"][row]))
    assert closed[-1].close == Decimal(repr(five["close"][row]))
    assert float(sum(b.volume for b in closed)) == pytest.approx(five["volume"][row], rel=1e-9)
