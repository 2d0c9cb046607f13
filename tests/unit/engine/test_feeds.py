"""Freshness by coin and channel (GUARANTEES B7, D15)."""

from __future__ import annotations

from aml100.domain.units import Coin
from aml100.engine.feeds import FeedBoard

BTC, DOGE = Coin("BTC"), Coin("DOGE")


def board() -> FeedBoard:
    made = FeedBoard(stale_s=30)
    for coin in (BTC, DOGE):
        made.expect(coin, 0.0)
    made.set_connected(True, 0.0)
    return made


def test_one_silent_coin_is_flagged_on_every_stream_while_the_other_is_live() -> None:
    feeds = board()
    for second in range(0, 32, 2):
        for channel in ("candle", "bbo", "activeAssetCtx", "trades"):
            feeds.saw(BTC, channel, float(second))
    flagged = feeds.check(31.0)
    assert {(one.coin, one.state) for one in flagged} == {(DOGE, "stale")}
    assert len(flagged) == 4
    back = feeds.saw(DOGE, "bbo", 32.0)
    assert back is not None
    assert back.state == "live"


def test_a_market_without_trades_is_quiet_and_not_stale() -> None:
    feeds = board()
    for second in range(0, 120, 2):
        feeds.saw(BTC, "bbo", float(second))
        feeds.saw(BTC, "activeAssetCtx", float(second))
    assert [one for one in feeds.check(119.0) if one.coin == BTC] == []


def test_prints_without_candles_make_the_candles_stale() -> None:
    feeds = board()
    for second in range(0, 60, 2):
        for channel in ("bbo", "activeAssetCtx", "trades"):
            feeds.saw(BTC, channel, float(second))
    assert [(one.coin, one.channel) for one in feeds.check(59.0) if one.coin == BTC] == [(BTC, "candle")]


def test_older_news_than_what_is_known_is_counted() -> None:
    feeds = board()
    for time_ms in (1000, 3000, 2000, 3000, 2500):
        feeds.saw(BTC, "bbo", 1.0, time_ms)
    assert feeds.feeds[BTC, "bbo"].out_of_order == 2
