"""The next step on a slot, number by number."""

import pytest

from gpu_worker.slot.reconcile import Load, Reject, Resident, Unload, Wanted, reconcile
from schemas.residency import Residency

FOOTPRINTS = {"a": 400, "b": 400, "c": 400}


def step(wanted, residents, budget_mib=1000):
    return reconcile(
        [Wanted(model=model, generation=generation) for model, generation in wanted],
        [Resident(model=model, generation=generation, depth=depth) for model, generation, depth in residents],
        footprints_mib=FOOTPRINTS,
        budget_mib=budget_mib,
    )


@pytest.mark.parametrize("depth", [Residency.LOADING, Residency.READY, Residency.FAILED])
def test_what_is_not_wanted_is_unloaded_before_anything_loads(depth):
    assert step([("b", 2)], [("a", 1, depth)]) == Unload(model="a", generation=1)


def test_an_older_generation_of_a_wanted_model_is_unloaded():
    assert step([("a", 2)], [("a", 1, Residency.READY)]) == Unload(model="a", generation=1)


def test_nothing_is_unloaded_twice():
    assert step([], [("a", 1, Residency.UNLOADING)]) is None


@pytest.mark.parametrize("depth", [Residency.LOADING, Residency.UNLOADING])
def test_nothing_loads_while_memory_is_moving(depth):
    assert step([("a", 1), ("b", 2)], [("a", 1, depth)]) is None


def test_the_oldest_absent_model_loads_first():
    assert step([("a", 3), ("b", 2)], []) == Load(model="b", generation=2)


def test_what_is_ready_and_wanted_is_left_alone():
    assert step([("a", 1)], [("a", 1, Residency.READY)]) is None


def test_a_failed_load_is_not_tried_again():
    assert step([("a", 1)], [("a", 1, Residency.FAILED)]) is None


def test_an_unknown_model_is_rejected():
    rejected = step([("sh -c", 1)], [])
    assert isinstance(rejected, Reject)
    assert rejected.reason.startswith("unknown_model")


def test_a_depth_that_this_worker_does_not_know_is_rejected_once():
    wanted = [Wanted(model="a", generation=1, depth="parked")]
    rejected = reconcile(wanted, [], footprints_mib=FOOTPRINTS, budget_mib=1000)
    assert rejected == Reject(model="a", generation=1, reason="unknown_depth: this worker knows no 'parked'")
    failed = [Resident(model="a", generation=1, depth=Residency.FAILED)]
    assert reconcile(wanted, failed, footprints_mib=FOOTPRINTS, budget_mib=1000) is None


def test_what_does_not_fit_beside_what_stays_is_rejected():
    rejected = step([("a", 1), ("b", 2)], [("a", 1, Residency.READY)], budget_mib=700)
    assert isinstance(rejected, Reject)
    assert rejected.reason == "no_memory: needs 400 MiB beside 400 MiB, the slot has 700 MiB now"


def test_a_failed_residency_holds_no_memory():
    assert step([("a", 1), ("b", 2)], [("a", 1, Residency.FAILED)], budget_mib=700) == Load(model="b", generation=2)
