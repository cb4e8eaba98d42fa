"""Every driver keeps what its port says, with real servers: those of the registry, and the tests' own."""

import asyncio
import time
from dataclasses import replace

import pytest

from gpu_worker.drivers.port import Capability, IncapableError, LoadError, ParkError
from gpu_worker.slot.probe import ProbeTarget, ask
from gpu_worker.slot.readiness import wait_ready
from schemas.config.drivers import DRIVERS
from tests.contract.drivers.conftest import RIGS, SLOT, eventually

SLACK_S = 15.0
"""For a loaded machine, and for a guardian's own deadlines."""
STEPS_S = (0.0, 0.005, 0.05, 0.2)
"""When a verb is cancelled: before it did anything, in the middle, near its end."""


def target_of(server):
    recipe, key = server.launch.recipe, server.launch.key
    return ProbeTarget(
        address=server.address,
        key=key,
        served_name=recipe.served_name,
        kind=recipe.kind,
        owner=server,
        health_path=server.health_path,
    )


async def ready(server):
    await wait_ready(target_of(server), timeout_s=20, on_poll=lambda: None)
    return server


async def loaded(rig, *faults):
    """A ready server of a new worker, and its dispatcher."""
    drivers, _ = rig.worker()
    server = drivers.server(rig.launch(rig.recipe(*faults)))
    await drivers.start(server)
    return await ready(server), drivers


async def cancelled_after(verb, delay_s):
    task = asyncio.create_task(verb)
    await asyncio.sleep(delay_s)
    task.cancel()
    await asyncio.wait({task})


def test_every_driver_that_a_model_may_name_is_asked_here():
    assert set(RIGS) >= DRIVERS


# --------------------------------------------------------------------------------------------------------------- load
async def test_a_loaded_server_is_there_at_its_address_and_answers_its_name(rig):
    server, _ = await loaded(rig)
    assert server.is_there()
    answer = await ask(target_of(server), "GET", "/v1/models", timeout_s=5)
    assert answer.json()["data"][0]["id"] == server.launch.recipe.served_name
    assert server.url.startswith("http://")
    assert isinstance(server.last_words(), str)
    assert server.worked_s() is None or server.worked_s() > 0


async def test_starting_twice_is_starting_once(rig):
    drivers, _ = rig.worker()
    server = drivers.server(rig.launch(rig.recipe()))
    await asyncio.gather(drivers.start(server), drivers.start(server))
    pids, address = server.pids(), server.address
    await drivers.start(server)
    assert (server.pids(), server.address) == (pids, address)
    assert rig.left() == rig.of(server)
    await ready(server)


async def test_stopping_works_in_any_state_and_as_often_as_one_likes(rig):
    drivers, _ = rig.worker()
    server = drivers.server(rig.launch(rig.recipe()))
    await server.stop(0.0)  # not started yet
    server = drivers.server(rig.launch(rig.recipe(), generation=2))
    await drivers.start(server)
    await asyncio.gather(server.stop(1.0), server.stop(0.0))
    await server.stop(0.0)
    assert not rig.left()
    async with asyncio.timeout(SLACK_S):
        await server.ended()


async def test_what_was_stopped_is_not_started_any_more(rig):
    """An unload that comes before the start it is meant for."""
    drivers, _ = rig.worker()
    server = drivers.server(rig.launch(rig.recipe()))
    await server.stop(0.0)
    with pytest.raises(LoadError):
        await drivers.start(server)
    assert not rig.left()


@pytest.mark.parametrize("delay_s", STEPS_S)
async def test_a_cancelled_start_leaves_nothing_that_a_stop_does_not_end(rig, delay_s):
    drivers, _ = rig.worker()
    server = drivers.server(rig.launch(rig.recipe("stubborn")))
    await cancelled_after(drivers.start(server), delay_s)
    await server.stop(0.0)
    assert not rig.left()


@pytest.mark.parametrize("delay_s", STEPS_S)
async def test_a_cancelled_start_can_be_said_again(rig, delay_s):
    drivers, _ = rig.worker()
    server = drivers.server(rig.launch(rig.recipe()))
    await cancelled_after(drivers.start(server), delay_s)
    await drivers.start(server)
    await ready(server)
    assert rig.left() == rig.of(server)
    await server.stop(1.0)
    assert not rig.left()


@pytest.mark.parametrize("delay_s", STEPS_S)
async def test_a_cancelled_stop_can_be_said_again(rig, delay_s):
    server, _ = await loaded(rig, "stubborn")
    await cancelled_after(server.stop(30.0), delay_s)
    began_s = time.monotonic()
    await server.stop(0.0)
    assert time.monotonic() - began_s < SLACK_S
    assert not rig.left()


async def test_a_start_has_a_deadline(rig):
    drivers, _ = rig.worker()
    recipe = replace(rig.recipe(), load_timeout_s=0.001)
    server = drivers.server(rig.launch(recipe))
    with pytest.raises(LoadError, match=r"load_timeout: not started after 0\.001 s"):
        await drivers.start(server)
    await server.stop(0.0)
    assert not rig.left()


async def test_who_does_not_end_when_asked_is_ended_after_the_grace(rig):
    server, _ = await loaded(rig, "stubborn")
    began_s = time.monotonic()
    await server.stop(0.3)
    assert time.monotonic() - began_s < 0.3 + SLACK_S
    assert not rig.left()


async def test_a_death_is_told_and_leaves_nothing(rig):
    server, _ = await loaded(rig, "stubborn")
    ended = asyncio.create_task(server.ended())
    await asyncio.sleep(0.05)
    assert not ended.done()
    rig.kill(server)
    async with asyncio.timeout(SLACK_S):
        assert str(await ended)
    await server.stop(0.0)
    assert not rig.left()


async def test_a_recipe_has_one_stamp_until_it_changes(rig):
    drivers, _ = rig.worker()
    recipe = rig.recipe()
    stamp = drivers.inspect(recipe).stamp
    assert stamp
    assert drivers.inspect(recipe).stamp == stamp
    assert drivers.inspect(replace(recipe, served_name="another")).stamp != stamp


# -------------------------------------------------------------------------------------------------- a worker after it
async def test_the_next_worker_adopts_what_is_unchanged(rig, able):
    able(Capability.ADOPT)
    server, drivers = await loaded(rig)
    await drivers.close()
    later, _ = rig.worker()
    [adopted] = await later.adopt(SLOT, [server.launch.recipe])
    assert adopted.launch == server.launch
    assert (adopted.address, adopted.url, adopted.pids()) == (server.address, server.url, server.pids())
    await ready(adopted)
    await later.start(adopted)  # as often as one likes
    assert rig.left() == rig.of(adopted)
    await adopted.stop(1.0)
    assert not rig.left()


async def test_the_next_worker_ends_what_has_changed_or_is_in_no_catalogue_any_more(rig, able):
    able(Capability.ADOPT)
    for recipes in (lambda recipe: [replace(recipe, served_name="another")], lambda _: []):
        server, drivers = await loaded(rig, "stubborn")
        await drivers.close()
        later, _ = rig.worker()
        assert await later.adopt(SLOT, recipes(server.launch.recipe)) == []
        assert not rig.left()


async def test_adopting_on_one_slot_leaves_another_one_alone(rig, able):
    able(Capability.ADOPT)
    server, drivers = await loaded(rig)
    later, _ = rig.worker()
    assert await later.adopt("gpu1", [server.launch.recipe]) == []
    assert rig.left() == rig.of(server)
    await drivers.close()


async def test_where_nothing_was_left_nothing_is_adopted(rig):
    drivers, _ = rig.worker()
    assert await drivers.adopt(SLOT, [rig.recipe()]) == []


# ------------------------------------------------------------------------------------------------------- capabilities
async def test_what_a_driver_does_not_state_is_not_asked_of_it(rig):
    drivers, driver = rig.worker()
    server = drivers.server(rig.launch(rig.recipe()))
    await drivers.start(server)
    asked = []
    for verb in ("park", "wake", "progress_percent", "footprint_mib"):
        setattr(server, verb, lambda verb=verb: asked.append(verb))
    driver.adopt = lambda *_: asked.append("adopt")
    if Capability.PARK not in driver.capabilities:
        for verb in (drivers.park, drivers.wake):
            with pytest.raises(IncapableError, match=f"the {rig.name} driver cannot park"):
                await verb(server, 1.0)
    if Capability.PROGRESS not in driver.capabilities:
        assert drivers.progress_percent(server) == 0
    if Capability.FOOTPRINT not in driver.capabilities:
        assert drivers.footprint_mib(server) == 0
    if Capability.ADOPT not in driver.capabilities:
        assert await drivers.adopt(SLOT, [server.launch.recipe]) == []
    assert not asked


async def test_parking_and_waking_are_idempotent_and_give_memory_back(rig, able):
    able(Capability.PARK)
    server, drivers = await loaded(rig)
    for _ in range(2):
        await drivers.park(server, 5.0)
        await drivers.park(server, 5.0)
        assert server.footprint_mib() == 0
        await drivers.wake(server, 5.0)
        await drivers.wake(server, 5.0)
        assert server.footprint_mib() > 0
        await ready(server)


@pytest.mark.parametrize("delay_s", STEPS_S)
async def test_a_cancelled_park_leaves_a_server_that_can_be_woken_or_stopped(rig, able, delay_s):
    able(Capability.PARK)
    server, drivers = await loaded(rig)
    await cancelled_after(drivers.park(server, 5.0), delay_s)
    await drivers.wake(server, 5.0)
    await ready(server)
    await cancelled_after(drivers.park(server, 5.0), delay_s)
    await cancelled_after(drivers.wake(server, 5.0), delay_s)
    await server.stop(0.0)
    assert not rig.left()


async def test_parking_and_waking_have_a_deadline(rig, able):
    able(Capability.PARK)
    server, drivers = await loaded(rig, "sleepy")
    for verb, done in ((drivers.park, "parked"), (drivers.wake, "woken")):
        with pytest.raises(ParkError, match=rf"not {done} within 0\.2 s"):
            await verb(server, 0.2)
    await server.stop(0.0)


async def test_a_dead_server_is_not_parked(rig, able):
    able(Capability.PARK)
    server, drivers = await loaded(rig)
    rig.kill(server)
    for verb in (drivers.park, drivers.wake):
        with pytest.raises(ParkError):
            await verb(server, 5.0)


async def test_progress_is_a_percentage_below_a_hundred_that_never_fails(rig, able):
    able(Capability.PROGRESS)
    drivers, _ = rig.worker()
    server = drivers.server(rig.launch(rig.recipe("slow", model_path=rig.folder / "weights")))
    seen = [drivers.progress_percent(server)]
    (rig.folder / "weights").write_bytes(b"w" * 1_000_000)
    await drivers.start(server)
    seen.append(drivers.progress_percent(server))
    await eventually(lambda: drivers.progress_percent(server) > 0, "any progress")
    await server.stop(0.0)
    seen.append(drivers.progress_percent(server))
    assert all(0 <= percent <= 99 for percent in seen), seen
