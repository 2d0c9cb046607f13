"""sqlmodel: the same equity rows into SQLite (WAL), one session and one commit a row."""

import sys
import time
from pathlib import Path

from serve import serve
from sqlalchemy import event
from sqlmodel import Field, Session, SQLModel, create_engine

folder, synchronous, key = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
ROWS = 2_000 if synchronous == "NORMAL" else 500


class Equity(SQLModel, table=True):
    """The columns that ours keeps."""

    seq: int | None = Field(default=None, primary_key=True)
    time_ms: int = Field(unique=True)
    equity: str
    balance: str
    drawdown_pct: float
    peak: str
    marks: str
    run_id: str
    book: str


engine = create_engine(f"sqlite:///{folder / 'peer.db'}")


@event.listens_for(engine, "connect")
def set_up(connection, record):
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")


SQLModel.metadata.create_all(engine)
begin = 0


def measure():
    global begin
    begin += ROWS
    with Session(engine) as session:
        started = time.perf_counter()
        for row in range(begin, begin + ROWS):
            session.add(
                Equity(
                    time_ms=row * 60_000,
                    equity="10123.456789",
                    balance="10100.25",
                    drawdown_pct=0.75,
                    peak="10200.5",
                    marks="{}",
                    run_id="run",
                    book="venue",
                )
            )
            session.commit()
        return {key: ROWS / (time.perf_counter() - started)}


measure()
serve(measure)
