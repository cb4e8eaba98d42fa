"""One request, from its place in line to the last byte of its answer.

1. The candidates are tried in order, each with a lease of its own; quarantined models are left out, suspects come last.
2. Each gets a lease, at once or after waiting in line; one that is lost in line, because this broker was away for too
   long, is asked for again.
3. The model server is asked; a break before its first byte, or an answer of no use that nobody saw, is tried once more,
   on a lease that is good then; where the model is suspect by now, by the next candidate.
4. Its pieces are passed on as they come; a break after the first one ends the answer with an error in its protocol.
5. The lease is given back after the last byte, when the client goes away (also from the line), and on every error; only
   a client that was sent away keeps its place.

Everything may be interrupted, at any wait: the client goes, the lease ends, the client stops reading. For a client that
has closed its connection already nothing is begun.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from broker.core.errors import BackendError, HotseatError, LifeEndedError
from broker.core.lease import EndReason, LeaseRecord, LeaseState
from broker.gateway.candidates import Candidate, Plan, TooLateError
from broker.gateway.contract import BrokenTryError, ContractBrokenError
from broker.gateway.delivery import UselessAnswerError
from broker.gateway.desk import Call, Desk, Progress
from broker.gateway.holding import Given, Hold
from broker.gateway.line import Line, SentAwayError
from broker.gateway.passing import Passing, RefusedError
from broker.gateway.reputations import LOCAL
from broker.gateway.troubles import Trouble, TroubleError
from broker.leasing import ClientGoneError, Wish
from broker.upstream.errors import BrokenAnswerError, UnreachableError, UpstreamError

TRIES = 2
LIVES = 3
"""A lease that is lost in line with the broker's life is asked for again this often."""
SLACK_S = 0.5
"""A client may be this much early."""
NOBODY = Trouble(status=503, code="unavailable", message="nothing may serve this request now", retry_after_s=5)


class Cause(Enum):
    """Why an exchange is interrupted."""

    CLIENT_GONE = auto()
    CLIENT_STALLED = auto()
    LEASE_ENDED = auto()


class LeaseLostError(BackendError):
    """The lease ended under us."""

    code = "lease_lost"


class Exchange:
    """See above."""

    def __init__(self, desk: Desk, call: Call, progress: Progress) -> None:
        self._desk = desk
        self._call = call
        self._progress = progress
        self._client = progress.client
        self._task: asyncio.Task[object] | None = None
        self.cause: Cause | None = None
        """The interruption that ended it, if one did."""
        self._hold: Hold | None = None
        self._given: Given | None = None
        self._reader_timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------------------ interruptions
    def interrupt(self, cause: Cause) -> None:
        """Stop whatever it waits for; the first cause counts, unless that may be made up for (a lost lease)."""
        if self._task is None:
            return
        if self.cause is None:
            self.cause = cause
            self._task.cancel()
        elif self.cause is Cause.LEASE_ENDED:
            self.cause = cause

    def _look_at_reader(self) -> None:
        since_s = self._client.sending_since_s
        if since_s is None:
            return
        if asyncio.get_running_loop().time() - since_s >= self._desk.settings.reader_stall_s:
            self.interrupt(Cause.CLIENT_STALLED)

    # --------------------------------------------------------------------------------------------------- candidates
    async def serve(self, plan: Plan) -> None:
        """Serve the request.

        Raises:
            HotseatError, TroubleError: What to tell the client.
            ClientGoneError: It had gone before anything was asked for.
            CancelledError: Interrupted; ``cause`` says why, None: the process ends.
        """
        self._task = asyncio.current_task()
        failed: Exception = TroubleError(NOBODY)
        try:
            while (candidate := await plan.following()) is not None:
                try:
                    return await self._by(candidate, plan)
                except (SentAwayError, ContractBrokenError):
                    raise
                except (TroubleError, HotseatError) as error:
                    if self._client.answered:
                        raise
                    failed = error
            raise failed
        finally:
            self._task = None

    async def _by(self, candidate: Candidate, plan: Plan) -> None:
        if self._client.has_closed():
            raise ClientGoneError
        progress = self._progress
        progress.model, progress.route, progress.reason = candidate.model, candidate.route, candidate.reason
        progress.lease_id, progress.position, progress.eta_s, progress.granted_s = "", 0, None, None
        if progress.checks is not None:
            progress.strict, progress.validated = progress.checks.of(candidate.model)
        if candidate.call is not None:
            await self._outside(candidate.call)
        elif candidate.until_s is None:
            await self._inside(candidate)
        else:
            await self._inside_until(candidate, candidate.until_s, plan)

    async def _outside(self, call: Callable[[], Awaitable[None]]) -> None:
        """No lease is renewed meanwhile, so the reader is looked at by a timer."""
        self._watch_reader()
        try:
            await call()
        finally:
            if self._reader_timer is not None:
                self._reader_timer.cancel()

    def _watch_reader(self) -> None:
        self._look_at_reader()
        pause_s = self._desk.settings.reader_stall_s / 4
        self._reader_timer = asyncio.get_running_loop().call_later(pause_s, self._watch_reader)

    async def _inside_until(self, candidate: Candidate, until_s: float, plan: Plan) -> None:
        """Leave the line at ``until_s`` if somebody else may serve."""
        loop, patience = asyncio.get_running_loop(), asyncio.timeout(None)

        def look() -> None:
            if self._hold is None and plan.has_more():
                patience.reschedule(loop.time())

        timer = loop.call_at(until_s, look)
        try:
            async with patience:
                await self._inside(candidate)
        except TimeoutError:
            if not patience.expired():
                raise
            raise TooLateError(candidate.model) from None
        finally:
            timer.cancel()

    async def _inside(self, candidate: Candidate) -> None:
        try:
            await self._tries(candidate)
        except SentAwayError as error:
            await self._leave_behind(error)
            raise
        finally:
            self._let_go()

    async def _tries(self, candidate: Candidate) -> None:
        tried = 1
        while True:
            if self._hold is None:
                await self._take_lease(candidate)
            try:
                return await self._with_lease(tries_left=0 if self._progress.had_useless else TRIES - tried)
            except BrokenTryError as broken:
                self._try_cooler(broken)
            except UselessAnswerError:
                self._progress.had_useless = True
                plan = self._progress.plan
                if plan is not None and plan.has_more() and not self._is_preferred(candidate):
                    self._progress.retries += 1
                    raise
                self._forget_ended()
            except (UnreachableError, BrokenAnswerError, RefusedError, LeaseLostError):
                if self._client.answered or tried == TRIES:
                    raise
                await self._verdict()
                tried += 1
            self._progress.retries += 1

    def _is_preferred(self, candidate: Candidate) -> bool:
        return self._desk.reputations.is_preferred(candidate.model, self._progress.source, self._client.now_s())

    def _try_cooler(self, broken: BrokenTryError) -> None:
        self._desk.accounts.answers.broke_schema(LOCAL, self._progress.model)
        strict = self._progress.strict
        assert strict is not None
        strict.again(broken)
        self._forget_ended()

    # -------------------------------------------------------------------------------------------------------- lease
    async def _take_lease(self, candidate: Candidate) -> None:
        progress = self._progress
        record = await self._in_line(candidate)
        for _ in range(LIVES):
            if record is not None and not _was_lost(record):
                break
            record = await self._in_line(candidate)
        if record is None:
            raise TroubleError(RESTLESS)
        if record.state is not LeaseState.ACTIVE:
            raise TroubleError(_why_not(record))
        progress.waited_s, progress.position = progress.since_start_s(), 0
        progress.granted_s = self._client.now_s()
        assert self._given is not None
        self._hold = self._desk.holds.take(record, self._given, self._look_at_reader)

    async def _in_line(self, candidate: Candidate) -> LeaseRecord | None:
        """Ask for a lease and wait for it; None: this broker's life was over, and another one has to be begun."""
        desk, call, progress = self._desk, self._call, self._progress
        life = await desk.life.now()
        wish = Wish(
            session=call.identity.session,
            model=candidate.model,
            priority=call.priority,
            holder=f"v1:{desk.settings.broker}",
            single=True,
            life=life,
            place=call.fingerprint,
            named=call.identity.named,
        )
        request = desk.leasing.request_of(call.caller, wish)
        # An interruption while the store is asked must not leave a lease behind.
        self._given = Given(call.caller, request)
        try:
            record = await desk.leasing.acquire(call.caller, request)
        except LifeEndedError:
            desk.life.is_over(life, "over")
            return None
        self._given = Given(call.caller, request, record)
        progress.lease_id = record.lease_id
        waits = record.state is LeaseState.QUEUED
        progress.reason = (candidate.in_line if waits else candidate.at_once) or candidate.reason
        return await Line(desk, progress).wait(record) if waits else record

    def _lost(self) -> None:
        self.interrupt(Cause.LEASE_ENDED)

    async def _with_lease(self, *, tries_left: int) -> None:
        hold = self._hold
        assert hold is not None
        hold.on_end = self._lost
        deaths = self._desk.deaths
        deaths.flights.begin(hold.record, self._progress)
        passing = Passing(self._desk, self._progress, hold.record, tries_left=tries_left)
        try:
            await passing.run()
        except asyncio.CancelledError:
            if self.cause is not Cause.LEASE_ENDED or self._task is None:
                raise
            self.cause = None
            self._task.uncancel()
            raise LeaseLostError(f"the lease ended before the answer did: {hold.ended}") from None
        except UpstreamError as error:
            if hold.ended is None:
                if isinstance(error, BrokenAnswerError):
                    suspect, now_s = self._progress.suspect(), self._client.now_s()
                    deaths.broke_off(hold.record, suspect, now_s, begun=passing.has_begun)
                raise
            raise LeaseLostError(f"the lease ended before the answer did: {hold.ended}") from None
        finally:
            hold.on_end = None
            deaths.flights.end(hold.record)

    async def _verdict(self) -> None:
        """A model server broke off: wait until the pool knows that it is dead, or for long enough to believe it is not.

        Without this a new lease would lead to the same dead server.
        """
        hold = self._hold
        assert hold is not None
        if hold.ended is None:
            known = asyncio.get_running_loop().create_future()
            hold.on_end = lambda: None if known.done() else known.set_result(None)
            await asyncio.wait({known}, timeout=self._desk.settings.dead_server_s)
            hold.on_end = None
        self._forget_ended()

    def _forget_ended(self) -> None:
        """A lease that ended under us is no good for another try."""
        if self._hold is not None and self._hold.ended is not None:
            self._desk.holds.drop(self._hold)
            self._hold = self._given = None

    def _let_go(self) -> None:
        holds = self._desk.holds
        hold, self._hold = self._hold, None
        given, self._given = self._given, None
        if hold is not None:
            holds.drop(hold)
        if given is not None and (hold is None or hold.ended is None):
            holds.give_back(given)

    async def _leave_behind(self, sent: SentAwayError) -> None:
        """The ticket stays in the store. Whoever goes away before it was told so leaves the line."""
        assert self._given is not None
        early_s, kept_s = max(0.0, sent.back_after_s - SLACK_S), self._desk.settings.kept_s + SLACK_S
        await self._desk.holds.send_away(self._given, sent.record, back_s=early_s, kept_s=kept_s)
        self._given = None


RESTLESS = Trouble(
    status=503, code="store_unavailable", message="the broker loses its store again and again", retry_after_s=5
)


def _was_lost(record: LeaseRecord) -> bool:
    """With the life of the broker, in line; the client has waited on and knows of nothing."""
    return record.state is LeaseState.ENDED and record.reason.startswith(EndReason.LOST)


_REFUSALS = {
    "model_quarantined": "the model failed to load too often wherever it could run",
    "model_too_large": "no slot of the pool could ever hold the model",
}


def _why_not(record: LeaseRecord) -> Trouble:
    """Of a ticket that ended in line."""
    for code, message in _REFUSALS.items():
        if code in record.reason:
            return Trouble(status=503, code=code, message=message)
    message = f"the place in line ended: {record.reason or record.state.value}"
    return Trouble(status=429, code="place_lost", message=message, retry_after_s=1)
