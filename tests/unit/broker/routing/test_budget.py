"""Money: reserved before, settled after."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.routing.budget import BudgetLimits, Ledger, Limit, cost_of, periods
from broker.routing.catalogue import Prices
from broker.store.memory.spending import MemorySpendingAccounts

NOON = 1_795_262_400.0  # 2026-11-21 12:00 UTC
DAY_S = 86_400.0
PRICES = Prices(prompt=1_000_000, cached=100_000, reply=4_000_000)


def ledger(*, total: Limit | None = None, **keys: Limit) -> Ledger:
    books = MemorySpendingAccounts(lambda: 0)
    return Ledger(limits=BudgetLimits(total=total or Limit(), keys=keys), books=books)


async def test_without_limits_everything_is_allowed():
    book = ledger()
    assert await book.left_micro("a", NOON) is None
    assert await book.reserve("a", 10**12, NOON)


async def test_a_limit_is_never_passed_by_reservations():
    book = ledger(a=Limit(day_micro=100))
    assert await book.reserve("a", 60, NOON)
    assert await book.left_micro("a", NOON) == 40
    assert await book.reserve("a", 41, NOON) is None
    assert await book.left_micro("a", NOON) == 40, "a refusal changes nothing"
    assert await book.reserve("a", 40, NOON)
    assert await book.reserve("a", 1, NOON) is None
    assert await book.reserve("a", 0, NOON)


async def test_what_was_reserved_too_much_comes_back():
    book = ledger(a=Limit(day_micro=100))
    reservation = await book.reserve("a", 80, NOON)
    await book.settle(reservation, 30)
    assert await book.left_micro("a", NOON) == 70


async def test_a_call_that_cost_more_than_reserved_is_booked_in_full():
    book = ledger(a=Limit(day_micro=100))
    await book.settle(await book.reserve("a", 80, NOON), 130)
    assert await book.left_micro("a", NOON) == 0
    assert await book.reserve("a", 1, NOON) is None


async def test_the_total_holds_for_all_keys_together():
    book = ledger(total=Limit(month_micro=100), a=Limit(day_micro=90))
    assert await book.reserve("b", 60, NOON)
    assert await book.left_micro("a", NOON) == 40
    assert await book.reserve("a", 41, NOON) is None


async def test_days_and_months_begin_at_midnight_utc():
    book = ledger(a=Limit(day_micro=10, month_micro=25))
    for day in range(2):
        assert await book.reserve("a", 10, NOON + day * DAY_S)
        assert await book.left_micro("a", NOON + day * DAY_S) == 0
    assert await book.left_micro("a", NOON + 2 * DAY_S) == 5, "the month has 5 left"
    assert await book.left_micro("a", NOON + 10 * DAY_S) == 10, "December"


async def test_a_call_belongs_to_the_day_it_was_reserved_in():
    book = ledger(a=Limit(day_micro=10))
    reservation = await book.reserve("a", 10, NOON)
    await book.settle(reservation, 0)
    assert await book.left_micro("a", NOON) == 10
    assert await book.left_micro("a", NOON + DAY_S) == 10


async def test_money_is_not_negative():
    book = ledger()
    reservation = await book.reserve("a", 1, NOON)
    for call in (book.reserve("a", -1, NOON), book.settle(reservation, -1)):
        with pytest.raises(ValueError, match="negative"):
            await call


@settings(deadline=None)
@example([("c", 54, 0, False), ("c", 60, 0, False)])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=40))
async def test_reserved_and_spent_never_pass_a_limit_unless_a_call_cost_more_than_reserved(calls):
    book = ledger(total=Limit(day_micro=150), a=Limit(day_micro=50), b=Limit(month_micro=80))
    spent, untold = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0)
    for key, reserve, cost, settle in calls:
        reservation = await book.reserve(key, reserve, NOON)
        if reservation is None:
            limit = {"a": 50, "b": 80}.get(key, 10**9)
            of_others = untold[key] + reserve > 150 - 150 // 4
            assert spent[key] + reserve > limit or sum(spent.values()) + reserve > 150 or of_others
            continue
        real = min(cost, reserve) if settle else reserve
        if settle:
            await book.settle(reservation, real)
        spent[key] += real
        untold[key] += 0 if settle else reserve
        assert sum(spent.values()) <= 150
        assert spent["a"] <= 50
        assert spent["b"] <= 80


def test_a_day_and_a_month_are_words():
    assert periods(NOON) == ("2026-11-21", "2026-11")


@pytest.mark.parametrize(
    "prompt, reply, micro",
    [(0, 0, 0), (1, 0, 1), (0, 1, 4), (1_000_000, 1_000_000, 5_000_000)],
)
def test_a_price_is_per_million_tokens(prompt, reply, micro):
    assert PRICES.cost_micro(prompt_tokens=prompt, reply_tokens=reply) == micro


def test_parts_of_a_micro_unit_are_rounded_up():
    assert Prices(prompt=1).cost_micro(prompt_tokens=1, reply_tokens=0) == 1


@pytest.mark.parametrize(
    "usage, micro",
    [
        (None, 999),
        ({}, 999),
        ({"total_tokens": 5}, 999),
        ({"prompt_tokens": 100, "completion_tokens": 10}, 140),
        ({"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 50}}, 95),
        ({"prompt_tokens": 100, "completion_tokens": 0, "prompt_tokens_details": None}, 100),
        ({"input_tokens": 100, "output_tokens": 10, "input_tokens_details": {"cached_tokens": 50}}, 95),
        ({"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 50}, 145),
        ({"input_tokens": 100, "output_tokens": 10, "cache_creation_input_tokens": 40}, 190),
        ({"prompt_tokens": -5, "completion_tokens": "many"}, 999),
        ({"prompt_tokens": 10**30, "completion_tokens": 10**18}, 999),
    ],
)
def test_what_a_call_cost_is_read_from_its_usage(usage, micro):
    assert cost_of(PRICES, usage, reserved_micro=999) == micro
