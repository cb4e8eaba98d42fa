"""Counts of past days, the same on every adapter."""

import pytest

from broker.core.errors import StoreUninitialisedError
from broker.store.days import Batch
from tests.fakes.store_rigs import SETTINGS

DAY = "2026-11-21"
KEPT_S = 3600.0


async def add(rig, number, *, source="one", day=DAY, kept_s=KEPT_S, **counts):
    batch = Batch(
        day=day, source=source, number=number, counts={name.replace("_", "|"): n for name, n in counts.items()}
    )
    await rig.store.days.add(batch, kept_s=kept_s)


async def test_a_day_that_nobody_counted_is_empty(rig):
    assert await rig.store.days.read(DAY) == {}


async def test_batches_of_all_brokers_add_up(rig):
    await add(rig, 1, requests_local=3, tokens_a=10_000_000_000)
    await add(rig, 2, requests_local=4)
    await add(rig, 1, source="two", requests_local=5, requests_cloud=1)
    await add(rig, 3, day="2026-11-22", requests_local=9)
    assert await rig.store.days.read(DAY) == {"requests|local": 12, "tokens|a": 10_000_000_000, "requests|cloud": 1}
    assert await rig.store.days.read("2026-11-22") == {"requests|local": 9}


async def test_a_batch_that_is_given_again_is_not_added_again(rig):
    for _ in range(3):
        await add(rig, 7, requests_local=3)
    await add(rig, 6, requests_local=100)
    assert await rig.store.days.read(DAY) == {"requests|local": 3}


async def test_a_day_survives_a_restart_of_the_server_and_of_the_broker(rig):
    await add(rig, 1, requests_local=3)
    await rig.restart("run1")
    await rig.store.init(SETTINGS)
    await add(rig, 1, source="its successor", requests_local=1)
    assert await rig.store.days.read(DAY) == {"requests|local": 4}


async def test_a_day_is_forgotten_after_its_time(rig):
    await add(rig, 1, kept_s=KEPT_S, requests_local=3)
    assert await rig.life_of_day(DAY) == pytest.approx(KEPT_S, abs=5)
    if rig.name == "memory":
        await rig.advance(KEPT_S)
        assert await rig.store.days.read(DAY) == {}


async def test_a_store_that_was_not_initialised_says_so(empty):
    with pytest.raises(StoreUninitialisedError):
        await add(empty, 1, requests_local=1)
    with pytest.raises(StoreUninitialisedError):
        await empty.store.days.read(DAY)
