"""The candidates of one request, as routing decided; and what becomes of the decision while they fail.

Rule: before every candidate that leads outside the session's mark in the store is looked at again, before every
upstream its breaker is.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from broker.access.principals import NotAllowedError, Principal
from broker.core.errors import HotseatError, ModelUnavailableError, UnknownModelError
from broker.core.lease import ModelName
from broker.gateway.cloud.attempt import CloudAttempt
from broker.gateway.cloud.spending import Spending
from broker.gateway.cloud.upstreams import Clouds
from broker.gateway.cloud.usage import usage_in
from broker.gateway.exchange.attempt import Attempt, AttemptTurn
from broker.gateway.exchange.call import Call
from broker.gateway.exchange.candidates import Candidate, CloudChoice, RoutedName, ServingPlan
from broker.gateway.exchange.progress import Progress
from broker.gateway.plans.incapable import may_use, refused_as_incapable
from broker.gateway.plans.questions import Look, PoolNow, RoutingQuestions, RoutingSettings, names_of, nature_by
from broker.gateway.requests.inspection import InspectionThreads
from broker.gateway.requests.marks import PrivacyMarks
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.protocol.error_page import ERRORS
from broker.routing.budget import cost_of
from broker.routing.catalogue import Cloud, Entry, NameTable
from broker.routing.decision import Choice, Route, RouteDecision, RouteReason
from broker.routing.fallback import following
from broker.routing.privacy.firewall import Firewall
from broker.routing.request.nature import Nature
from broker.routing.request.request import Described
from broker.routing.speeds import Speeds

GRACE_S = 0.25
"""A substitute is given so long to be free, also when the deadline is over."""
DOWN_PAUSE_S = 0.1
DOWN_LOOKS = 30
"""A model that no slot serves is given three seconds: its worker, or this broker, may just have started."""
REFUSALS: dict[RouteReason, str] = {
    RouteReason.TOO_LONG: "prompt and reply's room are longer than any model that may serve this takes",
    RouteReason.PRIVATE_REFUSED: "the request is private and no local model can serve it now",
    RouteReason.BUDGET_REFUSED: "no local model can serve it now, and the budget for upstreams is used up",
    RouteReason.UNAVAILABLE: "nothing can serve it now",
}
PLAIN = frozenset({RouteReason.WARM, RouteReason.QUEUED})


class RoutedPlans:
    """What an exchange asks for the plans that routing makes."""

    def __init__(self, routes: RoutingQuestions) -> None:
        self._routes = routes
        self._names = names_of(routes.settings.table)

    @property
    def names(self) -> tuple[RoutedName, ...]:
        """What can be asked for beside the models."""
        return self._names

    def rule(self, progress: Progress) -> ServingPlan:
        """The candidates of one request."""
        return RoutedPlan(self._routes, progress)

    def attempt(self, turn: AttemptTurn) -> Attempt:
        """Whoever asks an upstream's candidate."""
        return CloudAttempt(self._routes.clouds, self._routes.spending, turn)

    async def foresee(self, call: Call) -> tuple[Described, RouteDecision, Nature]:
        """What would be decided about a request now; nothing is noted, and nobody is waited for."""
        request = self._routes.described(call)
        decision = await self._routes.judge(call, request)
        entry = self._routes.settings.table.find(request.name)
        usual = None if entry is None else entry.task
        return request, decision, await nature_by(self._routes.inspection_threads, request, usual)

    @property
    def marks(self) -> PrivacyMarks | None:
        """Of private sessions; None: nothing can leave, so nobody needs to know."""
        return self._routes.marks if self._routes.settings.table.has_cloud else None

    async def close(self) -> None:
        """Settle, and let go of connections."""
        await self._routes.spending.close()
        await self._routes.marks.close()
        self._routes.clouds.close()
        self._routes.inspection_threads.close()


def routing_of(
    settings: RoutingSettings,
    firewall: Firewall,
    spending: Spending,
    marks: PrivacyMarks,
    clouds: Clouds,
    speeds: Speeds,
    last: Callable[[], Look | None],
) -> RoutedPlans:
    """Put routing together. ``last`` gives the scheduler's last look at the pool."""
    routes = RoutingQuestions(
        settings=settings,
        firewall=firewall,
        clouds=clouds,
        spending=spending,
        pool=PoolNow(last, settings.policy, settings.table.busy_percent),
        inspection_threads=InspectionThreads(firewall.look_through_bytes),
        speeds=speeds,
        marks=marks,
    )
    return RoutedPlans(routes)


class RoutedPlan(ServingPlan):
    """Of one request."""

    def __init__(self, routes: RoutingQuestions, progress: Progress) -> None:
        self._routes = routes
        self._progress = progress
        self._call = progress.call
        self._decision: RouteDecision | None = None
        self._due_s: float | None = None
        """Loop time of the deadline."""
        self._leaves_s: float | None = None
        """Loop time at which a line is left while another candidate may serve."""
        self._tried: list[Choice] = []
        self._left_line: Choice | None = None

    # ---------------------------------------------------------------------------------------------------- the plan
    async def following(self) -> Candidate | None:
        """See ``ServingPlan``."""
        decision = self._decision
        if decision is None:
            decision = self._decision = await self._decided()
        choice = following(decision, self._tried, self._routes.state_here(self._call))
        if choice is not None and choice.route is Route.CLOUD:  # what stays in the house needs not be asked about
            choice = following(decision, self._tried, await self._routes.state_now(self._call))
        if choice is not None:
            return self._candidate(choice, decision)
        back, self._left_line = self._left_line, None
        if back is None:
            return None
        # Whoever was to take over may not any more: back to the line.
        return Candidate(model=ModelName(back.model), reason=RouteReason.LATE, parameters=back.parameters)

    def has_more(self) -> bool:
        """See ``ServingPlan``."""
        decision, state = self._decision, self._routes.state_here(self._call)
        return decision is not None and following(decision, self._tried, state) is not None

    async def still_wants(self, candidate: Candidate) -> bool:
        """See ``ServingPlan``: its session may have become private since, its breaker may have opened."""
        decision, routes, call = self._decision, self._routes, self._call
        if decision is None or candidate.upstream is None:
            return True
        choice = candidate.upstream.choice
        state = routes.state_here(call) if choice.inside else await routes.state_now(call)
        return following(decision, [one for one in self._tried if one != choice], state) == choice

    def leave_line(self) -> None:
        """See ``ServingPlan``."""
        self._left_line = self._left_line or self._tried[-1]

    def close(self, tail: Iterable[bytes]) -> None:
        """Count what the pool saved."""
        decision, entry = self._decision, self._entry
        if decision is None or decision.private is not None or entry is None or self._progress.route != Route.LOCAL:
            return
        prices = next((one.prices for one in entry.candidates if isinstance(one, Cloud) and not one.inside), None)
        if prices is not None:
            self._routes.spending.saved(self._progress.model, cost_of(prices, usage_in(b"".join(tail)), 0))

    # ------------------------------------------------------------------------------------------------- the decision
    @property
    def _entry(self) -> Entry | None:
        return self._routes.settings.table.find(self._call.asked.model)

    async def _decided(self) -> RouteDecision:
        progress, call = self._progress, self._call
        request = self._routes.described(call)
        decision = await self._routes.decide(call, request)
        if self._routes.is_down(decision, request.name):
            for _ in range(DOWN_LOOKS):
                await asyncio.sleep(DOWN_PAUSE_S)
                if not self._routes.is_down(decision, request.name):
                    break
            decision = await self._routes.decide(call, request)
        progress.private = decision.private or ""
        failed = None
        if not decision.choices:
            progress.model, progress.route, progress.reason = "", Route.REFUSED, decision.reason
            failed = None if self._entry is None else self._routes.pool.why_unavailable(self._entry)
        decision = permitted(decision, request, self._routes.settings.table, call.caller, failed)
        self._due_s = None if decision.deadline_s is None else call.started_s + decision.deadline_s
        self._leaves_s = None if decision.patience_s is None else call.started_s + decision.patience_s
        return decision

    def _candidate(self, choice: Choice, decision: RouteDecision) -> Candidate:
        reason = self._reason(choice, decision)
        late_before = self._left_line is not None
        self._tried.append(choice)
        if choice.route is not Route.LOCAL:
            return Candidate(
                model=ModelName(choice.model), route=choice.route, reason=reason, upstream=self._cloud(choice)
            )
        until_s, parameters = None, choice.parameters
        if self._leaves_s is not None and (late_before or not choice.late):
            until_s = max(self._leaves_s, asyncio.get_running_loop().time() + GRACE_S)
        if reason not in PLAIN:
            return Candidate(model=ModelName(choice.model), reason=reason, until_s=until_s, parameters=parameters)
        return Candidate(
            model=ModelName(choice.model),
            reason=reason,
            at_once=RouteReason.WARM,
            in_line=RouteReason.QUEUED,
            until_s=until_s,
            parameters=parameters,
        )

    def _reason(self, choice: Choice, decision: RouteDecision) -> RouteReason:
        if choice == decision.choices[0]:
            return decision.reason
        if self._left_line is None:
            return RouteReason.FALLBACK
        if choice.route is Route.LOCAL:
            return RouteReason.SOONER
        return RouteReason.DEADLINE if decision.patience_s == decision.deadline_s else RouteReason.BUSY

    def _cloud(self, choice: Choice) -> CloudChoice:
        entry = self._entry
        assert entry is not None
        cloud = next(one for one in entry.candidates if isinstance(one, Cloud) and one.name == choice.model)
        return CloudChoice(choice=choice, cloud=replace(cloud, parameters=choice.parameters), due_s=self._due_s)


def permitted(
    decision: RouteDecision,
    request: Described,
    table: NameTable,
    caller: Principal,
    failed: ModelUnavailableError | None = None,
) -> RouteDecision:
    """A decision with the choices that a key may use.

    Args:
        decision: What the rules say.
        request: What they say it of.
        table: All names.
        caller: Whose request it is.
        failed: Why a model of the pool cannot serve it, where one is known to fail or to be out of service.

    Raises:
        NotAllowedError: It may use none of them.
        UnknownModelError, ClientFacingError: There is none.
    """
    choices = tuple(choice for choice in decision.choices if may_use(caller, choice.model))
    if decision.choices and not choices:
        allowed = ", ".join(caller.models)
        raise NotAllowedError(f"key {caller.name!r} may not use {request.name!r}; ask for one of: {allowed}")
    if not choices:
        raise _refusal(decision, request, table, caller, failed)
    return replace(decision, choices=choices)


def _refusal(
    decision: RouteDecision,
    request: Described,
    table: NameTable,
    caller: Principal,
    failed: ModelUnavailableError | None,
) -> HotseatError | ClientFacingError:
    if decision.reason is RouteReason.UNKNOWN_MODEL:
        return UnknownModelError(f"no model {request.name}")
    if decision.reason is RouteReason.INCAPABLE:
        return refused_as_incapable(decision.passed_over, request.kind, table, caller)
    if failed is not None and decision.reason is RouteReason.UNAVAILABLE:
        return failed
    message = REFUSALS[decision.reason]
    if decision.reason is RouteReason.PRIVATE_REFUSED and decision.private is not None:
        message = f"{message} (private: {decision.private})"
    after_s = ERRORS[decision.reason].after_s
    if failed is not None and after_s is not None:
        message, after_s = f"{message}: {failed}", max(after_s, failed.retry_after_s)
    return ClientFacingError(ClientError(code=decision.reason, message=message, retry_after_s=after_s))
