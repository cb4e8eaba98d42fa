"""Who calls: scopes and limits of an API key."""

from dataclasses import dataclass
from enum import StrEnum

from broker.core.errors import RequestError
from broker.core.lease import INGRESS, Priority

ANONYMOUS = "anonymous"
"""The name of whoever calls without an API key, where that is allowed."""


class Scope(StrEnum):
    """What an API key may do. Each API call names the one scope that it needs."""

    LEASE = "lease"
    OBSERVE = "observe"
    OPERATE = "operate"
    ADMIN = "admin"
    """It includes all other scopes."""


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
    """How many live leases it may have at once; 0 means no limit."""
    speaks_for: str = ""
    """The API key whose sessions it speaks of; empty: itself."""
    has_key: bool = True
    """False: whoever is let in without one, so many may share the name."""

    def may(self, scope: Scope) -> bool:
        """Does the key have the scope, or ``admin``?"""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def owns(self, who: str) -> bool:
        """Is a lease of ``who`` its own, or published under its name? An admin owns all."""
        return who in self.names or Scope.ADMIN in self.scopes

    @property
    def owner(self) -> str:
        """Name of the API key whose sessions it speaks of."""
        return self.speaks_for or self.name

    @property
    def names(self) -> tuple[str, str]:
        """What its own leases have for ``who``: its name, or that with which it published them."""
        return self.name, INGRESS + self.name
