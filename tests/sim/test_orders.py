"""What the matching engine does with orders: hyperliquid.md, section 5, as hand-worked examples."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aml100.domain.events import Grouping
from aml100.domain.orders import OrderStatus, Side
from aml100.sim.accounts import OrderTags
from tests.sim.deal import ANN, BEN, BTC, Deal, bar, d, order

# --- limits -------------------------------------------------------------------------------------------------------


def test_a_market_order_pays_the_slippage_exactly() -> None:
    deal = Deal()
    done = deal.one(order("buy", "0.1", "61000", "Ioc"))
    assert (done.status, done.filled_size, done.average_price) == (OrderStatus.FILLED, d("0.1"), d("60006.0000"))
    assert deal.exchange.accounts[ANN].fills[0].fill.fee == d("2.70027")


@pytest.mark.parametrize(("price", "word"), [("60005", "iocCancelRejected"), ("60006", "filled")])
def test_ioc_fills_where_its_limit_reaches_the_ask(price: str, word: str) -> None:
    assert Deal().one(order("buy", "0.1", price, "Ioc")).word == word


@pytest.mark.parametrize(("price", "word"), [("60005", "open"), ("60006", "badAloPxRejected")])
def test_alo_rests_below_the_ask_and_is_refused_at_it(price: str, word: str) -> None:
    result = Deal().one(order("buy", "0.1", price, "Alo"))
    assert result.word == word
    if result.error:
        assert result.error == "Post only order would have immediately matched, bbo was 59994@60006. asset=0"


def test_a_resting_order_fills_only_when_it_is_traded_through() -> None:
    deal = Deal()
    deal.one(order("buy", "0.1", "59900"))
    deal.play("60000", "60010", "59900", "59950")
    assert (deal.words(), deal.held()) == ([], 0)
    deal.play("59950", "59960", "59899", "59900")
    assert (deal.words(), deal.fills()) == (["filled"], [(d("59900"), d("0.1"))])
    assert deal.exchange.accounts[ANN].fills[0].fill.fee == d("0.8985")  # 59900 x 0.1 x 0.00015


def test_an_order_its_account_can_no_longer_carry_goes_when_it_would_fill() -> None:
    deal = Deal(deposit="1000")
    deal.one(order("buy", "0.3", "59000"))  # 17,700 of the 20,000 that 20x carries
    deal.one(order("buy", "0.2", "61000", "Ioc"))
    deal.play("60000", "60000", "58900", "59000")
    assert deal.words() == ["marginCanceled"]


def test_open_orders_are_limited() -> None:
    deal = Deal()
    deal.one(order("buy", "0.01", "61000", "Ioc"))
    for _ in range(1000):
        deal.one(order("buy", "0.001", "59000"))
    assert deal.one(order("buy", "0.001", "59000")).word == "tooManyOpenOrdersRejected"
    assert deal.one(order("sell", "0.01", "57000", None, trigger=("sl", "59000"))).word == "tooManyOpenOrdersRejected"


# --- reduce-only --------------------------------------------------------------------------------------------------


def test_reduce_only_is_capped_to_the_position_and_refused_without_one() -> None:
    deal = Deal()
    refused = deal.one(order("sell", "0.1", "59000", "Ioc", reduce_only=True))
    assert refused.error == "Reduce only order would increase position. asset=0"
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    assert deal.one(order("sell", "5", "61000", reduce_only=True)).status is OrderStatus.RESTING
    assert deal.resting() == [d("0.1")]
    assert deal.one(order("sell", "5", "59000", "Ioc", reduce_only=True)).filled_size == d("0.1")
    assert deal.words() == ["filled", "reduceOnlyCanceled"]
    assert (deal.held(), deal.resting()) == (0, [])


def test_of_reduce_only_orders_beyond_the_position_the_older_goes() -> None:
    deal = Deal()
    deal.one(order("buy", "1", "61000", "Ioc"))
    first, second = order("sell", "0.6", "61000", reduce_only=True), order("sell", "0.3", "61100", reduce_only=True)
    deal.place(first, second)
    assert deal.resting() == [d("0.6"), d("0.3")]
    deal.one(order("sell", "0.5", "61200", reduce_only=True))
    assert deal.words() == ["open", "reduceOnlyCanceled"]
    assert deal.resting() == [d("0.3"), d("0.5")]
    deal.one(order("sell", "0.6", "59000", "Ioc"))
    assert deal.resting() == [d("0.4")]  # the newest is capped to what is left, and nothing fits beside it


# --- triggers -----------------------------------------------------------------------------------------------------


def test_a_stop_fills_worsened_at_its_level_or_at_the_open_beyond_it() -> None:
    for opens, paid in (("59800", d("59494.05")), ("59000", d("58994.1"))):
        deal = Deal()
        deal.one(order("buy", "0.1", "61000", "Ioc"))
        deal.one(order("sell", "0.1", "55000", None, trigger=("sl", "59500")))
        deal.play(opens, "59900", "58900", "59000")
        assert deal.fills() == [(paid, d("0.1"))]


def test_a_target_fills_exactly_at_its_level_after_the_stops() -> None:
    deal = Deal()
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    deal.one(order("sell", "0.1", "59000", None, trigger=("tp", "60500")))
    deal.play("60000", "60600", "59900", "60500")
    assert deal.fills() == [(d("60500"), d("0.1"))]


def test_a_triggered_market_order_is_bounded_by_its_own_price() -> None:
    deal = Deal()
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    deal.one(order("sell", "0.1", "59400", None, trigger=("sl", "59500")))
    deal.play("59000", "59100", "58900", "59000")
    assert (deal.words(), deal.held()) == (["iocCancelRejected"], d("0.1"))


def test_a_triggered_limit_rests_where_the_market_is_beyond_it() -> None:
    deal = Deal()
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    deal.one(order("sell", "0.1", "59450", trigger=("sl", "59500")))
    deal.play("59000", "59100", "58900", "59000")
    assert deal.words() == ["triggered"]
    deal.play("59000", "59451", "58900", "59000")
    assert (deal.words(), deal.fills()) == (["filled"], [(d("59450"), d("0.1"))])


def test_a_trigger_on_the_wrong_side_is_refused() -> None:
    deal = Deal()
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    result = deal.one(order("sell", "0.1", "61000", None, trigger=("sl", "60000")))
    assert result.error == "Invalid TP/SL price. asset=0"


def test_children_sleep_until_their_parent_fills_and_one_frees_the_other() -> None:
    deal = Deal()
    stop = order("sell", "0.1", "55000", None, trigger=("sl", "58000"))
    target = order("sell", "0.1", "60000", None, trigger=("tp", "60500"))
    results = deal.bracket(order("buy", "0.1", "59000"), stop, target)
    assert [one.word for one in results] == ["open", "waitingForFill", "waitingForFill"]
    deal.play("60000", "60600", "59500", "60000")
    assert deal.words() == []  # a waiting target is not armed
    deal.play("60000", "60000", "58900", "59000")
    assert deal.words() == ["filled", "open", "open"]
    deal.play("59000", "60600", "59000", "60500")
    assert deal.words() == ["filled", "siblingFilledCanceled"]


def test_a_cancelled_parent_takes_its_children_with_it() -> None:
    deal = Deal()
    results = deal.bracket(order("buy", "0.1", "59000"), order("sell", "0.1", "55000", None, trigger=("sl", "58000")))
    assert results[0].oid is not None
    _, deal.events = deal.exchange.cancel(ANN, BTC, results[0].oid)
    assert deal.words() == ["canceled", "canceled"]


def test_a_group_without_children_or_with_one_that_adds_is_refused_whole() -> None:
    deal = Deal()
    alone = deal.bracket(order("buy", "0.1", "61000", "Ioc"))
    assert alone[0].error == "Unexpected number of trigger orders asset=0"
    adds = deal.bracket(
        order("buy", "0.1", "61000", "Ioc"), order("buy", "0.1", "65000", None, trigger=("sl", "61000"))
    )
    assert {one.status for one in adds} == {OrderStatus.REJECTED}
    assert deal.held() == 0


def test_triggers_on_the_position_follow_it_and_go_with_it() -> None:
    deal = Deal()
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    stop = order("sell", "0", "55000", None, trigger=("sl", "59000"))
    target = order("sell", "0", "60000", None, trigger=("tp", "62000"))
    deal.place(stop, target, grouping=Grouping.POSITION_TPSL)
    assert deal.resting() == [d("0.1"), d("0.1")]
    deal.one(order("buy", "0.2", "61000", "Ioc"))
    assert deal.resting() == [d("0.3"), d("0.3")]
    deal.play("60000", "60000", "58900", "58900")
    assert deal.fills() == [(d("58994.1000"), d("0.3"))]
    assert deal.words() == ["filled", "siblingFilledCanceled"]

    deal.open("59000")
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    deal.place(order("sell", "0", "55000", None, trigger=("sl", "58000")), grouping=Grouping.POSITION_TPSL)
    deal.one(order("sell", "0.3", "55000", "Ioc"))  # flips
    assert deal.words() == ["filled", "reduceOnlyCanceled"]


def test_triggers_on_the_position_need_one() -> None:
    stop = order("sell", "0", "55000", None, trigger=("sl", "59000"))
    result = Deal().place(stop, grouping=Grouping.POSITION_TPSL)[0]
    assert result.error == "Reduce only order would increase position. asset=0"
    assert Deal().one(stop).error == "Order has zero size. asset=0"


# --- modify -------------------------------------------------------------------------------------------------------


def test_modify_is_cancel_and_replace_with_a_new_oid_and_the_same_cloid() -> None:
    deal = Deal()
    mine = order("buy", "0.1", "59000")
    before = deal.one(mine)
    after, deal.events = deal.exchange.modify(
        deal.events[0].address, mine.cloid, order("buy", "0.2", "59100", cloid=mine.cloid)
    )
    assert deal.words() == ["canceled", "open"]
    assert before.oid is not None
    assert (after.status, after.cloid, after.oid) == (OrderStatus.RESTING, mine.cloid, before.oid + 1)
    gone, _ = deal.exchange.modify(ANN, before.oid, mine)
    assert gone.error == "Cannot modify canceled or filled order"


def test_a_modify_that_would_execute_is_refused_after_its_cancel_unless_it_says_always() -> None:
    for always, words in ((False, ["canceled", "badAloPxRejected"]), (True, ["canceled", "filled"])):
        deal = Deal()
        mine = order("buy", "0.1", "59000")
        deal.one(mine)
        crossing = order("buy", "0.1", "61000", cloid=mine.cloid)
        result, deal.events = deal.exchange.modify(ANN, mine.cloid, crossing, always=always)
        assert deal.words() == words
        assert result.error.startswith("Error placing new order during modify: ") is not always


def test_a_malformed_modify_leaves_the_old_order_alone() -> None:
    deal = Deal()
    mine = order("buy", "0.1", "59000")
    deal.one(mine)
    result, events = deal.exchange.modify(ANN, mine.cloid, order("buy", "0.1", "59000.5", cloid=mine.cloid))
    assert (result.error, events) == ("Price must be divisible by tick size. asset=0", [])
    assert deal.resting() == [d("0.1")]


def test_a_modified_child_sleeps_on_until_its_parent_fills_and_goes_with_it() -> None:
    """A target that was armed at once would close another position, and leave the parent without protection."""
    deal = Deal()
    deal.one(order("buy", "0.2", "61000", "Ioc"))
    stop = order("sell", "0.1", "55000", None, trigger=("sl", "58000"))
    target = order("sell", "0.1", "60000", None, trigger=("tp", "60500"))
    parent, _, waits = deal.bracket(order("buy", "0.1", "59000"), stop, target)
    nearer = order("sell", "0.1", "60000", None, trigger=("tp", "60100"))
    adds = order("buy", "0.1", "65000", None, trigger=("sl", "61000"))
    for wrong, text in ((order("sell", "0.1", "61000"), "Unexpected number of trigger"), (adds, "Reduce only order")):
        refused, events = deal.exchange.modify(ANN, waits.oid or 0, wrong)
        assert (refused.error.startswith(text), events) == (True, [])
    changed, deal.events = deal.exchange.modify(ANN, waits.oid or 0, nearer)
    assert (changed.word, deal.words()) == ("waitingForFill", ["canceled"])
    deal.play("60000", "60600", "59500", "60000")
    assert (deal.words(), deal.held()) == ([], d("0.2"))
    deal.play("60000", "60000", "58900", "59000")
    assert (deal.words(), deal.held()) == (["filled", "open", "open"], d("0.3"))
    deal.play("59000", "60200", "59000", "60200")
    assert (deal.words(), deal.held()) == (["filled", "siblingFilledCanceled"], d("0.2"))
    again = order("sell", "0.1", "60000", None, trigger=("tp", "60500"))
    parent, waits = deal.bracket(order("buy", "0.1", "59000"), again)
    deal.exchange.modify(ANN, waits.oid or 0, order("sell", "0.1", "60000", None, trigger=("tp", "60400")))
    _, deal.events = deal.exchange.cancel(ANN, BTC, parent.oid or 0)
    assert deal.words() == ["canceled", "canceled"]


# --- the book where it has depth ----------------------------------------------------------------------------------


def test_a_large_order_walks_the_book_and_what_it_took_is_gone_until_the_price_moves() -> None:
    deal = Deal(depth=True, deposit="1000000")
    asks = deal.exchange.ladder.levels(d(60000), deal.exchange.instruments[BTC], Side.SELL)
    best, second = asks[0], asks[1]
    done = deal.one(order("buy", str(best.size + d("0.01")), "61000", "Ioc"))
    assert deal.fills() == [(best.price, best.size), (second.price, d("0.01"))]
    average = (best.price * best.size + second.price * d("0.01")) / (best.size + d("0.01"))
    assert done.average_price == average
    deal.one(order("buy", "0.01", "61000", "Ioc"))
    assert deal.fills() == [(second.price, d("0.01"))]
    deal.open("60000")
    deal.one(order("buy", "0.01", "61000", "Ioc"))
    assert deal.fills() == [(best.price, d("0.01"))]


def test_an_ioc_takes_what_its_limit_reaches_and_a_gtc_leaves_the_rest_in_the_book() -> None:
    deal = Deal(depth=True, deposit="1000000")
    best = deal.exchange.ladder.levels(d(60000), deal.exchange.instruments[BTC], Side.SELL)[0]
    ioc = deal.one(order("buy", "5", str(best.price), "Ioc"))
    assert (ioc.status, ioc.filled_size) == (OrderStatus.FILLED, best.size)
    deal.open("60000")
    gtc = deal.one(order("buy", "5", str(best.price)))
    assert (gtc.status, gtc.filled_size) == (OrderStatus.RESTING, best.size)
    assert deal.resting() == [5 - best.size]


def test_accounts_trade_with_each_other_at_the_resting_price() -> None:
    deal = Deal(depth=True)
    deal.one(order("sell", "0.1", "60003", "Alo"))  # inside the spread
    assert deal.exchange.best_offer(BTC, order("buy", "1", "1").side) == d(60003)
    deal.one(order("buy", "0.04", "60100", "Ioc"), who=BEN)
    assert deal.fills() == [(d("60003"), d("0.04")), (d("60003"), d("0.04"))]
    assert (deal.held(), deal.held(BEN)) == (d("-0.04"), d("0.04"))
    fees = [one.fill.fee for one in deal.exchange.accounts[BEN].fills]
    assert fees == [d("1.080054")]  # taker; the other side pays a third of it
    assert deal.resting() == [d("0.06")]


def test_an_own_order_in_the_way_is_cancelled() -> None:
    deal = Deal(depth=True)
    deal.one(order("sell", "0.1", "60003", "Alo"))
    deal.one(order("buy", "0.04", "60100", "Ioc"))
    assert deal.words() == ["selfTradeCanceled", "filled"]
    assert deal.fills() == [(d("60006"), d("0.04"))]


# --- what faults do to orders -------------------------------------------------------------------------------------


def test_a_partial_fill_leaves_the_rest_of_an_ioc_unfilled_and_arms_the_children() -> None:
    deal = Deal()
    stop = order("sell", "0.1", "55000", None, trigger=("sl", "59000"))
    tags = (OrderTags(share=Decimal("0.3")), OrderTags())
    results = deal.place(order("buy", "0.1", "61000", "Ioc"), stop, grouping=Grouping.NORMAL_TPSL, tags=tags)
    assert (results[0].filled_size, results[1].word) == (d("0.03"), "waitingForTrigger")
    assert deal.held() == d("0.03")


def test_a_refused_or_lost_stop_leaves_its_parent_filled() -> None:
    for tags, last in ((OrderTags(refusal="No."), "No. asset=0"), (OrderTags(is_lost=True), "")):
        deal = Deal()
        stop = order("sell", "0.1", "55000", None, trigger=("sl", "59000"))
        results = deal.place(
            order("buy", "0.1", "61000", "Ioc"), stop, grouping=Grouping.NORMAL_TPSL, tags=(OrderTags(), tags)
        )
        assert (results[0].word, results[1].error) == ("filled", last)
        assert (deal.held(), deal.resting()) == (d("0.1"), [])


# --- time ---------------------------------------------------------------------------------------------------------


def test_scheduled_cancels_need_volume_five_seconds_and_fire_ten_times_a_day() -> None:
    deal = Deal(deposit="1000000")
    refusal = deal.exchange.schedule_cancel(ANN, None)
    assert refusal == (
        "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $0.00."
    )
    deal.exchange.accounts[ANN].volume = d("1000000")
    early = deal.exchange.schedule_cancel(ANN, deal.exchange.now_ms + 4999)
    assert "5 seconds" in str(early)
    for _ in range(10):
        stop = order("sell", "0.1", "55000", None, trigger=("sl", "59000"))
        deal.bracket(order("buy", "0.1", "59500"), stop)
        assert deal.exchange.schedule_cancel(ANN, deal.exchange.now_ms + 5000) is None
        deal.play("60000", "60000", "60000", "60000")
        assert deal.words() == ["scheduledCancel", "scheduledCancel"]
    eleventh = deal.exchange.schedule_cancel(ANN, deal.exchange.now_ms + 5000)
    assert "10 times today" in str(eleventh)


def test_the_state_goes_through_its_export() -> None:
    deal = Deal(depth=True)
    deal.one(order("buy", "0.1", "61000", "Ioc"))
    deal.place(order("sell", "0", "55000", None, trigger=("sl", "59000")), grouping=Grouping.POSITION_TPSL)
    other = Deal(depth=True)
    other.exchange.restore(deal.exchange.export_state())
    assert other.exchange.export_state() == deal.exchange.export_state()
    for one in (deal, other):
        one.exchange.open_bars([bar("60000", "60000", "58000", "58500", 1)], {})
        one.events = one.exchange.play_bars()
    assert other.fills() == deal.fills() != []


def test_the_oldest_orders_are_forgotten_but_never_an_open_one_nor_its_family() -> None:
    deal = Deal()
    first = order("buy", "0.01", "59000")
    stop = order("sell", "0.01", "55000", None, trigger=("sl", "58000"))
    deal.bracket(first, stop)
    for _ in range(8100):
        mine = order("buy", "0.001", "59500")
        deal.one(mine)
        deal.exchange.cancel(ANN, BTC, mine.cloid)
    assert len(deal.exchange.orders) < 8100
    assert len(deal.exchange.accounts[ANN].cloids) == len(deal.exchange.orders)
    assert [deal.exchange.order(ANN, one.cloid) is not None for one in (first, stop, mine)] == [True] * 3
    deal.play("60000", "60000", "58900", "59000")
    assert deal.words() == ["filled", "open"]
    deal.play("59000", "59000", "57900", "58000")
    assert deal.words() == ["filled"]
