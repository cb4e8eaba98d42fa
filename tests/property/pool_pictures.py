"""Random snapshots that a store could have made, and what a plan does to one."""

from dataclasses import replace

from hypothesis import strategies as st

from broker.core.decisions import Load, Plan, PreemptLease, SetAdmission, Unload, Why
from broker.core.lease import PRIORITIES, LeaseId, LeaseState, ModelName, SlotId
from broker.core.slot import RESIDENCY_TRANSITIONS, Failing, SlotState
from broker.core.snapshot import (
    ADMIT_ALL,
    ClassQueue,
    FailureView,
    LeaseView,
    ModelView,
    ResidencyView,
    SlotView,
    Snapshot,
)
from broker.policy.settings import PolicySettings, Preemption
from schemas.residency import Residency

NOW_S = 10_000.0
ARRIVALS = 200
ages = st.sampled_from([0.0, 0.5, 4.0, 6.0, 30.0, 90.0, 200.0, 599.0, 601.0, 2000.0, 15_000.0])
settings_of_any_kind = st.builds(
    PolicySettings,
    preemption=st.sampled_from(Preemption),
    idle_restore_s=st.sampled_from([5.0, 60.0, 300.0]),
    prefetch_risk_s=st.sampled_from([0.0, 0.5]),
    slice_max_factor=st.sampled_from([1.0, 2.0, 1000.0]),
)


@st.composite
def queues(draw):
    found = []
    for priority in PRIORITIES:
        if draw(st.integers(0, 3)) == 0:
            age_s = draw(ages)
            number = draw(st.integers(1, ARRIVALS))
            count = draw(st.integers(1, 6))
            queue = ClassQueue(priority=priority, count=count, oldest_s=NOW_S - age_s, oldest_arrival=number)
            found.append(queue)
    return tuple(found)


@st.composite
def models(draw):
    found = {}
    for i in range(draw(st.integers(1, 6))):
        waiting = draw(queues())
        count = sum(queue.count for queue in waiting)
        name = ModelName(f"m{i}")
        found[name] = ModelView(
            name=name,
            memory_mib=draw(st.sampled_from([2, 6, 9, 14, 18, 20, 40])),
            lease_limit=draw(st.sampled_from([1, 2, 4])),
            queues=waiting,
            unestimated=count,
            hold_s=draw(st.sampled_from([2.0, 20.0, 100.0])),
            hold_sd_s=draw(st.sampled_from([0.0, 20.0, 80.0])),
            hold_n=draw(st.sampled_from([0, 5])),
            load_s=draw(st.sampled_from([1.0, 15.0])),
            unload_s=draw(st.sampled_from([0.0, 1.0])),
            expected_arrivals=draw(st.sampled_from([0.0, 0.1, 1.5])),
            warm_leases=draw(st.sampled_from([0, 0, 1])),
            spoken_for_s=draw(st.sampled_from([None, NOW_S - 500.0, NOW_S - 1.0, NOW_S + 40.0])),
            asked_s=NOW_S - draw(ages),
            wrong_guesses=draw(st.sampled_from([0, 0, 4])),
            is_default=i == 0,
            keep=draw(st.sampled_from([0, 0, 0, 1, 2])),
            pinned=draw(st.integers(0, 5)) == 0,
            eviction_weight=draw(st.sampled_from([0.1, 1.0, 5.0])),
            release_vram_after_s=draw(st.sampled_from([None, None, 50.0])),
        )
    return found


@st.composite
def leases(draw, slot, model, residency_age_s, limit):
    found = []
    for i in range(draw(st.integers(0, limit))):
        lease = LeaseView(
            lease_id=LeaseId(f"{slot}-{model}-{i}"),
            model=model,
            slot=slot,
            priority=draw(st.sampled_from(PRIORITIES)),
            state=draw(st.sampled_from([LeaseState.ACTIVE, LeaseState.ACTIVE, LeaseState.ENDING])),
            granted_s=NOW_S - min(residency_age_s, draw(ages)),
            deadline_s=NOW_S + 30.0,
            expected_s=draw(st.sampled_from([0.0, 0.0, 10.0])),
            single=draw(st.booleans()),
        )
        found.append(lease)
    return found


@st.composite
def slots(draw, catalogue, index):
    slot = SlotId(f"gpu{index}")
    budget, room = draw(st.sampled_from([20, 24])), 0
    residencies, held, loading = [], [], False
    for name, model in sorted(catalogue.items()):
        state = draw(st.sampled_from([Residency.ABSENT, *RESIDENCY_TRANSITIONS]))
        if state is Residency.ABSENT or (state is Residency.LOADING and loading):
            continue
        if state is not Residency.UNLOADING and room + model.memory_mib > budget:
            continue
        room += 0 if state is Residency.UNLOADING else model.memory_mib
        loading = loading or state is Residency.LOADING
        age_s = draw(ages)
        waited = draw(st.integers(0, ARRIVALS))
        on_it = draw(leases(slot, name, age_s, model.lease_limit)) if state is Residency.READY else []
        held += on_it
        residency = ResidencyView(
            model=name,
            state=state,
            generation=index + 1,
            memory_mib=model.memory_mib,
            admit=draw(st.sampled_from([ADMIT_ALL, ADMIT_ALL, waited])),
            use=len(on_it),
            started_s=NOW_S - age_s,
            loaded_s=NOW_S - age_s,
            last_used_s=NOW_S - min(age_s, draw(ages)) if draw(st.booleans()) else NOW_S - age_s,
            waited=waited,
            waiting_below=draw(st.integers(0, min(2, model.waiting))),
            why=(why := draw(st.sampled_from([Why.WAITERS, Why.WAITERS, Why.PREFETCH, Why.RESTORE])).value),
            prefetched=why == Why.PREFETCH.value and not on_it and draw(st.booleans()),
        )
        residencies.append(residency)
    failures = [
        FailureView(
            model=name,
            fails=1,
            retry_at_s=NOW_S + draw(st.sampled_from([-5.0, 30.0])),
            quarantined=draw(st.booleans()),
            kind=draw(st.sampled_from([Failing.PASSING, Failing.PERMANENT, Failing.ROOM, Failing.UNSOUND])),
        )
        for name in sorted(catalogue)
        if draw(st.integers(0, 7)) == 0 and name not in {r.model for r in residencies}
    ]
    return SlotView(
        slot=slot,
        state=draw(st.sampled_from([SlotState.OPEN, SlotState.OPEN, SlotState.OPEN, *SlotState])),
        generation=7,
        budget_mib=budget - draw(st.sampled_from([0, 0, 0, 5])),
        serves=frozenset(draw(st.sets(st.sampled_from(sorted(catalogue)))))
        if draw(st.integers(0, 5)) == 0
        else frozenset(catalogue),
        residencies=tuple(residencies),
        failures=tuple(failures),
        leases=tuple(held),
    )


@st.composite
def snapshots(draw, most_slots=2):
    catalogue = draw(models())
    pool = tuple(draw(slots(catalogue, index)) for index in range(draw(st.integers(1, most_slots))))
    queued = sum(model.waiting for model in catalogue.values())
    return Snapshot(now_s=NOW_S, sequence=1, next_arrival=ARRIVALS + 1, models=catalogue, slots=pool, queued=queued)


def _apply_to_slot(slot: SlotView, plan: Plan, now_s: float, footprints: dict[ModelName, int]) -> SlotView:
    residencies = {r.model: r for r in slot.residencies}
    held = {lease.lease_id: lease for lease in slot.leases}
    for decision in plan.decisions:
        match decision:
            case SetAdmission(slot=slot.slot, model=model, admit=admit):
                assert residencies[model].state is Residency.READY
                residencies[model] = replace(residencies[model], admit=admit)
            case PreemptLease(lease_id=lease_id) if lease_id in held:
                assert held[lease_id].state is LeaseState.ACTIVE, "asked back twice"
                held[lease_id] = replace(held[lease_id], state=LeaseState.ENDING, deadline_s=now_s + decision.grace_s)
            case Load(slot=slot.slot, model=model, evict=evict):
                for name in evict:
                    residencies[name] = replace(residencies[name], state=Residency.UNLOADING)
                assert model not in residencies or residencies[model].state is Residency.ABSENT
                residencies[model] = ResidencyView(
                    model=model,
                    state=Residency.LOADING,
                    generation=slot.generation + 1,
                    memory_mib=footprints[model],
                    started_s=now_s,
                    why=decision.why.value,
                    prefetched=decision.why is Why.PREFETCH,
                )
            case Unload(slot=slot.slot, model=model):
                residencies[model] = replace(residencies[model], state=Residency.UNLOADING)
            case _:
                pass
    return replace(slot, residencies=tuple(residencies.values()), leases=tuple(held.values()))


def carry_out(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The picture after the store has committed a plan, at the same moment and before anything else happens."""
    footprints = {name: model.memory_mib for name, model in snapshot.models.items()}
    return replace(
        snapshot, slots=tuple(_apply_to_slot(slot, plan, snapshot.now_s, footprints) for slot in snapshot.slots)
    )


def shuffled(snapshot: Snapshot, order) -> Snapshot:
    """The same picture with every collection in another order."""

    def mix(items):
        mixed = list(items)
        order.shuffle(mixed)
        return tuple(mixed)

    catalogue = {
        name: replace(snapshot.models[name], queues=mix(snapshot.models[name].queues)) for name in mix(snapshot.models)
    }
    pool = [
        replace(slot, residencies=mix(slot.residencies), leases=mix(slot.leases), failures=mix(slot.failures))
        for slot in mix(snapshot.slots)
    ]
    return replace(snapshot, models=catalogue, slots=tuple(pool))
