"""How far one request is: what its headers, its keepalives and its account tell."""

from dataclasses import dataclass

from broker.answers.verdict import Verdict
from broker.gateway.exchange.call import Call
from broker.gateway.exchange.contract import Checks, Strict, Validated
from broker.gateway.trust.deaths import Suspect
from broker.gateway.trust.testimony import Complaint, RequestSource
from broker.gateway.trust.traits import traits_of
from broker.protocol.client_side import ClientSide
from broker.protocol.headers import EVENT_STREAM, Headers, Served
from broker.protocol.profiles import Waiting, keepalive, takes_role
from broker.routing.request.parameters import NOTHING, Parameters


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
