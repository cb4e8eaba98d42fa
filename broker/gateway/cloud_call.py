"""Passes one request to one upstream and its answer back, piece by piece; tries again where that may help.

Rule: before every try the plan is asked whether the request may still leave, and money is put aside. Once a byte has
been passed on nothing is repeated. Answers are judged as those of the pool's models are, and one that is of no use
counts against the upstream as one that did not come.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from broker.answers.asking import Asking
from broker.answers.verdict import Expected, Reason, Shape, Verdict
from broker.gateway.clouds import Clouds
from broker.gateway.contract import BrokenTryError
from broker.gateway.delivery import Delivery, Terms, UselessAnswerError
from broker.gateway.desk import Progress
from broker.gateway.headers import is_event_stream
from broker.gateway.purse import Purse
from broker.gateway.speaker import Speaker
from broker.gateway.troubles import STATUS, Trouble, TroubleError
from broker.gateway.usage import Metered
from broker.routing.budget import cost_of
from broker.routing.catalogue import Cloud
from broker.routing.decision import Choice
from broker.routing.fallback import PASSING, Failure, Move, RetryRule, after, retry_after_s
from broker.upstream.answer import Answer
from broker.upstream.errors import BrokenAnswerError, UnreachableError, UpstreamError

FREE = frozenset({"/messages/count_tokens"})
LONGEST_RETRY_AFTER_S = 60.0


class CloudFailedError(TroubleError):
    """A try failed, and the client has nothing of it. ``move`` and ``pause_s`` say what comes next."""

    def __init__(self, trouble: Trouble, move: Move = Move.NEXT, pause_s: float = 0.0) -> None:
        super().__init__(trouble)
        self.move = move
        self.pause_s = pause_s


@dataclass(slots=True)
class _Bill:
    """What one try is booked with in the end."""

    micro: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudCall:
    """One choice."""

    clouds: Clouds
    purse: Purse
    progress: Progress
    choice: Choice
    cloud: Cloud
    may_go: Callable[[], Awaitable[bool]]
    """May the request still leave, to this upstream?"""
    has_others: Callable[[], bool]
    """Would another candidate be asked if this one were given up now?"""
    left_s: Callable[[], float | None]
    """Until the deadline; None: no hurry."""

    async def run(self) -> None:
        """Pass everything on.

        Raises:
            CloudFailedError, UselessAnswerError: It did not help; the next candidate may.
            ContractBrokenError: Every answer broke the schema that the request wants held.
            UpstreamError: The answer broke off after it had begun.
        """
        speaker = Speaker(self.progress, self.progress.call.limits)
        tried, pause_s = 1, 0.0
        try:
            while True:
                speaker.start()
                try:
                    return await self._try(speaker, tried)
                except CloudFailedError as error:
                    if error.move is not Move.AGAIN:
                        raise
                    failed: Exception = error
                    tried, pause_s = tried + 1, error.pause_s
                except (UselessAnswerError, BrokenTryError) as error:
                    self._prepare_another(error)
                    failed, pause_s = error, 0.0
                speaker.start()
                await asyncio.sleep(pause_s)
                if not await self.may_go():
                    raise failed
                self.progress.retries += 1
        finally:
            speaker.abort()

    def _prepare_another(self, error: UselessAnswerError | BrokenTryError) -> None:
        """Of no use: another one's answer is better than another of the same; a broken schema: the same, cooler.

        Raises:
            UselessAnswerError: Another candidate is to be asked.
            ContractBrokenError: It was the last attempt.
        """
        if isinstance(error, BrokenTryError):
            self.clouds.answers.broke_schema(self.choice.route, self.choice.model)
            assert self.progress.strict is not None
            self.progress.strict.again(error)
            return
        self.progress.had_useless = True
        if self.has_others():
            self.progress.retries += 1
            raise error

    async def _try(self, speaker: Speaker, tried: int) -> None:
        choice, call = self.choice, self.progress.call
        name = str(choice.upstream)
        free = call.endpoint.path in FREE
        reservation = await self.purse.reserve(call.caller.name, 0 if free else choice.reserve_micro)
        if reservation is None:
            raise CloudFailedError(_no_money(name))
        bill = _Bill()
        try:
            if not self.clouds.breakers.begin(name, self._now_s(), self.progress.source):
                raise CloudFailedError(_paused(name))
            bill.micro = reservation.micro  # from here on it may be billed
            await self._called(speaker, tried, bill)
        finally:
            self.purse.settle(reservation, bill.micro, upstream=name, model=choice.model)

    async def _called(self, speaker: Speaker, tried: int, bill: _Bill) -> None:
        """Ask, and pass the answer on; the bill says what it cost, however that ends."""
        tries_left = 0 if self.progress.had_useless else 1
        delivery = Delivery(self.progress, self._expected(), self._terms(speaker), tries_left=tries_left)
        self.progress.granted_s = self._now_s()
        answer = await self._asked(tried, bill)
        source = Metered(answer)
        try:
            if not 200 <= answer.status < 300:
                bill.micro = 0
                self._refused(source, tried)
            await self._passed_on(source, delivery, speaker, tried)
        finally:
            answer.close()
            if source.is_whole and bill.micro:
                bill.micro = cost_of(self.cloud.prices, source.usage(), bill.micro)

    async def _asked(self, tried: int, bill: _Bill) -> Answer:
        """The head of its answer."""
        name, call = str(self.choice.upstream), self.progress.call
        server = self.clouds.servers[name]
        request = server.request(call.headers, call.target, self.progress.body, self.choice.remote_name)
        try:
            answer = await self.clouds.connections[name].ask(server.base_url, request)
        except UpstreamError as error:
            if isinstance(error, UnreachableError):
                bill.micro = 0
            raise self._failed(error, tried) from None
        if answer.status in PASSING:  # a 429 is about the operator's account, whoever asked
            source = None if answer.status == 429 else self.progress.source
            self.clouds.breakers.fail(name, self._now_s(), source)
        elif not 200 <= answer.status < 300:
            self.clouds.breakers.succeed(name, self.progress.source)
        return answer

    def _refused(self, source: Metered, tried: int) -> None:
        """It answers with an error: the client's, if it is about the request and can still be told as it is."""
        headers = dict(source.headers)
        pause_s = retry_after_s(headers.get(b"retry-after", b"").decode("latin-1") or None, time.time())
        move, wait_s = self._after(Failure(status=source.status, retry_after_s=pause_s), tried)
        if move is not Move.GIVE_BACK or self.progress.client.status:
            raise CloudFailedError(_told(str(self.choice.upstream), source.status, pause_s), move, wait_s)

    async def _passed_on(self, source: Metered, delivery: Delivery, speaker: Speaker, tried: int) -> None:
        """Every byte."""
        name, client = str(self.choice.upstream), self.progress.client
        try:
            piece = await source.read(self._stall_s)
            if not piece and source.status == 200:
                raise BrokenAnswerError(f"the upstream {name} answered with nothing")
            if not delivery.keeps_all_of(source):  # else the client hears keepalives while it is kept
                await speaker.stop()
            if client.status and not is_event_stream(source.headers):
                raise CloudFailedError(_told(name, source.status, None))
            await delivery.run(source, piece)
        except UpstreamError as error:
            failed = self._failed(error, tried)
            if client.answered:
                raise
            raise failed from None

    # ------------------------------------------------------------------------------------------------- what it is worth
    def _expected(self) -> Expected:
        call, cloud = self.progress.call, self.cloud
        return Expected(
            shape=Shape(call.endpoint.shape.value),
            models=(cloud.remote_name, *cloud.answers_as),
            others=None if cloud.answers_as else cloud.others,
            asking=Asking(call.endpoint.path, call.body),
        )

    @property
    def _stall_s(self) -> float:
        return self.clouds.servers[str(self.choice.upstream)].timing.stall_s

    def _terms(self, speaker: Speaker) -> Terms:
        return Terms(
            stall_s=self._stall_s,
            head_s=self.clouds.head_s,
            begun=self._begun,
            quiet=speaker.stop,
            judged=self._judged,
        )

    def _begun(self) -> None:
        self.clouds.breakers.heard(str(self.choice.upstream), self.progress.source)

    def _judged(self, verdict: Verdict, asked_s: float) -> None:
        name = str(self.choice.upstream)
        self.clouds.answers.judged(self.choice.route, self.choice.model, verdict, asked_s)
        if verdict.blames_model:
            self.clouds.breakers.fail(name, self._now_s(), self.progress.source)
        elif verdict.reason is not Reason.ABANDONED:
            self.clouds.breakers.succeed(name, self.progress.source)

    def _failed(self, error: UpstreamError, tried: int) -> CloudFailedError:
        """No answer, or not all of it."""
        name = str(self.choice.upstream)
        source = None if isinstance(error, UnreachableError) else self.progress.source
        self.clouds.breakers.fail(name, self._now_s(), source)
        move, wait_s = self._after(Failure(), tried)
        message = f"the upstream {name} gave no answer ({error.code})"
        return CloudFailedError(Trouble(status=STATUS[error.code], code=error.code, message=message), move, wait_s)

    def _after(self, failure: Failure, tried: int) -> tuple[Move, float]:
        rule = RetryRule(tries=self.clouds.servers[str(self.choice.upstream)].tries)
        return after(failure, tried=tried, left_s=self.left_s(), rule=rule)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _no_money(name: str) -> Trouble:
    message = f"the budget does not hold what the upstream {name} would cost"
    return Trouble(status=429, code="budget_refused", message=message)


def _paused(name: str) -> Trouble:
    return Trouble(status=503, code="unavailable", message=f"the upstream {name} failed too often", retry_after_s=5)


def _told(name: str, status: int, after_s: float | None) -> Trouble:
    message = f"the upstream {name} answered {status}"
    if status != 429:
        return Trouble(status=502, code="upstream_error", message=message)
    wait_s = math.ceil(max(1.0, min(LONGEST_RETRY_AFTER_S, 5.0 if after_s is None else after_s)))
    return Trouble(status=429, code="upstream_busy", message=message, retry_after_s=wait_s)
