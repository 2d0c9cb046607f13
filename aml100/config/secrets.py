"""Secrets: where they may come from, and that none of them shows.

The signing key comes from `AML100_PRIVATE_KEY`, else from the file named by `AML100_PRIVATE_KEY_FILE` (which only its
owner may read), else from the operating system's keyring. It is never part of the settings; its text is registered
with the log's redaction by whoever reads it, and a `PrivateKey` prints as dots.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aml100.domain.errors import ConfigError, SafetyRefusal

KEYRING_SERVICE: Final = "aml100"
KEYRING_NAME: Final = "private-key"

_KEY = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}")
_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key and where it came from; only `hex` shows it."""

    hex: str = field(repr=False)
    """`0x` and 64 hex digits."""
    origin: str

    def __str__(self) -> str:
        return f"a private key from {self.origin}"


def load_private_key(environ: Mapping[str, str]) -> PrivateKey | None:
    """The key, or None where there is none anywhere.

    Raises:
        ConfigError: what was given is no key, or its file cannot be read.
        SafetyRefusal: the key file may be read by others than its owner.
    """
    direct = environ.get("AML100_PRIVATE_KEY", "")
    if direct.strip():
        return _private_key(direct, "AML100_PRIVATE_KEY")
    file = environ.get("AML100_PRIVATE_KEY_FILE", "")
    if file.strip():
        return _private_key(_read_key_file(Path(file)), f"the file {file}")
    stored = _from_keyring()
    return _private_key(stored, "the keyring") if stored else None


def check_key_file(environ: Mapping[str, str]) -> None:
    """SafetyRefusal where the key file that is named may be read by others; the key itself is not read."""
    file = environ.get("AML100_PRIVATE_KEY_FILE", "").strip()
    if file:
        _require_private(Path(file), Path(file).stat().st_mode if Path(file).exists() else 0o600)


def load_account_address(environ: Mapping[str, str]) -> str | None:
    """The account to trade, in lower case; None where the variable is not set."""
    text = environ.get("AML100_ACCOUNT_ADDRESS", "").strip()
    if not text:
        return None
    if _ADDRESS.fullmatch(text) is None:
        raise ConfigError("AML100_ACCOUNT_ADDRESS: no address; allowed: 0x and 40 hex digits")
    return text.lower()


def _private_key(text: str, origin: str) -> PrivateKey:
    text = text.strip()
    if _KEY.fullmatch(text) is None:
        raise ConfigError(f"{origin}: no private key; allowed: 64 hex digits, with or without 0x")
    return PrivateKey(f"0x{text[-64:].lower()}", origin)


def _read_key_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            _require_private(path, os.fstat(file.fileno()).st_mode)
            return file.read(200).decode("ascii", "replace")
    except OSError as error:
        raise ConfigError(f"AML100_PRIVATE_KEY_FILE: {path}: {error.strerror or error}") from None


def _require_private(path: Path, st_mode: int) -> None:
    mode = stat.S_IMODE(st_mode)
    if mode & 0o077:
        raise SafetyRefusal(f"{path}: mode {mode:04o} lets others read the key; allowed: 0600 (chmod 600 {path})")


def _from_keyring() -> str | None:
    """The keyring is an extra: without it, or without a back-end that works, there is no key there."""
    try:
        keyring = importlib.import_module("keyring")
        errors = importlib.import_module("keyring.errors")
    except ModuleNotFoundError:
        return None
    try:
        stored = keyring.get_password(KEYRING_SERVICE, KEYRING_NAME)
    except errors.KeyringError:
        return None
    return stored if isinstance(stored, str) else None
