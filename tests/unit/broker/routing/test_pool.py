"""A scheduler's picture as routing sees it."""

import pytest

from broker.core.policy import PolicySettings, decide
from broker.core.slot import Residency, SlotState
from broker.core.snapshot import FailureView, ResidencyView
from broker.routing.pool import PoolModels, free_mib
from broker.routing.variants import ModelState
from tests.unit.broker.core.test_forecast import of
from tests.unit.broker.core.test_policy import NOW_S, A, B, lease, model, picture, ready, slot

SETTINGS = PolicySettings()


def seen(models, *slots):
    snapshot = picture(models, *slots)
    return PoolModels(snapshot, decide(snapshot, SETTINGS), SETTINGS)


def test_a_ready_model_with_a_place_free_is_there_at_once():
    assert seen([model(A)], slot(ready(A, leases=3)))[A] == ModelState(ready=True, wait_s=0.0)


def test_a_ready_model_without_a_place_is_as_far_as_its_next_place():
    full = slot(ready(A, leases=4), leases=[lease(A, number) for number in range(4)])
    assert seen([model(A)], full)[A] == ModelState(ready=True, wait_s=pytest.approx(5.0))
    assert seen([model(A, waiting=2)], full)[A].wait_s == pytest.approx(15.0)


def test_a_model_that_must_make_room_is_not_there_at_once():
    leaving = slot(ready(A, leases=1, admit=10), leases=[lease(A)])
    assert seen([model(A), model(B, waiting=1)], leaving)[A].wait_s != 0.0


def test_an_absent_model_is_a_load_away():
    assert seen([model(B)], slot())[B] == ModelState(ready=False, wait_s=pytest.approx(15.0))


def test_a_load_under_way_counts_what_is_left():
    loading = ResidencyView(model=A, state=Residency.LOADING, generation=4, memory_mib=10, started_s=NOW_S - 5.0)
    assert seen([model(A)], slot(loading))[A] == ModelState(ready=False, wait_s=pytest.approx(10.0))


def test_behind_a_used_model_it_is_as_if_a_ticket_waited():
    scene = slot(ready(A, leases=1), leases=[lease(A)])
    asked = of(B, 1, [model(A), model(B, waiting=1)], scene).eta_s
    assert seen([model(A), model(B)], scene)[B].wait_s == pytest.approx(asked, rel=0.5)


def test_a_holder_without_history_makes_it_unknown():
    scene = slot(ready(A, leases=1), leases=[lease(A)])
    assert seen([model(A, hold_n=0), model(B)], scene)[B] == ModelState(ready=False, wait_s=None)


def test_a_back_off_counts():
    failure = FailureView(model=B, fails=1, retry_at_s=NOW_S + 40.0, quarantined=False)
    assert seen([model(B)], slot(failures=(failure,)))[B].wait_s == pytest.approx(55.0)


@pytest.mark.parametrize(
    "scene",
    [
        [],
        [slot(state=SlotState.OFFLINE)],
        [slot(state=SlotState.CORDONED)],
        [slot(serves=frozenset((A,)))],
        [slot(budget_mib=9)],
        [slot(failures=(FailureView(model=B, fails=3, retry_at_s=0.0, quarantined=True),))],
    ],
)
def test_what_no_slot_can_serve_is_missing(scene):
    models = seen([model(A), model(B)], *scene)
    assert B not in models
    assert B not in set(models)


def test_a_slot_that_recovers_counts_with_an_unknown_wait():
    assert seen([model(B)], slot(state=SlotState.RECOVERING))[B] == ModelState(ready=False, wait_s=None)


def test_an_unknown_name_is_missing():
    assert "nobody" not in seen([model(A)], slot())


def test_free_memory_is_what_is_not_in_use():
    models = [model(A), model(B)]
    used, idle = ready(A, leases=1, memory_mib=30), ready(B, memory_mib=40)
    big = slot(used, idle, budget_mib=100, leases=[lease(A)])
    assert free_mib(picture(models, big)) == 70
    assert free_mib(picture([model(A), model(B, waiting=1)], big)) == 30
    assert free_mib(picture(models, slot(state=SlotState.OFFLINE, budget_mib=500), big)) == 70
    assert free_mib(picture(models)) == 0
