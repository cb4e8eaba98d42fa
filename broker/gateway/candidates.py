"""Who may serve a request, best first: the seam between what was asked and the lease.

Rule: the exchange tries the candidates in order and goes on to the next while the client has nothing but keepalives. It
knows nothing of why they are what they are; a stage that has aliases, private requests and other upstreams replaces
``as_named``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.core.lease import ModelName
from broker.gateway.endpoints import Endpoint
from broker.gateway.identity import Asked, Identity
from broker.principals import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A request as a rule may see it."""

    caller: Principal
    endpoint: Endpoint
    asked: Asked
    identity: Identity
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to serve a request."""

    model: ModelName
    route: str = "local"
    """Where: ``local`` is a leased model of the pool. A wire word: ``x-hotseat-route``."""
    reason: str = "named"
    """Why this one. A wire word: ``x-hotseat-reason``."""


Rule = Callable[[Described], Sequence[Candidate]]


def as_named(request: Described) -> Sequence[Candidate]:
    """The model that the client named, and no other."""
    return (Candidate(model=ModelName(request.asked.model)),)
