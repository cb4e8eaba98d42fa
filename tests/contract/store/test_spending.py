"""Spending accounts, the same on every adapter."""

import pytest

from broker.core.errors import StoreUninitialisedError

DAY, MONTH = ("alice", "2026-11-21"), ("alice", "2026-11")
ALL = ("*", "2026-11")


async def test_an_account_never_passes_its_limit_and_a_refusal_changes_nothing(rig):
    books = rig.store.spending
    assert await books.add_within([(DAY, 100), (ALL, None)], 60)
    assert not await books.add_within([(ALL, None), (DAY, 100)], 41)
    assert list(await books.spent([DAY, ALL])) == [60, 60]
    assert await books.add_within([(DAY, 100), (ALL, 1000)], 40)
    assert list(await books.spent([ALL, DAY, MONTH])) == [100, 100, 0]


async def test_what_was_too_much_comes_back_and_nothing_is_below_zero(rig):
    books = rig.store.spending
    await books.add([DAY, ALL], 60)
    await books.add([DAY], -25)
    assert list(await books.spent([DAY, ALL])) == [35, 60]
    await books.add([DAY], -100)
    await books.add([DAY], 5)
    assert list(await books.spent([DAY])) == [5]


async def test_amounts_are_exact_to_the_micro_unit(rig):
    books = rig.store.spending
    large = 9_000_000_000_000_001
    await books.add([DAY], large)
    assert not await books.add_within([(DAY, large)], 1)
    assert await books.add_within([(DAY, large + 1)], 1)
    assert list(await books.spent([DAY])) == [large + 1]


async def test_accounts_of_a_store_that_was_not_initialised_say_so(empty):
    with pytest.raises(StoreUninitialisedError):
        await empty.store.spending.spent([DAY])
