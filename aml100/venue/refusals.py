"""Kinds of refusals, told by the beginning of the venue's text.

The venue refuses in prose, with variable parts inside and, live, a suffix such as ` asset=3`. What follows from a
refusal depends on its kind alone: an order already gone was cancelled well enough, a full budget calls for patience,
a stranger's signature for a person.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Refusal(StrEnum):
    NOT_ON_GRID = "not_on_grid"
    """Price or size is not one the venue accepts."""
    TOO_SMALL = "too_small"
    MARGIN = "margin"
    REDUCE_ONLY = "reduce_only"
    """No position left to reduce, or the wrong side."""
    WOULD_MATCH = "would_match"
    NO_MATCH = "no_match"
    """Nothing within the limit to trade with: an Ioc ended unfilled."""
    BAD_TRIGGER = "bad_trigger"
    PRICE_BAND = "price_band"
    OPEN_INTEREST = "open_interest"
    ORDER_GONE = "order_gone"
    """Never placed, already canceled, or filled."""
    STRANGER = "stranger"
    """The signature is not that of a known account or agent."""
    NONCE = "nonce"
    EXPIRED = "expired"
    LEVERAGE = "leverage"
    NOT_ENTITLED = "not_entitled"
    """The account may not do this (yet), as scheduleCancel below its volume."""
    RATE_LIMIT = "rate_limit"
    MALFORMED = "malformed"
    OTHER = "other"


_BEGINNINGS: Final[tuple[tuple[str, Refusal], ...]] = (
    ("Price must be divisible by tick size", Refusal.NOT_ON_GRID),
    ("Order has invalid size", Refusal.NOT_ON_GRID),
    ("Order has invalid price", Refusal.NOT_ON_GRID),
    ("Order has zero size", Refusal.NOT_ON_GRID),
    ("Order must have minimum value", Refusal.TOO_SMALL),
    ("Insufficient margin", Refusal.MARGIN),
    ("Insufficient spot balance", Refusal.MARGIN),
    ("Order would cause position to exceed margin tier", Refusal.MARGIN),
    ("Account does not have sufficient margin", Refusal.MARGIN),
    ("Position does not have sufficient margin", Refusal.MARGIN),
    ("Reduce only order would increase position", Refusal.REDUCE_ONLY),
    ("Post only order would have immediately matched", Refusal.WOULD_MATCH),
    ("Order could not immediately match", Refusal.NO_MATCH),
    ("No liquidity available", Refusal.NO_MATCH),
    ("Invalid TP/SL price", Refusal.BAD_TRIGGER),
    ("Unexpected number of trigger orders", Refusal.BAD_TRIGGER),
    ("Order price cannot be more than", Refusal.PRICE_BAND),
    ("Order price too far from oracle", Refusal.PRICE_BAND),
    ("Order would increase open interest", Refusal.OPEN_INTEREST),
    ("Order rejected due to price more aggressive than oracle", Refusal.OPEN_INTEREST),
    ("Order was never placed, already canceled, or filled", Refusal.ORDER_GONE),
    ("Cannot modify canceled or filled order", Refusal.ORDER_GONE),
    ("User or API Wallet", Refusal.STRANGER),
    ("Must deposit before performing actions", Refusal.STRANGER),
    ("Unable to recover signer", Refusal.STRANGER),
    ("Mainnet and testnet require different signature", Refusal.STRANGER),
    ("Vault not registered", Refusal.STRANGER),
    ("Invalid nonce", Refusal.NONCE),
    ("Action already expired", Refusal.EXPIRED),
    ("Invalid leverage value", Refusal.LEVERAGE),
    ("Cannot switch leverage type", Refusal.LEVERAGE),
    ("Cross position does not have sufficient margin", Refusal.LEVERAGE),
    ("Isolated position does not have sufficient margin", Refusal.LEVERAGE),
    ("Cross margin is not allowed", Refusal.LEVERAGE),
    ("Position does not use isolated margin", Refusal.LEVERAGE),
    ("Cannot update margin for empty position", Refusal.LEVERAGE),
    ("Update to isolated margin cannot be zero", Refusal.LEVERAGE),
    ("Cannot set scheduled cancel time until enough volume", Refusal.NOT_ENTITLED),
    ("Only post-only orders allowed", Refusal.NOT_ENTITLED),
    ("Builder fee has not been approved", Refusal.NOT_ENTITLED),
    ("Referral code not registered", Refusal.NOT_ENTITLED),
    ("Extra agent already used", Refusal.NOT_ENTITLED),
    ("User has pending agent removal", Refusal.NOT_ENTITLED),
    ("Agent valid_until already expired", Refusal.NOT_ENTITLED),
    ("Too many extra agents", Refusal.NOT_ENTITLED),
    ("Cannot track more than", Refusal.NOT_ENTITLED),
    ("Too many cumulative requests", Refusal.RATE_LIMIT),
    ("too many pending post requests", Refusal.RATE_LIMIT),
    ("Failed to deserialize the JSON body", Refusal.MALFORMED),
    ("Error parsing JSON", Refusal.MALFORMED),
    ("Invalid subscription", Refusal.MALFORMED),
)


def refusal_kind(text: str) -> Refusal:
    """The kind of a refusal; OTHER for a text nobody has met.

    >>> refusal_kind("Order must have minimum value of $10. asset=173")
    <Refusal.TOO_SMALL: 'too_small'>
    """
    for beginning, kind in _BEGINNINGS:
        if text.startswith(beginning):
            return kind
    return Refusal.OTHER
