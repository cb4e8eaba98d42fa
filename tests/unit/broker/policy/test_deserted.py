"""A load whose waiters have left: finished or broken off, whichever is cheaper."""

import pytest

from broker.core.decisions import Load, Unload, Why
from broker.core.slot import SlotState
from broker.core.snapshot import ResidencyView
from broker.pool.slots.orders import DESERTED, FOR_WAITERS
from schemas.residency import Residency
from tests.unit.broker.policy.test_policy import GPU, NOW_S, A, B, model, plan_of, slot

BROKEN_OFF = (Unload(slot=GPU, generation=7, model=A, why=Why.DESERTED),)


def loading(*, spent_s, prefetched=False):
    return ResidencyView(
        model=A, state=Residency.LOADING, generation=7, memory_mib=10, started_s=NOW_S - spent_s, prefetched=prefetched
    )


def deserted(*, since_s=1.0, load_s=15.0, **fields):
    return model(A, deserted_s=NOW_S - since_s, load_s=load_s, **fields)


def test_a_load_given_up_after_a_second_and_a_half_is_broken_off():
    assert plan_of([deserted()], slot(loading(spent_s=2.5))).decisions == BROKEN_OFF


def test_who_left_a_moment_ago_may_be_back():
    plan = plan_of([deserted(since_s=0.25)], slot(loading(spent_s=1.75)))
    assert plan.decisions == ()
    assert plan.decide_again_s == pytest.approx(NOW_S + 0.75)


@pytest.mark.parametrize("spent_s, stops", [(7.4, True), (7.5, False), (14.0, False), (40.0, False)])
def test_what_is_loaded_by_half_is_finished(spent_s, stops):
    plan = plan_of([deserted()], slot(loading(spent_s=spent_s)))
    assert plan.decisions == (BROKEN_OFF if stops else ())


def test_what_unloading_takes_counts():
    assert plan_of([deserted(unload_s=8.9)], slot(loading(spent_s=3.0))).decisions == BROKEN_OFF
    assert plan_of([deserted(unload_s=9.0)], slot(loading(spent_s=3.0))).decisions == ()


def test_what_is_expected_to_be_asked_for_soon_is_finished():
    assert plan_of([deserted(expected_arrivals=1.0)], slot(loading(spent_s=2.5))).decisions == ()


def test_somebody_who_waits_or_keeps_it_warm_is_somebody():
    for fields in ({"waiting": 1}, {"warm_leases": 1}, {"is_default": True}):
        assert plan_of([deserted(**fields)], slot(loading(spent_s=2.5))).decisions == ()


def test_a_load_that_began_for_nobody_was_left_by_nobody():
    assert plan_of([deserted()], slot(loading(spent_s=2.5, prefetched=True))).decisions == ()
    assert plan_of([deserted(since_s=3.0)], slot(loading(spent_s=2.5))).decisions == ()


@pytest.mark.parametrize("ago_s, stops", [(149.0, False), (151.0, True)])
def test_whoever_came_back_after_all_finds_it_loaded_to_its_end(ago_s, stops):
    given_up = {"given_up_s": NOW_S - 2.5 - ago_s}
    plan = plan_of([deserted(**given_up)], slot(loading(spent_s=2.5)))
    assert plan.decisions == (BROKEN_OFF if stops else ())


def test_another_model_that_is_waited_for_takes_its_place_at_once():
    plan = plan_of([deserted(since_s=0.1), model(B, waiting=1)], slot(loading(spent_s=1.0)))
    assert plan.decisions == (Load(slot=GPU, generation=7, model=B, evict=(A,), why=Why.WAITERS),)


def test_nothing_is_decided_about_a_slot_that_is_closed():
    plan = plan_of([deserted()], slot(loading(spent_s=2.5), state=SlotState.CORDONED))
    assert plan.decisions == ()


def test_the_store_guards_by_the_policys_own_words():
    assert {Why.WAITERS, Why.AGE_BOUND} == FOR_WAITERS
    assert DESERTED == Why.DESERTED
