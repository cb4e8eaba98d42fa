"""Invariants of ``decide``, on any picture a store could make."""

from hypothesis import given
from hypothesis import strategies as st

from broker.core.decisions import Load, PreemptLease, Unload
from broker.core.slot import SlotState
from broker.policy.decide import decide
from broker.policy.forecast import forecast
from schemas.residency import Residency
from tests.property.pool_pictures import carry_out, settings_of_any_kind, shuffled, snapshots
from tests.searching import examples

thorough = examples(80)


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind, order=st.randoms(use_true_random=False))
def test_decide_is_deterministic(snapshot, policy, order):
    assert decide(snapshot, policy) == decide(shuffled(snapshot, order), policy)


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_memory_fits(snapshot, policy):
    after = carry_out(snapshot, decide(snapshot, policy))
    loads = {d.slot for d in decide(snapshot, policy).decisions if isinstance(d, Load)}
    for slot in after.slots:
        there = [r for r in slot.residencies if r.state in {Residency.LOADING, Residency.READY}]
        if slot.slot in loads:
            assert sum(r.memory_mib for r in there) <= slot.budget_mib
            assert sum(r.state is Residency.LOADING for r in there) == 1


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_no_eviction_under_a_use_lease(snapshot, policy):
    slots = {slot.slot: slot for slot in snapshot.slots}
    for decision in decide(snapshot, policy).decisions:
        match decision:
            case Load():
                gone = set(decision.evict)
            case Unload():
                gone = {decision.model}
            case _:
                continue
        assert not gone & {lease.model for lease in slots[decision.slot].leases}


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_plan_is_idempotent(snapshot, policy):
    plan = decide(snapshot, policy)
    after = carry_out(snapshot, plan)
    again = decide(after, policy)
    if again.decisions:  # only for those whose model went for an older ticket, and only on slots left alone before
        went = {name for decision in plan.decisions if isinstance(decision, Load) for name in decision.evict}
        touched = {decision.slot for decision in plan.decisions}
        for decision in again.decisions:
            assert decision.slot not in touched, (plan, again)
            assert not isinstance(decision, Load) or decision.model in went, (plan, again)
        last = decide(carry_out(after, again), policy)
        assert last.decisions == (), (plan, again, last)


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_only_open_slots_load_and_only_what_they_may(snapshot, policy):
    slots = {slot.slot: slot for slot in snapshot.slots}
    for decision in decide(snapshot, policy).decisions:
        if isinstance(decision, Load):
            slot = slots[decision.slot]
            assert slot.state is SlotState.OPEN
            assert decision.model in slot.serves
            barred = {f.model for f in slot.failures if f.not_before_s > snapshot.now_s + 0.001}
            assert decision.model not in barred


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_every_queue_has_a_reason_and_the_next_look_is_later(snapshot, policy):
    plan = decide(snapshot, policy)
    assert set(plan.waits) == {name for name, model in snapshot.models.items() if model.waiting}
    assert plan.decide_again_s is None or plan.decide_again_s > snapshot.now_s


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_who_waited_for_a_load_is_served_before_it_goes(snapshot, policy):
    plan = decide(snapshot, policy)
    ready = {(s.slot, r.model): r for s in snapshot.slots for r in s.residencies if r.state is Residency.READY}
    owed = {key for key, r in ready.items() if r.waiting_below}
    for decision in plan.decisions:
        if isinstance(decision, Load):
            assert not owed & {(decision.slot, name) for name in decision.evict}


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_no_lease_is_asked_back_while_nobody_waits(snapshot, policy):
    if snapshot.queued == 0:
        assert not [d for d in decide(snapshot, policy).decisions if isinstance(d, PreemptLease)]


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind, data=st.data())
def test_a_later_position_is_never_forecast_earlier(snapshot, policy, data):
    plan = decide(snapshot, policy)
    waiting = sorted(plan.waits)
    if not waiting:
        return
    model = data.draw(st.sampled_from(waiting))
    before = None
    for position in range(1, snapshot.models[model].waiting + 1):
        here = forecast(snapshot, plan, model, policy).at(position)
        if here.eta_s is None:
            assert here.reason.startswith("unknown: ")
            continue
        assert 0 <= here.low_s <= here.eta_s <= here.high_s
        if before is not None:
            assert (before.eta_s, before.low_s, before.high_s) <= (here.eta_s, here.low_s, here.high_s)
        before = here
