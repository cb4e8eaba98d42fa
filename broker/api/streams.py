"""Server-sent events: one lease's way through the queue, and the pool's audit log."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from time import perf_counter

from msgspec import Struct
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from broker.access.principals import Principal
from broker.access.principals import Scope as KeyScope
from broker.api.leases import disconnected, lease_id_of
from broker.api.services import Services
from broker.api.views import NO_OUTLOOK, Lease, LoadFailure, encode, lease_view
from broker.core.errors import HotseatError
from broker.core.lease import LeaseId, LeaseRecord, LeaseState
from broker.leasing.waiters import DrainingError, Waiter, WaitersFullError, Wake
from broker.protocol.client_side import ClientGoneError, has_closed
from broker.protocol.errors import InvalidError
from broker.protocol.limits import header, query_of
from broker.protocol.problems import Reply, internal, reply_of
from broker.store.port import Event

REFRESH_S = 2.0
"""A waiting ticket's position, ETA and load progress are looked at this often."""
HEARTBEAT_S = 15.0
"""A comment is sent after so long without news, so that proxies keep the connection."""
LOOK_S = 1.0
"""How soon a stream notices that its client is gone or the broker shuts down."""
BATCH = 200
HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_HEARTBEAT = b": still here\n\n"

Frames = AsyncGenerator[bytes]


class LeaseUpdate(Struct, frozen=True, kw_only=True):
    """Data of the events ``waiting``, ``granted``, ``ending`` and ``ended``."""

    lease: Lease
    residency: str
    """How deep the model is on its slot: absent, loading, ready or unloading."""
    progress: int
    """How far the model's load has come, percent."""


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Data of ``GET /events``."""

    sequence: int
    type: str
    at_seconds: float
    """When it happened, seconds of the store's clock."""
    fields: dict[str, str]


class Gap(Struct, frozen=True, kw_only=True, rename="camel"):
    """Data of the event ``gap``: what came after the id the client named is no longer kept."""

    asked_after: str
    first_kept: str


class Stream:
    """An ASGI endpoint that sends what a generator of frames makes; an error before the first is a problem document."""

    def __init__(self, name: str, open_frames: Callable[[Scope, Receive], Frames], services: Services) -> None:
        self._name = name
        self._open = open_frames
        self._metrics = services.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection until it ends."""
        started_s = perf_counter()
        frames = self._open(scope, receive)
        status = 200
        try:
            first = await anext(frames)
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (ClientGoneError, OSError):
            return
        except Exception as error:  # noqa: BLE001  nothing was sent yet: frames guard themselves after the first
            reply = _reply(error, scope)
            status = reply.status
            await send({"type": "http.response.start", "status": status, "headers": reply.headers})
            await send({"type": "http.response.body", "body": reply.body})
        finally:
            await frames.aclose()
            self._metrics.answered(self._name, status, perf_counter() - started_s)


class Streams:
    """The endpoints of ``/lease/{id}/events`` and ``/events``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Return the routes of both streams."""
        table = {"/lease/{lease_id}/events": self.lease, "/events": self.pool}
        return [Route(path, Stream(path, frames, self._services), methods=["GET"]) for path, frames in table.items()]

    async def lease(self, scope: Scope, receive: Receive) -> Frames:
        """Answer ``GET /lease/{id}/events``: ends after ``ended``; keeps the ticket queued while it is open."""
        services = self._services
        caller = services.authenticator.caller_with(scope, KeyScope.LEASE)
        lease_id = lease_id_of(scope)
        cancel = query_of(scope, frozenset({"cancelOnDisconnect"})).get("cancelOnDisconnect", "false")
        if cancel not in {"true", "false"}:
            raise InvalidError("cancelOnDisconnect must be true or false")
        await services.leasing.require_owner(caller, lease_id)
        if has_closed(scope):
            raise ClientGoneError
        with services.waiters.open(lease_id, disconnected(receive)) as waiter:
            try:
                async for frame in _guarded(self._follow(lease_id, waiter), scope):
                    yield frame
            except ClientGoneError:
                if cancel == "true":
                    await asyncio.shield(self._leave_queue(caller, lease_id))
                raise

    async def _leave_queue(self, caller: Principal, lease_id: LeaseId) -> None:
        record = await self._services.leasing.read(lease_id)
        if record.state is LeaseState.QUEUED:
            await self._services.leasing.leave(caller, lease_id, record.nonce)

    async def _follow(self, lease_id: LeaseId, waiter: Waiter) -> Frames:
        shown: tuple[object, ...]
        shown, quiet_s, queued = (), 0.0, True
        while True:
            leasing = self._services.leasing
            record = await (leasing.poll(lease_id) if queued else leasing.read(lease_id))
            queued, waiter.model = record.state is LeaseState.QUEUED, record.model
            data = self._update(record)
            # The remaining time changes with every look and is no news by itself.
            if (seen := _without_clock(data)) != shown:
                shown, quiet_s = seen, 0.0
                yield _frame(_name(record.state), encode(data))
            elif quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                yield _HEARTBEAT
            if record.state is LeaseState.ENDED:
                return
            pause_s = REFRESH_S if queued else HEARTBEAT_S
            wake = await waiter.wait(pause_s)
            quiet_s += pause_s
            if wake is Wake.GONE:
                raise ClientGoneError
            if wake is Wake.DRAINING:
                raise DrainingError("the broker is shutting down; connect again")

    def _update(self, record: LeaseRecord) -> LeaseUpdate:
        outlook = self._services.outlook(record) if record.state is LeaseState.QUEUED else NO_OUTLOOK
        return LeaseUpdate(
            lease=lease_view(record, outlook, secrets=True), residency=record.residency, progress=record.progress
        )

    async def pool(self, scope: Scope, receive: Receive) -> Frames:
        """Answer ``GET /events``: the audit log from ``Last-Event-ID`` on, or from now."""
        services = self._services
        services.authenticator.caller_with(scope, KeyScope.OBSERVE)
        query_of(scope, frozenset())
        last = _last_id(header(scope, b"last-event-id"))
        if len(services.open_streams) >= services.max_streams:
            raise WaitersFullError(f"{services.max_streams} connections follow the events already")
        services.open_streams.append(scope)
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            async for frame in _guarded(self._log(last, gone), scope):
                yield frame
        finally:
            gone.cancel()
            services.open_streams.remove(scope)

    async def _log(self, last: str, gone: asyncio.Future[None]) -> Frames:
        store, feed = self._services.store, self._services.feed
        if last:
            first = await store.first_event_id()
            if _moment(first) > _moment(last):
                yield _frame("gap", encode(Gap(asked_after=last, first_kept=first)))
        position = last or await store.last_event_id()
        yield b"retry: 2000\n\n"
        quiet_s = 0.0
        while not gone.done():
            if self._services.waiters.draining:
                raise DrainingError("the broker is shutting down; connect again")
            events = await store.events(position, block_s=0, limit=BATCH)
            for event in events:
                yield _audit(event)
                position = event.event_id
            if not events:
                quiet_s = 0.0 if await feed.news(LOOK_S) else quiet_s + LOOK_S
            if quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                yield _HEARTBEAT


async def _guarded(frames: Frames, scope: Scope) -> AsyncIterator[bytes]:
    """Pass the frames on; once a stream has begun, an error is its last event."""
    begun = False
    try:
        async for frame in frames:
            begun = True
            yield frame
    except ClientGoneError:
        raise
    except Exception as error:
        if not begun:
            raise
        yield _frame("problem", _reply(error, scope).body)  # also a bug must not look like a cut line
    finally:
        await frames.aclose()


def _reply(error: Exception, scope: Scope) -> Reply:
    return reply_of(error) if isinstance(error, HotseatError) else internal(error, scope)


def _frame(name: str, data: bytes, event_id: str = "") -> bytes:
    head = f"id: {event_id}\nevent: {name}\n" if event_id else f"event: {name}\n"
    return head.encode() + b"data: " + data + b"\n\n"


def _audit(event: Event) -> bytes:
    entry = AuditEntry(
        sequence=event.sequence, type=event.kind, at_seconds=round(event.at_s, 3), fields=dict(event.fields)
    )
    return _frame(event.kind, encode(entry), event.event_id)


def _name(state: LeaseState) -> str:
    return {LeaseState.QUEUED: "waiting", LeaseState.ACTIVE: "granted"}.get(state, state.value)


def _without_clock(update: LeaseUpdate) -> tuple[object, ...]:
    lease = update.lease
    return (
        lease.state,
        lease.reason,
        lease.position,
        lease.wait_reason,
        lease.load_failure.fails if isinstance(lease.load_failure, LoadFailure) else 0,
        lease.eta_seconds,
        update.residency,
        update.progress,
    )


def _last_id(value: bytes | None) -> str:
    text = (value or b"").decode("latin-1")
    head, _, tail = text.partition("-")
    if text and not (len(text) <= 41 and text.isascii() and head.isdigit() and (tail.isdigit() or "-" not in text)):
        raise InvalidError("Last-Event-ID must be an id that this stream sent")
    return text


def _moment(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds or 0), int(number or 0)
