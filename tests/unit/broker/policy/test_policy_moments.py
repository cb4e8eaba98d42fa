"""When the policy wants to be asked again although nothing happens, and what no bound may override."""

import pytest

from broker.core.decisions import Load
from broker.core.lease import Priority
from tests.fakes.policy_scene import GPU, NOW_S, A, B, lease, model, plan_of, ready, slot


def test_the_moment_a_ticket_gets_too_old_is_a_moment_to_decide():
    waits = dict.fromkeys(Priority, 12.0)
    models = [model(A), model(B, waiting=1, since_s=NOW_S - 10.0)]
    plan = plan_of(models, slot(ready(A, leases=1), leases=[lease(A, granted_s=NOW_S - 1.0)]), max_wait_s=waits)
    assert plan.decide_again_s == pytest.approx(NOW_S + 2.0)


def test_not_even_the_age_bound_passes_over_those_who_waited_for_a_load():
    models = [model(A, waiting=1), model(B, waiting=1, since_s=NOW_S - 700.0)]
    plan = plan_of(models, slot(ready(A, waited=60, waiting_below=1)))
    assert plan.targets == {GPU: B}
    assert [decision for decision in plan.decisions if isinstance(decision, Load)] == []
