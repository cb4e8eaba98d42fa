"""What routing decides and why: plain values, in the words of the header ``x-hotseat-reason``."""

from dataclasses import dataclass, field
from enum import StrEnum

from broker.routing.capability import Unfit
from broker.routing.privacy.firewall import PrivacyCause
from broker.routing.request.parameters import NOTHING, Parameters


class Route(StrEnum):
    """Where a request goes; the word of ``x-hotseat-route``."""

    LOCAL = "local"
    CLOUD = "cloud"
    INSIDE = "inside"
    """It goes to an upstream that is the operator's own."""
    REFUSED = "refused"


class RouteReason(StrEnum):
    """Why a request goes where it goes; the word of ``x-hotseat-reason``."""

    WARM = "warm"
    """Local: the model is ready and has a lease free."""
    QUEUED = "queued"
    """Local: a lease on it is waited for."""
    VARIANT = "variant"
    """Local: another quantisation than the best, for it fits or comes sooner."""
    RIDE_WARM = "ride_warm"
    """Local: a substitute that is ready, since the first choice would miss the deadline, or is busy."""
    SOONER = "sooner"
    """Local: a substitute that comes in time, since the first choice would miss the deadline, or is busy."""
    CAPABILITY = "capability"
    """The first choice cannot answer this request; this one can."""
    FALLBACK = "fallback"
    """The first choice is down or not for this class; this one is not."""
    DEADLINE = "deadline"
    """Upstream: no local model would be in time."""
    BUSY = "busy"
    """Upstream: others use the GPU, or the wait for it is longer than it may be."""
    FASTEST = "fastest"
    """Its answer is expected to be whole before any other's."""
    CHEAPER = "cheaper"
    """Upstream: the cheapest of several that are in time."""
    ASKED = "asked"
    """Upstream: that is what the name means."""
    LATE = "late"
    """Nothing is in time; this is the least late."""
    PRIVATE = "private"
    """Local or inside: the request may not leave, though the name also has upstreams outside."""
    BUDGET = "budget"
    """Local: what is left of the budget does not pay for the upstream that would have served."""

    UNKNOWN_MODEL = "unknown_model"
    """Refused: there is no such name."""
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
    """One candidate to try, with what is known of it for this request."""

    model: str
    """Name of the model: one of the pool, on which a lease is asked for, or one of an upstream's in our catalogue."""
    upstream: str | None = None
    """Name of the upstream that serves it; None: the pool does."""
    remote_name: str = ""
    """The name by which the upstream calls the model."""
    wait_s: float | None = 0.0
    """How long its first byte is expected to take, seconds; None: not known."""
    reserve_micro: int = 0
    """How much to reserve of the budget before the call, micro-units."""
    is_priced: bool = True
    """It is known what a call costs."""
    reply_micro: int = 0
    """How much of what is reserved is for the reply, micro-units."""
    late: bool = False
    """It will miss the deadline."""
    busy: bool = False
    """Others use its device, or the wait for it is longer than it may be: whoever else is in time goes before it."""
    takes_s: float | None = None
    """How long its whole answer is expected to take, seconds, where that was asked for; None: not known."""
    inside: bool = False
    """The upstream is the operator's own."""
    parameters: Parameters = field(default=NOTHING, compare=False)
    """What is changed about the request on this way."""

    @property
    def route(self) -> Route:
        """Return where a request goes with this choice."""
        if self.upstream is None:
            return Route.LOCAL
        return Route.INSIDE if self.inside else Route.CLOUD


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A candidate that was not chosen, and why not."""

    name: str
    why: Unfit


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDecision:
    """What to do with one request, and why."""

    reason: RouteReason
    choices: tuple[Choice, ...] = ()
    """The candidates in the order to try them; empty: the request is refused."""
    private: PrivacyCause | None = None
    """Why the request is private, and its session from now on; None: it is not."""
    deadline_s: float | None = None
    """The deadline that held: seconds until the first byte is wanted; None: there was none."""
    busy_wait_s: float | None = None
    """The limit that held: after so many seconds a wait is given up while another candidate may serve; None: none
    did."""
    rule: int = 0
    """Number of the name's rule that held, from 1; 0: none."""
    passed_over: tuple[PassedOver, ...] = field(default=())

    @property
    def patience_s(self) -> float | None:
        """Return after how many seconds a wait is given up while another candidate may serve; None: never."""
        limits = [limit for limit in (self.deadline_s, self.busy_wait_s) if limit is not None]
        return min(limits, default=None)

    @property
    def route(self) -> Route:
        """Return where the first choice goes."""
        return self.choices[0].route if self.choices else Route.REFUSED
