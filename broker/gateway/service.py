"""The data path of one process: reads a request, runs its exchange, and says in its protocol what went wrong."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.types import Send

from broker.accounting.pace import AnswerPace, pace_of
from broker.accounting.requests import Accounts, RequestAccount
from broker.answers.reading import without_mark
from broker.answers.verdict import Shape
from broker.core.errors import HotseatError
from broker.core.lease import ModelName
from broker.gateway.canaries import Canaries
from broker.gateway.exchange.attempt import Attempt, AttemptTurn
from broker.gateway.exchange.call import Call, Came, call_of
from broker.gateway.exchange.candidates import ServingPlan
from broker.gateway.exchange.context import GatewayContext
from broker.gateway.exchange.contract import checks_of
from broker.gateway.exchange.exchange import Exchange
from broker.gateway.exchange.interruption import InterruptCause
from broker.gateway.exchange.local_attempt import LocalAttempt
from broker.gateway.exchange.opened import Arrived, Opened
from broker.gateway.exchange.progress import Progress
from broker.gateway.exchange.settings import GatewaySettings, Prospects
from broker.gateway.plans.named import as_named
from broker.gateway.plans.only_warm import OnlyWarm
from broker.gateway.plans.routed_plan import RoutedPlans
from broker.gateway.plans.trusted import Trusted
from broker.gateway.repeats.followers import Repeats
from broker.gateway.repeats.operations import Operations, operation_of
from broker.gateway.requests.bodies import BodyRoom, RequestBody
from broker.gateway.trust.death_watch import DIED, DeathWatch
from broker.gateway.trust.reputations import Reputations
from broker.gateway.trust.signs import SignsOfLife
from broker.http_client.connection_pool import ConnectionPool, Timing
from broker.leasing.held_lease import Holds
from broker.leasing.life import BrokerLife
from broker.leasing.service import Leasing
from broker.leasing.waiters import Waiters
from broker.protocol.client_side import REQUEST, ClientGoneError, ClientSide
from broker.protocol.endpoints import ApiEndpoint
from broker.protocol.error_bodies import ClientError, ClientFacingError, body_of, client_error_of, last_event
from broker.protocol.error_page import ERRORS
from broker.protocol.headers import by_name
from broker.protocol.unpacking import codings_of
from broker.store.port import Event

log = logging.getLogger("hotseat.gateway")

REFUSED = "refused"
BUG = ClientError(code="internal", message=ERRORS["internal"].advice)
ENDING = ClientError(code="draining", message="the broker is shutting down; ask again")


class Gateway:
    """Serves ``/v1``."""

    def __init__(self, context: GatewayContext, routing: RoutedPlans | None = None) -> None:
        self.context = context
        self.canaries = Canaries(context)
        self.routing = routing
        settings = context.settings
        operations = Operations(kept_s=settings.answer_kept_s, max_bytes=settings.max_answers)
        self.repeats = Repeats(operations, self, stall_s=settings.reader_stall_s)
        outside = {model for name in context.names for model in name.outside}
        self.known = frozenset(outside | set(context.settings.served_names))
        """Models that may be named in series and log."""
        self._names = frozenset(name.name for name in context.names)

    async def serve(self, arrived: Arrived, send: Send) -> int:
        """Answer one request; a client that is gone gets no answer.

        Returns:
            The status that went out; 0: none did.
        """
        headers = by_name(arrived.scope["headers"])
        about = arrived.scope["extensions"][REQUEST]
        client = ClientSide(send, about["has_closed"])
        try:
            self.context.room.enter(_length(headers))
        except HotseatError as error:
            await self._tell(client, client_error_of(error), arrived.endpoint, None)
            return client.status
        about["is_logged"] = True
        opened = Opened(
            arrived=arrived,
            headers=headers,
            client=client,
            when_gone=about["when_gone"],
            body=RequestBody(self.context.room),
            started_s=client.now_s(),
        )
        await self.run(opened, self._served(opened))
        return client.status

    async def run(self, opened: Opened, work: Awaitable[str]) -> str:
        """See ``repeats.Generating``."""
        arrived, outcome = opened.arrived, ""
        try:
            outcome = await work
        except ClientGoneError:
            outcome = "client_gone"
        except ClientFacingError as error:
            outcome = await self._tell(opened.client, error.trouble, arrived.endpoint, opened.progress)
        except HotseatError as error:
            if error.code == "internal":
                log.exception("store_failed", extra={"detail": str(error), "request_id": arrived.request_id})
            outcome = await self._tell(opened.client, client_error_of(error), arrived.endpoint, opened.progress)
        except asyncio.CancelledError:
            outcome = await self._tell(opened.client, ENDING, arrived.endpoint, opened.progress)
        except Exception as error:  # the last line of defence: a bug is an answer, not a cut line
            log.exception("request_failed", extra={"error": type(error).__name__, "request_id": arrived.request_id})
            outcome = await self._tell(opened.client, BUG, arrived.endpoint, opened.progress)
        finally:
            opened.body.free()
            if opened.plan is not None and opened.client.status == 200 and self._is_known(opened.progress):
                opened.plan.close(opened.client.tail)
            if not opened.is_told_of:
                self._close(opened, outcome)
        return outcome

    async def _served(self, opened: Opened) -> str:
        headers, body = opened.headers, opened.body
        codings = codings_of(headers.get(b"content-encoding", b""))
        data = await body.read(opened.arrived.receive)
        data = without_mark(
            await body.unpack(codings, opened.arrived.scope["extensions"][REQUEST]) if codings else data
        )
        if self.context.settings.answer_kept_s and (operation := operation_of(headers)):
            return await self.repeats.serve(opened, operation, data)
        return await self.generate(opened, data)

    async def generate(self, opened: Opened, data: bytes) -> str:
        """See ``repeats.Generating``."""
        # A client waits, and counts its own limits, from when it has sent all of its request.
        call = self._call(opened.arrived, opened.headers, data, opened.client.now_s())
        opened.progress = progress = Progress(call=call, client=opened.client)
        shape = Shape(call.endpoint.shape.value)
        strictness = self.context.settings.strictness
        progress.checks = checks_of(opened.headers, shape, call.body, call.caller.name, strictness)
        opened.plan = self._plan(progress)
        return await self._exchange(progress, opened.plan, opened.when_gone)

    def _call(self, arrived: Arrived, headers: dict[bytes, bytes], body: bytes, at_s: float) -> Call:
        came = Came(
            caller=arrived.caller,
            endpoint=arrived.endpoint,
            headers=headers,
            body=body,
            at_s=at_s,
            target=arrived.target,
            address=arrived.address,
        )
        context = self.context
        return call_of(came, context.settings, context.spans, context.sightings)

    def _plan(self, progress: Progress) -> ServingPlan:
        ruled = self.context.rule(progress)
        if progress.call.only_warm:
            ruled = OnlyWarm(ruled, progress.call.asked.model)
        return Trusted(ruled, self.context, progress)

    async def _exchange(self, progress: Progress, plan: ServingPlan, when_gone: list[Callable[[], None]]) -> str:
        exchange = Exchange(progress, self._attempt, reader_stall_s=self.context.settings.reader_stall_s)

        def gone() -> None:
            exchange.interruption.interrupt(InterruptCause.CLIENT_GONE)

        when_gone.append(gone)
        try:
            await exchange.serve(plan)
        except asyncio.CancelledError:
            cause = exchange.interruption.cause
            if cause is None:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            return cause.name.lower()
        finally:
            when_gone.remove(gone)
        return "served"

    def _attempt(self, turn: AttemptTurn) -> Attempt:
        if turn.candidate.upstream is None:
            return LocalAttempt(self.context, turn)
        assert self.routing is not None
        return self.routing.attempt(turn)

    async def _tell(
        self, client: ClientSide, trouble: ClientError, endpoint: ApiEndpoint, progress: Progress | None
    ) -> str:
        if client.status == 0:
            headers = [*([] if progress is None else progress.headers()), *trouble.headers()]
            await client.whole(trouble.status, headers, body_of(trouble, endpoint.dialect))
        elif client.is_stream:
            if client.is_over_for_parsers:
                await client.finish()
                return "served"
            await client.finish((b"" if client.is_between_events else b"\n\n") + last_event(trouble, endpoint))
        # Else the answer is cut: whoever reads a length or a last chunk that does not come knows that it is not whole.
        return trouble.told_code

    def _close(self, opened: Opened, outcome: str) -> None:
        arrived, client, progress = opened.arrived, opened.client, opened.progress
        seen = progress if self._is_known(progress) else None
        told = progress if seen or (progress is not None and progress.route == REFUSED) else None
        first_s = None
        if seen is not None and client.first_byte_s is not None and seen.granted_s is not None:
            first_s = client.first_byte_s - seen.granted_s
        self.context.accounts.close(
            RequestAccount(
                path=arrived.endpoint.path,
                model=seen.model if seen else opened.model if opened.model in self.known else "",
                route=told.route if told else "",
                reason=told.reason if told else "",
                private=told.private if told else "",
                outcome=outcome,
                status=client.status,
                key=arrived.caller.name,
                lease_id=seen.lease_id if seen else "",
                waited_s=seen.waited_s if seen else 0.0,
                took_s=client.now_s() - opened.started_s,
                first_byte_s=first_s,
                sent=client.sent,
                retries=seen.retries if seen else 0,
                pace=_pace(seen, client) if seen is not None and client.status == 200 else None,
                answer=seen.verdict.reason if seen and seen.verdict else "",
                request_id=arrived.request_id,
            )
        )

    def _is_known(self, progress: Progress | None) -> bool:
        """Did somebody serve it who may be named?"""
        return progress is not None and progress.model in self.known

    def note(self, event: Event) -> None:
        """Listen to the event stream."""
        self.context.deaths.note(event, asyncio.get_running_loop().time())
        self.context.holds.note(event)
        self._note_end(event)
        if event.fields.get("why") == "heal" and event.fields.get("who", "").startswith("operator:"):
            self.context.reputations.heal(asyncio.get_running_loop().time())
            self.context.deaths.heal()

    def _note_end(self, event: Event) -> None:
        """A worker ended a ready server that it had proved useless; a dead one is another matter (``deaths``)."""
        fields = event.fields
        by_worker = fields.get("who", "").startswith("worker:")
        if event.kind == "unloading" and by_worker and not fields.get("why", "").startswith(DIED):
            self.context.reputations.replaced(ModelName(fields.get("model", "")), asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Let go of leases and connections."""
        await self.canaries.stop()
        await self.repeats.close()
        await self.context.holds.settle(2.0)
        if self.routing is not None:
            await self.routing.close()
        self.context.connections.close()


def gateway_of(
    settings: GatewaySettings,
    ours: tuple[Leasing, BrokerLife],
    waiters: Waiters,
    accounts: Accounts,
    prospects: Prospects,
    timing: Timing,
    routing: RoutedPlans | None = None,
) -> Gateway:
    """Put the data path together; ``ours`` is what this broker has in the store."""
    leasing, life = ours
    holds = Holds(leasing)
    life.listeners += [holds.life_ended, lambda _life: waiters.wake_all()]
    reputations = Reputations(settings.suspicion, accounts.answers)
    who = f"broker:{settings.broker}"
    return Gateway(
        GatewayContext(
            settings=settings,
            leasing=leasing,
            waiters=waiters,
            connections=ConnectionPool(timing),
            prospects=prospects,
            accounts=accounts,
            reputations=reputations,
            deaths=DeathWatch(settings.deaths, reputations, accounts.answers, confirm_s=settings.dead_server_s),
            signs=SignsOfLife(lambda lease, why: leasing.doubt(lease, who, why), settings.signs),
            room=BodyRoom(max_body=settings.max_body, max_bytes=settings.max_bodies, max_open=settings.max_open),
            holds=holds,
            life=life,
            rule=routing.rule if routing else as_named(settings.table),
            names=routing.names if routing else (),
        ),
        routing,
    )


def _pace(progress: Progress, client: ClientSide) -> AnswerPace | None:
    """Of an answer that came at the first try; of another nobody knows what took so long."""
    if progress.retries:
        return None
    return pace_of(progress.verdict, progress.granted_s, sent=client.sent, ended_s=client.now_s())


def _length(headers: dict[bytes, bytes]) -> int | None:
    length = headers.get(b"content-length")
    return int(length[:12]) if length and length.isdigit() else None
