"""Margin, leverage, funding and liquidation of the simulated venue, against recorded relations and by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from aml100.domain.market import Instrument
from aml100.sim.accounts import FillEvent
from aml100.sim.collateral import send_usd
from aml100.sim.margin import liquidation_price
from aml100.sim.words import rough
from tests.sim.deal import ANN, BEN, BTC, ETH, Deal, bar, d, order


def test_the_recorded_liquidation_price_of_an_isolated_position() -> None:
    """hyperliquid.md section 9: -rawUsd / (szi (1 - l)), recorded as 35.8559189474."""
    hype = Instrument(BTC, 0, 2, 10, 4)
    size, mark, raw_usd = d("2"), d("38.0"), d("-68.1262460001")
    available = raw_usd + size * mark - size * mark / 20
    level = liquidation_price(size, mark, available, hype)
    assert level is not None
    assert rough(level) == rough(-raw_usd / (size * (1 - Decimal(1) / 20))) == "35.8559189474"


def test_cross_numbers_of_one_long() -> None:
    deal = Deal()
    deal.exchange.set_leverage(ANN, BTC, 5)
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    view = deal.exchange.margin(ANN)
    assert view.account_value == d(10000) - d("2.70027") - d("0.6")  # fee, and the half spread
    assert (view.margin_used, view.notional) == (1200, 6000)
    assert view.cross_maintenance == 75  # half of 1/40
    held = view.holdings[0]
    assert (held.margin_used, held.value, held.unrealised) == (1200, 6000, d("-0.6"))
    expected = d(60000) - (view.account_value - 75) / d("0.1") / (1 - Decimal(1) / 80)
    assert held.liquidation_px is None or abs(held.liquidation_px - expected) < d("1e-9")


def test_leverage_is_refused_out_of_range_and_with_an_open_position_of_the_other_mode() -> None:
    deal = Deal()
    set_leverage = deal.exchange.set_leverage
    assert set_leverage(ANN, BTC, 41) == set_leverage(ANN, BTC, 0) == "Invalid leverage value"
    assert set_leverage(ANN, BTC, 40) is None
    deal.one(order("buy", "5", "61000", "Ioc"))
    assert set_leverage(ANN, BTC, 40, is_cross=False) == "Cannot switch leverage type with open position."
    assert str(set_leverage(ANN, BTC, 20)).startswith("Cross position does not have sufficient margin available")
    assert set_leverage(ANN, BTC, 35) is None


def test_an_isolated_position_lowers_its_leverage_only_with_margin_for_it() -> None:
    deal = Deal()
    deal.exchange.set_leverage(ANN, BTC, 10, is_cross=False)
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    assert str(deal.exchange.set_leverage(ANN, BTC, 5, is_cross=False)).startswith("Isolated position does not have")
    assert deal.exchange.move_margin(ANN, BTC, d(700)) is None
    assert deal.exchange.set_leverage(ANN, BTC, 5, is_cross=False) is None


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (d(0), "Update to isolated margin cannot be zero."),
        (d(20_000), "Account does not have sufficient margin available for increase."),
        (d(-1), "Position does not have sufficient margin for reduction."),
    ],
)
def test_isolated_margin_moves_within_bounds(amount: Decimal, text: str) -> None:
    deal = Deal()
    deal.exchange.set_leverage(ANN, BTC, 10, is_cross=False)
    assert deal.exchange.move_margin(ANN, BTC, d(10)) == "Cannot update margin for empty position."
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    assert deal.exchange.move_margin(ANN, BTC, amount) == text
    before = deal.exchange.margin(ANN)
    assert deal.exchange.move_margin(ANN, BTC, d(100)) is None
    after = deal.exchange.margin(ANN)
    assert after.account_value == before.account_value
    assert after.holdings[0].margin_used == before.holdings[0].margin_used + 100
    assert after.withdrawable == before.withdrawable - 100


def test_a_cross_position_has_no_isolated_margin() -> None:
    deal = Deal()
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    assert deal.exchange.move_margin(ANN, BTC, d(10)) == "Position does not use isolated margin."


def test_funding_is_paid_at_the_hour_on_the_position_at_the_open() -> None:
    deal = Deal()
    deal.one(order("sell", "0.1", "59000", "Ioc"))
    opened = replace(bar("60000", "60000", "60000", "60000"), open_ms=deal.exchange.now_ms + 3_600_000)
    deal.events = deal.exchange.open_bars([opened], {BTC: d("0.0001")})
    assert [(one.paid.amount, one.paid.size) for one in deal.paid()] == [(d("0.6"), d("-0.1"))]
    assert deal.exchange.margin(ANN).holdings[0].funding_since_open == d("-0.6")


# --- liquidation --------------------------------------------------------------------------------------------------


def notes(deal: Deal) -> list[tuple[str, Decimal]]:
    """Method and size of the liquidations that happened last."""
    found = [one for one in deal.events if isinstance(one, FillEvent) and one.liquidation is not None]
    return [(one.liquidation.method, one.fill.size) for one in found if one.liquidation is not None]


def test_a_small_position_is_closed_whole_at_its_liquidation_price() -> None:
    deal = Deal(deposit="1000")
    deal.exchange.set_leverage(ANN, BTC, 40)
    deal.one(order("buy", "0.5", "61000", "Ioc"))
    level = deal.exchange.margin(ANN).holdings[0].liquidation_px
    assert level is not None
    resting = order("buy", "0.001", "50000")
    deal.one(resting)
    deal.play("60000", "60000", str(int(level) - 500), "58600")
    assert deal.words() == ["liquidatedCanceled", "filled"]
    assert notes(deal) == [("market", d("0.5"))]
    assert deal.fills() == [(level * d("0.9999"), d("0.5"))]
    assert deal.held() == 0


def test_a_large_position_loses_a_fifth_first_and_the_rest_if_that_was_not_enough() -> None:
    deal = Deal(deposit="10000")
    deal.exchange.set_leverage(ANN, BTC, 40)
    deal.one(order("buy", "6", "61000", "Ioc"))
    level = deal.exchange.margin(ANN).holdings[0].liquidation_px
    assert level is not None
    below = str(int(level))
    deal.play("60000", "60000", below, below)
    assert notes(deal) == [("market", d("1.2"))]
    lower = str(int(level * d("0.996")))
    deal.play(below, below, lower, lower)
    assert (notes(deal), deal.held()) == ([("market", d("4.8"))], 0)


def test_far_below_maintenance_the_backstop_takes_everything_and_nobody_owes() -> None:
    deal = Deal(deposit="1000")
    deal.exchange.set_leverage(ANN, BTC, 40)
    deal.one(order("buy", "0.5", "61000", "Ioc"))
    deal.play("50000", "50000", "50000", "50000")
    assert notes(deal) == [("backstop", d("0.5"))]
    assert abs(deal.exchange.accounts[ANN].balance) < d("0.00001")


def test_an_isolated_position_falls_alone() -> None:
    deal = Deal()
    deal.exchange.set_leverage(ANN, BTC, 40, is_cross=False)
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    deal.one(order("buy", "1", "3100", "Ioc", coin=ETH))
    deal.play("60000", "60000", "50000", "59500")
    assert notes(deal) == [("market", d("0.1"))]
    assert (deal.held(), deal.held(coin=ETH)) == (0, 1)
    assert deal.exchange.accounts[ANN].balance > d(9800)


# --- money --------------------------------------------------------------------------------------------------------


def test_money_goes_to_another_account_as_far_as_no_position_needs_it() -> None:
    deal = Deal()
    new = "0x" + 40 * "c"
    assert send_usd(deal.exchange, ANN, new, "250.5") is None
    assert deal.exchange.accounts[new].balance == d("250.5")
    assert deal.exchange.accounts[ANN].deposits == d("9749.5")
    for amount, text in (("NaN", "Invalid amount"), ("-1", "Invalid amount"), ("9750", "Insufficient balance")):
        assert str(send_usd(deal.exchange, ANN, BEN, amount)).startswith(text)
    for amount in ("1e30", "1" + 40 * "0", "1e999999", "  5", "0_1", "0.0000001", ""):
        assert send_usd(deal.exchange, ANN, BEN, amount) == "Invalid amount"
    assert send_usd(deal.exchange, ANN, "0x1", "1") == "Invalid destination"


def test_a_transfer_leaves_a_tenth_of_what_positions_are_worth_or_their_margin_if_that_is_more() -> None:
    for leverage, kept in ((40, "600"), (5, "1200")):
        deal = Deal()
        deal.exchange.set_leverage(ANN, BTC, leverage)
        deal.one(order("buy", "0.1", "61000", "Ioc"))
        free = deal.exchange.margin(ANN).account_value.quantize(d("0.000001")) - d(kept)
        over = send_usd(deal.exchange, ANN, BEN, str(free + 1))
        assert over == "Insufficient balance for transfer."
        assert send_usd(deal.exchange, ANN, BEN, str(free)) is None
