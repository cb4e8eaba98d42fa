"""Leases: states, events, the transition table, and the words around them.

A ticket is a lease in state ``queued``: id and nonce do not change when it is granted.
"""

from enum import StrEnum
from typing import NamedTuple, NewType
from urllib.parse import unquote

from broker.core.values import hot_value

LeaseId = NewType("LeaseId", str)
Nonce = NewType("Nonce", str)
ModelName = NewType("ModelName", str)
SlotId = NewType("SlotId", str)
SessionHash = NewType("SessionHash", str)
LifeId = NewType("LifeId", str)
"""``<name>/<boot>`` of a broker: from its start to its end, or until its beats were missed. Never the same twice."""
NO_LIFE = LifeId("")
"""Of a lease that belongs to its holder, whatever becomes of brokers."""


INGRESS = "ingress:"
"""Before a publisher's name: ``who`` of a lease that was asked for through the ingress stream."""


class Session(NamedTuple):
    """A conversation or job. It belongs to the API key that named it: what two keys call alike are two sessions."""

    owner: str
    key: str
    """As its client names it."""


class Intent(StrEnum):
    """What the holder does with the model."""

    USE = "use"
    """Calling it now: the model stays, until the lease is given back or, once its slice is over, asked back."""
    WARM = "warm"
    """Will need it again: kept while nobody waits for the room."""


class Priority(StrEnum):
    """Classes, most urgent first; the order of definition is the order of service."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    BACKGROUND = "background"
    BATCH = "batch"


PRIORITIES: tuple[Priority, ...] = tuple(Priority)
RANK: dict[Priority, int] = {priority: rank for rank, priority in enumerate(PRIORITIES)}


def priority_of(number: int) -> Priority:
    """The class of a number -5 … 5: ≥ 2 interactive, -1 … 1 normal, -2 and -3 background, below batch.

    Raises:
        ValueError: Outside -5 … 5.
    """
    if not -5 <= number <= 5:
        msg = "priority must be between -5 and 5"
        raise ValueError(msg)
    for lowest, priority in ((2, Priority.INTERACTIVE), (-1, Priority.NORMAL), (-3, Priority.BACKGROUND)):
        if number >= lowest:
            return priority
    return Priority.BATCH


class LeaseState(StrEnum):
    """Wire words of the API."""

    QUEUED = "queued"
    ACTIVE = "active"
    ENDING = "ending"
    ENDED = "ended"


class LeaseEvent(StrEnum):
    """What can happen to a lease."""

    GRANT = "grant"
    RENEW = "renew"
    PREEMPT = "preempt"
    RELEASE = "release"
    EXPIRE = "expire"
    CANCEL = "cancel"
    TIME_OUT = "time_out"
    REJECT = "reject"
    REVOKE = "revoke"
    LOSE = "lose"


class EndReason(StrEnum):
    """Why a lease ended."""

    RELEASED = "released"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    PREEMPTED = "preempted"
    REVOKED = "revoked"
    LOST = "lost"


TRANSITIONS: dict[LeaseState, dict[LeaseEvent, LeaseState]] = {
    LeaseState.QUEUED: {
        LeaseEvent.GRANT: LeaseState.ACTIVE,
        LeaseEvent.CANCEL: LeaseState.ENDED,
        LeaseEvent.TIME_OUT: LeaseState.ENDED,
        LeaseEvent.REJECT: LeaseState.ENDED,
        LeaseEvent.LOSE: LeaseState.ENDED,
    },
    LeaseState.ACTIVE: {
        LeaseEvent.RENEW: LeaseState.ACTIVE,
        LeaseEvent.PREEMPT: LeaseState.ENDING,
        LeaseEvent.RELEASE: LeaseState.ENDED,
        LeaseEvent.EXPIRE: LeaseState.ENDED,
        LeaseEvent.REVOKE: LeaseState.ENDED,
        LeaseEvent.LOSE: LeaseState.ENDED,
    },
    LeaseState.ENDING: {
        LeaseEvent.RENEW: LeaseState.ENDING,
        LeaseEvent.RELEASE: LeaseState.ENDED,
        LeaseEvent.EXPIRE: LeaseState.ENDED,
        LeaseEvent.REVOKE: LeaseState.ENDED,
        LeaseEvent.LOSE: LeaseState.ENDED,
    },
    LeaseState.ENDED: {},
}
"""``EXPIRE`` of an ending lease is recorded with reason ``preempted``: its grace ran out."""


class IllegalTransitionError(Exception):
    """The table has no such arrow; nothing was changed."""


def next_state(state: LeaseState, event: LeaseEvent) -> LeaseState:
    """Follow the table.

    Raises:
        IllegalTransitionError: No such transition.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        msg = f"a lease that is {state} cannot {event}"
        raise IllegalTransitionError(msg) from None


@hot_value
class AcquireRequest:
    """Everything the store needs to open a lease; already validated by the edge.

    ``lease_id`` and ``nonce`` are made by the caller, so a retried call is the same call.
    """

    lease_id: LeaseId
    nonce: Nonce
    session: str
    """Session key as the client gave it; the store keeps a hash and a percent-encoded label."""
    model: ModelName
    intent: Intent = Intent.USE
    priority: Priority = Priority.NORMAL
    holder: str = ""
    who: str = "anonymous"
    """Name of the API key."""
    owner: str = ""
    """Whose its session is; empty: the API key's."""
    ttl_s: float = 60.0
    waiter_ttl_s: float = 60.0
    """A ticket not asked about for this long is dropped."""
    expected_s: float | None = None
    """The client's estimate of how long it will hold the lease."""
    operation: str = ""
    """Idempotency key as given; empty: none."""
    body_hash: str = ""
    max_open: int = 0
    """Live leases this API key may have; 0: no limit."""
    single: bool = False
    """It is for one request and ends with it: asked back after ``request_run_s``, not after ``exchange_min_run_s``."""
    life: LifeId = NO_LIFE
    """The broker's life that alone can serve it, and with which it ends."""
    place: str = ""
    """Fingerprint of the request: one that comes back bears the same."""
    only_warm: bool = False
    """It is to be served only while its model is loaded: refused otherwise, and its ticket ends when the model goes."""
    named: bool = False
    """Does the client name its session? Then any request of it may come back to a place that the session left."""
    label: str = ""
    """What it is for, in the client's words; for people only."""

    @property
    def of(self) -> Session:
        """Its session."""
        return Session(self.owner or self.who, self.session)


@hot_value
class LeaseRecord:
    """One lease as the store shows it. Durations in seconds from the moment of the read."""

    lease_id: LeaseId
    nonce: Nonce
    session: str
    """Percent-encoded label."""
    session_hash: SessionHash
    model: ModelName
    intent: Intent
    holder: str
    priority: Priority
    who: str
    state: LeaseState
    reason: str
    """Empty until ended; then an ``EndReason``, optionally followed by ``: detail``. For ``ending``: why."""
    arrival: int
    position: int
    """1 = next of its model; 0 when not queued."""
    waited_s: float
    """Time in the queue so far, or until the grant."""
    held_s: float
    expires_in_s: float
    """Until the deadline of its state; 0 when ended."""
    ttl_s: float
    expected_s: float
    """0: no trusted estimate."""
    slot: SlotId | None
    generation: int
    base_url: str
    """The model server's own ``…/v1``; empty unless an active ``use`` lease."""
    api_key: str
    residency: str
    """State of the model where the lease is, or of its best residency: absent, loading, ready …"""
    progress: int
    """Load progress, percent."""
    now_s: float
    load_error: str = ""
    """Of a ticket, or one that ended: how the last load of its model failed; empty while there is nothing to tell."""
    load_tries: int = 0
    """Such failures in a row."""
    failed_ago_s: float = 0.0
    retry_in_s: float = 0.0
    """Until it is tried again; 0: now, or not by itself."""
    label: str = ""
    """Percent-encoded."""

    @property
    def whose(self) -> str:
        """What people know it by."""
        return f"{self.session} ({unquote(self.label)})" if self.label else self.session
