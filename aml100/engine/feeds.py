"""Freshness of every stream and the bars it brings: what the screen calls LIVE, STALE or OFFLINE (GUARANTEES B7)."""

from __future__ import annotations

from dataclasses import dataclass, field

from aml100.domain.events import FeedChanged
from aml100.domain.units import Coin

MARKET_CHANNELS = ("candle", "bbo", "activeAssetCtx", "trades")
_SPEAKS_BY_ITSELF = frozenset({"bbo", "activeAssetCtx"})
"""These speak as long as the market stands; candles and prints come with trades alone."""


@dataclass(slots=True)
class Feed:
    """One stream of one coin; `seen_s` is monotonic wall time of its last message, `latest_ms` its newest time."""

    coin: Coin
    channel: str
    seen_s: float
    state: str = "live"
    gap_bars: int = 0
    messages: int = 0
    latest_ms: int = 0
    out_of_order: int = 0


@dataclass(slots=True)
class FeedBoard:
    """All streams. Stale after `stale_s` wall seconds without a message, down while the socket is.

    `stale_s` of 0 switches the watch off. Candles and prints are silent while nobody trades: theirs is a silence only
    where the whole coin is silent, or where prints come and no candle does.
    """

    stale_s: float
    feeds: dict[tuple[Coin, str], Feed] = field(default_factory=dict)
    connected: bool = False

    def expect(self, coin: Coin, now_s: float) -> None:
        """Watch the market streams of a coin from now on."""
        for channel in MARKET_CHANNELS:
            self.feeds[coin, channel] = Feed(coin, channel, now_s)

    def saw(self, coin: Coin, channel: str, now_s: float, time_ms: int = 0) -> FeedChanged | None:
        """A message came, about `time_ms` of the venue where it names one; a change where it ends a silence."""
        feed = self.feeds.get((coin, channel))
        if feed is None:
            return None
        feed.seen_s = now_s
        feed.messages += 1
        if time_ms and time_ms < feed.latest_ms:
            feed.out_of_order += 1
        feed.latest_ms = max(feed.latest_ms, time_ms)
        if feed.state == "live":
            return None
        feed.state = "live"
        return FeedChanged(coin, channel, "live", 0, feed.gap_bars)

    def gap(self, coin: Coin, bars: int) -> None:
        """Bars are missing in this coin's series."""
        feed = self.feeds.get((coin, "candle"))
        if feed is not None:
            feed.gap_bars += bars

    def set_connected(self, up: bool, now_s: float) -> list[FeedChanged]:
        """The socket came or went: every stream with it."""
        self.connected = up
        state = "live" if up else "down"
        changes = []
        for feed in self.feeds.values():
            if up:
                feed.seen_s = now_s
            if feed.state != state:
                feed.state = state
                changes.append(FeedChanged(feed.coin, feed.channel, state, self._age_ms(feed, now_s), feed.gap_bars))
        return changes

    def check(self, now_s: float) -> list[FeedChanged]:
        """Streams that have fallen silent since the last look."""
        if not self.stale_s or not self.connected:
            return []
        changes = []
        for feed in self.feeds.values():
            if feed.state == "live" and self._is_silent(feed, now_s):
                feed.state = "stale"
                changes.append(FeedChanged(feed.coin, feed.channel, "stale", self._age_ms(feed, now_s), feed.gap_bars))
        return changes

    def _is_silent(self, feed: Feed, now_s: float) -> bool:
        if now_s - feed.seen_s <= self.stale_s:
            return False
        if feed.channel in _SPEAKS_BY_ITSELF:
            return True
        others = [one for one in self.feeds.values() if one.coin == feed.coin and one is not feed]
        if all(now_s - one.seen_s > self.stale_s for one in others):
            return True
        printed_s = max((one.seen_s for one in others if one.channel == "trades"), default=0.0)
        return feed.channel == "candle" and printed_s - feed.seen_s > self.stale_s

    def age_ms(self, coin: Coin, channel: str, now_s: float) -> int:
        """Wall milliseconds since the last message of a stream."""
        return self._age_ms(self.feeds[coin, channel], now_s)

    @staticmethod
    def _age_ms(feed: Feed, now_s: float) -> int:
        return max(0, round((now_s - feed.seen_s) * 1000))
