"""Who may serve a request, best first: the seam between what was asked and the lease.

Rule: a plan only decides. The exchange asks it for one candidate after the other, and goes on to the next while the
client has nothing but keepalives. It knows nothing of why they are what they are; see ``plans.routed_plan`` for one
that decides. A candidate is a value: who serves it is asked by an ``attempt`` of its kind.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from broker.core.lease import ModelName
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.routing.catalogue import Cloud
from broker.routing.decision import Choice
from broker.routing.request.parameters import NOTHING, Parameters


class CloudChoice(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream's model, as it was chosen."""

    choice: Choice
    cloud: Cloud
    """The catalogue's entry, with what the name that was asked for changes."""
    due_s: float | None = None
    """Loop time of the deadline; None: no hurry."""


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
    parameters: Parameters = NOTHING
    """What the name that was asked for changes about the request."""
    upstream: CloudChoice | None = None
    """Whose model it is; None: the pool's, which takes a lease."""


class ServingPlan(ABC):
    """The candidates of one request."""

    @abstractmethod
    async def following(self) -> Candidate | None:
        """The one to try next, the first time or after the last one failed; None: there is no more.

        Raises:
            HotseatError, ClientFacingError: Nobody may serve this request.
        """

    def has_more(self) -> bool:
        """Would there be another one if the current one were given up now?"""
        return False

    def has_trusted(self) -> bool:
        """Would that one's answers be trusted?"""
        return self.has_more()

    async def still_wants(self, candidate: Candidate) -> bool:  # noqa: ARG002  most plans never change their mind
        """May the current one be asked again, with all that is known now?"""
        return True

    def leave_line(self) -> None:  # noqa: B027  most plans do not come back to it
        """The current one's line is left for another candidate; it may be joined again where that one fails."""

    def close(self, tail: Iterable[bytes]) -> None:  # noqa: B027  most plans have nothing to count
        """The request was served; its answer ended so."""


class NarrowedPlan(ServingPlan):
    """Another plan, of which some candidates are left out or set aside."""

    def __init__(self, plan: ServingPlan) -> None:
        self._plan = plan

    def has_more(self) -> bool:
        """See ``ServingPlan``."""
        return self._plan.has_more()

    def has_trusted(self) -> bool:
        """See ``ServingPlan``."""
        return self._plan.has_trusted()

    async def still_wants(self, candidate: Candidate) -> bool:
        """See ``ServingPlan``."""
        return await self._plan.still_wants(candidate)

    def leave_line(self) -> None:
        """See ``ServingPlan``."""
        self._plan.leave_line()

    def close(self, tail: Iterable[bytes]) -> None:
        """See ``ServingPlan``."""
        self._plan.close(tail)


class Listed(ServingPlan):
    """Candidates that are known beforehand."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._left = deque(candidates)

    async def following(self) -> Candidate | None:
        """See ``ServingPlan``."""
        return self._left.popleft() if self._left else None

    def has_more(self) -> bool:
        """See ``ServingPlan``."""
        return bool(self._left)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedName:
    """A name for something else than one model of the pool: for the list of models."""

    name: str
    local: tuple[str, ...]
    """Models of the pool that may serve it."""
    outside: tuple[str, ...]
    """Models of upstreams that may."""


class TooLateError(ClientFacingError):
    """A candidate was not there in time, and another one may be."""

    def __init__(self, model: str) -> None:
        super().__init__(ClientError(code="too_late", message=f"{model} was not free in time"))
