"""How long a queue that is worth more than a switch may hold up another model's."""

import pytest

from broker.core.decisions import PreemptLease, SetAdmission, Why
from broker.core.lease import Priority
from broker.core.policy import Preemption
from broker.core.snapshot import ADMIT_ALL
from tests.unit.broker.core.test_policy import GPU, NOW_S, A, B, lease, model, plan_of, ready, slot

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
