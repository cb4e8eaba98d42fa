"""Waits in line for one lease, and says so to the client as its patience wants it."""

import asyncio
import random

from broker.core.errors import LeaseNotFoundError, StoreUnavailableError
from broker.core.lease import LeaseRecord, LeaseState
from broker.gateway.desk import Desk, Progress
from broker.gateway.patience import Move, Wait, in_line, retry_after_s
from broker.gateway.settings import Prospect
from broker.gateway.troubles import Trouble, TroubleError
from broker.waiters import Waiter, Wake

STORE_PAUSE_S = 1.0
"""A store that does not answer is asked again after this; the ticket is kept there."""


class SentAwayError(TroubleError):
    """The client is to come back; its place is kept.

    ``back_after_s`` is what it was told.
    """

    def __init__(self, trouble: Trouble, record: LeaseRecord, back_after_s: float) -> None:
        super().__init__(trouble)
        self.record = record
        self.back_after_s = back_after_s


class Line:
    """One ticket."""

    def __init__(self, desk: Desk, progress: Progress) -> None:
        self._desk = desk
        self._progress = progress
        self._store_away_s: float | None = None

    async def wait(self, record: LeaseRecord) -> LeaseRecord:
        """Hold on until the ticket leaves the queue.

        Returns:
            The lease, granted or ended.

        Raises:
            SentAwayError: Come back later, in the same place.
            TroubleError: In vain.
            WaitersFullError: Too many connections wait already.
        """
        waiters = self._desk.waiters
        if waiters.draining:
            raise self._drained(record)
        # The exchange itself is interrupted when its client goes, so the waiter needs not watch for that.
        with waiters.open(record.lease_id, asyncio.get_running_loop().create_future()) as waiter:
            while True:
                record = await self._look(record)  # after registering: a grant in between is not lost
                self._progress.waited_s = self._progress.since_start_s()
                if record.state is not LeaseState.QUEUED:
                    return record
                await self._move(record, waiter)

    async def _look(self, record: LeaseRecord) -> LeaseRecord:
        try:
            seen = await self._desk.leasing.poll(record.lease_id)
        except LeaseNotFoundError:
            message = "the place in line is gone with the store's memory; ask again"
            raise TroubleError(Trouble(status=429, code="place_lost", message=message, retry_after_s=1)) from None
        except StoreUnavailableError:
            now_s = self._progress.since_start_s()
            self._store_away_s = self._store_away_s or now_s
            if now_s - self._store_away_s > self._desk.settings.kept_s:
                raise
            return record
        self._store_away_s = None
        return seen

    async def _move(self, record: LeaseRecord, waiter: Waiter) -> None:
        progress, limits = self._progress, self._progress.call.limits
        prospect = self._desk.prospects(record)
        progress.position, progress.eta_s = record.position, prospect.eta_s
        wait = Wait(
            waited_s=progress.waited_s,
            may_commit=progress.call.may_commit,
            spoke_s=progress.spoke_s(),
            earliest_s=prospect.earliest_s,
            doubtful=prospect.doubtful,
            served=prospect.served,
            answer_s=prospect.answer_s,
        )
        move, pause_s = in_line(wait, limits)
        if move is Move.COMMIT:
            await progress.commit()
        elif move is Move.KEEPALIVE:
            await progress.speak()
        elif move is Move.HOLD:
            await self._pause(record, waiter, pause_s)
        else:
            raise self._ending(move, record, prospect)

    async def _pause(self, record: LeaseRecord, waiter: Waiter, pause_s: float) -> None:
        longest_s = self._desk.leasing.bounds.repoll_s * random.uniform(0.8, 1.2)
        if self._store_away_s is not None:
            longest_s = STORE_PAUSE_S
        if await waiter.wait(min(pause_s, longest_s)) is Wake.DRAINING:
            raise self._drained(record)

    def _ending(self, move: Move, record: LeaseRecord, prospect: Prospect) -> TroubleError:
        if move is Move.REFUSE:
            detail = f"no worker serves {record.model} now"
            return TroubleError(Trouble(status=503, code="no_worker", message=detail, lease_id=record.lease_id))
        after_s = retry_after_s(self._progress.call.limits, prospect.eta_s, self._desk.settings.kept_s)
        if move is Move.GIVE_UP:
            said = f"{record.model} was not free within {self._progress.call.limits.max_wait_s:g} s"
        else:
            said = f"{record.model} is not free yet"
        return self._away(record, f"{said}; position {record.position} in line is kept for you", after_s)

    def _drained(self, record: LeaseRecord) -> SentAwayError:
        return self._away(record, "the broker is restarting; your place in line is kept", 2)

    def _away(self, record: LeaseRecord, message: str, after_s: int) -> SentAwayError:
        trouble = Trouble(
            status=429,
            code="queued",
            message=message,
            retry_after_s=after_s,
            lease_id=record.lease_id,
            position=record.position,
            eta_s=self._progress.eta_s,
        )
        return SentAwayError(trouble, record, after_s)
