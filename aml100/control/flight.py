"""The flight recorder: what the screens showed over the last 48 hours, kept beside state.db (GUARANTEES B20).

The engine adds a frame every few seconds; a console reads the files itself, so the past can be looked at while the
engine hangs and after it died. A segment holds some minutes: one compressed stream, flushed after every frame, so that
a kill loses at most the frame being written. A frame is a line of JSON with its wall time and the fields of the
snapshot that changed since the frame before it; the first frame of a segment holds all of them. Long lists are cut to
what one screen can show.
"""

from __future__ import annotations

import contextlib
import itertools
import zlib
from bisect import bisect_right
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from aml100.control.protocol import Snapshot

FOLDER: Final = "flight"
KEEP_MS: Final = 48 * 3_600_000
FRAME_S: Final = 10.0
FRAMES_A_SEGMENT: Final = 90
_SUFFIX: Final = ".frames"
_CUT: Final = {"decisions": 20, "trades": 30, "recent_orders": 10, "alerts": 20}
_POINTS: Final = 120

_encoder = msgspec.json.Encoder()


class _Frame(msgspec.Struct):
    """`full`: the fields are all there are, what is missing has its default."""

    ms: int
    full: bool
    fields: dict[str, Any]


_decoder = msgspec.json.Decoder(_Frame)


class FlightRecorder:
    """Writes frames. A full or broken disk stops the recording, never the engine; `trouble` says so.

    Args:
        folder: made at the first frame.
        keep_ms: older segments are removed.
    """

    def __init__(self, folder: Path, keep_ms: int = KEEP_MS) -> None:
        self._folder = folder
        self._keep_ms = keep_ms
        self._file: BinaryIO | None = None
        self._packer = zlib.compressobj(9)
        self._before: dict[str, object] = {}
        self._frames = 0
        self.trouble = ""

    def record(self, snapshot: Snapshot) -> None:
        """Keep what the snapshot shows, under its wall time."""
        fields = _fields_of(snapshot)
        try:
            if self._file is None or self._frames >= FRAMES_A_SEGMENT:
                self._begin(snapshot.wall_ms)
            full = not self._frames
            kept = {name: value for name, value in fields.items() if full or self._before.get(name) != value}
            line = _encoder.encode(_Frame(snapshot.wall_ms, full, kept)) + b"\n"
            assert self._file is not None
            self._file.write(self._packer.compress(line) + self._packer.flush(zlib.Z_SYNC_FLUSH))
            self._file.flush()
        except OSError as error:
            self.trouble = f"{self._folder}: {error.strerror or error}"
            self.close()
            return
        self._before = fields
        self._frames += 1
        self.trouble = ""

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _begin(self, now_ms: int) -> None:
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        segments = _segments(self._folder)
        for (_, path), (next_ms, _) in itertools.pairwise(segments):
            if next_ms < now_ms - self._keep_ms:
                path.unlink(missing_ok=True)
        self._file = (self._folder / f"{now_ms}{_SUFFIX}").open("ab")
        self._packer = zlib.compressobj(9)
        self._frames = 0


class FlightReader:
    """Reads what a recorder wrote, or is writing, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._size = -1
        self._frames: list[_Frame] = []

    def span(self) -> tuple[int, int] | None:
        """Wall times of the first and the last frame; None where nothing was recorded."""
        segments = _segments(self._folder)
        for _, path in reversed(segments):
            frames = self._load(path)
            if frames:
                return segments[0][0], frames[-1].ms
        return None

    def at(self, wall_ms: int) -> Snapshot | None:
        """The frame on screen at a moment: the last one not after it, else the first of all."""
        segments = _segments(self._folder)
        number = bisect_right([start for start, _ in segments], wall_ms) - 1
        for _, path in reversed(segments[: max(number, 0) + 1]):
            frames = self._load(path)
            if frames:
                place = bisect_right([frame.ms for frame in frames], wall_ms) - 1
                return _fold(frames[: max(place, 0) + 1])
        return None

    def step(self, wall_ms: int, by: int) -> int:
        """The time of the frame `by` frames after (or before) a moment; the nearest there is."""
        times: list[int] = []
        segments = _segments(self._folder)
        number = max(bisect_right([start for start, _ in segments], wall_ms) - 1, 0)
        for _, path in segments[max(number - 1, 0) : number + 2]:
            times += [frame.ms for frame in self._load(path)]
        if not times:
            return wall_ms
        place = bisect_right(times, wall_ms) - 1
        return times[min(max(place + by, 0), len(times) - 1)]

    def lines(self, from_ms: int, to_ms: int) -> list[bytes]:
        """Every frame of a stretch of time, whole, as a line of JSON each."""
        found = []
        for start, path in _segments(self._folder):
            if start > to_ms:
                break
            frames = self._load(path)
            for at, frame in enumerate(frames):
                if from_ms <= frame.ms <= to_ms:
                    found.append(_encoder.encode(_fold(frames[: at + 1])))
        return found

    def _load(self, path: Path) -> list[_Frame]:
        """The frames of a segment, as far as it is sound."""
        try:
            size = path.stat().st_size
            if path == self._path and size == self._size:
                return self._frames
            packed = path.read_bytes()
        except OSError:
            return []
        text = b""
        with contextlib.suppress(zlib.error):
            text = zlib.decompressobj().decompress(packed)
        frames: list[_Frame] = []
        for row in text.split(b"\n"):
            with contextlib.suppress(msgspec.MsgspecError):
                frames.append(_decoder.decode(row))
        self._path, self._size, self._frames = path, size, frames
        return frames


def _segments(folder: Path) -> list[tuple[int, Path]]:
    """Start and path of each segment, the oldest first."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.suffix == _SUFFIX and path.stem.isdigit():
                found.append((int(path.stem), path))
    return sorted(found)


def _fields_of(snapshot: Snapshot) -> dict[str, object]:
    fields: dict[str, object] = {name: getattr(snapshot, name) for name in snapshot.__struct_fields__}
    for name, most in _CUT.items():
        fields[name] = getattr(snapshot, name)[:most]
    fields["log"] = snapshot.log[-40:]
    for name in ("equity_curve", "price_curve"):
        points = getattr(snapshot, name)
        step = -(-len(points) // _POINTS) or 1
        fields[name] = points[::-1][::step][::-1]
    return fields


def _fold(frames: list[_Frame]) -> Snapshot:
    """The snapshot that the last of these frames stands for."""
    fields: dict[str, Any] = {}
    for frame in frames:
        fields = dict(frame.fields) if frame.full else {**fields, **frame.fields}
    return msgspec.convert({**fields, "type": "snapshot"}, Snapshot)
