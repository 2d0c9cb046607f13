"""P10 and P12: features a bar at a time and in one batch, and the venue's frames into typed events.

Features: ours computes all 36 columns, checks included. In a batch TA-Lib and polars make the 32 of them that do not
come from funding (their own windows of one-minute bars in place of the larger bars), a bar at a time only the
indicators that these are put together from.

Frames: bytes to typed structs, whose numbers are still text; shown beside it is the whole way to the events that the
engine takes, with exact and checked numbers wherever it uses them (of a book that is the touch). The peers parse and
turn every price and size into a float. A trades frame holds five trades, a book 20 levels a side, with the fields that
the venue sends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from aml100.bench.frame import Figure, Goal, Peer, Readings, Sample, Trial
from aml100.bench.inputs import FIRST_MS, YEAR_BARS, made_up_bars, per_second, save_bars

LIVE_BARS = 100_000
FRAMES = 2_000
ROUNDS = 10


@contextmanager
def live_features(folder: Path) -> Iterator[Sample]:
    """Bars a second through `FeatureStream.update`; beside it the compiled step without checks and a fresh row."""
    from aml100.market.feature_kernel import new_state, step
    from aml100.market.features import FEATURE_COUNT, FeatureStream
    from aml100.market.regime import DEFAULT_THRESHOLDS

    series = made_up_bars(LIVE_BARS)
    save_bars(folder, series)
    columns = (series.open, series.high, series.low, series.close, series.volume, series.open_ms)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))

    def checked() -> None:
        update = FeatureStream(series.interval_ms).update
        for row in rows:
            update(*row)

    def bare() -> None:
        state, clock = new_state(series.interval_ms, DEFAULT_THRESHOLDS)
        out, unknown = np.empty(FEATURE_COUNT), float("nan")
        for _, high, low, close, volume, open_ms in rows:
            step(state, clock, high, low, close, volume, open_ms, unknown, unknown, out)

    def measure() -> Readings:
        return {"live": per_second(LIVE_BARS, checked), "step": per_second(LIVE_BARS, bare)}

    measure()
    yield measure


@contextmanager
def batch_features(folder: Path) -> Iterator[Sample]:
    """Rows a second of `compute_features` over a year."""
    from aml100.market.features import compute_features

    series = made_up_bars(YEAR_BARS)
    save_bars(folder, series)
    compute_features(series.rows(0, 1000))
    yield lambda: per_second(YEAR_BARS, lambda: compute_features(series))


@contextmanager
def parsing(folder: Path) -> Iterator[Sample]:
    """Messages a second: bytes to events, and the typed decoding alone."""
    from aml100.venue.codec import decode_frame, events_from

    frames = {"trades": _trade_frames(FRAMES), "book": _book_frames(FRAMES)}
    for kind, lines in frames.items():
        (folder / f"{kind}.jsonl").write_bytes(b"\n".join(lines))

    def events(lines: list[bytes]) -> None:
        for line in lines:
            frame = decode_frame(line)
            assert frame is not None
            events_from(frame, "bench")

    def typed(lines: list[bytes]) -> None:
        for line in lines:
            decode_frame(line)

    def measure() -> Readings:
        found = {}
        for kind, lines in frames.items():
            many = lines * ROUNDS
            found[kind] = per_second(len(many), lambda many=many: events(many))  # type: ignore[misc]
            found[f"{kind} typed"] = per_second(len(many), lambda many=many: typed(many))  # type: ignore[misc]
        return found

    measure()
    yield measure


def _trade_frames(count: int) -> list[bytes]:
    rng = np.random.default_rng(4)
    frames, users = [], ["0x" + "ab" * 20, "0x" + "cd" * 20]
    for number in range(count):
        trades = [
            {
                "coin": "BTC",
                "side": "B" if rng.random() < 0.5 else "A",
                "px": f"{60_000 + rng.normal(0, 50):.1f}",
                "sz": f"{rng.gamma(1.0, 0.1) + 0.00001:.5f}",
                "time": FIRST_MS + number,
                "hash": "0x" + "0f" * 32,
                "tid": int(rng.integers(1, 2**49)),
                "users": users,
            }
            for _ in range(5)
        ]
        frames.append(json.dumps({"channel": "trades", "data": trades}, separators=(",", ":")).encode())
    return frames


def _book_frames(count: int) -> list[bytes]:
    rng = np.random.default_rng(5)
    frames = []
    for number in range(count):
        mid = 60_000 + rng.normal(0, 50)
        sides = [
            [
                {
                    "px": f"{mid + sign * (level + 0.5):.1f}",
                    "sz": f"{rng.gamma(1.0, 0.5) + 0.00001:.5f}",
                    "n": level + 1,
                }
                for level in range(20)
            ]
            for sign in (-1, 1)
        ]
        data = {"coin": "BTC", "time": FIRST_MS + number, "levels": sides}
        frames.append(json.dumps({"channel": "l2Book", "data": data}, separators=(",", ":")).encode())
    return frames


TRIALS = (
    Trial(
        "P10",
        live_features,
        figures=(
            Figure("features, a bar at a time", "bars/s", (Goal(30, "talib.stream"), Goal(30, "pandas")), "live"),
            Figure("features, the compiled step alone", "bars/s", (), "step"),
        ),
        peers=(
            Peer("talib.stream", "features_talib.py", "talib", ("live",)),
            Peer("pandas", "features_pandas.py", None, ("live",)),
        ),
    ),
    Trial(
        "P10",
        batch_features,
        figures=(Figure("features, a year in one batch", "rows/s", (Goal(1, "TA-Lib"), Goal(1, "polars"))),),
        peers=(
            Peer("TA-Lib", "features_talib.py", "talib", ("batch",)),
            Peer("polars", "features_polars.py", "polars"),
        ),
    ),
    Trial(
        "P12",
        parsing,
        figures=(
            Figure(
                "trades frames decoded", "frames/s", (Goal(2.5, "orjson + float"), Goal(2.5, "json")), "trades typed"
            ),
            Figure("book frames decoded", "frames/s", (Goal(2.5, "orjson + float"), Goal(2.5, "json")), "book typed"),
            Figure("trades frames to events of the engine", "frames/s", (), "trades"),
            Figure("book frames to events of the engine", "frames/s", (), "book"),
        ),
        peers=(
            Peer("orjson + float", "parse_json.py", "orjson", ("orjson",)),
            Peer("json", "parse_json.py", None, ("json",)),
        ),
    ),
)
