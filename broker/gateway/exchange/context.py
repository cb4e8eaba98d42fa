"""What all exchanges of one process share, and what one of them is about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from broker.access.principals import Principal
from broker.accounting.requests import Accounts
from broker.answers.verdict import Verdict
from broker.core.lease import Priority
from broker.gateway.exchange.candidates import RoutedName, ServingPlan
from broker.gateway.exchange.contract import Checks, Strict, Validated
from broker.gateway.exchange.settings import GatewaySettings, Prospects
from broker.gateway.requests.bodies import BodyRoom
from broker.gateway.requests.conversations import Sightings
from broker.gateway.requests.identity import Asked, Identity
from broker.gateway.requests.patience import PatienceLimits
from broker.gateway.requests.spans import Spans
from broker.gateway.trust.death_watch import DeathWatch
from broker.gateway.trust.deaths import Suspect
from broker.gateway.trust.reputations import Reputations
from broker.gateway.trust.signs import SignsOfLife
from broker.gateway.trust.testimony import Complaint, RequestSource
from broker.gateway.trust.traits import traits_of
from broker.http_client.connection_pool import ConnectionPool
from broker.leasing.held_lease import Holds
from broker.leasing.life import BrokerLife
from broker.leasing.service import Leasing
from broker.leasing.waiters import Waiters
from broker.protocol.client_side import ClientSide
from broker.protocol.endpoints import ApiEndpoint, EventShape
from broker.protocol.headers import EVENT_STREAM, Headers, Served
from broker.protocol.profiles import Profile, Waiting, keepalive, takes_role
from broker.routing.request.parameters import NOTHING, Parameters

RETRY_HEADER = b"x-stainless-retry-count"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, read and judged."""

    caller: Principal
    endpoint: ApiEndpoint
    headers: Mapping[bytes, bytes]
    target: str
    """Path below ``/v1``, with its query."""
    body: bytes
    asked: Asked
    identity: Identity
    priority: Priority
    profile: Profile
    only_warm: bool = False
    """Is it served only while a model for it is loaded? Then it goes to no upstream either."""
    limits: PatienceLimits
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
    def source(self) -> RequestSource:
        """For whom what it sees of a model speaks: callers without a key are told apart by their sessions."""
        session = self.identity.session
        return RequestSource(party=self.caller.name if self.caller.has_key else session, session=session)

    @property
    def may_commit(self) -> bool:
        """May its answer begin before the model server's?"""
        return self.asked.stream and self.endpoint.shape is not EventShape.WHOLE and self.profile is not Profile.NONE


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
    load_error: str = ""
    """While it is in line: how the last load of its model failed."""
    retries: int = 0
    parameters: Parameters = NOTHING
    """What is changed about it for the candidate that is tried."""
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
    def source(self) -> RequestSource:
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

    def place(self) -> str:
        """Where it is in line, for people."""
        about = "nobody knows yet how long" if self.eta_s is None else f"about {self.eta_s:.0f} s"
        return f"position {self.position}, {about}"

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
            eta_s=self.eta_s if self.position else None,
            validated=self.validated or "",
            load_error=self.load_error,
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
            load_error=self.load_error,
        )
        await self.client.keepalive(keepalive(self.call.profile, self.call.endpoint.shape, waiting))


PlanRule = Callable[[Progress], ServingPlan]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayContext:
    """Shared by all exchanges."""

    settings: GatewaySettings
    leasing: Leasing
    waiters: Waiters
    upstreams: ConnectionPool
    prospects: Prospects
    accounts: Accounts
    room: BodyRoom
    holds: Holds
    life: BrokerLife
    reputations: Reputations
    rule: PlanRule
    deaths: DeathWatch
    signs: SignsOfLife
    spans: Spans = field(default_factory=Spans)
    sightings: Sightings = field(default_factory=Sightings)
    names: tuple[RoutedName, ...] = ()
    """What can be asked for beside the models."""
