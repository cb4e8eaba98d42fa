"""A broker's lives, one after the other, on a store in memory and a virtual clock."""

import asyncio
import itertools
import logging

import pytest

from broker.core.errors import StoreUnavailableError
from broker.core.lease import LifeId
from broker.leasing.life import BrokerLife
from broker.store.memory.store import MemoryStore
from broker.store.port import Event
from tests.fakes.store_rigs import SETTINGS
from tests.simulation.virtual import run_virtually


def life_of(store: MemoryStore, name: str = "one") -> BrokerLife:
    boots = itertools.count(1)
    return BrokerLife(store=store, name=name, new_boot=lambda: str(next(boots)), silence_s=3.0)


async def store_now() -> MemoryStore:
    loop = asyncio.get_running_loop()
    store = MemoryStore(clock=lambda: 1000.0 + loop.time())
    await store.init(SETTINGS)
    return store


def gone(life: str, why: str = "missed") -> Event:
    return Event(
        event_id="1-0", sequence=1, kind="broker", at_s=0.0, fields={"who": f"broker:{life}", "to": "gone", "why": why}
    )


def test_it_begins_with_the_first_who_needs_it_and_only_once():
    async def main():
        store = await store_now()
        life = life_of(store)
        assert set(await asyncio.gather(*(life.now() for _ in range(5)))) == {"one/1"}
        assert list(store.pool.lives) == ["one/1"]

    run_virtually(main())


def test_it_beats_often_enough_to_live_however_long():
    async def main():
        store = await store_now()
        life = life_of(store)
        for _ in range(60):
            await life.step()
            await store.tick()
        assert await life.now() == "one/1"
        assert asyncio.get_running_loop().time() == pytest.approx(60.0)

    run_virtually(main())


def test_one_whose_beats_were_missed_lets_go_of_everything_once_and_begins_another():
    async def main():
        store = await store_now()
        life, told = life_of(store), []
        life.listeners.append(told.append)
        await life.step()
        for _ in range(16):
            await asyncio.sleep(0.25)
            await store.tick()
        await life.step()
        life.note(gone("one/1"))
        assert told == ["one/1"]
        assert await life.now() == "one/2"
        assert list(store.pool.lives) == ["one/2"]

    run_virtually(main())


def test_a_word_of_its_end_is_enough_and_anothers_is_nothing():
    async def main():
        life = life_of(await store_now())
        assert await life.now() == "one/1"
        for other in (
            gone("two/1"),
            gone("one/0"),
            Event(event_id="1-0", sequence=1, kind="slot", at_s=0.0, fields={}),
        ):
            life.note(other)
        assert await life.now() == "one/1"
        life.note(gone("one/1"))
        assert await life.now() == "one/2"

    run_virtually(main())


def test_after_its_first_it_takes_no_name_from_anybody(caplog):
    async def main():
        store = await store_now()
        first, namesake = life_of(store), life_of(store)
        namesake.new_boot = lambda: "x"
        await first.now()
        await namesake.now()
        with caplog.at_level(logging.CRITICAL):
            first.note(gone("one/1", "superseded"))
        assert "broker_name_taken" in caplog.text
        assert await first.now() == "one/2"
        await namesake.step()
        assert await namesake.now() == "one/x"

    run_virtually(main())


def test_a_store_that_does_not_answer_is_asked_again_soon_and_ends_no_life():
    async def main():
        store = await store_now()
        life = life_of(store)
        await life.now()
        real, tries = store.beat, []

        async def away(_life: LifeId) -> None:
            tries.append(asyncio.get_running_loop().time())
            raise StoreUnavailableError("it is away")

        store.beat = away
        for _ in range(4):
            await life.step()
        assert tries == pytest.approx([0.0, 0.25, 0.5, 0.75])
        store.beat = real
        await life.step()
        assert await life.now() == "one/1"

    run_virtually(main())


def test_a_goodbye_is_said_where_somebody_hears_it():
    async def main():
        store = await store_now()
        life = life_of(store)
        await life.close()
        await life.now()
        await life.close()
        assert store.pool.lives == {}
        await life.now()

        async def away(_life: LifeId) -> None:
            raise StoreUnavailableError("it is away")

        store.end_life = away
        await life.close()

    run_virtually(main())
