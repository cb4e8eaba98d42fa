"""How long a queue that is worth more than a switch may hold up another model's."""

import pytest

from broker.core.decisions import PreemptLease, SetAdmission, Why
from broker.core.lease import Priority
from broker.core.snapshot import ADMIT_ALL
from broker.policy.decide import Preemption
from tests.fakes.policy_scene import GPU, NOW_S, A, B, lease, model, plan_of, ready, slot

SLICE_S = 45.0
"""Three loads of the waiting model."""


def flooded(*, waited_s, since_s, granted_s=999.0, admit=ADMIT_ALL, **settings):
    """A keeps four places busy with forty more in line; one ticket for B has waited."""
    models = [model(A, waiting=40), model(B, waiting=1, since_s=NOW_S - waited_s)]
    leases = [lease(A, number, granted_s=granted_s) for number in range(4)]
    scene = slot(ready(A, leases=4, loaded_s=since_s, admit=admit), leases=leases)
    return plan_of(models, scene, **settings)


CLOSED = (SetAdmission(slot=GPU, model=A, residency_generation=3, admit=10, why=Why.SLICE),)


@pytest.mark.parametrize("waited_s, orders", [(SLICE_S + 1, ()), (2 * SLICE_S - 1, ()), (2 * SLICE_S + 1, CLOSED)])
def test_a_flood_goes_on_for_slice_max_factor_slices_at_most(waited_s, orders):
    assert flooded(waited_s=waited_s, since_s=0.0, slice_max_factor=2.0).decisions == orders


def test_the_end_of_the_longest_turn_is_a_moment_to_decide():
    plan = flooded(waited_s=2 * SLICE_S - 1, since_s=0.0, slice_max_factor=2.0)
    assert plan.decide_again_s == pytest.approx(NOW_S + 1.0)


def test_the_longest_turn_begins_with_the_load():
    assert flooded(waited_s=300.0, since_s=NOW_S - 2 * SLICE_S + 1, slice_max_factor=2.0).decisions == ()


@pytest.mark.parametrize("mode", list(Preemption))
def test_the_longest_turn_ends_in_every_mode(mode):
    plan = flooded(waited_s=2 * SLICE_S + 1, since_s=0.0, slice_max_factor=2.0, preemption=mode)
    assert plan.decisions == CLOSED


def asked_back(plan):
    return [order for order in plan.decisions if isinstance(order, PreemptLease)]


OVERTIME_S = 15.0


@pytest.mark.parametrize("over_s, count", [(OVERTIME_S - 1, 0), (OVERTIME_S + 1, 4)])
def test_what_runs_after_the_longest_turn_has_its_overtime_too(over_s, count):
    plan = flooded(waited_s=2 * SLICE_S + over_s, since_s=0.0, granted_s=900.0, slice_max_factor=2.0)
    assert len(asked_back(plan)) == count


def test_a_queue_that_grew_behind_the_barrier_buys_no_second_slice():
    waited_s = SLICE_S + OVERTIME_S + 1
    plan = flooded(waited_s=waited_s, since_s=0.0, granted_s=900.0, admit=10, slice_max_factor=2.0)
    assert len(asked_back(plan)) == 4


def test_the_age_bound_counts_from_the_first_slice():
    bounds = dict.fromkeys(Priority, SLICE_S)
    waited_s = SLICE_S + OVERTIME_S + 1
    plan = flooded(waited_s=waited_s, since_s=0.0, granted_s=900.0, slice_max_factor=9.0, max_wait_s=bounds)
    assert {order.why for order in asked_back(plan)} == {Why.AGE_BOUND}


def one_request(*, ran_s, over_s=OVERTIME_S + 1, **settings):
    """A streams one answer after its slice and overtime; B waits."""
    models = [model(A), model(B, waiting=1, since_s=NOW_S - SLICE_S - over_s)]
    leases = [lease(A, 0, granted_s=NOW_S - ran_s, single=True)]
    return plan_of(models, slot(ready(A, leases=1, loaded_s=0.0), leases=leases), **settings)


@pytest.mark.parametrize("mode", list(Preemption))
def test_a_request_is_finished_though_its_slice_is_over(mode):
    plan = one_request(ran_s=200.0, preemption=mode)
    assert plan.decisions == (SetAdmission(slot=GPU, model=A, residency_generation=3, admit=10, why=Why.SLICE),)


def test_a_request_is_never_exchanged_for_a_more_urgent_one_either():
    models = [model(A), model(B, waiting=1, since_s=NOW_S - 1, priority=Priority.INTERACTIVE)]
    leases = [lease(A, 0, granted_s=NOW_S - 200.0, single=True, priority=Priority.BATCH)]
    scene = slot(ready(A, leases=1, loaded_s=0.0), leases=leases)
    assert asked_back(plan_of(models, scene, preemption=Preemption.PRIORITY)) == []


@pytest.mark.parametrize("ran_s, count", [(899.0, 0), (901.0, 1)])
def test_a_request_that_goes_on_for_ever_is_asked_back_in_the_end(ran_s, count):
    assert len(asked_back(one_request(ran_s=ran_s))) == count


def test_the_end_of_its_time_is_a_moment_to_decide():
    assert one_request(ran_s=890.0).decide_again_s == pytest.approx(NOW_S + 10.0)


def test_a_holder_beside_a_request_is_asked_back_as_ever():
    models = [model(A), model(B, waiting=1, since_s=NOW_S - SLICE_S - OVERTIME_S - 1)]
    leases = [lease(A, 0, granted_s=800.0, single=True), lease(A, 1, granted_s=800.0)]
    plan = plan_of(models, slot(ready(A, leases=2, loaded_s=0.0), leases=leases))
    assert [order.lease_id for order in asked_back(plan)] == [leases[1].lease_id]
