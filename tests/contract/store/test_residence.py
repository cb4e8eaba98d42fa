"""What the store remembers of models that come and go: why, for whom, whether a guess was right, what is pinned."""

from dataclasses import replace

import pytest

from broker.core import errors
from broker.core.lease import ModelName
from broker.core.snapshot import Departure
from tests.fakes.store_rigs import MODELS, SETTINGS
from tests.fakes.store_scenes import GPU, READY, HandWorker, ready, release, want

PINNED = replace(SETTINGS, models=(replace(MODELS[0], pinned=True), *MODELS[1:]))


async def model_of(rig, model):
    return (await rig.store.snapshot()).models[ModelName(model)]


async def residency_of(rig, model, slot=GPU):
    views = {view.slot: view for view in (await rig.store.snapshot()).slots}
    return next(residency for residency in views[slot].residencies if residency.model == model)


async def used(rig, model):
    await release(rig, await rig.store.acquire(rig.request("user", model)))


async def evict(rig, worker, model):
    """Give a model up for another one, which then goes as well."""
    await want(rig, "big", model)
    await worker.gone(model)
    generation = (await rig.read_orders(GPU)).generation
    await rig.store.unwant(slot=GPU, generation=generation, model=ModelName("big"), why="drain")
    await worker.gone("big")


async def guess(rig, worker, model):
    await want(rig, model, why="prefetch")
    await worker.say(model, READY)


async def test_a_guess_that_goes_unused_counts_against_the_next(rig):
    worker = await ready(rig)
    for wrong in (2, 4, 6, 8, 10, 10):
        await guess(rig, worker, "a")
        assert (await residency_of(rig, "a")).prefetched
        await evict(rig, worker, "a")
        assert (await model_of(rig, "a")).wrong_guesses == wrong
    assert (await model_of(rig, "b")).wrong_guesses == 0


async def test_a_guess_that_is_broken_off_counts_too(rig):
    worker = await ready(rig)
    await want(rig, "a", why="prefetch")
    await evict(rig, worker, "a")
    assert (await model_of(rig, "a")).wrong_guesses == 2


async def test_a_guess_that_was_used_is_proved_and_halves_what_counted_against_it(rig):
    worker = await ready(rig)
    for _ in range(3):
        await guess(rig, worker, "a")
        await evict(rig, worker, "a")
    await guess(rig, worker, "a")
    await used(rig, "a")
    assert (await model_of(rig, "a")).wrong_guesses == 3
    assert not (await residency_of(rig, "a")).prefetched
    await evict(rig, worker, "a")
    assert (await model_of(rig, "a")).wrong_guesses == 3


async def test_a_load_that_somebody_waited_for_speaks_for_the_next_guess(rig):
    worker = await ready(rig)
    await guess(rig, worker, "a")
    await evict(rig, worker, "a")
    waiter = await rig.store.acquire(rig.request("waiter", "a"))
    await want(rig, "a", why="waiters")
    await worker.say("a", READY)
    assert (await model_of(rig, "a")).wrong_guesses == 1
    await release(rig, waiter)


@pytest.mark.parametrize("why", ["waiters", "restore", "pinned"])
async def test_only_a_guess_is_on_trial(rig, why):
    worker = await ready(rig)
    waiter = await rig.store.acquire(rig.request("waiter", "a")) if why == "waiters" else None
    await want(rig, "a", why=why)
    await worker.say("a", READY)
    residency = await residency_of(rig, "a")
    assert (residency.why, residency.prefetched) == (why, False)
    if waiter is not None:
        await release(rig, waiter)
    await evict(rig, worker, "a")
    assert (await model_of(rig, "a")).wrong_guesses == 0


async def test_events_and_pictures_say_why_a_model_went_and_for_which(rig):
    await ready(rig, "a", "b")
    await rig.store.acquire(rig.request("waiter", "big"))
    await rig.advance(3)
    await want(rig, "big", "a", "b", why="age_bound")
    now_s = (await rig.store.snapshot()).now_s
    for model in ("a", "b"):
        left = (await model_of(rig, model)).left
        assert left == Departure(at_s=now_s, slot=GPU, why="age_bound", made_room_for="big")
    gone = [e.fields for e in await rig.store.events("0-0", block_s=0, limit=1000) if e.kind == "unloading"]
    assert [(e["model"], e["why"], e["for"]) for e in gone] == [("a", "age_bound", "big"), ("b", "age_bound", "big")]
    assert (await model_of(rig, "big")).left is None


async def test_the_table_says_since_when_and_why_a_model_is_gone_until_it_is_back(rig):
    worker = await ready(rig, "a")
    await want(rig, "big", "a", why="restore")
    await worker.gone("a")
    await worker.say("big", READY)
    await rig.advance(4)
    assert "GONE  a gpu0 ago=4s why=restore for=big" in await rig.store.ps()
    assert [line for line in await rig.store.ps() if line.endswith("why=restore")]
    await want(rig, "a", "big")
    await worker.gone("big")
    await worker.say("a", READY)
    assert [line.split()[:2] for line in await rig.store.ps() if line.startswith("GONE")] == [["GONE", "big"]]


async def test_a_server_that_died_is_gone_for_that_reason(rig):
    worker = await ready(rig, "a")
    await worker.gone("a")
    left = (await model_of(rig, "a")).left
    assert (left.why, left.made_room_for) == ("server_died", "")


async def test_the_snapshot_knows_when_a_model_was_last_asked_for_and_what_the_catalogue_says(rig):
    models = (replace(MODELS[0], keep=3, eviction_weight=2.5), replace(MODELS[1], pinned=True), MODELS[2])
    await rig.store.init(replace(SETTINGS, models=models))
    assert (await model_of(rig, "a")).asked_s == 0
    await rig.advance(2)
    await rig.store.acquire(rig.request("s", "a"))
    view = await model_of(rig, "a")
    assert view.asked_s == (await rig.store.snapshot()).now_s
    assert (view.keep, view.pinned, view.eviction_weight, view.copies) == (3, False, 2.5, 3)
    other = await model_of(rig, "b")
    assert (other.keep, other.pinned, other.eviction_weight, other.copies) == (0, True, 1.0, 1)


async def test_what_fits_nowhere_beside_a_pinned_model_is_refused_at_once(rig):
    await rig.store.init(PINNED)
    await rig.store.acquire(rig.request("early", "big"))
    worker = await ready(rig, "a")
    with pytest.raises(errors.ModelTooLargeError, match="beside what is pinned there"):
        await rig.store.acquire(rig.request("late", "big"))
    await rig.store.tick()
    assert (await rig.store.leases(model=ModelName("big"), limit=9)) == []
    assert (await rig.store.acquire(rig.request("s", "b"))).state == "queued", "it fits beside"
    await worker.gone("a")
    assert (await rig.store.acquire(rig.request("again", "big"))).state == "queued"


async def test_a_model_pinned_to_one_slot_leaves_the_other_free(rig):
    await rig.store.init(PINNED)
    await ready(rig, "a")
    await HandWorker(rig, "gpu1").register()
    assert (await rig.store.acquire(rig.request("s", "big"))).state == "queued"


async def test_until_leases_have_ended_they_are_expected_to_take_what_the_catalogue_says(rig):
    await rig.store.init(replace(SETTINGS, models=(replace(MODELS[0], hold_s_hint=90.0), *MODELS[1:])))
    assert [(await model_of(rig, name)).hold_s for name in ("a", "b")] == [90.0, 20.0]
    await ready(rig, "a")
    await used(rig, "a")
    assert (await model_of(rig, "a")).hold_s < 1
