"""What a lead in shadow is worth: luck alone promotes in at most one of twenty cases, on any kind of market."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aml100.domain.units import HOUR_MS
from aml100.engine.pairing import NOBODY, Outcome, Pairing, ShadowRules
from aml100.market.series import Floats

RULES = ShadowRules(bars=96, level=0.05, interval_ms=HOUR_MS // 4)
RUNS = 2_000


def fate(differences: Floats, rules: ShadowRules = RULES, champion: str = "m-1", theirs: float = 0.01) -> Outcome:
    """The last look at a shadow whose challenger is ahead by these differences, bar by bar."""
    pairing = Pairing(champion, None, block_bars=rules.block_bars)
    outcome = Outcome("go on", "")
    for difference in differences:
        pairing.take(theirs + float(difference), theirs)
        if pairing.is_due(rules):
            outcome = pairing.look(rules)
            if outcome.verdict != "go on":
                break
    return outcome


def quiet(rng: np.random.Generator) -> Floats:
    return rng.normal(0, 1e-4, 400)


def heavy(rng: np.random.Generator) -> Floats:
    """Fat tails."""
    return rng.standard_t(3, 400) * 1e-4


def clustered(rng: np.random.Generator) -> Floats:
    """Calm and wild stretches, and positions that differ for hours: what two policies' differences look like."""
    wild = np.exp(np.cumsum(rng.normal(0, 0.1, 400)))
    sides = np.repeat(rng.integers(-2, 3, 50), 8)
    return sides * wild * rng.normal(0, 1e-4, 400)


@pytest.mark.parametrize("market", [quiet, heavy, clustered])
def test_b5_a_challenger_without_a_lead_is_promoted_in_at_most_one_of_twenty(
    market: Callable[[np.random.Generator], Floats],
) -> None:
    """The looks at twice and four times of the window are counted in."""
    rng = np.random.default_rng(8)
    promoted = sum(fate(market(rng)).verdict == "promote" for _ in range(RUNS))
    assert promoted <= 0.05 * RUNS


def test_b5_a_lead_that_stands_out_is_promoted() -> None:
    rng = np.random.default_rng(9)
    strong = [fate(rng.normal(6e-5, 1e-4, 400)).verdict for _ in range(200)]
    assert strong.count("promote") >= 195


def test_thin_evidence_lengthens_the_shadow_and_says_for_how_long() -> None:
    """A lead of one standard error over four blocks' worth of days."""
    rules = ShadowRules(bars=96, interval_ms=HOUR_MS)
    pairing = Pairing("m-1", None, block_bars=rules.block_bars)
    for bar in range(96):
        pairing.take(0.001 * (1.3 if bar // 4 % 2 else -1.0), 0.0)
    assert pairing.is_due(rules)
    outcome = pairing.look(rules)
    assert outcome.verdict == "go on"
    assert "cannot be told from luck (probability 0.2" in outcome.why
    assert "days to go if it stays so" in outcome.why
    assert not pairing.is_due(rules)


def test_a_lead_that_would_take_for_ever_is_given_up_at_once() -> None:
    pairing = Pairing("m-1", None, block_bars=RULES.block_bars)
    for bar in range(96):
        pairing.take(0.001 * (1.01 if bar // 4 % 2 else -1.0), 0.0)
    outcome = pairing.look(RULES)
    assert outcome.verdict == "refuse"
    assert "days to go" in outcome.why


def test_against_nobody_and_at_level_one_any_profit_does() -> None:
    faint = np.tile(np.repeat([0.0012, -0.001], RULES.block_bars), 96 // (2 * RULES.block_bars))
    assert fate(faint, theirs=0.0).verdict != "promote"
    assert fate(faint, champion=NOBODY, theirs=0.0).verdict == "promote"
    assert fate(faint, ShadowRules(96, level=1.0), theirs=0.0).verdict == "promote"
    assert fate(-faint, champion=NOBODY, theirs=0.0).verdict == "refuse"
