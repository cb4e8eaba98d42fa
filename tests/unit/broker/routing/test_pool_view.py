"""A scheduler's picture as routing sees it."""

from dataclasses import replace

import pytest

from broker.core.slot import SlotState
from broker.core.snapshot import FailureView, ResidencyView
from broker.policy.decide import PolicySettings, decide
from broker.routing.pool_view import PoolModels, free_mib
from broker.routing.variants import ModelState
from schemas.residency import Residency
from tests.fakes.policy_scene import NOW_S, A, B, lease, model, picture, ready, slot
from tests.unit.broker.policy.test_forecast import of

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
        [slot(failures=(FailureView(model=B, fails=3, retry_at_s=NOW_S + 9.0, quarantined=True),))],
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


# ------------------------------------------------------------------------------------------------- others use the GPU
def busy(view, percent=80):
    snapshot = picture([model(A), model(B)], *view)
    return PoolModels(snapshot, decide(snapshot, SETTINGS), SETTINGS, percent)[A].busy


@pytest.mark.parametrize("foreign, is_busy", [(-1, False), (0, False), (80, False), (81, True), (100, True)])
def test_a_device_that_others_use_above_the_limit_is_busy(foreign, is_busy):
    assert busy([replace(slot(ready(A)), foreign_percent=foreign, used_percent=50)]) is is_busy
    assert busy([replace(slot(), foreign_percent=foreign)]) is is_busy


def test_the_limit_is_the_operators_and_0_is_none():
    view = replace(slot(ready(A)), foreign_percent=60)
    assert busy([view], 50)
    assert not busy([view], 60)
    assert not busy([replace(view, foreign_percent=100)], 0)


def test_a_model_is_busy_where_it_is_and_else_where_it_could_be():
    free, used = replace(slot(), slot="free", foreign_percent=0), replace(slot(), slot="used", foreign_percent=99)
    assert not busy([free, used]), "it would be loaded on the free one"
    assert busy([free, replace(slot(ready(A)), foreign_percent=99)]), "it is on the other one"
    assert not busy([used, replace(slot(ready(A)), foreign_percent=0)])
    assert busy([used, replace(used, slot="used too")])


def test_where_nobody_tells_whose_it_is_our_own_work_is_not_held_against_us():
    rested = ready(A)
    rested = replace(rested, last_used_s=NOW_S - 60.0)
    untold = replace(slot(rested), foreign_percent=-1, used_percent=99)
    assert busy([untold])
    assert not busy([replace(untold, residencies=(replace(rested, use=1),))])
    assert not busy([replace(untold, residencies=(replace(rested, last_used_s=NOW_S - 5.0),))]), "its echo"
    loading = ResidencyView(model=B, state=Residency.LOADING, generation=4, memory_mib=10, started_s=NOW_S - 5.0)
    assert not busy([replace(untold, residencies=(rested, loading))])
    beside = replace(slot(replace(rested, model=B, use=1)), slot="beside")
    assert not busy([untold, beside]), "another slot of the same worker may be the same device"
