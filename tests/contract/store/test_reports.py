"""Reports of workers that lie, or have a bug: one slot suffers, with the reason, and nobody else."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.core.lease import LeaseState, SlotId
from broker.core.slot import SlotState
from broker.pool.slots.reports import FIELDS, MODEL_FIELDS
from tests.fakes.store_rigs import BASE, SETTINGS, Rig
from tests.fakes.store_scenes import GPU, LOADING, READY, HandWorker, kinds, ready, release, want

OTHER = SlotId("gpu1")
ACTIVE = LeaseState.ACTIVE
SHOWN = [*FIELDS, *(f"{field}:b" for field in MODEL_FIELDS)]


async def slot_of(rig, slot=GPU):
    return next(view for view in (await rig.store.snapshot()).slots if view.slot == slot)


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("took_ms:b", "189345600000000", "a whole number from 0 to 86400000"),
        ("took_ms:b", "inf", "a whole number"),
        ("budget_mib", "-1", "a whole number"),
        ("free_mib", "1e300", "a whole number"),
        ("beat", "9007199254740992", "a whole number"),
        ("progress:b", "101", "a whole number from 0 to 100"),
        ("hw", "5000000000", "at most 4294967296 above"),
        ("epoch", "5000000000", "at most 4294967296 above"),
        ("state:b", "redy", "must be absent, failed"),
        ("url:b", "file:///etc/passwd", "an http address"),
        ("error:b", b"\xff\xfe", "UTF-8"),
        ("foreign", b"\xed\xa0\x80", "UTF-8"),
        ("worker", "x" * 5000, "at most 1024 bytes"),
        ("serves", "a {b}", "model names"),
        ("boot", "two words", "without a blank"),
        ("boot", "", "without a blank"),
    ],
)
async def test_a_report_with_an_unsound_field_sets_its_slot_offline_with_the_reason(rig, field, value, expected):
    worker = await ready(rig, "b")
    await worker.lie({field: value})
    slot = await slot_of(rig)
    assert slot.state is SlotState.OFFLINE
    assert slot.reason.startswith(f"unsound report: {field} ")
    assert expected in slot.reason
    events = await rig.store.events("0-0", block_s=0, limit=1000)
    assert (events[-1].kind, events[-1].fields["why"]) == ("offline", slot.reason)


async def test_nothing_of_an_unsound_report_is_taken_in(rig):
    worker = await ready(rig, "b")
    before = await slot_of(rig)
    await worker.lie({"budget_mib": "64", "foreign_mib": "one"})
    assert (await slot_of(rig)).budget_mib == before.budget_mib


async def test_an_unsound_report_is_told_once(rig):
    worker = await ready(rig, "b")
    for _ in range(3):
        await worker.lie({"took_ms:b": "-1"})
    assert (await kinds(rig)).count("offline") == 1


async def test_a_sound_report_brings_the_slot_back_with_its_lease_and_without_the_reason(rig):
    worker = await ready(rig, "b")
    held = await rig.store.acquire(rig.request("s1", "b"))
    await worker.lie({"beat": "?"})
    await worker.report()
    slot = await slot_of(rig)
    assert (slot.state, slot.reason) == (SlotState.OPEN, "")
    assert (await rig.store.lease(held.lease_id)).state is ACTIVE


async def test_a_silent_slot_says_why_once_its_report_is_unsound(rig):
    worker = await ready(rig, "b")
    await rig.pass_time(15)
    await rig.store.tick()
    assert (await slot_of(rig)).state is SlotState.OFFLINE
    await worker.lie({"hw": "x"})
    assert (await slot_of(rig)).reason.startswith("unsound report: hw ")


async def test_a_superseded_workers_unsound_report_changes_nothing(rig):
    old = await ready(rig, "b")
    await HandWorker(rig, boot="boot2").register()
    await old.lie({"took_ms:b": "x"})
    assert (await slot_of(rig)).state is SlotState.OPEN


async def test_another_hosts_unsound_report_changes_nothing_while_the_first_lives(rig):
    await HandWorker(rig, home="home1").register()
    await HandWorker(rig, boot="boot2", home="home2").lie({"total_mib": "x"})
    assert (await slot_of(rig)).state is SlotState.OPEN


async def test_a_load_took_no_longer_than_it_was_waited_for(rig):
    worker = await HandWorker(rig).register()
    await want(rig, "b")
    await rig.advance(3.0)
    await worker.say("b", READY, took_ms=86_000_000)
    assert (await rig.store.snapshot()).models["b"].load_s == pytest.approx(3.0)


async def test_a_load_that_took_shorter_than_it_was_waited_for_is_believed(rig):
    worker = await HandWorker(rig).register()
    await want(rig, "b")
    await rig.advance(3.0)
    await worker.say("b", READY, took_ms=2000)
    assert (await rig.store.snapshot()).models["b"].load_s == pytest.approx(2.0)


async def test_what_would_steer_a_terminal_is_blank_in_what_is_kept(rig):
    worker = await ready(rig)
    await worker.report(foreign="\x1b[2Jevil\x7f/1:2\x9b", fault="line 1\nline 2\t\x00é")
    slot = await slot_of(rig)
    assert (slot.foreign, slot.reason) == (" [2Jevil /1:2 ", "line 1\nline 2\t é")


@pytest.mark.parametrize("name", ["", "a b", "{x}", "-x", "x" * 129, "gpu\n0"])
async def test_a_slot_with_a_name_that_is_none_is_not_introduced(rig, name):
    await HandWorker(rig, name).report()
    assert (await rig.store.snapshot()).slots == ()


async def test_a_pool_makes_room_for_a_thousand_slots(rig):
    for number in range(1001):
        await HandWorker(rig, f"s{number}").report()
    assert len((await rig.store.snapshot()).slots) == 1000


async def test_a_report_that_is_no_hash_sets_its_slot_offline(rig):
    if rig.name == "memory":
        pytest.skip("there are only hashes")
    await ready(rig, "b")
    await rig.link.call("DEL", f"{BASE}:report:{GPU}")
    await rig.link.call("SET", f"{BASE}:report:{GPU}", "x")
    await rig.store.observe(GPU)
    assert (await slot_of(rig)).reason == "unsound report: it is a string, not a hash"


UNREADABLE: dict[str, tuple[str, dict[str, str | bytes]]] = {
    "a number": (f"slot:{GPU}", {"free_mib": "inf", "foreign": b"\xff"}),
    "a number in a list": (f"slot:{GPU}", {"priors": "b=soon"}),
    "a state": (f"slot:{GPU}", {"state": "dreaming"}),
    "a kind of failure": (f"residency:{GPU}:b", {"kind": "mysterious"}),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_slot_whose_record_cannot_be_read_hides_no_other_slot(rig, what):
    """What an earlier version let in."""
    key, fields = UNREADABLE[what]
    if rig.name in {"memory", "fakeredis"}:
        pytest.skip("there are only numbers, and text")
    await ready(rig, "a", slot=OTHER)
    await ready(rig, "b")
    await rig.link.call("HSET", f"{BASE}:{key}", *(word for field in fields.items() for word in field))
    slot = await slot_of(rig)
    assert (slot.state, slot.reason.partition(":")[0]) == (SlotState.OFFLINE, "its record in the store cannot be read")
    assert (await slot_of(rig, OTHER)).state is SlotState.OPEN


async def served(rig: Rig) -> bool:
    """Whoever asks for the other slot's model has it, and gives it back."""
    lease = await rig.store.acquire(rig.request("honest", "a"))
    await release(rig, lease)
    return lease.state is ACTIVE


NUMBERS = st.sampled_from([b"-1", b"1e300", b"inf", b"nan", b"9" * 17, b"9" * 400, b"0x7f", b" 1", b"1.5", b"101"])
WORDS = st.one_of(st.binary(max_size=40), NUMBERS, st.sampled_from([b"\xff", b"x" * 70_000, b"\x00", b"ready", b""]))


async def test_any_bytes_in_any_field_of_one_slots_report_leave_the_others_served(rig):
    """Every field alone, and many at once; the picture of the pool can be read, and no invariant breaks."""
    for fields in reports_of_liars(40 if rig.name in {"memory", "fakeredis"} else 100):
        await rig.flush()
        await rig.store.init(SETTINGS)
        await ready(rig, "a", slot=OTHER)
        liar = await HandWorker(rig).register()
        await want(rig, "b")
        await liar.say("b", LOADING, progress=10)
        await liar.lie(fields)
        await rig.store.tick()
        other = await slot_of(rig, OTHER)
        assert (other.state, other.reason) == (SlotState.OPEN, ""), fields
        assert await served(rig), fields
        broken = [one for one in await rig.store.check() if one.invariant != "memory_fits"]  # of a small budget
        assert broken == [], fields
        await rig.store.ps()
        await liar.register()
        assert (await slot_of(rig)).state is SlotState.OPEN, fields


def reports_of_liars(number: int) -> list[dict[str, bytes]]:
    cases: list[dict[str, bytes]] = [{name: b"\xff\x00x"} for name in SHOWN]

    @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(SHOWN), WORDS, min_size=1, max_size=4))
    def gather(fields: dict[str, bytes]) -> None:
        cases.append(fields)

    gather()
    return cases
