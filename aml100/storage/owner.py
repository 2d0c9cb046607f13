"""Whom a state belongs to: one network and one account, from its first opening on."""

from __future__ import annotations

from aml100.domain.errors import SafetyRefusal
from aml100.storage.store import Connection, Store


def check_owner(connection: Connection, store: Store, network: str, account: str) -> None:
    """SafetyRefusal where it belongs to another network or account; an account of "" is nobody's yet."""
    meta = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('network', 'account')").fetchall())
    for key, wanted in (("network", network), ("account", account.lower())):
        if wanted and key in meta and meta[key] != wanted:
            raise SafetyRefusal(f"{store}: belongs to {key} {meta[key]}, not {wanted}; use another --state")


def take_ownership(connection: Connection, store: Store, network: str, account: str) -> None:
    """Write down whose it is where nobody has yet; SafetyRefusal where it is somebody else's."""
    connection.executemany(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
        [one for one in (("network", network), ("account", account.lower())) if one[1]],
    )
    check_owner(connection, store, network, account)
