"""Whoever wants a model only while it is loaded causes no load and waits for none."""

import pytest

from broker.core.errors import ModelNotWarmError, UnknownModelError
from broker.core.lease import Intent, LeaseState, ModelName
from tests.fakes.store_scenes import LOADING, ready, release, want


async def asks(rig, session="heartbeat", model="a", **more):
    return await rig.store.acquire(rig.request(session, model, only_warm=True, **more))


async def expected_of(rig, model):
    return (await rig.store.snapshot()).models[ModelName(model)].expected_arrivals


@pytest.mark.parametrize("intent", [Intent.USE, Intent.WARM])
async def test_a_model_that_is_not_loaded_is_refused_at_once_and_nothing_is_left(rig, intent):
    await ready(rig)
    with pytest.raises(ModelNotWarmError, match="a is not loaded") as told:
        await asks(rig, intent=intent)
    assert told.value.retry_after_s > 0
    view = (await rig.store.snapshot()).models[ModelName("a")]
    assert (view.waiting, view.warm_leases, view.expected_arrivals) == (0, 0, 0)
    assert await rig.store.check() == []


async def test_one_that_is_loading_is_not_loaded(rig):
    worker = await ready(rig)
    await want(rig, "a")
    await worker.say("a", LOADING)
    with pytest.raises(ModelNotWarmError):
        await asks(rig)


async def test_one_that_is_warm_is_had_at_once_and_teaches_nobody_to_load_it(rig):
    await ready(rig, "a")
    lease = await asks(rig)
    assert lease.state is LeaseState.ACTIVE
    await release(rig, lease)
    assert await expected_of(rig, "a") == 0
    await release(rig, await rig.store.acquire(rig.request("person", "a")))
    assert await expected_of(rig, "a") > 0


async def test_one_that_is_warm_and_busy_is_waited_for_in_line(rig):
    await ready(rig, "a")
    holder = await rig.store.acquire(rig.request("one", "a"))
    waiter = await asks(rig)
    assert (waiter.state, waiter.position) == (LeaseState.QUEUED, 1)
    await release(rig, holder)
    assert (await rig.store.lease(waiter.lease_id)).state is LeaseState.ACTIVE
    assert await rig.store.check() == []


@pytest.mark.parametrize("how", ["evicted", "died"])
async def test_the_ticket_ends_when_the_model_goes_and_the_others_wait_on(rig, how):
    worker = await ready(rig, "a")
    holder = await rig.store.acquire(rig.request("one", "a"))
    waiter, other = await asks(rig), await rig.store.acquire(rig.request("person", "a"))
    if how == "evicted":
        generation = (await rig.read_orders(worker.slot)).generation
        await rig.store.admit(slot=worker.slot, model=ModelName("a"), residency_generation=2, admit=0, why="slice_over")
        await release(rig, holder)
        await rig.store.unwant(slot=worker.slot, generation=generation, model=ModelName("a"), why="drain")
    else:
        await worker.gone("a")
    ended = await rig.store.lease(waiter.lease_id)
    assert (ended.state, ended.reason) == (LeaseState.ENDED, "rejected: model_not_warm")
    assert (await rig.store.lease(other.lease_id)).state is LeaseState.QUEUED
    assert await rig.store.check() == []


async def test_a_session_that_waits_for_the_load_is_told_no_when_it_asks_only_for_what_is_warm(rig):
    await ready(rig)
    waiting = await rig.store.acquire(rig.request("heartbeat", "a"))
    with pytest.raises(ModelNotWarmError):
        await asks(rig)
    assert (await rig.store.lease(waiting.lease_id)).state is LeaseState.QUEUED


async def test_a_name_that_nobody_knows_is_still_unknown(rig):
    await ready(rig)
    with pytest.raises(UnknownModelError):
        await asks(rig, model="none")
