"""What a run's figures support, in plain words: the one sentence that a reader should take away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aml100.domain.units import iso_utc
from aml100.evaluation.seen import is_out_of_sample

ENOUGH: Final = 0.95
"""Probability from which a claim is called supported."""


def evidence_sentence(document: Mapping[str, object]) -> str:
    """Two or three sentences on what metrics.json supports; nothing is claimed that was not measured."""
    found = [_first(document), _verdict(document)]
    origin = str(document.get("data_origin", ""))
    if origin.startswith("synthetic"):
        found.append("The market was made up: nothing here says anything about a real one.")
    return " ".join(part for part in found if part)


def _first(document: Mapping[str, object]) -> str:
    trades, days = document.get("trades"), document.get("sharpe_days")
    words = f"{trades} trades over {days} daily returns, {_signed(document.get('total_return_pct'))} % after all costs."
    luck = document.get("luck")
    if isinstance(luck, Mapping) and trades:
        share = f"{float(luck['better_share']):.0%}"
        words += f" Of {luck['runs']} runs that traded as much at random, {share} ended with more."
    return words


def _verdict(document: Mapping[str, object]) -> str:
    psr, dsr, total = document.get("psr"), document.get("dsr"), document.get("total_return_pct")
    if document.get("policy") == "oracle":
        return "It knows the future: an upper bound of what there was to earn, no strategy."
    if not document.get("trades"):
        return "It did not trade: there is nothing to judge."
    if not is_out_of_sample(document):
        return _in_sample(document)
    if not isinstance(psr, float) or not isinstance(dsr, float):
        return "That is too little to say whether it was skill or luck: a Sharpe ratio needs 30 daily returns."
    if isinstance(total, float) and total <= 0.0:
        return "It lost money: nothing here supports trading it."
    trials = document.get("trials", 1)
    after = "" if trials == 1 else f" after {trials} trials"
    chance = f"The chance that the true Sharpe ratio{after} is above zero is {dsr:.0%}"
    pbo = document.get("pbo")
    if isinstance(pbo, float):
        chance += f", the probability of overfitting {pbo:.0%}"
    if dsr >= ENOUGH and _beats_luck(document):
        return f"{chance}: that supports a claim of skill, on this market and at these costs."
    if dsr >= ENOUGH:
        return (
            f"{chance}; but more than {1.0 - ENOUGH:.0%} of the runs at random did better: that is no claim of skill."
        )
    needed = document.get("min_track_record_days")
    wait = f"; about {needed:,.0f} days like these would be needed" if isinstance(needed, float) else ""
    return f"{chance}: that does not support a claim of skill at the usual 95 %{wait}."


def _in_sample(document: Mapping[str, object]) -> str:
    share, until, end = (document.get(name) for name in ("in_sample_share", "in_sample_until", "end"))
    if not isinstance(share, float):
        return "Whether the model was made from these very bars is not known: nothing is claimed of it."
    words = (
        f"The model was made from {'all' if share == 1.0 else f'{share:.1%}'} of these bars: nothing is claimed of it."
    )
    if isinstance(until, int) and isinstance(end, int) and end > until:
        words += f" --from {iso_utc(until)} judges it by bars that it has not seen."
    return words


def _beats_luck(document: Mapping[str, object]) -> bool:
    luck = document.get("luck")
    return not isinstance(luck, Mapping) or float(luck["better_share"]) <= 1.0 - ENOUGH


def _signed(value: object) -> str:
    return f"{value:+.2f}" if isinstance(value, float) else "n/a"
