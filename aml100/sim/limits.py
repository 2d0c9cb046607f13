"""Rate limits of the simulated venue: a weight a minute for each peer address, actions over life for each account.

All of it counts wall time. A venue that plays in step with its own engine has no limits; it still counts actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from aml100.domain.units import ZERO

WEIGHT_A_MINUTE: Final = 1200
MESSAGES_A_MINUTE: Final = 2000
SUBSCRIPTIONS: Final = 1000
USERS: Final = 15
CONNECTIONS: Final = 100
FIRST_ACTIONS: Final = 10_000
MORE_CANCELS: Final = 100_000
PAUSE_S: Final = 10.0
EXPIRED_COUNTS: Final = 5
"""Actions that an expired one counts for."""

_WINDOW_S: Final = 60.0
_LIGHT: Final = frozenset(
    {"l2Book", "allMids", "clearinghouseState", "orderStatus", "spotClearinghouseState", "exchangeStatus"}
)
_BY_ROWS: Final = frozenset(
    {
        "recentTrades",
        "historicalOrders",
        "userFills",
        "userFillsByTime",
        "fundingHistory",
        "userFunding",
        "userNonFundingLedgerUpdates",
    }
)


def info_weight(body: Mapping[str, object]) -> int:
    """What a question costs before its answer is known."""
    kind = str(body.get("type"))
    if kind in _LIGHT:
        return 2
    return 60 if kind == "userRole" else 20


def answer_weight(body: Mapping[str, object], answer: object) -> int:
    """What the length of the answer costs on top."""
    if not isinstance(answer, list):
        return 0
    if body.get("type") == "candleSnapshot":
        return len(answer) // 60
    return len(answer) // 20 if body.get("type") in _BY_ROWS else 0


class Window:
    """A sum over the last minute."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0

    def admits(self, now_s: float, amount: int) -> bool:
        """There is room for `amount`; counts it where there is."""
        while self._spent and self._spent[0][0] <= now_s - _WINDOW_S:
            self._sum -= self._spent.popleft()[1]
        if self._sum + amount > self.most:
            return False
        self.add(now_s, amount)
        return True

    def add(self, now_s: float, amount: int) -> None:
        """Count what is spent already."""
        self._spent.append((now_s, amount))
        self._sum += amount


class Peer:
    """What one peer address has spent and holds."""

    def __init__(self) -> None:
        self.weight = Window(WEIGHT_A_MINUTE)
        self.messages = Window(MESSAGES_A_MINUTE)
        self.connections = 0
        self.subscriptions = 0
        self.users: dict[str, int] = {}


class Peers:
    """Peers by address; with `is_on` false everything is admitted."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        self._peers: dict[str, Peer] = {}

    def of(self, address: str) -> Peer:
        return self._peers.setdefault(address, Peer())

    def admits_weight(self, address: str, weight: int, now_s: float) -> bool:
        return not self.is_on or self.of(address).weight.admits(now_s, weight)

    def add_weight(self, address: str, weight: int, now_s: float) -> None:
        if weight:
            self.of(address).weight.add(now_s, weight)

    def admits_message(self, address: str, now_s: float) -> bool:
        return not self.is_on or self.of(address).messages.admits(now_s, 1)

    def admits_connection(self, address: str) -> bool:
        return not self.is_on or self.of(address).connections < CONNECTIONS


@dataclass(slots=True)
class _Used:
    actions: int = 0
    last_s: float = float("-inf")


class Addresses:
    """Actions by account, over the venue's life. `is_on` false counts and admits all."""

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on
        self._used: dict[str, _Used] = {}

    def used(self, account: str) -> int:
        return self._used[account].actions if account in self._used else 0

    @staticmethod
    def cap(volume: Decimal) -> int:
        """One action for each dollar ever traded, and some to start with."""
        return FIRST_ACTIONS + int(volume)

    def charge(self, account: str, count: int, volume: Decimal, *, is_cancel: bool, now_s: float) -> str | None:
        """Count actions of an account; the venue's text where it has none left. One is let through every 10 s."""
        used = self._used.setdefault(account, _Used())
        cap = self.cap(volume)
        allowed = min(cap + MORE_CANCELS, 2 * cap) if is_cancel else cap
        if self.is_on and used.actions + count > allowed:
            if now_s - used.last_s < PAUSE_S:
                return (
                    f"Too many cumulative requests sent ({used.actions + count} > {allowed}) for cumulative volume "
                    f"traded ${volume.quantize(Decimal('0.01')) + ZERO}. "
                    "Place taker orders to free up 1 request per USDC traded."
                )
            used.last_s = now_s
        used.actions += count
        return None
