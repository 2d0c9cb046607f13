"""The flight recorder: every recorded moment can be shown again, also after a kill, and nothing secret leaves in it."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

from aml100.control.flight import FRAMES_A_SEGMENT, FlightReader, FlightRecorder
from aml100.control.incident import clean, write_bundle
from aml100.control.protocol import LogLine, Snapshot
from aml100.logs import add_secret

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tui"))
from desk import NOON_MS, SNAPSHOT

STEP_MS = 10_000


def frame(number: int, **fields: object) -> Snapshot:
    at_ms = NOON_MS + number * STEP_MS
    return msgspec.structs.replace(SNAPSHOT, seq=number, wall_ms=at_ms, equity=f"{10_000 + number}", **fields)


def recorded(folder: Path, count: int) -> FlightReader:
    recorder = FlightRecorder(folder)
    for number in range(count):
        recorder.record(frame(number))
    assert recorder.trouble == ""
    return FlightReader(folder)


def test_the_frame_at_a_moment_is_shown(tmp_path: Path) -> None:
    """B20, over several segments."""
    count = 2 * FRAMES_A_SEGMENT + 7
    reader = recorded(tmp_path / "flight", count)
    assert reader.span() == (NOON_MS, NOON_MS + (count - 1) * STEP_MS)
    for number in (0, 1, FRAMES_A_SEGMENT - 1, FRAMES_A_SEGMENT, count - 1):
        shown = reader.at(NOON_MS + number * STEP_MS + 4_000)
        assert shown is not None
        assert (shown.seq, shown.equity) == (number, f"{10_000 + number}")
        assert shown.positions == SNAPSHOT.positions
        assert shown.phase == SNAPSHOT.phase
    before = reader.at(NOON_MS - 1)
    assert before is not None
    assert before.seq == 0


def test_steps_cross_segments(tmp_path: Path) -> None:
    reader = recorded(tmp_path / "flight", FRAMES_A_SEGMENT + 3)
    edge = NOON_MS + FRAMES_A_SEGMENT * STEP_MS
    assert reader.step(edge, -1) == edge - STEP_MS
    assert reader.step(edge - STEP_MS, 1) == edge
    assert reader.step(edge, 99) == edge + 2 * STEP_MS
    assert reader.step(NOON_MS, -5) == NOON_MS


def test_a_kill_in_mid_frame_loses_that_frame_only(tmp_path: Path) -> None:
    reader = recorded(tmp_path / "flight", 5)
    (path,) = (tmp_path / "flight").iterdir()
    path.write_bytes(path.read_bytes()[:-12])
    span = reader.span()
    assert span is not None
    assert span[1] == NOON_MS + 3 * STEP_MS


def test_what_is_older_than_two_days_goes(tmp_path: Path) -> None:
    recorder = FlightRecorder(tmp_path / "flight", keep_ms=FRAMES_A_SEGMENT * STEP_MS)
    for number in range(4 * FRAMES_A_SEGMENT):
        recorder.record(frame(number))
    assert len(list((tmp_path / "flight").iterdir())) == 3


def test_two_days_fit_in_little_room(tmp_path: Path) -> None:
    """A frame costs some hundred bytes, since what did not change is not written again."""
    recorded(tmp_path / "flight", FRAMES_A_SEGMENT)
    (path,) = (tmp_path / "flight").iterdir()
    assert path.stat().st_size / FRAMES_A_SEGMENT < 700


def test_no_folder_is_trouble_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "flight").write_text("in the way")
    recorder = FlightRecorder(tmp_path / "flight")
    recorder.record(frame(0))
    assert "flight" in recorder.trouble
    assert FlightReader(tmp_path / "flight").span() is None


def test_incident_bundle_holds_no_secret(tmp_path: Path) -> None:
    """B20: it passes a scan for every secret this process knows, and for the shapes of keys and addresses."""
    key, password, address = "0x" + "5e" * 32, "hunter2hunter2", "0x" + "ab" * 20
    add_secret(password)
    words = f"signed with {key} for {address} on postgresql://me:{password}@host/db token={'t' * 20}"
    recorder = FlightRecorder(tmp_path / "flight")
    recorder.record(frame(0, log=(LogLine(0, "info", words),)))
    (tmp_path / "engine.log").write_text(words + "\nplain line\n")
    path = write_bundle(tmp_path / "state.db", NOON_MS + 1000)
    assert path.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(path) as bundle:
        text = "".join(bundle.read(name).decode() for name in bundle.namelist())
    for secret in (key, "5e" * 32, password, address, "t" * 20):
        assert secret not in text
    assert "plain line" in text
    assert '"equity":"10000"' in text


@pytest.mark.parametrize("text", ["equity 10,123.46", "cloid 0x" + "a" * 32, "bar 59 closed"])
def test_harmless_lines_stay_whole(text: str) -> None:
    assert clean(text) == text
