"""Who decides, by which rules, over which bars: back-tests, and what a training is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aml100.config.loading import Settings
from aml100.config.models import Params
from aml100.domain.errors import UsageError
from aml100.domain.market import Instrument
from aml100.domain.units import Coin
from aml100.evaluation.backtest import Backtest
from aml100.evaluation.kernel import KernelRules
from aml100.evaluation.seen import Seen
from aml100.evaluation.standing import StatusSizes
from aml100.learning.reward import RewardConfig, Shaping
from aml100.learning.settings import TrainingSettings
from aml100.market.features import schema_digest
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.exchange import Exchange
from aml100.sim.staging import exchange_rules, hourly_rate, instruments_of, make_tape
from aml100.trading.core import TradingCore
from aml100.trading.policies import BASELINES, Policy
from aml100.trading.rules import TradingRules

if TYPE_CHECKING:
    from aml100.learning.bundle import Bundle
    from aml100.learning.dataset import CoinData

SIMULATED_BAND: Final = Decimal("0.5")
"""How far a simulated market order's price may lie from the decision close: far enough never to bind."""


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """Who decides: makes one policy a coin. `model` is the id of the model behind it, None for baselines.

    `place` is that model's folder, where it is known: its trials are written down beside it. `seen` is what it was made
    from, None where it does not say.
    """

    name: str
    make: Callable[[Coin], Policy]
    model: str | None = None
    place: Path | None = None
    seen: Seen | None = None

    @property
    def obeys_rules(self) -> bool:
        """All but buy-and-hold do."""
        return self.name != "buy-and-hold"


def choose_baseline(name: str, seed: int) -> PolicyChoice:
    """A baseline by name."""
    return PolicyChoice(name, lambda coin: BASELINES[name](seed))


def feature_schema(params: Params, interval_ms: int) -> str:
    """Of the features as they are configured: a model made for others is not used (GUARANTEES D24)."""
    return schema_digest(interval_ms, training_settings(params).regimes)


def choose_bundle(bundle: Bundle) -> PolicyChoice:
    """A trained model; each coin gets its own state of the encoder."""
    return PolicyChoice("model", lambda coin: bundle.policy(), bundle.record.id, seen=bundle.record.seen)


def model_folder(state_folder: Path, model: str) -> Path:
    """Where a model given by id or path lies; UsageError where there is none."""
    for folder in (Path(model), state_folder / "models" / model):
        if (folder / "bundle.json").is_file():
            return folder
    raise UsageError(f"--model {model}: no model there; allowed: a folder with bundle.json, or an id under models/")


def simulated_rules(params: Params, policy: PolicyChoice, interval_ms: int, warmup_bars: int) -> TradingRules:
    """The rules of a back-test. Guards of the wall clock, the book and the connection have no meaning there."""
    rules = TradingRules.from_params(
        params, interval_ms=interval_ms, warmup_bars=warmup_bars, live_guards=False, order_band=SIMULATED_BAND
    )
    return rules if policy.obeys_rules else rules.without_exits_and_risk()


def build_backtest(
    settings: Settings,
    series: Sequence[BarSeries],
    funding: Mapping[Coin, FundingSeries],
    policy: PolicyChoice,
    *,
    warmup_bars: int,
    on_progress: Callable[[int], None] | None = None,
) -> Backtest:
    """A back-test, ready to run."""
    params = settings.params
    coins = [one.coin for one in series]
    instruments = instruments_of(coins)
    rules = simulated_rules(params, policy, series[0].interval_ms, warmup_bars)
    core = TradingCore(instruments, rules, policy.make, salt="backtest")
    exchange = Exchange(list(instruments.values()), exchange_rules(params))
    return Backtest(
        core,
        exchange,
        make_tape(series, funding, params),
        warmup_bars=warmup_bars,
        deposit=params.backtest.initial_equity,
        on_progress=on_progress,
        statuses=_statuses(settings, rules),
    )


def _statuses(settings: Settings, rules: TradingRules) -> StatusSizes | None:
    """Sizes that follow the account's status, where that is configured and section 9 is on."""
    risk = settings.params.risk
    if not (risk.status_sizing and rules.risk.enabled):
        return None
    return StatusSizes(
        settings.objectives,
        max_drawdown=float(risk.max_dd_frac),
        interval_ms=rules.interval_ms,
        initial_equity=settings.params.backtest.initial_equity,
    )


# --- training ---------------------------------------------------------------------------------------------------


def kernel_rules(params: Params, instrument: Instrument) -> KernelRules:
    """The compiled transition's view of the configured rules: what a training prices actions by."""
    trading, costs = params.trading, params.backtest
    return KernelRules(
        take_profit=float(trading.take_profit_frac),
        stop_loss=float(trading.stop_loss_frac),
        taker_fee=float(costs.taker_fee_frac),
        slippage=float(costs.slippage_frac),
        notional_frac=float(trading.position_size_frac * trading.leverage),
        max_hold=trading.max_hold_bars,
        reverse_on_opposite=trading.on_opposite == "reverse",
        decision_bars=trading.decision_bars,
        sz_decimals=instrument.sz_decimals,
        px_decimals=-1 if instrument.px_decimals is None else instrument.px_decimals,
        maker_fee=float(costs.maker_fee_frac),
        entry_style=trading.entry_style,
        maker_timeout_bars=trading.maker_timeout_bars,
        atr_stop=trading.atr_stop_multiple,
        trailing_stop=float(trading.trailing_stop_frac),
    )


def training_data(
    params: Params, series: Iterable[BarSeries], funding: Mapping[Coin, FundingSeries]
) -> tuple[CoinData, ...]:
    """What a training reads: each series that has bars, with its coin's rules and what is known of its funding."""
    from aml100.learning.dataset import CoinData

    held = [one for one in series if len(one)]
    instruments, rate = instruments_of([one.coin for one in held]), float(hourly_rate(params) or 0)
    return tuple(
        CoinData(one, kernel_rules(params, instruments[one.coin]), funding.get(one.coin), rate) for one in held
    )


def training_settings(params: Params, epochs: int | None = None) -> TrainingSettings:
    """The learner's settings by their names in params.json."""
    given: dict[str, object] = {}
    for section in (params.trading, params.replay, params.training, params.model):
        given.update(section.model_dump())
    known = {field.name: given[field.name] for field in fields(TrainingSettings) if field.name in given}
    if epochs is not None:
        known["epochs"] = epochs
    reward = params.reward.model_dump() | {"shaping": Shaping(params.reward.shaping)}
    return TrainingSettings(**known, reward=RewardConfig(**reward))  # type: ignore[arg-type]
