"""The circuit breaker, and what comes after a failure."""

import pytest

from broker.gateway.cloud.breaker import MAX_OWN, Breaker, BreakerRule, Breakers, BreakerState
from broker.gateway.trust.testimony import RequestSource
from broker.routing.decision import Choice, RouteDecision, RouteReason
from broker.routing.fallback import FailedTry, FallbackMove, RetryRule, after, following, retry_after_s
from broker.routing.route import RouteState

RULE = BreakerRule(failures=3, open_s=10, longest_s=35, probe_s=60)


def failed(breaker: Breaker, *moments_s: float) -> Breaker:
    for now_s in moments_s:
        breaker = breaker.fail(now_s)
    return breaker


def test_it_opens_after_several_failures_in_a_row():
    breaker = failed(Breaker(rule=RULE), 0, 1)
    assert breaker.allows(1)
    breaker = breaker.fail(2)
    assert (breaker.state, breaker.allows(11.9), breaker.allows(12)) == (BreakerState.OPEN, False, True)


def test_a_success_between_failures_counts_them_anew():
    breaker = failed(failed(Breaker(rule=RULE), 0, 1).succeed(), 2, 3)
    assert breaker.state is BreakerState.CLOSED


def test_one_probe_goes_and_closes_it():
    breaker = failed(Breaker(rule=RULE), 0, 0, 0).begin(10)
    assert (breaker.state, breaker.allows(11)) == (BreakerState.HALF_OPEN, False)
    assert breaker.begin(11) is breaker
    closed = breaker.succeed()
    assert (closed.state, closed.allows(11), closed.failed, closed.opened) == (BreakerState.CLOSED, True, 0, 0)


def test_an_answer_that_begins_lets_others_go_and_one_that_is_of_no_use_stops_them_at_once():
    breaker = failed(Breaker(rule=RULE), 0, 0, 0).begin(10).heard()
    assert (breaker.state, breaker.allows(11)) == (BreakerState.CLOSED, True)
    again = breaker.fail(12)
    assert (again.state, again.until_s) == (BreakerState.OPEN, 12 + 2 * 10)
    assert failed(Breaker(rule=RULE), 0, 0, 0).heard().state is BreakerState.OPEN, "an answer from before"
    assert Breaker().heard() == Breaker()


def test_each_probe_that_fails_doubles_the_pause_up_to_the_bound():
    breaker, now_s, pauses = failed(Breaker(rule=RULE), 0, 0, 0), 0.0, []
    for _ in range(4):
        pauses.append(breaker.until_s - now_s)
        now_s = breaker.until_s
        breaker = breaker.begin(now_s).fail(now_s)
    assert pauses == [10, 20, 35, 35]


def test_a_probe_nobody_heard_of_again_makes_way_for_the_next():
    breaker = failed(Breaker(rule=RULE), 0, 0, 0).begin(10)
    assert (breaker.allows(69), breaker.allows(70)) == (False, True)


def test_late_failures_of_calls_from_before_do_not_prolong_the_pause():
    breaker = failed(Breaker(rule=RULE), 0, 0, 0)
    assert breaker.fail(9).until_s == breaker.until_s


def test_a_closed_breaker_is_not_touched_by_a_call():
    assert Breaker().begin(5) == Breaker()


def test_each_upstream_has_its_own_breaker():
    breakers = Breakers(["acme", "bolt"], RULE)
    for now_s in (0, 1, 2):
        assert breakers.begin("acme", now_s)
        breakers.fail("acme", now_s)
    assert breakers.open(3) == {"acme"}
    assert not breakers.begin("acme", 3)
    assert breakers.begin("bolt", 3)
    assert breakers.open(12) == frozenset()
    assert breakers.begin("acme", 12)
    assert not breakers.begin("acme", 12), "one probe at a time"
    breakers.succeed("acme")
    assert breakers.begin("acme", 12)


@pytest.mark.parametrize(
    "failure, tried, left_s, move, wait_s",
    [
        (FailedTry(status=503), 1, None, FallbackMove.AGAIN, 0.5),
        (FailedTry(), 1, None, FallbackMove.AGAIN, 0.5),
        (FailedTry(status=429, retry_after_s=3), 1, None, FallbackMove.AGAIN, 3),
        (FailedTry(status=429, retry_after_s=0), 1, None, FallbackMove.AGAIN, 0),
        (FailedTry(status=429, retry_after_s=11), 1, None, FallbackMove.NEXT, 0),
        (FailedTry(status=429, retry_after_s=3), 1, 2, FallbackMove.NEXT, 0),
        (FailedTry(status=429, retry_after_s=3), 1, 4, FallbackMove.AGAIN, 3),
        (FailedTry(status=529), 2, None, FallbackMove.NEXT, 0),
        (FailedTry(status=401), 1, None, FallbackMove.NEXT, 0),
        (FailedTry(status=404), 1, None, FallbackMove.NEXT, 0),
        (FailedTry(status=400), 1, None, FallbackMove.GIVE_BACK, 0),
        (FailedTry(status=422), 1, None, FallbackMove.GIVE_BACK, 0),
        (FailedTry(status=503, begun=True), 1, None, FallbackMove.GIVE_BACK, 0),
        (FailedTry(begun=True), 1, None, FallbackMove.GIVE_BACK, 0),
    ],
)
def test_what_comes_after_a_failure(failure, tried, left_s, move, wait_s):
    assert after(failure, tried=tried, left_s=left_s) == (move, wait_s)


def test_without_retry_after_the_pause_doubles():
    rule = RetryRule(tries=4)
    assert [after(FailedTry(), tried=tried, rule=rule)[1] for tried in (1, 2, 3)] == [0.5, 1, 2]


@pytest.mark.parametrize(
    "value, seconds",
    [
        (None, None),
        ("7", 7),
        (" 7 ", 7),
        ("soon", None),
        ("-1", None),
        ("Sat, 21 Nov 2026 16:00:10 GMT", 10),
        ("Sat, 21 Nov 2026 15:00:00 GMT", 0),
        ("9" * 40, 999_999_999),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after_s(value, now_unix_s=1_795_276_800.0) == seconds


HOME = Choice(model="mini")
OUT = Choice(model="cloud/mid", upstream="acme", reserve_micro=100)
AWAY = Choice(model="cloud/alt", upstream="bolt", reserve_micro=200)
DECISION = RouteDecision(reason=RouteReason.WARM, choices=(HOME, OUT, AWAY))


@pytest.mark.parametrize(
    "tried, state, choice",
    [
        ([], RouteState(), HOME),
        ([HOME], RouteState(), OUT),
        ([HOME, OUT], RouteState(), AWAY),
        ([HOME, OUT, AWAY], RouteState(), None),
        ([HOME], RouteState(open_breakers=frozenset({"acme"})), AWAY),
        ([HOME], RouteState(allowance_micro=99), None),
        ([HOME], RouteState(allowance_micro=100), OUT),
        ([HOME], RouteState(session_private=True), None),
        ([], RouteState(session_private=True), HOME),
    ],
)
def test_the_next_choice_is_judged_by_the_state_of_now(tried, state, choice):
    assert following(DECISION, tried, state) == choice


A, B, OTHER = (RequestSource(party=party, session=f"{party}/1") for party in "abc")


def test_one_sessions_trouble_opens_the_breaker_for_itself_alone():
    breakers = Breakers(["acme"], BreakerRule())
    for _ in range(50):
        breakers.fail("acme", 0.0, A)
    assert breakers.open(1.0, A) == {"acme"}
    assert not breakers.begin("acme", 1.0, A)
    for other in (B, RequestSource(party="a", session="a/2"), None):
        assert breakers.open(1.0, other) == frozenset()
        assert breakers.begin("acme", 1.0, other)


def test_sessions_of_one_key_are_one_party_and_two_parties_open_it_for_all():
    breakers = Breakers(["acme"], BreakerRule())
    for number in range(50):
        breakers.fail("acme", 0.0, RequestSource(party="a", session=f"a/{number}"))
    assert breakers.open(1.0, OTHER) == frozenset()
    breakers.fail("acme", 1.0, B)
    breakers.fail("acme", 1.0, B)
    assert breakers.open(2.0, OTHER) == {"acme"}


def test_what_is_nobodys_doing_counts_in_full_and_a_good_answer_of_anybody_ends_the_row():
    breakers = Breakers(["acme"], BreakerRule())
    for _ in range(4):
        breakers.fail("acme", 0.0)
    breakers.succeed("acme", A)
    for _ in range(4):
        breakers.fail("acme", 0.0, A)
    breakers.succeed("acme", B)
    for _ in range(4):
        breakers.fail("acme", 0.0)
    assert breakers.open(1.0, B) == frozenset()
    breakers.fail("acme", 1.0)
    assert breakers.open(2.0, B) == {"acme"}


def test_a_sessions_own_breaker_lets_one_probe_through_and_closes_with_a_good_answer():
    breakers = Breakers(["acme"], BreakerRule())
    for _ in range(5):
        breakers.fail("acme", 0.0, A)
    assert breakers.begin("acme", 15.0, A)
    assert not breakers.begin("acme", 15.0, A)
    breakers.heard("acme", A)
    breakers.succeed("acme", A)
    assert breakers.open(16.0, A) == frozenset()


def test_own_breakers_are_bounded():
    breakers = Breakers(["acme"], BreakerRule())
    for number in range(MAX_OWN + 10):
        breakers.fail("acme", 0.0, RequestSource(party="a", session=str(number)))
    assert len(breakers._own) == MAX_OWN
