"""Which sessions keep their model warm."""

from dataclasses import replace

import pytest

from hooks.openclaw.poller.activity import (
    ActivitySettings,
    ModelNames,
    Origin,
    Phase,
    Reading,
    SessionReading,
    SessionWatch,
    Warm,
    WarmVerdict,
)

WALL_S = 1_800_000_000.0
SETTINGS = ActivitySettings(active_s=900, silent_run_s=2100, ttl_s=120)
ALPHA = Warm(session="agent:main:main", model="alpha")
TALKING = SessionReading(
    key="agent:main:main",
    origin=Origin.PERSON,
    phase=Phase.RESTING,
    model="hotseat/alpha",
    interacted_s=WALL_S - 30,
    run_started_s=WALL_S - 28,
    sign_s=WALL_S - 20,
)
RUNNING = replace(TALKING, phase=Phase.RUNNING)
SPAWNED = replace(TALKING, origin=Origin.SPAWNED)


def watch(**models) -> SessionWatch:
    names = {"names": {}, "providers": frozenset({"hotseat"}), **models}
    return SessionWatch(settings=SETTINGS, models=ModelNames(**names))


def reading(*sessions: SessionReading, at_s: float = 0.0, faults: tuple[str, ...] = ()) -> Reading:
    return Reading(sessions=sessions, now_s=WALL_S + at_s, faults=faults)


def ago(seconds: float) -> float:
    return WALL_S - seconds


@pytest.mark.parametrize(
    "session, verdict",
    [
        (TALKING, WarmVerdict.KEEP),
        (replace(TALKING, interacted_s=ago(899)), WarmVerdict.KEEP),
        (replace(TALKING, interacted_s=ago(901)), WarmVerdict.LAPSE),
        (replace(TALKING, interacted_s=None), WarmVerdict.LAPSE),
        # a heartbeat's run: nobody spoke before it, or long before it
        (replace(RUNNING, interacted_s=ago(5000), run_started_s=ago(10)), WarmVerdict.LAPSE),
        (replace(RUNNING, interacted_s=None, run_started_s=ago(10)), WarmVerdict.LAPSE),
        # a turn that takes hours, and one that shows no life any more
        (replace(RUNNING, interacted_s=ago(9000), run_started_s=ago(8990), sign_s=ago(60)), WarmVerdict.KEEP),
        (replace(RUNNING, interacted_s=ago(9000), run_started_s=ago(8990), sign_s=ago(2200)), WarmVerdict.LAPSE),
        (replace(RUNNING, run_started_s=None), WarmVerdict.KEEP),
        # /stop, then /new
        (replace(TALKING, phase=Phase.STOPPED), WarmVerdict.GIVE_BACK),
        (replace(TALKING, phase=Phase.NEW, interacted_s=ago(1)), WarmVerdict.GIVE_BACK),
        # a sub-agent before, during and after its run
        (replace(SPAWNED, phase=Phase.NEW), WarmVerdict.KEEP),
        (replace(SPAWNED, phase=Phase.RUNNING), WarmVerdict.KEEP),
        (replace(SPAWNED, phase=Phase.RESTING), WarmVerdict.GIVE_BACK),
        # cron
        (replace(RUNNING, origin=Origin.AUTOMATIC), WarmVerdict.LAPSE),
    ],
)
def test_rule(session: SessionReading, verdict: WarmVerdict):
    assert watch().judge(session, WALL_S, 50.0) is verdict


@pytest.mark.parametrize(
    "model, ours",
    [
        ("hotseat/alpha", "alpha"),
        ("hotseat/org/alpha:7b", "org/alpha:7b"),
        ("other/alpha", None),
        ("other/beta", "beta-q4"),
        (None, "deep"),
        ("hotseat/", None),
        ("hotseat/with space", None),
    ],
)
def test_model_names(model: str | None, ours: str | None):
    seen = watch(names={"other/beta": "beta-q4"}, default="hotseat/deep")
    plan = seen.plan(reading(replace(TALKING, model=model)), 0.0)
    assert [warm.model for warm in plan.renew] == ([ours] if ours else [])
    assert plan.foreign == (() if ours else (model,))


@pytest.mark.parametrize("key", ["a{b}", "x" * 257, "line\nbreak", ""])
def test_session_keys_the_broker_would_refuse_are_left_out(key: str):
    assert watch().plan(reading(replace(TALKING, key=key)), 0.0).renew == ()


def test_a_renewal_is_due_after_a_third_of_the_ttl_and_only_if_it_was_accepted():
    seen = watch()
    assert seen.plan(reading(TALKING), 0.0).renew == (ALPHA,)
    assert seen.plan(reading(TALKING), 10.0).renew == (ALPHA,)  # it was never accepted
    seen.published(ALPHA, 10.0)
    assert seen.plan(reading(TALKING), 49.0).renew == ()
    assert seen.plan(reading(TALKING), 50.0).renew == (ALPHA,)


def test_another_model_gives_the_first_one_back():
    seen = watch()
    seen.plan(reading(TALKING), 0.0)
    seen.published(ALPHA, 0.0)
    plan = seen.plan(reading(replace(TALKING, model="hotseat/beta")), 10.0)
    assert (plan.renew, plan.release) == ((Warm(session=ALPHA.session, model="beta"),), (ALPHA,))
    assert seen.plan(reading(replace(TALKING, model="hotseat/beta")), 20.0).release == (ALPHA,)  # not accepted yet
    seen.released(ALPHA)
    assert seen.plan(reading(replace(TALKING, model="hotseat/beta")), 30.0).release == ()


def test_only_what_was_published_is_given_back():
    assert watch().plan(reading(replace(TALKING, phase=Phase.STOPPED)), 0.0).release == ()


def test_a_session_that_went_quiet_lapses_without_a_release():
    seen = watch()
    seen.plan(reading(TALKING), 0.0)
    seen.published(ALPHA, 0.0)
    plan = seen.plan(reading(TALKING, at_s=880), 880.0)
    assert (plan.renew, plan.release, plan.kept) == ((), (), 0)


@pytest.mark.parametrize("wrong_s", [-7200.0, 7200.0])
def test_a_source_whose_clock_is_wrong_keeps_a_session_for_as_long_as_one_whose_clock_is_right(wrong_s: float):
    seen = watch()
    # the source stamps with its own clock, `now_s` is by chance another one: off by two hours at first sight
    quiet = replace(TALKING, interacted_s=WALL_S + wrong_s)
    seen.plan(reading(quiet), 0.0)
    # somebody speaks between two looks: recent, whatever the stamps say
    spoken = replace(quiet, interacted_s=WALL_S + wrong_s + 10)
    assert seen.plan(reading(spoken, at_s=10), 10.0).kept == 1
    assert seen.plan(reading(spoken, at_s=905), 895.0).kept == 1
    assert seen.plan(reading(spoken, at_s=920), 920.0).kept == 0


def test_a_clock_that_jumps_neither_lapses_nor_keeps_anybody():
    seen = watch()
    seen.plan(reading(TALKING), 0.0)
    for jump_s in (-86_400.0, 86_400.0):
        assert seen.plan(reading(TALKING, at_s=jump_s), 500.0).kept == 1
    assert seen.plan(reading(TALKING, at_s=-86_400.0), 880.0).kept == 0


def test_what_cannot_be_read_for_a_while_is_not_forgotten():
    seen = watch()
    seen.plan(reading(TALKING), 0.0)
    seen.plan(reading(faults=("locked",)), 10.0)
    assert seen.plan(reading(TALKING, at_s=-86_400), 890.0).kept == 0  # still known by its first stamp


def test_memory_stays_bounded_by_the_sessions_there_are():
    seen = watch()
    for number in range(50):
        session = replace(TALKING, key=f"agent:main:{number}")
        for warm in seen.plan(reading(session), number * 200.0).renew:
            seen.published(warm, number * 200.0)
    assert (len(seen._seen), len(seen._published)) == (2, 1)
