"""The shape of a state, version by version.

Version n is reached from n - 1 by the n-th script, a list of statements in SQLite's types; a store runs each in a
transaction of its own, together with `VERSION_SQL`. A step that has been released is never edited, only followed by
another. The statements are written out rather than derived from the table classes, since those move on and a migration
must not; a test holds the sum of all steps to the classes.
"""

from __future__ import annotations

from typing import Final

_FIRST = """
CREATE TABLE commands (
    id INTEGER NOT NULL PRIMARY KEY, time_ms INTEGER NOT NULL, name TEXT NOT NULL, by TEXT NOT NULL,
    result TEXT NOT NULL
);
CREATE TABLE core_state (
    book TEXT NOT NULL PRIMARY KEY, seq INTEGER NOT NULL, state BLOB NOT NULL
);
CREATE TABLE cycles (
    book TEXT NOT NULL, number INTEGER NOT NULL, phase TEXT NOT NULL, from_ms INTEGER NOT NULL, to_ms
    INTEGER NOT NULL, source TEXT NOT NULL, verdict TEXT NOT NULL, counted INTEGER NOT NULL, metrics
    TEXT NOT NULL, model TEXT NOT NULL, network TEXT NOT NULL, run_id TEXT NOT NULL, PRIMARY KEY (book,
    number)
);
CREATE TABLE decisions (
    seq INTEGER NOT NULL PRIMARY KEY, time_ms INTEGER NOT NULL, coin TEXT NOT NULL, bar_ms INTEGER NOT
    NULL, action INTEGER NOT NULL, q_hold REAL, q_buy REAL, q_sell REAL, outcome TEXT NOT NULL, gates
    TEXT NOT NULL, regime TEXT NOT NULL, confidence REAL NOT NULL, why TEXT NOT NULL, run_id TEXT NOT
    NULL, book TEXT NOT NULL
);
CREATE UNIQUE INDEX decisions_bar ON decisions (book, coin, bar_ms);
CREATE TABLE equity (
    seq INTEGER NOT NULL PRIMARY KEY, time_ms INTEGER NOT NULL, equity TEXT NOT NULL, balance TEXT NOT
    NULL, drawdown_pct REAL NOT NULL, peak TEXT NOT NULL, marks TEXT NOT NULL, run_id TEXT NOT NULL,
    book TEXT NOT NULL
);
CREATE UNIQUE INDEX equity_time ON equity (book, time_ms);
CREATE TABLE events (
    seq INTEGER NOT NULL PRIMARY KEY, event_seq INTEGER NOT NULL, time_ms INTEGER NOT NULL, type TEXT
    NOT NULL, line TEXT NOT NULL, run_id TEXT NOT NULL, book TEXT NOT NULL
);
CREATE INDEX events_time ON events (time_ms);
CREATE TABLE fills (
    seq INTEGER NOT NULL PRIMARY KEY, fill_id TEXT NOT NULL, cloid TEXT, run_id TEXT NOT NULL, book TEXT
    NOT NULL, coin TEXT NOT NULL, side TEXT NOT NULL, price TEXT NOT NULL, size TEXT NOT NULL, fee TEXT
    NOT NULL, liquidity TEXT NOT NULL, time_ms INTEGER NOT NULL, tid INTEGER NOT NULL, oid INTEGER NOT
    NULL, is_liquidation INTEGER NOT NULL, kind TEXT, reason TEXT NOT NULL, realised TEXT NOT NULL,
    position_after TEXT NOT NULL
);
CREATE UNIQUE INDEX fills_fill_id ON fills (book, fill_id);
CREATE TABLE ledger (
    id INTEGER NOT NULL PRIMARY KEY, time_ms INTEGER NOT NULL, kind TEXT NOT NULL, coin TEXT, amount
    TEXT NOT NULL, ref TEXT NOT NULL, run_id TEXT NOT NULL, book TEXT NOT NULL
);
CREATE UNIQUE INDEX ledger_ref ON ledger (book, kind, coalesce(coin, ''), ref);
CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL
);
CREATE TABLE models (
    id TEXT NOT NULL PRIMARY KEY, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, state TEXT
    NOT NULL, path TEXT NOT NULL, parent TEXT, seed INTEGER, metrics TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE orders (
    seq INTEGER NOT NULL PRIMARY KEY, cloid TEXT NOT NULL, oid INTEGER, run_id TEXT NOT NULL, book TEXT
    NOT NULL, coin TEXT NOT NULL, side TEXT NOT NULL, kind TEXT NOT NULL, price TEXT NOT NULL, size TEXT
    NOT NULL, reduce_only INTEGER NOT NULL, status TEXT NOT NULL, created_ms INTEGER NOT NULL, sent_ms
    INTEGER, updated_ms INTEGER NOT NULL, reason TEXT NOT NULL, tif TEXT, trigger_price TEXT,
    intent_reason TEXT NOT NULL
);
CREATE UNIQUE INDEX orders_cloid ON orders (book, cloid);
CREATE INDEX orders_status ON orders (book, status);
CREATE TABLE phases (
    seq INTEGER NOT NULL PRIMARY KEY, time_ms INTEGER NOT NULL, from_phase TEXT NOT NULL, to_phase TEXT
    NOT NULL, reason TEXT NOT NULL, provisional INTEGER NOT NULL, network TEXT NOT NULL, book TEXT NOT
    NULL, run_id TEXT NOT NULL
);
CREATE TABLE runs (
    run_id TEXT NOT NULL PRIMARY KEY, started_ms INTEGER NOT NULL, venue TEXT NOT NULL, execution TEXT
    NOT NULL, book TEXT NOT NULL, coins TEXT NOT NULL, origin TEXT NOT NULL, policy TEXT NOT NULL, seed
    INTEGER, pid INTEGER NOT NULL, options TEXT NOT NULL, stopped_ms INTEGER, reason TEXT NOT NULL,
    exit_code INTEGER, equity TEXT
);
CREATE TABLE trades (
    seq INTEGER NOT NULL PRIMARY KEY, coin TEXT NOT NULL, side TEXT NOT NULL, entry_ms INTEGER NOT NULL,
    entry_price TEXT NOT NULL, exit_ms INTEGER NOT NULL, exit_price TEXT NOT NULL, size TEXT NOT NULL,
    pnl TEXT NOT NULL, fees TEXT NOT NULL, funding TEXT NOT NULL, exit_reason TEXT NOT NULL, bars_held
    INTEGER NOT NULL, run_id TEXT NOT NULL, book TEXT NOT NULL
);
CREATE UNIQUE INDEX trades_key ON trades (book, coin, side, entry_ms, exit_ms);
CREATE TABLE trainings (
    id TEXT NOT NULL PRIMARY KEY, started_ms INTEGER NOT NULL, ended_ms INTEGER, state TEXT NOT NULL,
    cause TEXT NOT NULL, seed INTEGER, epoch INTEGER NOT NULL, epochs INTEGER NOT NULL, model TEXT,
    validation REAL, reason TEXT NOT NULL, run_id TEXT NOT NULL
);
CREATE TABLE trials (
    id TEXT NOT NULL PRIMARY KEY, time_ms INTEGER NOT NULL, source TEXT NOT NULL, state TEXT NOT NULL,
    seed INTEGER, sharpe REAL, observations INTEGER, skew REAL, kurtosis REAL, parameters TEXT NOT NULL
);
"""


_INPUTS = """
CREATE TABLE inputs (
    seq INTEGER NOT NULL PRIMARY KEY, run_id TEXT NOT NULL, book TEXT NOT NULL, wall_ms INTEGER NOT NULL,
    from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL, count INTEGER NOT NULL, begins INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX inputs_wall ON inputs (wall_ms);
"""


_AUTONOMY = """
ALTER TABLE cycles ADD COLUMN state TEXT NOT NULL DEFAULT '';
ALTER TABLE trainings ADD COLUMN market_ms INTEGER;
CREATE TABLE model_events (
    seq INTEGER NOT NULL PRIMARY KEY, time_ms INTEGER NOT NULL, model TEXT NOT NULL, event TEXT NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, book TEXT NOT NULL, run_id TEXT NOT NULL
);
CREATE TABLE shadows (
    book TEXT NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL, state BLOB, PRIMARY KEY (book, role)
);
CREATE TABLE checks (
    book TEXT NOT NULL, time_ms INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL, figures TEXT NOT NULL,
    health TEXT NOT NULL, triggers TEXT NOT NULL, run_id TEXT NOT NULL, PRIMARY KEY (book, time_ms)
);
CREATE TABLE parameters (
    id TEXT NOT NULL PRIMARY KEY, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, state TEXT NOT NULL,
    source TEXT NOT NULL, changes TEXT NOT NULL, reason TEXT NOT NULL
);
"""


MIGRATIONS: Final = (_FIRST, _INPUTS, _AUTONOMY)
"""Every table of the first version; what the decision core was told, for `replay`; what the autonomous loop remembers:
phase accounting, model events, shadows, checks, tuned parameters."""

SCHEMA_VERSION: Final = len(MIGRATIONS)

VERSION_SQL: Final = (
    "INSERT INTO meta (key, value) VALUES ('schema_version', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


def statements_of(script: str) -> list[str]:
    """The statements of one step."""
    return [statement.strip() for statement in script.split(";") if statement.strip()]
