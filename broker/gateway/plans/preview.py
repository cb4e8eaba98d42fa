"""Where a request would go, and why, without serving it: no lease, no ticket, no mark, no call to anybody.

Rule: everything is decided by the very rules that serve, on the pool as it is now. Only a worker that has just started
is not waited for.
"""

import asyncio
from dataclasses import dataclass, field

from starlette.types import Message

from broker.core.errors import HotseatError
from broker.core.lease import ModelName
from broker.gateway.exchange.call import Call, Came, call_of
from broker.gateway.exchange.candidates import Candidate, Listed
from broker.gateway.exchange.context import GatewayContext
from broker.gateway.exchange.progress import Progress
from broker.gateway.plans.named import NamedPlan
from broker.gateway.plans.questions import TASK_HEADER, PoolNow, nature_by
from broker.gateway.plans.routed_plan import RoutedPlans, permitted
from broker.gateway.plans.trusted import Trusted
from broker.gateway.requests.conversations import Sightings
from broker.gateway.requests.inspection import InspectionThreads
from broker.protocol.client_side import ClientSide
from broker.protocol.error_bodies import ClientError, ClientFacingError, client_error_of
from broker.routing.decision import Choice, Route, RouteDecision, RouteReason
from broker.routing.request.contents import UnreadContent
from broker.routing.request.nature import Nature
from broker.routing.request.request import KIND_OF_PATH, Described, RequestKind, task_header
from broker.routing.speeds import Speed

LOOK_THROUGH_BYTES = 8 * 1024 * 1024
NAMED = "named"
"""The reason where nothing is to be decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What would become of one request."""

    call: Call
    request: Described
    nature: Nature
    decision: RouteDecision
    reason: str
    choices: tuple[Choice, ...]
    """In the order in which they would be tried, by what is thought of them; none: it would be refused."""
    trouble: ClientError | None
    """What its client would be told; None: it would be served."""

    @property
    def route(self) -> Route:
        """Where it would go first."""
        return self.choices[0].route if self.choices else Route.REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Of one process."""

    context: GatewayContext
    routing: RoutedPlans | None
    pool: PoolNow
    inspection_threads: InspectionThreads = field(default_factory=lambda: InspectionThreads(LOOK_THROUGH_BYTES))
    """For requests that no rule looks through."""

    async def of(self, came: Came) -> Foreseen:
        """Look at a request.

        Raises:
            MalformedError, UnknownModelError, BadArgumentError: It cannot be read, so it would be refused.
        """
        call = call_of(came, self.context.settings, self.context.spans, Sightings())
        trouble: ClientError | None = None
        foresee = self._plain if self.routing is None else self.routing.foresee
        request, decision, nature = await foresee(call)
        try:
            decision = await self._permitted(decision, request, call)
            choices = await self._in_order(decision, call)
        except ClientFacingError as error:
            trouble, choices = error.trouble, ()
        except HotseatError as error:
            trouble, choices = client_error_of(error), ()
        return Foreseen(
            call=call,
            request=request,
            nature=nature,
            decision=decision,
            reason=self._reason(decision, choices, trouble),
            choices=choices,
            trouble=trouble,
        )

    def speed_of(self, name: str) -> Speed | None:
        """What is known of how fast a candidate answers."""
        return self.context.accounts.speeds.of(name, asyncio.get_running_loop().time())

    # ---------------------------------------------------------------------------------------------------------- inside
    async def _plain(self, call: Call) -> tuple[Described, RouteDecision, Nature]:
        """Without ``[routing]``: the model that was asked for."""
        kind, work = (
            KIND_OF_PATH.get(call.endpoint.path, RequestKind.OTHER),
            self.inspection_threads.work(len(call.body)),
        )
        request = Described(
            name=call.asked.model,
            kind=kind,
            content=UnreadContent(kind, call.body, work),
            size_bytes=len(call.body),
            task=task_header(call.headers.get(TASK_HEADER)),
            work=work,
        )
        return request, self._plain_decision(request), await nature_by(self.inspection_threads, request, None)

    def _plain_decision(self, request: Described) -> RouteDecision:
        entry = self.context.settings.table.find(request.name)
        if entry is None:
            return RouteDecision(reason=RouteReason.UNKNOWN_MODEL)
        state = self.pool.state(entry).models.get(entry.candidates[0].name)
        if state is None:
            return RouteDecision(reason=RouteReason.UNAVAILABLE)
        reason = RouteReason.WARM if state.ready and state.wait_s == 0 else RouteReason.QUEUED
        choice = Choice(model=entry.candidates[0].name, wait_s=state.wait_s, busy=state.busy)
        return RouteDecision(reason=reason, choices=(choice,))

    async def _permitted(self, decision: RouteDecision, request: Described, call: Call) -> RouteDecision:
        table = self.context.settings.table
        if self.routing is None and decision.reason is not RouteReason.UNKNOWN_MODEL:
            await NamedPlan(table, self._progress(call)).following()  # says what the model cannot do
        return permitted(decision, request, table, call.caller)

    async def _in_order(self, decision: RouteDecision, call: Call) -> tuple[Choice, ...]:
        """By what is thought of their answers: whoever is asked last, or not at all."""
        listed = Listed(Candidate(model=ModelName(one.model), route=one.route) for one in decision.choices)
        plan = Trusted(listed, self.context, self._progress(call))
        by_model = {choice.model: choice for choice in decision.choices}
        found: list[Choice] = []
        while (candidate := await plan.following()) is not None:
            found.append(by_model[candidate.model])
        return tuple(found)

    def _progress(self, call: Call) -> Progress:
        return Progress(call=call, client=ClientSide(_to_nobody, lambda: False))

    def _reason(self, decision: RouteDecision, choices: tuple[Choice, ...], trouble: ClientError | None) -> str:
        if trouble is not None:
            return trouble.told_code if decision.choices else decision.reason
        if self.routing is None:
            return NAMED
        return decision.reason if choices[0] == decision.choices[0] else RouteReason.FALLBACK


async def _to_nobody(message: Message) -> None:
    """There is no client."""
