"""What a slot holds while nobody waits: what is spoken for, what comes back, what is guessed, what is pinned."""

from dataclasses import replace

import pytest

from broker.core.decisions import Load, Unload, WaitReason, Why
from broker.core.lease import SlotId
from broker.core.slot import SlotState
from broker.core.snapshot import FailureView, ResidencyView
from schemas.residency import Residency
from tests.fakes.policy_scene import GPU, NOW_S, A, B, C, lease, model, plan_of, ready, slot

LONG_AGO_S = 100.0


def load_of(name, *evict, why):
    return (Load(slot=GPU, generation=7, model=name, evict=evict, why=why),)


def loading(name, **fields):
    return ResidencyView(
        model=name, state=Residency.LOADING, generation=4, memory_mib=10, started_s=NOW_S - 5.0, **fields
    )


LIKELY = model(B, expected_arrivals=3.0)


# -------------------------------------------------------------------------------------------------------- spoken for
@pytest.mark.parametrize(
    "said, used_s, moved",
    [
        ({"spoken_for_s": NOW_S + 1.0}, LONG_AGO_S, False),
        ({"spoken_for_s": NOW_S - 1.0}, LONG_AGO_S, True),
        ({"spoken_for_s": NOW_S - 1.0}, NOW_S - 59.0, False),  # a pause in the middle of quick turns
        ({"spoken_for_s": NOW_S - 1.0}, NOW_S - 61.0, True),
        ({"spoken_for_s": None}, NOW_S - 299.0, False),  # of its users nothing is known
        ({"spoken_for_s": None}, NOW_S - 301.0, True),
        ({"spoken_for_s": LONG_AGO_S, "warm_leases": 1}, LONG_AGO_S, False),
    ],
)
def test_a_guess_moves_no_model_that_is_spoken_for_by_those_who_used_it_last(said, used_s, moved):
    plan = plan_of([model(A, **said), LIKELY], slot(ready(A, loaded_s=LONG_AGO_S, last_used_s=used_s)))
    assert plan.decisions == (load_of(B, A, why=Why.PREFETCH) if moved else ())


@pytest.mark.parametrize(
    "said, used_s, moved",
    [
        ({"spoken_for_s": NOW_S + 1.0}, LONG_AGO_S, False),
        ({"spoken_for_s": NOW_S - 1.0}, NOW_S - 299.0, False),
        ({"spoken_for_s": NOW_S - 1.0}, NOW_S - 301.0, True),
        ({"spoken_for_s": None, "warm_leases": 1}, LONG_AGO_S, False),
    ],
)
def test_a_restore_waits_until_nobody_speaks_for_the_model_and_for_idle_restore_s(said, used_s, moved):
    models = [model(A, **said), model(B, is_default=True)]
    plan = plan_of(models, slot(ready(A, loaded_s=LONG_AGO_S, last_used_s=used_s)))
    assert plan.decisions == (load_of(B, A, why=Why.RESTORE) if moved else ())


def test_the_end_of_a_usual_gap_is_a_moment_to_decide():
    models = [model(A, spoken_for_s=NOW_S + 40.0), model(B, is_default=True)]
    plan = plan_of(models, slot(ready(A, loaded_s=NOW_S - 290.0)), relook_s=900.0)
    assert plan.decide_again_s == NOW_S + 40.0
    models = [model(A, spoken_for_s=NOW_S + 2.0), model(B, is_default=True)]
    assert plan_of(models, slot(ready(A, loaded_s=NOW_S - 290.0))).decide_again_s == pytest.approx(
        NOW_S + 10.0, abs=0.1
    )


def test_what_is_spoken_for_yields_to_a_waiter():
    models = [model(A, spoken_for_s=NOW_S + 500.0, warm_leases=3), model(B, waiting=1)]
    assert plan_of(models, slot(ready(A))).decisions == load_of(B, A, why=Why.WAITERS)


def test_a_quick_restore_makes_the_gap_of_the_unknown_short():
    models = [model(A), model(B, is_default=True)]
    assert plan_of(models, slot(ready(A, loaded_s=NOW_S - 6.0)), idle_restore_s=5.0).decisions
    assert not plan_of(models, slot(ready(A, loaded_s=NOW_S - 4.0)), idle_restore_s=5.0).decisions


def test_a_warm_lease_beats_release_vram():
    kept = model(A, release_vram_after_s=50.0, warm_leases=1)
    assert plan_of([kept], slot(ready(A))).decisions == ()
    given_back = (Unload(slot=GPU, generation=7, model=A, why=Why.RELEASE_VRAM),)
    assert plan_of([replace(kept, warm_leases=0)], slot(ready(A))).decisions == given_back


# ----------------------------------------------------------------------------------------------------------- default
def test_the_default_is_loaded_at_the_start():
    assert plan_of([model(A), model(B, is_default=True)], slot()).decisions == load_of(B, why=Why.RESTORE)


def test_the_default_is_loaded_on_one_slot_only():
    assert len(plan_of([model(A, is_default=True)], *two_slots()).decisions) == 1


def test_the_default_is_loaded_at_once_where_there_is_room():
    models = [model(A, spoken_for_s=NOW_S + 99.0), model(B, is_default=True)]
    plan = plan_of(models, slot(ready(A, leases=1), leases=[lease(A)], budget_mib=20))
    assert plan.decisions == load_of(B, why=Why.RESTORE)


def test_no_guess_moves_the_default_or_goes_before_it():
    models = [model(A, is_default=True), LIKELY]
    assert plan_of(models, slot(ready(A, loaded_s=LONG_AGO_S))).decisions == ()
    models = [model(A), LIKELY, model(C, is_default=True)]
    assert plan_of(models, slot(ready(A, loaded_s=NOW_S - 290.0))).decisions == ()


def test_the_default_that_is_on_another_slot_is_not_loaded_again():
    other = replace(slot(ready(B)), slot=SlotId("gpu1"))
    assert plan_of([model(A), model(B, is_default=True)], slot(), other).decisions == ()
    closed = replace(other, state=SlotState.CORDONED)
    assert plan_of([model(A), model(B, is_default=True)], slot(), closed).decisions == load_of(B, why=Why.RESTORE)


def test_a_default_that_is_to_give_its_memory_back_does_not_come_back():
    assert plan_of([model(A, is_default=True, release_vram_after_s=60.0)], slot()).decisions == ()


def test_a_restore_gives_way_to_a_waiter():
    plan = plan_of([model(A, is_default=True), model(B, waiting=1)], slot(loading(A)))
    assert plan.decisions == load_of(B, A, why=Why.WAITERS)


# -------------------------------------------------------------------------------------------------------------- warm
WARM = model(B, warm_leases=1)


def test_what_a_warm_lease_asks_for_is_fetched_over_anything_not_spoken_for_and_over_the_default():
    assert plan_of([WARM], slot()).decisions == load_of(B, why=Why.WARM)
    default = model(A, is_default=True)
    restored = ready(A, loaded_s=NOW_S - 5.0, last_used_s=NOW_S - 5.0, why="restore", started_s=NOW_S - 20.0)
    assert plan_of([default, WARM], slot(restored)).decisions == load_of(B, A, why=Why.WARM)
    assert plan_of([default, WARM], slot()).decisions == load_of(B, why=Why.WARM)


def test_a_warm_lease_moves_no_model_that_is_spoken_for():
    for said in ({"spoken_for_s": NOW_S + 5.0}, {"warm_leases": 1}):
        assert plan_of([model(A, **said), WARM], slot(ready(A, loaded_s=LONG_AGO_S))).decisions == ()
    assert plan_of([model(A), WARM], slot(ready(A, loaded_s=NOW_S - 9.0))).decisions == ()


def test_of_two_that_are_to_be_kept_warm_the_one_that_saves_more_is_fetched_first():
    models = [model(A, warm_leases=2, load_s=4.0), model(B, warm_leases=1, load_s=30.0)]
    assert plan_of(models, slot()).decisions == load_of(B, why=Why.WARM)


def test_what_gives_its_memory_back_is_fetched_for_a_warm_lease_and_for_no_guess():
    giving = model(B, release_vram_after_s=60.0, expected_arrivals=9.0)
    assert plan_of([giving], slot()).decisions == ()
    assert plan_of([replace(giving, warm_leases=1)], slot()).decisions == load_of(B, why=Why.WARM)


# -------------------------------------------------------------------------------------------------------------- keep
def two_slots(first=(), second=()):
    return slot(*first), replace(slot(*second), slot=SlotId("gpu1"))


def test_a_warm_pool_is_kept_on_as_many_slots_as_it_says():
    plan = plan_of([model(A, keep=2)], *two_slots())
    assert {(d.slot, d.model, d.why) for d in plan.decisions} == {(GPU, A, Why.RESTORE), ("gpu1", A, Why.RESTORE)}
    assert plan_of([model(A, keep=1)], *two_slots([ready(A)])).decisions == ()
    [second] = plan_of([model(A, keep=2)], *two_slots([ready(A)])).decisions
    assert second.slot == "gpu1"


def test_the_default_goes_before_what_is_kept_and_what_is_kept_does_not_displace_it():
    models = [model(A, keep=1), model(B, is_default=True)]
    assert plan_of(models, slot()).decisions == load_of(B, why=Why.RESTORE)
    assert plan_of(models, slot(ready(B, loaded_s=LONG_AGO_S))).decisions == ()


def test_a_copy_more_than_are_kept_makes_room():
    models = [model(A, keep=1), model(B, is_default=True)]
    scene = two_slots([ready(A, loaded_s=LONG_AGO_S)], [ready(A, loaded_s=LONG_AGO_S)])
    [restored] = plan_of(models, *scene).decisions
    assert (restored.model, restored.evict) == (B, (A,))
    models = [model(A, keep=1), model(B, is_default=True), model(C, keep=1)]
    assert [d.model for d in plan_of(models, *scene).decisions] == [B], "one copy of A stays"


def test_what_is_kept_yields_to_a_waiter():
    assert plan_of([model(A, keep=1), model(B, waiting=1)], slot(ready(A))).decisions[0].evict == (A,)


# ------------------------------------------------------------------------------------------------------------ pinned
def test_a_pinned_model_makes_room_for_nobody():
    models = [model(A, pinned=True), model(B, waiting=1, memory_mib=10)]
    plan = plan_of(models, slot(ready(A)))
    assert plan.decisions == ()
    assert plan.waits == {B: WaitReason.NO_SLOT}


def test_what_fits_beside_a_pinned_model_is_served_there():
    models = [model(A, pinned=True), model(B), model(C, waiting=1)]
    plan = plan_of(models, slot(ready(A, loaded_s=LONG_AGO_S), ready(B), budget_mib=20))
    assert plan.decisions == load_of(C, B, why=Why.WAITERS)


def test_a_pinned_model_is_loaded_before_anything_else_over_what_is_idle_though_spoken_for():
    models = [model(A, pinned=True), model(B, spoken_for_s=NOW_S + 99.0, warm_leases=1), model(C, waiting=1)]
    plan = plan_of(models, slot(ready(B)))
    assert plan.decisions == load_of(A, B, why=Why.PINNED)


def test_the_room_of_a_pinned_model_is_kept_while_what_is_in_its_way_is_used():
    models = [model(A, pinned=True), model(B), model(C, waiting=1)]
    scene = slot(ready(B, leases=1), leases=[lease(B)], budget_mib=20)
    assert plan_of(models, scene).decisions == load_of(A, why=Why.PINNED)
    full = replace(scene, budget_mib=25, residencies=(*scene.residencies, ready(C, loaded_s=LONG_AGO_S)))
    models = [model(A, pinned=True), model(B), model(C), model("d", waiting=1)]
    serving = replace(full, serves=frozenset((A, B, C, "d")))
    assert plan_of(models, serving).decisions == load_of(A, C, why=Why.PINNED)


def test_nobody_else_gets_the_room_that_a_pinned_model_still_waits_for():
    models = [model(A, pinned=True, memory_mib=15), model(B), model(C), model("d", waiting=1)]
    leases = [lease(B), lease(C)]
    scene = slot(ready(B, leases=1), ready(C, leases=1), leases=leases, budget_mib=30, serves=frozenset((A, B, C, "d")))
    assert plan_of(models, scene).decisions == ()
    models[0] = model(A, memory_mib=15)
    assert plan_of(models, scene).decisions == load_of("d", why=Why.WAITERS)


def test_a_load_that_somebody_waits_for_is_finished_before_the_pinned_one():
    models = [model(A, pinned=True), model(B, waiting=1)]
    assert plan_of(models, slot(loading(B), budget_mib=10)).decisions == ()


def test_a_waiter_does_not_break_off_the_load_of_a_pinned_model():
    models = [model(A, pinned=True), model(B, waiting=1)]
    plan = plan_of(models, slot(loading(A), budget_mib=20))
    assert plan.decisions == ()
    assert plan.waits == {B: WaitReason.LOADER_BUSY}


def test_a_pinned_model_that_cannot_load_takes_no_room_from_others():
    failure = FailureView(model=A, fails=3, retry_at_s=NOW_S + 9.0, quarantined=True)
    models = [model(A, pinned=True), model(B, waiting=1)]
    assert plan_of(models, slot(failures=(failure,))).decisions == load_of(B, why=Why.WAITERS)


def test_a_pinned_pool_is_on_as_many_slots_as_it_says_and_no_more():
    models = [model(A, pinned=True, keep=2)]
    assert {d.slot for d in plan_of(models, *two_slots()).decisions} == {"gpu0", "gpu1"}
    models = [model(A, pinned=True), model(B, waiting=1)]
    [load] = plan_of(models, *two_slots([ready(A)], [ready(A)])).decisions
    assert (load.slot, load.evict) == ("gpu1", (A,))


def test_pinned_models_share_a_slot_where_they_fit_and_are_spread_where_they_do_not():
    models = [model(A, pinned=True), model(B, pinned=True)]
    [first] = plan_of(models, slot(budget_mib=20)).decisions
    assert first.model == A
    plan = plan_of(models, *two_slots())
    assert {(d.slot, d.model) for d in plan.decisions} == {("gpu0", A), ("gpu1", B)}


def test_a_draining_slot_is_no_home():
    plan = plan_of([model(A, pinned=True)], slot(ready(A), state=SlotState.DRAINING))
    assert plan.decisions == (Unload(slot=GPU, generation=7, model=A, why=Why.DRAIN),)


# ----------------------------------------------------------------------------------------------------------- guesses
def test_a_guess_needs_somebody_who_asked_since_the_last_one():
    unused = ready(A, loaded_s=LONG_AGO_S, started_s=500.0, prefetched=True, why="prefetch")
    for asked_s, decided in ((499.0, ()), (501.0, load_of(B, A, why=Why.PREFETCH))):
        models = [model(A, asked_s=asked_s), replace(LIKELY, asked_s=100.0)]
        assert plan_of(models, slot(unused)).decisions == decided


def test_what_nobody_has_used_yet_is_not_spoken_for():
    unused = ready(A, loaded_s=NOW_S - 1.0, last_used_s=NOW_S - 1.0)
    assert plan_of([model(A), LIKELY], slot(unused)).decisions == load_of(B, A, why=Why.PREFETCH)
    used_before = model(A, spoken_for_s=NOW_S + 20.0)
    assert plan_of([used_before, LIKELY], slot(unused)).decisions == ()


def test_an_unused_guess_gives_way_to_the_default_at_once():
    unused = ready(A, loaded_s=NOW_S - 1.0, last_used_s=NOW_S - 1.0, prefetched=True)
    models = [model(A), model(B, is_default=True)]
    assert plan_of(models, slot(unused)).decisions == load_of(B, A, why=Why.RESTORE)
    assert plan_of(models, slot(replace(unused, prefetched=False))).decisions == ()


def test_wrong_guesses_make_the_next_one_dearer():
    scene = slot(ready(A, loaded_s=LONG_AGO_S))
    likely = model(B, expected_arrivals=0.3)
    assert plan_of([model(A), likely], scene).decisions
    assert not plan_of([model(A), replace(likely, wrong_guesses=5)], scene).decisions


def test_a_guess_for_which_nothing_must_go_is_made_only_when_it_is_likely():
    scene = slot(ready(A, loaded_s=LONG_AGO_S), budget_mib=20)
    assert not plan_of([model(A), model(B, expected_arrivals=0.3)], scene).decisions
    assert plan_of([model(A), model(B, expected_arrivals=0.4)], scene).decisions == load_of(B, why=Why.PREFETCH)


@pytest.mark.parametrize("load_s", [0.5, 4.0])
def test_a_model_whose_user_would_be_back_before_the_guess_is_ready_is_not_moved(load_s):
    """However slowly the guess loads, and however quickly what it moves would be back."""
    models = [model(A, expected_arrivals=20.0, load_s=load_s), model(B, expected_arrivals=1.0, load_s=60.0)]
    assert plan_of(models, slot(ready(A, loaded_s=LONG_AGO_S))).decisions == ()


def test_what_is_dearer_to_evict_stays():
    models = [model(A, expected_arrivals=0.2), model(B, expected_arrivals=0.2), model(C, waiting=1)]
    scene = slot(ready(A), ready(B), budget_mib=20)
    assert plan_of(models, scene).decisions[0].evict == (A,)
    models[0] = replace(models[0], eviction_weight=3.0)
    assert plan_of(models, scene).decisions[0].evict == (B,)


def test_of_two_that_nobody_is_expected_to_ask_for_the_one_used_longer_ago_goes():
    models = [model(A), model(B), model(C, waiting=1)]
    for ages, gone in (((300.0, 200.0), B), ((200.0, 300.0), A)):
        scene = slot(ready(A, last_used_s=ages[0]), ready(B, last_used_s=ages[1]), budget_mib=20)
        assert plan_of(models, scene).decisions[0].evict == (gone,)


def test_of_two_slots_the_one_whose_model_is_missed_least_makes_room():
    """Though the other one would be free a moment sooner."""
    models = [model(A, expected_arrivals=5.0, unload_s=0.1), model(B, unload_s=0.5), model(C, waiting=1)]
    for first, second, gone in ((A, B, "gpu1"), (B, A, "gpu0")):
        [load] = plan_of(models, *two_slots([ready(first)], [ready(second)])).decisions
        assert (load.slot, load.evict) == (gone, (B,))
    assert plan_of(models, *two_slots([ready(B)], [])).decisions[0].slot == "gpu1", "an empty one before both"


@pytest.mark.parametrize("stays", [{"pinned": True}, {"is_default": True}, {"keep": 1}])
def test_what_is_to_be_there_is_tried_again_once_its_pause_is_over_though_nobody_waits(stays):
    failure = FailureView(model=A, fails=1, retry_at_s=NOW_S + 9.0, quarantined=False)
    models = [model(A, **stays), model(B)]
    assert plan_of(models, slot(failures=(failure,))).decisions == ()
    over = replace(failure, retry_at_s=NOW_S)
    assert [d.model for d in plan_of(models, slot(failures=(over,))).decisions] == [A]
