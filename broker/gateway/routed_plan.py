"""The candidates of one request, as routing decided; and what becomes of the decision while they fail.

Rule: before every candidate that leads outside the session's mark in the store is looked at again, before every
upstream its breaker is.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from broker.core.errors import HotseatError, UnknownModelError
from broker.core.lease import ModelName
from broker.gateway.candidates import Candidate, Plan, RoutedName
from broker.gateway.cloud_call import CloudCall
from broker.gateway.clouds import Clouds
from broker.gateway.desk import Progress
from broker.gateway.looking import Looking
from broker.gateway.marks import Marks
from broker.gateway.purse import Purse
from broker.gateway.routed import Look, PoolNow, Routes, RoutingSettings, names_of
from broker.gateway.troubles import Trouble, TroubleError
from broker.gateway.usage import usage_in
from broker.principals import NotAllowedError, Principal
from broker.routing.budget import cost_of
from broker.routing.catalogue import Cloud
from broker.routing.decision import Choice, Decision, Reason, Route
from broker.routing.fallback import following
from broker.routing.privacy import Firewall

GRACE_S = 0.25
"""A substitute is given so long to be free, also when the deadline is over."""
DOWN_PAUSE_S = 0.1
DOWN_LOOKS = 30
"""A model that no slot serves is given three seconds: its worker, or this broker, may just have started."""
REFUSALS: dict[Reason, tuple[int, str]] = {
    Reason.TOO_LONG: (400, "prompt and reply's room are longer than any model that may serve this takes"),
    Reason.INCAPABLE: (400, "no model of this name can do what the request needs"),
    Reason.PRIVATE_REFUSED: (503, "the request is private and no local model can serve it now"),
    Reason.BUDGET_REFUSED: (429, "no local model can serve it now, and the budget for upstreams is used up"),
    Reason.UNAVAILABLE: (503, "nothing can serve it now"),
}
PLAIN = frozenset({Reason.WARM, Reason.QUEUED})
RETRY_AFTER_S = {Reason.PRIVATE_REFUSED: 5, Reason.UNAVAILABLE: 5, Reason.BUDGET_REFUSED: 60}


class Routing:
    """What the desk asks for plans."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._names = names_of(routes.settings.table)

    @property
    def names(self) -> tuple[RoutedName, ...]:
        """What can be asked for beside the models."""
        return self._names

    def rule(self, progress: Progress) -> Plan:
        """The candidates of one request."""
        return RoutedPlan(self._routes, progress)

    @property
    def marks(self) -> Marks | None:
        """Of private sessions; None: nothing can leave, so nobody needs to know."""
        return self._routes.marks if self._routes.settings.table.has_cloud else None

    async def close(self) -> None:
        """Settle, and let go of connections."""
        await self._routes.purse.close()
        await self._routes.marks.close()
        self._routes.clouds.close()
        self._routes.looking.close()


def routing_of(
    settings: RoutingSettings,
    firewall: Firewall,
    purse: Purse,
    marks: Marks,
    clouds: Clouds,
    last: Callable[[], Look | None],
) -> Routing:
    """Put routing together. ``last`` gives the scheduler's last look at the pool."""
    routes = Routes(
        settings=settings,
        firewall=firewall,
        clouds=clouds,
        purse=purse,
        pool=PoolNow(last, settings.policy),
        looking=Looking(firewall.look_through_bytes),
        marks=marks,
    )
    return Routing(routes)


class RoutedPlan:
    """Of one request."""

    def __init__(self, routes: Routes, progress: Progress) -> None:
        self._routes = routes
        self._progress = progress
        self._call = progress.call
        self._decision: Decision | None = None
        self._due_s: float | None = None
        """Loop time of the deadline."""
        self._tried: list[Choice] = []
        self._left_line: Choice | None = None

    # ---------------------------------------------------------------------------------------------------- the plan
    async def following(self) -> Candidate | None:
        """See ``Plan``."""
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
        return Candidate(model=ModelName(back.model), reason=Reason.LATE)

    def has_more(self) -> bool:
        """See ``Plan``; called when a line is left."""
        decision = self._decision
        if decision is None or following(decision, self._tried, self._routes.state_here(self._call)) is None:
            return False
        self._left_line = self._left_line or self._tried[-1]
        return True

    def close(self, tail: Iterable[bytes]) -> None:
        """Count what the pool saved."""
        decision, entry = self._decision, self._routes.settings.table.entries.get(self._call.asked.model)
        if decision is None or decision.private is not None or entry is None or self._progress.route != Route.LOCAL:
            return
        cloud = next((one for one in entry.candidates if isinstance(one, Cloud) and not one.inside), None)
        if cloud is not None:
            self._routes.purse.saved(self._progress.model, cost_of(cloud.prices, usage_in(b"".join(tail)), 0))

    # ------------------------------------------------------------------------------------------------- the decision
    async def _decided(self) -> Decision:
        progress, call = self._progress, self._call
        request = self._routes.described(call)
        decision = await self._routes.decide(call, request)
        if self._routes.is_down(decision, request.name):
            for _ in range(DOWN_LOOKS):
                await asyncio.sleep(DOWN_PAUSE_S)
                if not self._routes.is_down(decision, request.name):
                    break
            decision = await self._routes.decide(call, request)
        choices = tuple(choice for choice in decision.choices if may_use(call.caller, choice.model))
        if decision.choices and not choices:
            allowed = ", ".join(call.caller.models)
            raise NotAllowedError(f"key {call.caller.name!r} may not use {request.name!r}; ask for one of: {allowed}")
        progress.private = decision.private or ""
        if not choices:
            progress.model, progress.route, progress.reason = "", Route.REFUSED, decision.reason
            raise _refusal(decision)
        entry = self._routes.settings.table.entries[request.name]
        deadline_s = entry.deadline_s if request.deadline_s is None else request.deadline_s
        self._due_s = None if deadline_s is None else call.started_s + deadline_s
        return replace(decision, choices=choices)

    def _candidate(self, choice: Choice, decision: Decision) -> Candidate:
        reason = self._reason(choice, decision)
        late_before = self._left_line is not None
        self._tried.append(choice)
        if choice.route is not Route.LOCAL:
            return Candidate(
                model=ModelName(choice.model), route=choice.route, reason=reason, call=self._cloud_call(choice).run
            )
        until_s = None
        if self._due_s is not None and (late_before or not choice.late):
            until_s = max(self._due_s, asyncio.get_running_loop().time() + GRACE_S)
        if reason not in PLAIN:
            return Candidate(model=ModelName(choice.model), reason=reason, until_s=until_s)
        return Candidate(
            model=ModelName(choice.model), reason=reason, at_once=Reason.WARM, in_line=Reason.QUEUED, until_s=until_s
        )

    def _reason(self, choice: Choice, decision: Decision) -> Reason:
        if choice == decision.choices[0]:
            return decision.reason
        if self._left_line is None:
            return Reason.FALLBACK
        return Reason.SOONER if choice.route is Route.LOCAL else Reason.DEADLINE

    def _cloud_call(self, choice: Choice) -> CloudCall:
        entry = self._routes.settings.table.entries[self._call.asked.model]
        cloud = next(one for one in entry.candidates if isinstance(one, Cloud) and one.name == choice.model)
        before = tuple(self._tried[:-1])

        async def may_go() -> bool:
            assert self._decision is not None
            routes, call = self._routes, self._call
            state = routes.state_here(call) if choice.inside else await routes.state_now(call)
            return following(self._decision, before, state) == choice

        def has_others() -> bool:
            assert self._decision is not None
            return following(self._decision, self._tried, self._routes.state_here(self._call)) is not None

        return CloudCall(
            clouds=self._routes.clouds,
            purse=self._routes.purse,
            progress=self._progress,
            choice=choice,
            cloud=cloud,
            may_go=may_go,
            has_others=has_others,
            left_s=self._left_s,
        )

    def _left_s(self) -> float | None:
        return None if self._due_s is None else self._due_s - asyncio.get_running_loop().time()


def may_use(caller: Principal, model: str) -> bool:
    """The key's own list holds for the model that serves, whatever name was asked for."""
    return not caller.models or any(fnmatchcase(model, pattern) for pattern in caller.models)


def _refusal(decision: Decision) -> HotseatError | TroubleError:
    if decision.reason is Reason.UNKNOWN_MODEL:
        return UnknownModelError("there is no such model")
    status, message = REFUSALS[decision.reason]
    if decision.reason is Reason.PRIVATE_REFUSED and decision.private is not None:
        message = f"{message} (private: {decision.private})"
    after_s = RETRY_AFTER_S.get(decision.reason)
    return TroubleError(Trouble(status=status, code=decision.reason, message=message, retry_after_s=after_s))
