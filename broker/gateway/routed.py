"""Asks the rules of ``broker.routing``: gathers what they want to know, and keeps what they find out.

Rule: in doubt a request stays. A session whose marks cannot be read has no upstream, a budget that cannot be read has
nothing left, and a private request is served only when its session's mark is in the store.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from broker.core.decisions import Plan as PoolPlan
from broker.core.settings import PolicySettings
from broker.core.snapshot import Snapshot
from broker.gateway.candidates import RoutedName
from broker.gateway.clouds import Clouds
from broker.gateway.desk import Call
from broker.gateway.looking import THREAD_BYTES, Looking
from broker.gateway.marks import Marks
from broker.gateway.purse import Purse
from broker.routing.capability import Why
from broker.routing.catalogue import Cloud, Entry, Local, Table, Variant, leads_out
from broker.routing.contents import UnreadContent
from broker.routing.decision import Decision
from broker.routing.pool import PoolModels, free_mib
from broker.routing.privacy import Because, Firewall
from broker.routing.request import KIND_OF_PATH, Described, Kind, deadline_header, private_header
from broker.routing.route import Router, State
from broker.routing.variants import ModelState

log = logging.getLogger("hotseat.gateway")

PRIVATE_HEADER = b"x-hotseat-private"
DEADLINE_HEADER = b"x-hotseat-deadline-s"


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

    table: Table
    private_keys: frozenset[str] = frozenset()
    deadlines_s: Mapping[str, float] = field(default_factory=dict)
    """By the API key's name, seconds."""
    private_idle_s: float = 86_400.0
    private_sessions: int = 10_000
    policy: PolicySettings = field(default_factory=PolicySettings)


class PoolNow:
    """What routing is told of the pool, made once per look."""

    def __init__(self, last: Callable[[], Look | None], policy: PolicySettings) -> None:
        self._last = last
        self._policy = policy
        self._look: Look | None = None
        self._models: Mapping[str, ModelState] = {}
        self._free_mib = 0

    def state(self, entry: Entry) -> State:
        """The pool's part of it. Before the first look any model may be served, nobody knows when."""
        look = self._last()
        if look is None:
            return unknown(entry)
        if look is not self._look:
            self._look = look
            self._models = PoolModels(look.snapshot, look.plan, self._policy)
            self._free_mib = free_mib(look.snapshot)
        return State(models=self._models, free_mib=self._free_mib)


def unknown(entry: Entry) -> State:
    """Of a pool nobody has looked at."""
    return State(models={one.name: ModelState() for one in variants_of(entry)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """All that decisions need, of one process."""

    settings: RoutingSettings
    firewall: Firewall
    clouds: Clouds
    purse: Purse
    marks: Marks
    pool: PoolNow
    looking: Looking

    async def decide(self, call: Call, request: Described) -> Decision:
        """What to do with a request; from then on its session is private, if it is.

        Raises:
            StoreUnavailableError: It is private, and that cannot be noted.
        """
        entry = self.settings.table.entries.get(request.name)
        if entry is None:
            return Router(table=self.settings.table, firewall=self.firewall).route(request, State())
        session, now_s = call.identity.marks, asyncio.get_running_loop().time()
        state = replace(self.pool.state(entry), open_breakers=self.clouds.breakers.open(now_s, call.source))
        known = self.marks.is_known(session)
        private: bool | None = known
        if any(map(leads_out, entry.candidates)) and not request.key_private:
            private, allowance_micro = await self._asked(call, private=known)
            state = replace(state, allowance_micro=allowance_micro)
        decision = await self._decided(request, replace(state, session_private=private is True))
        if decision.private is not None:
            await self.marks.mark(session)
        elif private is None:  # nothing says that it is private, but nobody knows about its session
            decision = await self._decided(request, replace(state, session_private=True))
            decision = replace(decision, private=Because.UNSETTLED)
        return decision

    async def _asked(self, call: Call, *, private: bool) -> tuple[bool | None, int | None]:
        """What the store knows: is the session private (None: nobody knows), and what the key may still spend."""
        session, key = call.identity.marks, call.caller.name
        if not self.purse.is_limited(key):
            return private or await self.marks.is_private(session), None
        if private:
            return True, await self.purse.left_micro(key)
        # At once: one after the other they would be two round trips before the first byte.
        return await asyncio.gather(self.marks.is_private(session), self.purse.left_micro(key))

    def is_down(self, decision: Decision, name: str) -> bool:
        """Is it refused for want of a model of the pool that no slot serves, also now?"""
        down = {one.name for one in decision.passed_over if one.why is Why.DOWN}
        if decision.choices or not down:
            return False
        entry = self.settings.table.entries[name]
        served = self.pool.state(entry).models
        variants = [one.variants for one in entry.candidates if isinstance(one, Local) and one.name in down]
        return not any(variant.name in served for of_one in variants for variant in of_one)

    async def _decided(self, request: Described, state: State) -> Decision:
        router = Router(table=self.settings.table, firewall=self.firewall)
        is_read = self.settings.table.has_cloud or needs_content(self.settings.table.entries[request.name])
        try:
            if is_read and request.kind is not Kind.OTHER and request.size_bytes > THREAD_BYTES:
                return await self.looking.by_turns(request.work, router.route, request, state)
            return router.route(request, state)
        except Exception:  # a forecast must not cost anybody an answer; the firewall never raises
            log.exception("routing_failed", extra={"model": request.name})
            pool = unknown(self.settings.table.entries[request.name])
            return router.route(request, replace(state, models=pool.models, free_mib=0))

    async def state_now(self, call: Call) -> State:
        """What has changed since a decision."""
        private = await self.marks.is_private(call.identity.marks) is not False
        open_breakers = self.clouds.breakers.open(asyncio.get_running_loop().time(), call.source)
        return State(open_breakers=open_breakers, session_private=private)

    def state_here(self, call: Call) -> State:
        """The same, as far as this process knows it without asking."""
        open_breakers = self.clouds.breakers.open(asyncio.get_running_loop().time(), call.source)
        return State(open_breakers=open_breakers, session_private=self.marks.is_known(call.identity.marks))

    def described(self, call: Call) -> Described:
        """A request as the rules see it.

        Raises:
            BadArgumentError: The deadline cannot be read.
        """
        kind = KIND_OF_PATH.get(call.endpoint.path, Kind.OTHER)
        deadline_s = deadline_header(call.headers.get(DEADLINE_HEADER))
        work = self.looking.work(len(call.body))
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
        )


def needs_content(entry: Entry) -> bool:
    """Must a request by this name be read, to be compared with what its candidates can do?"""
    return any(isinstance(one, Cloud) or one.abilities.needs_content for one in entry.candidates)


def names_of(table: Table) -> tuple[RoutedName, ...]:
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
