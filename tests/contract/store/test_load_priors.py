"""How long the load of a model that was never loaded is reckoned to take: from what workers say of files and disk."""

import pytest

from broker.core.lease import SlotId
from broker.core.slot import SlotState
from schemas.messages import Inspection
from tests.fakes.store_scenes import LOADING, READY, HandWorker, ready, want

LONGEST_MS = 6 * 3_600_000


async def tell(worker, **priors_ms):
    """The worker reports how long loads should take."""
    worker.inspections = {model: Inspection(model=model, prior_ms=ms) for model, ms in priors_ms.items()}
    await worker.report()


async def load_of(rig, model):
    view = (await rig.store.snapshot()).models[model]
    return view.load_s, view.load_sd_s


async def test_a_model_that_was_never_loaded_is_reckoned_with_what_its_worker_says_and_widely(rig):
    worker = await ready(rig)
    assert await load_of(rig, "a") == (15.0, 10.0)
    await tell(worker, a=42_000)
    assert await load_of(rig, "a") == (42.0, 42.0)
    assert await load_of(rig, "b") == (15.0, 10.0), "of that one it said nothing"
    await tell(worker)
    assert await load_of(rig, "a") == (15.0, 10.0), "the files are gone"


async def test_of_several_slots_the_slowest_that_serves_it_counts(rig):
    fast, slow = await ready(rig), await ready(rig, slot="gpu1")
    await tell(fast, a=4000)
    await tell(slow, a=90_000)
    assert (await load_of(rig, "a"))[0] == 90.0
    slow.serves = ("b",)
    await tell(slow, a=90_000)
    assert (await load_of(rig, "a"))[0] == 4.0


@pytest.mark.parametrize("absurd", ["-1", str(LONGEST_MS + 1), "1e3", "x"])
async def test_an_absurd_reckoning_is_no_sound_report(rig, absurd):
    worker = await ready(rig)
    await worker.lie({"prior_ms:a": absurd})
    slot = next(one for one in (await rig.store.snapshot()).slots if one.slot == SlotId("gpu0"))
    assert slot.state is SlotState.OFFLINE
    assert "prior_ms:a must be a whole number" in slot.reason
    assert (await load_of(rig, "a"))[0] == 15.0


async def test_a_reckoning_without_bounds_is_bounded_by_the_worker(rig):
    worker = await ready(rig)
    await tell(worker, a=0, b=10 * LONGEST_MS)
    assert (await load_of(rig, "a"))[0] == 15.0
    assert (await load_of(rig, "b"))[0] == LONGEST_MS / 1000
    slot = next(one for one in (await rig.store.snapshot()).slots if one.slot == SlotId("gpu0"))
    assert slot.load_priors_s == {"b": LONGEST_MS / 1000}


async def test_what_loads_took_replaces_the_reckoning_and_corrects_that_of_others_on_the_host(rig):
    worker = await ready(rig)
    await tell(worker, a=10_000, b=20_000)
    await rig.store.acquire(rig.request("s1", "a"))
    await want(rig, "a")
    await worker.say("a", LOADING)
    for _ in range(8):
        await rig.advance(5)
        await worker.report()
    await worker.say("a", READY, took_ms=40_000)
    assert (await load_of(rig, "a"))[0] == 40.0
    assert await load_of(rig, "b") == (40.0, 40.0), "one load that took four times as long, and one opinion"
    other = HandWorker(rig, "gpu1", boot="boot2", name="host2")
    await other.register()
    await tell(other, big=20_000)
    assert (await load_of(rig, "big"))[0] == 20.0, "another host's disk"
