"""Records what enters the core, at the price of a list's append.

`RecordedCore` is the decision core with an `InputLog` at its entrances. The log hands what it has to the journal with
the next step, so inputs stand in the same transaction as the decisions that they led to; they are packed on the
writer's thread. News that changes nothing by itself (a book, a tick) is kept only as it stood when something happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from aml100.domain.events import BarsClosed, CoreEvent, Effect, FeedChanged, Tick
from aml100.domain.market import AssetContext, Bar, BookTop, Instrument
from aml100.domain.units import DAY_MS, Coin
from aml100.engine.inputs import (
    CoreBegan,
    CoreInput,
    Deposited,
    PolicyChanged,
    PolicyNote,
    Ready,
    RulesChanged,
    WarmBar,
)
from aml100.engine.inputs import pack as pack_entries
from aml100.storage.inputs import Packed
from aml100.trading.core import TradingCore
from aml100.trading.policies import Policy
from aml100.trading.rules import TradingRules

_QUIET: Final = (Tick, BookTop, AssetContext)
_STANDING: Final = (Tick, BookTop, AssetContext, FeedChanged)


def _key(event: CoreEvent) -> tuple[str, str, str]:
    return type(event).__name__, getattr(event, "coin", ""), getattr(event, "channel", "")


class InputLog:
    """What entered since the journal last took it, in order."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, CoreInput]] = []
        self._quiet: dict[tuple[str, str, str], tuple[int, CoreEvent]] = {}
        self._standing: dict[tuple[str, str, str], CoreEvent] = {}

    def add(self, time_ms: int, one: CoreInput) -> None:
        """Something entered at this market time."""
        if self._quiet:
            self._entries.extend(self._quiet.values())
            self._quiet.clear()
        self._entries.append((time_ms, one))

    def saw(self, time_ms: int, event: CoreEvent, *, acted: bool) -> None:
        """An event was folded; `acted` says whether anything followed from it."""
        if isinstance(event, _STANDING):
            key = _key(event)
            self._standing[key] = event
            if not acted and isinstance(event, _QUIET):
                self._quiet.pop(key, None)
                self._quiet[key] = (time_ms, event)
                return
        self.add(time_ms, event)

    def standing(self) -> tuple[CoreEvent, ...]:
        """The latest event of each kind, coin and channel that a core keeps in no state."""
        return tuple(self._standing.values())

    def take(self) -> Sequence[tuple[int, CoreInput]]:
        """Everything since the last call."""
        entries, self._entries = self._entries, []
        return entries

    @staticmethod
    def pack(entries: Sequence[tuple[int, CoreInput]]) -> Packed:
        """As the journal keeps them; runs on the writer's thread."""
        times = [time_ms for time_ms, _ in entries]
        begins = any(isinstance(one, CoreBegan) for _, one in entries)
        return Packed(min(times), max(times), len(entries), begins, pack_entries(entries))


class RecordedCore(TradingCore):
    """A core whose inputs are recorded; behaves as the plain one does.

    Args:
        log: where inputs go.
        run_id, seed: of the run; the seed is that of its baseline policy.
        slippage: of the embedded venue's market fills; None elsewhere.
    """

    def __init__(
        self,
        instruments: Mapping[Coin, Instrument],
        rules: TradingRules,
        policies: Callable[[Coin], Policy],
        *,
        salt: str,
        state: bytes | None,
        log: InputLog,
        run_id: str,
        seed: int,
        slippage: Decimal | None = None,
    ) -> None:
        super().__init__(instruments, rules, policies, salt=salt, state=state)
        self._log, self._run_id, self._seed, self._slippage = log, run_id, seed, slippage
        self._noted_rules, self._noted_deposits = self.rules, self.ledger.book.deposits
        self._noted_policies = {coin: observer.policy for coin, observer in self.observers.items()}
        self._day = -1
        log.add(self.state.now_ms, self._as_begun(state, is_start=True))

    def process(self, event: CoreEvent) -> list[Effect]:
        self._note_changes()
        effects = super().process(event)
        self._noted_deposits = self.ledger.book.deposits  # what an event booked is in the event
        self._log.saw(self.state.now_ms, event, acted=bool(effects))
        if isinstance(event, BarsClosed) and event.end_ms // DAY_MS != self._day:
            if self._day >= 0:
                self._log.add(self.state.now_ms, self._as_begun(self.export_state(), is_start=False))
            self._day = event.end_ms // DAY_MS
        return effects

    def warm_up(self, bar: Bar) -> None:
        self._note_changes()
        super().warm_up(bar)
        self._log.add(bar.end_ms, WarmBar(bar))

    def begin(self, now_ms: int) -> list[Effect]:
        self._note_changes()
        self._log.add(now_ms, Ready(now_ms))
        return super().begin(now_ms)

    def _as_begun(self, state: bytes | None, *, is_start: bool) -> CoreBegan:
        return CoreBegan(
            run_id=self._run_id,
            is_start=is_start,
            instruments=tuple(self.instruments.values()),
            rules=self.rules,
            policies=tuple(self._note(coin) for coin in self.instruments),
            salt=self.state.orders.salt,
            state=state,
            slippage=self._slippage,
            standing=b"" if is_start else pack_entries((self.state.now_ms, one) for one in self._log.standing()),
        )

    def _note(self, coin: Coin) -> PolicyNote:
        policy = self.policy(coin)
        return PolicyNote(
            coin=coin,
            name=policy.name,
            seed=self._seed,
            model=getattr(policy, "model_id", None),
            path=getattr(policy, "path", None),
            memory=policy.export_state(),
        )

    def _note_changes(self) -> None:
        """Whatever was changed from outside since the last input enters before the next one."""
        now_ms = self.state.now_ms
        if self.rules is not self._noted_rules:
            self._noted_rules = self.rules
            self._log.add(now_ms, RulesChanged(self.rules))
        deposits = self.ledger.book.deposits
        if deposits != self._noted_deposits:
            self._log.add(now_ms, Deposited(deposits - self._noted_deposits))
            self._noted_deposits = deposits
        for coin, observer in self.observers.items():
            if self._noted_policies[coin] is not observer.policy:
                self._noted_policies[coin] = observer.policy
                self._log.add(now_ms, PolicyChanged(self._note(coin)))
