"""One candidate's turn, without a socket: when it is asked again, and when it is given up."""

import gc
import inspect
import weakref

import pytest

from broker.answers.schema.check import Contract
from broker.answers.verdict import ExpectedAnswer, Shape
from broker.answers.watcher import Watcher
from broker.core.errors import BackendError, QueueFullError
from broker.core.lease import ModelName
from broker.gateway.exchange import contract, delivery, passing
from broker.gateway.exchange.attempt import ENDS, AttemptTurn, FailedTryError, how_it_ended
from broker.gateway.exchange.candidates import Candidate, ServingPlan
from broker.gateway.exchange.contract import BrokenTryError, ContractBrokenError, Strict
from broker.gateway.exchange.delivery import UselessAnswerError
from broker.gateway.exchange.interruption import Interruption, ReaderWatch
from broker.http_client import errors as http_client_errors
from broker.http_client.errors import BrokenAnswerError, SilentError, UnreachableError
from broker.leasing import held_lease
from broker.leasing.held_lease import LeaseLostError
from broker.protocol.error_bodies import ClientError
from broker.routing.fallback import POOL, FailedTry, RetryRule, TryEnd
from tests.fakes.exchange_scene import ScriptedAttempt, progress_of


class Wanting(ServingPlan):
    """A plan that may change its mind about the current candidate."""

    def __init__(self, *, wants: bool = True) -> None:
        self.wants = wants

    async def following(self):
        return None

    async def still_wants(self, candidate):
        return self.wants


def attempt_of(*steps, plan=None, rule=None, progress=None):
    progress = progress or progress_of()
    interruption = Interruption()
    turn = AttemptTurn(
        progress=progress,
        candidate=Candidate(model=ModelName("a")),
        plan=plan or Wanting(),
        interruption=interruption,
        reader=ReaderWatch(progress.client, interruption, 100.0),
    )
    return ScriptedAttempt(turn, steps, rule)


def useless():
    """What the watcher says of an answer without content."""
    watcher = Watcher(ExpectedAnswer(shape=Shape.CHAT))
    watcher.begin(200, [(b"content-type", b"application/json")], 0.0)
    watcher.feed(b'{"choices": [{"message": {"content": ""}}]}', 0.0)
    verdict = watcher.end(0.0)
    assert verdict.failed
    return UselessAnswerError(verdict)


@pytest.mark.parametrize("error", [UnreachableError("no"), BrokenAnswerError("no"), LeaseLostError("no")])
async def test_who_gave_no_answer_is_asked_once_more(error):
    attempt = attempt_of(error, None)
    await attempt.run()
    assert (attempt.asked, attempt.turn.progress.retries) == (2, 1)


async def test_who_gave_no_answer_twice_is_given_up():
    attempt = attempt_of(UnreachableError("first"), UnreachableError("second"))
    with pytest.raises(UnreachableError, match="second"):
        await attempt.run()
    assert attempt.asked == 2


async def test_a_silent_model_of_the_pool_is_not_asked_again_and_a_silent_upstream_is():
    ours, upstream = attempt_of(SilentError("no"), None, rule=POOL), attempt_of(SilentError("no"), None)
    with pytest.raises(SilentError):
        await ours.run()
    await upstream.run()
    assert (ours.asked, upstream.asked) == (1, 2)


async def test_who_was_refused_is_not_asked_again():
    attempt = attempt_of(QueueFullError("full"), None)
    with pytest.raises(QueueFullError):
        await attempt.run()


async def test_a_useless_answer_is_asked_for_again_and_does_not_count_as_none():
    attempt = attempt_of(useless(), UnreachableError("no"), None)
    await attempt.run()
    assert attempt.asked == 3
    assert attempt.turn.progress.had_useless


async def test_a_useless_answer_is_left_to_a_better_candidate_and_counts_as_a_retry():
    attempt = attempt_of(useless(), None)
    attempt.is_next_better = True
    with pytest.raises(UselessAnswerError):
        await attempt.run()
    assert (attempt.asked, attempt.turn.progress.retries) == (1, 1)


async def test_what_breaks_its_schema_is_asked_for_cooler_until_the_contract_is_broken():
    progress = progress_of()
    progress.strict = Strict(Shape.CHAT, Contract({"type": "object"}), progress.call.body)
    attempt = attempt_of(*[BrokenTryError(())] * 9, progress=progress)
    with pytest.raises(ContractBrokenError):
        await attempt.run()
    assert attempt.asked == 4
    assert b'"temperature":0' in progress.body.replace(b" ", b"")


async def test_what_may_not_leave_any_more_is_not_asked_again():
    attempt = attempt_of(UnreachableError("no"), None, plan=Wanting(wants=False))
    with pytest.raises(UnreachableError):
        await attempt.run()
    assert attempt.asked == 1


async def test_a_kind_that_tells_its_failure_itself_is_taken_at_its_word():
    told = FailedTryError(ClientError(code="upstream_busy", message="no"), FailedTry(status=429, retry_after_s=7.0))
    attempt = attempt_of(told, None, rule=RetryRule(longest_s=10.0))
    await attempt.run()
    assert attempt.pauses_s == [7.0]


async def test_after_the_first_byte_nothing_is_asked_again():
    def breaks_off(attempt):
        attempt.turn.progress.client.answered = True
        return BrokenAnswerError("in the middle")

    attempt = attempt_of(breaks_off, None)
    with pytest.raises(BrokenAnswerError):
        await attempt.run()


@pytest.mark.parametrize("module", [contract, delivery, held_lease, http_client_errors, passing])
def test_every_error_of_our_side_that_can_end_a_try_stands_in_the_table(module):
    mine = [
        one
        for _, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, BackendError) and one.__module__ == module.__name__ and not one.__subclasses__()
    ]
    assert mine
    assert [one for one in mine if one not in dict(ENDS)] == []


def test_any_other_error_is_a_refusal():
    assert how_it_ended(QueueFullError("full"), begun=False).end is TryEnd.REFUSED


async def test_a_request_that_was_served_at_the_second_try_is_freed_without_a_collection():
    gc.collect()
    gc.disable()
    try:
        attempt = attempt_of(lambda _: UnreachableError("no"), None)
        seen = weakref.ref(attempt)
        await attempt.run()
        del attempt
        assert seen() is None
    finally:
        gc.enable()
