"""What routing decides and why: plain values, in the words of the header ``x-hotseat-reason``."""

from dataclasses import dataclass, field
from enum import StrEnum

from broker.routing.capability import Why
from broker.routing.privacy import Cause


class Route(StrEnum):
    """Where a request goes; the word of ``x-hotseat-route``."""

    LOCAL = "local"
    CLOUD = "cloud"
    INSIDE = "inside"
    """An upstream that is the operator's own."""
    REFUSED = "refused"


class Reason(StrEnum):
    """Why it goes there."""

    WARM = "warm"
    """Local: the model is ready and has a place."""
    QUEUED = "queued"
    """Local: wait in line for it."""
    VARIANT = "variant"
    """Local: another quantisation than the best, for it fits or comes sooner."""
    RIDE_WARM = "ride_warm"
    """Local: a substitute that is ready, since the first choice would miss the deadline."""
    SOONER = "sooner"
    """Local: a substitute that comes in time, since the first choice would miss the deadline."""
    CAPABILITY = "capability"
    """The first choice cannot answer this request; this one can."""
    FALLBACK = "fallback"
    """The first choice is down or not for this class; this one is not."""
    DEADLINE = "deadline"
    """Upstream: no local model would be in time."""
    CHEAPER = "cheaper"
    """Upstream: the cheapest of several that are in time."""
    ASKED = "asked"
    """Upstream: that is what the name means."""
    LATE = "late"
    """Nothing is in time; the least bad."""
    PRIVATE = "private"
    """Local or inside: the request may not leave, though the name has upstreams outside."""
    BUDGET = "budget"
    """Local: what is left of the budget does not pay for the upstream that would have served."""

    UNKNOWN_MODEL = "unknown_model"
    """Refused: no such name."""
    TOO_LONG = "too_long"
    """Refused: prompt and reply's room fit no candidate."""
    INCAPABLE = "incapable"
    """Refused: no candidate can do what the request needs."""
    PRIVATE_REFUSED = "private_refused"
    """Refused: the request may not leave, and no local model can serve it."""
    BUDGET_REFUSED = "budget_refused"
    """Refused: no local model can serve it, and the budget is used up."""
    UNAVAILABLE = "unavailable"
    """Refused: nothing can serve it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One candidate to try."""

    model: str
    """Of the pool: ask a lease on it. Of an upstream: its name in our table."""
    upstream: str | None = None
    """None: the pool."""
    remote_name: str = ""
    """What the upstream calls the model."""
    wait_s: float | None = 0.0
    """Expected until the first byte, seconds; None: not known."""
    reserve_micro: int = 0
    """What to reserve before the call."""
    late: bool = False
    """It will miss the deadline."""
    inside: bool = False
    """The upstream is the operator's own."""

    @property
    def route(self) -> Route:
        """Pool or upstream, and whose."""
        if self.upstream is None:
            return Route.LOCAL
        return Route.INSIDE if self.inside else Route.CLOUD


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A candidate that is no choice."""

    name: str
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with a request."""

    reason: Reason
    choices: tuple[Choice, ...] = ()
    """In the order to try them; none: refused."""
    private: Cause | None = None
    """Set: the session is private from now on."""
    passed_over: tuple[PassedOver, ...] = field(default=())

    @property
    def route(self) -> Route:
        """Where the first choice is."""
        return self.choices[0].route if self.choices else Route.REFUSED
