"""Who may serve a request, best first: the seam between what was asked and the lease.

Rule: the exchange asks the plan for one candidate after the other, and goes on to the next while the client has nothing
but keepalives. It knows nothing of why they are what they are; see ``routed`` for a plan that decides.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from broker.core.lease import ModelName
from broker.gateway.troubles import Trouble, TroubleError


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve a request."""

    model: ModelName
    route: str = "local"
    """Where: ``local`` is a leased model of the pool, ``cloud`` an upstream. A wire word: ``x-hotseat-route``."""
    reason: str = "named"
    """Why this one. A wire word: ``x-hotseat-reason``."""
    at_once: str = ""
    in_line: str = ""
    """Instead of ``reason``, when the lease came at once, or had to be waited for: a forecast may be wrong."""
    until_s: float | None = None
    """Loop time until which its line is waited in while the plan has others; None: as long as the client does."""
    call: Callable[[], Awaitable[None]] | None = None
    """Passes the request to an upstream and its answer back; None: take a lease."""


class Plan(Protocol):
    """The candidates of one request."""

    async def following(self) -> Candidate | None:
        """The one to try next, the first time or after the last one failed; None: there is no more.

        Raises:
            HotseatError, TroubleError: Nobody may serve this request.
        """

    def has_more(self) -> bool:
        """Would there be another one if the current one were given up now?"""

    def close(self, tail: Iterable[bytes]) -> None:
        """The request was served; its answer ended so."""


class Listed:
    """Candidates that are known beforehand."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._left = deque(candidates)

    async def following(self) -> Candidate | None:
        """See ``Plan``."""
        return self._left.popleft() if self._left else None

    def has_more(self) -> bool:
        """See ``Plan``."""
        return bool(self._left)

    def close(self, tail: Iterable[bytes]) -> None:
        """Nothing to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedName:
    """A name for something else than one model of the pool: for the list of models."""

    name: str
    local: tuple[str, ...]
    """Models of the pool that may serve it."""
    outside: tuple[str, ...]
    """Models of upstreams that may."""


class TooLateError(TroubleError):
    """A candidate was not there in time, and another one may be."""

    def __init__(self, model: str) -> None:
        super().__init__(Trouble(status=503, code="too_late", message=f"{model} was not free in time", retry_after_s=1))
