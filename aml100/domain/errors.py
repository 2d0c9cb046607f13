"""The errors of AML-100.

Every error that a person may see descends from `AmlError` and carries its one clear line as its text. `exit_code`
is what the process ends with when nothing below handles it; `recoverable` says whether a running engine may go on.

    AmlError                 1  failed while running
    ├── UsageError           2  bad usage, configuration, input file, port in use, damaged state.db
    │   ├── ConfigError
    │   ├── DataFileError
    │   └── StateError
    ├── SafetyRefusal        3  not armed, wrong network, key file others can read, adding risk while halted
    ├── VenueError           1  the venue could not be reached or does not speak as documented
    │   ├── VenueUnavailable
    │   └── ProtocolViolation
    └── InvariantBroken      1  our own books contradict themselves: trading stops
"""

from __future__ import annotations

from typing import ClassVar


class AmlError(Exception):
    """Root of our errors; its text is one line made for the operator."""

    exit_code: ClassVar[int] = 1
    recoverable: ClassVar[bool] = False


class UsageError(AmlError):
    """Something the operator gave us cannot be used; nothing was changed."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration value is unknown, mistyped or out of range; names file, key, value and what is allowed."""


class DataFileError(UsageError):
    """An input file is refused; names the file, the row (a CSV's header counts as row 1) and the bar's time."""


class StateError(UsageError):
    """state.db is damaged, newer than this program, or belongs to something else; left untouched."""


class SafetyRefusal(AmlError):
    """Refused for safety, never for convenience."""

    exit_code = 3


class VenueError(AmlError):
    """The venue failed us; connection loops handle it by backing off."""

    recoverable = True


class VenueUnavailable(VenueError):
    """No answer, a timeout, HTTP 429 or 5xx: the outcome of what was sent is unknown."""


class ProtocolViolation(VenueError):
    """A message that does not decode, or holds a number that is not finite; names the path inside it."""


class InvariantBroken(AmlError):
    """The engine's own books contradict themselves; trading stops."""
