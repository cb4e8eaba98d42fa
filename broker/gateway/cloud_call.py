"""Passes one request to one upstream and its answer back, piece by piece; tries again where that may help.

Rule: before every try the plan is asked whether the request may still leave. Once a byte has been passed on nothing is
repeated.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from broker.gateway.clouds import Clouds, from_upstream
from broker.gateway.desk import Progress
from broker.gateway.headers import is_event_stream, to_the_client
from broker.gateway.purse import Purse
from broker.gateway.speaker import Speaker
from broker.gateway.troubles import STATUS, Trouble, TroubleError
from broker.gateway.usage import Meter
from broker.routing.budget import cost_of
from broker.routing.catalogue import Prices
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudCall:
    """One choice."""

    clouds: Clouds
    purse: Purse
    progress: Progress
    choice: Choice
    prices: Prices
    may_go: Callable[[], Awaitable[bool]]
    """May the request still leave, to this upstream?"""
    left_s: Callable[[], float | None]
    """Until the deadline; None: no hurry."""

    async def run(self) -> None:
        """Pass everything on.

        Raises:
            CloudFailedError: It did not help; the next candidate may.
            UpstreamError: The answer broke off after it had begun.
        """
        speaker = Speaker(self.progress, self.progress.call.limits)
        speaker.start()
        tried = 1
        try:
            while True:
                try:
                    return await self._try(speaker, tried)
                except CloudFailedError as error:
                    if error.move is not Move.AGAIN:
                        raise
                    await asyncio.sleep(error.pause_s)
                    if not await self.may_go():
                        raise
                tried += 1
                self.progress.retries += 1
        finally:
            speaker.abort()

    async def _try(self, speaker: Speaker, tried: int) -> None:
        choice, call = self.choice, self.progress.call
        name = str(choice.upstream)
        free = call.endpoint.path in FREE
        reservation = await self.purse.reserve(call.caller.name, 0 if free else choice.reserve_micro)
        if reservation is None:
            raise CloudFailedError(_no_money(name))
        cost = 0
        try:
            if not self.clouds.breakers.begin(name, self._now_s()):
                raise CloudFailedError(_paused(name))
            cost = reservation.micro  # from here on it may be billed
            answer = await self._asked(tried)
            try:
                if not 200 <= answer.status < 300:
                    cost = 0
                    await self._refused(answer, speaker, tried)
                else:
                    cost = await self._passed_on(answer, speaker, tried, cost, free=free)
            finally:
                answer.close()
        except _UnbilledError as error:
            cost = 0
            raise error.cause from None
        finally:
            self.purse.settle(reservation, cost, upstream=name, model=choice.model)

    async def _asked(self, tried: int) -> Answer:
        """The head of its answer."""
        name, call = str(self.choice.upstream), self.progress.call
        server = self.clouds.servers[name]
        request = server.request(call.headers, call.target, call.body, self.choice.remote_name)
        try:
            answer = await self.clouds.connections[name].ask(server.base_url, request)
        except UnreachableError as error:
            raise _UnbilledError(self._failed(error, tried)) from None
        except UpstreamError as error:
            raise self._failed(error, tried) from None
        if answer.status in PASSING:
            self.clouds.breakers.fail(name, self._now_s())
        else:
            self.clouds.breakers.succeed(name)
        return answer

    async def _refused(self, answer: Answer, speaker: Speaker, tried: int) -> None:
        """It answers with an error: the client's, if it is about the request and can still be told as it is."""
        headers = dict(answer.headers)
        pause_s = retry_after_s(headers.get(b"retry-after", b"").decode("latin-1") or None, time.time())
        move, wait_s = self._after(Failure(status=answer.status, retry_after_s=pause_s), tried)
        if move is not Move.GIVE_BACK or self.progress.client.status:
            raise CloudFailedError(_told(str(self.choice.upstream), answer.status, pause_s), move, wait_s)
        await self._passed_on(answer, speaker, tried, 0, free=True)

    async def _passed_on(self, answer: Answer, speaker: Speaker, tried: int, cost: int, *, free: bool) -> int:
        """Every byte; gives the cost."""
        name, client = str(self.choice.upstream), self.progress.client
        timing = self.clouds.servers[name].timing
        try:
            piece = await answer.read(timing.stall_s)
            if not piece and answer.status == 200:
                raise BrokenAnswerError(f"the upstream {name} answered with nothing")
        except UpstreamError as error:
            raise self._failed(error, tried) from None
        await speaker.stop()
        if client.status and not is_event_stream(answer.headers):
            raise CloudFailedError(_told(name, answer.status, None))
        if client.status == 0:
            client.answered = True
            await client.begin(answer.status, to_the_client(from_upstream(answer.headers), self.progress.served()))
        client.answered = True
        meter = Meter()
        try:
            pieces = [piece] if piece else []
            while pieces:
                for piece in pieces:
                    meter.feed(piece)
                await client.pieces(pieces)
                pieces = await answer.read_all(timing.stall_s)
        except UpstreamError:
            self.clouds.breakers.fail(name, self._now_s())
            raise
        await client.finish()
        return 0 if free else cost_of(self.prices, meter.usage(), cost)

    def _failed(self, error: UpstreamError, tried: int) -> CloudFailedError:
        """No answer."""
        name = str(self.choice.upstream)
        self.clouds.breakers.fail(name, self._now_s())
        move, wait_s = self._after(Failure(), tried)
        message = f"the upstream {name} gave no answer ({error.code})"
        return CloudFailedError(Trouble(status=STATUS[error.code], code=error.code, message=message), move, wait_s)

    def _after(self, failure: Failure, tried: int) -> tuple[Move, float]:
        rule = RetryRule(tries=self.clouds.servers[str(self.choice.upstream)].tries)
        return after(failure, tried=tried, left_s=self.left_s(), rule=rule)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


class _UnbilledError(Exception):
    """Nothing was sent."""

    def __init__(self, cause: CloudFailedError) -> None:
        super().__init__()
        self.cause = cause


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
