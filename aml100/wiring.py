"""Builds the object graph: which market, which venue, which policy, which stores. Nothing below knows the choice.

Two graphs share most of their parts: a back-test (core, matching engine, tape) and an engine (core, client, socket,
state.db, and with the embedded venue also its server, matching engine and tape).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aml100.config.loading import Settings
from aml100.config.models import Params
from aml100.domain.errors import UsageError
from aml100.domain.market import Instrument, instrument_for
from aml100.domain.orders import Action
from aml100.domain.units import Coin
from aml100.evaluation.backtest import Backtest
from aml100.market.series import BarSeries, FundingSeries
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.scenario import Tape
from aml100.trading.core import TradingCore
from aml100.trading.policies import BASELINES, AwaitingModel, Policy, Scheduled
from aml100.trading.rules import TradingRules

if TYPE_CHECKING:
    from aml100.learning.bundle import Bundle

SIMULATED_BAND: Final = Decimal("0.5")
"""How far a simulated market order's price may lie from the decision close: far enough never to bind."""

DEFAULT_WARMUP_BARS: Final = 1000


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """Who decides: makes one policy a coin. `model` is the id of the model behind it, None for baselines."""

    name: str
    make: Callable[[Coin], Policy]
    model: str | None = None

    @property
    def obeys_rules(self) -> bool:
        """All but buy-and-hold do."""
        return self.name != "buy-and-hold"


def choose_baseline(name: str, seed: int) -> PolicyChoice:
    """A baseline by name."""
    return PolicyChoice(name, lambda coin: BASELINES[name](seed))


def choose_scheduled(name: str, actions: Mapping[int, Action]) -> PolicyChoice:
    """Actions fixed beforehand by the bar's open time: the oracle."""
    return PolicyChoice(name, lambda coin: Scheduled(name, actions))


def choose_awaiting_model() -> PolicyChoice:
    """No model yet."""
    return PolicyChoice("model", lambda coin: AwaitingModel())


def choose_bundle(bundle: Bundle) -> PolicyChoice:
    """A trained model; each coin gets its own state of the encoder."""
    return PolicyChoice("model", lambda coin: bundle.policy(), bundle.id)


def model_folder(state_folder: Path, model: str) -> Path:
    """Where a model given by id or path lies; UsageError where there is none."""
    for folder in (Path(model), state_folder / "models" / model):
        if (folder / "bundle.json").is_file():
            return folder
    raise UsageError(f"--model {model}: no model there; allowed: a folder with bundle.json, or an id under models/")


def warmup_for(rows: int, asked: int | None) -> int:
    """History before the first decision: as asked, else 1000, and by itself at most half of the bars.

    UsageError where what was asked leaves nothing to play.
    """
    if asked is None:
        return min(DEFAULT_WARMUP_BARS, rows // 2)
    if asked > rows // 2:
        raise UsageError(f"--warmup-bars {asked}: the data has {rows} bars; allowed: at most half, {rows // 2}")
    return asked


def exchange_rules(params: Params) -> ExchangeRules:
    """Costs of the simulated market, as configured."""
    costs = params.backtest
    return ExchangeRules(costs.taker_fee_frac, costs.maker_fee_frac, costs.slippage_frac)


def hourly_rate(params: Params) -> Decimal | None:
    """What simulated funding charges an hour where there is no history of it; None: nothing."""
    return params.backtest.funding_rate_hour_frac or None


def make_tape(series: Sequence[BarSeries], funding: Mapping[Coin, FundingSeries], params: Params) -> Tape:
    """Bars and rates on one time line."""
    return Tape(series, funding=funding, hourly_rate=hourly_rate(params))


def instruments_of(coins: Sequence[Coin]) -> dict[Coin, Instrument]:
    """Rules of coins without asking a venue, numbered as a simulated venue lists them."""
    return {coin: instrument_for(coin, number) for number, coin in enumerate(coins)}


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
    )
