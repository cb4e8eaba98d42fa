"""Waits in line for one lease, and says so to the client as its patience wants it."""

import asyncio
import random

from broker.core.errors import LeaseNotFoundError, StoreUnavailableError
from broker.core.lease import LeaseRecord, LeaseState
from broker.core.refusals import UNSERVED
from broker.gateway.exchange.context import GatewayContext
from broker.gateway.exchange.progress import Progress
from broker.gateway.exchange.settings import Prospect
from broker.gateway.requests.patience import RequestWait, WaitMove, in_line, waiter_retry_after_s
from broker.leasing.waiters import Waiter, Wake
from broker.protocol.error_bodies import ClientError, ClientFacingError

STORE_PAUSE_S = 1.0
"""A store that does not answer is asked again after this; the ticket is kept there."""


class SentAwayError(ClientFacingError):
    """The client is to come back; its place is kept.

    ``back_after_s`` is what it was told.
    """

    def __init__(self, trouble: ClientError, record: LeaseRecord, back_after_s: float) -> None:
        super().__init__(trouble)
        self.record = record
        self.back_after_s = back_after_s


class LeaseWait:
    """One ticket."""

    def __init__(self, context: GatewayContext, progress: Progress) -> None:
        self._context = context
        self._progress = progress
        self._store_away_s: float | None = None
        self._told_tries = 0

    async def wait(self, record: LeaseRecord) -> LeaseRecord:
        """Hold on until the ticket leaves the queue.

        Returns:
            The lease, granted or ended.

        Raises:
            SentAwayError: Come back later, in the same place.
            ClientFacingError: In vain.
            WaitersFullError: Too many connections wait already.
        """
        waiters = self._context.waiters
        if waiters.draining:
            raise self._drained(record)
        # The exchange itself is interrupted when its client goes, so the waiter needs not watch for that.
        with waiters.open(record.lease_id, asyncio.get_running_loop().create_future()) as waiter:
            while True:
                record = await self._look(record)  # after registering: a grant in between is not lost
                waiter.model = record.model
                self._progress.waited_s = self._progress.since_start_s()
                if record.state is not LeaseState.QUEUED:
                    return record
                await self._move(record, waiter)

    async def _look(self, record: LeaseRecord) -> LeaseRecord:
        try:
            seen = await self._context.leasing.poll(record.lease_id)
        except LeaseNotFoundError:
            message = "the place in line is gone with the store's memory; ask again"
            raise ClientFacingError(ClientError(code="place_lost", message=message)) from None
        except StoreUnavailableError:
            now_s = self._progress.since_start_s()
            self._store_away_s = self._store_away_s or now_s
            if now_s - self._store_away_s > self._context.settings.kept_s:
                raise
            return record
        self._store_away_s = None
        return seen

    async def _move(self, record: LeaseRecord, waiter: Waiter) -> None:
        progress, limits = self._progress, self._progress.call.limits
        prospect = self._context.prospects(record)
        progress.position, progress.eta_s = record.position, prospect.eta_s
        progress.load_error = told_failure(record)
        if await self._is_told_now(record):
            return
        wait = RequestWait(
            waited_s=progress.waited_s,
            may_commit=progress.call.may_commit,
            spoke_s=progress.spoke_s(),
            earliest_s=prospect.earliest_s,
            doubtful=prospect.doubtful,
            served=prospect.served,
            answer_s=prospect.answer_s,
        )
        move, pause_s = in_line(wait, limits)
        if move is WaitMove.COMMIT:
            await progress.commit()
        elif move is WaitMove.KEEPALIVE:
            await progress.speak()
        elif move is WaitMove.HOLD:
            await self._pause(record, waiter, pause_s)
        else:
            raise self._ending(move, record, prospect)

    async def _is_told_now(self, record: LeaseRecord) -> bool:
        """A load has failed since it was last spoken to: who is spoken to at all hears of it at once."""
        news = record.load_tries > self._told_tries
        self._told_tries = record.load_tries
        if news and self._progress.spoke_s() is not None:
            await self._progress.speak()
            return True
        return False

    async def _pause(self, record: LeaseRecord, waiter: Waiter, pause_s: float) -> None:
        longest_s = self._context.leasing.bounds.repoll_s * random.uniform(0.8, 1.2)
        if self._store_away_s is not None:
            longest_s = STORE_PAUSE_S
        if await waiter.wait(min(pause_s, longest_s)) is Wake.DRAINING:
            raise self._drained(record)

    def _ending(self, move: WaitMove, record: LeaseRecord, prospect: Prospect) -> ClientFacingError:
        if move is WaitMove.REFUSE:
            return no_worker(record)
        after_s = waiter_retry_after_s(self._progress.call.limits, prospect.eta_s, self._context.settings.kept_s)
        if move is WaitMove.GIVE_UP:
            said = f"{record.model} was not free within {self._progress.call.limits.max_wait_s:g} s"
        else:
            said = f"{record.model} is not free yet"
        failed = f"; {self._progress.load_error}" if self._progress.load_error else ""
        return self._away(record, f"{said}: {self._progress.place()}; your place is kept{failed}", after_s)

    def _drained(self, record: LeaseRecord) -> SentAwayError:
        return self._away(record, f"the broker is restarting: {self._progress.place()}; your place is kept", 2)

    def _away(self, record: LeaseRecord, message: str, after_s: int) -> SentAwayError:
        trouble = ClientError(
            code="queued",
            message=message,
            retry_after_s=after_s,
            lease_id=record.lease_id,
            position=record.position,
            eta_s=self._progress.eta_s,
            more={"load_error": record.load_error} if record.load_error else {},
        )
        return SentAwayError(trouble, record, after_s)


def told_failure(record: LeaseRecord) -> str:
    """How the last load of a ticket's model failed, in a sentence; empty while none did."""
    if not record.load_error:
        return ""
    again = f"tried again in {record.retry_in_s:.0f} s" if record.retry_in_s >= 1 else "being tried again"
    count = "" if record.load_tries <= 1 else f" {record.load_tries} times"
    return f"its load failed{count} ({record.load_error}), {again}"


def no_worker(record: LeaseRecord) -> ClientFacingError:
    """Nobody serves a ticket's model: no worker is there, or none has an entry for it."""
    message = f"no worker serves {record.model} now"
    if UNSERVED in record.reason:
        message = f"no worker's catalogue has {record.model}; its [[model]] needs a command where the worker runs"
    trouble = ClientError(code="no_worker", message=message, lease_id=record.lease_id)
    return ClientFacingError(trouble)
