"""A key comes from where the operator put it, is refused where others can read it, and never shows."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from aml100.config import secrets
from aml100.config.secrets import load_account_address, load_private_key
from aml100.domain.errors import ConfigError, SafetyRefusal

KEY = "0x" + "c0ffee12" * 8


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)


def key_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", [KEY, KEY[2:], f" {KEY.upper().replace('0X', '0x')}\n"])
def test_the_variable_gives_the_key_in_one_form(text: str) -> None:
    key = load_private_key({"AML100_PRIVATE_KEY": text})
    assert key is not None
    assert (key.hex, key.origin) == (KEY, "AML100_PRIVATE_KEY")


def test_the_file_gives_the_key_when_only_its_owner_may_read_it(tmp_path: Path) -> None:
    key = load_private_key({"AML100_PRIVATE_KEY_FILE": str(key_file(tmp_path, f"{KEY}\n"))})
    assert key is not None
    assert key.hex == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, KEY, mode)
    with pytest.raises(SafetyRefusal, match=f"{mode:04o}.*chmod 600") as caught:
        load_private_key({"AML100_PRIVATE_KEY_FILE": str(path)})
    assert caught.value.exit_code == 3


def test_the_variable_wins_over_the_file(tmp_path: Path) -> None:
    environ = {"AML100_PRIVATE_KEY": KEY, "AML100_PRIVATE_KEY_FILE": str(tmp_path / "absent")}
    assert load_private_key(environ) is not None


def test_no_key_anywhere_is_none() -> None:
    assert load_private_key({}) is None
    assert load_private_key({"AML100_PRIVATE_KEY": " "}) is None


def test_the_keyring_is_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring, errors = types.ModuleType("keyring"), types.ModuleType("keyring.errors")
    kept = {(secrets.KEYRING_SERVICE, secrets.KEYRING_NAME): KEY}
    keyring.get_password = lambda service, name: kept.get((service, name))  # type: ignore[attr-defined]
    errors.KeyringError = type("KeyringError", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    key = load_private_key({})
    assert key is not None
    assert (key.hex, key.origin) == (KEY, "the keyring")


@pytest.mark.parametrize("text", ["c0ffee12", KEY + "0", "0x" + "zz" * 32, KEY[:-1]])
def test_what_is_no_key_is_refused_without_repeating_it(text: str, tmp_path: Path) -> None:
    for environ in (
        {"AML100_PRIVATE_KEY": text},
        {"AML100_PRIVATE_KEY_FILE": str(key_file(tmp_path, text))},
    ):
        with pytest.raises(ConfigError) as caught:
            load_private_key(environ)
        assert text not in str(caught.value)


def test_an_absent_or_binary_key_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_private_key({"AML100_PRIVATE_KEY_FILE": str(tmp_path / "absent")})
    path = key_file(tmp_path, "")
    path.write_bytes(b"\xff\x00" * 400)
    with pytest.raises(ConfigError, match="no private key"):
        load_private_key({"AML100_PRIVATE_KEY_FILE": str(path)})


def test_a_key_never_shows() -> None:
    key = load_private_key({"AML100_PRIVATE_KEY": KEY})
    assert "c0ffee12" not in f"{key} {key!r} {[key]}"


def test_the_account_is_an_address_or_absent() -> None:
    assert load_account_address({}) is None
    assert load_account_address({"AML100_ACCOUNT_ADDRESS": "0x" + "AB" * 20}) == "0x" + "ab" * 20
    with pytest.raises(ConfigError, match="40 hex digits"):
        load_account_address({"AML100_ACCOUNT_ADDRESS": KEY})
