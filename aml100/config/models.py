"""What an operator may set: the three files of `config/`, key by key, typed, ranged and documented.

The models hold the defaults; `config/*.json` are these defaults written out (`config init` writes the same text).
Percent exists only in the files: where a rule consumes one, the model hands out its fraction (`_frac`), a `Decimal`
made from the shortest text of the number for money rules, so that 1.8 % is exactly 0.018. Values are frozen, NaN and
infinities are refused, `true` is no number, and an unknown key is an error. A limit of 0 is switched off where its
description says so.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aml100.domain.units import INTERVALS, decimal_from_float

BarInterval = Literal["1m", "5m", "15m", "1h"]
OnOpposite = Literal["close", "reverse"]
EntryStyle = Literal["taker", "maker", "maker_then_taker"]
OnExit = Literal["keep", "flatten"]
GatesMode = Literal["honest", "document"]
Theme = Literal["auto", "dark", "light", "colour-blind", "16-colour"]
Shaping = Literal["on", "pure"]

Percent = Annotated[float, Field(ge=0, le=100)]
Positive = Annotated[float, Field(gt=0, le=1e12)]
NonNegative = Annotated[float, Field(ge=0, le=1e12)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
AtLeastOne = Annotated[int, Field(ge=1, le=1_000_000_000)]


def percent_as_frac(percent: float) -> Decimal:
    """The exact fraction of a percent as it was written.

    >>> percent_as_frac(0.045)
    Decimal('0.00045')
    """
    return decimal_from_float(percent) / 100


class Section(BaseModel):
    """One object of a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


class TradingParams(Section):
    take_profit_pct: Percent = Field(1.8, description="Target, % of the entry price; 0 = none.")
    stop_loss_pct: Percent = Field(0.6, description="Stop, % of the entry price; 0 = none (never on mainnet).")
    position_size_pct: Percent = Field(4.0, description="Margin of one position, % of equity.")
    leverage: int = Field(10, ge=1, le=100, description="Notional over margin: notional = equity x size x leverage.")
    atr_stop_multiple: NonNegative = Field(0.0, description="Stop at so many ATR(14) of the decision bar; 0 = off.")
    trailing_stop_pct: Percent = Field(0.0, description="The stop follows the best close at this distance, %; 0 = off.")
    max_hold_bars: Count = Field(720, description="Bars after which a position is closed; 0 = never.")
    on_opposite: OnOpposite = Field("close", description="What the opposite signal does to a position.")
    entry_style: EntryStyle = Field("taker", description="How entries are placed; exits are always taker.")
    maker_timeout_bars: AtLeastOne = Field(1, description="Bars a resting entry waits before it is cancelled or taken.")
    on_exit: OnExit = Field("keep", description="Open positions at a clean stop: kept with their stops, or flattened.")
    decision_bars: AtLeastOne = Field(1, description="A decision every so many bars, aligned to the epoch.")
    min_q_gap: NonNegative = Field(0.0, description="An entry needs a larger gap of the two best Q values.")
    confidence_sizing: bool = Field(True, description="Scale the size 0.5 to 1.5 with the Q gap.")
    interval: BarInterval = Field("1m", description="Length of a bar; the interval of a --data file wins.")

    @model_validator(mode="after")
    def _trailing_stop_starts_somewhere(self) -> Self:
        if self.trailing_stop_pct and not (self.stop_loss_pct or self.atr_stop_multiple):
            raise ValueError(
                f"trading.trailing_stop_pct: {self.trailing_stop_pct:g} is refused; allowed: 0 where neither "
                "stop_loss_pct nor atr_stop_multiple gives the stop that it moves"
            )
        return self

    @property
    def take_profit_frac(self) -> Decimal:
        return percent_as_frac(self.take_profit_pct)

    @property
    def stop_loss_frac(self) -> Decimal:
        return percent_as_frac(self.stop_loss_pct)

    @property
    def trailing_stop_frac(self) -> Decimal:
        return percent_as_frac(self.trailing_stop_pct)

    @property
    def position_size_frac(self) -> Decimal:
        return percent_as_frac(self.position_size_pct)

    @property
    def interval_ms(self) -> int:
        return INTERVALS[self.interval]


class ConsoleParams(Section):
    keys: dict[str, str] = Field(default_factory=dict, description="Key by binding id, to remap the console.")
    theme: Theme = Field("auto", description="Colours; auto = what the terminal can show; NO_COLOR wins.")
    fps: float = Field(4.0, ge=0.1, le=30, description="Redraws of the text per second.")


class RewardParams(Section):
    shaping: Shaping = Field("pure", description="pure = profit net of costs alone; on = with all terms.")
    pnl_scale: Positive = Field(25.0, description="Factor on the step's net return.")
    win_multiplier: Positive = Field(1.5, description="Factor on the profit of a winning exit.")
    streak_bonus_step: NonNegative = Field(0.1, description="Bonus per win in a row, in reward units.")
    streak_bonus_max: NonNegative = Field(0.3, description="Most that wins in a row can add, in reward units.")
    trend_bonus: NonNegative = Field(0.05, description="Bonus for holding with the trend, in reward units.")
    hold_cap: Count = Field(3, description="HOLDs in a row after which the penalty stops growing.")
    hold_floor: float = Field(-0.15, ge=-1e6, le=0, description="The penalty never falls under this, reward units.")


class ModelParams(Section):
    lstm_layers: int = Field(2, ge=1, le=8, description="Layers of the encoder.")
    lstm_hidden: int = Field(128, ge=4, le=4096, description="Width of the encoder.")
    head_hidden: int = Field(64, ge=4, le=4096, description="Width of the head's hidden layer.")
    window_bars: int = Field(60, ge=1, le=10_000, description="Bars of the Gymnasium observation and of the burn-in.")
    regime_trend_pct: Percent = Field(1.0, description="SMA20 beyond SMA50 by so many % is a trend.")
    regime_trend_sigmas: Positive = Field(1.0, description="The volatility-scaled variant, in standard deviations.")

    @property
    def regime_trend_frac(self) -> float:
        return float(percent_as_frac(self.regime_trend_pct))


class TrainingParams(Section):
    epochs: AtLeastOne = Field(500, description="Epochs at most.")
    early_stop_patience: AtLeastOne = Field(150, description="Epochs without a better validation before the end.")
    learning_rate: float = Field(8e-5, gt=0, le=1, description="AdamW's first step size.")
    search_rate: Positive = Field(
        3.0, description="Factor on it after 3 epochs in which none beat not trading; 1 = none."
    )
    huber_delta: Positive = Field(10.0, description="Errors up to it count squared; in one bar's standard deviations.")
    gradient_clip_norm: Positive = Field(1.0, description="Largest norm of a gradient.")
    weight_decay: Share = Field(1e-5, description="AdamW's decay.")
    cosine_t_0: AtLeastOne = Field(50, description="Epochs to the first warm restart of the learning rate.")
    cosine_t_mult: int = Field(2, ge=1, le=100, description="Each stretch to the next restart is so many times longer.")
    cosine_eta_min: Share = Field(1e-6, description="Smallest learning rate.")
    epsilon_start: Share = Field(1.0, description="Share of random actions at first.")
    epsilon_end: Share = Field(0.03, description="Share of random actions at last.")
    epsilon_decay: float = Field(0.985, gt=0, le=1, description="Factor on that share per epoch.")
    validation_fraction: float = Field(0.2, gt=0, lt=1, description="Last share of the bars, for validation only.")
    embargo_bars: Count = Field(0, description="Bars left out between the parts; 0 = the longest look-back.")
    bias_threshold: Share = Field(0.7, description="Mean share of one action above which it is penalised.")
    bias_weight: NonNegative = Field(0.1, description="Weight of that penalty in the loss; 0 = off.")
    gamma: float = Field(0.998, gt=0, lt=1, description="Discount per bar.")
    n_step: int = Field(3, ge=1, le=100, description="Bars of a multi-step return.")
    target_update: float = Field(0.005, gt=0, le=1, description="Share of the online weights mixed into the target.")
    batch_stretches: int = Field(32, ge=1, le=4096, description="Stretches of bars in a batch.")
    burn_in_bars: int = Field(32, ge=0, le=10_000, description="Bars of a stretch that only warm the LSTM up.")
    stretch_bars: int = Field(192, ge=1, le=100_000, description="Bars of a stretch that are learned from.")
    input_noise: NonNegative = Field(0.1, description="Noise on scaled features while learning, standard deviations.")
    mirror: bool | Literal["auto"] = Field(
        "auto",
        description="Turn a random half of the stretches upside down: no drift is learned. auto = unless an unsigned "
        "feature, as volume, tells up from down in the training part.",
    )
    average_update: float = Field(0.003, gt=0, le=1, description="Least share of each step in the averaged weights.")
    selection_sigmas: NonNegative = Field(2.0, description="Standard errors taken off a checkpoint's net return.")
    members: int = Field(1, ge=1, le=64, description="Seeds trained into one model, their Q values averaged.")
    tensorboard: bool = Field(False, description="Write TensorBoard event files beside the checkpoints.")
    retrain_hours: NonNegative = Field(24.0, description="Hours of market time between trainings; 0 = only on need.")
    budget_seconds: Positive = Field(300.0, description="Wall seconds of a training beside trading, at most.")
    bootstrap_seconds: Positive = Field(30.0, description="Wall seconds of the first one, while nothing trades yet.")
    shadow_hours: Positive = Field(24.0, description="Hours of market time that a challenger is tried in shadow.")
    shadow_level: Share = Field(0.05, description="Chance at most that luck promotes a challenger; 1 = any lead.")
    threads: int = Field(1, ge=1, le=256, description="Threads of torch; results are bit-equal per count.")


class ReplayParams(Section):
    capacity: AtLeastOne = Field(50_000, description="Transitions kept.")
    alpha: Share = Field(0.6, description="Exponent on priorities, applied once.")
    beta: Share = Field(0.4, description="Exponent of importance weights at first.")
    beta_end: Share = Field(1.0, description="The same at the end of training.")


class BacktestParams(Section):
    initial_equity_usd: Positive = Field(10_000.0, description="Deposit of a back-test and of the embedded venue, USD.")
    risk_checks: bool = Field(True, description="Whether the limits of `risk` act in a back-test.")
    funding_rate_sim: bool = Field(True, description="Charge funding in hours without a settled rate.")
    funding_rate_pct: float = Field(0.01, ge=-100, le=100, description="That rate, % per 8 hours; positive: longs pay.")
    taker_fee_pct: float = Field(0.045, ge=-10, le=10, description="Fee of taker fills, % of notional.")
    maker_fee_pct: float = Field(0.015, ge=-10, le=10, description="Fee of maker fills, % of notional; a rebate < 0.")
    slippage_pct: float = Field(0.01, ge=0, le=50, description="What every market fill is worsened by, % of price.")

    @property
    def initial_equity(self) -> Decimal:
        """USD, exactly as written."""
        return decimal_from_float(self.initial_equity_usd)

    @property
    def funding_rate_hour_frac(self) -> Decimal:
        """The simulated rate per hour: an eighth of the configured one; 0 where `funding_rate_sim` is false."""
        return percent_as_frac(self.funding_rate_pct) / 8 if self.funding_rate_sim else Decimal(0)

    @property
    def taker_fee_frac(self) -> Decimal:
        return percent_as_frac(self.taker_fee_pct)

    @property
    def maker_fee_frac(self) -> Decimal:
        return percent_as_frac(self.maker_fee_pct)

    @property
    def slippage_frac(self) -> Decimal:
        return percent_as_frac(self.slippage_pct)


class RiskParams(Section):
    circuit_breaker_dd_pct: Percent = Field(3.5, description="Drawdown that cancels, flattens, pauses, %; 0 = off.")
    hard_stop_dd_pct: Percent = Field(4.5, description="Drawdown that halts until a person resumes, %; 0 = off.")
    max_dd_pct: Percent = Field(5.0, description="Drawdown that must never be seen, %; 0 = off.")
    breaker_pause_minutes: NonNegative = Field(1440.0, description="Minutes of market time the breaker pauses.")
    max_daily_loss_pct: Percent = Field(0.0, description="Loss since 00:00 UTC that ends entries, %; 0 = off.")
    cooldown_losses: Count = Field(0, description="Losses in a row that start a cooldown; 0 = off.")
    cooldown_minutes: NonNegative = Field(0.0, description="Minutes of that cooldown; 0 = off.")
    max_daily_trades: Count = Field(0, description="Entries per UTC day; 0 = off.")
    min_seconds_between_trades: NonNegative = Field(0.0, description="Seconds from one entry to the next; 0 = off.")
    max_position_notional_usd: NonNegative = Field(0.0, description="Largest notional of a position, USD; 0 = off.")
    max_leverage: NonNegative = Field(10.0, description="Largest leverage an order may carry; 0 = off.")
    max_orders_per_minute: Count = Field(60, description="Orders a minute; protective ones always pass; 0 = off.")
    price_collar_pct: Percent = Field(1.0, description="Farthest an order may be from the book, %; 0 = off.")
    stale_seconds: Positive = Field(30.0, description="Wall seconds without a message that make a feed stale.")
    max_loop_lag_ms: NonNegative = Field(1000.0, description="Event-loop lag that ends entries, ms; 0 = off.")
    max_clock_skew_ms: NonNegative = Field(1000.0, description="Offset to the venue's clock, ms; 0 = off.")
    max_rejects_in_row: Count = Field(5, description="Refusals by the venue in a row that end entries; 0 = off.")
    min_liquidation_distance_pct: Percent = Field(2.0, description="Least distance to liquidation, %; 0 = off.")
    status_sizing: bool = Field(False, description="Size -25 % in status POOR, +10 % in GOOD.")
    drawdown_scaling: bool = Field(
        False, description="Entries shrink with the drawdown, to the floor at the breaker's."
    )
    drawdown_scaling_floor: Share = Field(0.5, description="Share of the size that is left there.")

    @property
    def circuit_breaker_dd_frac(self) -> Decimal:
        return percent_as_frac(self.circuit_breaker_dd_pct)

    @property
    def hard_stop_dd_frac(self) -> Decimal:
        return percent_as_frac(self.hard_stop_dd_pct)

    @property
    def max_dd_frac(self) -> Decimal:
        return percent_as_frac(self.max_dd_pct)

    @property
    def max_daily_loss_frac(self) -> Decimal:
        return percent_as_frac(self.max_daily_loss_pct)

    @property
    def price_collar_frac(self) -> Decimal:
        return percent_as_frac(self.price_collar_pct)

    @property
    def min_liquidation_distance_frac(self) -> Decimal:
        return percent_as_frac(self.min_liquidation_distance_pct)

    @property
    def max_position_notional(self) -> Decimal:
        """USD, exactly as written; 0 = off."""
        return decimal_from_float(self.max_position_notional_usd)


class StorageParams(Section):
    retain_days: AtLeastOne = Field(14, description="Days that recorded inputs stay before they are archived.")


class Params(Section):
    """`params.json`."""

    trading: TradingParams = TradingParams()
    console: ConsoleParams = ConsoleParams()
    reward: RewardParams = RewardParams()
    model: ModelParams = ModelParams()
    training: TrainingParams = TrainingParams()
    replay: ReplayParams = ReplayParams()
    backtest: BacktestParams = BacktestParams()
    risk: RiskParams = RiskParams()
    storage: StorageParams = StorageParams()


class PhaseObjectives(Section):
    """What one phase asks for, and the evidence that honest gates want beside it (GUARANTEES E11); null = not asked."""

    monthly_return_min_pct: float = Field(ge=-100, le=1000, description="Return over 30 days, %, at least.")
    sharpe_min: float = Field(ge=-100, le=100, description="Sharpe ratio (daily, annualised by 365), at least.")
    profit_factor_min: float = Field(ge=0, le=1000, description="Gross profit over gross loss, at least.")
    win_rate_min_pct: Percent = Field(description="Winning trades, %, at least.")
    max_drawdown_pct: Percent = Field(description="Fall from the peak, %, at most.")
    trade_density_min_pct: Percent = Field(description="Trades over bars, %, at least.")
    cycles: AtLeastOne = Field(description="Successful cycles before the phase is done.")
    sharpe_bound_min: float | None = Field(
        None, ge=-100, le=100, description="One-sided lower 95 % bound of the Sharpe ratio must exceed this."
    )
    dsr_min: Share | None = Field(None, description="Deflated Sharpe ratio, a probability, at least.")
    pbo_max: Share | None = Field(None, description="Probability of back-test overfitting must stay under this.")
    trades_min: Count = Field(100, description="Closed trades, at least.")
    drawdown_probability_max_pct: Percent = Field(
        10.0, description="Bootstrapped chance of breaking max_drawdown_pct within 30 days, %, at most."
    )


def _default_phases() -> dict[str, PhaseObjectives]:
    def phase(
        growth: float, sharpe: float, factor: float, wins: float, density: float, cycles: int
    ) -> dict[str, float]:
        return {
            "monthly_return_min_pct": growth,
            "sharpe_min": sharpe,
            "profit_factor_min": factor,
            "win_rate_min_pct": wins,
            "max_drawdown_pct": 5.0,
            "trade_density_min_pct": density,
            "cycles": cycles,
        }

    asked = {
        "Foundation": phase(2.0, 0.5, 0.8, 40.0, 0.3, 3) | {"sharpe_bound_min": 0.0},
        "Growth": phase(8.0, 1.0, 1.0, 45.0, 0.5, 5) | {"dsr_min": 0.90},
        "Production": phase(15.0, 1.5, 1.3, 50.0, 0.7, 10) | {"dsr_min": 0.95, "pbo_max": 0.2},
    }
    return {name: PhaseObjectives.model_validate(values) for name, values in asked.items()}


class Objectives(Section):
    """`objectives.json`. The order of `phases` is the order in which they are lived through."""

    cycle_hours: Positive = Field(1.0, description="Hours between operational checks.")
    cycle_days: float = Field(30.0, gt=0, le=3650, description="Evaluation window in days of market time; may be 0.25.")
    gates_mode: GatesMode = Field("honest", description="honest asks for evidence; document takes the plain figures.")
    provisional_advances: bool = Field(True, description="Provisional cycles count on sim, paper and testnet.")
    step_back_after_failures: Count = Field(0, description="Failed cycles in a row that cost a phase; 0 = never.")
    live_min_phase: str = Field("Production", description="Phase that mainnet orders need.")
    phases: dict[str, PhaseObjectives] = Field(default_factory=_default_phases, description="The phases, in order.")

    @model_validator(mode="after")
    def _live_phase_exists(self) -> Self:
        if self.live_min_phase not in self.phases:
            names = ", ".join(self.phases) or "none is defined"
            raise ValueError(f"live_min_phase: {self.live_min_phase!r} is no phase; allowed: {names}")
        return self

    @property
    def phase_names(self) -> tuple[str, ...]:
        return tuple(self.phases)


class NetworkConfig(Section):
    """Where one network is reached."""

    rest_url: str = Field(pattern=r"^https?://[^\s/]+$", description="Base URL of the REST interface.")
    ws_url: str = Field(pattern=r"^wss?://[^\s]+$", description="URL of the websocket.")


class VenueConfig(Section):
    """`venue.json`. Seconds here are wall seconds."""

    mainnet: NetworkConfig = NetworkConfig(
        rest_url="https://api.hyperliquid.xyz", ws_url="wss://api.hyperliquid.xyz/ws"
    )
    testnet: NetworkConfig = NetworkConfig(
        rest_url="https://api.hyperliquid-testnet.xyz", ws_url="wss://api.hyperliquid-testnet.xyz/ws"
    )
    request_timeout_seconds: float = Field(10.0, gt=0, le=600, description="A request without an answer: unknown.")
    start_retry_seconds: float = Field(30.0, ge=0, le=3600, description="How long an absent venue is tried at start.")
    ping_seconds: float = Field(30.0, gt=0, lt=60, description="Between pings; the venue drops a line idle for 60 s.")
    idle_timeout_seconds: float = Field(50.0, gt=0, le=3600, description="Silence after which we reconnect.")
    reconnect_min_seconds: float = Field(0.25, gt=0, le=60, description="First pause before a reconnect.")
    reconnect_max_seconds: float = Field(30.0, gt=0, le=3600, description="Longest pause before a reconnect.")
    bar_grace_seconds: float = Field(2.0, ge=0, le=60, description="Wait after a bar's end for its last update.")
    order_expiry_seconds: float = Field(15.0, gt=0, le=600, description="The venue ignores an order older than this.")
    protection_seconds: float = Field(5.0, gt=0, le=60, description="A stop must be seen resting within this.")
    slippage_bound_pct: Percent = Field(5.0, description="Farthest a market order may fill from the touch, %.")
    ip_weight_per_minute: AtLeastOne = Field(1200, description="Request weight the venue allows an IP a minute.")
    ip_weight_reserve: Count = Field(200, description="Part of it that only cancel, close and stop may use.")
    address_actions_reserve: Count = Field(200, description="Actions of the address kept for the same.")

    @property
    def slippage_bound_frac(self) -> Decimal:
        return percent_as_frac(self.slippage_bound_pct)

    @model_validator(mode="after")
    def _seconds_fit(self) -> Self:
        if self.idle_timeout_seconds <= self.ping_seconds:
            raise ValueError(
                f"idle_timeout_seconds: {self.idle_timeout_seconds:g} is refused; "
                f"allowed: more than ping_seconds ({self.ping_seconds:g})"
            )
        if self.reconnect_min_seconds > self.reconnect_max_seconds:
            raise ValueError(
                f"reconnect_min_seconds: {self.reconnect_min_seconds:g} is refused; "
                f"allowed: at most reconnect_max_seconds ({self.reconnect_max_seconds:g})"
            )
        return self

    @model_validator(mode="after")
    def _reserve_fits(self) -> Self:
        if self.ip_weight_reserve >= self.ip_weight_per_minute:
            raise ValueError(
                f"ip_weight_reserve: {self.ip_weight_reserve} is refused; "
                f"allowed: less than ip_weight_per_minute ({self.ip_weight_per_minute})"
            )
        return self
