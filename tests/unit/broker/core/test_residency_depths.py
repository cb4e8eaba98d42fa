"""How deep a model is on a slot is said once: the order, what it takes, and what may be ordered."""

import pytest

from broker.core.slot import RESIDENCY_TRANSITIONS
from broker.pool.slots.reports import STATES
from schemas.residency import ORDERABLE, Residency


def test_the_deeper_a_model_is_the_nearer_it_is_to_serving():
    assert sorted(Residency, key=lambda state: state.depth) == [
        Residency.ABSENT,
        Residency.FAILED,
        Residency.UNLOADING,
        Residency.LOADING,
        Residency.READY,
    ]


@pytest.mark.parametrize("state", Residency)
def test_what_is_on_the_device_has_a_server_on_the_host(state):
    assert state.occupies_host or not state.occupies_device
    assert state.occupies_host is (state is not Residency.ABSENT)


def test_only_what_is_ordered_occupies_the_device():
    """What unloads is gone before anything else loads: its room is not counted twice."""
    assert {state for state in Residency if state.occupies_device} == {Residency.LOADING, Residency.READY}


def test_a_worker_says_of_a_failed_load_what_the_store_calls_unloading():
    assert set(STATES) == {state.value for state in Residency}
    assert set(RESIDENCY_TRANSITIONS) == set(Residency) - {Residency.FAILED}


def test_only_a_depth_in_which_a_model_stays_can_be_ordered():
    assert {Residency.READY} == ORDERABLE
