"""Sessions that were private once."""

from broker.routing.sessions import PrivateSessions


def test_a_session_stays_private_while_it_is_seen():
    sessions = PrivateSessions(idle_s=100)
    assert not sessions.is_private("a", 0)
    assert sessions.mark("a", 0)
    assert not sessions.mark("a", 1)
    for now_s in range(50, 1000, 90):
        assert sessions.is_private("a", now_s)
    assert not sessions.is_private("b", 0)


def test_an_idle_session_is_forgotten():
    sessions = PrivateSessions(idle_s=100)
    sessions.mark("a", 0)
    assert not sessions.is_private("a", 100)
    assert len(sessions) == 0


def test_a_session_that_ends_is_forgotten():
    sessions = PrivateSessions()
    sessions.mark("a", 0)
    sessions.end("a")
    assert not sessions.is_private("a", 1)


def test_beyond_the_bound_nobody_is_forgotten_and_memory_is_bounded():
    sessions = PrivateSessions(limit=10, crowd=32)
    names = [f"s{number}" for number in range(1000)]
    for name in names:
        sessions.mark(name, 0)
    assert len(sessions) <= 10 + 32
    assert all(sessions.is_private(name, 1) for name in names)


def test_a_crowds_marks_are_forgotten_when_idle():
    sessions = PrivateSessions(limit=1, idle_s=100, crowd=4)
    for name in ("a", "b", "c"):
        sessions.mark(name, 0)
    assert not any(sessions.is_private(name, 150) for name in ("a", "b", "c"))


def test_a_session_that_ended_in_the_crowd_stays_private():
    sessions = PrivateSessions(limit=1)
    sessions.mark("a", 0)
    sessions.mark("b", 0)
    sessions.end("a")
    assert sessions.is_private("a", 1)


def test_a_clock_that_goes_back_forgets_nobody():
    sessions = PrivateSessions(idle_s=100)
    sessions.mark("a", 1000)
    assert sessions.is_private("a", 0)
    assert sessions.is_private("a", 1050)


def test_what_another_process_knew_is_learnt():
    sessions = PrivateSessions(idle_s=100)
    sessions.learn([("a", 0), ("b", 950)])
    assert (sessions.is_private("a", 1000), sessions.is_private("b", 1000)) == (False, True)
