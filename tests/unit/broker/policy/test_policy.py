"""The decision tree, one branch at a time."""

from dataclasses import replace

import pytest

from broker.core.decisions import Load, PreemptLease, SetAdmission, Unload, WaitReason, Why
from broker.core.lease import LeaseId, LeaseState, Priority, SlotId
from broker.core.slot import Failing, SlotState
from broker.core.snapshot import ADMIT_ALL, FailureView, ResidencyView
from broker.policy.decide import Preemption
from schemas.residency import Residency
from tests.fakes.policy_scene import GPU, NOW_S, A, B, C, lease, model, plan_of, ready, slot


def test_an_empty_slot_loads_what_is_waited_for():
    plan = plan_of([model(A, waiting=1), model(B)], slot())
    assert plan.decisions == (Load(slot=GPU, generation=7, model=A, evict=(), why=Why.WAITERS),)
    assert plan.waits == {A: WaitReason.LOADING}


def test_an_idle_model_makes_room():
    plan = plan_of([model(A), model(B, waiting=1)], slot(ready(A)))
    assert plan.decisions == (Load(slot=GPU, generation=7, model=B, evict=(A,), why=Why.WAITERS),)


def test_a_used_model_is_waited_for_with_its_queue_open():
    plan = plan_of([model(A), model(B, waiting=1)], slot(ready(A, leases=1), leases=[lease(A)]))
    assert plan.decisions == ()
    assert plan.waits == {B: WaitReason.DRAINING_OTHER}
    assert plan.targets == {GPU: B}
    assert plan.decide_again_s is not None


def test_the_queue_worth_most_per_second_goes_first():
    models = [model(A), model(B, waiting=3, since_s=990.0), model(C, waiting=1, priority=Priority.BATCH, since_s=980.0)]
    assert plan_of(models, slot(ready(A))).targets == {GPU: B}


def test_equal_queues_go_in_order_of_arrival():
    models = [model(B, waiting=1, arrival=60), model(C, waiting=1, arrival=59)]
    assert plan_of(models, slot()).targets == {GPU: C}


def test_a_ticket_older_than_its_bound_goes_before_everything():
    models = [model(B, waiting=9, priority=Priority.INTERACTIVE), model(C, waiting=1, since_s=NOW_S - 601.0)]
    plan = plan_of(models, slot())
    assert plan.decisions[0].model == C
    assert plan.decisions[0].why is Why.AGE_BOUND


def test_an_aged_ticket_closes_what_is_in_its_way_at_once():
    models = [model(A, waiting=2), model(B, waiting=1, since_s=NOW_S - 601.0)]
    plan = plan_of(models, slot(ready(A, loaded_s=999.0, leases=4), leases=[lease(A, i) for i in range(4)]))
    assert plan.decisions == (SetAdmission(slot=GPU, model=A, residency_generation=3, admit=10, why=Why.AGE_BOUND),)
    assert plan.waits == {A: WaitReason.BARRIER, B: WaitReason.DRAINING_OTHER}


@pytest.mark.parametrize("waited_s, closed", [(44.0, False), (46.0, True)])
def test_a_slice_is_three_loads_of_the_target(waited_s, closed):
    models = [model(A), model(B, waiting=1, since_s=NOW_S - waited_s)]
    plan = plan_of(models, slot(ready(A, leases=1), leases=[lease(A, granted_s=999.0)]))
    assert [type(d) for d in plan.decisions] == ([SetAdmission] if closed else [])
    assert plan.decide_again_s > NOW_S


def test_a_slice_goes_on_while_the_holders_own_queue_is_worth_more():
    models = [model(A, waiting=40), model(B, waiting=1, since_s=NOW_S - 50.0)]
    plan = plan_of(models, slot(ready(A, leases=4), leases=[lease(A, i, granted_s=999.0) for i in range(4)]))
    assert plan.decisions == ()
    assert plan.waits[A] is WaitReason.MODEL_BUSY


def test_after_its_overtime_what_still_runs_is_asked_back():
    models = [model(A), model(B, waiting=1, since_s=NOW_S - 61.0, priority=Priority.BATCH)]
    plan = plan_of(models, slot(ready(A, leases=1), leases=[lease(A, priority=Priority.INTERACTIVE)]))
    assert [type(d) for d in plan.decisions] == [SetAdmission, PreemptLease]
    assert plan.decisions[1] == PreemptLease(lease_id=LeaseId("a0"), grace_s=30.0, why=Why.SLICE)


def test_nobody_is_asked_back_while_somebody_waited_for_the_load():
    models = [model(A, waiting=1), model(B, waiting=1, since_s=NOW_S - 61.0)]
    plan = plan_of(models, slot(ready(A, leases=4, waiting_below=1), leases=[lease(A, i) for i in range(4)]))
    assert not [d for d in plan.decisions if isinstance(d, PreemptLease)]


def test_without_preemption_a_slice_only_closes():
    models = [model(A), model(B, waiting=1, since_s=NOW_S - 500.0)]
    scene = slot(ready(A, leases=1), leases=[lease(A)])
    plan = plan_of(models, scene, preemption=Preemption.OFF)
    assert [type(d) for d in plan.decisions] == [SetAdmission]


WORTH_IT = [
    model(A, hold_s=300.0, hold_sd_s=300.0, load_s=2.0),
    model(B, waiting=2, priority=Priority.INTERACTIVE, load_s=2.0, hold_s=10.0),
]


def test_a_long_drain_is_exchanged_for_urgent_waiters():
    plan = plan_of(WORTH_IT, slot(ready(A, leases=1), leases=[lease(A)]))
    assert [d.why for d in plan.decisions] == [Why.EXCHANGE, Why.EXCHANGE]


def test_a_lease_that_just_began_is_not_exchanged():
    plan = plan_of(WORTH_IT, slot(ready(A, leases=1), leases=[lease(A, granted_s=997.0)]))
    assert plan.decisions == ()
    assert plan.decide_again_s == pytest.approx(1002.0)


def test_what_was_asked_back_stays_closed_until_it_went():
    going = lease(A, state=LeaseState.ENDING)
    plan = plan_of(WORTH_IT, slot(ready(A, leases=1, admit=10), leases=[going]))
    assert plan.decisions == ()
    assert plan.waits[B] is WaitReason.DRAINING_OTHER


def test_interactive_first_displaces_lower_classes():
    models = [model(A, load_s=2.0), model(B, waiting=1, priority=Priority.INTERACTIVE, load_s=2.0)]
    scene = slot(ready(A, leases=1), leases=[lease(A, granted_s=999.0)])
    assert plan_of(models, scene).decisions == ()
    plan = plan_of(models, scene, preemption=Preemption.INTERACTIVE_FIRST)
    assert [d.why for d in plan.decisions] == [Why.PRIORITY, Why.PRIORITY]


def test_priority_leaves_equals_alone():
    models = [model(A), model(B, waiting=1, priority=Priority.NORMAL)]
    scene = slot(ready(A, leases=1), leases=[lease(A, granted_s=999.0)])
    assert plan_of(models, scene, preemption=Preemption.PRIORITY).decisions == ()


def test_a_holder_that_goes_on_for_ever_is_asked_to_end_where_others_wait():
    endless = lease(A, granted_s=NOW_S - 20_000.0)
    for models in ([model(A, waiting=1, lease_limit=1)], [model(A), model(B, waiting=1)]):
        plan = plan_of(models, slot(ready(A, leases=1), leases=[endless]), preemption=Preemption.OFF)
        assert [d.why for d in plan.decisions if isinstance(d, PreemptLease)] == [Why.MAX_HOLD]
    assert plan_of([model(A)], slot(ready(A, leases=1), leases=[endless])).decisions == ()


def test_a_barrier_is_lifted_when_nobody_else_waits():
    plan = plan_of([model(A, waiting=1)], slot(ready(A, admit=10)))
    assert plan.decisions == (SetAdmission(slot=GPU, model=A, residency_generation=3, admit=ADMIT_ALL, why=Why.REOPEN),)


def test_a_model_that_fits_beside_evicts_nobody():
    models = [model(A), model(B, waiting=1)]
    plan = plan_of(models, slot(ready(A, leases=1), leases=[lease(A)], budget_mib=20))
    assert plan.decisions == (Load(slot=GPU, generation=7, model=B, evict=(), why=Why.WAITERS),)


def test_the_cheapest_to_bring_back_is_evicted():
    models = [model(A, expected_arrivals=0.9), model(B, expected_arrivals=0.1), model(C, waiting=1)]
    plan = plan_of(models, slot(ready(A), ready(B), budget_mib=20))
    assert plan.decisions[0].evict == (B,)


def test_a_warm_expectation_yields_to_a_waiter():
    models = [model(A, expected_arrivals=5.0, warm_leases=9), model(B, waiting=1, priority=Priority.BATCH)]
    assert plan_of(models, slot(ready(A))).decisions[0].evict == (A,)


def test_one_load_at_a_time():
    loading = ResidencyView(model=A, state=Residency.LOADING, generation=4, memory_mib=10, started_s=995.0)
    plan = plan_of([model(A, waiting=1), model(B, waiting=1)], slot(loading, budget_mib=20))
    assert plan.decisions == ()
    assert plan.waits == {A: WaitReason.LOADING, B: WaitReason.LOADER_BUSY}


def test_a_prefetch_gives_way_to_a_waiter():
    loading = ResidencyView(
        model=A, state=Residency.LOADING, generation=4, memory_mib=10, started_s=995.0, prefetched=True
    )
    plan = plan_of([model(A), model(B, waiting=1)], slot(loading))
    assert plan.decisions == (Load(slot=GPU, generation=7, model=B, evict=(A,), why=Why.WAITERS),)


def test_the_likeliest_model_is_prefetched_while_nobody_waits():
    models = [model(A, expected_arrivals=0.2), model(B, expected_arrivals=0.9)]
    plan = plan_of(models, slot(ready(A, loaded_s=100.0)))
    assert plan.decisions == (Load(slot=GPU, generation=7, model=B, evict=(A,), why=Why.PREFETCH),)


def test_a_prefetch_that_is_hardly_better_is_left():
    models = [model(A, expected_arrivals=0.8), model(B, expected_arrivals=0.9)]
    plan = plan_of(models, slot(ready(A, loaded_s=100.0)))
    assert plan.decisions == ()
    assert plan.decide_again_s == NOW_S + 15.0


def test_a_prefetch_evicts_nothing_in_use():
    models = [model(A), model(B, expected_arrivals=0.9)]
    assert plan_of(models, slot(ready(A, loaded_s=100.0, leases=1), leases=[lease(A)])).decisions == ()


def test_the_default_model_is_restored_when_told_to():
    models = [model(A), model(B, is_default=True)]
    plan = plan_of(models, slot(ready(A, loaded_s=900.0)), idle_restore_s=60.0)
    assert plan.decisions == (Load(slot=GPU, generation=7, model=B, evict=(A,), why=Why.RESTORE),)
    assert plan_of(models, slot(ready(A, loaded_s=970.0)), idle_restore_s=60.0).decisions == ()


def test_the_default_model_is_not_restored_over_one_that_a_conversation_keeps_warm():
    models = [model(A, warm_leases=1, expected_arrivals=1.0), model(B, is_default=True)]
    assert plan_of(models, slot(ready(A, loaded_s=0.0)), idle_restore_s=60.0).decisions == ()


def test_nothing_is_unloaded_on_a_timer_unless_its_memory_is_to_be_released():
    assert plan_of([model(A)], slot(ready(A, loaded_s=0.0))).decisions == ()
    plan = plan_of([model(A, release_vram_after_s=50.0, expected_arrivals=9.0)], slot(ready(A)))
    assert plan.decisions == (Unload(slot=GPU, generation=7, model=A, why=Why.RELEASE_VRAM),)
    assert plan_of([model(A, release_vram_after_s=50.0, expected_arrivals=9.0)], slot()).decisions == ()


def test_a_draining_slot_gives_up_what_is_idle_and_loads_nothing():
    scene = slot(ready(A), ready(B, leases=1), leases=[lease(B)], budget_mib=30, state=SlotState.DRAINING)
    plan = plan_of([model(A), model(B), model(C, waiting=1)], scene)
    assert plan.decisions == (Unload(slot=GPU, generation=7, model=A, why=Why.DRAIN),)
    assert plan.waits == {C: WaitReason.NO_SLOT}


def test_draining_slots_give_up_in_the_order_of_their_names_whatever_the_order_of_the_picture():
    first, second = (slot(ready(A), slot=SlotId(name), state=SlotState.DRAINING) for name in ("gpu0", "gpu1"))
    plan = plan_of([model(A)], first, second)
    assert [unload.slot for unload in plan.decisions] == ["gpu0", "gpu1"]
    assert plan_of([model(A)], second, first) == plan


@pytest.mark.parametrize("state", [SlotState.CORDONED, SlotState.OFFLINE, SlotState.RECOVERING, SlotState.QUARANTINED])
def test_a_slot_that_is_not_open_is_left_alone(state):
    plan = plan_of([model(A), model(B, waiting=1)], slot(ready(A), state=state))
    assert plan.decisions == ()
    assert plan.waits == {B: WaitReason.NO_SLOT}


def test_a_failed_model_backs_off_and_others_go_on():
    failure = FailureView(model=B, fails=1, retry_at_s=NOW_S + 40.0, quarantined=False)
    plan = plan_of([model(B, waiting=9), model(C, waiting=1)], slot(failures=(failure,)))
    assert plan.decisions[0].model == C
    assert plan.waits[B] is WaitReason.BACKING_OFF
    assert plan.decide_again_s <= NOW_S + 40.0


def test_a_quarantined_model_says_so():
    failure = FailureView(model=B, fails=3, retry_at_s=NOW_S + 9.0, quarantined=True)
    plan = plan_of([model(B, waiting=1)], slot(failures=(failure,)))
    assert plan.decisions == ()
    assert plan.waits == {B: WaitReason.QUARANTINED}


def test_what_cannot_be_started_waits_for_no_moment():
    failure = FailureView(model=B, fails=0, retry_at_s=0.0, quarantined=True, kind=Failing.UNSOUND)
    plan = plan_of([model(B, waiting=1)], slot(failures=(failure,)))
    assert (plan.decisions, plan.waits) == ((), {B: WaitReason.QUARANTINED})


def test_a_quarantine_that_is_over_is_tried_again_for_who_waits():
    failure = FailureView(model=B, fails=3, retry_at_s=NOW_S, quarantined=True)
    assert [d.model for d in plan_of([model(B, waiting=1)], slot(failures=(failure,))).decisions] == [B]


def test_a_load_that_failed_for_want_of_room_gets_the_room_of_all_that_is_idle_the_next_time():
    failure = FailureView(model=B, fails=1, retry_at_s=NOW_S, quarantined=False, kind=Failing.ROOM)
    others = slot(ready(A), ready(C, leases=1), leases=[lease(C)], failures=(failure,), budget_mib=40)
    plan = plan_of([model(A), model(B, waiting=1), model(C)], others)
    assert plan.decisions == (Load(slot=GPU, generation=7, model=B, evict=(A,), why=Why.WAITERS),)
    passing = replace(others, failures=(replace(failure, kind=Failing.PASSING),))
    assert plan_of([model(A), model(B, waiting=1), model(C)], passing).decisions[0].evict == ()
    wanted = [model(A, waiting=1), model(B, waiting=1), model(C)]
    assert plan_of(wanted, others).decisions[0].evict == (), "somebody waits for it"


@pytest.mark.parametrize("kind", [Failing.PASSING, Failing.PERMANENT, Failing.USELESS])
def test_what_failed_is_not_loaded_ahead_of_need(kind):
    wanted = model(B, expected_arrivals=5.0)
    assert [d.model for d in plan_of([wanted], slot()).decisions] == [B]
    failure = FailureView(model=B, fails=1, retry_at_s=0.0, quarantined=False, kind=kind)
    assert plan_of([wanted], slot(failures=(failure,))).decisions == ()


def test_what_was_unloaded_by_hand_is_not_loaded_ahead_of_need():
    assert plan_of([model(B, expected_arrivals=5.0, resting=True)], slot()).decisions == ()
    assert [d.model for d in plan_of([model(B, waiting=1, resting=True)], slot()).decisions] == [B]


def test_what_is_out_of_service_goes_when_nobody_uses_it_and_does_not_come_back():
    plan = plan_of([model(A, off="new weights")], slot(ready(A)))
    assert plan.decisions == (Unload(slot=GPU, generation=7, model=A, why=Why.OFF),)
    assert plan_of([model(A, off="new weights")], slot(ready(A, leases=1), leases=[lease(A)])).decisions == ()
    assert plan_of([model(A, off="new weights", expected_arrivals=5.0)], slot()).decisions == ()
    cordoned = slot(ready(A), state=SlotState.CORDONED)
    assert [d.why for d in plan_of([model(A, off="new weights")], cordoned).decisions] == [Why.OFF]


def test_two_slots_take_two_models():
    other = replace(slot(), slot=SlotId("gpu1"))
    plan = plan_of([model(A, waiting=1), model(B, waiting=1)], slot(), other)
    assert {(d.slot, d.model) for d in plan.decisions} == {(GPU, A), ("gpu1", B)}


def test_a_model_that_outgrew_its_slot_takes_an_idle_second_one():
    full = slot(ready(A, leases=4), leases=[lease(A, i) for i in range(4)])
    idle = replace(slot(ready(B)), slot=SlotId("gpu1"))
    plan = plan_of([model(A, waiting=8), model(B)], full, idle)
    assert plan.decisions == (Load(slot=SlotId("gpu1"), generation=7, model=A, evict=(B,), why=Why.WAITERS),)
    assert plan_of([model(A, waiting=2), model(B)], full, idle).decisions == ()
