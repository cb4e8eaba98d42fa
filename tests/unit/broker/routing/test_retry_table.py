"""The retry table, line by line: what comes after a try that failed; pauses are in ``test_breaker``'s cases too."""

import pytest

from broker.routing.fallback import POOL, FailedTry, FallbackMove, RetryRule, TryEnd, after, ends_all

AGAIN, NEXT, GIVE_BACK = FallbackMove.AGAIN, FallbackMove.NEXT, FallbackMove.GIVE_BACK
CLOUD = RetryRule()


@pytest.mark.parametrize(
    "failure, rule, tried, move",
    [
        (FailedTry(begun=True), POOL, 1, GIVE_BACK),
        (FailedTry(end=TryEnd.USELESS, begun=True), POOL, 1, GIVE_BACK),
        (FailedTry(end=TryEnd.FINAL), POOL, 1, GIVE_BACK),
        (FailedTry(end=TryEnd.REFUSED), POOL, 1, NEXT),
        (FailedTry(end=TryEnd.REFUSED), CLOUD, 1, NEXT),
        (FailedTry(end=TryEnd.USELESS), POOL, 2, AGAIN),
        (FailedTry(end=TryEnd.USELESS, is_next_better=True), POOL, 1, NEXT),
        (FailedTry(end=TryEnd.OFF_SCHEMA), CLOUD, 9, AGAIN),
        (FailedTry(status=401), CLOUD, 1, NEXT),
        (FailedTry(status=302), CLOUD, 1, NEXT),
        (FailedTry(status=400), CLOUD, 1, GIVE_BACK),
        (FailedTry(status=503), CLOUD, 1, AGAIN),
        (FailedTry(end=TryEnd.SILENT), POOL, 1, NEXT),
        (FailedTry(end=TryEnd.SILENT), CLOUD, 1, AGAIN),
        (FailedTry(), POOL, 1, AGAIN),
        (FailedTry(), POOL, 2, NEXT),
        (FailedTry(), RetryRule(tries=1), 1, NEXT),
    ],
)
def test_each_line_of_the_table(failure, rule, tried, move):
    assert after(failure, tried=tried, rule=rule)[0] is move


def test_the_pools_own_models_are_asked_again_without_a_pause_of_ours():
    assert after(FailedTry(), tried=1, rule=POOL) == (AGAIN, 0.0)


@pytest.mark.parametrize("end", TryEnd)
def test_only_the_last_word_and_an_answer_that_has_begun_keep_the_next_candidate_from_its_turn(end):
    assert ends_all(FailedTry(end=end)) is (end is TryEnd.FINAL)
    assert ends_all(FailedTry(end=end, begun=True))
