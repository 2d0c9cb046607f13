"""The operator protocol: frozen snapshots one way, commands the other, over the engine's Unix socket.

A frame is one JSON object on one line. The client opens with `Hello`; the engine answers `Welcome` or `Goodbye`, then
sends a `Snapshot` a few times a second (newest wins; nothing is queued for a slow reader) and an `Answer` to each
`Request`. Numbers here are for people and are floats or decimal text; the journal has the exact ones.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

PROTOCOL_VERSION = 1
MODELS_SHOWN = 50


class ObjectiveView(msgspec.Struct, frozen=True):
    """One objective of the phase. `state` is FAIL, PROVISIONAL, PASS or UNKNOWN; percent where the name says so.

    `bound` is what the figure is worth at 95 % confidence over the phase so far, one-sided on the side that hurts (from
    above for a drawdown); None where the record is too short to say.
    """

    name: str
    value: float | None
    threshold: float
    met: bool | None
    state: str
    note: str = ""
    bound: float | None = None


class EvidenceView(msgspec.Struct, frozen=True):
    """One piece of evidence that honest gates ask for, over the phase so far; `days_to_go` None: unknown or never.

    `note` says why there is no value.
    """

    name: str
    value: float | None
    threshold: float
    met: bool
    days_to_go: float | None = None
    note: str = ""


class PhaseView(msgspec.Struct, frozen=True):
    name: str
    number: int
    cycles_done: int
    cycles_required: int
    objectives: tuple[ObjectiveView, ...] = ()
    provisional: bool = False
    cycle_number: int = 0
    cycle_progress: float = 0.0
    """Share of the running cycle's window that has passed, 0 to 1."""
    cycle_days: float = 30.0
    last_verdict: str = ""
    last_source: str = ""
    """What the last cycle was judged by: `realised`, or `backtest` (out of sample, the ledger had too little)."""
    gates_mode: str = "honest"
    evidence: tuple[EvidenceView, ...] = ()
    """Empty in mode `document`."""
    days_to_go: float | None = None
    """Until the evidence suffices, if things go on as in this phase so far; None: unknown or never."""
    luck: float | None = None
    """How often a strategy without any skill shows a Sharpe ratio as good as this phase's, 0 to 1."""
    obstacle: str = ""
    """One sentence: why no cycle of this run can pass, whatever it earns; empty where one can."""
    feasibility: str = ""
    """One sentence: whether the targets of the phase can hold together, and what true Sharpe ratio they imply."""
    failures_in_row: int = 0
    step_back_after: int = 0
    """Failed cycles in a row that cost a phase; 0 is never."""
    live_phase: str = ""
    """The phase earned by PASS cycles on testnet or mainnet data, paper included; empty: none."""
    live_min_phase: str = ""
    status: str = ""
    """CRITICAL, POOR, MODERATE, GOOD, or empty before the first operational check."""
    status_reason: str = ""


class PositionView(msgspec.Struct, frozen=True):
    coin: str
    size: str
    entry_price: str
    mark: str
    unrealised: str
    stop_price: str | None
    target_price: str | None
    stop_oid: int | None
    protected: bool
    stop_age_s: float | None
    bars_held: int
    opened_ms: int = 0
    close_cost: str = ""
    """USD that closing it at the market now would take in fees and assumed slippage; empty: unknown."""


class OpenOrderView(msgspec.Struct, frozen=True):
    cloid: str
    oid: int | None
    coin: str
    side: str
    kind: str
    price: str
    size: str
    status: str
    reduce_only: bool
    created_ms: int = 0
    reason: str = ""
    """Why it was made."""
    is_market: bool = False
    """It takes what is offered at once; `price` is the worst that it accepts."""


class TradeView(msgspec.Struct, frozen=True):
    coin: str
    side: str
    entry_ms: int
    exit_ms: int
    entry_price: str
    exit_price: str
    size: str
    pnl: str
    exit_reason: str
    fees: str = "0"
    funding: str = "0"
    bars_held: int = 0


class GateView(msgspec.Struct, frozen=True):
    name: str
    ok: bool
    reason: str


class DecisionView(msgspec.Struct, frozen=True):
    """`why` is the one sentence for the screen: what was done, or why nothing was."""

    coin: str
    bar_ms: int
    action: str
    q: tuple[float, float, float] | None
    confidence: float
    regime: str
    outcome: str
    why: str
    gates: tuple[GateView, ...] = ()


class FeedView(msgspec.Struct, frozen=True):
    """`state` is LIVE, STALE or OFFLINE; `revised`: how often a bar was told otherwise after it had been decided on."""

    coin: str
    channel: str
    state: str
    age_ms: int
    gap_bars: int = 0
    out_of_order: int = 0
    revised: int = 0


class RiskView(msgspec.Struct, frozen=True):
    """One guard: its value now, its limit, and whether it trips. `unit` such as %, USD, s."""

    guard: str
    state: str
    value: float | None
    limit: float | None
    unit: str
    reason: str = ""


class TrainingView(msgspec.Struct, frozen=True):
    """`state` is idle, running, done, failed or cancelled."""

    state: str
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    validation: float | None = None
    """Net profit of the greedy policy on the validation part, in percent of one notional."""
    eta_s: float | None = None
    seed: int | None = None
    device: str = ""
    reason: str = ""
    losses: tuple[float, ...] = ()
    validations: tuple[float, ...] = ()
    learning_rate: float | None = None
    epsilon: float | None = None
    """Share of random actions while learning, 0 to 1."""
    actions: tuple[float, float, float] | None = None
    """Shares of HOLD, BUY and SELL of the greedy policy on the validation part."""
    cause: str = ""
    """Why it was begun: bootstrap, schedule, status, bias, drift, operator or reset."""
    next_ms: int | None = None
    """Market time of the next scheduled training; None: none is scheduled."""


class ModelView(msgspec.Struct, frozen=True):
    """One model version. `state` is trained, challenger, champion, refused, rolled_back or retired."""

    id: str | None
    name: str
    trained_ms: int | None = None
    validation: float | None = None
    """Net profit on the purged hold-out, percent of one notional."""
    note: str = ""
    state: str = ""


class ShadowView(msgspec.Struct, frozen=True):
    """A challenger that decides on the same bars as the champion, without orders; both priced net of costs.

    Percent of one unit of notional, over the same bars.
    """

    id: str
    since_ms: int
    bars: int
    bars_needed: int
    trades: int
    net_pct: float
    champion_id: str
    champion_net_pct: float
    note: str = ""


class HealthView(msgspec.Struct, frozen=True):
    """One named check of the live policy's health over the last `cycle_hours` and more (GUARANTEES B15)."""

    name: str
    healthy: bool
    detail: str


class BudgetView(msgspec.Struct, frozen=True):
    """Requests to the venue: IP weight used in the last minute, actions left of the address's allowance."""

    weight_used: int
    weight_limit: int
    actions_used: int
    actions_cap: int


class AccessView(msgspec.Struct, frozen=True):
    """What may keep us from trading though nothing is broken: clock, key, nonces (GUARANTEES B19).

    `state` is ok, amber or red, with `reason`; None is unknown or does not apply.
    """

    state: str = "ok"
    reason: str = ""
    clock_offset_ms: int | None = None
    agent_valid_until_ms: int | None = None
    nonce_refusals: int = 0


class PerformanceView(msgspec.Struct, frozen=True):
    """Realised figures of this ledger, net of fees and funding. None is unknown, never a made-up number."""

    trades: int = 0
    win_rate_pct: float | None = None
    profit_factor: float | None = None
    sharpe: float | None = None
    sharpe_low: float | None = None
    sharpe_high: float | None = None
    sharpe_note: str = ""
    return_pct: float = 0.0
    max_drawdown_pct: float = 0.0
    fees_usd: float = 0.0
    funding_usd: float = 0.0
    actions: tuple[int, int, int] = (0, 0, 0)
    """Decisions so far by action: HOLD, BUY, SELL."""
    in_sample: bool = False
    """The model was made from bars that it has traded on: no evidence."""


class LogLine(msgspec.Struct, frozen=True):
    time_ms: int
    level: str
    text: str


class AlertView(msgspec.Struct, frozen=True):
    """Something an operator should know of. `code` names its place in the runbook (docs/operating.md).

    Times are wall time. `level` is warning or alarm; an alert that is over has `active` False.
    """

    id: int
    code: str
    level: str
    text: str
    first_ms: int
    last_ms: int
    count: int = 1
    active: bool = True


class ActionCount(msgspec.Struct, frozen=True, array_like=True):
    """Decisions by action over one of equal stretches of bars."""

    time_ms: int
    hold: int
    buy: int
    sell: int


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """Everything a screen shows, at one instant. `mode` is SIM, PAPER, TESTNET or LIVE."""

    seq: int
    time_ms: int
    """Market time."""
    wall_ms: int
    state: str
    state_reason: str
    mode: str
    venue: str
    execution: str
    origin: str
    """Where the market data comes from, e.g. `synthetic:regimes`."""
    speed: float
    run_id: str
    pid: int
    uptime_s: float
    phase: PhaseView
    equity: str
    balance: str
    initial_equity: str
    drawdown_pct: float
    equity_curve: tuple[tuple[int, float], ...] = ()
    """(time_ms, equity), thinned to at most 240 points."""
    price_curve: tuple[tuple[int, float], ...] = ()
    """(open_ms, close) of the latest bars of `price_coin`, at most 240."""
    price_coin: str = ""
    """The coin of the oldest open position, else the first one."""
    action_curve: tuple[ActionCount, ...] = ()
    """What the policy chose over time, at most 60 stretches of equal length, oldest first."""
    alerts: tuple[AlertView, ...] = ()
    """The latest first, at most 50."""
    performance: PerformanceView = msgspec.field(default_factory=PerformanceView)
    positions: tuple[PositionView, ...] = ()
    open_orders: tuple[OpenOrderView, ...] = ()
    recent_orders: tuple[OpenOrderView, ...] = ()
    """Orders that are done, the latest first, at most 30."""
    trades: tuple[TradeView, ...] = ()
    """The latest first, at most 50."""
    decisions: tuple[DecisionView, ...] = ()
    """The latest first, at most 50."""
    why_histogram: tuple[tuple[str, int], ...] = ()
    feeds: tuple[FeedView, ...] = ()
    risk: tuple[RiskView, ...] = ()
    training: TrainingView = TrainingView(state="idle")
    model: ModelView = ModelView(id=None, name="none")
    models: tuple[ModelView, ...] = ()
    """The latest first, at most MODELS_SHOWN."""
    shadow: ShadowView | None = None
    """The challenger that is being tried, if one is."""
    health: tuple[HealthView, ...] = ()
    loop_lag_ms: float = 0.0
    order_latency_ms: float | None = None
    budget: BudgetView = BudgetView(0, 1200, 0, 10_000)
    access: AccessView = AccessView()
    log: tuple[LogLine, ...] = ()
    """The latest last, at most 200."""


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """`who` is journalled with each command; `read_only` viewers may send none. `want` is snapshots or nothing."""

    who: str
    version: int = PROTOCOL_VERSION
    read_only: bool = False
    want_snapshots: bool = True
    fps: float = 4.0


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """`controller` says whether this client holds the one lease that may command."""

    pid: int
    run_id: str
    controller: bool
    options: dict[str, Any]
    """What the engine was started with, so that a second `run` can tell whether it means the same one."""
    seen_ms: int = 0
    """Wall time at which the last console left: alerts after it were missed."""
    version: int = PROTOCOL_VERSION


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    reason: str


class Request(msgspec.Struct, frozen=True, tag="request"):
    """A command by name: halt, resume, pause, flatten, retrain, reset, promote, rollback, stop, status, why, prices,
    take_over, cancel_training, resume_training, backup.

    `arguments` are the command's own, e.g. {"coin": "BTC", "last": 20} for why, {"model": "m-..."} for promote,
    {"coin": "ETH"} for prices, which answers {"coin", "points"} as `price_curve` has them, for any coin of the engine.
    """

    id: int
    command: str
    arguments: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """`exit_code` is what a one-shot command ends with; `data` is its JSON document, `text` its one line."""

    id: int
    ok: bool
    text: str
    exit_code: int = 0
    data: dict[str, Any] | None = None


ClientFrame: TypeAlias = Hello | Request
EngineFrame: TypeAlias = Welcome | Goodbye | Snapshot | Answer

_encoder = msgspec.json.Encoder()
_client_decoder = msgspec.json.Decoder(ClientFrame)
_engine_decoder = msgspec.json.Decoder(EngineFrame)


def encode_frame(frame: ClientFrame | EngineFrame) -> bytes:
    """One line, newline included."""
    return _encoder.encode(frame) + b"\n"


def decode_client_frame(line: bytes) -> ClientFrame:
    """msgspec.DecodeError or ValidationError where it is not one."""
    frame: ClientFrame = _client_decoder.decode(line)
    return frame


def decode_engine_frame(line: bytes) -> EngineFrame:
    """msgspec.DecodeError or ValidationError where it is not one."""
    frame: EngineFrame = _engine_decoder.decode(line)
    return frame
