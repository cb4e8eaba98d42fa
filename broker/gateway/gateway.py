"""The data path of one process: reads a request, runs its exchange, and says in its protocol what went wrong."""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from starlette.types import Receive, Scope, Send

from broker.answers.verdict import Shape
from broker.core.errors import HotseatError
from broker.gateway.accounts import Account, Accounts
from broker.gateway.bearing import bears_s
from broker.gateway.bodies import Body, Room
from broker.gateway.canaries import Canaries
from broker.gateway.client_side import REQUEST, ClientSide
from broker.gateway.contract import checks_of
from broker.gateway.death_watch import DeathWatch
from broker.gateway.desk import Call, Desk, Progress, Routing, as_named
from broker.gateway.endpoints import Endpoint
from broker.gateway.exchange import Cause, Exchange
from broker.gateway.headers import by_name
from broker.gateway.holding import Holds
from broker.gateway.identity import UnreadableError, asked_of, identify, priority_for
from broker.gateway.patience import within
from broker.gateway.places import fingerprint
from broker.gateway.profiles import Profile, profile_for
from broker.gateway.reputations import Reputations
from broker.gateway.settings import GatewaySettings, Prospects
from broker.gateway.troubles import Trouble, TroubleError, body_of, last_event, trouble_of
from broker.gateway.trusted import Trusted
from broker.gateway.unpacking import codings_of
from broker.leasing import ClientGoneError, Leasing
from broker.life import Life
from broker.principals import Principal
from broker.store.port import Event
from broker.upstream.pool import Timing, Upstreams
from broker.waiters import Waiters

log = logging.getLogger("hotseat.gateway")

PROFILE_HEADER = b"x-hotseat-profile"
REFUSED = "refused"
BUG = Trouble(
    status=500,
    code="internal",
    message="the broker failed; the operator finds the cause in its log, by this answer's x-request-id",
)
ENDING = Trouble(status=503, code="draining", message="the broker is shutting down; ask again", retry_after_s=1)


class Arrived(msgspec.Struct, frozen=True):
    """A request whose caller is known."""

    scope: Scope
    receive: Receive
    caller: Principal
    endpoint: Endpoint


class Gateway:
    """Serves ``/v1``."""

    def __init__(self, desk: Desk, routing: Routing | None = None) -> None:
        self.desk = desk
        self.canaries = Canaries(desk)
        self.routing = routing
        outside = {model for name in desk.names for model in name.outside}
        self.known = frozenset(outside | set(desk.settings.served_names))
        """Models that may be named in series and log."""

    async def serve(self, arrived: Arrived, send: Send) -> int:
        """Answer one request; a client that is gone gets no answer.

        Returns:
            The status that went out; 0: none did.
        """
        headers = by_name(arrived.scope["headers"])
        room = self.desk.room
        about = arrived.scope["extensions"][REQUEST]
        client = ClientSide(send, about["has_closed"])
        progress: Progress | None = None
        try:
            room.enter(_length(headers))
        except HotseatError as error:
            await self._tell(client, trouble_of(error), arrived.endpoint, None)
            return client.status
        about["is_logged"] = True
        body = Body(room)
        started_s = client.now_s()
        outcome = "served"
        try:
            codings = codings_of(headers.get(b"content-encoding", b""))
            data = await body.read(arrived.receive)
            data = await body.unpack(codings) if codings else data
            # A client waits, and counts its own limits, from when it has sent all of its request.
            call = self._call(arrived, headers, data, client.now_s())
            progress = Progress(call=call, client=client)
            shape = Shape(call.endpoint.shape.value)
            strictness = self.desk.settings.strictness
            progress.checks = checks_of(headers, shape, call.body, call.caller.name, strictness)
            outcome = await self._exchange(progress, about["when_gone"])
        except ClientGoneError:
            outcome = "client_gone"
        except TroubleError as error:
            outcome = await self._tell(client, error.trouble, arrived.endpoint, progress)
        except HotseatError as error:
            if error.code == "internal":
                log.exception("store_failed", extra={"detail": str(error), "request_id": _id(arrived)})
            outcome = await self._tell(client, trouble_of(error), arrived.endpoint, progress)
        except asyncio.CancelledError:
            outcome = await self._tell(client, ENDING, arrived.endpoint, progress)
        except Exception as error:  # the last line of defence: a bug is an answer, not a cut line
            log.exception("request_failed", extra={"error": type(error).__name__, "request_id": _id(arrived)})
            outcome = await self._tell(client, BUG, arrived.endpoint, progress)
        finally:
            body.free()
            self._close(arrived, client, progress, outcome, started_s)
        return client.status

    def _call(self, arrived: Arrived, headers: dict[bytes, bytes], body: bytes, started_s: float) -> Call:
        settings, caller, endpoint = self.desk.settings, arrived.caller, arrived.endpoint
        asked = asked_of(body, headers.get(b"content-type", b""))
        span = self.desk.spans.session_of(headers.get(b"traceparent"), asked.model, started_s)
        found, asker = fingerprint(caller.name, endpoint.path, body), (caller.name, _address(arrived.scope))
        wanted = settings.profiles.get(caller.name) or _profile(headers.get(PROFILE_HEADER))
        return Call(
            caller=caller,
            endpoint=endpoint,
            headers=headers,
            target=endpoint.path + _query(arrived.scope["query_string"]),
            body=body,
            asked=asked,
            identity=identify(headers, asked, asker, self.desk.sightings, found, span),
            priority=priority_for(headers, caller.max_priority, settings.priorities.get(caller.name)),
            profile=profile_for(endpoint, wanted, headers),
            limits=within(settings.limits, bears_s(headers, settings.limits.longest_silent_s)),
            fingerprint=found,
            started_s=started_s,
            created_s=int(time.time()),
        )

    async def _exchange(self, progress: Progress, when_gone: list[Callable[[], None]]) -> str:
        progress.plan = plan = Trusted(self.desk.rule(progress), self.desk, progress)
        exchange = Exchange(self.desk, progress.call, progress)

        def gone() -> None:
            exchange.interrupt(Cause.CLIENT_GONE)

        when_gone.append(gone)
        try:
            await exchange.serve(plan)
        except asyncio.CancelledError:
            if exchange.cause is None:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return exchange.cause.name.lower()
        finally:
            when_gone.remove(gone)
        return "served"

    async def _tell(self, client: ClientSide, trouble: Trouble, endpoint: Endpoint, progress: Progress | None) -> str:
        if client.status == 0:
            headers = [] if progress is None else progress.headers()
            if trouble.retry_after_s is not None:
                headers.append((b"retry-after", b"%d" % trouble.retry_after_s))
            await client.whole(trouble.status, headers, body_of(trouble, endpoint.dialect))
        elif client.is_stream:
            if client.is_over_for_parsers:
                await client.finish()
                return "served"
            await client.finish((b"" if client.is_between_events else b"\n\n") + last_event(trouble, endpoint))
        # Else the answer is cut: whoever reads a length or a last chunk that does not come knows that it is not whole.
        return trouble.code

    def _close(
        self, arrived: Arrived, client: ClientSide, progress: Progress | None, outcome: str, started_s: float
    ) -> None:
        seen = progress if progress is not None and progress.model in self.known else None
        told = progress if seen or (progress is not None and progress.route == REFUSED) else None
        if seen is not None and seen.plan is not None and client.status == 200:
            seen.plan.close(client.tail)
        first_s = None
        if seen is not None and client.first_byte_s is not None and seen.granted_s is not None:
            first_s = client.first_byte_s - seen.granted_s
        self.desk.accounts.close(
            Account(
                path=arrived.endpoint.path,
                model=seen.model if seen else "",
                route=told.route if told else "",
                reason=told.reason if told else "",
                private=told.private if told else "",
                outcome=outcome,
                status=client.status,
                key=arrived.caller.name,
                lease_id=seen.lease_id if seen else "",
                waited_s=seen.waited_s if seen else 0.0,
                took_s=client.now_s() - started_s,
                first_byte_s=first_s,
                sent=client.sent,
                retries=seen.retries if seen else 0,
                answer=seen.verdict.reason if seen and seen.verdict else "",
                request_id=_id(arrived),
            )
        )

    def note(self, event: Event) -> None:
        """Listen to the event stream."""
        self.desk.deaths.note(event, asyncio.get_running_loop().time())
        self.desk.holds.note(event)
        if event.fields.get("why") == "heal" and event.fields.get("who", "").startswith("operator:"):
            self.desk.reputations.heal(asyncio.get_running_loop().time())
            self.desk.deaths.heal()

    async def close(self) -> None:
        """Let go of leases and connections."""
        await self.canaries.stop()
        await self.desk.holds.settle(2.0)
        if self.routing is not None:
            await self.routing.close()
        self.desk.upstreams.close()


def gateway_of(
    settings: GatewaySettings,
    ours: tuple[Leasing, Life],
    waiters: Waiters,
    accounts: Accounts,
    prospects: Prospects,
    timing: Timing,
    routing: Routing | None = None,
) -> Gateway:
    """Put the data path together; ``ours`` is what this broker has in the store."""
    leasing, life = ours
    holds = Holds(leasing)
    life.listeners += [holds.life_ended, lambda _life: waiters.wake_all()]
    reputations = Reputations(settings.suspicion, accounts.answers)
    return Gateway(
        Desk(
            settings=settings,
            leasing=leasing,
            waiters=waiters,
            upstreams=Upstreams(timing),
            prospects=prospects,
            accounts=accounts,
            reputations=reputations,
            deaths=DeathWatch(settings.deaths, reputations, accounts.answers, confirm_s=settings.dead_server_s),
            room=Room(max_body=settings.max_body, max_bytes=settings.max_bodies, max_open=settings.max_open),
            holds=holds,
            life=life,
            rule=routing.rule if routing else as_named,
            names=routing.names if routing else (),
        ),
        routing,
    )


def _id(arrived: Arrived) -> str:
    found: str = arrived.scope["extensions"][REQUEST]["id"]
    return found


def _length(headers: dict[bytes, bytes]) -> int | None:
    length = headers.get(b"content-length")
    return int(length[:12]) if length and length.isdigit() else None


def _address(scope: Scope) -> str:
    """The client's, without its port; empty where the server does not know it, as on a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""


def _query(raw: bytes) -> str:
    if not raw.isascii():
        raise UnreadableError("the query cannot be read")
    return "?" + raw.decode("ascii") if raw else ""


def _profile(word: bytes | None) -> Profile | None:
    try:
        return None if word is None else Profile(word.decode("latin-1").strip().lower())
    except ValueError:
        raise UnreadableError(f"x-hotseat-profile must be one of {', '.join(Profile)}") from None
