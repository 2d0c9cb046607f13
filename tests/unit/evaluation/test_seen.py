"""Nothing is claimed of bars that a model was made from: times decide, and made-up markets by their origin too."""

from __future__ import annotations

import numpy as np
import pytest

from aml100.domain.market import Bar
from aml100.domain.units import DAY_MS, MINUTE_MS, Coin
from aml100.evaluation.evidence import evidence_sentence
from aml100.evaluation.seen import Seen, is_out_of_sample

FROM_MS, TO_MS = 600_000, 1_200_000


@pytest.mark.parametrize(
    ("made_from", "judged_on", "may_be"),
    [
        ("file:BTC.parquet", "file:renamed.csv", True),  # a file may go by another name
        ("hyperliquid:mainnet", "file:BTC.parquet", True),
        ("synthetic:regimes", "file:BTC.parquet", False),
        ("hyperliquid:mainnet", "synthetic:regimes", False),
        ("synthetic:regimes", "synthetic:gbm", False),
        ("synthetic:regimes", "synthetic:regimes,synthetic:regimes", True),
        ("synthetic:gbm, synthetic:regimes", "synthetic:regimes", True),
    ],
)
def test_times_decide_and_a_made_up_market_is_only_itself(made_from: str, judged_on: str, may_be: bool) -> None:
    seen = Seen(FROM_MS, TO_MS, made_from)
    opens = np.arange(FROM_MS - MINUTE_MS, TO_MS + 2 * MINUTE_MS, MINUTE_MS)
    expected = [may_be and FROM_MS <= time < TO_MS for time in opens.tolist()]
    assert seen.among(opens, judged_on).tolist() == expected
    bars = [Bar(Coin("BTC"), MINUTE_MS, time, 1.0, 1.0, 1.0, 1.0, 1.0, 0, judged_on) for time in opens.tolist()]
    assert [seen.holds(bar) for bar in bars] == expected


DOCUMENT: dict[str, object] = {
    "policy": "model", "model": "m-1", "trades": 400, "sharpe_days": 90, "total_return_pct": 80.0, "psr": 1.0,
    "dsr": 1.0, "trials": 1, "end": TO_MS + DAY_MS, "data_origin": "file:BTC.parquet",
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "claimed", "words"),
    [
        ({"in_sample_share": 0.0, "in_sample_until": TO_MS}, True, "that supports a claim of skill"),
        ({"policy": "momentum", "model": None, "in_sample_share": None}, True, "that supports a claim of skill"),
        ({}, True, "that supports a claim of skill"),  # as versions before this one wrote it
        ({"in_sample_share": 1.0, "in_sample_until": DOCUMENT["end"]}, False, "made from all of these bars: nothing"),
        (
            {"in_sample_share": 0.25, "in_sample_until": TO_MS},
            False,
            "made from 25.0% of these bars: nothing is claimed of it. --from 1970-01-01T00:20:00Z judges it",
        ),
        ({"in_sample_share": None}, False, "is not known: nothing is claimed of it."),
        ({"policy": "oracle", "model": None, "in_sample_share": None}, False, "It knows the future"),
    ],
)
def test_the_sentence_claims_nothing_of_what_was_seen(facts: dict[str, object], claimed: bool, words: str) -> None:
    document = DOCUMENT | facts
    assert is_out_of_sample(document) is claimed
    sentence = evidence_sentence(document)
    assert words in sentence
    assert ("supports a claim" in sentence) is claimed


@pytest.mark.parametrize(("better_share", "claimed"), [(0.04, True), (0.44, False)])
def test_whoever_trades_at_random_and_does_better_is_the_reason_that_is_named(
    better_share: float, claimed: bool
) -> None:
    luck = {"runs": 50, "better_share": better_share}
    sentence = evidence_sentence(DOCUMENT | {"in_sample_share": 0.0, "dsr": 0.97, "luck": luck})
    assert ("supports a claim" in sentence) is claimed
    assert ("more than 5% of the runs at random did better" in sentence) is not claimed
    assert "usual 95 %" not in sentence, "97 % is more than that"
