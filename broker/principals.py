"""Who calls: scopes and limits of an API key."""

from dataclasses import dataclass
from enum import StrEnum

from broker.core.errors import RequestError
from broker.core.lease import Priority

INGRESS_PREFIX = "ingress:"
"""``who`` of a lease that came through the ingress stream; the API key of the publisher's name owns it too."""


class Scope(StrEnum):
    """What an API key is for."""

    LEASE = "lease"
    OBSERVE = "observe"
    OPERATE = "operate"
    ADMIN = "admin"
    """Everything."""


class NotAllowedError(RequestError):
    """The API key may not do this."""

    code = "not_allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls, and within which limits."""

    name: str
    scopes: frozenset[Scope]
    models: tuple[str, ...] = ()
    """Patterns of the models it may use (``*`` and ``?``); empty: all."""
    max_priority: Priority = Priority.INTERACTIVE
    max_ttl_s: float | None = None
    max_open: int = 0
    """Live leases; 0: no limit."""
    has_key: bool = True
    """False: whoever is let in without one, so many may share the name."""

    def may(self, scope: Scope) -> bool:
        """Does the key have the scope, or ``admin``?"""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def owns(self, who: str) -> bool:
        """Is a lease of ``who`` its own, or published under its name? An admin owns all."""
        return who in {self.name, INGRESS_PREFIX + self.name} or Scope.ADMIN in self.scopes
