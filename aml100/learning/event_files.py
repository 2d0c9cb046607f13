"""TensorBoard event files, written without TensorBoard: scalars by step, one file a training.

The format is a sequence of records, each framed by its length and two masked CRC-32C sums; a record is a protobuf
message `Event`, of which four fields are needed. Whoever wants to look installs tensorboard and points it there.

    Event    1 wall_time double · 2 step varint · 3 file_version string · 5 summary message
    Summary  1 value, repeated message: 1 tag string · 2 simple_value float
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from aml100.domain.clock import wall_ms

VERSION: Final = b"brain.Event:2"
_MASK: Final = 0xA282EAD8
_POLYNOMIAL: Final = 0x82F63B78


def _table() -> tuple[int, ...]:
    entries = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        entries.append(value)
    return tuple(entries)


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def frame(record: bytes) -> bytes:
    """A record with its length and the masked sums of both."""
    length = struct.pack("<Q", len(record))
    return length + _masked(length) + record + _masked(record)


def _masked(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + _MASK) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes_field(number: int, contents: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(contents)) + contents


def scalars_event(time_s: float, step: int, values: Mapping[str, float]) -> bytes:
    """An `Event` of scalars by tag."""
    summary = b"".join(
        _bytes_field(1, _bytes_field(1, tag.encode()) + _varint(2 << 3 | 5) + struct.pack("<f", value))
        for tag, value in values.items()
    )
    return _varint(1 << 3 | 1) + struct.pack("<d", time_s) + _varint(2 << 3) + _varint(step) + _bytes_field(5, summary)


class EventFile:
    """One training's scalars; a context. The file appears in `folder`, named as TensorBoard looks for it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        began_ms = wall_ms()
        self._file = (self._folder / f"events.out.tfevents.{began_ms // 1000}.{self._name}").open("ab")
        head = _varint(1 << 3 | 1) + struct.pack("<d", began_ms / 1000.0) + _bytes_field(3, VERSION)
        self._file.write(frame(head))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write scalars of a step at once; None is left out."""
        assert self._file is not None, "enter the context first"
        known = {tag: value for tag, value in values.items() if value is not None}
        self._file.write(frame(scalars_event(wall_ms() / 1000.0, step, known)))
        self._file.flush()
