"""Who trades, who is being tried, and who follows whom.

A finished model is refused with the reason, or becomes the challenger: it decides on the same live bars as the
champion, without orders, both priced by the same kernel net of costs. It is promoted only if it stood on its purged
hold-out AND leads in the shadow by more than luck explains (GUARANTEES B5). Each step is journalled with the record of
its decision. `admission` says who may be tried, `walks` and `pairing` try, `modelbook` remembers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from aml100.control.protocol import ModelView, ShadowView
from aml100.domain.errors import AmlError
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.engine.admission import check_sound, first_reason, is_sound, refusal_of, words_of
from aml100.engine.listener import Listeners
from aml100.engine.modelbook import CHALLENGER, CHAMPION, ModelBook
from aml100.engine.pairing import NOBODY, ShadowRules
from aml100.engine.walks import Walks
from aml100.learning.bundle import Bundle, load_bundle
from aml100.storage.database import Database
from aml100.storage.entries import Entry
from aml100.trading.core import TradingCore
from aml100.trading.policies import AwaitingModel, Policy
from aml100.training.messages import Done, HoldOutResult
from aml100.training.shadow import ModelWalk, WalkRules

HOPELESS: Final = -3.0
"""A shadow ends early where it is behind by so many standard errors of the difference."""


@dataclass(frozen=True, slots=True)
class SuccessionRules:
    """`lenient_first`: on a simulated market the first model need only be sound."""

    walk: Mapping[Coin, WalkRules]
    shadow: ShadowRules
    lenient_first: bool
    schema: str


class Succession:
    """The models of one engine. Not thread-safe: everything runs between two events of the consumer."""

    def __init__(
        self, rules: SuccessionRules, database: Database, listeners: Listeners, champion: Bundle | None = None
    ) -> None:
        self._rules = rules
        self._book = ModelBook(database, listeners, rules.schema)
        self._walks = Walks(rules.walk, rules.shadow)
        self.champion = champion

    @property
    def challenger(self) -> Bundle | None:
        """The model that is being tried."""
        return self._walks.challenger

    @property
    def own_walk(self) -> ModelWalk | None:
        """The champion's walk in the accounting of the shadow, since it was promoted."""
        return self._walks.own

    # --- a run begins -------------------------------------------------------------------------------------------

    def restore(self, core: TradingCore) -> None:
        """Take up the walks where the journal left them; a shadow whose model cannot be loaded is refused."""
        book = self._book
        book.restore()
        if self.champion is not None:
            saved = book.saved_shadow(CHAMPION)
            kept = saved is not None and saved.model == self.champion.id
            self._walks.begin_own(self.champion, core, saved.state if saved is not None and kept else None)
        saved = book.saved_shadow(CHALLENGER)
        if saved is None or saved.state is None:
            return
        version = book.versions.get(saved.model)
        try:
            bundle = load_bundle(Path(version.path if version else ""), schema=self._rules.schema)
            self._walks.restore_shadow(bundle, saved.state)
        except (AmlError, msgspec.MsgspecError) as error:
            self._refuse(saved.model, None, f"its shadow cannot go on: {error}", core.state.now_ms, None)
            book.commit()

    def awaits_judgement(self, model: str) -> bool:
        """Whether a finished model has neither been refused nor tried nor seated."""
        versions = self._book.versions
        return model not in versions or versions[model].state == "trained"

    def report_damaged(self, damaged: Sequence[tuple[str, str]]) -> None:
        """Models that should have traded and cannot be loaded: said and journalled with the first step of the run."""
        now = NOBODY if self.champion is None else self.champion.id
        for model, reason in damaged:
            self._book.tell(model, "refused", f"{reason}; {now} trades instead", 0, {})

    def factory(self) -> Policy:
        """A policy of the champion; without one, a policy that waits for it."""
        return AwaitingModel() if self.champion is None else self.champion.policy()

    def on_bars(self, bars: Sequence[Bar], core: TradingCore) -> list[Entry]:
        """Bars that the core has just taken in: both walks go on; answers what to journal with them."""
        return self._walks.on_bars(bars, core)

    # --- a model is finished ------------------------------------------------------------------------------------

    def consider(self, bundle: Bundle, done: Done, now_ms: int) -> str:
        """Judge a finished training by health and hold-out.

        Returns: `refused`, `promote` (at once: the first on a simulated market) or `shadow` (to be warmed, then tried).
        """
        verdict = self._consider(bundle, done, now_ms)
        self._book.commit()
        return verdict

    def _consider(self, bundle: Bundle, done: Done, now_ms: int) -> str:
        judged, words = done.hold_out, words_of(done)
        record: dict[str, object] = {
            "validation": asdict(done.validation),
            "health": [asdict(finding) for finding in done.health],
            "hold_out": None if judged is None else msgspec.to_builtins(judged),
        }
        known = bundle.id in self._book.versions  # told already, by a run that ended before it was judged
        self._book.keep(bundle, "trained", words, now_ms, metrics=json.dumps(record))
        if not known:
            self._book.tell(bundle.id, "trained", words, now_ms, record)
        if self.champion is None and self._rules.lenient_first and is_sound(done):
            return "promote"
        reason = refusal_of(done, self.champion)
        return self._refuse(bundle.id, bundle, reason, now_ms, record) if reason else "shadow"

    def first_reason(self, done: Done) -> str:
        """Why a first model trades although its numbers need not show an edge."""
        return first_reason(done)

    def fresh_walk(self, bundle: Bundle, now_ms: int) -> ModelWalk:
        """A walk of a model that has seen nothing yet."""
        return self._walks.fresh(bundle, now_ms)

    def begin_shadow(self, walk: ModelWalk, judged: HoldOutResult | None, now_ms: int) -> None:
        """From the next bar on the warmed walk is tried against the champion."""
        against = NOBODY if self.champion is None else self.champion.id
        self._walks.begin_shadow(walk, against, judged, now_ms)
        reason = f"in shadow against {against} for {self._rules.shadow.bars} bars"
        self._book.keep(walk.bundle, CHALLENGER, reason, now_ms)
        self._book.tell(walk.bundle.id, "shadow", reason, now_ms, {})
        self._book.commit()

    def poll(self, core: TradingCore, now_ms: int) -> None:
        """Between two events: look at the shadow where its time has come or its case is hopeless."""
        if self._book.has_news:
            self._book.commit()
        pairing, walk, rules = self._walks.pairing, self._walks.shadow, self._rules.shadow
        if pairing is None or walk is None:
            return
        if pairing.bars >= rules.bars // 4 and pairing.sigmas < HOPELESS:
            reason = f"lost against the champion: {pairing.words()}"
            self._refuse(walk.bundle.id, walk.bundle, reason, now_ms, pairing.record(walk))
        elif pairing.is_due(rules):
            outcome = pairing.look(rules)
            record, words = pairing.record(walk), pairing.words()
            match outcome.verdict:
                case "promote":
                    assert pairing.hold_out is not None
                    reason = f"hold-out {pairing.hold_out.net:+.2%} (score {pairing.hold_out.score:+.4f}), {words}"
                    reason += f", {outcome.why}" if outcome.why else ""
                    self.promote(walk.bundle, self._walks.shadow_policies(), reason, record, core, now_ms)
                case "refuse":
                    self._refuse(walk.bundle.id, walk.bundle, f"{outcome.why}: {words}", now_ms, record)
                case "go on":
                    reason = f"the shadow goes on, {outcome.why}: {words}"
                    self._book.keep(walk.bundle, CHALLENGER, reason, now_ms)
                    self._book.tell(walk.bundle.id, "shadow", reason, now_ms, record)
        self._book.commit()

    # --- changes at the top -------------------------------------------------------------------------------------

    def promote(
        self,
        bundle: Bundle,
        policies: Mapping[Coin, Policy] | None,
        reason: str,
        record: Mapping[str, object],
        core: TradingCore,
        now_ms: int,
    ) -> None:
        """`bundle` decides from the next bar on; `policies` have seen the series, None: they are shown it now."""
        before = self.champion
        if before is not None and before.id != bundle.id:
            self._book.keep(before, "retired", f"replaced by {bundle.id}", now_ms)
        self._end_shadow()
        self._seat(bundle, policies, core)
        self._book.keep(bundle, CHAMPION, reason, now_ms, parent=None if before is None else before.id)
        self._book.tell(bundle.id, "promoted", reason, now_ms, record)
        self._book.commit()

    def _seat(self, bundle: Bundle | None, policies: Mapping[Coin, Policy] | None, core: TradingCore) -> None:
        self.champion = bundle
        if policies is not None:
            core.install_policies(policies)
        else:
            core.adopt_policy(lambda coin: self.factory())
        if bundle is None:
            self._walks.own = None
            self._book.save_shadow(CHAMPION, "", None)
        else:
            self._walks.begin_own(bundle, core)

    def promote_by_hand(self, model: str, by: str, core: TradingCore, now_ms: int) -> str:
        """An operator puts a model in charge, without shadow; one that is not sound is refused.

        Raises:
            UsageError: no such model, or its folder is not whole.
            SafetyRefusal: a check of its health that nobody may overrule has failed.
        """
        bundle = self._book.load(model)
        check_sound(bundle)
        if self.champion is not None and bundle.id == self.champion.id:
            return f"{bundle.id} is the champion already"
        self._refuse_challenger(f"{by} promoted {bundle.id}", now_ms, unless=bundle.id)
        self.promote(bundle, None, f"by {by}", {}, core, now_ms)
        return f"{bundle.id} decides from the next bar on"

    def rollback(self, by: str, core: TradingCore, now_ms: int) -> str:
        """Back to the champion before this one; UsageError where there is none that loads."""
        before = self.champion
        bundle = self._book.predecessor_of(None if before is None else before.id)
        if before is not None:
            self._book.keep(before, "rolled_back", f"rolled back by {by} to {bundle.id}", now_ms)
            self._book.tell(before.id, "rolled_back", f"by {by}, back to {bundle.id}", now_ms, {})
        self._refuse_challenger(f"{by} rolled back to {bundle.id}", now_ms)
        self._seat(bundle, None, core)
        self._book.keep(bundle, CHAMPION, f"rolled back to by {by}", now_ms)
        self._book.tell(bundle.id, "promoted", f"rolled back to by {by}", now_ms, {})
        self._book.commit()
        return f"{bundle.id} decides from the next bar on"

    def retire(self, core: TradingCore, now_ms: int, reason: str) -> None:
        """The champion decides no more and no shadow goes on; ledger, phases and history stay."""
        self._refuse_challenger(reason, now_ms)
        if self.champion is not None:
            self._book.keep(self.champion, "retired", reason, now_ms)
            self._book.tell(self.champion.id, "retired", reason, now_ms, {})
            self._seat(None, None, core)
        self._book.commit()

    def refuse(self, bundle: Bundle, reason: str, now_ms: int) -> None:
        """A finished model that is not to be tried."""
        self._refuse(bundle.id, bundle, reason, now_ms, None)
        self._book.commit()

    def _refuse_challenger(self, reason: str, now_ms: int, *, unless: str = "") -> None:
        challenger = self.challenger
        if challenger is not None and challenger.id != unless:
            self._refuse(challenger.id, challenger, reason, now_ms, None)

    def _refuse(
        self, model: str, bundle: Bundle | None, reason: str, now_ms: int, record: Mapping[str, object] | None
    ) -> str:
        if bundle is not None:
            self._book.keep(bundle, "refused", reason, now_ms)
        else:
            self._book.mark(model, "refused", reason, now_ms)
        challenger = self.challenger
        if bundle is None or (challenger is not None and model == challenger.id):
            self._end_shadow()
        self._book.tell(model, "refused", reason, now_ms, record or {})
        return "refused"

    def _end_shadow(self) -> None:
        self._book.save_shadow(CHALLENGER, "", None)
        self._walks.end_shadow()

    # --- what is shown ------------------------------------------------------------------------------------------

    def shadow_view(self) -> ShadowView | None:
        """The shadow under way."""
        return self._walks.view()

    def model_view(self) -> ModelView:
        """The champion."""
        return self._book.view_of(self.champion)

    def model_views(self) -> tuple[ModelView, ...]:
        """Every version, the latest first."""
        return self._book.views()
