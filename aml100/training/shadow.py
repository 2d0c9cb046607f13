"""A model that decides without orders: one unit of notional a coin, priced by the kernel net of costs.

The same walk serves three questions: what a challenger would have earned on the live bars on which the champion
decided (shadow), what the champion itself earned on them in the same accounting, and what either earns on a hold-out.
Decisions come from the compiled single-bar form, as live ones do. A walk can be saved after any bar and goes on equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
import numpy as np

from aml100.domain.errors import AmlError
from aml100.domain.market import Bar
from aml100.domain.orders import Action
from aml100.domain.units import DAY_MS, HOUR_MS, Coin
from aml100.evaluation.kernel import ATR_BAR_DTYPE, BAR_DTYPE, KernelRules, flat_positions
from aml100.evaluation.transition import HOLD, POSITION_DTYPE, STEP_DTYPE, advance
from aml100.learning.bundle import Bundle, ModelPolicy
from aml100.market.compiled import compiled
from aml100.market.features import FEATURES, compute_features
from aml100.market.position import POSITION_SIZE, position_features
from aml100.market.series import BarSeries, Floats, FundingSeries, Ints
from aml100.trading.sizing import q_gap

_ATR = FEATURES.index("atr_14")

Prices: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class WalkRules:
    """How one coin is walked: the kernel's rules, the least gap of an entry, the funding an hour where none is told."""

    kernel: KernelRules
    min_q_gap: float = 0.0
    hourly_rate: float = 0.0


@compiled(error_model="numpy")
def _advance(pair: Any, rules: Any, action: int, state: Any, step: Any) -> None:
    advance(pair, rules[0], 0, action, state[0], step[0])


class _CoinSaved(msgspec.Struct, frozen=True):
    policy: bytes
    position: bytes
    bar: bytes
    action: int
    has_decided: bool
    last_end_ms: int
    trades: int


class _Saved(msgspec.Struct, frozen=True):
    model: str
    since_ms: int
    bars: int
    net: float
    squares: float
    coins: dict[str, _CoinSaved]


class CoinWalk:
    """One coin of a walk."""

    def __init__(self, policy: ModelPolicy, rules: WalkRules) -> None:
        self.policy = policy
        self.trades = 0
        self.closed_net: float | None = None
        """What the trades earned that the last bar closed; None where it closed none."""
        self.last_end_ms = 0
        self._rules = rules
        self._rule = rules.kernel.as_record()
        self._state = flat_positions(1)
        self._step = np.zeros(1, STEP_DTYPE)
        self._pair = np.zeros(2, ATR_BAR_DTYPE if rules.kernel.atr_stop else BAR_DTYPE)
        self._action = HOLD
        self._has_decided = False
        self._row = np.zeros(POSITION_SIZE)

    def warm_up(self, rows: Iterable[Floats], end_ms: int) -> None:
        """Show the policy the features of the series so far, oldest first; its last bar ended at `end_ms`."""
        for row in rows:
            self.policy.observe(row)
        self.last_end_ms = end_ms

    def take(
        self, values: Prices, open_ms: int, interval_ms: int, row: Floats | None, hourly_rate: float | None = None
    ) -> float:
        """A bar has closed: price the step that ended with it, then decide on it.

        Args:
            values: open, high, low, close.
            row: the bar's features [F]; None where they are incomplete, then it holds.
            hourly_rate: of funding at the bar's open, charged where that is a full hour; None, where it is not known:
                the rules' own.

        Returns: the step's net return on one unit of notional; 0 at its first bar.
        """
        pair, follows = self._pair, open_ms == self.last_end_ms
        pair[0] = pair[1]
        new = pair[1]
        new["open"], new["high"], new["low"], new["close"] = values
        rate = self._rules.hourly_rate if hourly_rate is None else hourly_rate
        new["funding"] = rate if open_ms % HOUR_MS == 0 else 0.0
        new["ordinal"] = open_ms // interval_ms + 1
        new["follows"] = follows
        if self._rules.kernel.atr_stop:
            new["atr"] = 0.0 if row is None else row[_ATR]
        net, self.closed_net = 0.0, None
        if self._has_decided:
            _advance(pair, self._rule, self._action, self._state, self._step)
            step = self._step[0]
            net = float(step["net"])
            if step["exit_reason"] != 0:
                self.trades += 1
                self.closed_net = float(step["closed_net"])
        if not follows and self.last_end_ms:
            self.policy.reset()
        self.last_end_ms = open_ms + interval_ms
        self._has_decided = True
        self._action = self._decide(values[3], row, open_ms)
        return net

    def _decide(self, close: float, row: Floats | None, open_ms: int) -> int:
        if row is None:
            return HOLD
        self.policy.observe(row)
        s = self._state[0]
        fallen = max(0.0, 1.0 - float(s["equity"]) / float(s["peak"]))
        side, entry, held = s["side"], s["entry"], s["bars_held"]
        position_features(side, entry, close, held, s["target"], s["stop"], fallen, s["wins"], s["holds"], self._row)
        answer = self.policy.decide(self._row, open_ms)
        if answer.action is not Action.HOLD and s["side"] == 0 and answer.q is not None:
            return int(answer.action) if q_gap(answer.q) > self._rules.min_q_gap else HOLD
        return int(answer.action)

    @property
    def open_net(self) -> float | None:
        """What the open position has earned so far; None without one."""
        return float(self._state[0]["net"]) if self._state[0]["side"] != 0 else None

    def export(self) -> _CoinSaved:
        return _CoinSaved(
            self.policy.export_state(),
            self._state.tobytes(),
            self._pair[1:].tobytes(),
            self._action,
            self._has_decided,
            self.last_end_ms,
            self.trades,
        )

    def restore(self, saved: _CoinSaved) -> None:
        self.policy.restore(saved.policy)
        if len(saved.bar) != self._pair.itemsize or len(saved.position) != POSITION_DTYPE.itemsize:
            raise AmlError("a saved walk was made under other rules")
        self._state = np.frombuffer(saved.position, POSITION_DTYPE).copy()
        self._pair[1:] = np.frombuffer(saved.bar, self._pair.dtype)
        self._action, self._has_decided = saved.action, saved.has_decided
        self.last_end_ms, self.trades = saved.last_end_ms, saved.trades


class ModelWalk:
    """A model over all its coins. Nets are summed over the coins of a bar, each on one unit of notional.

    Attributes: `since_ms` is the end of the bar after which it decides, `bars` how many were priced since.
    """

    def __init__(self, bundle: Bundle, rules: Mapping[Coin, WalkRules], since_ms: int) -> None:
        self.bundle = bundle
        self.since_ms = since_ms
        self.bars = 0
        self.net = 0.0
        self.squares = 0.0
        self.coins = {coin: CoinWalk(bundle.policy(), one) for coin, one in rules.items()}

    @property
    def trades(self) -> int:
        """Closed round trips."""
        return sum(coin.trades for coin in self.coins.values())

    @property
    def stderr(self) -> float:
        """Of `net`: the bars' own scatter times the root of their number."""
        if self.bars < 2:
            return 0.0
        mean = self.net / self.bars
        return math.sqrt(max(self.squares - self.bars * mean * mean, 0.0) / (self.bars - 1) * self.bars)

    def warm_up(self, rows: Mapping[Coin, Sequence[Floats]], ends_ms: Mapping[Coin, int]) -> None:
        """Show it the features of each coin's series so far, oldest first; nothing is decided or priced."""
        for coin, walk in self.coins.items():
            walk.warm_up(rows.get(coin, ()), ends_ms[coin])

    def step(self, bars: Sequence[Bar], rows: Mapping[Coin, Floats | None], rates: Mapping[Coin, float]) -> float:
        """Bars of one end time have closed; returns what the steps that ended with them brought.

        Args:
            rates: funding an hour of the coins that have a known one.
        """
        net = 0.0
        for bar in bars:
            coin = bar.coin
            net += self.coins[coin].take(_prices(bar), bar.open_ms, bar.interval_ms, rows.get(coin), rates.get(coin))
        self.bars += 1
        self.net += net
        self.squares += net * net
        return net

    def export_state(self) -> bytes:
        """Everything needed to go on."""
        coins = {str(coin): walk.export() for coin, walk in self.coins.items()}
        return msgspec.msgpack.encode(
            _Saved(self.bundle.record.id, self.since_ms, self.bars, self.net, self.squares, coins)
        )

    def restore(self, state: bytes) -> None:
        """Go on from `export_state`; AmlError where it is of another model or other coins."""
        try:
            saved = msgspec.msgpack.decode(state, type=_Saved)
        except msgspec.MsgspecError as error:
            raise AmlError(f"a saved walk does not read: {error}") from None
        if saved.model != self.bundle.record.id or set(saved.coins) != {str(coin) for coin in self.coins}:
            raise AmlError(f"a saved walk belongs to {saved.model} on {', '.join(saved.coins)}")
        for coin, walk in self.coins.items():
            walk.restore(saved.coins[str(coin)])
        self.since_ms, self.bars, self.net, self.squares = saved.since_ms, saved.bars, saved.net, saved.squares


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """A finished walk: per bar its end in ms, int64 [n], and the net return summed over coins, float64 [n].

    `trade_nets`, float64 [m], are of all coins' trades, those that are open at the end among them.
    """

    ends_ms: Ints
    nets: Floats
    trade_nets: Floats

    def daily_returns(self) -> Floats:
        """Sums over whole UTC days; an incomplete first or last day is left out."""
        if len(self.nets) < 2:
            return np.zeros(0)
        interval_ms = int(np.diff(self.ends_ms).min())
        day = (self.ends_ms - 1) // DAY_MS
        days, first = np.unique(day, return_index=True)
        sums = np.add.reduceat(self.nets, first)
        whole = np.ones(len(days), np.bool_)
        whole[0] = self.ends_ms[0] - interval_ms <= days[0] * DAY_MS
        whole[-1] = whole[-1] and self.ends_ms[-1] >= (days[-1] + 1) * DAY_MS
        return np.asarray(sums[whole])


def walk_series(
    bundle: Bundle,
    series: Mapping[Coin, BarSeries],
    rules: Mapping[Coin, WalkRules],
    from_ms: int,
    funding: Mapping[Coin, FundingSeries] = MappingProxyType({}),
) -> Walked:
    """Walk a model over the bars that open at `from_ms` or later, warmed up on those before."""
    nets: dict[int, float] = {}
    trades: list[float | None] = []
    for coin, one in series.items():
        paid = funding.get(coin)
        frame, walk = compute_features(one, paid), CoinWalk(bundle.policy(), rules[coin])
        first = int(np.searchsorted(one.open_ms, from_ms))
        if first:
            began = max(start for start, _ in one.segments() if start < first)
            warm = (frame.values[row] for row in range(began, first) if frame.valid[row])
            walk.warm_up(warm, int(one.open_ms[first - 1]) + one.interval_ms)
        columns = zip(*(getattr(one, name)[first:].tolist() for name in ("open", "high", "low", "close")), strict=True)
        for row, values in enumerate(columns, start=first):
            open_ms, complete = int(one.open_ms[row]), bool(frame.valid[row])
            rate = None if paid is None else paid.rate_at(open_ms)
            net = walk.take(values, open_ms, one.interval_ms, frame.values[row] if complete else None, rate)
            end_ms = open_ms + one.interval_ms
            nets[end_ms] = nets.get(end_ms, 0.0) + net
            trades.append(walk.closed_net)
        trades.append(walk.open_net)
    ends = sorted(nets)
    known = [one for one in trades if one is not None]
    return Walked(np.array(ends, np.int64), np.array([nets[end] for end in ends]), np.array(known))


def _prices(bar: Bar) -> Prices:
    return float(bar.open), float(bar.high), float(bar.low), float(bar.close)
