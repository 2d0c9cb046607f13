"""The live book as a paper order sees it: the touch as last told, and the levels behind it as last shown."""

from __future__ import annotations

from decimal import Decimal

from aml100.domain.market import BookTop
from aml100.domain.orders import Side
from aml100.domain.units import ZERO
from aml100.venue.news import DepthSeen

Levels = list[tuple[Decimal, Decimal]]


class PaperBook:
    """Both sides, best first. The touch comes more often than the depth, so levels that it contradicts are dropped."""

    def __init__(self) -> None:
        self._sides: dict[Side, Levels] = {Side.BUY: [], Side.SELL: []}

    def apply_depth(self, depth: DepthSeen) -> None:
        """The whole visible book."""
        self._sides = {Side.BUY: list(depth.bids), Side.SELL: list(depth.asks)}

    def apply_top(self, top: BookTop) -> None:
        """Best bid and ask; what is said to be better than them has gone."""
        for side, price, size in ((Side.BUY, top.bid, top.bid_size), (Side.SELL, top.ask, top.ask_size)):
            if price is None:
                self._sides[side] = []
                continue
            behind = [one for one in self._sides[side] if (one[0] < price if side is Side.BUY else one[0] > price)]
            known = next((one[1] for one in self._sides[side] if one[0] == price), ZERO)
            self._sides[side] = [(price, known if size is None else size), *behind]

    def best(self, side: Side) -> Decimal | None:
        """Best price of a side; None where it is empty or unknown."""
        levels = self._sides[side]
        return levels[0][0] if levels else None

    def shown_at(self, side: Side, price: Decimal) -> Decimal | None:
        """What is shown at this price; 0 before the touch and between levels, None behind all that is visible."""
        levels = self._sides[side]
        for level, size in levels:
            if level == price:
                return size
            if level < price if side is Side.BUY else level > price:
                return ZERO
        return None

    def take(self, side: Side, limit: Decimal, size: Decimal) -> Levels:
        """Remove up to `size` from the side that an order of `side` trades with, within its limit; what was taken."""
        levels = self._sides[side.opposite]
        taken: Levels = []
        while levels and size > 0:
            price, shown = levels[0]
            if price > limit if side is Side.BUY else price < limit:
                break
            part = min(shown, size)
            if part > 0:
                taken.append((price, part))
            size -= part
            if part == shown:
                del levels[0]
            else:
                levels[0] = (price, shown - part)
        return taken
