"""An upstream is asked: one request goes there and its answer comes back, piece by piece.

Rule: before every try the plan is asked whether the request may still leave, and money is put aside. Once a byte has
been passed on nothing is repeated. Answers are judged as those of the pool's models are, and one that is of no use
counts against the upstream as one that did not come.
"""

import asyncio
import math
import time
from dataclasses import dataclass

from broker.answers.asking import Asking
from broker.answers.verdict import ExpectedAnswer, Shape, Verdict, VerdictReason
from broker.gateway.cloud.spending import Spending
from broker.gateway.cloud.upstreams import Clouds
from broker.gateway.cloud.usage import Metered
from broker.gateway.exchange.attempt import Attempt, AttemptTurn, FailedTryError
from broker.gateway.exchange.delivery import AnswerSource, Delivery, Terms
from broker.http_client.answer import Answer
from broker.http_client.connection_pool import Request
from broker.http_client.errors import BrokenAnswerError, ServerError, UnreachableError
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.protocol.quoted import quoted, words_of
from broker.routing.budget import cost_of
from broker.routing.fallback import PASSING, FailedTry, FallbackMove, RetryRule, after, retry_after_s

BYTES_OF_TOKEN = 4
"""In an answer at least: a token's text is shorter, but it comes in an event."""
UNDER_WAY = 256
"""Tokens that may have been made while the end of a connection was on its way."""
SUCCESS = range(200, 300)
"""Statuses of an answer that is passed on; any other one is a refusal."""
FREE = frozenset({"/messages/count_tokens"})
LONGEST_RETRY_AFTER_S = 60.0


@dataclass(slots=True)
class _Bill:
    """What one try is booked with in the end."""

    micro: int = 0
    is_told: bool = False
    """Did the answer come to its end, or is it known to have cost nothing? Else it is a guess."""


class CloudAttempt(Attempt):
    """See above; it hears of its answers as an ``AnswerListener``."""

    def __init__(self, clouds: Clouds, spending: Spending, turn: AttemptTurn) -> None:
        upstream = turn.candidate.upstream
        assert upstream is not None
        self._name = name = str(upstream.choice.upstream)
        self._server = clouds.servers[name]
        super().__init__(turn, clouds.answers, RetryRule(tries=self._server.tries))
        self._clouds = clouds
        self._spending = spending
        self._choice, self._cloud, self._due_s = upstream.choice, upstream.cloud, upstream.due_s

    async def run(self) -> None:
        """See ``Attempt``; what breaks off after it has begun is an ``ServerError``."""
        self._turn.reader.start()
        try:
            await super().run()
        finally:
            self._keepalives.abort()
            self._turn.reader.stop()

    async def _prepare_retry(self, failure: FailedTry, pause_s: float) -> bool:  # noqa: ARG002  the pause says it all
        self._keepalives.start()
        await asyncio.sleep(pause_s)
        return await self._turn.plan.still_wants(self._turn.candidate)

    def _is_next_better(self) -> bool:
        """Another one's answer is better than another of the same, where there is another one."""
        return self._turn.plan.has_trusted()

    def _left_s(self) -> float | None:
        return None if self._due_s is None else self._due_s - self._now_s()

    async def _ask(self, tried: int) -> None:
        self._keepalives.start()
        choice, call, name = self._choice, self._progress.call, self._name
        free = call.endpoint.path in FREE
        reservation = await self._spending.reserve(call.caller.name, 0 if free else choice.reserve_micro)
        if reservation is None:
            raise ClientFacingError(_no_money(name))
        bill = _Bill()
        try:
            if not self._clouds.breakers.begin(name, self._now_s(), self._progress.source):
                raise ClientFacingError(_paused(name))
            bill.micro = reservation.micro  # from here on it may be billed
            await self._called(tried, bill)
        finally:
            untold_micro = 0 if bill.is_told else bill.micro
            self._spending.settle(reservation, bill.micro, untold_micro=untold_micro, upstream=name, model=choice.model)

    async def _called(self, tried: int, bill: _Bill) -> None:
        """Ask, and pass the answer on; the bill says what it cost, however that ends."""
        request = self._request()
        delivery = Delivery(self._progress, self._keepalives, self._terms(request), self)
        self._progress.granted_s = self._now_s()
        try:
            answer = await self._asked(request, bill)
        except asyncio.CancelledError:
            self._broken_off(bill, 0)
            raise
        source = Metered(answer)
        try:
            if answer.status not in SUCCESS:
                bill.micro = 0
                await self._refused(source, tried)
            await self._passed_on(source, delivery)
        except asyncio.CancelledError:
            self._broken_off(bill, source.size)
            raise
        finally:
            answer.close()
            if source.is_whole and bill.micro and self._cloud.prices is not None:
                bill.micro = cost_of(self._cloud.prices, source.usage(), bill.micro)
            bill.is_told = source.is_whole or not bill.micro

    def _broken_off(self, bill: _Bill, size: int) -> None:
        """We hang up: a stream ends there, and cost its prompt and what came; anything else may be made to its end."""
        if bill.micro and self._progress.call.asked.stream and self._cloud.prices is not None:
            came = self._cloud.prices.cost_micro(prompt_tokens=0, reply_tokens=size // BYTES_OF_TOKEN + UNDER_WAY)
            bill.micro -= max(0, self._choice.reply_micro - came)

    def _request(self) -> Request:
        call = self._progress.call
        return self._server.request(call.headers, call.target, self._progress.body, self._cloud)

    async def _asked(self, request: Request, bill: _Bill) -> Answer:
        """The head of its answer."""
        name = self._name
        try:
            answer = await self._clouds.connections[name].ask(self._server.base_url, request)
        except ServerError as error:
            if isinstance(error, UnreachableError):
                bill.micro = 0
            raise self._failed(error) from None
        if answer.status in PASSING:  # a 429 is about the operator's account, whoever asked
            source = None if answer.status == 429 else self._progress.source
            self._clouds.breakers.fail(name, self._now_s(), source)
        elif answer.status not in SUCCESS:
            self._clouds.breakers.succeed(name, self._progress.source)
        return answer

    async def _refused(self, source: Metered, tried: int) -> None:
        """It answers with an error: the client's, if it is about the request and can still be told as it is."""
        value = dict(source.headers).get(b"retry-after", b"").decode("latin-1") or None
        failure = FailedTry(status=source.status, retry_after_s=retry_after_s(value, time.time()))
        move, _ = after(failure, tried=tried, left_s=self._left_s(), rule=self._rule)
        if move is not FallbackMove.GIVE_BACK or self._client.status:
            said = await words_of(source, self._server.api_key)
            raise FailedTryError(_told(self._name, source.status, failure.retry_after_s, said), failure)

    async def _passed_on(self, source: Metered, delivery: Delivery) -> None:
        """Every byte."""
        try:
            await delivery.run(source)
        except ServerError as error:
            if self._client.answered:
                self._count(error)
                raise
            raise self._failed(error) from None

    def _terms(self, request: Request) -> Terms:
        stall_s = self._server.timing.stall_s
        return Terms(
            expected=self._expected(request),
            tries_left=0 if self._progress.had_useless else 1,
            first_s=stall_s,
            stall_s=stall_s,
            head_s=self._clouds.head_s,
            follows=SUCCESS,
        )

    # ------------------------------------------------------------------------------------------------- what it is worth
    def _expected(self, request: Request) -> ExpectedAnswer:
        """Of what it is asked, which is not what the client wrote where parameters change it."""
        call, cloud = self._progress.call, self._cloud
        return ExpectedAnswer(
            shape=Shape(call.endpoint.shape.value),
            models=(cloud.remote_name, *cloud.answers_as),
            others=None if cloud.answers_as else cloud.others,
            asking=Asking(call.endpoint.path, bytes(request.body) if cloud.parameters else call.body),
        )

    # ------------------------------------------------------------------------------------------------------- listening
    def came(self, answer: AnswerSource, piece: bytes) -> None:
        """See ``AnswerListener``."""
        if not piece and answer.status == 200:
            raise BrokenAnswerError(f"the upstream {self._name} answered with nothing")

    def begun(self) -> None:
        """See ``AnswerListener``."""
        self._clouds.breakers.heard(self._name, self._progress.source)

    def lives(self) -> None:
        """See ``AnswerListener``."""

    async def unfit(self, answer: AnswerSource, piece: bytes) -> ClientFacingError:  # noqa: ARG002  it is not quoted
        """See ``AnswerListener``."""
        return ClientFacingError(_told(self._name, answer.status, None, ""))

    def judged(self, verdict: Verdict, asked_s: float) -> None:
        """See ``AnswerListener``."""
        name = self._name
        self._answers.judged(self._choice.route, self._choice.model, verdict, asked_s)
        if verdict.blames_model:
            self._clouds.breakers.fail(name, self._now_s(), self._progress.source)
        elif verdict.reason is not VerdictReason.ABANDONED:
            self._clouds.breakers.succeed(name, self._progress.source)

    def _failed(self, error: ServerError) -> FailedTryError:
        """No answer, or not all of it."""
        self._count(error)
        message = f"the upstream {self._name} gave no answer ({error.code})"
        return FailedTryError(ClientError(code=error.code, message=message), FailedTry())

    def _count(self, error: ServerError) -> None:
        source = None if isinstance(error, UnreachableError) else self._progress.source
        self._clouds.breakers.fail(self._name, self._now_s(), source)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _no_money(name: str) -> ClientError:
    message = f"the budget does not hold what the upstream {name} would cost"
    return ClientError(code="budget_refused", message=message)


def _paused(name: str) -> ClientError:
    return ClientError(code="unavailable", message=f"the upstream {name} failed too often")


def _told(name: str, status: int, after_s: float | None, said: str) -> ClientError:
    message = f"the upstream {name} answered {status}{quoted(said)}"
    if status != 429:
        return ClientError(code="upstream_error", message=message)
    wait_s = math.ceil(max(1.0, min(LONGEST_RETRY_AFTER_S, 5.0 if after_s is None else after_s)))
    return ClientError(code="upstream_busy", message=message, retry_after_s=wait_s)
