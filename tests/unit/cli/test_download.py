"""`download` fills the archive from a venue that speaks as the real one, and from no other (GUARANTEES B13)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aml100.cli.main import main
from aml100.domain.clock import SystemClock
from aml100.domain.units import DAY_MS, HOUR_MS, MINUTE_MS, Coin
from aml100.engine.archive import Archive
from aml100.storage.history import HistoryStore
from aml100.venue.rest import VenueRest
from tests.unit.venue.fake_venue import FakeVenue

NOW = 1_751_241_600_000 + 12 * HOUR_MS + 30_000  # 2025-06-30 12:00:30
META = {"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}]}


class Mainnet(FakeVenue):
    """Minute candles without end but those of `silent`, the latest 5000 of them served; hourly funding."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = NOW
        self.silent = range(0)
        self.fails_after = 10**9
        self.answers |= {
            "exchangeStatus": lambda body: {"specialStatuses": None, "time": self.now_ms},
            "meta": META,
            "candleSnapshot": self._candles,
            "fundingHistory": self._funding,
        }

    def _candles(self, body: dict[str, Any]) -> Any:
        if len([one for one in self.asked if one["type"] == "candleSnapshot"]) > self.fails_after:
            return {"unexpected": True}
        wanted = body["req"]
        latest = self.now_ms // MINUTE_MS * MINUTE_MS
        first = max(wanted["startTime"] // MINUTE_MS * MINUTE_MS, latest - 4_999 * MINUTE_MS)
        opens = [t for t in range(first, min(wanted["endTime"], latest) + 1, MINUTE_MS) if t not in self.silent]
        return [
            {"t": t, "T": t + MINUTE_MS - 1, "s": "BTC", "i": "1m", "o": "100.0", "h": "101.0", "l": "99.0",
             "c": f"{100 + t // MINUTE_MS % 10 / 10}", "v": "2.5", "n": 3}
            for t in opens
        ]  # fmt: skip

    def _funding(self, body: dict[str, Any]) -> Any:
        first = -(-body["startTime"] // HOUR_MS)
        last = min(body["endTime"], self.now_ms) // HOUR_MS
        return [
            {"coin": "BTC", "fundingRate": "0.0000125", "premium": "-0.0003", "time": hour * HOUR_MS + 31}
            for hour in range(first, min(last, first + 499) + 1)
        ]


@pytest.fixture
async def mainnet() -> AsyncIterator[Mainnet]:
    async with Mainnet() as venue:
        yield venue


class Desk:
    """The command as an operator calls it, with a venue.json that names the local venue."""

    def __init__(self, folder: Path, venue: FakeVenue, capsys: pytest.CaptureFixture[str]) -> None:
        self.state, self.config, self._capsys = folder / "state.db", folder / "config", capsys
        assert main(["config", "init", "--config", str(self.config)]) == 0
        file = self.config / "venue.json"
        content = json.loads(file.read_text())
        content["mainnet"]["rest_url"] = venue.url
        file.write_text(json.dumps(content))
        capsys.readouterr()

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        common = ["--state", str(self.state), "--config", str(self.config)]
        code = await asyncio.to_thread(main, [*arguments, *common])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    @property
    def store(self) -> HistoryStore:
        return HistoryStore(self.state.parent / "history")


@pytest.fixture
def desk(tmp_path: Path, mainnet: Mainnet, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, mainnet, capsys)


async def test_candles_and_funding_are_stored_and_a_second_call_brings_the_rest(desk: Desk, mainnet: Mainnet) -> None:
    code, out, err = await desk("download", "--coin", "BTC", "--days", "1", "--json")
    assert code == 0, err
    (report,) = json.loads(out)
    assert (report["added"], report["funding_added"], report["gaps"]) == (1440, 25, [])
    bars, funding = desk.store.load(Coin("BTC"), MINUTE_MS), desk.store.load_funding(Coin("BTC"))
    assert bars.origin == "hyperliquid:mainnet"
    assert int(bars.open_ms[-1]) == NOW // MINUTE_MS * MINUTE_MS - MINUTE_MS, "the bar in the making is not stored"
    assert funding.rate_at(NOW // HOUR_MS * HOUR_MS) == 0.0000125
    assert funding.premium is not None
    assert funding.premium[-1] == -0.0003
    mainnet.now_ms += HOUR_MS
    mainnet.asked.clear()
    code, out, _ = await desk("download", "--coin", "BTC", "--days", "1", "--json")
    (report,) = json.loads(out)
    assert (code, report["added"], report["funding_added"]) == (0, 60, 1)
    asked = [one["req"]["startTime"] for one in mainnet.asked if one["type"] == "candleSnapshot"]
    assert asked == [NOW // MINUTE_MS * MINUTE_MS]


async def test_it_says_how_far_back_the_venue_reaches(desk: Desk) -> None:
    code, out, _ = await desk("download", "--coin", "BTC", "--days", "10")
    assert code == 0
    assert "reaches back to 2025-06-27T00:41:00Z only (its latest 5000 bars of 1m)" in out
    assert len(desk.store.load(Coin("BTC"), MINUTE_MS)) == 4999
    assert len(desk.store.load_funding(Coin("BTC"))) == 241, "funding is served as far back as one asks"


async def test_two_days_offline_are_filled_and_five_days_stay_a_gap(desk: Desk, mainnet: Mainnet) -> None:
    """B13: what the venue still serves is filled; the rest is listed, and no training straddles it unasked."""
    await desk("download", "--coin", "BTC", "--days", "1")
    mainnet.now_ms = NOW + 2 * DAY_MS
    code, out, _ = await desk("download", "--coin", "BTC", "--days", "3", "--json")
    assert (code, json.loads(out)[0]["gaps"]) == (0, [])
    mainnet.now_ms = NOW + 7 * DAY_MS
    code, out, _ = await desk("download", "--coin", "BTC", "--days", "8", "--json")
    gap = [NOW // MINUTE_MS * MINUTE_MS + 2 * DAY_MS, NOW // MINUTE_MS * MINUTE_MS + 7 * DAY_MS - 4999 * MINUTE_MS]
    assert (code, json.loads(out)[0]["gaps"]) == (0, [gap])
    code, out, _ = await desk("history", "--json")
    assert [one["gaps"] for one in json.loads(out)] == [[], [gap]]
    code, _, err = await desk("train", "--coin", "BTC", "--epochs", "1")
    assert code == 2
    assert "gap of 2201 bars" in err
    assert "--from" in err


async def test_silent_minutes_are_gaps_and_not_invented(desk: Desk, mainnet: Mainnet) -> None:
    first = NOW // MINUTE_MS * MINUTE_MS - 30 * MINUTE_MS
    mainnet.silent = range(first, first + 3 * MINUTE_MS)
    code, out, _ = await desk("download", "--coin", "BTC", "--days", "0.1")
    assert code == 0
    assert "1 gap (3 missing)" in out


async def test_what_came_before_a_failure_is_kept(desk: Desk, mainnet: Mainnet) -> None:
    mainnet.fails_after = 1
    code, _, err = await desk("download", "--coin", "BTC", "--days", "3")
    assert code == 1
    assert "candleSnapshot" in err
    held = len(desk.store.load(Coin("BTC"), MINUTE_MS))
    assert held == 2500
    mainnet.fails_after = 10**9
    code, out, _ = await desk("download", "--coin", "BTC", "--days", "3", "--json")
    assert (code, json.loads(out)[0]["added"]) == (0, 4320 - held)


async def test_a_simulated_venue_is_refused_even_where_venue_json_names_it(desk: Desk, mainnet: Mainnet) -> None:
    mainnet.answers["exchangeStatus"] = {"time": NOW, "speed": 1.0}
    code, _, err = await desk("download", "--coin", "BTC")
    assert code == 3
    assert "simulated venue" in err.splitlines()[-1]
    code, _, err = await desk("download", "--coin", "BTC", "--venue", mainnet.url)
    assert code == 3
    assert "never enter" in err or "only the bars of a real network" in err
    assert not (desk.state.parent / "history").exists()


async def test_an_unlisted_coin_is_said(desk: Desk) -> None:
    code, _, err = await desk("download", "--coin", "NOPE")
    assert code == 2
    assert "listed: BTC" in err


async def test_b13_a_live_engine_fills_its_archive_and_bears_a_venue_that_fails(
    tmp_path: Path, mainnet: Mainnet, caplog: pytest.LogCaptureFixture
) -> None:
    """What the engine missed while it was away is there after its next look; nothing it waits for can stop it."""
    store = HistoryStore(tmp_path / "history")
    async with VenueRest(mainnet.url, "other", None, None, SystemClock(), origin="hyperliquid:mainnet") as rest:
        archive = Archive(store, rest, MINUTE_MS)
        await archive.catch_up([Coin("BTC")], NOW)
        assert len(store.load(Coin("BTC"), MINUTE_MS)) == 4_999
        mainnet.now_ms = NOW + 2 * DAY_MS
        await archive.catch_up([Coin("BTC")], mainnet.now_ms)
        (funding, bars) = store.summary()
        assert (bars.rows, bars.gaps, funding.gaps) == (4_999 + 2_880, (), ())
        held = store.path_of(Coin("BTC"), MINUTE_MS).read_bytes()
        mainnet.answers["candleSnapshot"] = {"unexpected": True}
        await archive.catch_up([Coin("BTC")], mainnet.now_ms + HOUR_MS)
        assert "the archive of BTC stands still" in caplog.text
        assert store.path_of(Coin("BTC"), MINUTE_MS).read_bytes() == held
