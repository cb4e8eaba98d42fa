"""What all exchanges of one process share, and what one of them is about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from broker.answers.deaths import Suspect
from broker.answers.testimony import Complaint, Source
from broker.answers.traits import traits_of
from broker.answers.verdict import Verdict
from broker.core.lease import ModelName, Priority
from broker.gateway.accounts import Accounts
from broker.gateway.bodies import Room
from broker.gateway.candidates import Candidate, Listed, Plan, RoutedName
from broker.gateway.client_side import ClientSide
from broker.gateway.contract import Checks, Strict, Validated
from broker.gateway.conversations import Sightings
from broker.gateway.death_watch import DeathWatch
from broker.gateway.endpoints import Endpoint, Shape
from broker.gateway.headers import EVENT_STREAM, Headers, Served
from broker.gateway.holding import Holds
from broker.gateway.identity import Asked, Identity
from broker.gateway.patience import Limits
from broker.gateway.profiles import Profile, Waiting, keepalive, takes_role
from broker.gateway.reputations import Reputations
from broker.gateway.settings import GatewaySettings, Prospects
from broker.gateway.spans import Spans
from broker.leasing import Leasing
from broker.life import Life
from broker.principals import Principal
from broker.upstream.pool import Upstreams
from broker.waiters import Waiters

RETRY_HEADER = b"x-stainless-retry-count"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, read and judged."""

    caller: Principal
    endpoint: Endpoint
    headers: Mapping[bytes, bytes]
    target: str
    """Path below ``/v1``, with its query."""
    body: bytes
    asked: Asked
    identity: Identity
    priority: Priority
    profile: Profile
    limits: Limits
    """Of its waiting: the configured ones, and within its own patience."""
    fingerprint: str
    started_s: float
    """Loop time."""
    created_s: int
    """Unix time."""

    @property
    def is_retry(self) -> bool:
        """Does the client say that it has asked this before? Both official SDKs do."""
        return self.headers.get(RETRY_HEADER, b"0").strip() != b"0"

    @property
    def source(self) -> Source:
        """For whom what it sees of a model speaks: callers without a key are told apart by their sessions."""
        session = self.identity.session
        return Source(party=self.caller.name if self.caller.has_key else session, session=session)

    @property
    def may_commit(self) -> bool:
        """May its answer begin before the model server's?"""
        return self.asked.stream and self.endpoint.shape is not Shape.WHOLE and self.profile is not Profile.NONE


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a request is; what headers, keepalives and accounts tell."""

    call: Call
    client: ClientSide
    model: str = ""
    route: str = ""
    reason: str = ""
    private: str = ""
    """Why it may not leave; empty: it may."""
    lease_id: str = ""
    position: int = 0
    waited_s: float = 0.0
    """For the lease; grows while it is in line."""
    granted_s: float | None = None
    """Loop time of the lease, or of the question to an upstream."""
    eta_s: float | None = None
    retries: int = 0
    plan: Plan | None = None
    checks: Checks | None = None
    """What is checked of its answer; None: nothing."""
    strict: Strict | None = None
    """What the answer of the current candidate must hold."""
    validated: Validated | None = None
    had_useless: bool = False
    """Was an answer thrown away? That is done once for a request."""
    has_complained: bool = False
    """Was a bad answer counted? That is done once for a request, however often it is tried."""
    verdict: Verdict | None = None
    """On the last answer of a model server."""

    @property
    def source(self) -> Source:
        """See ``reputations.Asker``."""
        return self.call.source

    @property
    def path(self) -> str:
        """See ``reputations.Asker``."""
        return self.call.endpoint.path

    def complaint(self) -> Complaint | None:
        """See ``reputations.Asker``."""
        if self.has_complained or self.call.is_retry:
            return None
        self.has_complained = True
        return Complaint(source=self.call.source, request=self.call.fingerprint, asked_s=self.call.started_s)

    def suspect(self) -> Suspect:
        """See ``flights.Passenger``."""
        call = self.call
        return Suspect(source=call.source, request=call.fingerprint, traits=traits_of(self.path, call.body))

    @property
    def body(self) -> bytes:
        """What the next try sends."""
        return self.call.body if self.strict is None else self.strict.body

    def since_start_s(self) -> float:
        """Since the request arrived."""
        return self.client.now_s() - self.call.started_s

    def spoke_s(self) -> float | None:
        """When the last keepalive went out, since the request arrived."""
        return None if self.client.spoke_s is None else self.client.spoke_s - self.call.started_s

    def served(self) -> Served:
        """How it is served, as of now."""
        return Served(
            lease_id=self.lease_id,
            model=self.model,
            route=self.route,
            reason=self.reason,
            private=self.private,
            waited_s=self.waited_s,
            position=self.position,
            validated=self.validated or "",
        )

    def headers(self) -> Headers:
        """``x-hotseat-…`` as of now."""
        return self.served().headers()

    async def commit(self) -> None:
        """Begin the answer without the model server."""
        await self.client.begin(200, [*EVENT_STREAM, (b"x-accel-buffering", b"no"), *self.headers()])
        await self.speak()

    async def speak(self) -> None:
        """Send a keepalive."""
        waiting = Waiting(
            lease_id=self.lease_id,
            model=self.model,
            position=self.position,
            eta_s=self.eta_s,
            created_s=self.call.created_s,
            with_role=takes_role(self.call.headers),
        )
        await self.client.keepalive(keepalive(self.call.profile, self.call.endpoint.shape, waiting))


Rule = Callable[[Progress], Plan]


def as_named(progress: Progress) -> Plan:
    """The model that the client named, and no other."""
    return Listed((Candidate(model=ModelName(progress.call.asked.model)),))


class Routing(Protocol):
    """Decides who serves what."""

    @property
    def names(self) -> tuple[RoutedName, ...]:
        """What can be asked for beside the models."""

    def rule(self, progress: Progress) -> Plan:
        """The candidates of one request."""

    async def close(self) -> None:
        """The process ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Shared by all exchanges."""

    settings: GatewaySettings
    leasing: Leasing
    waiters: Waiters
    upstreams: Upstreams
    prospects: Prospects
    accounts: Accounts
    room: Room
    holds: Holds
    life: Life
    reputations: Reputations
    deaths: DeathWatch
    spans: Spans = field(default_factory=Spans)
    sightings: Sightings = field(default_factory=Sightings)
    rule: Rule = as_named
    names: tuple[RoutedName, ...] = ()
    """What can be asked for beside the models."""
