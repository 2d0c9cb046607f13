"""The history store: whole files, one origin, gaps shown and never filled."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aml100.domain.errors import DataFileError, SafetyRefusal
from aml100.domain.units import Coin
from aml100.market.series import BarSeries
from aml100.storage import files
from aml100.storage.history import HistoryStore

BTC = Coin("BTC")
MINUTE = 60_000


def bars(minutes: list[int], price: float = 100.0, origin: str = "hyperliquid:mainnet", coin: Coin = BTC) -> BarSeries:
    times = np.array(minutes, dtype=np.int64) * MINUTE
    column = np.full(len(times), price)
    return BarSeries(coin, MINUTE, origin, times, column, column, column, column, column)


def test_appending_merges_and_counts_what_is_new(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "history")
    assert store.append(bars([10, 11, 12])) == 3
    assert store.append(bars([12, 13, 5], price=101.0)) == 2
    series = store.load(BTC, MINUTE)
    np.testing.assert_array_equal(series.open_ms // MINUTE, [5, 10, 11, 12, 13])
    np.testing.assert_array_equal(series.close, [101, 100, 100, 101, 101])
    assert series.origin == "hyperliquid:mainnet"
    np.testing.assert_array_equal(store.load(BTC, MINUTE, 10 * MINUTE, 12 * MINUTE).open_ms // MINUTE, [10, 11])


def test_the_summary_lists_gaps_and_fills_none(tmp_path: Path) -> None:
    """B13: two days offline are a gap in the ledger of gaps."""
    store = HistoryStore(tmp_path)
    store.append(bars([0, 1, 2, 2883, 2884]))
    store.append(bars([7], coin=Coin("xyz:XYZ100")))
    store.append_funding(BTC, np.array([3_600_000]), np.array([0.0001]), "hyperliquid:mainnet")
    funding, bar, other = store.summary()
    assert (bar.coin, bar.interval, bar.first_ms, bar.last_ms, bar.rows) == ("BTC", "1m", 0, 2884 * MINUTE, 5)
    assert bar.gaps == ((3 * MINUTE, 2883 * MINUTE),)
    assert (funding.interval, funding.rows) == ("funding", 1)
    assert (other.coin, other.rows, other.gaps) == ("xyz:XYZ100", 1, ())
    assert len(store.load(BTC, MINUTE)) == 5
    assert store.load_funding(BTC).rate_at(3_600_000) == 0.0001


def test_bars_of_another_origin_are_refused_and_change_nothing(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append(bars([1, 2]))
    content = store.path_of(BTC, MINUTE).read_bytes()
    with pytest.raises(DataFileError, match=r"holds bars of hyperliquid:mainnet; bars of import:binance are refused"):
        store.append(bars([3], origin="import:binance"))
    assert store.path_of(BTC, MINUTE).read_bytes() == content


def test_writers_at_once_lose_nothing_of_each_others(tmp_path: Path) -> None:
    """Each has a store of its own, as an engine, `download` and `import` have."""

    def write(number: int) -> int:
        store = HistoryStore(tmp_path / "history")
        return sum(store.append(bars([1000 * number + minute])) for minute in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(4))) == [20] * 4
    assert len(HistoryStore(tmp_path / "history").load(BTC, MINUTE)) == 80
    assert [path.name for path in (tmp_path / "history").iterdir()] == ["BTC_1m.mainnet.parquet"]


def test_a_writer_that_stands_still_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.0)
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(DataFileError, match="another process has been writing there"):
            HistoryStore(tmp_path).append(bars([1]))
    finally:
        os.close(held)
    assert HistoryStore(tmp_path).append(bars([1])) == 1


@pytest.mark.parametrize(
    ("columns", "interval", "words"),
    [
        ({"a": [1]}, "1m", "it lacks time, open, high, low, close, volume"),
        ({"time": [60_000], "rate": [0.1]}, "funding", "it lacks premium, hours"),
        ({name: [] for name in ("time", "open", "high", "low", "close", "volume")}, "1m", "0 rows"),
        ({name: [1] for name in ("time", "open", "high", "low", "close", "volume")}, "7m", "interval '7m'"),
    ],
)
def test_a_file_that_no_store_has_written_is_named(
    tmp_path: Path, columns: dict[str, list[object]], interval: str, words: str
) -> None:
    store = HistoryStore(tmp_path)
    table = pa.table(columns).replace_schema_metadata({"network": "mainnet", "coin": "BTC", "interval": interval})
    pq.write_table(table, store.path_of(BTC, MINUTE))
    for ask in (store.summary, lambda: store.load(BTC, MINUTE), lambda: store.append(bars([1]))):
        with pytest.raises(DataFileError, match=rf"BTC_1m\.mainnet\.parquet: not a history file \(.*{words}"):
            ask()


def test_bars_of_one_coin_are_not_taken_for_another_s(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.append(bars([1, 2]))
    store.path_of(BTC, MINUTE).rename(store.path_of(Coin("ETH"), MINUTE))
    with pytest.raises(DataFileError, match="holds BTC, not ETH"):
        store.load(Coin("ETH"), MINUTE)


def test_simulated_bars_never_enter(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    with pytest.raises(SafetyRefusal, match="synthetic:regimes"):
        store.append(bars([1], origin="synthetic:regimes"))
    assert list(tmp_path.iterdir()) == []


def test_networks_do_not_see_each_other(tmp_path: Path) -> None:
    HistoryStore(tmp_path, "testnet").append(bars([1], origin="hyperliquid:testnet"))
    main = HistoryStore(tmp_path, "mainnet")
    assert main.summary() == ()
    assert not main.has(BTC, MINUTE)
    HistoryStore(tmp_path, "testnet").path_of(BTC, MINUTE).rename(main.path_of(BTC, MINUTE))
    with pytest.raises(SafetyRefusal, match="testnet"):
        main.load(BTC, MINUTE)


def test_a_torn_write_leaves_the_old_bars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = HistoryStore(tmp_path)
    store.append(bars([1, 2]))
    content = store.path_of(BTC, MINUTE).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("aml100.storage.history.pq.write_table", full)
    with pytest.raises(DataFileError, match="No space left"):
        store.append(bars([3]))
    assert [path.name for path in tmp_path.iterdir()] == [store.path_of(BTC, MINUTE).name]
    assert store.path_of(BTC, MINUTE).read_bytes() == content


def test_a_damaged_file_is_named_and_left(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    store.path_of(BTC, MINUTE).write_bytes(b"PAR1 nothing")
    with pytest.raises(DataFileError, match="not a readable history file"):
        store.append(bars([3]))
    assert store.path_of(BTC, MINUTE).read_bytes() == b"PAR1 nothing"


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no 1m of ETH"):
        HistoryStore(tmp_path).load(Coin("ETH"), MINUTE)
