"""Bars on their way to the core: none lost, none twice, none out of order (GUARANTEES D16, D17)."""

from __future__ import annotations

from decimal import Decimal

from aml100.domain.market import Bar
from aml100.domain.units import MINUTE_MS, Coin
from aml100.engine.barfeed import BarFeed

BTC, ETH = Coin("BTC"), Coin("ETH")
START = 1_700_006_400_000


def bar(minute: int, coin: Coin = BTC, trades: int = 1) -> Bar:
    price = Decimal(100 + minute)
    return Bar(coin, MINUTE_MS, START + minute * MINUTE_MS, price, price, price, price, Decimal(trades), trades)


class Fed:
    """A feed and the core's view of what it has."""

    def __init__(self, *coins: Coin) -> None:
        self.taken = dict.fromkeys(coins, START)
        self.feed = BarFeed(coins, MINUTE_MS, "test", self.taken.__getitem__)

    def ready(self, minute: float, straggle_ms: float = 4000) -> list[tuple[int, list[Coin]]]:
        out = []
        for end_ms, bars in self.feed.ready(START + int(minute * MINUTE_MS), straggle_ms):
            for one in bars:
                assert one.open_ms == self.taken[one.coin]
                self.taken[one.coin] = one.end_ms
            out.append(((end_ms - START) // MINUTE_MS, [one.coin for one in bars]))
        return out


def test_a_bar_closes_when_the_next_begins_and_only_then() -> None:
    fed = Fed(BTC)
    fed.feed.on_candle(bar(0), checks=True)
    fed.feed.on_candle(bar(0, trades=5), checks=True)
    assert fed.ready(0.99) == []
    fed.feed.on_candle(bar(1), checks=True)
    assert fed.ready(1.01) == [(1, [BTC])]


def test_the_bars_of_one_time_go_together_or_after_the_grace() -> None:
    fed = Fed(BTC, ETH)
    for coin in (BTC, ETH):
        fed.feed.on_candle(bar(0, coin), checks=True)
    fed.feed.on_candle(bar(1), checks=True)
    assert fed.ready(1.01) == []
    assert fed.ready(1.1) == [(1, [BTC])]
    fed.feed.on_candle(bar(1, ETH), checks=True)
    assert fed.ready(1.2) == [(1, [ETH])]


def test_a_skipped_bar_suspends_the_coin_until_rest_has_said_what_there_was() -> None:
    fed = Fed(BTC)
    fed.feed.on_candle(bar(0), checks=True)
    fed.feed.on_candle(bar(1), checks=True)
    assert fed.feed.on_candle(bar(3), checks=True)
    assert fed.feed.suspended() == (BTC,)
    fed.ready(3.5)
    now_ms = START + 3 * MINUTE_MS + 1000
    fed.feed.confirm(BTC, [bar(0), bar(1, trades=9), bar(2), bar(3)], now_ms)
    assert [minute for minute, _ in fed.ready(3.6)] == [2, 3]
    assert fed.feed.suspended() == ()


def test_after_a_cut_the_half_seen_bar_comes_from_rest() -> None:
    fed = Fed(BTC)
    fed.feed.on_candle(bar(0, trades=1), checks=True)
    fed.feed.suspend()
    fed.feed.on_candle(bar(1), checks=True)
    assert fed.ready(1.5) == []
    (whole,) = fed.feed.confirm(BTC, [bar(0, trades=8), bar(1)], START + MINUTE_MS + 500)
    assert whole.trades == 8
    fed.feed.on_candle(bar(2), checks=True)
    assert [minute for minute, _ in fed.ready(2.1)] == [1, 2]


def test_a_bar_nobody_told_of_is_owed_after_the_grace() -> None:
    fed = Fed(BTC)
    fed.feed.on_candle(bar(0), checks=True)
    assert fed.feed.overdue(START + MINUTE_MS + 1900, 2000) == ()
    assert fed.feed.overdue(START + MINUTE_MS + 2100, 2000) == (BTC,)
    fed.feed.on_candle(bar(1), checks=True)
    assert fed.feed.overdue(START + MINUTE_MS + 2100, 2000) == ()


def test_no_bar_is_lost_where_our_clock_lags_behind_the_answer() -> None:
    fed = Fed(BTC)
    fed.feed.on_candle(bar(0), checks=True)
    fed.feed.on_candle(bar(3), checks=True)  # bars 1 and 2 were not told
    lagging_ms = START + MINUTE_MS + 30_000
    fed.feed.confirm(BTC, [bar(0), bar(1), bar(2), bar(3)], lagging_ms)
    assert [minute for minute, _ in fed.ready(3.9)] == [1, 2, 3]
