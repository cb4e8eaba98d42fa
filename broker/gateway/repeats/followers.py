"""The way of a request with an ``Idempotency-Key``: it begins a generation, or follows one (``operations``)."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from broker.answers.verdict import VerdictReason
from broker.gateway.exchange.opened import Opened
from broker.gateway.repeats.operations import OperationOwner, Operations, digest_of
from broker.gateway.repeats.recording import Follower, Recording, StalledError
from broker.protocol.client_side import ClientGoneError, ClientSide
from broker.protocol.error_bodies import ClientError, ClientFacingError

REPEATED_HEADER = b"x-hotseat-repeated"
GIVEN_UP = ClientError(
    code="unavailable",
    message="the generation that this Idempotency-Key began was given up; ask again",
    retry_after_s=1,
)


class Generating(Protocol):
    """What the gateway does with a request that has been read."""

    async def generate(self, opened: Opened, data: bytes) -> str:
        """Answer it; return what became of it."""

    async def run(self, opened: Opened, work: Awaitable[str]) -> str:
        """Do the same; tell the client of every error, and close the accounts."""


class Repeats:
    """Serves requests that bear an ``Idempotency-Key``: the first begins a generation, its repeats follow that."""

    def __init__(self, operations: Operations, gateway: Generating, *, stall_s: float) -> None:
        self.operations = operations
        self._gateway = gateway
        self._stall_s = stall_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, opened: Opened, operation: str, data: bytes) -> str:
        """Answer a request; return what became of it.

        Raises:
            OperationMismatchError: The key stands for another request.
            ClientGoneError: It left meanwhile.
            ClientFacingError: The generation ended without a word.
        """
        arrived = opened.arrived
        owner: OperationOwner = (arrived.caller.name, "" if arrived.caller.has_key else arrived.address)
        digest = digest_of(arrived.target, opened.headers, data)
        recording = self.operations.find(owner, operation, digest)
        if recording is None:
            recording = self.operations.begin(owner, operation, digest)
            reader = recording.join(opened.client)
            end = partial(self.operations.end, owner, operation, recording)
            self._begin(_of(recording, opened), data, recording, end)
        else:
            opened.body.forget()
            state = b"kept" if recording.is_over else b"running"
            reader = recording.join(opened.client, [(REPEATED_HEADER, state)])
        return await self._follow(opened, recording, reader)

    def _begin(self, inner: Opened, data: bytes, recording: Recording, end: Callable[..., None]) -> None:
        recording.is_at_work = lambda: inner.progress is not None and inner.progress.granted_s is not None

        async def record() -> None:
            outcome = ""
            try:
                outcome = await self._gateway.run(inner, self._gateway.generate(inner, data))
            finally:
                recording.model = inner.progress.model if inner.progress else ""
                end(is_good=_is_good(inner, outcome))

        task = asyncio.create_task(record())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, opened: Opened, recording: Recording, reader: Follower) -> str:
        leave = partial(recording.leave, reader)
        opened.when_gone.append(leave)
        try:
            stayed = await recording.follow(reader, stall_s=self._stall_s)
        except StalledError:
            return "client_stalled"
        finally:
            opened.when_gone.remove(leave)
            opened.model = recording.model
        if not stayed:
            raise ClientGoneError
        if not opened.client.status:
            raise ClientFacingError(GIVEN_UP)
        return "repeated"

    async def close(self) -> None:
        """Give up all generations because the process ends; wait at most 2 s for them."""
        self.operations.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)


def _of(recording: Recording, opened: Opened) -> Opened:
    """Make the generation's own request, which lives on without the connection."""
    opened.is_told_of = True
    return Opened(
        arrived=opened.arrived,
        headers=opened.headers,
        client=ClientSide(recording.send, recording.is_deserted),
        when_gone=recording.when_gone,
        body=opened.body.moved(),
        started_s=opened.started_s,
    )


def _is_good(opened: Opened, outcome: str) -> bool:
    """Tell whether the answer is worth keeping: whole, and of use."""
    verdict = opened.progress.verdict if opened.progress else None
    judged = verdict is None or verdict.reason in {VerdictReason.FINE, VerdictReason.UNJUDGED}
    return outcome == "served" and 200 <= opened.client.status < 300 and judged
