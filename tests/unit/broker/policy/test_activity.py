import pytest

from broker.core.lease import ModelName
from broker.policy.activity import MOST_MODELS, MOST_TURNS, WARM_ARRIVALS, Activity
from broker.policy.habits import AWAY_S, FORGET_S, OWN_GAPS, TURN_PAUSE_S

A, B, C = ModelName("a"), ModelName("b"), ModelName("c")


def talk(activity, session, models, *, start_s=0.0, think_s=60.0, lease_s=10.0):
    at_s = start_s
    for model in models:
        activity.observe_arrival(session, model, at_s)
        activity.observe_end(session, model, at_s + lease_s)
        at_s += lease_s + think_s
    return at_s - think_s


def test_nothing_is_expected_of_nobody():
    assert Activity().expected(A, 100.0) == 0.0


def test_a_session_that_pauses_is_expected_back_with_its_model():
    activity = Activity()
    now_s = talk(activity, "s", [A] * 12) + 30.0
    assert activity.expected(A, now_s) > 0.6
    assert activity.expected(B, now_s) < 0.1


def test_expectation_fades_when_it_does_not_come():
    activity = Activity()
    end_s = talk(activity, "s", [A] * 12)
    assert activity.expected(A, end_s + 1000.0) < 0.5 * activity.expected(A, end_s + 5.0)


def test_a_session_goes_back_to_its_own_main_model():
    activity = Activity()
    for i in range(20):
        talk(activity, f"other{i}", [B, C], start_s=10.0 * i)
    end_s = talk(activity, "s", [A, B, A, B, A, B, A, B], start_s=5000.0)
    assert activity.expected(A, end_s + 30.0) > activity.expected(C, end_s + 30.0)


def test_new_sessions_come_at_a_base_rate():
    activity = Activity()
    for i in range(60):
        talk(activity, f"s{i}", [A], start_s=60.0 * i)
    assert activity.expected(A, 60.0 * 60 + FORGET_S) == pytest.approx(1.0, rel=0.5)


def test_a_warm_lease_raises_its_model():
    activity = Activity()
    activity.observe_warm(A, 2)
    assert activity.expected(A, 0.0) == 2 * WARM_ARRIVALS
    activity.observe_warm(A, 0)
    assert activity.expected(A, 0.0) == 0.0


def test_a_hint_counts_until_it_is_used_or_late():
    activity = Activity()
    activity.observe_hint("s", A, due_s=100.0)
    assert activity.expected(A, 20.0) == 0.0
    assert activity.expected(A, 50.0) == 1.0
    activity.observe_hint("s", A, due_s=100.0)
    activity.observe_arrival("s", A, 90.0)
    assert activity.expected(A, 92.0) < 0.5
    activity.observe_hint("s", B, due_s=100.0)
    assert activity.expected(B, 500.0) == 0.0


def test_memory_is_bounded():
    activity = Activity(max_sessions=10)
    for i in range(100):
        talk(activity, f"s{i}", [ModelName(f"m{j}") for j in range(50)], start_s=float(i))
        activity.observe_hint(f"s{i}", A, 1e9)
    assert len(activity._sessions) == 10
    for session in activity._sessions.values():
        assert len(session.own) <= 16
        assert len(session.uses) <= MOST_MODELS
        assert len(session.began) <= MOST_TURNS
        assert len(session.gaps.seconds) <= OWN_GAPS
    assert all(len(sessions) <= 10 for sessions in activity._spoken_for.values())
    assert len(activity._hints) <= 10


def test_the_same_story_teaches_the_same():
    def story():
        activity = Activity()
        for i in range(30):
            talk(activity, f"s{i % 7}", [A, B, C][: 1 + i % 3], start_s=40.0 * i)
        return activity.all_expected(1300.0)

    assert story() == story()


def test_what_a_live_agent_does_says_nothing_of_somebody_who_asked_once():
    """The fault that was: two seconds between an agent's turns made a dead session's return seem certain."""
    activity = Activity()
    talk(activity, "one-off", [A])
    now_s = talk(activity, "agent", [B] * 30, start_s=30.0, think_s=2.0, lease_s=1.0)
    assert activity.expected(B, now_s) > 0.9
    assert activity.expected(A, now_s) < 0.3


def test_a_model_is_spoken_for_until_the_usual_gap_of_its_last_user_is_over():
    activity = Activity()
    assert activity.spoken_for_until_s(A, 0.0) is None
    ended_s = talk(activity, "s", [A])
    assert activity.spoken_for_until_s(A, ended_s) == ended_s + AWAY_S
    ended_s = talk(activity, "s", [A] * 10, start_s=ended_s + 90.0, think_s=90.0)
    assert activity.spoken_for_until_s(A, ended_s) == ended_s + 180.0
    ended_s = talk(activity, "s", [A] * 20, start_s=ended_s + 2.0, think_s=2.0)
    assert activity.spoken_for_until_s(A, ended_s) == ended_s + TURN_PAUSE_S


def test_the_longest_usual_gap_counts_and_each_sessions_own_gaps():
    activity = Activity()
    slow_s = talk(activity, "slow", [A] * 6, think_s=400.0)
    quick_s = talk(activity, "quick", [A] * 12, start_s=slow_s + 1.0, think_s=1.5)
    assert activity.spoken_for_until_s(A, quick_s) == slow_s + 800.0
    assert activity.spoken_for_until_s(A, slow_s + 801.0) == slow_s + 800.0, "over, but known"


def test_a_lease_that_is_held_speaks_for_its_model():
    activity = Activity()
    ended_s = talk(activity, "s", [A] * 12, think_s=2.0)
    activity.observe_arrival("s", A, ended_s + 2.0)
    assert activity.spoken_for_until_s(A, ended_s + 900.0) == ended_s + 2.0 + FORGET_S


def test_a_model_used_in_the_middle_of_turns_only_is_not_spoken_for():
    """A sub-agent's: what the session comes back to is the model that its turns begin with."""
    activity, at_s = Activity(), 0.0
    for _ in range(4):
        talk(activity, "s", [A, B], start_s=at_s, think_s=0.2)
        at_s += 60.0
    ended_s = at_s - 60.0 + 20.2
    assert activity.spoken_for_until_s(A, ended_s) > ended_s
    assert activity.spoken_for_until_s(B, ended_s) <= ended_s
    assert activity.expected(A, ended_s + 5.0) > activity.expected(B, ended_s + 5.0)
    talk(activity, "s", [B], start_s=ended_s + 40.0)
    assert activity.spoken_for_until_s(B, ended_s + 51.0) > ended_s + 51.0, "now a turn began with it"


def test_a_lease_that_began_before_anybody_listened_speaks_for_its_model_when_it_ends():
    activity = Activity()
    activity.observe_end("s", A, 50.0)
    assert activity.spoken_for_until_s(A, 60.0) == 50.0 + AWAY_S


def test_who_left_the_line_speaks_for_nothing_and_is_not_expected():
    activity = Activity()
    activity.observe_arrival("s", A, 10.0)
    activity.observe_leave("s", A, 12.0)
    assert activity.spoken_for_until_s(A, 13.0) is None
    assert activity.expected(A, 13.0) == 0.0
    base = Activity()
    base.observe_arrival("s", A, 10.0)
    activity.observe_arrival("s", A, 20.0)
    activity.observe_end("s", A, 25.0)
    assert activity.expected(A, 26.0) > base.expected(A, 26.0)


def test_a_lease_held_for_hours_does_not_keep_older_sessions_in_memory():
    activity = Activity()
    activity.observe_arrival("long", A, 0.0)
    talk(activity, "short", [B], start_s=1.0)
    activity.all_expected(2 * FORGET_S)
    assert set(activity._sessions) == {"long"}


def test_who_left_the_line_unserved_taught_nothing_and_is_not_expected_back():
    activity = Activity()
    now_s = talk(activity, "agent", [A] * 6) + 20.0
    before = activity.expected(A, now_s)
    for session in ("agent", "stranger"):
        activity.observe_arrival(session, B, now_s)
        activity.observe_leave(session, B, now_s + 1.5)
    assert activity.expected(B, now_s + 5.0) == 0.0
    assert activity.expected(A, now_s + 5.0) < before / 2, "a new session may still begin with it"
    activity.observe_arrival("agent", A, now_s + 10.0)
    activity.observe_end("agent", A, now_s + 20.0)
    assert activity.expected(A, now_s + 30.0) > before / 2
