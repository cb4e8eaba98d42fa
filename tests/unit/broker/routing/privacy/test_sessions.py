"""Sessions that were private once."""

import uuid

import pytest

from broker.routing.privacy.sessions import PrivateSessions, made_unix_s, one_session
from broker.store.labels import text_hash


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


def test_beyond_the_bound_nobody_is_forgotten_and_memory_is_bounded():
    sessions = PrivateSessions(limit=10)
    names = [f"ours{text_hash(f's{number}')}" for number in range(100_000)]
    for name in names:
        sessions.mark(name, 0)
    assert len(sessions) <= 10 + 32**3
    assert all(sessions.is_private(name, 1) for name in names)


def test_a_flood_of_one_keys_private_sessions_makes_nobody_elses_private():
    sessions = PrivateSessions(limit=10)
    for number in range(100_000):
        sessions.mark(f"loud{text_hash(f's{number}')}", 0)
    assert not any(sessions.is_private(f"mine{text_hash(f's{number}')}", 1) for number in range(1000))


def test_a_crowds_marks_are_forgotten_when_idle():
    sessions = PrivateSessions(limit=1, idle_s=100)
    for name in ("a", "b", "c"):
        sessions.mark(name, 0)
    assert not any(sessions.is_private(name, 150) for name in ("a", "b", "c"))


def test_a_clock_that_goes_back_forgets_nobody():
    sessions = PrivateSessions(idle_s=100)
    sessions.mark("a", 1000)
    assert sessions.is_private("a", 0)
    assert sessions.is_private("a", 1050)


def test_what_another_one_must_be_told_is_all_that_lives_with_its_age():
    sessions = PrivateSessions(limit=2, idle_s=100)
    for name, now_s in (("whosaaab", 0), ("whosbbbb", 40), ("whoscccc", 60), ("whosdddd", 120)):
        sessions.mark(name, now_s)
    assert dict(sessions.marks(130)) == {"whoscccc": 70, "whosdddd": 10, "crowd:whosbbb": 90}


@pytest.mark.parametrize(
    "written",
    ["agent:main", "Agent:Main", "AGENT:MAIN", " agent:main ", "agent: main", "agent:\tmain\n", "agent:\u00a0main",
     "agent\u200b:main", "\ufeffagent:main", "\uff41gent:main", "agent:\u00admain"],
)  # fmt: skip
def test_ids_that_differ_in_case_or_blanks_are_one_session(written):
    assert one_session(written) == "agent:main"


def test_ids_that_differ_otherwise_are_two_and_long_ones_take_no_square():
    assert one_session("agent:main") != one_session("agent-main")
    assert one_session("STRASSE") == one_session("stra\u00dfe")
    assert one_session("x\u0315\u0300" * 200_000)


MADE = 1_790_000_000.0
V7 = f"{int(MADE * 1000):012x}"
V7 = f"{V7[:8]}-{V7[8:]}-7abc-8def-0123456789ab"


def ulid(at_s: float) -> str:
    number, letters = int(at_s * 1000), "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(letters[number >> 5 * (9 - at) & 31] for at in range(10)) + "0123456789ABCDEF"


@pytest.mark.parametrize(
    "session, made_s",
    [
        (V7, MADE),
        (V7.upper(), MADE),
        (f"agent:main:{V7}", MADE),
        (V7.replace("-", ""), MADE),
        (ulid(MADE), MADE),
        (str(uuid.UUID(fields=(0x5B8F0F00, 0x1234, 0x11F0, 0x80, 0x01, 0x0123456789AB))), "v1"),
        ("agent:main", None),
        (str(uuid.UUID(int=5, version=4)), None),
        ("", None),
        (f"{V7}|{ulid(MADE + 900)}", MADE),
    ],
)
def test_some_ids_say_when_they_were_made(session, made_s):
    if made_s == "v1":
        made_s = (uuid.UUID(session).time - 0x01B21DD213814000) / 1e7
    assert made_unix_s(session) == (None if made_s is None else pytest.approx(made_s, abs=0.01))
