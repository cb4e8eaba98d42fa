"""A model of the pool is asked: a lease, its line, its server, and the lease given back.

1. A lease, at once or after waiting in line; one that is lost in line, because this broker was away for too long, is
   asked for again.
2. The model server is asked. A break before its first byte is tried once more, on a lease that is good then.
3. The lease is given back after the last byte, when the client goes away (also from the line), and on every error;
   only a client that was sent away keeps its place.
"""

import asyncio
import math

from broker.core.errors import HotseatError, LifeEndedError, ModelTooLargeError
from broker.core.lease import EndReason, LeaseRecord, LeaseState
from broker.core.refusals import REFUSAL_PAUSE_S, of_reason
from broker.gateway.exchange.attempt import Attempt, AttemptTurn
from broker.gateway.exchange.candidates import TooLateError
from broker.gateway.exchange.context import GatewayContext
from broker.gateway.exchange.interruption import InterruptCause
from broker.gateway.exchange.passing import Passing
from broker.gateway.exchange.queueing import LeaseWait, SentAwayError, no_worker
from broker.http_client.errors import BrokenAnswerError, ServerError
from broker.leasing.held_lease import GivenBack, Hold, LeaseLostError
from broker.leasing.service import Wish
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.routing.fallback import POOL, FailedTry, TryEnd

LIVES = 3
"""A lease that is lost in line with the broker's life is asked for again this often."""
SLACK_S = 0.5
"""A client may be this much early."""


class LocalAttempt(Attempt):
    """See above."""

    def __init__(self, context: GatewayContext, turn: AttemptTurn) -> None:
        super().__init__(turn, context.accounts.answers, POOL)
        self._context = context
        self._candidate = turn.candidate
        self._hold: Hold | None = None
        self._given: GivenBack | None = None

    async def run(self) -> None:
        """See ``Attempt``; its line is left in time if somebody else may serve."""
        try:
            if self._candidate.until_s is None:
                await super().run()
            else:
                await self._run_until(self._candidate.until_s)
        except SentAwayError as error:
            await self._leave_behind(error)
            raise
        finally:
            self._let_go()

    async def _run_until(self, until_s: float) -> None:
        loop, plan, patience = asyncio.get_running_loop(), self._turn.plan, asyncio.timeout(None)

        def look() -> None:
            if self._hold is None and plan.has_more():
                patience.reschedule(loop.time())

        timer = loop.call_at(until_s, look)
        try:
            async with patience:
                await super().run()
        except TimeoutError:
            if not patience.expired():
                raise
            plan.leave_line()
            raise TooLateError(self._candidate.model) from None
        finally:
            timer.cancel()

    # -------------------------------------------------------------------------------------------------------- tries
    async def _ask(self, tried: int) -> None:
        if self._hold is None:
            await self._take_lease()
        await self._with_lease(tries_left=0 if self._progress.had_useless else POOL.tries - tried)

    async def _prepare_retry(self, failure: FailedTry, pause_s: float) -> bool:  # noqa: ARG002  the pool says when
        """Drop a lease that has ended: it is no good for another try; a server without an answer may have died."""
        if failure.end is TryEnd.NO_ANSWER:
            await self._wait_for_lease_end()
        self._forget_ended()
        return True

    def _is_next_better(self) -> bool:
        source, now_s = self._progress.source, self._client.now_s()
        if not self._turn.plan.has_more():
            return False
        return not self._context.reputations.is_preferred(self._candidate.model, source, now_s)

    # -------------------------------------------------------------------------------------------------------- lease
    async def _take_lease(self) -> None:
        progress = self._progress
        record = await self._in_line()
        for _ in range(LIVES):
            if record is not None and not _was_lost(record):
                break
            record = await self._in_line()
        if record is None:
            raise ClientFacingError(RESTLESS)
        if record.state is not LeaseState.ACTIVE:
            raise _why_not(record)
        progress.waited_s, progress.position = progress.since_start_s(), 0
        progress.granted_s, progress.load_error = self._client.now_s(), ""
        assert self._given is not None
        self._hold = self._context.holds.take(record, self._given, self._turn.reader.look)

    async def _in_line(self) -> LeaseRecord | None:
        """Ask for a lease and wait for it; None: this broker's life was over, and another one has to be begun."""
        context, progress, candidate = self._context, self._progress, self._candidate
        call = progress.call
        life = await context.life.now()
        wish = Wish(
            session=call.identity.session,
            model=candidate.model,
            priority=call.priority,
            holder=f"v1:{context.settings.broker}",
            single=True,
            life=life,
            place=call.fingerprint,
            named=call.identity.named,
            only_warm=call.only_warm,
        )
        request = context.leasing.request_of(call.caller, wish)
        # An interruption while the store is asked must not leave a lease behind.
        self._given = GivenBack(call.caller, request)
        try:
            record = await context.leasing.acquire(request)
        except LifeEndedError:
            context.life.is_over(life, "over")
            return None
        self._given = GivenBack(call.caller, request, record)
        progress.lease_id = record.lease_id
        waits = record.state is LeaseState.QUEUED
        progress.reason = (candidate.in_line if waits else candidate.at_once) or candidate.reason
        return await LeaseWait(context, progress).wait(record) if waits else record

    def _lost(self) -> None:
        self._turn.interruption.interrupt(InterruptCause.LEASE_ENDED)

    async def _with_lease(self, *, tries_left: int) -> None:
        hold = self._hold
        assert hold is not None
        hold.on_end = self._lost
        deaths = self._context.deaths
        deaths.flights.begin(hold.record, self._progress)
        passing = Passing(self._context, self._progress, self._keepalives, hold.record, tries_left=tries_left)
        try:
            await passing.run()
        except asyncio.CancelledError:
            if not self._turn.interruption.make_up_for_lease():
                raise
            raise LeaseLostError(f"the lease ended before the answer did: {hold.ended}") from None
        except ServerError as error:
            if hold.ended is None:
                if isinstance(error, BrokenAnswerError):
                    suspect, now_s = self._progress.suspect(), self._client.now_s()
                    deaths.broke_off(hold.record, suspect, now_s, begun=passing.has_begun)
                raise
            raise LeaseLostError(f"the lease ended before the answer did: {hold.ended}") from None
        finally:
            hold.on_end = None
            deaths.flights.end(hold.record)

    async def _wait_for_lease_end(self) -> None:
        """A server gave no answer: wait until its lease has ended, or for long enough to believe that it has not.

        Without this a new lease would lead to the same dead server.
        """
        hold = self._hold
        assert hold is not None
        if hold.ended is None:
            known = asyncio.get_running_loop().create_future()
            hold.on_end = lambda: None if known.done() else known.set_result(None)
            await asyncio.wait({known}, timeout=self._context.settings.dead_server_s)
            hold.on_end = None

    def _forget_ended(self) -> None:
        """A lease that ended under us is no good for another try."""
        if self._hold is not None and self._hold.ended is not None:
            self._context.holds.drop(self._hold)
            self._hold = self._given = None

    def _let_go(self) -> None:
        holds = self._context.holds
        hold, self._hold = self._hold, None
        given, self._given = self._given, None
        if hold is not None:
            holds.drop(hold)
        if given is not None and (hold is None or hold.ended is None):
            holds.give_back(given)

    async def _leave_behind(self, sent: SentAwayError) -> None:
        """The ticket stays in the store. Whoever goes away before it was told so leaves the line."""
        assert self._given is not None
        early_s, kept_s = max(0.0, sent.back_after_s - SLACK_S), self._context.settings.kept_s + SLACK_S
        await self._context.holds.send_away(self._given, sent.record, back_s=early_s, kept_s=kept_s)
        self._given = None


RESTLESS = ClientError(code="store_unavailable", message="the broker loses its store again and again")


def _was_lost(record: LeaseRecord) -> bool:
    """With the life of the broker, in line; the client has waited on and knows of nothing."""
    return record.state is LeaseState.ENDED and record.reason.startswith(EndReason.LOST)


def _why_not(record: LeaseRecord) -> HotseatError | ClientFacingError:
    """Of a ticket that ended in line."""
    refusal = of_reason(record.model, record.reason, math.ceil(record.retry_in_s) or REFUSAL_PAUSE_S)
    if refusal is not None:
        return refusal
    if ModelTooLargeError.code in record.reason:
        return ModelTooLargeError("no slot of the pool could ever hold the model beside what is pinned there")
    if "no_worker" in record.reason:
        return no_worker(record)
    message = f"the place in line ended: {record.reason or record.state.value}"
    return ClientFacingError(ClientError(code="place_lost", message=message))
