"""Who trades, who is being tried, and who follows whom.

A finished model is refused with the reason, or becomes the challenger: it decides on the same live bars as the
champion, without orders, both priced by the same kernel net of costs. It is promoted only if it stood on its purged
hold-out AND in the shadow (GUARANTEES B5). Each step is journalled with the record of its decision, and the walks are
saved with the bars they know, so that a restart goes on in the middle of a shadow.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from aml100.control.protocol import ModelView, ShadowView
from aml100.domain.errors import AmlError, SafetyRefusal, UsageError
from aml100.domain.market import Bar
from aml100.domain.units import Coin
from aml100.engine.listener import Listeners
from aml100.engine.pairing import Pairing, ShadowState, shadow_view
from aml100.learning.bundle import Bundle, BundleError, load_bundle
from aml100.storage.database import Database
from aml100.storage.entries import Entry, ModelEvent, ModelVersion, ShadowSaved
from aml100.storage.reader import StateReader
from aml100.trading.core import TradingCore
from aml100.trading.policies import AwaitingModel, Policy
from aml100.training.messages import Done, HoldOutResult
from aml100.training.shadow import ModelWalk, WalkRules

log = logging.getLogger(__name__)

UNSOUND: Final = frozenset({"not_finite", "exploding_q", "constant_action", "never_trades"})
"""Findings with which no model may trade, whoever asks (GUARANTEES B15)."""

HOPELESS: Final = -3.0
"""A shadow ends early where it is behind by so many standard errors of the difference."""

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True, slots=True)
class SuccessionRules:
    """`lenient_first`: on a simulated market the first model need only be sound. `shadow_bars` of the decision bars."""

    walk: Mapping[Coin, WalkRules]
    shadow_bars: int
    lenient_first: bool
    schema: str


class Succession:
    """The models of one engine. Not thread-safe: everything runs between two events of the consumer."""

    def __init__(
        self, rules: SuccessionRules, database: Database, listeners: Listeners, champion: Bundle | None = None
    ) -> None:
        self._rules = rules
        self._database = database
        self._listeners = listeners
        self.champion = champion
        self.challenger: Bundle | None = None
        self.own_walk: ModelWalk | None = None
        """The champion's walk in the accounting of the shadow, since it was promoted."""
        self._shadow: ModelWalk | None = None
        self._pairing: Pairing | None = None
        self._versions: dict[str, ModelVersion] = {}
        self._facts: list[Entry] = []
        self._told: list[dict[str, object]] = []

    # --- a run begins -------------------------------------------------------------------------------------------

    def restore(self, core: TradingCore) -> None:
        """Take up the walks where the journal left them; a shadow whose model cannot be loaded is refused."""
        self._versions = {version.id: version for version in self._database.models()}
        if self.champion is not None:
            self._begin_own_walk(core)
            saved = self._database.shadow(CHAMPION)
            if saved is not None and saved.state is not None and saved.model == self.champion.id and self.own_walk:
                self._restore_walk(self.own_walk, saved.state)
        saved = self._database.shadow(CHALLENGER)
        if saved is None or saved.state is None:
            return
        version = self._versions.get(saved.model)
        try:
            state = msgspec.msgpack.decode(saved.state, type=ShadowState)
            bundle = load_bundle(Path(version.path if version else ""), schema=self._rules.schema)
            walk = ModelWalk(bundle, self._rules.walk, 0)
            walk.restore(state.walk)
        except (AmlError, msgspec.MsgspecError) as error:
            self._refuse(saved.model, None, f"its shadow cannot go on: {error}", core.state.now_ms, None)
            self._commit()
            return
        self.challenger, self._shadow, self._pairing = bundle, walk, state.pairing

    def _restore_walk(self, walk: ModelWalk, state: bytes) -> None:
        try:
            walk.restore(state)
        except AmlError as error:
            log.warning("the champion's walk begins anew: %s", error)

    def _begin_own_walk(self, core: TradingCore) -> None:
        """Its memory is the trading policy's own; its position is flat."""
        assert self.champion is not None
        walk = ModelWalk(self.champion, self._rules.walk, core.state.now_ms)
        for coin, one in walk.coins.items():
            one.last_end_ms = core.coin(coin).last_end_ms
            policy = core.policy(coin)
            if policy.name == "model" and coin not in core.cold:
                one.policy.restore(policy.export_state())
        self.own_walk = walk

    def report_damaged(self, damaged: Sequence[tuple[str, str]]) -> None:
        """Models that should have traded and cannot be loaded: said and journalled with the first step of the run."""
        now = "nobody" if self.champion is None else self.champion.id
        for model, reason in damaged:
            self._tell(model, "refused", f"{reason}; {now} trades instead", 0, {})

    def factory(self) -> Policy:
        """A policy of the champion; without one, a policy that waits for it."""
        return AwaitingModel() if self.champion is None else self.champion.policy()

    # --- bars ---------------------------------------------------------------------------------------------------

    def on_bars(self, bars: Sequence[Bar], core: TradingCore) -> list[Entry]:
        """Bars that the core has just taken in: both walks go on; answers what to journal with them."""
        if self.own_walk is None and self._shadow is None:
            return []
        rows = {bar.coin: core.last_row(bar.coin) for bar in bars}
        rates = {bar.coin: core.coin(bar.coin).fundings[-1][1] for bar in bars if core.coin(bar.coin).fundings}
        facts: list[Entry] = []
        theirs = 0.0
        if self.own_walk is not None:
            theirs = self.own_walk.step(bars, rows, rates)
            facts.append(ShadowSaved(CHAMPION, self.own_walk.bundle.id, self.own_walk.export_state()))
        if self._shadow is not None and self._pairing is not None:
            self._pairing.take(self._shadow.step(bars, rows, rates), theirs)
            state = ShadowState(self._shadow.export_state(), self._pairing)
            facts.append(ShadowSaved(CHALLENGER, self._shadow.bundle.id, msgspec.msgpack.encode(state)))
        return facts

    # --- a model is finished ------------------------------------------------------------------------------------

    def consider(self, bundle: Bundle, done: Done, now_ms: int) -> str:
        """Judge a finished training by health and hold-out.

        Returns: `refused`, `promote` (at once: the first on a simulated market) or `shadow` (to be warmed, then tried).
        """
        verdict = self._consider(bundle, done, now_ms)
        self._commit()
        return verdict

    def _consider(self, bundle: Bundle, done: Done, now_ms: int) -> str:
        judged = done.hold_out
        record: dict[str, object] = {
            "validation": asdict(done.validation),
            "health": [asdict(finding) for finding in done.health],
            "hold_out": None if judged is None else msgspec.to_builtins(judged),
        }
        words = f"validation net {done.validation.net_return:+.2%} of one notional"
        if judged is not None:
            words += f", hold-out {judged.net:+.2%} in {judged.trades} trades over {judged.bars} bars"
        self._keep(bundle, "trained", words, now_ms, metrics=json.dumps(record))
        self._tell(bundle.id, "trained", words, now_ms, record)
        failed = [finding for finding in done.health if not finding.healthy]
        unsound = [finding for finding in failed if finding.name in UNSOUND]
        if self.champion is None and self._rules.lenient_first and not unsound:
            return "promote"
        if failed:
            return self._refuse(bundle.id, bundle, f"{failed[0].name}: {failed[0].detail}", now_ms, record)
        reason = _hold_out_refusal(judged, self.champion)
        if reason:
            return self._refuse(bundle.id, bundle, reason, now_ms, record)
        return "shadow"

    def first_reason(self, done: Done) -> str:
        """Why a first model trades although its numbers need not show an edge."""
        failed = ", ".join(finding.name for finding in done.health if not finding.healthy)
        return f"first model on a simulated market{f' (not shown to have an edge: {failed})' if failed else ''}"

    def fresh_walk(self, bundle: Bundle, now_ms: int) -> ModelWalk:
        """A walk of a model that has seen nothing yet."""
        return ModelWalk(bundle, self._rules.walk, now_ms)

    def begin_shadow(self, walk: ModelWalk, judged: HoldOutResult | None, now_ms: int) -> None:
        """From the next bar on the warmed walk is tried against the champion."""
        bundle = walk.bundle
        against = "nobody" if self.champion is None else self.champion.id
        walk.since_ms = now_ms
        self.challenger, self._shadow = bundle, walk
        self._pairing = Pairing(against, judged)
        reason = f"in shadow against {against} for {self._rules.shadow_bars} bars"
        self._keep(bundle, CHALLENGER, reason, now_ms)
        self._tell(bundle.id, "shadow", reason, now_ms, {})
        self._commit()

    def poll(self, core: TradingCore, now_ms: int) -> None:
        """Between two events: end the shadow where its time is up or its case is hopeless."""
        if self._told:
            self._commit()
        pairing, walk = self._pairing, self._shadow
        if pairing is None or walk is None:
            return
        hopeless = pairing.bars >= self._rules.shadow_bars // 4 and pairing.sigmas < HOPELESS
        if pairing.bars < self._rules.shadow_bars and not hopeless:
            return
        record = pairing.record(walk)
        words = pairing.words()
        if pairing.ours > 0.0 and pairing.lead > 0.0 and not hopeless:
            policies = {coin: one.policy for coin, one in walk.coins.items()}
            assert pairing.hold_out is not None
            reason = f"hold-out {pairing.hold_out.net:+.2%} (score {pairing.hold_out.score:+.4f}), {words}"
            self.promote(walk.bundle, policies, reason, record, core, now_ms)
        else:
            why = "lost against the champion" if pairing.lead <= 0.0 else "earned nothing"
            self._refuse(walk.bundle.id, walk.bundle, f"{why}: {words}", now_ms, record)
            self._commit()

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
            self._keep(before, "retired", f"replaced by {bundle.id}", now_ms)
        self._end_shadow()
        self._seat(bundle, policies, core)
        self._keep(bundle, CHAMPION, reason, now_ms, parent=None if before is None else before.id)
        self._tell(bundle.id, "promoted", reason, now_ms, record)
        self._commit()

    def _seat(self, bundle: Bundle | None, policies: Mapping[Coin, Policy] | None, core: TradingCore) -> None:
        self.champion = bundle
        if policies is not None:
            core.install_policies(policies)
        else:
            core.adopt_policy(lambda coin: self.factory())
        if bundle is None:
            self.own_walk = None
            self._facts.append(ShadowSaved(CHAMPION, "", None))
        else:
            self._begin_own_walk(core)

    def promote_by_hand(self, model: str, by: str, core: TradingCore, now_ms: int) -> str:
        """An operator puts a model in charge, without shadow; one that is not sound is refused.

        Raises:
            UsageError: no such model, or its folder is not whole.
            SafetyRefusal: a check of its health that nobody may overrule has failed.
        """
        bundle = self._load_known(model)
        check_sound(bundle)
        if self.champion is not None and bundle.id == self.champion.id:
            return f"{bundle.id} is the champion already"
        if self.challenger is not None and self.challenger.id != bundle.id:
            self._refuse(self.challenger.id, self.challenger, f"{by} promoted {bundle.id}", now_ms, None)
        self.promote(bundle, None, f"by {by}", {}, core, now_ms)
        return f"{bundle.id} decides from the next bar on"

    def rollback(self, by: str, core: TradingCore, now_ms: int) -> str:
        """Back to the champion before this one; UsageError where there is none that loads."""
        bundle = self._predecessor()
        before = self.champion
        if before is not None:
            self._keep(before, "rolled_back", f"rolled back by {by} to {bundle.id}", now_ms)
            self._tell(before.id, "rolled_back", f"by {by}, back to {bundle.id}", now_ms, {})
        if self.challenger is not None:
            self._refuse(self.challenger.id, self.challenger, f"{by} rolled back to {bundle.id}", now_ms, None)
        self._seat(bundle, None, core)
        self._keep(bundle, CHAMPION, f"rolled back to by {by}", now_ms)
        self._tell(bundle.id, "promoted", f"rolled back to by {by}", now_ms, {})
        self._commit()
        return f"{bundle.id} decides from the next bar on"

    def retire(self, core: TradingCore, now_ms: int, reason: str) -> None:
        """The champion decides no more and no shadow goes on; ledger, phases and history stay."""
        if self.challenger is not None:
            self._refuse(self.challenger.id, self.challenger, reason, now_ms, None)
        if self.champion is not None:
            self._keep(self.champion, "retired", reason, now_ms)
            self._tell(self.champion.id, "retired", reason, now_ms, {})
            self._seat(None, None, core)
        self._commit()

    def _predecessor(self) -> Bundle:
        present = None if self.champion is None else self.champion.id
        seats = [e.model for e in self._database.model_events() if e.event == "promoted"]
        known = {version.id: version for version in self._database.models()}
        for model in reversed(seats):
            version = known.get(model)
            if model == present or version is None or version.state in ("rolled_back", "refused"):
                continue
            try:
                return load_bundle(Path(version.path), schema=self._rules.schema)
            except BundleError as error:
                log.warning("no way back to %s: %s", model, error)
        raise UsageError("rollback: there is no earlier champion that can be loaded")

    def _load_known(self, model: str) -> Bundle:
        version = next((one for one in self._database.models() if one.id == model), None)
        path = Path(version.path) if version is not None else Path(self._database.path).parent / "models" / model
        return load_bundle(path, schema=self._rules.schema)

    def _refuse(
        self, model: str, bundle: Bundle | None, reason: str, now_ms: int, record: Mapping[str, object] | None
    ) -> str:
        if bundle is not None:
            self._keep(bundle, "refused", reason, now_ms)
        elif model in self._versions:
            self._record(_in_state(self._versions[model], state="refused", reason=reason, updated_ms=now_ms))
        if bundle is None or (self.challenger is not None and model == self.challenger.id):
            self._end_shadow()
        self._tell(model, "refused", reason, now_ms, record or {})
        return "refused"

    def _end_shadow(self) -> None:
        self._facts.append(ShadowSaved(CHALLENGER, "", None))
        self.challenger = self._shadow = self._pairing = None

    # --- the journal --------------------------------------------------------------------------------------------

    def _keep(
        self, bundle: Bundle, state: str, reason: str, now_ms: int, *, metrics: str = "", parent: str | None = None
    ) -> None:
        known = self._versions.get(bundle.id)
        self._record(
            ModelVersion(
                bundle.id,
                now_ms if known is None else known.created_ms,
                now_ms,
                state,
                str(bundle.path or ""),
                parent=parent or (known.parent if known else None),
                seed=bundle.record.seed,
                metrics=metrics or (known.metrics if known else "{}"),
                reason=reason,
            )
        )

    def _record(self, version: ModelVersion) -> None:
        self._versions[version.id] = version
        self._facts.append(version)

    def _tell(self, model: str, event: str, reason: str, now_ms: int, record: Mapping[str, object]) -> None:
        self._facts.append(ModelEvent(now_ms, model, event, reason, json.dumps(record)))
        self._told.append({"id": model, "event": event, "reason": reason})

    def _commit(self) -> None:
        """What belongs to one step enters the journal in one transaction; then it is told."""
        facts, told, self._facts, self._told = self._facts, self._told, [], []
        if facts:
            self._database.journal(facts)
        for fields in told:
            self._listeners.on_event("model", fields)

    # --- what is shown ------------------------------------------------------------------------------------------

    def shadow_view(self) -> ShadowView | None:
        """The shadow under way."""
        walk, pairing = self._shadow, self._pairing
        return None if walk is None or pairing is None else shadow_view(walk, pairing, self._rules.shadow_bars)

    def model_view(self) -> ModelView:
        """The champion."""
        if self.champion is None:
            return ModelView(id=None, name="none yet")
        return self._view(self.champion.id, self._versions.get(self.champion.id))

    def model_views(self) -> tuple[ModelView, ...]:
        """Every version, the latest first."""
        ordered = sorted(self._versions.values(), key=lambda version: version.created_ms, reverse=True)
        return tuple(self._view(version.id, version) for version in ordered[:50])

    def _view(self, model: str, version: ModelVersion | None) -> ModelView:
        if version is None:
            assert self.champion is not None
            return ModelView(id=model, name=model, state=CHAMPION, validation=_net_pct(self.champion))
        judged = (json.loads(version.metrics) or {}).get("hold_out")
        return ModelView(
            id=model,
            name=model,
            trained_ms=version.created_ms,
            validation=None if not judged else float(judged["net"]) * 100,
            note=version.reason,
            state=version.state,
        )


def _in_state(version: ModelVersion, *, state: str, reason: str, updated_ms: int) -> ModelVersion:
    """A version with another state."""
    return ModelVersion(
        version.id,
        version.created_ms,
        updated_ms,
        state,
        version.path,
        version.parent,
        version.seed,
        version.metrics,
        reason,
    )


def check_sound(bundle: Bundle) -> None:
    """SafetyRefusal where a finding says that this model must not trade (GUARANTEES B15)."""
    for finding in bundle.record.health:
        if not finding.healthy and finding.name in UNSOUND:
            raise SafetyRefusal(f"{bundle.id} is refused: {finding.name}: {finding.detail}")


def _net_pct(bundle: Bundle) -> float:
    return bundle.record.validation.net_return * 100


def _hold_out_refusal(judged: HoldOutResult | None, champion: Bundle | None) -> str:
    """Why the hold-out keeps a model from being tried; empty where it does not."""
    if judged is None:
        return "too few bars for a purged hold-out"
    if judged.score <= 0.0:
        return (
            f"hold-out: net {judged.net:+.2%} less its noise {judged.stderr:.2%} is not above 0, "
            f"{judged.trades} trades over {judged.bars} bars"
        )
    if champion is not None and judged.champion == champion.id and judged.common_bars and judged.common_net is not None:
        theirs = judged.champion_net or 0.0
        if judged.common_net <= theirs:
            return (
                f"hold-out: {judged.common_net:+.2%} where the champion has {theirs:+.2%} "
                f"over the same {judged.common_bars} bars"
            )
    return ""


def load_champion(database: StateReader, schema: str) -> tuple[Bundle | None, tuple[tuple[str, str], ...]]:
    """The newest champion, or an earlier one, whose folder is whole; none where none is (GUARANTEES D24).

    Returns: the model, and (id, why) of those that should have traded and cannot.
    """
    kept = [one for one in database.models() if one.state in (CHAMPION, "retired") and one.path]
    if not any(one.state == CHAMPION for one in kept):
        return None, ()
    damaged: list[tuple[str, str]] = []
    for version in sorted(kept, key=lambda one: (one.state == CHAMPION, one.updated_ms), reverse=True):
        try:
            return load_bundle(Path(version.path), schema=schema), tuple(damaged)
        except BundleError as error:
            log.warning("model %s is not used: %s", version.id, error)
            damaged.append((version.id, str(error)))
    return None, tuple(damaged)
