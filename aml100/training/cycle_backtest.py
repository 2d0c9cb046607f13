"""The champion back-tested over a cycle's window that had too few realised trades: in a process of its own.

`python -m aml100.training.cycle_backtest` reads one job on stdin and answers with one line on stdout. It plays the live
decision core at low priority over bars that the model was not trained on; the engine never waits for it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from aml100.config.models import Params
from aml100.domain.errors import AmlError
from aml100.domain.market import Instrument
from aml100.domain.units import Coin
from aml100.evaluation.backtest import Backtest
from aml100.evaluation.windows import PhaseRecord, Window, window_of
from aml100.learning.bundle import load_bundle
from aml100.sim.exchange import Exchange, ExchangeRules
from aml100.sim.scenario import Tape
from aml100.storage.funding_files import read_funding
from aml100.storage.importing import read_bars
from aml100.trading.core import TradingCore
from aml100.trading.rules import TradingRules

CHILD: Final = (sys.executable, "-m", "aml100.training.cycle_backtest")
NICENESS: Final = 10
_BAND: Final = Decimal("0.5")


class CycleJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A window [from_ms, to_ms) to play. `bars` are files by coin, `funding` those that there are; `params` is JSON."""

    model: str
    params: str
    bars: dict[str, str]
    funding: dict[str, str]
    instruments: dict[str, Instrument]
    from_ms: int
    to_ms: int


class CycleAnswer(msgspec.Struct, frozen=True):
    """The account over the window, or why it could not be played. Money in USD."""

    open_ms: tuple[int, ...] = ()
    equity: tuple[float, ...] = ()
    exit_ms: tuple[int, ...] = ()
    profits: tuple[float, ...] = ()
    interval_ms: int = 0
    initial_equity: float = 0.0
    failure: str = ""


def play(job: CycleJob) -> CycleAnswer:
    """Back-test the model over the window, warmed up on the bars before it."""
    params = Params.model_validate_json(job.params)
    series = [read_bars(Path(path), Coin(coin)) for coin, path in job.bars.items()]
    series = [one.rows(0, int(np.searchsorted(one.open_ms, job.to_ms))) for one in series]
    rates = {Coin(coin): read_funding(Path(path), Coin(coin)) for coin, path in job.funding.items()}
    bundle = load_bundle(Path(job.model))
    instruments = {Coin(coin): instrument for coin, instrument in job.instruments.items()}
    times = np.unique(np.concatenate([one.open_ms for one in series]))
    before = int(np.searchsorted(times, job.from_ms))
    interval_ms, costs = series[0].interval_ms, params.backtest
    rules = TradingRules.from_params(
        params, interval_ms=interval_ms, warmup_bars=before, live_guards=False, order_band=_BAND
    )
    core = TradingCore(instruments, rules, lambda coin: bundle.policy(), salt="cycle")
    exchange = Exchange(
        list(instruments.values()), ExchangeRules(costs.taker_fee_frac, costs.maker_fee_frac, costs.slippage_frac)
    )
    tape = Tape(series, funding=rates, hourly_rate=costs.funding_rate_hour_frac or None)
    result = Backtest(core, exchange, tape, warmup_bars=before, deposit=costs.initial_equity).run()
    rows = [row for row in result.equity if row.time_ms >= job.from_ms]
    return CycleAnswer(
        open_ms=tuple(row.time_ms for row in rows),
        equity=tuple(float(row.equity) for row in rows),
        exit_ms=tuple(min(trade.exit_ms, job.to_ms - 1) for trade in result.trades),
        profits=tuple(float(trade.pnl) for trade in result.trades),
        interval_ms=interval_ms,
        initial_equity=float(costs.initial_equity),
    )


async def back_test(job: CycleJob) -> Window:
    """Play a job in a child; cancelling kills it. AmlError where it failed, with its reason."""
    process = await asyncio.create_subprocess_exec(
        *CHILD,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await process.communicate(msgspec.json.encode(job))
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    try:
        answer = msgspec.json.decode(out, type=CycleAnswer)
    except msgspec.MsgspecError:
        last = err.decode(errors="replace").strip().splitlines()
        raise AmlError(f"the back-test of a cycle ended with code {process.returncode}: {last[-1:]}") from None
    if answer.failure:
        raise AmlError(answer.failure)
    record = PhaseRecord(
        open_ms=np.array(answer.open_ms, np.int64),
        equity=np.array(answer.equity),
        interval_ms=answer.interval_ms,
        initial_equity=answer.initial_equity,
        exit_ms=np.array(answer.exit_ms, np.int64),
        profits=np.array(answer.profits),
    )
    return window_of(record, job.from_ms, job.to_ms)


def main() -> int:
    """One job; the exit code is 0 when it was answered."""
    os.nice(NICENESS)
    try:
        answer = play(msgspec.json.decode(sys.stdin.buffer.read(), type=CycleJob))
    except (AmlError, msgspec.MsgspecError, OSError) as error:
        answer = CycleAnswer(failure=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 1 if answer.failure else 0


if __name__ == "__main__":
    sys.exit(main())
