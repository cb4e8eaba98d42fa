"""One request and its candidates, without a socket: who is asked, in which order, and what ends it."""

import asyncio

import pytest

from broker.core.errors import QueueFullError, UnknownModelError
from broker.core.lease import LeaseRecord
from broker.gateway.exchange.exchange import Exchange
from broker.gateway.exchange.interruption import InterruptCause
from broker.gateway.exchange.queueing import SentAwayError
from broker.http_client.errors import BrokenAnswerError, SilentError
from broker.protocol.client_side import ClientGoneError
from broker.protocol.error_bodies import ClientError, ClientFacingError
from tests.fakes.exchange_scene import Outgoing, ScriptedAttempt, listed, progress_of

AWAY = ClientError(code="queued", message="not free yet")


class Scripted:
    """An exchange whose candidates do what their scripts say."""

    def __init__(self, progress, **scripts) -> None:
        self.progress, self.scripts, self.attempts = progress, scripts, []
        self.exchange = Exchange(progress, self._attempt, reader_stall_s=100.0)

    def _attempt(self, turn):
        attempt = ScriptedAttempt(turn, self.scripts[turn.candidate.model])
        self.attempts.append(attempt)
        return attempt

    @property
    def asked(self):
        return [(one.turn.candidate.model, one.asked) for one in self.attempts]


async def test_candidates_are_asked_in_order_until_one_has_answered():
    scripted = Scripted(progress_of(), a=[UnknownModelError("no")], b=[SilentError("no")] * 2, c=[None], d=[None])
    await scripted.exchange.serve(listed("a", "b", "c", "d"))
    assert scripted.asked == [("a", 1), ("b", 2), ("c", 1)]
    assert (scripted.progress.model, scripted.progress.reason) == ("c", "choice-c")


async def test_where_all_fail_the_client_hears_what_the_last_one_said():
    scripted = Scripted(progress_of(), a=[UnknownModelError("no")], b=[QueueFullError("full")])
    with pytest.raises(QueueFullError):
        await scripted.exchange.serve(listed("a", "b"))


async def test_where_nobody_may_serve_the_client_is_told_so():
    with pytest.raises(ClientFacingError) as caught:
        await Scripted(progress_of()).exchange.serve(listed())
    assert (caught.value.trouble.code, caught.value.trouble.status) == ("unavailable", 503)


@pytest.mark.parametrize(
    "last_word",
    [
        pytest.param(lambda _: SentAwayError(AWAY, LeaseRecord, 1), id="the client is sent away"),
        pytest.param(lambda one: begun(one) or BrokenAnswerError("in the middle"), id="the answer has begun"),
    ],
)
async def test_after_the_last_word_nobody_else_is_asked(last_word):
    scripted = Scripted(progress_of(), a=[last_word], b=[None])
    with pytest.raises((SentAwayError, BrokenAnswerError)):
        await scripted.exchange.serve(listed("a", "b"))
    assert scripted.asked == [("a", 1)]


def begun(attempt):
    attempt.turn.progress.client.answered = True


async def test_for_a_client_that_has_closed_nothing_is_begun():
    outgoing = Outgoing()
    outgoing.has_closed = True
    scripted = Scripted(progress_of(outgoing), a=[None])
    with pytest.raises(ClientGoneError):
        await scripted.exchange.serve(listed("a"))
    assert scripted.attempts == []


async def test_what_one_candidate_left_behind_is_not_told_of_the_next():
    def in_line(attempt):
        attempt.turn.progress.lease_id, attempt.turn.progress.position = "L", 4
        attempt.turn.progress.load_error, attempt.turn.progress.eta_s = "its load failed", 9.0
        return QueueFullError("full")

    scripted = Scripted(progress_of(), a=[in_line], b=[None])
    await scripted.exchange.serve(listed("a", "b"))
    progress = scripted.progress
    assert (progress.lease_id, progress.position, progress.load_error, progress.eta_s) == ("", 0, "", None)


async def test_a_client_that_goes_interrupts_whatever_is_waited_for_and_nobody_else_is_asked():
    waiting = asyncio.Event()

    async def wait(_):
        waiting.set()
        await asyncio.Event().wait()

    scripted = Scripted(progress_of(), a=[wait], b=[None])
    served = asyncio.create_task(scripted.exchange.serve(listed("a", "b")))
    await waiting.wait()
    scripted.exchange.interruption.interrupt(InterruptCause.CLIENT_GONE)
    with pytest.raises(asyncio.CancelledError):
        await served
    assert scripted.exchange.interruption.cause is InterruptCause.CLIENT_GONE
    assert scripted.asked == [("a", 1)]
