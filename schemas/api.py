"""The HTTP API's bodies, as documented: OpenAPI and the exported JSON Schema come from here.

The hot paths decode and encode with the msgspec twins in ``broker/api/views.py``; a test holds both to the same shape.
All durations are seconds, all memory MiB, all names camelCase.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

LABEL_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f{}\u2028\u2029]+$"
"""Session keys and holders: no control characters, no braces (Redis's hash tags), no line separators."""

MODEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$"

LEASE_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"

SessionKey = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, min_length=1, max_length=256)]
Holder = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, min_length=1, max_length=128)]
Model = Annotated[str, StringConstraints(pattern=MODEL_PATTERN)]
LeaseIdentity = Annotated[str, StringConstraints(pattern=LEASE_ID_PATTERN)]
Secret = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+$", min_length=1, max_length=128)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Ttl = Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)]
Expected = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Wait = Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)]
PriorityNumber = Annotated[int, Field(ge=-5, le=5)]
PriorityName = Literal["interactive", "normal", "background", "batch"]
IntentName = Literal["use", "warm"]
StateName = Literal["queued", "active", "ending", "ended"]


class Body(BaseModel):
    """Base: camelCase on the wire, unknown fields refused, docstrings become descriptions."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class LeaseRequest(Body):
    """What to ask for. Asking again for the same session, model, intent and holder answers with the same lease."""

    session_key: SessionKey
    """The conversation or job the lease is for, as the client names it."""
    model: Model
    """A name of the catalogue (``GET /models``)."""
    ttl_seconds: Ttl | None = None
    """How long the lease lives without a renewal, from the moment it becomes active. Null: the broker's default."""
    intent: IntentName = "use"
    """``use``: calling it now, held against everybody. ``warm``: will need it again; active at once, yields to any
    use."""
    priority: PriorityName | PriorityNumber = "normal"
    """A class, or a number: 2 to 5 interactive, -1 to 1 normal, -2 and -3 background, below batch."""
    wait: Wait = 0
    """Seconds to hold the answer for a grant; the broker's ``wait_max_s`` bounds it."""
    holder: Holder | None = None
    """Who uses it within the session (an agent, a request); two holders have two leases."""
    expected_seconds: Expected | None = None
    """The client's own estimate of how long it will hold the lease; used while its past estimates hold."""
    cancel_on_disconnect: bool = False
    """Leave the line at once when the connection that waits drops; else the place is kept for the waiter's TTL."""


class ByLease(Body):
    """A lease, named by what its holder got with it."""

    lease_id: LeaseIdentity
    nonce: Secret


class BySession(Body):
    """The live lease of a session on a model."""

    session_key: SessionKey
    model: Model
    intent: IntentName = "use"
    holder: Holder | None = None


class RenewByLease(ByLease):
    """Prolong a lease, or keep the place in line."""

    ttl_seconds: Ttl | None = None
    """Counted from now. Null: the TTL the lease has."""


class RenewBySession(BySession):
    """Prolong a session's lease, or keep its place in line."""

    ttl_seconds: Ttl | None = None
    """Counted from now. Null: the TTL the lease has."""


class ReleaseByLease(ByLease):
    """Give a lease back, or leave the line; safe to repeat."""


class ReleaseBySession(BySession):
    """Give a session's lease back, or leave the line; safe to repeat."""


class Endpoint(Body):
    """Where to call the model while the lease is active."""

    base_url: str
    """The model server's own API, ends in ``/v1``."""
    api_key: str
    """Valid for this load of the model only."""


class Lease(Body):
    """A lease, or the place in line for one (state ``queued``)."""

    lease_id: str
    nonce: str | None = None
    """Proof of holding it, for renew and release; shown to its owner only."""
    session_key: str
    """Percent-encoded where it is not plain ASCII."""
    model: str
    intent: IntentName
    state: StateName
    reason: str | None = None
    """Why it is ending or has ended: released, expired, cancelled, timed_out, rejected, preempted, revoked or lost,
    some with a detail after a colon."""
    position: int | None = None
    """1: next of its model."""
    eta_seconds: Seconds | None = None
    """Expected time until the grant; absent when unknown: ``waitReason`` says what it hangs on."""
    eta_low_seconds: Seconds | None = None
    eta_high_seconds: Seconds | None = None
    wait_reason: str | None = None
    """model_busy, loading, draining_other, other_model_first, barrier, loader_busy, backing_off, no_slot or
    quarantined."""
    expires_in_seconds: Seconds | None = None
    """Active or ending: until it ends unless renewed. Queued: until the place is given up unless asked about."""
    endpoint: Endpoint | None = None
    """Set for an active ``use`` lease, to its owner only."""


class Problem(Body):
    """RFC 9457 problem details; ``code`` is stable, ``detail`` says what to do."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retry_after_seconds: int | None = None
    """As the ``Retry-After`` header."""


class QueueEntry(Body):
    """One live lease, without its secrets."""

    lease_id: str
    session_key: str
    model: str
    intent: IntentName
    priority: PriorityName
    holder: str
    who: str
    """Name of the API key."""
    state: StateName
    slot: str | None = None
    position: int | None = None
    waited_seconds: Seconds
    held_seconds: Seconds
    expires_in_seconds: Seconds
    eta_seconds: Seconds | None = None
    eta_low_seconds: Seconds | None = None
    eta_high_seconds: Seconds | None = None
    wait_reason: str | None = None


class Queue(Body):
    """Live leases: held ones first, then queued in order of service."""

    leases: list[QueueEntry]
    queued: int
    """Tickets waiting in the whole pool."""


class Why(Body):
    """Why a lease waits."""

    lease_id: str
    state: StateName
    lines: list[str]
    """For people: what it is, who is ahead, what the slots do, the longest it can take."""
    wait_reason: str | None = None
    position: int | None = None
    ahead: int | None = None
    """Tickets of its model that are served before it."""
    bound_seconds: Seconds | None = None
    """Longest it can wait by the configuration, counted from its arrival; absent when a condition of the bound does not
    hold."""


class ResidencyInfo(Body):
    """A model on a slot."""

    model: str
    state: str
    """loading, ready or unloading."""
    progress: int
    """Of the load, percent; 0 where the server does not tell."""
    memory_mib: int
    holders: int
    """``use`` leases on it."""
    admits: Literal["all", "none", "earlier"]
    """``earlier``: only those that waited before it must make room."""


class FailureInfo(Body):
    """A model that failed to load on a slot, or whose server died there at work."""

    model: str
    fails: int
    """Loads in a row."""
    deaths: int = 0
    """Of its server at work, within the last hour, as this broker has seen them."""
    quarantined: bool
    """Its loads are given up."""
    retry_in_seconds: Seconds | None = None
    error: str


class SlotInfo(Body):
    """A place with a memory budget on one worker."""

    slot: str
    state: str
    """offline, recovering, open, cordoned, draining or quarantined."""
    reason: str
    worker: str
    budget_mib: int
    total_mib: int
    free_mib: int
    foreign_mib: int
    foreign: list[str]
    """Processes that are not ours, ``name/pid:mib``."""
    residencies: list[ResidencyInfo]
    failures: list[FailureInfo]
    making_room_for: str | None = None


class Status(Body):
    """The pool at one moment."""

    pool: str
    version: str
    uptime_seconds: Seconds
    store: Literal["ok", "unavailable", "uninitialised"]
    snapshot_age_seconds: Seconds | None = None
    """How old the picture below is; null: none yet."""
    queued: int
    slots: list[SlotInfo]
    warnings: list[str] = []
    """What is unwise about the store: that it may forget, or is shared with another build."""


class ModelInfo(Body):
    """One model of the catalogue."""

    name: str
    state: str
    """Its deepest residency: ready, loading, unloading or absent."""
    slots: list[str]
    """Where it is ready."""
    memory_mib: int
    lease_limit: int
    load_seconds: Seconds
    """Mean time from order to ready."""
    hold_seconds: Seconds
    """Mean length of a lease."""
    holders: int
    warm: int
    waiters: int
    wait_reason: str | None = None
    is_default: bool
    trust: Literal["trusted", "suspect", "canary", "quarantined"] = "trusted"
    """In its answers, as this broker has seen them; a suspect is asked last, or not sent all kinds of requests, one in
    quarantine is asked no more."""
    trust_reason: str | None = None
    """Why, in words; null: there is nothing to be said."""
    deaths: int = 0
    """Of its server at work, within the last hour, as this broker has seen them."""
    banned: list[str] = []
    """Kinds of requests that it is not sent, for its server died of them."""


class Models(Body):
    """The catalogue; and OpenAI's form of it, as of `GET /v1/models`, for clients whose base URL lacks `/v1`."""

    models: list[ModelInfo]
    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    """What the caller may ask for, aliases included."""


class Health(Body):
    """The process answers."""

    status: Literal["ok"]


class Ready(Body):
    """The process can serve leases."""

    status: Literal["ready"]
    store: str
