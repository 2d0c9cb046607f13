"""Files of bars and funding: taken exactly, or refused with the row that is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as pa_feather
import pyarrow.parquet as pq
import pytest

from aml100.domain.errors import DataFileError
from aml100.domain.units import Coin
from aml100.storage.funding_files import read_funding
from aml100.storage.history import HistoryStore
from aml100.storage.importing import coin_of, import_file, read_bars, sha256_of

START = 1_700_000_040_000
"""2023-11-14T22:14:00Z, on the minute."""
HEADER = "time,open,high,low,close,volume"


def frame(count: int = 10, step_ms: int = 60_000) -> pd.DataFrame:
    number = np.arange(count)
    close = 100.0 + number
    return pd.DataFrame(
        {
            "time": START // step_ms * step_ms + number * step_ms,
            "open": close - 0.5,
            "high": close + 1.0,
            "low": close - 1.0,
            "close": close,
            "volume": 2.0 + number,
        }
    )


def write(table: pd.DataFrame, path: Path) -> Path:
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    if path.suffix == ".parquet":
        pq.write_table(arrow, path)
    elif path.suffix == ".feather":
        pa_feather.write_feather(arrow, path)
    else:
        pa_csv.write_csv(arrow, path)
    return path


@pytest.mark.parametrize("suffix", ["parquet", "feather", "csv"])
def test_every_format_gives_the_same_bars(tmp_path: Path, suffix: str) -> None:
    table = frame()
    series = read_bars(write(table, tmp_path / f"venue_perp_BTC_1m.{suffix}"))
    assert (series.coin, series.interval_ms, series.origin) == ("BTC", 60_000, f"file:venue_perp_BTC_1m.{suffix}")
    assert series.open_ms.dtype == np.int64
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(series, name), table[name].to_numpy())


@pytest.mark.parametrize(
    "time",
    [
        lambda t: t // 1000,
        lambda t: t * 1000,
        lambda t: t.astype(float),
        lambda t: pd.to_datetime(t, unit="ms"),
        lambda t: pd.to_datetime(t, unit="ms", utc=True),
        lambda t: pd.to_datetime(t, unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda t: pd.to_datetime(t, unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        lambda t: pd.to_datetime(t, unit="ms").dt.strftime("%Y-%m-%d %H:%M:%S"),
        lambda t: pd.to_datetime(t + 7_200_000, unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S+02:00"),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_times_in_any_unit_are_the_same_milliseconds(tmp_path: Path, time: object, suffix: str) -> None:
    table = frame()
    expected = table["time"].to_numpy().copy()
    table["time"] = time(table["time"])  # type: ignore[operator]
    np.testing.assert_array_equal(read_bars(write(table, tmp_path / f"x.{suffix}")).open_ms, expected)


def test_days_without_a_clock_time_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n2024-01-01,1,1,1,1,0\n2024-01-02,1,1,1,1,0\n2024-01-03,1,1,1,1,0\n")
    series = read_bars(path)
    assert (series.interval_ms, series.open_ms[0]) == (86_400_000, 1_704_067_200_000)


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (3, "time", START + 2 * 60_000, r"occurs twice"),
        (3, "time", START - 60_000, r"comes after 2023-11-14T22:16:00Z"),
        (3, "time", START + 3 * 60_000 + 7_000, r"7000 ms off the 1m grid"),
        (3, "high", 1.0, r"high 1.0 is below low 102.0"),
        (3, "open", 0.0, r"open is 0.0; allowed: finite and above 0"),
        (3, "low", -1.0, r"low is -1.0"),
        (3, "close", float("nan"), r"close is nan"),
        (3, "close", float("inf"), r"close is inf"),
        (3, "volume", -1.0, r"volume is -1.0"),
        (3, "volume", float("nan"), r"volume is nan"),
    ],
)
@pytest.mark.parametrize(("suffix", "shift"), [("csv", 2), ("parquet", 1), ("feather", 1)])
def test_a_wrong_bar_is_refused_with_its_row_time_and_value(
    tmp_path: Path, suffix: str, shift: int, row: int, column: str, value: float, message: str
) -> None:
    table = frame()
    table.loc[row, column] = value
    path = write(table, tmp_path / f"btc.{suffix}")
    with pytest.raises(DataFileError, match=message) as refusal:
        read_bars(path)
    text = str(refusal.value)
    assert text.startswith(f"{path}: row {row + shift}: (2023-11-14T22:")
    assert "\n" not in text


def test_text_where_a_number_belongs_names_row_and_value(tmp_path: Path) -> None:
    path = write(frame(), tmp_path / "x.csv")
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace("103", "abc", 1)
    path.write_text("\n".join(lines))
    with pytest.raises(DataFileError, match=r"row 5: \(2023-11-14T22:17:00Z\) .*'abc"):
        read_bars(path)


@pytest.mark.parametrize(("line", "columns"), [("1,1,1", 3), ("1,1,1,1,1,1,1", 7)])
def test_a_ragged_line_names_its_row(tmp_path: Path, line: str, columns: int) -> None:
    path = write(frame(), tmp_path / "x.csv")
    lines = path.read_text().splitlines()
    lines[4] = line
    path.write_text("\n".join(lines))
    with pytest.raises(DataFileError, match=rf"x.csv: row 5: has {columns} columns: '{line}'; allowed: 6"):
        read_bars(path)


@pytest.mark.parametrize(
    ("wrong", "message"), [("1,1,1", "has 3 columns"), ("{time},1,0.5,1,1,0", "high 0.5 is below")]
)
def test_blank_lines_are_passed_over_and_counted(tmp_path: Path, wrong: str, message: str) -> None:
    lines = write(frame(), tmp_path / "x.csv").read_text().splitlines()
    lines[4] = wrong.format(time=lines[4].split(",")[0])
    path = tmp_path / "y.csv"
    path.write_text("\n".join([lines[0], "", *lines[1:3], "", "", *lines[3:]]) + "\n\n")
    with pytest.raises(DataFileError, match=f"y.csv: row 8: .*{message}"):
        read_bars(path)
    lines[4] = write(frame(), tmp_path / "x.csv").read_text().splitlines()[4]
    path.write_text("\n\n".join(lines))
    assert len(read_bars(path)) == len(lines) - 1


def test_a_missing_time_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n{START},1,1,1,1,0\n,1,1,1,1,0\n")
    with pytest.raises(DataFileError, match=r"row 3: time is missing"):
        read_bars(path)


def test_a_time_that_is_none_names_its_row(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n2024-01-01T00:00:00Z,1,1,1,1,0\nyesterday,1,1,1,1,0\n")
    with pytest.raises(DataFileError, match=r"row 3: time: not a time: 'yesterday'"):
        read_bars(path)


@pytest.mark.parametrize("time", ["-5", "99999999999999999999", "1e300", "nan"])
def test_a_time_outside_the_calendar_names_its_row(tmp_path: Path, time: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n{time},1,1,1,1,0\n{time},1,1,1,1,0\n")
    with pytest.raises(DataFileError, match=r"row 2: time is"):
        read_bars(path)


def test_a_column_of_repeated_values_is_read_as_its_values(tmp_path: Path) -> None:
    """Parquet writers may store texts as numbers into a dictionary."""
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    times = pa.array([f"2024-01-01T00:0{n}:00Z" for n in range(10)]).dictionary_encode()
    pq.write_table(table.set_column(0, "time", times), tmp_path / "x.parquet")
    assert read_bars(tmp_path / "x.parquet").open_ms[0] == 1_704_067_200_000


@pytest.mark.parametrize("column", ["time", "open", "high", "low", "close", "volume"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataFileError, match=rf"column '{column}' is missing"):
        read_bars(write(frame().drop(columns=column), tmp_path / "x.csv"))


@pytest.mark.parametrize("content", [b"", b"\n\n", HEADER.encode() + b"\n", b"\x00\xff\xfe\x01" * 50, b"PAR1garbage"])
def test_an_empty_or_unreadable_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(DataFileError) as refusal:
        read_bars(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (read_bars, sha256_of):
        with pytest.raises(DataFileError, match="none"):
            read(tmp_path / "none.csv")


def test_a_gap_is_kept_as_a_gap(tmp_path: Path) -> None:
    series = read_bars(write(frame(20).drop(index=[7, 8, 9]), tmp_path / "x.parquet"))
    assert len(series) == 17
    assert series.segments() == [(0, 7), (7, 17)]


@pytest.mark.parametrize(("first", "second"), [((30, 60_000), (10, 300_000)), ((10, 60_000), (30, 300_000))])
def test_mixed_intervals_are_refused(tmp_path: Path, first: tuple[int, int], second: tuple[int, int]) -> None:
    one = frame(*first)
    two = frame(*second)
    two["time"] += one["time"].iloc[-1] // 300_000 * 300_000 + 300_000 - two["time"].iloc[0]
    with pytest.raises(DataFileError, match="mixed intervals"):
        read_bars(write(pd.concat([one, two]), tmp_path / "x.parquet"))


def test_an_interval_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="420000 ms apart; allowed: 1m"):
        read_bars(write(frame(step_ms=420_000), tmp_path / "x.parquet"))


def test_one_bar_has_no_interval(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="only bar"):
        read_bars(write(frame(1), tmp_path / "x.csv"))


@pytest.mark.parametrize(
    ("name", "coin"),
    [
        ("binance_perp_BTC_5m.parquet", "BTC"),
        ("eth-bars.csv", "ETH"),
        ("kpepe 1h.csv", "kPEPE"),
        ("SOLUSDT-1m-2024-01.csv", "SOL"),
        ("mydata.csv", "MYDATA"),
    ],
)
def test_the_coin_comes_from_the_files_name(name: str, coin: str) -> None:
    assert coin_of(Path(name)) == coin


def test_real_files_are_all_accepted(shared: Path) -> None:
    """No false refusal: windows with gaps of months, in two venues' files, and every row kept."""
    for name, interval, rows, windows in (
        ("hyperliquid_perp_HYPE_1h", 3_600_000, 4983, 1),
        ("binance_spot_SOL_5m", 300_000, 321340, 14),
        ("binance_spot_BTC_1m", 60_000, 834922, 23),
    ):
        series = read_bars(shared / "data" / "market" / f"{name}.parquet")
        assert (series.interval_ms, len(series), len(series.segments())) == (interval, rows, windows)
        assert series.coin == name.split("_")[2]


def test_funding_is_spread_over_the_hours_it_covers(tmp_path: Path) -> None:
    """A rate stamped H over 8 hours: an eighth at each full hour in (H - 8 h, H]."""
    hour = 3_600_000
    day = 1_704_067_200_000
    times = [day + 8 * hour, day + 16 * hour]
    path = write(pd.DataFrame({"time": times, "rate": [0.0008, -0.0016]}), tmp_path / "f.csv")
    funding = read_funding(path, Coin("BTC"))
    assert funding.rate_at(day + 1 * hour) == pytest.approx(0.0001)
    assert funding.rate_at(day + 9 * hour) == pytest.approx(-0.0002)
    assert len(funding.time_ms) == 16


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"time": [1_700_000_000_000] * 2, "rate": [0.1, 0.1]}, "row 3: .*does not ascend"),
        ({"time": [1_700_000_000_000], "rate": [float("inf")]}, "row 2: .*rate is inf"),
        ({"time": [1_700_000_000_000]}, "column 'rate' is missing"),
    ],
)
def test_wrong_funding_is_refused(tmp_path: Path, rows: dict[str, list[float]], message: str) -> None:
    with pytest.raises(DataFileError, match=message):
        read_funding(write(pd.DataFrame(rows), tmp_path / "f.csv"), Coin("BTC"))


def test_the_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256_of(path) == hashlib.sha256(b"abc").hexdigest()


def test_binance_klines_without_a_header_are_understood(tmp_path: Path) -> None:
    """Twelve columns, and the month in which the files went over to microseconds."""
    lines = []
    for number in range(6):
        time = START + number * 60_000
        scale = 1000 if number >= 3 else 1
        cells = [time * scale, 100, 101, 99, 100.5, 3, (time + 59_999) * scale, 300.0, 12, 1, 100, 0]
        lines.append(",".join(map(str, cells)))
    path = tmp_path / "BTCUSDT-1m-2025-01.csv"
    path.write_text("\n".join(lines) + "\n")
    store = HistoryStore(tmp_path / "history")
    report = import_file(path, store)
    assert (report.coin, report.origin, report.rows, report.added, report.duplicates) == (
        "BTC",
        "import:binance",
        6,
        6,
        0,
    )
    series = store.load(Coin("BTC"), 60_000)
    np.testing.assert_array_equal(series.open_ms, START + 60_000 * np.arange(6))
    np.testing.assert_array_equal(series.close, np.full(6, 100.5))


def test_freqtrade_feather_is_understood(tmp_path: Path) -> None:
    table = frame()
    table["time"] = pd.to_datetime(table["time"], unit="ms", utc=True)
    path = write(table.rename(columns={"time": "date"}), tmp_path / "BTC_USDT_USDT-1m-futures.feather")
    report = import_file(path, HistoryStore(tmp_path / "h"))
    assert (report.coin, report.interval_ms, report.rows, report.first_ms) == ("BTC", 60_000, 10, START)


def test_gaps_and_duplicates_are_reported_and_the_later_row_wins(tmp_path: Path) -> None:
    table = frame(10).drop(index=[4, 5])
    again = table.iloc[[2]].assign(close=102.25)
    path = write(pd.concat([table, again]).iloc[::-1], tmp_path / "btc.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[2:], lines[1]]))
    store = HistoryStore(tmp_path / "h")
    report = import_file(path, store)
    assert (report.rows, report.duplicates) == (8, 1)
    assert report.gaps == ((START + 4 * 60_000, START + 6 * 60_000),)
    assert store.load(Coin("BTC"), 60_000).close[2] == 102.25
    assert report.replaced == 0
    lower = frame(10).assign(close=lambda bars: bars.close.where(bars.index >= 3, bars.low))
    corrected = write(lower, tmp_path / "b.csv")
    report = import_file(corrected, store, Coin("BTC"))
    assert (report.rows, report.added, report.duplicates, report.replaced) == (10, 2, 0, 3)
    assert import_file(corrected, store, Coin("BTC")).replaced == 0


def test_an_unsound_bar_is_not_imported(tmp_path: Path) -> None:
    table = frame()
    table.loc[3, "high"] = 1.0
    store = HistoryStore(tmp_path / "h")
    with pytest.raises(DataFileError, match="row 5"):
        import_file(write(table, tmp_path / "btc.csv"), store)
    assert store.summary() == ()


def test_unknown_columns_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("when,price\n2024,5\n")
    with pytest.raises(DataFileError, match="no column for 'time'; found: when, price"):
        import_file(path, HistoryStore(tmp_path / "h"))


def test_funding_files_are_told_by_their_columns_and_keep_their_hours(tmp_path: Path) -> None:
    """An eight-hourly rate stays one when later rows are added and when a settlement is missing."""
    hour, day = 3_600_000, 1_704_067_200_000
    store = HistoryStore(tmp_path / "h")
    stamps = [day + 8 * hour + 31, day + 16 * hour + 15, day + 40 * hour]
    table = pd.DataFrame({"calc_time": stamps, "last_funding_rate": [0.0008, -0.0016, 0.0004]})
    report = import_file(write(table, tmp_path / "BTCUSDT-fundingRate-binance.csv"), store)
    assert (report.coin, report.interval, report.rows, report.added) == ("BTC", "funding", 3, 3)
    assert report.origin == "import:binance"
    assert report.gaps == ((day + 17 * hour, day + 33 * hour),)
    funding = store.load_funding(Coin("BTC"))
    assert [funding.rate_at(day + h * hour) for h in (1, 8, 9, 17, 32, 33, 40)] == [
        0.0001, 0.0001, -0.0002, None, None, 0.00005, 0.00005
    ]  # fmt: skip
    (held,) = store.summary()
    assert (held.interval, held.rows, held.gaps) == ("funding", 3, report.gaps)


def test_freqtrades_funding_candles_are_rates(tmp_path: Path) -> None:
    times = pd.to_datetime([1_704_067_200_000, 1_704_070_800_000], unit="ms", utc=True)
    rates = {"open": [1e-5, -2e-5]} | {name: [0.0, 0.0] for name in ("high", "low", "close", "volume")}
    path = write(pd.DataFrame({"date": times} | rates), tmp_path / "BTC_USDC_USDC-1h-funding_rate.feather")
    store = HistoryStore(tmp_path / "h")
    assert import_file(path, store).interval == "funding"
    np.testing.assert_array_equal(store.load_funding(Coin("BTC")).rate, [1e-5, -2e-5])


def test_spot_and_perpetual_do_not_mix_and_the_venues_own_bars_join_what_is_downloaded(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "h")
    assert import_file(write(frame(), tmp_path / "binance_spot_BTC_1m.csv"), store).origin == "import:binance_spot"
    perp = write(frame(), tmp_path / "binance_perp_BTC_1m.csv")
    with pytest.raises(DataFileError, match=r"binance_perp_BTC_1m.csv: .*holds bars of import:binance_spot"):
        import_file(perp, store)
    own = write(frame(), tmp_path / "hyperliquid_perp_ETH_1m.csv")
    assert import_file(own, HistoryStore(tmp_path / "h", "testnet")).origin == "hyperliquid:testnet"


def test_every_real_file_is_imported_whole(shared: Path, tmp_path: Path) -> None:
    """Bars and funding of every venue, each into a store of its own; tick and book samples are refused by name."""
    index = json.loads((shared / "data" / "market" / "index.json").read_text())
    small = [p for p in sorted((shared / "data" / "market").glob("*.parquet")) if p.stat().st_size < 800_000]
    assert len(small) > 20
    for path in small:
        store = HistoryStore(tmp_path / path.stem)
        if "sample" in path.name:
            with pytest.raises(DataFileError, match="no column for"):
                import_file(path, store)
            assert not store.folder.exists()
            continue
        report = import_file(path, store)
        assert report.rows == report.added == pq.read_metadata(path).num_rows
        assert report.duplicates == 0
        if report.interval != "funding":
            assert len(report.gaps) == len(index[path.name]["windows"]) - 1
