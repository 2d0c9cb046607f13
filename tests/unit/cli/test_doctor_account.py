"""What `doctor` says of key and account at the venue (GUARANTEES B19)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from aml100.cli.doctor_account import examine_account
from aml100.domain.units import DAY_MS
from aml100.venue.signing import Signer

KEY = "0x" + "12" * 32
AGENT, MASTER = Signer(KEY, "other").address, "0x" + "a" * 40
NOW = 1_700_000_000_000


def look(account: str | None = MASTER, **answers: Any) -> dict[str, tuple[str, str]]:
    """Findings by name, of a venue that answers so."""
    known: dict[str, Any] = {
        "userRole": {"role": "agent", "data": {"user": MASTER}},
        "extraAgents": [{"name": "bot", "address": AGENT, "validUntil": NOW + 90 * DAY_MS}],
        "exchangeStatus": {"time": NOW + 40},
        "clearinghouseState": {"marginSummary": {"accountValue": "812.5"}, "assetPositions": []},
        "userAbstraction": "default",
    }

    def ask(body: Mapping[str, str]) -> bytes:
        return json.dumps((known | answers)[body["type"]]).encode()

    found = examine_account(KEY, account, is_mainnet=False, ask=ask, now_ms=NOW)
    return {name: (state, detail) for name, state, detail, _ in found}


def test_a_sound_agent_of_a_funded_account_is_fine() -> None:
    seen = look()
    assert {state for state, _ in seen.values()} == {"OK"}
    assert "an agent of " + MASTER in seen["signer"][1]
    assert seen["account"][1] == f"{MASTER}: 812.5 USD, no position"


@pytest.mark.parametrize(("days", "state"), [(15, "OK"), (13, "WARN"), (2, "FAIL"), (-1, "FAIL")])
def test_b19_an_agent_that_expires_is_amber_then_red(days: int, state: str) -> None:
    seen = look(extraAgents=[{"name": "bot", "address": AGENT.upper(), "validUntil": NOW + days * DAY_MS}])
    assert seen["agent"][0] == state


def test_the_wrong_account_and_a_strangers_key_fail() -> None:
    seen = look(account="0x" + "b" * 40)
    assert seen["signer"] == ("FAIL", f"{AGENT} is an agent of {MASTER}")
    assert look(userRole={"role": "missing"})["signer"][0] == "FAIL"
    assert look(userRole={"role": "user"}, account=AGENT)["signer"][0] == "WARN"


def test_nonces_are_judged_by_the_clock() -> None:
    assert look(exchangeStatus={"time": NOW - 2 * DAY_MS})["nonces"][0] == "FAIL"
    assert look(exchangeStatus={"time": NOW - DAY_MS // 2, "speed": 60.0})["nonces"][0] == "OK"


def test_b12_an_account_without_a_worth_is_told_why() -> None:
    nothing = {"marginSummary": {"accountValue": "0.0"}, "assetPositions": []}
    assert "no money" in look(clearinghouseState=nothing)["account"][1]
    assert "unifiedAccount" in look(clearinghouseState=nothing, userAbstraction="unifiedAccount")["account"][1]
