"""Failed loads, fallen servers, models out of service: who waits on, who is told at once, and what is forgiven when."""

from dataclasses import replace

import pytest

from broker.core import errors
from broker.core.lease import Intent, LeaseState, ModelName, SlotId
from broker.core.slot import Failing
from schemas.messages import FailureKind, Inspection
from schemas.residency import Residency
from tests.fakes.store_rigs import SETTINGS
from tests.fakes.store_scenes import FAILED, GPU, READY, HandWorker, kinds, ready, release, want

QUEUED, ACTIVE, ENDED = LeaseState.QUEUED, LeaseState.ACTIVE, LeaseState.ENDED
RETRY_S, BACKOFF_S, MAX_FAILS = SETTINGS.load_retry_s, SETTINGS.load_backoff_s, SETTINGS.max_fails
A = ModelName("a")
WORDS = "server_died: exited with status 1; error: invalid argument: --flash-atn"


async def slot_of(rig, slot=GPU):
    return next(view for view in (await rig.store.snapshot()).slots if view.slot == slot)


async def failure_of(rig, slot=GPU):
    found = (await slot_of(rig, slot)).failures
    return found[0] if found else None


async def fail(rig, worker, kind, *, error=WORDS, stamp=""):
    """Order a load of ``a`` that fails in a certain way, and is gone."""
    await want(rig, "a", slot=worker.slot)
    if stamp:
        worker.inspections["a"] = Inspection(model="a", stamp=stamp)
    await worker.say("a", FAILED, error=error, failure=kind)
    await worker.gone("a")


async def later(rig, worker, seconds):
    """Let time go by; the worker reports meanwhile."""
    while seconds > 0:
        step = min(seconds, 4.0)
        await rig.advance(step)
        await worker.report()
        await rig.store.tick()
        seconds -= step


async def refused(rig, error, **more):
    with pytest.raises(error) as told:
        await rig.store.acquire(rig.request(f"s{rig.wall_ms}", "a", **more))
    return told.value


# ------------------------------------------------------------------------------------------------------- for good


async def test_a_permanent_failure_ends_every_waiter_at_once_with_the_servers_own_words(rig):
    worker = await ready(rig)
    waiters = [await rig.store.acquire(rig.request(f"s{n}")) for n in range(3)]
    await fail(rig, worker, FailureKind.PERMANENT)
    for waiter in waiters:
        record = await rig.store.lease(waiter.lease_id)
        assert (record.state, record.reason) == (ENDED, f"rejected: load_failed: {WORDS}")
        assert (record.load_error, record.load_tries) == (WORDS, 1)
    error = await refused(rig, errors.LoadFailedError)
    assert str(error) == f"a cannot be loaded: {WORDS}"
    assert error.retry_after_s == BACKOFF_S
    await refused(rig, errors.LoadFailedError, intent=Intent.WARM)
    await rig.advance(2.5)
    assert (await refused(rig, errors.LoadFailedError)).retry_after_s == BACKOFF_S - 2, "rounded up"


async def test_after_the_pause_the_next_request_tries_again_and_the_pause_grows(rig):
    worker = await ready(rig)
    for pause_s in (BACKOFF_S, 2 * BACKOFF_S, 4 * BACKOFF_S):
        await fail(rig, worker, FailureKind.PERMANENT)
        await refused(rig, errors.LoadFailedError)
        with pytest.raises(errors.StaleDecisionError):
            await want(rig, "a")
        await later(rig, worker, pause_s - 0.5)
        await refused(rig, errors.LoadFailedError)
        await later(rig, worker, 0.5)
    record = await rig.store.acquire(rig.request("s"))
    assert record.state is QUEUED
    await want(rig, "a")
    await worker.say("a", READY)
    assert (await rig.store.lease(record.lease_id)).state is ACTIVE
    assert await failure_of(rig) is None


async def test_another_slot_that_has_not_failed_is_hope_and_a_silent_one_is_none(rig):
    worker, other = await ready(rig), await ready(rig, slot="gpu1")
    waiter = await rig.store.acquire(rig.request())
    await fail(rig, worker, FailureKind.PERMANENT)
    assert (await rig.store.lease(waiter.lease_id)).state is QUEUED
    await later(rig, worker, 12)
    assert (await slot_of(rig, SlotId("gpu1"))).state.value == "offline"
    await rig.store.tick()
    assert (await rig.store.lease(waiter.lease_id)).reason.startswith("rejected: load_failed")
    await other.report()
    assert (await rig.store.acquire(rig.request("s2"))).state is QUEUED


# -------------------------------------------------------------------------------------------------------- in passing


async def test_a_passing_failure_keeps_the_line_and_is_tried_again_within_seconds_then_later(rig):
    worker = await ready(rig)
    waiter = await rig.store.acquire(rig.request(waiter_ttl_s=3600))
    for tries, pause_s in enumerate((RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S), start=1):
        await fail(rig, worker, FailureKind.PASSING)
        record = await rig.store.lease(waiter.lease_id)
        assert (record.state, record.load_error, record.load_tries) == (QUEUED, WORDS, tries)
        assert (record.failed_ago_s, record.retry_in_s) == (0.0, pause_s)
        with pytest.raises(errors.StaleDecisionError):
            await want(rig, "a")
        assert (await rig.store.acquire(rig.request(f"t{tries}"))).state is QUEUED, "others may wait for it too"
        await later(rig, worker, pause_s)
    await fail(rig, worker, FailureKind.PASSING)
    assert MAX_FAILS == 5
    assert (await rig.store.lease(waiter.lease_id)).reason == f"rejected: model_quarantined: {WORDS}"
    assert (await refused(rig, errors.ModelQuarantinedError)).retry_after_s == BACKOFF_S
    await later(rig, worker, BACKOFF_S)
    assert (await rig.store.acquire(rig.request("s"))).state is QUEUED, "a quarantine has an end"


async def test_the_pause_of_a_passing_failure_grows_no_further_than_the_back_off(rig):
    worker = await ready(rig)
    await rig.store.init(replace(SETTINGS, max_fails=50))
    for _ in range(9):
        await fail(rig, worker, FailureKind.PASSING)
        pause_s = (await failure_of(rig)).retry_at_s - (await rig.store.snapshot()).now_s
        assert pause_s <= BACKOFF_S
        await later(rig, worker, pause_s)
    assert pause_s == BACKOFF_S


async def test_what_is_the_hosts_doing_is_never_held_against_the_model(rig):
    worker = await ready(rig)
    waiter = await rig.store.acquire(rig.request(waiter_ttl_s=3600))
    for _ in range(MAX_FAILS + 2):
        await fail(rig, worker, FailureKind.HOST, error="no free port on 127.0.0.1")
        assert not (await failure_of(rig)).quarantined
        await later(rig, worker, BACKOFF_S)
    record = await rig.store.lease(waiter.lease_id)
    assert (record.state, record.load_error) == (QUEUED, "no free port on 127.0.0.1")
    await fail(rig, worker, FailureKind.PASSING)
    assert not (await failure_of(rig)).quarantined, "the model's own count begins here"


async def test_an_older_workers_failure_without_a_kind_is_passing(rig):
    worker = await ready(rig)
    await want(rig, "a")
    await worker.say("a", FAILED, error="out of memory")
    assert ((await failure_of(rig)).kind, (await failure_of(rig)).error) == (Failing.PASSING, "out of memory")


# ---------------------------------------------------------------------------------------------------- what forgives it


async def test_a_load_that_succeeds_clears_all_and_no_waiter_hears_of_it_any_more(rig):
    worker = await ready(rig)
    await fail(rig, worker, FailureKind.PASSING)
    await later(rig, worker, RETRY_S)
    await want(rig, "a")
    await worker.say("a", READY)
    held = await rig.store.acquire(rig.request("s1"))
    waiter = await rig.store.acquire(rig.request("s2"))
    assert (held.load_error, waiter.load_error, await failure_of(rig)) == ("", "", None)
    await rig.advance(1)
    await worker.gone("a")
    assert await failure_of(rig) is None
    assert (await rig.store.lease(waiter.lease_id)).load_error == ""


async def test_a_changed_file_program_or_entry_is_tried_again_at_once(rig):
    worker = await ready(rig)
    await fail(rig, worker, FailureKind.PERMANENT, stamp="before")
    await worker.report()
    await refused(rig, errors.LoadFailedError)
    worker.inspections["a"] = Inspection(model="a", stamp="mended")
    await worker.report()
    assert await failure_of(rig) is None
    assert "forgiven" in await kinds(rig)
    assert (await rig.store.acquire(rig.request("s"))).state is QUEUED
    await want(rig, "a")


async def test_what_was_mended_while_it_failed_is_seen_to_have_changed(rig):
    worker = await ready(rig)
    await want(rig, "a")
    worker.inspections["a"] = Inspection(model="a", stamp="before")
    await worker.say("a", FAILED, error=WORDS, failure=FailureKind.PERMANENT)
    worker.inspections["a"] = Inspection(model="a", stamp="mended")
    await worker.report()
    assert (await failure_of(rig)).quarantined, "it is still being cleared away"
    await worker.gone("a")
    assert await failure_of(rig) is None


async def test_a_new_worker_process_starts_with_a_clean_sheet_and_the_same_one_does_not(rig):
    worker = await ready(rig)
    await fail(rig, worker, FailureKind.PERMANENT)
    await rig.restart("another-run")
    await worker.register()
    await refused(rig, errors.LoadFailedError)
    await HandWorker(rig, boot="boot2").register()
    assert await failure_of(rig) is None
    assert (await rig.store.acquire(rig.request("s"))).state is QUEUED


async def test_a_failure_of_long_ago_says_nothing_of_the_next_load(rig):
    worker = await ready(rig)
    for _ in range(3):
        await fail(rig, worker, FailureKind.PASSING)
        await later(rig, worker, 8)
    await later(rig, worker, 600)
    waiter = await rig.store.acquire(rig.request())
    assert (waiter.load_error, waiter.load_tries) == ("", 0)
    await fail(rig, worker, FailureKind.PASSING)
    assert (await failure_of(rig)).fails == 1


async def test_an_operator_heals_a_slot_or_orders_a_load_that_no_back_off_holds_up(rig):
    worker = await ready(rig)
    await fail(rig, worker, FailureKind.PERMANENT)
    generation = (await rig.read_orders(GPU)).generation
    await rig.store.want(slot=GPU, generation=generation, model=A, depth=READY, evict=[], key="k", why="operator")
    await worker.say("a", FAILED, error=WORDS, failure=FailureKind.PERMANENT)
    await worker.gone("a")
    assert (await failure_of(rig)).fails == 2
    await rig.store.set_slot(GPU, event="heal", who="operator:x")
    assert await failure_of(rig) is None
    assert (await rig.store.acquire(rig.request("s"))).state is QUEUED
    await want(rig, "a")


# ------------------------------------------------------------------------------------------------ cannot be started


async def test_what_a_worker_sees_cannot_be_started_is_not_even_tried(rig):
    waiter = await rig.store.acquire(rig.request(operation="kept for a day"))
    worker = HandWorker(rig)
    worker.inspections["a"] = Inspection(model="a", trouble="program not found: /opt/llama-server")
    await worker.register()
    reason = "load_failed: program not found: /opt/llama-server"
    assert (await rig.store.lease(waiter.lease_id)).reason == f"rejected: {reason}"
    error = await refused(rig, errors.LoadFailedError)
    assert (str(error), error.retry_after_s) == ("a cannot be loaded: program not found: /opt/llama-server", BACKOFF_S)
    with pytest.raises(errors.StaleDecisionError):
        await want(rig, "a")
    await later(rig, worker, 700)
    assert (await rig.store.lease(waiter.lease_id)).load_error == "program not found: /opt/llama-server"
    await refused(rig, errors.LoadFailedError)
    assert (await kinds(rig)).count("unsound") == 1
    view = await failure_of(rig)
    assert (view.kind, view.quarantined, view.not_before_s) == (Failing.UNSOUND, True, float("inf"))
    del worker.inspections["a"]
    await worker.report()
    assert await failure_of(rig) is None
    assert (await rig.store.acquire(rig.request("s"))).state is QUEUED
    assert await rig.store.check() == []


async def test_a_program_that_vanishes_under_its_server_harms_nobody_until_that_is_gone(rig):
    worker = await ready(rig, "a")
    worker.inspections["a"] = Inspection(model="a", trouble="no such file: w.gguf")
    await worker.report()
    held = await rig.store.acquire(rig.request())
    assert held.state is ACTIVE
    waiter = await rig.store.acquire(rig.request("s2"))
    await worker.gone("a")
    await worker.report()
    assert (await rig.store.lease(waiter.lease_id)).reason == "rejected: load_failed: no such file: w.gguf"


async def test_a_model_of_no_workers_catalogue_ends_its_tickets_a_moment_after_one_has_registered(rig):
    waiter = await rig.store.acquire(rig.request(waiter_ttl_s=3600))
    await rig.advance(5)
    await rig.store.tick()
    assert (await rig.store.lease(waiter.lease_id)).state is QUEUED, "no worker has said anything yet"
    worker = HandWorker(rig)
    worker.serves = ("b",)
    await worker.register()
    second = await rig.store.acquire(rig.request("s2"))
    await rig.store.tick()
    assert (await rig.store.lease(waiter.lease_id)).reason == "rejected: no_worker: no worker's catalogue has it"
    assert (await rig.store.lease(second.lease_id)).state is QUEUED
    await rig.advance(3)
    await rig.store.tick()
    assert (await rig.store.lease(second.lease_id)).state is ENDED


async def test_a_model_taken_out_of_the_catalogue_leaves_no_record_behind(rig):
    worker = await ready(rig)
    await fail(rig, worker, FailureKind.PASSING)
    await rig.store.init(replace(SETTINGS, models=SETTINGS.models[1:]))
    assert "a" not in (await rig.store.snapshot()).models
    assert await failure_of(rig) is None
    await worker.report()
    assert await rig.store.check() == []


# --------------------------------------------------------------------------------------------------- after readiness


async def test_a_crash_after_readiness_is_no_failed_load_and_is_loaded_again_at_once(rig):
    worker = await ready(rig, "a")
    record = await rig.store.acquire(rig.request())
    waiter = await rig.store.acquire(rig.request("s2"))
    await worker.say("a", FAILED, error="server_died: killed by SIGSEGV; oops", failure=FailureKind.PASSING)
    await worker.gone("a")
    assert (await rig.store.lease(record.lease_id)).reason == "lost: server_died"
    assert (await rig.store.lease(waiter.lease_id)).state is QUEUED
    assert await failure_of(rig) is None
    assert (await rig.read_orders(GPU)).wants == ()
    await want(rig, "a")
    await worker.say("a", READY)
    assert (await rig.store.lease(waiter.lease_id)).state is ACTIVE


async def test_a_server_that_dies_young_again_and_again_is_slowed_down_and_never_refused(rig):
    worker = await ready(rig)
    for pause_s in (0.0, RETRY_S, 2 * RETRY_S, 4 * RETRY_S):
        await want(rig, "a")
        await worker.say("a", READY)
        await rig.advance(1)
        await worker.say("a", FAILED, error="server_died: killed by SIGSEGV", failure=FailureKind.PASSING)
        await worker.gone("a")
        view = await failure_of(rig)
        assert (view.retry_at_s - (await rig.store.snapshot()).now_s if view else 0.0) == pause_s
        assert (await rig.store.acquire(rig.request(f"s{pause_s}"))).state is QUEUED
        await later(rig, worker, pause_s)
    await want(rig, "a")
    await worker.say("a", READY)
    await later(rig, worker, 60)
    await worker.gone("a")
    assert await failure_of(rig) is None, "it stood for a minute: what was before is over"


async def test_a_server_proved_useless_is_restarted_once_and_then_given_up_with_the_reason(rig):
    worker = await ready(rig)
    error = "server_useless: no token within 15 s, and its processes did nothing meanwhile"
    waiter = await rig.store.acquire(rig.request(waiter_ttl_s=3600, ttl_s=3600))
    for fall in (1, 2):
        await want(rig, "a")
        await worker.say("a", READY)
        await rig.store.poll(waiter.lease_id, waiter_ttl_s=60)
        await later(rig, worker, 120)
        await worker.say("a", FAILED, error=error, failure=FailureKind.USELESS)
        await worker.gone("a")
        view = await failure_of(rig)
        assert (view.kind, view.fails, view.quarantined, view.error) == (Failing.USELESS, fall, fall == 2, error)
    assert (await rig.store.lease(waiter.lease_id)).reason == "lost: server_useless"
    with pytest.raises(errors.ModelQuarantinedError, match="server_useless: no token within 15 s"):
        await rig.store.acquire(rig.request("s2"))
    await later(rig, worker, BACKOFF_S)
    assert (await rig.store.acquire(rig.request("s2"))).state is QUEUED


async def test_a_fault_of_memory_is_known_until_the_next_load_has_succeeded(rig):
    worker = await ready(rig)
    await fail(rig, worker, FailureKind.ROOM, error="server_died: killed by SIGABRT; out of memory")
    assert (await failure_of(rig)).kind is Failing.ROOM
    await later(rig, worker, RETRY_S)
    await want(rig, "a")
    assert (await failure_of(rig)).kind is Failing.ROOM
    await worker.say("a", READY)
    assert await failure_of(rig) is None


# ---------------------------------------------------------------------------------------------------------- a doubt


async def test_a_doubt_about_a_ready_server_reaches_its_worker_and_no_other_load(rig):
    worker = await ready(rig, "a")
    generation = (await slot_of(rig)).residencies[0].generation
    before = await rig.read_orders(GPU)
    for number in (1, 2):
        await rig.store.doubt(slot=GPU, generation=generation, model=A, who="broker:b1", why="silent for 20 s")
        (asked,) = (await rig.read_orders(GPU)).wants
        assert (asked.model, asked.prove) == ("a", number)
    assert (await rig.read_orders(GPU)).generation == before.generation
    for wrong in ({"generation": generation + 1}, {"model": ModelName("b")}, {"slot": SlotId("none")}):
        with pytest.raises(errors.StaleDecisionError):
            await rig.store.doubt(**{"slot": GPU, "generation": generation, "model": A, "who": "b", "why": "x"} | wrong)
    await worker.gone("a")
    await want(rig, "a")
    (asked,) = (await rig.read_orders(GPU)).wants
    assert asked.prove == 0


# ------------------------------------------------------------------------------------------------------ out of service


async def test_a_model_out_of_service_takes_nobody_and_keeps_who_has_it(rig):
    await ready(rig, "a")
    held = await rig.store.acquire(rig.request("s1"))
    waiter = await rig.store.acquire(rig.request("s2"))
    await rig.store.set_model(A, off="new weights are coming", who="operator:x")
    assert (await rig.store.lease(held.lease_id)).state is ACTIVE
    assert (await rig.store.lease(waiter.lease_id)).reason == "rejected: model_off: new weights are coming"
    error = await refused(rig, errors.ModelOffError)
    assert str(error) == "a is out of service: new weights are coming"
    assert (await rig.store.snapshot()).models["a"].off == "new weights are coming"
    await release(rig, held)
    await refused(rig, errors.ModelOffError)
    assert any(line == "OFF   a new weights are coming" for line in await rig.store.ps())
    await rig.store.set_model(A, off="", who="operator:x")
    assert (await rig.store.acquire(rig.request("s3"))).state is ACTIVE
    told = [event.fields for event in await rig.store.events("0-0", block_s=0, limit=1000) if event.kind == "model"]
    assert [(one["who"], one["from"], one["to"]) for one in told] == [
        ("operator:x", "on", "off"),
        ("operator:x", "off", "on"),
    ]


async def test_out_of_service_outlives_init_and_restarts_and_is_never_loaded(rig):
    worker = await ready(rig)
    await rig.store.set_model(A, off="broken", who="operator:x")
    await rig.store.init(SETTINGS)
    await rig.restart("another-run")
    await worker.register()
    assert (await rig.store.snapshot()).models["a"].off == "broken"
    with pytest.raises(errors.StaleDecisionError):
        await want(rig, "a")
    with pytest.raises(errors.UnknownModelError):
        await rig.store.set_model(ModelName("none"), off="x", who="operator:x")


async def test_what_an_operator_unloads_rests_until_it_is_loaded_again(rig):
    worker = await ready(rig, "a")
    generation = (await rig.read_orders(GPU)).generation
    await rig.store.unwant(slot=GPU, generation=generation, model=A, why="operator")
    assert (await slot_of(rig)).residencies[0].state is Residency.UNLOADING
    await worker.gone("a")
    assert (await rig.store.snapshot()).models["a"].resting
    await want(rig, "a")
    assert not (await rig.store.snapshot()).models["a"].resting
