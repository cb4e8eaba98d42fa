"""A lease that this process holds for one request: renewed while that runs, watched for its end, given back once.

Rule: giving back is a task of its own, which no interruption of the request can stop; a seat is free for the next
request only when the store has confirmed it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from broker.access.principals import Principal
from broker.core.errors import BackendError, ConflictError, HotseatError, LeaseNotFoundError
from broker.core.lease import AcquireRequest, LeaseRecord, LifeId
from broker.leasing.service import Leasing, Reference
from broker.store.port import Event

log = logging.getLogger("hotseat.gateway")

RENEWALS_PER_TTL = 3
FIRST_PAUSE_S = 0.2
GIVE_BACK_TRIES = 4
"""With pauses of 0.2, 0.4 and 0.8 s: a store that is away longer expires the lease."""


class LeaseLostError(BackendError):
    """The lease ended under us."""

    code = "lease_lost"


class Hold:
    """One lease and its renewals."""

    __slots__ = ("_caller", "_holds", "_on_tick", "_task", "_timer", "ended", "life", "on_end", "record")

    def __init__(
        self, record: LeaseRecord, life: LifeId, caller: Principal, holds: "Holds", on_tick: Callable[[], None]
    ) -> None:
        self.record = record
        self.life = life
        self.ended: str | None = None
        """Why it ended under us."""
        self.on_end: Callable[[], None] | None = None
        """Called when it ends under us."""
        self._caller = caller
        self._holds = holds
        self._on_tick = on_tick
        self._task: asyncio.Task[None] | None = None
        self._arm()

    def _arm(self) -> None:
        pause_s = self.record.ttl_s / RENEWALS_PER_TTL
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._due)

    def _due(self) -> None:
        self._on_tick()
        self._task = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        reference = Reference(lease_id=self.record.lease_id, nonce=self.record.nonce)
        try:
            await self._holds.leasing.renew(self._caller, reference, self.record.ttl_s)
        except (ConflictError, LeaseNotFoundError) as error:
            self.end(error.code)
            return
        except HotseatError as error:
            log.warning("renewal_failed", extra={"lease_id": self.record.lease_id, "reason": error.code})
        if self.ended is None:
            self._arm()

    def end(self, why: str) -> None:
        """It ended, and not by us."""
        if self.ended is None:
            self.ended = why
            self._calm()
            if self.on_end is not None:
                self.on_end()

    def close(self) -> None:
        """No more renewals."""
        self._calm()
        if self._task is not None:
            self._task.cancel()

    def _calm(self) -> None:
        self._timer.cancel()


class GivenBack(msgspec.Struct, frozen=True):
    """What is given back, or left behind for its client."""

    caller: Principal
    request: AcquireRequest
    """The question it is the answer to."""
    record: LeaseRecord | None = None
    """None: not heard of yet."""


class Holds:
    """All that this process holds for its requests."""

    def __init__(self, leasing: Leasing) -> None:
        self.leasing = leasing
        self._holds: dict[str, Hold] = {}
        self._giving_back: set[asyncio.Task[None]] = set()

    def take(self, record: LeaseRecord, given: GivenBack, on_tick: Callable[[], None]) -> Hold:
        """A lease was granted."""
        hold = self._holds[record.lease_id] = Hold(record, given.request.life, given.caller, self, on_tick)
        return hold

    def drop(self, hold: Hold) -> None:
        """It ended, or is about to be given back."""
        hold.close()
        self._holds.pop(hold.record.lease_id, None)

    def note(self, event: Event) -> None:
        """Listen to the event stream: renewals alone would notice a third of a TTL late."""
        if event.kind == "ended" and (hold := self._holds.get(event.fields.get("lease", ""))) is not None:
            hold.end(event.fields.get("why", "") or "ended")

    def life_ended(self, life: LifeId) -> None:
        """Nothing of it is ours any more, whether or not an event says so of each."""
        for hold in [hold for hold in self._holds.values() if hold.life == life]:
            hold.end("broker_gone")

    def give_back(self, given: GivenBack) -> None:
        """Release a lease or leave the line, in the background: granted, queued, ended meanwhile or never known."""
        record = given.record
        if record is None:
            self._start(given, lambda: self.leasing.take_back(given.caller, given.request))
        else:
            self._start(given, lambda: self.leasing.leave(given.caller, record.lease_id, record.nonce))

    async def send_away(self, given: GivenBack, record: LeaseRecord, *, back_s: float, kept_s: float) -> None:
        """Keep the place for its client; done before that is told, so that it cannot come back too early."""
        life = given.request.life

        async def call() -> None:
            await self.leasing.send_away(record.lease_id, record.nonce, life=life, back_s=back_s, kept_s=kept_s)

        await asyncio.wait({self._start(given, call)}, timeout=FIRST_PAUSE_S)

    def _start(self, given: GivenBack, call: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._until_told(given, call))
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)
        return task

    async def _until_told(self, given: GivenBack, call: Callable[[], Awaitable[None]]) -> None:
        pause_s = FIRST_PAUSE_S
        for _ in range(GIVE_BACK_TRIES):
            try:
                return await call()
            except (ConflictError, LeaseNotFoundError):
                return None
            except HotseatError as error:
                log.warning("release_failed", extra={"lease_id": given.request.lease_id, "reason": error.code})
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return None

    async def settle(self, timeout_s: float) -> None:
        """Wait until everything is given back."""
        if self._giving_back:
            await asyncio.wait(set(self._giving_back), timeout=timeout_s)
