"""A model in use is not moved for a guess: on any picture, and through whole stories of sessions on a virtual clock."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from broker.core.decisions import Load, Unload, Why
from broker.core.slot import SlotState
from broker.policy.decide import PolicySettings, decide
from schemas.residency import Residency
from simulator.hotseat_policy import Hotseat
from simulator.quiet import Sessions, Turns
from simulator.world import Spec, World
from tests.property.pool_pictures import carry_out, settings_of_any_kind, snapshots
from tests.searching import examples

thorough = examples(150)
UNASKED = {Why.PREFETCH, Why.RESTORE, Why.WARM}


def evictions(snapshot, plan, causes):
    """What loads of these causes evict: the decision, the model, its residency."""
    slots = {slot.slot: slot for slot in snapshot.slots}
    for decision in plan.decisions:
        if isinstance(decision, Load) and decision.why in causes:
            there = {residency.model: residency for residency in slots[decision.slot].residencies}
            yield from ((decision, snapshot.models[name], there[name]) for name in decision.evict)


# ---------------------------------------------------------------------------------------------------------- pictures
@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_no_prefetch_or_restore_evicts_what_is_spoken_for_or_kept_warm(snapshot, policy):
    for decision, model, residency in evictions(snapshot, decide(snapshot, policy), UNASKED):
        assert model.warm_leases == 0
        assert residency.use == 0
        assert model.waiting == 0
        assert model.spoken_for_s is None or model.spoken_for_s <= snapshot.now_s + 0.001
        if residency.last_used_s > residency.loaded_s:
            least_s = min(60.0 if model.spoken_for_s is not None else 300.0, policy.idle_restore_s)
            assert residency.last_used_s + least_s <= snapshot.now_s + 0.001
        if decision.why is Why.RESTORE and not residency.prefetched:
            assert max(residency.last_used_s, residency.loaded_s) + policy.idle_restore_s <= snapshot.now_s + 0.001


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_no_model_is_fetched_unasked_while_somebody_waits_for_a_load(snapshot, policy):
    plan = decide(snapshot, policy)
    asked = [d for d in plan.decisions if isinstance(d, Load) and d.why in {Why.WAITERS, Why.AGE_BOUND}]
    if asked:
        assert not [d for d in plan.decisions if isinstance(d, Load) and d.why in UNASKED]


def copies(snapshot, model):
    return sum(
        residency.model == model and residency.state in {Residency.READY, Residency.LOADING}
        for slot in snapshot.slots
        if slot.state is SlotState.OPEN
        for residency in slot.residencies
    )


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_a_pinned_model_loses_no_copy_that_it_is_to_have(snapshot, policy):
    after = carry_out(snapshot, decide(snapshot, policy))
    for name, model in snapshot.models.items():
        if model.pinned and model.release_vram_after_s is None:
            assert copies(after, name) >= min(copies(snapshot, name), model.copies)


@thorough
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_nothing_unasked_takes_a_copy_of_what_is_to_be_there_and_nothing_warm_is_given_back(snapshot, policy):
    plan = decide(snapshot, policy)
    gone = defaultdict(int)
    for _, model, _ in evictions(snapshot, plan, {Why.PREFETCH, Why.RESTORE}):
        gone[model.name] += 1
    for name, count in gone.items():
        assert copies(snapshot, name) - count >= min(copies(snapshot, name), snapshot.models[name].copies)
    for decision in plan.decisions:
        if isinstance(decision, Unload) and decision.why is Why.RELEASE_VRAM:
            assert snapshot.models[decision.model].warm_leases == 0


def quiet(snapshot):
    """Nobody waits, nothing is to be there: one in fifteen of such pictures makes the policy guess."""
    plain = {
        "queues": (), "unestimated": 0, "expected_sum_s": 0.0, "expected_arrivals": 1.0, "warm_leases": 0, "keep": 0,
        "pinned": False, "is_default": False, "off": "", "resting": False, "wrong_guesses": 0, "spoken_for_s": 0.0,
    }  # fmt: skip
    models = {name: replace(model, **plain) for name, model in snapshot.models.items()}
    slots = tuple(replace(slot, failures=()) for slot in snapshot.slots)
    return replace(snapshot, models=models, slots=slots, queued=0)


@examples(1000)
@given(snapshot=snapshots(), policy=settings_of_any_kind)
def test_one_guess_per_use(snapshot, policy):
    snapshot = quiet(snapshot)
    plan = decide(snapshot, policy)
    after = carry_out(snapshot, plan)
    guessed = {(d.slot, d.model) for d in plan.decisions if isinstance(d, Load) and d.why is Why.PREFETCH}
    asked_s = max(model.asked_s for model in after.models.values())
    open_slots = [slot for slot in after.slots if slot.state is SlotState.OPEN]
    states = {Residency.READY, Residency.LOADING}
    there = {
        (slot.slot, r.model)
        for slot in open_slots
        for r in slot.residencies
        if r.state in states and r.started_s >= asked_s and r.why in {"prefetch", "restore", "pinned"}
    }
    assert len(guessed) <= 1
    if guessed:
        assert there == guessed


# ----------------------------------------------------------------------------------------------------------- stories
class Watched(Hotseat):
    """Notes every load and what went for it."""

    def __init__(self, policy):
        super().__init__(policy)
        self.moves = []

    def _apply(self, world, decision):
        if isinstance(decision, Load):
            self.moves.append((world.now_s, decision))
        super()._apply(world, decision)


LOADS_S = st.sampled_from([1.0, 4.0, 15.0, 60.0])
PACE_S = st.sampled_from([0.5, 2.0, 15.0, 60.0, 150.0])


@st.composite
def stories(draw):
    """A few models, of which one or two fit; sessions with a pace and a model of their own; maybe a default."""
    names = [f"m{i}" for i in range(draw(st.integers(2, 4)))]
    default = draw(st.sampled_from([None, *names]))
    size_gb = draw(st.sampled_from([10.0, 6.0]))
    specs = [Spec(name=name, memory_gb=size_gb, load_s=draw(LOADS_S), is_default=name == default) for name in names]
    sessions = []
    for number in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 15))
        pace_s = draw(PACE_S)
        jitter = st.floats(0.75, 1.25, allow_nan=False)
        sessions.append(
            Turns(
                name=f"s{number}",
                model=draw(st.sampled_from(names)),
                begins_s=draw(st.floats(0.0, 600.0, allow_nan=False)),
                holds_s=[draw(st.sampled_from([0.5, 3.0, 20.0])) for _ in range(count)],
                gaps_s=[pace_s * draw(jitter) for _ in range(count)],
            )
        )
    return specs, sessions


def told(story, policy=None):
    """Play it, and an idle hour and a half after it."""
    specs, sessions = story
    world, scheduler = World(specs, budget_gb=12.0), Watched(policy or PolicySettings())
    jobs = world.run(Sessions(sessions), scheduler, until_s=12_000.0)
    assert len(jobs) == sum(len(session.holds_s) for session in sessions)
    return jobs, scheduler


def unasked(scheduler):
    return [(at_s, d) for at_s, d in scheduler.moves if d.why in UNASKED]


long_stories = examples(60)


@long_stories
@given(story=stories(), idle_s=st.sampled_from([20.0, 300.0]))
def test_no_prefetch_or_restore_evicts_a_model_used_more_recently_than_its_users_usual_gap(story, idle_s):
    jobs, scheduler = told(story, PolicySettings(idle_restore_s=idle_s))
    uses = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.arrival_s):
        uses[job.session, job.model].append(job)
    for at_s, decision in unasked(scheduler):
        for (_, model), turns in uses.items():
            before = [turn for turn in turns if turn.arrival_s <= at_s]
            if model in decision.evict and before:
                assert before[-1].done_s <= at_s, "moved while it was used or waited for"
                gaps_s = [b.arrival_s - a.done_s for a, b in pairwise(before)]
                assert at_s - before[-1].done_s >= (median(gaps_s) if len(gaps_s) >= 3 else min(60.0, idle_s)) - 0.01


@long_stories
@given(story=stories())
def test_between_two_uses_by_one_session_nothing_but_somebody_elses_use_moves_its_model(story):
    jobs, scheduler = told(story)
    turns = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.arrival_s):
        turns[job.session].append(job)
    for at_s, decision in unasked(scheduler):
        for mine in turns.values():
            for one, two in pairwise(mine):
                assert not (one.model in decision.evict and one.arrival_s <= at_s < two.arrival_s), decision.why


@long_stories
@given(story=stories())
def test_an_idle_hour_sees_one_load_at_most_and_the_one_after_it_none(story):
    jobs, scheduler = told(story)
    over_s = max(job.done_s for job in jobs)
    loads_s = [at_s for at_s, _ in scheduler.moves if at_s > over_s]
    assert len(loads_s) <= 1
    assert all(at_s < over_s + 3600.0 for at_s in loads_s)


@long_stories
@given(story=stories())
def test_with_nobody_active_the_default_is_there(story):
    jobs, scheduler = told(story)
    default = next((spec.name for spec in story[0] if spec.is_default), None)
    if default is not None:
        here = scheduler.last[0].slots[0].residencies
        assert [r.state for r in here if r.model == default] == [Residency.READY]
        assert max(job.done_s for job in jobs) < 12_000.0 - 1900.0 - 60.0, "time enough for every usual gap"
