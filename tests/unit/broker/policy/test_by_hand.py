"""An operator's word about one model: where it goes, what goes for it, and what it never breaks."""

from dataclasses import replace

import pytest

from broker.core.decisions import Load, Unload, Why
from broker.core.errors import LoadFailedError, ModelOffError, ModelTooLargeError, UnknownModelError
from broker.core.lease import SlotId
from broker.core.slot import Failing, SlotState
from broker.core.snapshot import FailureView
from broker.policy import by_hand
from broker.policy.by_hand import InUseError, UnknownSlotError
from broker.policy.settings import PolicySettings
from schemas.residency import Residency
from tests.fakes.policy_scene import GPU, NOW_S, A, B, C, lease, model, picture, ready, slot

OTHER = SlotId("gpu1")


def load(models, *slots, name=B, where=None):
    return by_hand.load(picture(models, *slots), PolicySettings(), name, where)


def test_a_model_is_loaded_where_nothing_is_lost():
    full, empty = slot(ready(A)), replace(slot(), slot=OTHER)
    moved = load([model(A, expected_arrivals=1.0), model(B)], full, empty)
    assert moved.orders == (Load(slot=OTHER, generation=7, model=B, evict=(), why=Why.OPERATOR),)
    assert (moved.state, moved.slots) == (Residency.LOADING, (OTHER,))
    assert load([model(A), model(B)], full, empty, where=GPU).orders[0].evict == (A,)


def test_back_off_and_rest_do_not_hold_it_up():
    failure = FailureView(model=B, fails=3, retry_at_s=NOW_S + 99.0, quarantined=True, kind=Failing.PERMANENT)
    assert load([model(B, resting=True)], slot(failures=(failure,))).orders[0].model == B


def test_nothing_goes_for_a_model_that_its_worker_sees_cannot_be_started():
    error = "program not found: /opt/llama-server"
    unsound = FailureView(model=B, fails=1, retry_at_s=0.0, quarantined=True, kind=Failing.UNSOUND, error=error)
    here = slot(ready(A), failures=(unsound,))
    with pytest.raises(LoadFailedError, match=error):
        load([model(A), model(B, memory_mib=9)], here)
    assert load([model(A), model(B)], here, replace(slot(), slot=OTHER)).slots == (OTHER,)


def test_what_is_there_or_coming_is_not_ordered_twice():
    assert load([model(B)], slot(ready(B))) == by_hand.Moved((), Residency.READY, (GPU,))
    loading = ready(B, state=Residency.LOADING)
    assert load([model(B)], slot(loading)) == by_hand.Moved((), Residency.LOADING, (GPU,))


def test_a_prefetch_that_loads_gives_way_and_a_waiters_load_does_not():
    loading = slot(ready(A, state=Residency.LOADING))
    assert load([model(A), model(B)], loading).orders[0].evict == (A,)
    with pytest.raises(InUseError):
        load([model(A, waiting=1), model(B)], loading)


@pytest.mark.parametrize(
    "models, slots, more, error",
    [
        ([model(A)], [slot()], {}, UnknownModelError),
        ([model(B)], [slot()], {"where": SlotId("none")}, UnknownSlotError),
        ([model(B, memory_mib=99)], [slot()], {}, ModelTooLargeError),
        ([model(B, off="new weights")], [slot()], {}, ModelOffError),
        ([model(B)], [slot(state=SlotState.CORDONED)], {}, InUseError),
        ([model(B)], [slot(serves=frozenset((A,)))], {}, InUseError),
        ([model(A), model(B)], [slot(ready(A, leases=1), leases=[lease(A)])], {}, InUseError),
        ([model(A, waiting=1), model(B)], [slot(ready(A))], {}, InUseError),
    ],
)
def test_what_cannot_be_is_said(models, slots, more, error):
    with pytest.raises(error):
        load(models, *slots, **more)


def test_a_model_is_unloaded_wherever_it_is_unless_somebody_uses_it():
    one, two = slot(ready(B)), replace(slot(ready(B), ready(C)), slot=OTHER)
    whole = picture([model(B), model(C)], one, two)
    orders = by_hand.unload(whole, B, None).orders
    assert [(order.slot, order.model) for order in orders] == [(GPU, B), (OTHER, B)]
    assert all(isinstance(order, Unload) for order in orders)
    assert [order.slot for order in by_hand.unload(whole, B, OTHER).orders] == [OTHER]
    assert by_hand.unload(whole, C, GPU) == by_hand.Moved((), Residency.ABSENT, ())
    with pytest.raises(InUseError, match="a lease is on b; take it out of service"):
        by_hand.unload(picture([model(B)], slot(ready(B, leases=1), leases=[lease(B)])), B, None)
