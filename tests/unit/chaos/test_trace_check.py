"""The judge itself: a lawful trace passes, and each invariant has a trace that breaks exactly it."""

import itertools
from dataclasses import replace

import pytest

from harness.history.replay import Catalogue
from harness.history.trace import Entry, Operation, Sample, Server, Violation, dump, entry_of, load_entries
from harness.history.trace_check import EndState, Run, granted_seconds, jain_index, judge

CATALOGUE = Catalogue(
    memory_mib={"a": 60, "b": 60, "small": 30}, lease_limit={"a": 2, "b": 1, "small": 1}, budget_mib={"gpu0": 100}
)


def trace(*rows: str) -> list[Entry]:
    """Entries from ``kind field=value …``; sequence numbers count up, a row a second."""
    entries = []
    for number, row in enumerate(rows, start=1):
        kind, *pairs = row.split()
        fields = dict(pair.split("=", 1) for pair in pairs)
        seq, at_ms = int(fields.pop("seq", number)), int(fields.pop("t", number * 1000))
        entries.append(Entry(seq=seq, kind=kind, at_ms=at_ms, fields=fields, event_id=f"{number}-0", seen_s=number))
    return entries


REGISTERED = "registered slot=gpu0 gen=1 from=recovering to=open"
START = ("initialised", "slot slot=gpu0 to=recovering", REGISTERED)


def loading(model: str, gen: int) -> str:
    return f"loading slot=gpu0 model={model} gen={gen}"


def ready(model: str, gen: int) -> str:
    return f"ready slot=gpu0 model={model} gen={gen}"


def queued(lease: str, model: str = "a", sh: str = "s1") -> str:
    return f"queued lease={lease} model={model} intent=use sh={sh} to=queued"


def granted(lease: str, model: str = "a", gen: int = 2, sh: str = "s1") -> str:
    return f"granted lease={lease} model={model} slot=gpu0 gen={gen} intent=use sh={sh} from=queued to=active"


def ended(lease: str, model: str = "a", *, was: str = "active", why: str = "released") -> str:
    return f"ended lease={lease} model={model} slot=gpu0 from={was} to=ended why={why}"


LAWFUL = (
    *START,
    queued("l1"),
    loading("a", 2),
    "progress slot=gpu0 model=a gen=2 state=50",
    ready("a", 2),
    granted("l1"),
    "renewed lease=l1 model=a from=active to=active",
    "ending lease=l1 model=a from=active to=ending why=slice",
    "renewed lease=l1 model=a from=ending to=ending",
    ended("l1", was="ending", why="preempted"),
    queued("l2", "b"),
    "unloading slot=gpu0 model=a gen=2 from=ready to=unloading",
    "absent slot=gpu0 model=a gen=2 from=unloading to=absent",
    loading("b", 3),
    ready("b", 3),
    granted("l2", "b", 3),
    "recovered why=other",
    "slot slot=gpu0 from=open to=recovering",
    "registered slot=gpu0 gen=4 from=recovering to=open",
    ended("l2", "b", why="lost"),
    "unloading slot=gpu0 model=b gen=3 from=ready to=unloading why=server_died",
    "absent slot=gpu0 model=b gen=3",
    "granted lease=w1 model=b intent=warm sh=s1 to=active",
    ended("w1", "b"),
)


def verdict(*rows: str) -> set[str]:
    return {violation.invariant for violation in judge(Run(catalogue=CATALOGUE, entries=trace(*rows)))}


def test_a_lawful_trace_has_no_violation() -> None:
    assert judge(Run(catalogue=CATALOGUE, entries=trace(*LAWFUL))) == []


READY = (*START, loading("a", 2), ready("a", 2))
BROKEN = {
    "at_most_lease_limit_per_model": [
        (*READY, *itertools.chain.from_iterable((queued(x), granted(x)) for x in ("l1", "l2", "l3")))
    ],
    "generations_only_grow": [
        (*START, loading("a", 1)),
        (*READY, "recovered", REGISTERED),
        (*START, loading("a", 2), ready("a", 3)),
    ],
    "granted_only_when_ready": [
        (*START, loading("a", 2), queued("l1"), granted("l1")),
        (*READY, "unloading slot=gpu0 model=a gen=2", queued("l1"), granted("l1")),
        (*READY, queued("l1"), granted("l1", gen=1)),
        (*READY, queued("l1", "b"), granted("l1", "b")),
    ],
    "granted_only_on_an_open_slot": [
        (*READY, queued("l1"), "recovered", granted("l1")),
        (*READY, queued("l1"), "offline slot=gpu0 from=open to=offline", granted("l1")),
        (*READY, queued("l1"), "slot slot=gpu0 from=open to=cordoned", granted("l1")),
    ],
    "ended_stays_ended": [
        (*READY, queued("l1"), granted("l1"), ended("l1"), ended("l1", was="ended")),
        (*READY, queued("l1"), granted("l1"), ended("l1"), "renewed lease=l1 model=a from=ended"),
        (*READY, queued("l1"), ended("l1", was="queued", why="cancelled"), granted("l1").replace("queued", "ended")),
    ],
    "no_eviction_under_a_use_lease": [
        (*READY, queued("l1"), granted("l1"), "unloading slot=gpu0 model=a gen=2"),
        (*READY, queued("l1"), granted("l1"), "absent slot=gpu0 model=a gen=2"),
    ],
    "sequence_without_gap": [(*READY, "progress seq=9"), (*READY, "progress seq=5"), (*READY, "recovered seq=1")],
    "clock_never_back": [(*READY, "progress t=4999")],
    "memory_fits": [(*READY, loading("b", 3))],
    "legal_transition": [
        (*READY, queued("l1"), queued("l1")),
        (*READY, queued("l1"), granted("l1"), ended("l1", why="preempted")),
        (*READY, queued("l1"), granted("l1"), ended("l1", why="cancelled")),
        (*READY, queued("l1"), granted("l1").replace("from=queued", "from=ending")),
        (*READY, queued("l1"), granted("l1").replace("to=active", "to=ending")),
        (*READY, ended("l1")),
        (*READY, loading("a", 3)),
        (*START, ready("a", 2)),
    ],
}


@pytest.mark.parametrize(
    "invariant,rows", [(invariant, rows) for invariant, traces in BROKEN.items() for rows in traces]
)
def test_each_invariant_is_seen_broken(invariant: str, rows: tuple[str, ...]) -> None:
    assert invariant in verdict(*rows)


def test_models_that_fit_together_may_be_resident_together() -> None:
    assert verdict(*READY, loading("small", 3)) == set()


def test_a_load_may_be_ordered_with_the_unload_it_needs() -> None:
    assert verdict(*READY, "unloading slot=gpu0 model=a gen=2", loading("b", 3)) == set()


def test_a_store_that_forgot_everything_starts_over() -> None:
    assert verdict(*READY, queued("l1"), "initialised seq=1 t=10", f"{REGISTERED} seq=2 t=11") == set()


# --------------------------------------------------------------------------------------------------- durability, end


def broken(run: Run) -> set[str]:
    return {violation.invariant for violation in judge(run)}


def test_what_was_seen_and_is_gone_was_lost() -> None:
    entries = trace(*LAWFUL)
    assert broken(Run(catalogue=CATALOGUE, entries=entries, witnessed=entries)) == set()
    assert broken(Run(catalogue=CATALOGUE, entries=entries[:-1], witnessed=entries)) == {"nothing_lost"}
    other = [*entries[:-1], replace(entries[-1], fields={**entries[-1].fields, "why": "expired"})]
    assert broken(Run(catalogue=CATALOGUE, entries=other, witnessed=entries)) == {"nothing_lost"}


def ends() -> list[tuple[EndState, str]]:
    states = {"l1": "ended", "l2": "ended", "w1": "ended"}
    return [
        (EndState(store_states=states), ""),
        (EndState(store_states=states, queued=1), "queue_empties"),
        (EndState(store_states=states, check=["at_most …"]), "check"),
        (EndState(store_states=states, orphans=["llama-server 4711"]), "no_orphan"),
        (EndState(store_states=states | {"l1": "active"}), "records_match_events"),
        (EndState(store_states=states | {"l9": "queued"}), "records_match_events"),
    ]


@pytest.mark.parametrize("end,invariant", ends())
def test_the_end_is_judged(end: EndState, invariant: str) -> None:
    assert broken(Run(catalogue=CATALOGUE, entries=trace(*LAWFUL), end=end)) == {invariant} - {""}


def test_a_ticket_left_waiting_is_told() -> None:
    run = Run(catalogue=CATALOGUE, entries=trace(*READY, queued("l1")), end=EndState(store_states={"l1": "queued"}))
    assert broken(run) == {"every_ticket_ends"}


def test_a_live_lease_without_a_record_was_lost() -> None:
    entries = trace(*READY, queued("l1"), granted("l1"))
    assert broken(Run(catalogue=CATALOGUE, entries=entries, end=EndState(store_states={"x": "ended"}))) == {
        "nothing_lost",
        "records_match_events",
    }


# -------------------------------------------------------------------------------------------------------- processes


def server(model: str, key: str, pid: int = 1) -> Server:
    return Server(pid=pid, started=1, slot="gpu0", model=model, key=key)


def seen(*servers: Server) -> list[Violation]:
    return judge(Run(catalogue=CATALOGUE, entries=[], samples=[Sample(at_s=1, servers=servers)]))


def test_two_model_servers_on_a_slot_are_told_once() -> None:
    assert seen(server("a", "k1"), server("a", "k1", pid=2), server("small", "k2")) == []
    two = (server("a", "k1"), server("a", "k2", pid=2))
    samples = [Sample(at_s=at_s, servers=two) for at_s in (1, 2)]
    found = judge(Run(catalogue=CATALOGUE, entries=[], samples=samples))
    assert [violation.invariant for violation in found] == ["one_model_server"]


# ---------------------------------------------------------------------------------------------------------- fencing


def used(*, at_s: float, lease: str = "l1", outcome: str = "ok") -> Operation:
    return Operation(client="c", kind="use", invoke_s=at_s, return_s=at_s, outcome=outcome, lease=lease)


@pytest.mark.parametrize(
    "operation,invariants",
    [
        (used(at_s=14), set()),
        (used(at_s=16), {"old_keys_are_dead"}),
        (used(at_s=16, outcome="refused"), set()),
        (used(at_s=16, lease="l2"), set()),
        (used(at_s=16, lease="l9"), set()),
    ],
)
def test_an_old_key_that_is_answered_is_told(operation: Operation, invariants: set[str]) -> None:
    entries = trace(*LAWFUL)  # l1 was granted on generation 2, absent at second 15
    run = Run(catalogue=CATALOGUE, entries=entries, witnessed=entries, operations=[operation])
    assert broken(run) == invariants


@pytest.mark.parametrize("at_s,state,told", [(9, "active", False), (11, "active", True), (11, "ended", False)])
def test_a_holder_left_without_an_answer_in_calm_weather_is_told(at_s: float, state: str, *, told: bool) -> None:
    operation = replace(used(at_s=at_s, outcome="refused"), state=state)
    run = Run(catalogue=CATALOGUE, entries=[], operations=[operation], calm_s=10.0)
    assert broken(run) == ({"holders_are_served"} if told else set())


# ------------------------------------------------------------------------------------------------ granted time, files


def test_granted_seconds_run_from_grant_to_end() -> None:
    assert granted_seconds(trace(*LAWFUL)) == {"s1": 4 + 4}


@pytest.mark.parametrize("shares,index", [([], 1.0), ([0, 0], 1.0), ([5, 5, 5], 1.0), ([9, 0, 0], 1 / 3)])
def test_jain_index(shares: list[float], index: float) -> None:
    assert jain_index(shares) == pytest.approx(index)


def test_a_trace_survives_its_file(tmp_path) -> None:
    entries = trace(*LAWFUL)
    dump(tmp_path / "events.jsonl", entries)
    assert load_entries(tmp_path / "events.jsonl") == entries


def test_an_entry_is_read_from_its_stream() -> None:
    entry = entry_of("5-1", {"seq": "7", "type": "queued", "t": "12", "lease": "l"})
    assert (entry.seq, entry.kind, entry.at_ms, entry.fields, entry.gen) == (7, "queued", 12, {"lease": "l"}, 0)
