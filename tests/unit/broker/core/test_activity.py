import pytest

from broker.core.activity import BINS, EDGES_S, FORGET_S, WARM_ARRIVALS, Activity
from broker.core.lease import ModelName

A, B, C = ModelName("a"), ModelName("b"), ModelName("c")


def talk(activity, session, models, *, start_s=0.0, think_s=60.0, lease_s=10.0):
    at_s = start_s
    for model in models:
        activity.observe_arrival(session, model, at_s)
        activity.observe_end(session, model, at_s + lease_s)
        at_s += lease_s + think_s
    return at_s - think_s


def test_the_bins_cover_half_an_hour():
    assert len(EDGES_S) == BINS + 1
    assert EDGES_S[-1] == pytest.approx(FORGET_S)
    assert list(EDGES_S) == sorted(EDGES_S)


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
    assert all(len(session.own) <= 16 for session in activity._sessions.values())
    assert len(activity._hints) <= 10


def test_the_same_story_teaches_the_same():
    def story():
        activity = Activity()
        for i in range(30):
            talk(activity, f"s{i % 7}", [A, B, C][: 1 + i % 3], start_s=40.0 * i)
        return activity.all_expected(1300.0)

    assert story() == story()


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
