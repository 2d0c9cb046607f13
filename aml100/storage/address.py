"""Where the rows of a state lie that is no SQLite file: a note beside the engine's other files.

`--state postgresql+psycopg://user@host/db --home DIR` is written down in `DIR/state.postgresql` (mode 0600). From then
on that note is the state's path: history/, models/, HALT, engine.log and the socket lie beside it, as they lie beside a
state.db, and a command may name it in the URL's place. Each engine has a schema of its own in the database, so that
several share it and never meet; its name follows from the home, or is given as `?schema=NAME` in the URL.

Only the standard library is used here: every command reads its options through this module.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from aml100.domain.errors import StateError, UsageError

NOTE: Final = "state.postgresql"
SCHEMES: Final = ("postgresql+psycopg", "postgresql")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A database as libpq takes it, and the schema in it that holds one engine's tables."""

    url: str
    schema: str

    @property
    def place(self) -> tuple[str | None, str | None, str]:
        """Host, port and database: what two addresses of the same rows have in common."""
        parts = urlsplit(self.url)
        given = dict(parse_qsl(parts.query))
        port = given.get("port") or (str(parts.port) if parts.port else None)
        return given.get("host") or parts.hostname, port, parts.path.strip("/")

    def __str__(self) -> str:
        """For people: without password and parameters."""
        parts = urlsplit(self.url)
        host, port, database = self.place
        user = f"{parts.username}@" if parts.username else ""
        return f"postgresql://{user}{host or ''}{f':{port}' if port else ''}/{database} schema {self.schema}"


@dataclass(frozen=True, slots=True, repr=False)
class DatabaseUrl:
    """What `--state` names in a path's place; `schema` None: the home decides."""

    url: str
    schema: str | None


def parse_database_url(text: str) -> DatabaseUrl:
    """ValueError where it is no URL of PostgreSQL; its text is not repeated, for it may hold a password.

    >>> parse_database_url("postgresql+psycopg://me@db.example:5433/aml?schema=btc&sslmode=require").url
    'postgresql://me@db.example:5433/aml?sslmode=require'
    """
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("the URL of the state does not read; allowed: postgresql+psycopg://USER@HOST/DB") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("a state of that kind is not known; allowed: a path, or postgresql+psycopg://USER@HOST/DB")
    given = parse_qsl(parts.query)
    schema = dict(given).get("schema")
    if schema is not None and not _SCHEMA.fullmatch(schema):
        raise ValueError(f"schema={schema}; allowed: small letters, digits and _, at most 63")
    rest = urlencode([(name, value) for name, value in given if name != "schema"])
    plain = SplitResult("postgresql", parts.netloc, parts.path or "/", rest, "").geturl()
    return DatabaseUrl(plain.replace("postgresql:/", "postgresql:///", 1) if not parts.netloc else plain, schema)


def note_address(given: DatabaseUrl, home: Path) -> Path:
    """The path of the state: a note in `home`, made where there is none and kept up to date.

    Raises:
        UsageError: the rows of this home lie in another database or schema, or the note cannot be written.
    """
    path = home / NOTE
    known = read_address(path) if path.exists() else None
    wanted = Address(given.url, given.schema or (known.schema if known else schema_of(home)))
    if known is not None and (known.place, known.schema) != (wanted.place, wanted.schema):
        raise UsageError(f"{path}: its rows lie in {known}, not in {wanted}; allowed: that one, or another --home")
    if known is None or known.url != wanted.url:
        part = path.with_name(f".{NOTE}.{os.getpid()}.part")
        try:
            home.mkdir(parents=True, exist_ok=True)
            with open(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                json.dump({"url": wanted.url, "schema": wanted.schema}, file)
            part.replace(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def schema_of(home: Path) -> str:
    """A schema for this home: readable, and of no other home.

    >>> schema_of(Path("/srv/BTC desk"))
    'aml_btc_desk_fe982b9c'
    """
    whole = str(home.resolve())
    name = re.sub(r"[^a-z0-9]+", "_", Path(whole).name.lower()).strip("_")[:32]
    return f"aml_{name or 'home'}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def is_note(path: Path) -> bool:
    """Whether the path names a database elsewhere rather than being one."""
    return path.suffix == Path(NOTE).suffix


def read_address(path: Path) -> Address:
    """What a note says; StateError where there is none or it does not read."""
    try:
        said = json.loads(path.read_text())
        return Address(str(said["url"]), str(said["schema"]))
    except OSError as error:
        raise StateError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise StateError(f"{path}: names no database; remove it and give --state postgresql+psycopg://…") from None
