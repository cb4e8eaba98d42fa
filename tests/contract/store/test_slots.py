"""Workers, orders, loads and faults: what the scheduler and the workers may rely on.

Longer than a file should be: one list of promises, and the mutants' catalogue says that this file notices them.
"""

import json
from dataclasses import replace

import pytest

from broker.core import errors
from broker.core.lease import LeaseState, ModelName, SlotId
from broker.core.slot import SlotState
from broker.core.snapshot import ADMIT_NONE
from schemas.residency import ORDERABLE, Residency
from tests.fakes.store_rigs import BASE, SETTINGS
from tests.fakes.store_scenes import GPU, LOADING, READY, HandWorker, kinds, ready, release, want

QUEUED, ACTIVE, ENDED = LeaseState.QUEUED, LeaseState.ACTIVE, LeaseState.ENDED


async def slot_of(rig, slot=GPU):
    return next(view for view in (await rig.store.snapshot()).slots if view.slot == slot)


async def test_a_worker_registers_by_copying_the_incarnation_from_its_orders(rig):
    worker = HandWorker(rig)
    await worker.report()
    orders = await rig.read_orders(GPU)
    assert (await slot_of(rig)).state is SlotState.RECOVERING
    assert (orders.boot, orders.epoch) == ("", 0)
    worker.inc = orders.incarnation
    await worker.report(high_water=41)
    orders = await rig.read_orders(GPU)
    assert (orders.boot, orders.epoch, orders.generation) == ("boot1", 1, 42), "above everything the host ever did"
    assert (await slot_of(rig)).state is SlotState.OPEN


async def test_a_superseded_worker_is_ignored(rig):
    old = await ready(rig, "a")
    new = await HandWorker(rig, boot="boot2").register()
    await old.report(fault="I am old")
    assert (await slot_of(rig)).state is SlotState.OPEN
    assert (await rig.read_orders(GPU)).boot == new.boot


@pytest.mark.parametrize(
    "told, sound",
    [((95, 90), True), ((0, -1), True), ((10**15, 0), False), ((0, 101), False), ((0, -2), False), ((-7, 0), False)],
)
async def test_how_much_a_device_is_used_is_seen_and_is_a_percentage(rig, told, sound):
    worker = await HandWorker(rig).register()
    used, foreign = told
    await worker.report(used_percent=used, foreign_percent=foreign)
    view = await slot_of(rig)
    assert (view.used_percent, view.foreign_percent) == (told if sound else (0, -1))
    assert view.state is (SlotState.OPEN if sound else SlotState.OFFLINE)


async def claimed(rig, **rival):
    """One host's worker serves the slot and holds a lease; another's claims it."""
    first = await HandWorker(rig, name="host1", home="home1").register()
    await want(rig, "b")
    await first.say("b", READY)
    held = await rig.store.acquire(rig.request("s1", "b"))
    second = HandWorker(rig, boot="boot2", **{"name": "host2", "home": "home2", **rival})
    await second.report()
    await second.read()
    await second.report()
    return first, second, held


async def test_a_second_host_that_claims_a_slot_is_refused_while_the_first_lives(rig):
    first, second, held = await claimed(rig)
    orders = await rig.read_orders(GPU)
    assert (orders.boot, orders.refused, orders.holder) == (first.boot, second.boot, "host1")
    await first.report()
    assert (await rig.store.lease(held.lease_id)).state is ACTIVE
    assert (await slot_of(rig)).worker == "host1"


async def test_the_refusal_is_told_once_and_is_in_the_audit_log(rig):
    _, second, _ = await claimed(rig)
    await second.report()
    await second.report()
    events = await rig.store.events("0-0", block_s=0, limit=1000)
    assert [event.fields["why"] for event in events if event.fields.get("why", "").startswith("refused")] == [
        "refused: host2"
    ]


async def test_the_second_host_has_the_slot_once_the_first_is_silent(rig):
    first, second, _ = await claimed(rig)
    for _ in range(3):
        await rig.advance(4)
        await rig.store.tick()
    await second.report()
    orders = await rig.read_orders(GPU)
    assert (orders.boot, orders.refused, orders.holder) == (second.boot, "", "")
    await first.report()
    assert (await rig.read_orders(GPU)).boot == second.boot, "and now it is the first that is too late"


@pytest.mark.parametrize("home", ["home1", ""])
async def test_a_restart_on_the_same_host_has_its_slot_at_once(rig, home):
    """Also a worker of an older version, which does not say where it is at home."""
    _, second, _ = await claimed(rig, home=home)
    assert (await rig.read_orders(GPU)).boot == second.boot


async def test_a_rival_is_refused_in_a_restarted_store_too(rig):
    first, second, held = await claimed(rig)
    await rig.restart("another-run")
    await rig.store.tick()
    await second.read()
    await second.report()
    await first.register()
    assert (await rig.read_orders(GPU)).boot == first.boot
    assert (await rig.store.lease(held.lease_id)).state is ACTIVE


async def test_a_restarted_worker_that_adopts_its_server_keeps_the_leases(rig):
    old = await ready(rig, "a", "b")
    kept = await rig.store.acquire(rig.request("s1", "a", ttl_s=20))
    lost = await rig.store.acquire(rig.request("s2", "b"))
    await rig.advance(4)
    new = HandWorker(rig, boot="boot2")
    new.models = {"a": old.models["a"]}
    await new.register()
    record = await rig.store.lease(kept.lease_id)
    assert (record.state, record.expires_in_s) == (ACTIVE, 20.0)
    assert (await rig.store.lease(lost.lease_id)).reason == "lost: not_confirmed"
    assert {one.model for one in (await rig.read_orders(GPU)).wants} == {"a"}


async def test_an_adopted_server_of_another_generation_is_not_believed(rig):
    old = await ready(rig, "a")
    record = await rig.store.acquire(rig.request())
    new = HandWorker(rig, boot="boot2")
    new.models = {"a": type(old.models["a"])(model="a", state=READY, generation=1)}
    await new.register()
    assert (await rig.store.lease(record.lease_id)).reason == "lost: not_confirmed"
    assert (await slot_of(rig)).failures == (), "nobody's server died"


async def test_a_restarted_store_grants_nothing_until_the_worker_has_registered(rig):
    worker = await ready(rig, "b")
    held = await rig.store.acquire(rig.request("s1", "b"))
    before = await rig.read_orders(GPU)
    await rig.restart("another-run")
    waiter = await rig.store.acquire(rig.request("s2", "b"))
    assert waiter.state is QUEUED
    assert (await slot_of(rig)).state is SlotState.RECOVERING
    assert (await rig.read_orders(GPU)).incarnation != before.incarnation
    assert (await rig.store.renew(held.lease_id, held.nonce, ttl_s=60, who="key")).state is ACTIVE
    await worker.register()
    assert (await rig.store.lease(waiter.lease_id)).state is ACTIVE
    assert (await rig.store.lease(held.lease_id)).state is ACTIVE
    assert (await rig.read_orders(GPU)).generation > before.generation


async def test_a_store_that_forgot_an_epoch_registers_the_worker_again(rig):
    worker = await ready(rig, "a")
    worker.epoch, worker.hw = 9, 77
    await worker.report()
    orders = await rig.read_orders(GPU)
    assert (orders.epoch, orders.generation) == (10, 78)


async def test_a_silent_worker_takes_its_slot_offline_and_a_late_report_is_not_news(rig):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request(ttl_s=60))
    for _ in range(3):
        await rig.advance(4)
        await rig.store.tick()
    assert (await slot_of(rig)).state is SlotState.OFFLINE
    await rig.store.observe(GPU)  # the same report is still there
    assert (await slot_of(rig)).state is SlotState.OFFLINE
    assert (await rig.store.lease(record.lease_id)).state is ACTIVE, "its server may well be alive"


async def test_nothing_is_granted_on_a_slot_that_is_not_open(rig):
    worker = await ready(rig, "b")
    for event, state in (("cordon", SlotState.CORDONED), ("drain", SlotState.DRAINING)):
        await rig.store.set_slot(GPU, event=event, who="operator:x")
        assert (await slot_of(rig)).state is state
        waiter = await rig.store.acquire(rig.request(event, "b"))
        assert waiter.state is QUEUED
        await rig.store.set_slot(GPU, event="uncordon", who="operator:x")
        await release(rig, waiter)
    await worker.report(fault="device lost")
    assert (await slot_of(rig)).reason == "device lost"
    waiter = await rig.store.acquire(rig.request("t", "b"))
    assert waiter.state is QUEUED
    await worker.report()
    assert (await rig.store.lease(waiter.lease_id)).state is ACTIVE


@pytest.mark.parametrize("why", ["waiters", "age_bound"])
async def test_a_load_for_somebody_who_left_meanwhile_is_not_begun_and_evicts_nobody(rig, why):
    await ready(rig, "a")
    gen = (await rig.read_orders(GPU)).generation
    load = {
        "slot": GPU,
        "generation": gen,
        "model": ModelName("big"),
        "depth": READY,
        "evict": [ModelName("a")],
        "key": "k",
    }
    left = await rig.store.acquire(rig.request(model="big"))
    await release(rig, left)
    with pytest.raises(errors.StaleDecisionError):
        await rig.store.want(**load, why=why)
    assert (await rig.read_orders(GPU)).generation == gen
    await rig.store.acquire(rig.request(model="big"))
    await rig.store.want(**load, why=why)


async def test_a_load_that_nobody_waits_for_is_broken_off_unless_somebody_does_after_all(rig):
    await HandWorker(rig).register()
    await want(rig, "a")
    gen = (await rig.read_orders(GPU)).generation
    ticket = await rig.store.acquire(rig.request())
    with pytest.raises(errors.StaleDecisionError):
        await rig.store.unwant(slot=GPU, generation=gen, model=ModelName("a"), why="deserted")
    model = (await rig.store.snapshot()).models["a"]
    assert (model.deserted_s, model.given_up_s) == (0.0, 0.0)
    await rig.advance(1.5)
    await release(rig, ticket)
    await rig.advance(2.0)
    await rig.store.unwant(slot=GPU, generation=gen, model=ModelName("a"), why="deserted")
    snapshot = await rig.store.snapshot()
    model = snapshot.models["a"]
    assert (snapshot.now_s - model.deserted_s, snapshot.now_s - model.given_up_s) == (2.0, 0.0)
    assert [row.state for row in snapshot.slots[0].residencies] == ["unloading"]


async def test_whoever_left_the_line_unserved_is_not_expected_again(rig):
    kept = await rig.store.acquire(rig.request("stays"))
    before = (await rig.store.snapshot()).models["a"].expected_arrivals
    left = await rig.store.acquire(rig.request("leaves"))
    assert (await rig.store.snapshot()).models["a"].expected_arrivals > 1.9 * before
    await rig.pass_time(40.0)
    await release(rig, left)
    await release(rig, kept)
    assert (await rig.store.snapshot()).models["a"].expected_arrivals == 0.0


async def test_an_operators_cordon_survives_silence_and_recovery(rig):
    worker = await ready(rig, "a")
    await rig.store.set_slot(GPU, event="cordon", who="operator:x")
    await rig.restart("another-run")
    await rig.store.tick()
    await worker.register()
    assert (await slot_of(rig)).state is SlotState.CORDONED


async def test_want_is_refused_when_the_picture_was_old(rig):
    await ready(rig, "a")
    held = await rig.store.acquire(rig.request())
    gen = (await rig.read_orders(GPU)).generation
    cases = [
        {"generation": gen - 1, "model": "b", "evict": []},
        {"generation": gen, "model": "a", "evict": []},
        {"generation": gen, "model": "big", "evict": []},
        {"generation": gen, "model": "big", "evict": ["a"]},
        {"generation": gen, "model": "b", "evict": ["big"]},
    ]
    for case in cases:
        with pytest.raises(errors.StaleDecisionError):
            await rig.store.want(slot=GPU, depth=READY, key="k", why="prefetch", **case)
    nowhere = {"slot": SlotId("none"), "generation": 0, "model": ModelName("a"), "evict": []}
    with pytest.raises(errors.BadArgumentError):
        await rig.store.want(**nowhere, depth=READY, key="k", why="")
    assert (await rig.read_orders(GPU)).generation == gen
    await release(rig, held)
    await want(rig, "big", "a")
    assert [one.model for one in (await rig.read_orders(GPU)).wants] == ["big"]


async def test_orders_say_how_deep_a_model_is_wanted(rig):
    worker = await ready(rig, "a")
    [asked] = (await rig.read_orders(GPU)).wants
    assert (asked.model, asked.depth) == ("a", "ready")
    await rig.restart("another-run")
    await rig.store.tick()
    await worker.register()
    [asked] = (await rig.read_orders(GPU)).wants
    assert asked.depth == "ready", "what a new registration confirms is wanted as deep as before"


@pytest.mark.parametrize("depth", [*sorted(set(Residency) - ORDERABLE), "parked", ""])
async def test_what_is_no_depth_to_stay_in_is_never_ordered(rig, depth):
    await ready(rig)
    before = await rig.read_orders(GPU)
    load = {"slot": GPU, "generation": before.generation, "model": ModelName("a"), "evict": [], "key": "k"}
    with pytest.raises(errors.BadArgumentError):
        await rig.store.want(**load, depth=depth, why="prefetch")
    assert await rig.read_orders(GPU) == before


async def test_one_load_at_a_time_on_a_slot(rig):
    await ready(rig)
    await want(rig, "a")
    with pytest.raises(errors.StaleDecisionError):
        await want(rig, "b")


async def test_an_old_unload_after_a_newer_load_changes_nothing(rig):
    worker = await ready(rig, "a")
    old = (await rig.read_orders(GPU)).generation
    await rig.store.unwant(slot=GPU, generation=old, model=ModelName("a"), why="release_vram")
    await worker.gone("a")
    await want(rig, "a")
    with pytest.raises(errors.StaleDecisionError):
        await rig.store.unwant(slot=GPU, generation=old, model=ModelName("a"), why="release_vram")
    await worker.say("a", READY)
    assert (await rig.store.acquire(rig.request())).state is ACTIVE


async def test_unwant_is_refused_under_a_use_lease_and_aborts_a_load(rig):
    worker = await ready(rig, "a")
    record = await rig.store.acquire(rig.request())
    gen = (await rig.read_orders(GPU)).generation
    with pytest.raises(errors.StaleDecisionError):
        await rig.store.unwant(slot=GPU, generation=gen, model=ModelName("a"), why="x")
    await release(rig, record)
    await want(rig, "b")
    gen = (await rig.read_orders(GPU)).generation
    await rig.store.unwant(slot=GPU, generation=gen, model=ModelName("b"), why="x")
    assert [one.model for one in (await rig.read_orders(GPU)).wants] == ["a"]
    await worker.gone("b")
    assert [one.model for one in (await slot_of(rig)).residencies] == ["a"]


async def test_admission_says_up_to_which_arrival_tickets_are_served(rig):
    first = await rig.store.acquire(rig.request("s1"))
    await ready(rig, "a")
    second = await rig.store.acquire(rig.request("s2"))
    view = (await slot_of(rig)).residencies[0]
    assert view.waited == second.arrival
    barrier = {"slot": GPU, "model": ModelName("a"), "residency_generation": view.generation, "why": "barrier"}
    await rig.store.admit(admit=second.arrival, **barrier)
    await release(rig, first)
    assert (await rig.store.lease(second.lease_id)).state is QUEUED
    await rig.store.admit(admit=second.arrival + 1, **barrier)
    assert (await rig.store.lease(second.lease_id)).state is ACTIVE
    await release(rig, second)
    await rig.store.admit(admit=ADMIT_NONE, **barrier)
    assert (await rig.store.acquire(rig.request("s3"))).state is QUEUED
    with pytest.raises(errors.StaleDecisionError):
        await rig.store.admit(admit=5, **{**barrier, "residency_generation": view.generation - 1})


async def test_a_report_about_another_generation_is_not_about_this_load(rig):
    worker = await ready(rig)
    await want(rig, "a")
    await worker.read()
    worker.models["a"] = await fake_report(worker, "a", generation=1)
    await worker.report()
    assert (await slot_of(rig)).residencies[0].state is Residency.LOADING


async def fake_report(worker, model, generation):
    await worker.say(model, LOADING)
    shown = worker.models[model]
    return type(shown)(model=model, state=READY, generation=generation, url="http://old/v1")


async def test_an_evicted_model_is_there_until_the_worker_says_its_memory_is_back(rig):
    worker = await ready(rig, "a")
    await rig.advance(1)
    await want(rig, "big", "a")
    await worker.report()
    states = {one.model: one.state for one in (await slot_of(rig)).residencies}
    assert states == {"a": Residency.UNLOADING, "big": Residency.LOADING}
    await rig.advance(2)
    await worker.gone("a")
    assert [one.model for one in (await slot_of(rig)).residencies] == ["big"]
    assert (await rig.store.snapshot()).models["a"].unload_s == 2.0


async def test_a_model_larger_than_every_slot_is_refused_and_its_tickets_end(rig):
    early = await rig.store.acquire(rig.request("s", "big"))
    worker = HandWorker(rig, budget_mib=1500)
    await worker.register()
    with pytest.raises(errors.ModelTooLargeError):
        await rig.store.acquire(rig.request("t", "big"))
    await rig.store.tick()
    assert (await rig.store.lease(early.lease_id)).reason == "rejected: model_too_large"


async def test_two_slots_share_a_model_the_less_used_first(rig):
    await ready(rig, "b")
    await ready(rig, "b", slot="gpu1")
    places = [(await rig.store.acquire(rig.request(f"s{n}", "b"))).slot for n in range(4)]
    assert places == ["gpu0", "gpu1", "gpu0", "gpu1"]
    assert await rig.store.check() == []


async def test_bells_tell_which_reports_changed(rig):
    worker = await ready(rig)
    position, _ = await rig.store.bells("0-0", block_s=0)
    await worker.report()
    position, slots = await rig.store.bells(position, block_s=1)
    assert list(slots) == [GPU]
    assert await rig.store.bells(position, block_s=0) == (position, [])
    assert list(await rig.store.reported_slots()) == [GPU]


async def test_init_again_changes_settings_and_catalogue_only(rig):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request())
    small = replace(SETTINGS, models=SETTINGS.models[:1], max_queue=1)
    await rig.store.init(small)
    view = await rig.store.snapshot()
    assert list(view.models) == ["a"]
    assert (await rig.store.lease(record.lease_id)).state is ACTIVE
    assert (await kinds(rig)).count("initialised") == 1


async def test_after_a_flush_nothing_works_until_init_and_the_worker_registers_above_all_before(rig):
    worker = await ready(rig, "a")
    record = await rig.store.acquire(rig.request())
    before = await rig.read_orders(GPU)
    await rig.flush()
    for call in (rig.store.acquire(rig.request("t")), rig.store.renew(record.lease_id, record.nonce, ttl_s=9, who="k")):
        with pytest.raises(errors.StoreUninitialisedError):
            await call
    await rig.advance(1)
    await rig.store.init(SETTINGS)
    with pytest.raises(errors.LeaseNotFoundError):
        await rig.store.lease(record.lease_id)
    worker.hw = before.generation
    await worker.register()
    after = await rig.read_orders(GPU)
    assert after.generation > before.generation
    assert after.incarnation != before.incarnation
    assert after.wants == (), "the old server is not known to anybody"


async def test_the_table_for_people(rig):
    await ready(rig, "b")
    await rig.store.acquire(rig.request("agent:main", "b"))
    await rig.store.acquire(rig.request("two\r\nlines \x1b[31m", "a"))
    lines = await rig.store.ps()
    assert lines[1].startswith("SLOT  gpu0 open gen=2 budget=2000MiB worker=host")
    assert lines[2].startswith("  MODEL b ready gen=2 use=1/2")
    assert lines[3].startswith("    HELD L1 active normal left=60s agent:main")
    assert lines[4:] == ["QUEUE a waiting=1", "  #1 L2 normal waited=0s two%0D%0Alines%20%1B%5B31m"]


async def test_why_names_the_lease_who_is_ahead_and_the_bound(rig):
    if rig.name == "memory":
        pytest.skip("a function for redis-cli")
    first, second = [await rig.store.acquire(rig.request(f"s{n}")) for n in range(2)]
    told = json.loads(await rig.link.call("FCALL_RO", "hotseat1_why", 1, BASE, second.lease_id))
    assert told["max_wait_ms"] == "600000"
    assert [one["id"] for one in told["lease"]] == [second.lease_id]
    assert [one["id"] for one in told["ahead"]] == [first.lease_id]
    alone = json.loads(await rig.link.call("FCALL_RO", "hotseat1_why", 1, BASE, first.lease_id))
    assert alone["ahead"] == []


async def test_a_pool_may_have_no_models_and_get_some(rig):
    await rig.store.init(replace(SETTINGS, models=()))
    assert not (await rig.store.snapshot()).models
    await rig.store.init(SETTINGS)
    assert set((await rig.store.snapshot()).models) == {model.name for model in SETTINGS.models}
