"""The two walks without orders beside a run: the champion's own, and the challenger's that is being tried.

Both are priced by the same kernel net of costs, on the bars that the core takes in, and are saved with them, so that a
restart goes on in the middle of a shadow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from aml100.control.protocol import ShadowView
from aml100.domain.errors import AmlError
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.engine.modelbook import CHALLENGER, CHAMPION
from aml100.engine.pairing import Pairing, ShadowRules, ShadowState, shadow_view
from aml100.learning.bundle import Bundle
from aml100.storage.entries import Entry, ShadowSaved
from aml100.trading.core import TradingCore
from aml100.trading.policies import Policy
from aml100.training.messages import HoldOutResult
from aml100.training.shadow import ModelWalk, WalkRules

log = logging.getLogger(__name__)


class Walks:
    """`own` is the champion's since it was seated; `shadow` the challenger's, with its `pairing`."""

    def __init__(self, rules: Mapping[Coin, WalkRules], shadow_rules: ShadowRules) -> None:
        self._rules = rules
        self._shadow_rules = shadow_rules
        self.own: ModelWalk | None = None
        self.shadow: ModelWalk | None = None
        self.pairing: Pairing | None = None

    @property
    def challenger(self) -> Bundle | None:
        return None if self.shadow is None else self.shadow.bundle

    def fresh(self, bundle: Bundle, now_ms: int) -> ModelWalk:
        """A walk of a model that has seen nothing yet."""
        return ModelWalk(bundle, self._rules, now_ms)

    def begin_own(self, champion: Bundle, core: TradingCore, saved: bytes | None = None) -> None:
        """Its memory is the trading policy's own, its position flat; or both as they were `saved`."""
        ends_ms = (core.coin(coin).last_end_ms for coin in core.instruments)
        walk = self.fresh(champion, max(core.state.now_ms, *ends_ms))  # a core that has only been warmed up has no now
        for coin, one in walk.coins.items():
            one.last_end_ms = core.coin(coin).last_end_ms
            policy = core.policy(coin)
            if policy.name == "model" and coin not in core.cold:
                one.policy.restore(policy.export_state())
        self.own = walk
        if saved is not None:
            try:
                walk.restore(saved)
            except AmlError as error:
                log.warning("the champion's walk begins anew: %s", error)

    def begin_shadow(self, walk: ModelWalk, against: str, judged: HoldOutResult | None, now_ms: int) -> None:
        """From the next bar on the warmed walk is tried."""
        walk.since_ms = now_ms
        self.shadow = walk
        self.pairing = Pairing(against, judged, block_bars=self._shadow_rules.block_bars)

    def restore_shadow(self, bundle: Bundle, saved: bytes) -> None:
        """A shadow goes on; AmlError or MsgspecError where what was saved does not read."""
        state = msgspec.msgpack.decode(saved, type=ShadowState)
        walk = self.fresh(bundle, 0)
        walk.restore(state.walk)
        self.shadow, self.pairing = walk, state.pairing

    def end_shadow(self) -> None:
        self.shadow = self.pairing = None

    def shadow_policies(self) -> dict[Coin, Policy]:
        """The challenger's policies as the shadow leaves them: they have seen the series."""
        assert self.shadow is not None
        return {coin: one.policy for coin, one in self.shadow.coins.items()}

    def on_bars(self, bars: Sequence[Bar], core: TradingCore) -> list[Entry]:
        """Bars that the core has just taken in: both walks go on; answers what to journal with them."""
        if self.own is None and self.shadow is None:
            return []
        rows = {bar.coin: core.last_row(bar.coin) for bar in bars}
        rates = {bar.coin: core.coin(bar.coin).fundings[-1][1] for bar in bars if core.coin(bar.coin).fundings}
        facts: list[Entry] = []
        theirs = 0.0
        if self.own is not None:
            theirs = self.own.step(bars, rows, rates)
            facts.append(ShadowSaved(CHAMPION, self.own.bundle.id, self.own.export_state()))
        if self.shadow is not None and self.pairing is not None:
            self.pairing.take(self.shadow.step(bars, rows, rates), theirs)
            state = ShadowState(self.shadow.export_state(), self.pairing)
            facts.append(ShadowSaved(CHALLENGER, self.shadow.bundle.id, msgspec.msgpack.encode(state)))
        return facts

    def view(self) -> ShadowView | None:
        """The shadow under way."""
        if self.shadow is None or self.pairing is None:
            return None
        return shadow_view(self.shadow, self.pairing, self._shadow_rules)
