"""docs/venue.md names everything that the simulated venue serves, refuses or can be made to do wrong."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from aml100.sim import faults, requests, topics
from aml100.sim.info import _ANSWERS
from aml100.sim.user_info import USER_ANSWERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "venue.md").read_text()

TYPES = [*_ANSWERS, *USER_ANSWERS]
STREAMS = sorted(topics.OF_MARKET | topics.BY_USER | topics.BY_USER_AND_DEX | topics.REFUSED | {"allMids", "simStep"})
ACTIONS = sorted(str(one.__struct_config__.tag) for one in get_args(requests.ServedAction))
FIELDS = [field for field in faults.Fault.__struct_fields__ if field != "kind"]


@pytest.mark.parametrize("name", [*TYPES, *STREAMS, *ACTIONS, *faults.KINDS, *FIELDS])
def test_the_page_names_it(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_tables_are_those_that_were_meant() -> None:
    assert len(TYPES) > 40
    assert len(STREAMS) == 17
    assert len(ACTIONS) == 13
