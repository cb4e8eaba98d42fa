"""How deep a model is on a slot is said once: the order, what it takes, and the words of worker and broker."""

import pytest

from broker.core.slot import RESIDENCY_TRANSITIONS, Residency
from broker.pool.slots.reports import STATES
from gpu_worker.slot.reconcile import Depth
from schemas.messages import ResidencyState

FAILED = {"failed"}
"""What a worker says of a load; to the store such a model unloads."""


def test_the_deeper_a_model_is_the_nearer_it_is_to_serving():
    assert sorted(Residency, key=lambda state: state.depth) == [
        Residency.ABSENT,
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


def test_worker_messages_and_store_use_the_same_words():
    words = {state.value for state in Residency}
    assert set(RESIDENCY_TRANSITIONS) == set(Residency)
    assert {state.value for state in ResidencyState} == set(STATES) == words | FAILED
    assert {depth.value for depth in Depth} == words - {"absent"} | FAILED
