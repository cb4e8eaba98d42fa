"""Places in line outlive a request, and the broker it was at: a client that comes back stands where it stood."""

import pytest

from broker.core import errors
from broker.core.lease import LeaseState, LifeId, Nonce, Session
from tests.contract.store.test_lives import looks, request_of, served_by, state_of
from tests.fakes.store_scenes import READY, HandWorker, ready, release, want

ONE, TWO = LifeId("one/1"), LifeId("two/1")
QUEUED, ACTIVE, ENDED = LeaseState.QUEUED, LeaseState.ACTIVE, LeaseState.ENDED


@pytest.fixture
async def rig(rig):
    """Two brokers."""
    for life in (ONE, TWO):
        await rig.store.begin_life(life)
    return rig


async def asks(rig, life, session="s", place="", model="a", **more):
    return await served_by(rig, life, session, model, place=place or f"body of {session}", **more)


async def sent_away(rig, record, life=ONE, *, back_s=5.0, kept_s=30.0):
    await rig.store.send_away(record.lease_id, record.nonce, life=life, back_s=back_s, kept_s=kept_s)


async def position(rig, record):
    return (await rig.store.lease(record.lease_id)).position


# ------------------------------------------------------------------------------------------------------- sent away
@pytest.mark.parametrize("life", [ONE, TWO])
async def test_a_client_that_was_sent_away_finds_its_ticket_at_any_broker(rig, life):
    first = await asks(rig, ONE)
    others = await asks(rig, TWO, "other")
    await sent_away(rig, first)
    again = await asks(rig, life)
    assert (again.lease_id, again.nonce, again.position) == (first.lease_id, first.nonce, 1)
    assert await position(rig, others) == 2
    assert await rig.store.check() == []


async def test_it_finds_the_lease_that_it_got_meanwhile_and_claims_it(rig):
    first = await asks(rig, ONE, ttl_s=60.0)
    await sent_away(rig, first)
    await ready(rig, "a")
    assert (await rig.store.lease(first.lease_id)).expires_in_s == 30.0, "unclaimed"
    again = await asks(rig, TWO)
    assert (again.lease_id, again.state, again.expires_in_s) == (first.lease_id, ACTIVE, 60.0)


async def test_a_ticket_left_behind_outlives_the_broker_that_took_it_in_and_dies_with_the_one_that_has_it(rig):
    first = await asks(rig, ONE, waiter_ttl_s=600.0)
    await sent_away(rig, first)
    await rig.store.end_life(ONE)
    assert (await asks(rig, TWO)).lease_id == first.lease_id
    await rig.store.end_life(TWO)
    assert await state_of(rig, first) is ENDED


async def test_a_place_is_kept_as_long_as_was_said(rig):
    first = await asks(rig, ONE)
    await sent_away(rig, first, back_s=5.0, kept_s=10.0)
    await rig.pass_time(14.9)
    assert await state_of(rig, first) is QUEUED
    await rig.pass_time(0.1)
    again = await asks(rig, TWO)
    assert again.lease_id != first.lease_id
    assert (await rig.store.lease(first.lease_id)).reason == "timed_out"


async def test_requests_alike_that_are_open_never_share_a_lease(rig):
    tickets = [await asks(rig, life) for life in (ONE, ONE, TWO)]
    assert len({ticket.lease_id for ticket in tickets}) == 3
    await sent_away(rig, tickets[1])
    back = [await asks(rig, TWO), await asks(rig, TWO)]
    assert back[0].lease_id == tickets[1].lease_id
    assert back[1].lease_id not in {ticket.lease_id for ticket in tickets}


async def test_requests_alike_come_back_to_the_oldest_place_first(rig):
    tickets = [await asks(rig, ONE) for _ in range(3)]
    for ticket in reversed(tickets):
        await sent_away(rig, ticket)
    assert [(await asks(rig, TWO)).lease_id for _ in range(3)] == [ticket.lease_id for ticket in tickets]


STRANGERS = {
    "another key": {"who": "another"},
    "another model": {"model": "b"},
    "another session, expected back": {"session": "t", "place": "body of s"},
    "another body, no name": {"place": "other"},
    "another body, expected back": {"place": "other", "named": True},
}


@pytest.mark.parametrize("who", STRANGERS)
async def test_nobody_else_finds_a_place_that_is_kept(rig, who):
    first = await asks(rig, ONE)
    await sent_away(rig, first, back_s=5.0)
    await rig.advance(4.9)
    assert (await asks(rig, TWO, **STRANGERS[who])).lease_id != first.lease_id
    assert (await asks(rig, TWO)).lease_id == first.lease_id


async def test_the_same_bytes_of_another_key_find_no_place_though_its_owner_is_overdue(rig):
    first = await asks(rig, ONE)
    await sent_away(rig, first, back_s=1.0)
    await rig.advance(1.5)
    assert (await asks(rig, TWO, who="another")).lease_id != first.lease_id
    assert (await asks(rig, TWO)).lease_id == first.lease_id


async def test_a_session_with_a_name_may_build_its_retry_anew_and_comes_when_it_was_told_to(rig):
    first, second = await asks(rig, ONE, place="1", named=True), await asks(rig, ONE, place="2", named=True)
    for ticket in (first, second):
        await sent_away(rig, ticket, back_s=5.0)
    await rig.advance(5.0)
    assert (await asks(rig, TWO, place="3", named=True)).lease_id == first.lease_id
    assert (await asks(rig, TWO, place="2", named=True)).lease_id == second.lease_id


@pytest.mark.parametrize("after_s, named", [(4.9, True), (5.0, False)], ids=["expected back", "no name"])
async def test_another_request_that_goes_by_the_sessions_name_finds_nothing(rig, after_s, named):
    first = await asks(rig, ONE, place="1", named=True)
    await sent_away(rig, first, back_s=5.0)
    await rig.advance(after_s)
    assert (await asks(rig, TWO, place="2", named=named)).lease_id != first.lease_id


@pytest.mark.parametrize("names, found", [((False, False), True), ((True, False), True), ((True, True), False)])
async def test_a_retry_whose_session_goes_by_another_name_there_is_known_by_its_bytes(rig, names, found):
    """Brokers know a session without an id by what they have seen of it; two that are named are two."""
    first = await asks(rig, ONE, "key@here#1", place="same", named=names[0])
    ahead = await asks(rig, TWO, "ahead")
    await sent_away(rig, first, back_s=3.0)
    await rig.advance(3.0)
    again = await asks(rig, TWO, "key@there", place="same", named=names[1])
    assert (again.lease_id == first.lease_id) is found
    if found:
        assert (again.session, again.position) == ("key@there", 1)
        assert await rig.store.find(Session("key", "key@here#1"), "a", again.intent, "") is None
        await release(rig, again)
        assert await position(rig, ahead) == 1
    assert await rig.store.check() == []


async def test_so_is_one_whose_broker_died_before_and_after_it_came(rig):
    for when in ("before", "after"):
        first, between = await asks(rig, ONE, f"{when} here", place=when), await asks(rig, TWO, f"{when} between")
        if when == "before":
            again = await asks(rig, TWO, f"{when} there", place=when)
        await rig.store.begin_life(LifeId(f"one/{when}"))
        if when == "after":
            again = await asks(rig, TWO, f"{when} there", place=when)
        assert (await rig.store.lease(again.lease_id)).arrival == first.arrival
        assert await position(rig, again) < await position(rig, between)
        await rig.store.begin_life(ONE)
    assert await rig.store.check() == []


async def test_an_acquire_whose_reply_was_lost_finds_what_it_took_up(rig):
    first = await asks(rig, ONE)
    await sent_away(rig, first)
    request = request_of(rig, TWO, place="body of s")
    found = [(await rig.store.acquire(request)).lease_id for _ in range(2)]
    assert found == [first.lease_id] * 2


async def test_only_the_broker_that_serves_it_sends_a_client_away(rig):
    first = await asks(rig, ONE)
    await sent_away(rig, first, TWO)
    with pytest.raises(errors.StaleNonceError):
        await rig.store.send_away(first.lease_id, Nonce("stale"), life=ONE, back_s=1.0, kept_s=1.0)
    for back_s, kept_s in ((-1.0, 1.0), (1.0, 0.0)):
        with pytest.raises(errors.BadArgumentError):
            await sent_away(rig, first, back_s=back_s, kept_s=kept_s)
    assert (await asks(rig, TWO)).lease_id != first.lease_id
    await release(rig, first)
    await sent_away(rig, first)
    assert (await asks(rig, TWO, "s2")).lease_id != first.lease_id


async def test_a_grant_that_was_on_its_way_while_its_client_was_sent_away_waits_for_a_claim(rig):
    await ready(rig, "a")
    record = await asks(rig, ONE, ttl_s=600.0)
    await sent_away(rig, record)
    assert (await rig.store.lease(record.lease_id)).expires_in_s == 30.0
    assert (await asks(rig, TWO)).lease_id != record.lease_id, "nothing is known of a request that never waited"


async def test_what_somebody_claimed_by_its_id_is_taken_from_nobody(rig):
    first = await asks(rig, ONE)
    await sent_away(rig, first)
    await ready(rig, "a")
    await rig.store.poll(first.lease_id, waiter_ttl_s=60.0)
    assert (await asks(rig, TWO)).lease_id != first.lease_id
    assert await rig.store.check() == []


async def test_whoever_goes_and_comes_again_and_again_keeps_its_place(rig):
    tickets = [await asks(rig, ONE, f"s{n}") for n in range(3)]
    for ticket in tickets:
        await sent_away(rig, ticket)
    for _ in range(5):
        for ticket in tickets:
            again = await asks(rig, TWO, ticket.session)
            assert again.lease_id == ticket.lease_id
            await sent_away(rig, again, TWO)
    assert await rig.store.check() == []


# ---------------------------------------------------------------------------------------------------- its broker died
async def test_who_comes_back_after_its_broker_died_stands_where_it_stood_and_nobody_stood_behind_its_ghost(rig):
    mine, next_one = await asks(rig, ONE, "mine"), await asks(rig, TWO, "next")
    await rig.store.end_life(ONE)
    assert (await rig.store.lease(mine.lease_id)).reason == "lost: broker_gone"
    assert await position(rig, next_one) == 1
    await rig.advance(4.0)
    again = await asks(rig, TWO, "mine")
    assert (again.position, again.arrival, again.waited_s) == (1, mine.arrival, 4.0)
    assert await position(rig, next_one) == 2
    assert await rig.store.check() == []


async def test_so_does_one_that_had_been_granted_after_the_death_and_before_it_was_known(rig):
    mine, next_one = await asks(rig, ONE, "mine"), await asks(rig, TWO, "next")
    await ready(rig, "a")
    assert await state_of(rig, mine) is ACTIVE
    await rig.store.end_life(ONE)
    assert await state_of(rig, next_one) is ACTIVE
    late = await asks(rig, TWO, "late")
    assert (await asks(rig, TWO, "mine")).position == 1
    assert await position(rig, late) == 2


async def test_who_was_served_when_its_broker_died_had_its_turn(rig):
    await ready(rig, "a")
    mine, next_one = await asks(rig, ONE, "mine"), await asks(rig, TWO, "next")
    await rig.store.end_life(ONE)
    assert await state_of(rig, next_one) is ACTIVE
    again = await asks(rig, TWO, "mine")
    assert again.arrival > mine.arrival


async def test_who_came_to_another_broker_before_the_death_was_known_gets_its_place_when_it_is(rig):
    mine, between = await asks(rig, ONE, "mine"), await asks(rig, TWO, "between")
    again = await asks(rig, TWO, "mine")
    assert [await position(rig, one) for one in (mine, between, again)] == [1, 2, 3]
    await looks(rig, 3, TWO)
    assert [await position(rig, one) for one in (again, between)] == [1, 2]
    assert await rig.store.check() == []


async def test_a_request_alike_that_was_another_clients_loses_no_place_to_it(rig):
    mine, between, twin = await asks(rig, ONE), await asks(rig, TWO, "between"), await asks(rig, TWO)
    await rig.store.end_life(ONE)
    assert await position(rig, twin) == 1
    back = await asks(rig, TWO)
    assert back.arrival == twin.arrival, "the two changed places"
    assert [await position(rig, one) for one in (twin, between, back)] == [1, 2, 3]
    assert mine.arrival == (await rig.store.lease(twin.lease_id)).arrival


async def test_a_retry_built_anew_gets_the_place_only_where_the_session_has_a_name(rig):
    for named in (True, False):
        session = f"session{named}"
        mine = await asks(rig, ONE, session, place="old", named=named)
        await rig.store.begin_life(LifeId(f"one/{named}"))
        again = await asks(rig, TWO, session, place="new", named=named)
        assert (again.arrival == mine.arrival) is named
        await rig.store.begin_life(ONE)


@pytest.mark.parametrize("after_s, kept", [(19.9, True), (20.0, False)])
async def test_the_place_of_one_who_does_not_come_back_is_forgotten_as_its_ticket_would_have_been(rig, after_s, kept):
    mine = await asks(rig, ONE, waiter_ttl_s=20.0)
    await rig.store.end_life(ONE)
    await rig.pass_time(after_s)
    await rig.store.begin_life(LifeId("two/2"))
    assert ((await asks(rig, LifeId("two/2"))).arrival == mine.arrival) is kept


async def test_a_barrier_lets_in_who_was_in_line_before_it_and_lost_its_broker(rig):
    mine = await asks(rig, ONE, "mine")
    worker = await HandWorker(rig).register()
    await want(rig, "a")
    await rig.store.end_life(ONE)
    await worker.say("a", READY)
    slot = (await rig.store.snapshot()).slots[0]
    waited = slot.residencies[0].waited
    barrier = {"slot": slot.slot, "model": "a", "residency_generation": slot.residencies[0].generation}
    await rig.store.admit(**barrier, admit=waited, why="barrier")
    assert (await asks(rig, TWO, "new")).state is QUEUED
    assert mine.arrival < waited
    assert (await asks(rig, TWO, "mine")).state is ACTIVE


async def test_a_client_that_comes_back_is_counted_once(rig):
    await asks(rig, ONE, waiter_ttl_s=600.0)
    before = (await rig.store.snapshot()).models["a"].expected_arrivals
    await rig.store.end_life(ONE)
    await asks(rig, TWO)
    assert (await rig.store.snapshot()).models["a"].expected_arrivals == pytest.approx(before)
