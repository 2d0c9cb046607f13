"""The tables of state.db, one class each: what is kept, under which names, and what may stand there only once.

Money, prices and sizes are decimal text; times are integer UTC milliseconds; JSON is text. `seq` numbers every row in
the order in which the journal took it, over all tables, so that the order of events can be recovered exactly. `book`
is the ledger a row belongs to, `venue` or `paper`: both may live in one file and never mix.

The classes are the single source of column names; `migrations.py` creates them and a test holds the two together.
Annotations are evaluated here at import, as SQLModel needs them.
"""

from sqlalchemy import Column, Index, LargeBinary, func, literal_column
from sqlmodel import Field, SQLModel


class MetaRow(SQLModel, table=True):
    """Facts about the file itself: schema_version, network, account, halt_latch (JSON, present while halted)."""

    __tablename__ = "meta"
    key: str = Field(primary_key=True)
    value: str


class CoreStateRow(SQLModel, table=True):
    """The decision core's exported state, one row a book, replaced in the transaction of the step that made it."""

    __tablename__ = "core_state"
    book: str = Field(primary_key=True)
    seq: int
    state: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class RunRow(SQLModel, table=True):
    __tablename__ = "runs"
    run_id: str = Field(primary_key=True)
    started_ms: int
    venue: str
    execution: str
    book: str
    coins: str
    origin: str
    policy: str
    seed: int | None
    pid: int
    options: str
    stopped_ms: int | None
    reason: str
    exit_code: int | None
    equity: str | None


class OrderRow(SQLModel, table=True):
    """An order of ours in its latest state. `reason` is the latest word on it, `intent_reason` why it was made."""

    __tablename__ = "orders"
    __table_args__ = (
        Index("orders_cloid", "book", "cloid", unique=True),
        Index("orders_status", "book", "status"),
    )
    seq: int = Field(primary_key=True)
    cloid: str
    oid: int | None
    run_id: str
    book: str
    coin: str
    side: str
    kind: str
    price: str
    size: str
    reduce_only: int
    status: str
    created_ms: int
    sent_ms: int | None
    updated_ms: int
    reason: str
    tif: str | None
    trigger_price: str | None
    intent_reason: str


class FillRow(SQLModel, table=True):
    __tablename__ = "fills"
    __table_args__ = (Index("fills_fill_id", "book", "fill_id", unique=True),)
    seq: int = Field(primary_key=True)
    fill_id: str
    cloid: str | None
    run_id: str
    book: str
    coin: str
    side: str
    price: str
    size: str
    fee: str
    liquidity: str
    time_ms: int
    tid: int
    oid: int
    is_liquidation: int
    kind: str | None
    reason: str
    realised: str
    position_after: str


class LedgerRow(SQLModel, table=True):
    """The balance is the plain sum of `amount`; kind, coin and ref together occur once a book."""

    __tablename__ = "ledger"
    __table_args__ = (
        Index(
            "ledger_ref",
            "book",
            "kind",
            func.coalesce(literal_column("coin"), literal_column("''")),
            "ref",
            unique=True,
        ),
    )
    id: int = Field(primary_key=True)
    time_ms: int
    kind: str
    coin: str | None
    amount: str
    ref: str
    run_id: str
    book: str


class EquityRow(SQLModel, table=True):
    """Equity marked at the close of a bar; `marks` is JSON {coin: mark} of the positions held, where given."""

    __tablename__ = "equity"
    __table_args__ = (Index("equity_time", "book", "time_ms", unique=True),)
    seq: int = Field(primary_key=True)
    time_ms: int
    equity: str
    balance: str
    drawdown_pct: float
    peak: str
    marks: str
    run_id: str
    book: str


class DecisionRow(SQLModel, table=True):
    """One a coin and decision bar. `why` is `order`, the first gate that refused, or `hold`."""

    __tablename__ = "decisions"
    __table_args__ = (Index("decisions_bar", "book", "coin", "bar_ms", unique=True),)
    seq: int = Field(primary_key=True)
    time_ms: int
    coin: str
    bar_ms: int
    action: int
    q_hold: float | None
    q_buy: float | None
    q_sell: float | None
    outcome: str
    gates: str
    regime: str
    confidence: float
    why: str
    run_id: str
    book: str


class TradeRow(SQLModel, table=True):
    """A round trip from flat to flat."""

    __tablename__ = "trades"
    __table_args__ = (Index("trades_key", "book", "coin", "side", "entry_ms", "exit_ms", unique=True),)
    seq: int = Field(primary_key=True)
    coin: str
    side: str
    entry_ms: int
    entry_price: str
    exit_ms: int
    exit_price: str
    size: str
    pnl: str
    fees: str
    funding: str
    exit_reason: str
    bars_held: int
    run_id: str
    book: str


class EventRow(SQLModel, table=True):
    """A line of the headless event stream, as it was written; `event_seq` is its own `seq` within the run."""

    __tablename__ = "events"
    __table_args__ = (Index("events_time", "time_ms"),)
    seq: int = Field(primary_key=True)
    event_seq: int
    time_ms: int
    type: str
    line: str
    run_id: str
    book: str


class InputRow(SQLModel, table=True):
    """What entered the decision core in one transaction, packed; see `storage/inputs.py`.

    `from_ms` and `to_ms` are market time, `wall_ms` when it was written; `begins`: a core begins among them.
    """

    __tablename__ = "inputs"
    __table_args__ = (Index("inputs_wall", "wall_ms"),)
    seq: int = Field(primary_key=True)
    run_id: str
    book: str
    wall_ms: int
    from_ms: int
    to_ms: int
    count: int
    begins: int
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class CommandRow(SQLModel, table=True):
    """What an operator asked for, who, when, and what came of it."""

    __tablename__ = "commands"
    id: int = Field(primary_key=True)
    time_ms: int
    name: str
    by: str
    result: str


class CycleRow(SQLModel, table=True):
    __tablename__ = "cycles"
    book: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    phase: str
    from_ms: int
    to_ms: int
    source: str
    verdict: str
    counted: int
    metrics: str
    model: str
    network: str
    run_id: str
    state: str = Field(default="", sa_column_kwargs={"server_default": ""})


class PhaseRow(SQLModel, table=True):
    """Each step from one phase to another; the latest row of a book names the present one."""

    __tablename__ = "phases"
    seq: int = Field(primary_key=True)
    time_ms: int
    from_phase: str
    to_phase: str
    reason: str
    provisional: int
    network: str
    book: str
    run_id: str


class ModelRow(SQLModel, table=True):
    """A model version. `state` is trained, champion, challenger, refused, rolled_back or retired."""

    __tablename__ = "models"
    id: str = Field(primary_key=True)
    created_ms: int
    updated_ms: int
    state: str
    path: str
    parent: str | None
    seed: int | None
    metrics: str
    reason: str


class TrainingRow(SQLModel, table=True):
    """A training. `state` is running, interrupted, done, failed or cancelled."""

    __tablename__ = "trainings"
    id: str = Field(primary_key=True)
    started_ms: int
    ended_ms: int | None
    state: str
    cause: str
    seed: int | None
    epoch: int
    epochs: int
    model: str | None
    validation: float | None
    reason: str
    run_id: str
    market_ms: int | None


class ModelEventRow(SQLModel, table=True):
    """What happened to models, step by step, each with the record of its decision."""

    __tablename__ = "model_events"
    seq: int = Field(primary_key=True)
    time_ms: int
    model: str
    event: str
    reason: str
    detail: str
    book: str
    run_id: str


class ShadowRow(SQLModel, table=True):
    """The latest state of the champion's and the challenger's walk without orders, written with the bars it knows."""

    __tablename__ = "shadows"
    book: str = Field(primary_key=True)
    role: str = Field(primary_key=True)
    model: str
    state: bytes | None = Field(sa_column=Column(LargeBinary, nullable=True))


class StatusCheckRow(SQLModel, table=True):
    __tablename__ = "checks"
    book: str = Field(primary_key=True)
    time_ms: int = Field(primary_key=True)
    status: str
    reason: str
    figures: str
    health: str
    triggers: str
    run_id: str


class ParameterRow(SQLModel, table=True):
    """Tuned parameters, version by version; at most one is active."""

    __tablename__ = "parameters"
    id: str = Field(primary_key=True)
    created_ms: int
    updated_ms: int
    state: str
    source: str
    changes: str
    reason: str


class TrialRow(SQLModel, table=True):
    """Every configuration ever evaluated, aborted ones too: what the deflated Sharpe ratio has to answer for."""

    __tablename__ = "trials"
    id: str = Field(primary_key=True)
    time_ms: int
    source: str
    state: str
    seed: int | None
    sharpe: float | None
    observations: int | None
    skew: float | None
    kurtosis: float | None
    parameters: str


IN_ORDER_OF_ARRIVAL = ("models", "parameters", "runs", "trainings", "trials")
"""Tables without a number of their own that are read in the order in which their rows came: by SQLite's own `rowid`,
which PostgreSQL is given as a column."""
