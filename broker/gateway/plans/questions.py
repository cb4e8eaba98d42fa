"""Asks the rules of ``broker.routing``: gathers what they want to know, and keeps what they find out.

Rule: in doubt a request stays. A session whose marks cannot be read has no upstream, a budget that cannot be read has
nothing left, and a private request is served only when its session's mark is in the store.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from broker.core.availability import unavailable_by_picture
from broker.core.decisions import Plan as PoolPlan
from broker.core.errors import ModelUnavailableError
from broker.core.lease import ModelName
from broker.core.snapshot import Snapshot
from broker.gateway.cloud.spending import Spending
from broker.gateway.cloud.upstreams import Clouds
from broker.gateway.exchange.call import Call
from broker.gateway.exchange.candidates import RoutedName
from broker.gateway.requests.inspection import THREAD_BYTES, InspectionThreads
from broker.gateway.requests.marks import PrivacyMarks
from broker.policy.settings import PolicySettings
from broker.routing.capability import Unfit
from broker.routing.catalogue import Cloud, Entry, Local, NameTable, Variant, leads_out
from broker.routing.decision import RouteDecision
from broker.routing.pool_view import PoolModels, free_mib
from broker.routing.privacy.firewall import Because, Firewall
from broker.routing.quantisation import quantisation_header
from broker.routing.request.contents import UnreadContent
from broker.routing.request.nature import Nature, nature_of
from broker.routing.request.purpose import Task
from broker.routing.request.request import (
    KIND_OF_PATH,
    UNREAD,
    Described,
    RequestKind,
    deadline_header,
    private_header,
    task_header,
)
from broker.routing.route import Router, RouteState
from broker.routing.speeds import Speeds
from broker.routing.variants import ModelState

log = logging.getLogger("hotseat.gateway")

PRIVATE_HEADER = b"x-hotseat-private"
DEADLINE_HEADER = b"x-hotseat-deadline-s"
TASK_HEADER = b"x-hotseat-task"
QUANTISATION_HEADER = b"x-hotseat-quantisation"


class Look(Protocol):
    """The scheduler's last look at the pool."""

    @property
    def snapshot(self) -> Snapshot:
        """The pool."""

    @property
    def plan(self) -> PoolPlan:
        """What was decided on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSettings:
    """``[routing]`` and what belongs to it."""

    table: NameTable
    private_keys: frozenset[str] = frozenset()
    deadlines_s: Mapping[str, float] = field(default_factory=dict)
    """By the API key's name, seconds."""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """What a key's requests are for, by its name."""
    private_idle_s: float = 86_400.0
    private_sessions: int = 10_000
    policy: PolicySettings = field(default_factory=PolicySettings)


class PoolNow:
    """What routing is told of the pool, made once per look."""

    def __init__(self, last: Callable[[], Look | None], policy: PolicySettings, busy_percent: int) -> None:
        self._last = last
        self._busy_percent = busy_percent
        self._policy = policy
        self._look: Look | None = None
        self._models: Mapping[str, ModelState] = {}
        self._free_mib = 0

    def why_unavailable(self, entry: Entry) -> ModelUnavailableError | None:
        """Why nobody should wait for the first of its models that failed or is out of service; None: none did or is."""
        look = self._last()
        if look is None:
            return None
        found = (unavailable_by_picture(look.snapshot, ModelName(one.name)) for one in variants_of(entry))
        return next((error for error in found if error is not None), None)

    def state(self, entry: Entry) -> RouteState:
        """The pool's part of it. Before the first look any model may be served, nobody knows when."""
        look = self._last()
        if look is None:
            return unknown(entry)
        if look is not self._look:
            self._look = look
            self._models = PoolModels(look.snapshot, look.plan, self._policy, self._busy_percent)
            self._free_mib = free_mib(look.snapshot)
        return RouteState(models=self._models, free_mib=self._free_mib)


def unknown(entry: Entry) -> RouteState:
    """Of a pool nobody has looked at."""
    return RouteState(models={one.name: ModelState() for one in variants_of(entry)})


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingQuestions:
    """All that decisions need, of one process."""

    settings: RoutingSettings
    firewall: Firewall
    clouds: Clouds
    spending: Spending
    marks: PrivacyMarks
    pool: PoolNow
    inspection_threads: InspectionThreads
    speeds: Speeds

    async def decide(self, call: Call, request: Described) -> RouteDecision:
        """What to do with a request; from then on its session is private, if it is.

        Raises:
            StoreUnavailableError: It is private, and that cannot be noted.
        """
        decision = await self.judge(call, request)
        if decision.private not in {None, Because.UNSETTLED}:
            await self.marks.mark(call.identity.marks)
        return decision

    async def judge(self, call: Call, request: Described) -> RouteDecision:
        """The same, and nothing is noted."""
        entry = self.settings.table.find(request.name)
        if entry is None:
            return Router(table=self.settings.table, firewall=self.firewall).route(request, RouteState())
        session, now_s = call.identity.marks, asyncio.get_running_loop().time()
        state = self._state_of(entry, call, now_s)
        known = self.marks.is_known(session)
        private: bool | None = known
        if any(map(leads_out, entry.candidates)) and not request.key_private:
            private, allowance_micro = await self._asked(call, private=known)
            state = replace(state, allowance_micro=allowance_micro)
        decision = await self._decided(request, replace(state, session_private=private is True))
        if decision.private is None and private is None:
            # Nothing says that it is private, but nobody knows about its session.
            decision = await self._decided(request, replace(state, session_private=True))
            decision = replace(decision, private=Because.UNSETTLED)
        return decision

    def _state_of(self, entry: Entry, call: Call, now_s: float) -> RouteState:
        """What this process knows by itself."""
        state = replace(self.pool.state(entry), open_breakers=self.clouds.breakers.open(now_s, call.source))
        if not entry.asks_for_speed:
            return state
        names = [*(one.name for one in variants_of(entry)), *(one.name for one in entry.candidates)]
        known = {name: speed for name in names if (speed := self.speeds.of(name, now_s)) is not None}
        return replace(state, speeds=known)

    async def _asked(self, call: Call, *, private: bool) -> tuple[bool | None, int | None]:
        """What the store knows: is the session private (None: nobody knows), and what the key may still spend."""
        session, key = call.identity.marks, call.caller.name
        if not self.spending.is_limited(key):
            return private or await self.marks.is_private(session), None
        if private:
            return True, await self.spending.left_micro(key)
        # At once: one after the other they would be two round trips before the first byte.
        return await asyncio.gather(self.marks.is_private(session), self.spending.left_micro(key))

    def is_down(self, decision: RouteDecision, name: str) -> bool:
        """Is it refused for want of a model of the pool that no slot serves, also now, and that may come back soon?"""
        down = {one.name for one in decision.passed_over if one.why is Unfit.DOWN}
        if decision.choices or not down:
            return False
        entry = self._entry(name)
        if self.pool.why_unavailable(entry) is not None:
            return False
        served = self.pool.state(entry).models
        variants = [one.variants for one in entry.candidates if isinstance(one, Local) and one.name in down]
        return not any(variant.name in served for of_one in variants for variant in of_one)

    def _entry(self, name: str) -> Entry:
        """Of a name that is known to be one."""
        entry = self.settings.table.find(name)
        assert entry is not None
        return entry

    async def _decided(self, request: Described, state: RouteState) -> RouteDecision:
        router = Router(table=self.settings.table, firewall=self.firewall)
        is_read = self.settings.table.has_cloud or needs_content(self._entry(request.name))
        try:
            if is_read and request.kind not in UNREAD and request.size_bytes > THREAD_BYTES:
                return await self.inspection_threads.by_turns(request.work, router.route, request, state)
            return router.route(request, state)
        except Exception:  # a forecast must not cost anybody an answer; the firewall never raises
            log.exception("routing_failed", extra={"model": request.name})
            pool = unknown(self._entry(request.name))
            return router.route(request, replace(state, models=pool.models, free_mib=0))

    async def state_now(self, call: Call) -> RouteState:
        """What has changed since a decision."""
        private = await self.marks.is_private(call.identity.marks) is not False
        open_breakers = self.clouds.breakers.open(asyncio.get_running_loop().time(), call.source)
        return RouteState(open_breakers=open_breakers, session_private=private)

    def state_here(self, call: Call) -> RouteState:
        """The same, as far as this process knows it without asking."""
        open_breakers = self.clouds.breakers.open(asyncio.get_running_loop().time(), call.source)
        return RouteState(open_breakers=open_breakers, session_private=self.marks.is_known(call.identity.marks))

    def described(self, call: Call) -> Described:
        """A request as the rules see it.

        Raises:
            BadArgumentError: The deadline, the task or the quantisation cannot be read.
        """
        kind = KIND_OF_PATH.get(call.endpoint.path, RequestKind.OTHER)
        deadline_s = deadline_header(call.headers.get(DEADLINE_HEADER))
        work = self.inspection_threads.work(len(call.body))
        return Described(
            name=call.asked.model,
            kind=kind,
            content=UnreadContent(kind, call.body, work),
            work=work,
            size_bytes=len(call.body),
            key_private=call.caller.name in self.settings.private_keys,
            header_private=private_header(call.headers.get(PRIVATE_HEADER)),
            deadline_s=self.settings.deadlines_s.get(call.caller.name) if deadline_s is None else deadline_s,
            priority=call.priority,
            task=task_header(call.headers.get(TASK_HEADER)),
            usual_task=self.settings.tasks.get(call.caller.name),
            quantisations=quantisation_header(call.headers.get(QUANTISATION_HEADER)) or call.asked.quantisations,
        )


async def nature_by(inspection_threads: InspectionThreads, request: Described, usual: Task | None) -> Nature:
    """What a request is by nature; a large one is looked through beside the event loop, by turns."""
    if request.size_bytes > THREAD_BYTES:
        return await inspection_threads.by_turns(request.work, nature_of, request, usual)
    return nature_of(request, usual)


def needs_content(entry: Entry) -> bool:
    """Must a request by this name be read, for its rules, or to be compared with what its candidates can do?"""
    if entry.branches or entry.asks_for_speed:
        return True
    return any(isinstance(one, Cloud) or one.abilities.needs_content for one in entry.candidates)


def names_of(table: NameTable) -> tuple[RoutedName, ...]:
    """What can be asked for beside the pool's models."""
    models = {one.name for entry in table.entries.values() for one in variants_of(entry)}
    return tuple(
        RoutedName(
            name=name,
            local=tuple(one.name for one in variants_of(entry)),
            outside=tuple(one.name for one in entry.candidates if isinstance(one, Cloud)),
        )
        for name, entry in table.entries.items()
        if name not in models
    )


def variants_of(entry: Entry) -> list[Variant]:
    """The models of the pool that may serve it."""
    return [variant for one in entry.candidates if isinstance(one, Local) for variant in one.variants]
