"""What clients may rely on, whichever store is behind the port.

Longer than a file should be: one list of promises, and the mutants' catalogue says that this file notices them.
"""

import asyncio
from dataclasses import replace

import pytest

from broker.core import errors
from broker.core.lease import Intent, LeaseState, Nonce, Priority, Session
from tests.fakes.store_rigs import SETTINGS
from tests.fakes.store_scenes import READY, HandWorker, kinds, ready, release, want

QUEUED, ACTIVE, ENDING, ENDED = LeaseState.QUEUED, LeaseState.ACTIVE, LeaseState.ENDING, LeaseState.ENDED


async def test_nothing_is_created_on_the_request_path(empty):
    for call in (empty.store.acquire(empty.request()), empty.store.tick(), empty.store.snapshot(), empty.store.hello()):
        with pytest.raises(errors.StoreUninitialisedError):
            await call


async def test_a_lease_waits_until_its_model_is_ready_and_gets_server_and_key(rig):
    record = await rig.store.acquire(rig.request())
    assert (record.state, record.position, record.base_url, record.residency) == (QUEUED, 1, "", "absent")
    worker = await HandWorker(rig).register()
    await want(rig, "a")
    assert (await rig.store.lease(record.lease_id)).residency == "loading"
    await worker.say("a", READY)
    granted = await rig.store.lease(record.lease_id)
    assert (granted.state, granted.nonce, granted.slot) == (ACTIVE, record.nonce, "gpu0")
    assert (granted.base_url, granted.api_key) == ("http://gpu0/a/v1", "key-a-1")


async def test_on_a_ready_model_with_room_a_lease_is_active_at_once(rig):
    await ready(rig, "b")
    first, second, third = [await rig.store.acquire(rig.request(f"s{n}", "b")) for n in range(3)]
    assert (first.state, second.state, third.state) == (ACTIVE, ACTIVE, QUEUED)
    assert first.expires_in_s == first.ttl_s, "claimed: the client is told in this very answer"
    await release(rig, first)
    assert (await rig.store.lease(third.lease_id)).state is ACTIVE


async def test_the_same_session_gets_the_same_lease(rig):
    first = await rig.store.acquire(rig.request("s"))
    again = await rig.store.acquire(rig.request("s"))
    assert again.lease_id == first.lease_id
    others = [rig.request("s", "b"), rig.request("s", holder="h"), rig.request("s", intent=Intent.WARM)]
    assert len({(await rig.store.acquire(other)).lease_id for other in others} | {first.lease_id}) == 4
    assert await rig.store.find(Session("key", "s"), "a", Intent.USE, "") == first.lease_id
    await rig.store.release(first.lease_id, first.nonce, who="key")
    assert await rig.store.find(Session("key", "s"), "a", Intent.USE, "") is None


async def test_the_same_call_again_is_the_same_lease(rig):
    request = rig.request()
    assert await rig.store.acquire(request) == await rig.store.acquire(request)
    with pytest.raises(errors.BadArgumentError):
        await rig.store.acquire(replace(request, nonce=Nonce("other"), session="elsewhere"))


async def test_an_operation_gives_the_same_lease_also_after_it_ended(rig):
    first = await rig.store.acquire(rig.request("s", operation="op", body_hash="x"))
    await release(rig, first)
    again = await rig.store.acquire(rig.request("s", operation="op", body_hash="x"))
    assert (again.lease_id, again.state) == (first.lease_id, ENDED)
    with pytest.raises(errors.OperationMismatchError):
        await rig.store.acquire(rig.request("s", operation="op", body_hash="y"))
    stranger = await rig.store.acquire(rig.request("s", operation="op", body_hash="y", who="another key"))
    assert stranger.lease_id != first.lease_id, "keys of different clients never meet"


async def test_an_operation_that_met_a_live_lease_names_it_ever_after(rig):
    first = await rig.store.acquire(rig.request("s"))
    met = await rig.store.acquire(rig.request("s", operation="op", body_hash="x"))
    await release(rig, first)
    again = await rig.store.acquire(rig.request("s", operation="op", body_hash="x"))
    assert first.lease_id == met.lease_id == again.lease_id


@pytest.mark.parametrize("late_ms, ends", [(-1, False), (0, True), (1, True)])
async def test_a_lease_expires_from_the_very_millisecond_of_its_deadline(rig, late_ms, ends):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request(ttl_s=3.0))
    await rig.advance(3.0 + late_ms / 1000)
    if ends:
        with pytest.raises(errors.LeaseEndedError):
            await rig.store.renew(record.lease_id, record.nonce, ttl_s=3.0, who="key")
        assert (await rig.store.lease(record.lease_id)).reason == "expired"
    else:
        assert (await rig.store.renew(record.lease_id, record.nonce, ttl_s=3.0, who="key")).expires_in_s == 3.0


async def test_an_expiry_wakes_the_next_waiter_in_the_same_call(rig):
    await ready(rig, "a")
    await rig.store.acquire(rig.request("s1", ttl_s=2.0))
    waiter = await rig.store.acquire(rig.request("s2"))
    assert await rig.store.tick() == 2.0
    await rig.advance(2.0)
    await rig.store.tick()
    assert (await rig.store.lease(waiter.lease_id)).state is ACTIVE


async def test_a_stale_nonce_changes_nothing(rig):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request())
    before = await rig.store.last_event_id()
    for call in (
        rig.store.release(record.lease_id, Nonce("stale"), who="key"),
        rig.store.renew(record.lease_id, Nonce("stale"), ttl_s=9.0, who="key"),
    ):
        with pytest.raises(errors.StaleNonceError):
            await call
    assert (await rig.store.lease(record.lease_id)).state is ACTIVE
    assert await rig.store.last_event_id() == before


async def test_release_is_safe_to_repeat_and_its_nonce_is_checked_ever_after(rig):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request())
    ended = await release(rig, record)
    assert (ended.state, ended.reason) == (ENDED, "released")
    assert (await release(rig, record)).reason == "released"
    with pytest.raises(errors.StaleNonceError):
        await rig.store.release(record.lease_id, Nonce("stale"), who="key")
    assert (await kinds(rig)).count("ended") == 1


async def test_giving_back_is_a_release_without_an_answer(rig):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request())
    with pytest.raises(errors.StaleNonceError):
        await rig.store.give_back(record.lease_id, Nonce("stale"), who="key")
    for _ in range(2):
        assert await rig.store.give_back(record.lease_id, record.nonce, who="key") is None
    ended = await rig.store.lease(record.lease_id)
    assert (ended.state, ended.reason) == (ENDED, "released")
    ticket = await rig.store.acquire(rig.request("s", "b"))
    await rig.store.give_back(ticket.lease_id, ticket.nonce, who="key")
    assert (await rig.store.lease(ticket.lease_id)).reason == "cancelled"
    assert (await kinds(rig)).count("ended") == 2


async def test_a_released_ticket_is_cancelled(rig):
    record = await rig.store.acquire(rig.request())
    assert (await release(rig, record)).reason == "cancelled"
    assert (await rig.store.snapshot()).queued == 0


async def test_unknown_leases_and_models_are_refused(rig):
    for call in (rig.store.lease("L0"), rig.store.poll("L0", waiter_ttl_s=1), rig.store.end("L0", who="x", why="y")):
        with pytest.raises(errors.LeaseNotFoundError):
            await call
    with pytest.raises(errors.UnknownModelError):
        await rig.store.acquire(rig.request(model="none"))


@pytest.mark.parametrize("field, value", [("ttl_s", 0), ("ttl_s", -1), ("ttl_s", float("nan")), ("waiter_ttl_s", 0),
                                          ("expected_s", -1), ("ttl_s", 1e12)])  # fmt: skip
async def test_impossible_durations_are_refused_and_leave_nothing(rig, field, value):
    with pytest.raises(errors.BadArgumentError):
        await rig.store.acquire(rig.request(**{field: value}))
    assert await kinds(rig) == ["initialised"]


async def test_a_ticket_nobody_asks_about_is_dropped(rig):
    gone = await rig.store.acquire(rig.request("s1", waiter_ttl_s=4.0))
    here = await rig.store.acquire(rig.request("s2", waiter_ttl_s=4.0))
    await rig.advance(3.0)
    assert (await rig.store.poll(here.lease_id, waiter_ttl_s=4.0)).expires_in_s == 4.0
    await rig.advance(2.0)
    await rig.store.tick()
    assert (await rig.store.lease(gone.lease_id)).reason == "timed_out"
    assert (await rig.store.lease(here.lease_id)).state is QUEUED


async def test_a_lease_granted_to_an_absent_client_runs_out_unless_claimed(rig):
    first, second = [await rig.store.acquire(rig.request(f"s{n}", "b", ttl_s=60.0)) for n in range(2)]
    await ready(rig, "b")
    assert (await rig.store.lease(first.lease_id)).expires_in_s == SETTINGS.claim_ttl_s
    claimed = await rig.store.poll(first.lease_id, waiter_ttl_s=60.0)
    assert claimed.expires_in_s == 60.0
    await rig.pass_time(31)
    await rig.store.tick()
    assert (await rig.store.lease(first.lease_id)).state is ACTIVE
    assert (await rig.store.lease(second.lease_id)).reason == "expired"


async def test_an_ending_lease_keeps_its_grace_deadline_and_ends_preempted(rig):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request(ttl_s=60.0))
    await rig.store.preempt(record.lease_id, grace_s=4.0, why="slice")
    ending = await rig.store.renew(record.lease_id, record.nonce, ttl_s=60.0, who="key")
    assert (ending.state, ending.reason, ending.expires_in_s) == (ENDING, "slice", 4.0)
    with pytest.raises(errors.StaleDecisionError):
        await rig.store.preempt(record.lease_id, grace_s=4.0, why="slice")
    await rig.advance(4.0)
    await rig.store.tick()
    assert (await rig.store.lease(record.lease_id)).reason == "preempted"


async def test_a_warm_lease_is_active_at_once_and_holds_no_place(rig):
    warm = await rig.store.acquire(rig.request("s", "a", intent=Intent.WARM))
    assert (warm.state, warm.slot, warm.base_url) == (ACTIVE, None, "")
    view = (await rig.store.snapshot()).models["a"]
    assert (view.warm_leases, view.waiting) == (1, 0)
    assert view.expected_arrivals >= 1.0


async def test_an_operator_ends_leases_without_their_nonce(rig):
    await ready(rig, "a")
    held, queued = [await rig.store.acquire(rig.request(f"s{n}")) for n in range(2)]
    assert (await rig.store.end(queued.lease_id, who="operator:x", why="gone")).reason == "cancelled: gone"
    assert (await rig.store.end(held.lease_id, who="operator:x", why="gone")).reason == "revoked: gone"
    assert (await rig.store.end(held.lease_id, who="operator:x", why="again")).reason == "revoked: gone"


async def test_queues_are_bounded(rig):
    await rig.store.init(replace(SETTINGS, max_queue=3, max_queue_session=2))
    for holder in "xy":
        await rig.store.acquire(rig.request("s", holder=holder))
    with pytest.raises(errors.SessionQueueFullError):
        await rig.store.acquire(rig.request("s", holder="z"))
    await rig.store.acquire(rig.request("t"))
    with pytest.raises(errors.QueueFullError):
        await rig.store.acquire(rig.request("u"))
    with pytest.raises(errors.TenantFullError):
        await rig.store.acquire(rig.request("v", max_open=3))
    await rig.store.acquire(rig.request("v", intent=Intent.WARM))


async def test_classes_first_then_arrival_but_whoever_waited_too_long_before_all(rig):
    waits = dict.fromkeys(Priority, 600.0) | {Priority.BATCH: 7.0}
    await rig.store.init(replace(SETTINGS, max_wait_s=waits))
    batch = await rig.store.acquire(rig.request("s1", "a", priority=Priority.BATCH))
    await rig.advance(4)
    order = [await rig.store.acquire(rig.request(f"t{n}", "a", priority=p)) for n, p in enumerate(
        (Priority.NORMAL, Priority.INTERACTIVE, Priority.NORMAL))]  # fmt: skip
    assert [(await rig.store.lease(one.lease_id)).position for one in order] == [2, 1, 3]
    await ready(rig, "a")
    assert (await rig.store.lease(order[1].lease_id)).state is ACTIVE
    await rig.advance(3)
    await rig.store.end(order[1].lease_id, who="x", why="")
    assert (await rig.store.lease(batch.lease_id)).state is ACTIVE, "7.0 s are over, exactly"
    await rig.store.end(batch.lease_id, who="x", why="")
    assert (await rig.store.lease(order[0].lease_id)).state is ACTIVE


async def test_listing_shows_holders_first_then_tickets_in_order_of_service(rig):
    await ready(rig, "b")
    made = [await rig.store.acquire(rig.request(f"s{n}", "b")) for n in range(4)]
    urgent = await rig.store.acquire(rig.request("u", "b", priority=Priority.INTERACTIVE))
    warm = await rig.store.acquire(rig.request("w", "a", intent=Intent.WARM))
    listed = await rig.store.leases(model=None, limit=100)
    best_of_b = await rig.store.leases(model="b", limit=3)
    ids = [made[0], made[1], warm, urgent, made[2], made[3]]
    assert [one.lease_id for one in listed] == [one.lease_id for one in ids]
    assert [one.lease_id for one in best_of_b] == [one.lease_id for one in (made[0], made[1], urgent)]


async def test_estimates_count_while_they_hold(rig):
    await ready(rig, "a")
    for round_number in range(4):
        record = await rig.store.acquire(rig.request("s", expected_s=1.0, ttl_s=60))
        assert record.expected_s == (1.0 if round_number == 0 else 0.0)
        await rig.advance(4)
        await release(rig, record)
    honest = await rig.store.acquire(rig.request("s", expected_s=1.0, who="honest"))
    assert honest.expected_s == 1.0


async def test_holds_and_loads_are_learned(rig):
    worker = await HandWorker(rig).register()
    await want(rig, "a")
    await rig.advance(3)
    await worker.say("a", READY)
    record = await rig.store.acquire(rig.request())
    await rig.advance(2)
    await release(rig, record)
    view = (await rig.store.snapshot()).models["a"]
    assert (view.load_s, view.load_n, view.hold_s, view.hold_n) == (3.0, 1, 2.0, 1)


async def test_events_wake_a_reader_and_can_be_resumed(rig):
    start = await rig.store.last_event_id()
    reader = asyncio.ensure_future(rig.store.events(start, block_s=5, limit=10))
    await asyncio.sleep(0)
    record = await rig.store.acquire(rig.request())
    (event,) = await asyncio.wait_for(reader, 30)
    assert (event.kind, event.fields["lease"], event.fields["who"]) == ("queued", record.lease_id, "key")
    assert await rig.store.events(event.event_id, block_s=0, limit=10) == []
    assert await rig.store.first_event_id() != await rig.store.last_event_id()
    assert len(await rig.store.events("0-0", block_s=0, limit=1)) == 1


async def test_a_label_is_kept_shown_in_the_table_and_told_in_every_event_of_its_lease(rig):
    await ready(rig, "a")
    start = await rig.store.last_event_id()
    held = await rig.store.acquire(rig.request("s1", "a", label="nightly run"))
    waits = await rig.store.acquire(rig.request("s2", "a", label="l\u00e4uft {immer}"))
    plain = await rig.store.acquire(rig.request("s3", "a"))
    assert [one.label for one in (held, waits, plain)] == ["nightly%20run", "l%C3%A4uft%20%7Bimmer%7D", ""]
    table = await rig.store.ps()
    ends = [line.split()[-1] for one in (held, waits, plain) for line in table if one.lease_id in line.split()]
    assert ends == ["label=nightly%20run", "label=l%C3%A4uft%20%7Bimmer%7D", "s3"]
    await release(rig, held)
    told = [event.fields for event in await rig.store.events(start, block_s=0, limit=50) if "lease" in event.fields]
    of_it = [fields.get("label") for fields in told if fields["lease"] == held.lease_id]
    assert len(of_it) == 2
    assert set(of_it) == {"nightly%20run"}
    assert all("label" not in fields for fields in told if fields["lease"] == plain.lease_id)


async def test_who_asks_again_is_answered_with_the_label_that_there_is(rig):
    first = await rig.store.acquire(rig.request(label="first"))
    again = await rig.store.acquire(rig.request(label="second"))
    assert (again.lease_id, again.label) == (first.lease_id, "first")


async def test_a_label_is_bounded_however_it_came(rig):
    lease = await rig.store.acquire(rig.request(label="\u00e4" * 5000))
    assert len(lease.label) <= 256
    assert lease.label.endswith("%E2%80%A6")


async def test_time_never_goes_back_and_no_jump_expires_anybody(rig):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request(ttl_s=30.0))
    for jump in (3600, -7200, 86400):
        await rig.advance(jump)
        await rig.store.tick()
    left = (await rig.store.lease(record.lease_id)).expires_in_s
    assert left == 30.0 - 2 * SETTINGS.max_step_s
    assert (await kinds(rig)).count("clock_step") == 3
