"""The invariants of the pool, by their names, on steered random walks of the Python machine.

The Lua library agrees with it step by step (test_lua_and_python_agree.py), so each holds there too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from broker.core.lease import Intent, LeaseId, LeaseState, SlotId
from broker.core.slot import SlotState
from broker.core.snapshot import ADMIT_ALL
from broker.pool import check as pool_check
from broker.pool.records.lease_row import Ask, LeaseRow
from broker.pool.records.rows import GONE, EventRow
from schemas.messages import ResidencyReport
from schemas.residency import Residency
from tests.property.pool_machines import PythonMachine
from tests.property.pool_walk import Step, Walk

WALKS, STEPS = 400, 80


@dataclass
class Trace:
    """One walk, looked at after every step."""

    seed: int
    machine: PythonMachine
    walk: Walk
    broken: list[str] = field(default_factory=list)
    grants_seen: int = 0
    lost_seen: int = 0


def after_each_step(trace: Trace, step: Step, told: int) -> Iterator[str]:
    """Broken invariants, `name: what`."""
    pool = trace.walk.pool
    for one in pool_check.check(pool):
        yield f"{one.invariant}: {one.subject} {one.detail} after {step}"
    for event in trace.machine.history[told:]:
        yield from _of_event(trace, event)
    for event in trace.machine.history[told:]:
        if event.kind == "loading":  # only then: the budget may shrink under a load that has begun
            slot = pool.slots[SlotId(event.fields["slot"])]
            rows = [(pool.models[name], pool.residencies[slot.slot, name]) for name in slot.models]
            wanted = sum(spec.memory_mib for spec, row in rows if row.state is Residency.LOADING)
            if wanted > slot.budget_mib:
                yield f"memory_fits: {slot.slot} loads {wanted} in {slot.budget_mib}"


def _of_event(trace: Trace, event: EventRow) -> Iterator[str]:
    pool, fields = trace.walk.pool, event.fields
    if event.kind == "granted" and fields["intent"] == "use":
        trace.grants_seen += 1
        history = trace.machine.history
        place = (fields["slot"], fields["model"], fields["gen"])
        about = [
            one.kind
            for one in history[: event.seq - 1]
            if (one.fields.get("slot"), one.fields.get("model"), one.fields.get("gen")) == place
            and one.kind in {"loading", "ready", "unloading", "load_failed", "absent"}
        ]
        if not about or about[-1] != "ready":
            yield f"granted_only_when_ready: {event}"
    if event.kind == "ended" and pool.leases[LeaseId(fields["lease"])].state is not LeaseState.ENDED:
        yield f"ended_stays_ended: {event}"
    if event.kind == "ended" and fields["why"] == "lost: broker_gone":
        trace.lost_seen += 1
        lease = pool.leases[LeaseId(fields["lease"])]
        life = pool.lives.get(lease.life)
        if not lease.life or (life is not None and life.beat != GONE):
            yield f"only_a_dead_life_takes_leases_with_it: {event} of {lease.life!r}"


def orders_of(trace: Trace) -> dict[tuple[str, str], list[int]]:
    """Generations of every load, per slot, in the order of the log."""
    found: dict[tuple[str, str], list[int]] = {}
    for event in trace.machine.history:
        if event.kind == "loading":
            found.setdefault((event.fields["slot"], ""), []).append(int(event.fields["gen"]))
    return found


def run(seed: int) -> Trace:
    walk = Walk(seed + 1_000_000)
    trace = Trace(seed, PythonMachine(walk.pool, walk.run), walk)
    for _ in range(STEPS):
        step, told = walk.next_step(), len(trace.machine.history)
        walk.wall_ms += step.args.get("ms", 0) if step.call == "time" else 0
        trace.machine.apply(step)
        if step.call not in {"time", "restart"}:
            trace.broken += [f"seed {seed}: {one}" for one in after_each_step(trace, step, told)]
    return trace


@pytest.fixture(scope="module")
def traces():
    return [run(seed) for seed in range(WALKS)]


CHECKED = (
    "at_most_lease_limit_per_model", "granted_only_when_ready", "ended_stays_ended", "memory_fits", "due_is_deadline",
    "one_live_lease_per_session", "queued_is_the_sum", "lists_are_in_step", "orders_are_in_step", "lives_are_in_step",
    "left_are_in_step", "only_a_dead_life_takes_leases_with_it",
)  # fmt: skip


@pytest.mark.parametrize("invariant", CHECKED)
def test_holds_after_every_step(traces, invariant):
    broken = [one for trace in traces for one in trace.broken if f": {invariant}: " in one]
    assert not broken, broken[:3]
    assert sum(trace.grants_seen for trace in traces) > WALKS
    assert sum(trace.lost_seen for trace in traces) > WALKS / 2


def test_generations_only_grow(traces):
    for trace in traces:
        for generations in orders_of(trace).values():
            assert generations == sorted(set(generations)), trace.seed
        for event, later in zip(trace.machine.history, trace.machine.history[1:], strict=False):
            assert later.seq == event.seq + 1
            assert later.at_ms >= event.at_ms, "the logical clock went back"


def test_ended_stays_ended(traces, record_property):
    record_property("walks", len(traces))
    for trace in traces:
        ended: set[str] = set()
        for event in trace.machine.history:
            lease = event.fields.get("lease")
            assert lease is None or lease not in ended, f"seed {trace.seed}: {event}"
            if event.kind == "ended":
                ended.add(event.fields["lease"])


def test_same_operation_same_lease(traces):
    """An idempotency key gives the same lease as long as it is known, whatever happened to the lease."""
    checked = 0
    for trace in traces:
        pool = trace.walk.pool
        for name, operation in pool.ops.items():
            lease = pool.leases[operation.lease_id]
            ask = _ask_again(lease, name, operation.body)
            outcome = trace.machine.apply(Step("acquire", {"ask": ask}))
            assert getattr(outcome, "lease_id", outcome) == lease.id
            other = _ask_again(lease, name, operation.body + "!")
            assert trace.machine.apply(Step("acquire", {"ask": other})) == "OP_MISMATCH"
            checked += 1
    assert checked > WALKS


def _ask_again(lease: LeaseRow, operation: str, body: str) -> Ask:
    return Ask(
        id=LeaseId(f"again-{lease.id}"), nonce="new", session=lease.session, sh=lease.sh, hh=lease.hh,
        model=lease.model, intent=lease.intent, holder="", priority=lease.priority, who=lease.who, ttl_ms=1000,
        waiter_ttl_ms=1000, op=operation, body=body,
    )  # fmt: skip


def test_every_ticket_ends(traces):
    """Once faults stop, workers obey and somebody schedules, nobody is left waiting."""
    for trace in traces:
        heal(trace)
        waiting = [lease for lease in trace.walk.pool.leases.values() if lease.state is LeaseState.QUEUED]
        assert not waiting, f"seed {trace.seed}: {waiting[:2]}"


def heal(trace: Trace) -> None:
    walk, machine, pool = trace.walk, trace.machine, trace.walk.pool
    walk._further = _ready
    for number, worker in enumerate(walk.workers.values()):  # a superseded worker exits and comes back as a new process
        worker.fault, worker.budget, worker.boot, worker.epoch = "", 2000, f"healed-{number}", 0
    for slot in list(pool.slots):
        machine.apply(Step("set_slot", {"slot": slot, "event": "uncordon", "who": "operator:x"}))
    for _ in range(120):
        machine.apply(Step("time", {"ms": 1000}))
        for _ in walk.workers:
            machine.apply(walk.obey())
        machine.apply(Step("tick"))
        _behave(trace)
        _reopen(trace)
        if any(slot.state is SlotState.OPEN for slot in pool.slots.values()) and (made := walk.want()) is not None:
            machine.apply(made)


def _behave(trace: Trace) -> None:
    """Holders give back, waiters stay."""
    for lease in list(trace.walk.pool.leases.values()):
        if lease.state in {LeaseState.ACTIVE, LeaseState.ENDING} and lease.intent is Intent.USE:
            trace.machine.apply(Step("release", {"lease_id": lease.id, "nonce": lease.nonce, "who": "k1"}))
        elif lease.state is LeaseState.QUEUED:
            trace.machine.apply(Step("poll", {"lease_id": lease.id, "waiter_ttl_ms": 60_000}))


def _reopen(trace: Trace) -> None:
    """Everybody is admitted to what is ready."""
    for (slot, name), row in list(trace.walk.pool.residencies.items()):
        if row.state is Residency.READY:
            args = {"slot": slot, "model": name, "number": ADMIT_ALL, "why": "reopen"}
            trace.machine.apply(Step("admit", args | {"residency_generation": row.gen}))


def _ready(seen: ResidencyReport) -> ResidencyReport:
    return type(seen)(model=seen.model, state=Residency.READY, generation=seen.generation, url="http://x/v1")
