"""The HTTP API's bodies, as documented: OpenAPI and the exported JSON Schema come from here.

The hot paths decode and encode with the msgspec twins in ``broker/api/views.py``; a test holds both to the same shape.
All durations are seconds, all memory MiB, all names camelCase.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

LABEL_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f{}\u2028\u2029]+$"
"""Session keys and holders: no control characters, no braces (Redis's hash tags), no line separators."""

REMARK_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]+$"
"""Free text of one line: no control characters, nothing that turns the direction of what stands beside it."""

MODEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$"

LEASE_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"

SessionKey = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, min_length=1, max_length=256)]
Holder = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, min_length=1, max_length=128)]
Remark = Annotated[str, StringConstraints(pattern=REMARK_PATTERN, min_length=1, max_length=128)]
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
    """``use``: calling it now; not unloaded meanwhile, and asked back only with a time of grace. ``warm``: will need it
    again; active at once, yields to any use."""
    priority: PriorityName | PriorityNumber = "normal"
    """A class, or a number: 2 to 5 interactive, -1 to 1 normal, -2 and -3 background, below batch."""
    wait: Wait = 0
    """Seconds to hold the answer for a grant; the broker's ``wait_max_s`` bounds it."""
    holder: Holder | None = None
    """Who uses it within the session (an agent, a request); two holders have two leases."""
    expected_seconds: Expected | None = None
    """The client's own estimate of how long it will hold the lease; used while its past estimates hold."""
    cancel_on_disconnect: bool = False
    """Leave the queue at once when the connection that waits drops; else the ticket is kept for the waiter's TTL."""
    only_if_warm: bool = False
    """Only while the model is loaded: 503 ``model_not_warm`` at once where it is not, and the ticket ends when the
    model goes. Causes no load. For heartbeats and other work that nobody misses."""
    single_request: bool = False
    """The lease is for one request to the model server and given back after it: then it is asked back not before it
    was held for ``request_run_s`` (900 s), as requests of ``/v1`` are, instead of after its slice."""
    label: Remark | None = None
    """What the lease is for, in words, for people who look at the pool; nothing is decided by it. Whoever asks again
    for the same session keeps the label that the lease has."""


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
    """Prolong a lease, or keep its ticket queued."""

    ttl_seconds: Ttl | None = None
    """Counted from now. Null: the TTL the lease has."""


class RenewBySession(BySession):
    """Prolong a session's lease, or keep its ticket queued."""

    ttl_seconds: Ttl | None = None
    """Counted from now. Null: the TTL the lease has."""


class ReleaseByLease(ByLease):
    """Give a lease back, or leave the queue; safe to repeat."""


class ReleaseBySession(BySession):
    """Give a session's lease back, or leave the queue; safe to repeat."""


class Endpoint(Body):
    """Where to call the model while the lease is active."""

    base_url: str
    """The model server's own API, ends in ``/v1``."""
    api_key: str
    """Valid for this load of the model only."""


class LoadFailure(Body):
    """How the last load of a model failed, told to whoever waits for it."""

    error: str
    """What went wrong, with the model server's own last words; no secrets."""
    fails: int
    """How many loads failed in a row."""
    retry_in_seconds: Seconds | None = None
    """Time until it is tried again; absent: it is tried now, or not by itself."""


class Lease(Body):
    """A lease, or the ticket for one (state ``queued``)."""

    lease_id: str
    nonce: str | None = None
    """Proof of holding it, for renew and release; shown to its owner only."""
    session_key: str
    """The conversation or job; percent-encoded where it is not plain ASCII."""
    label: str | None = None
    """What the lease is for, as its client put it; percent-encoded in the same way."""
    model: str
    intent: IntentName
    state: StateName
    reason: str | None = None
    """Why it is ending or has ended: released, expired, cancelled, timed_out, rejected, preempted, revoked or lost,
    some with a detail after a colon."""
    position: int | None = None
    """Place in its model's queue: 1 is next."""
    eta_seconds: Seconds | None = None
    """Expected time until the grant; absent when unknown: ``waitReason`` says what it hangs on."""
    eta_low_seconds: Seconds | None = None
    eta_high_seconds: Seconds | None = None
    wait_reason: str | None = None
    """model_busy, loading, draining_other, other_model_first, barrier, loader_busy, backing_off, no_slot or
    quarantined."""
    load_failure: LoadFailure | None = None
    """How the last load of its model failed; set for a queued or ended lease until a load succeeds."""
    expires_in_seconds: Seconds | None = None
    """Active or ending: until it ends unless renewed. Queued: until the ticket is dropped unless asked about."""
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
    """The same number as in the ``Retry-After`` header."""


class QueueEntry(Body):
    """One live lease, without its secrets."""

    lease_id: str
    session_key: str
    model: str
    intent: IntentName
    priority: PriorityName
    holder: str
    label: str = ""
    """What the lease is for, as its client put it; percent-encoded as the session key is."""
    who: str
    """Name of the API key that the lease belongs to."""
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


class Explanation(Body):
    """Why one lease waits, and for how long at most."""

    lease_id: str
    state: StateName
    lines: list[str]
    """What it is, who is ahead, what the slots do and the longest it can take, in sentences for people."""
    wait_reason: str | None = None
    position: int | None = None
    ahead: int | None = None
    """Tickets of its model that are served before it."""
    bound_seconds: Seconds | None = None
    """Longest it can wait by the configuration, counted from its arrival; absent when a condition of the bound does not
    hold."""


class ResidencyInfo(Body):
    """One model on one slot, and how deep it is there."""

    model: str
    state: str
    """loading, ready or unloading."""
    progress: int
    """How far its load has come, percent; 0 where the server does not tell."""
    memory_mib: int
    holders: int
    """How many ``use`` leases are held on it."""
    admits: Literal["all", "none", "earlier"]
    """Who is admitted; ``earlier``: only those that waited before it must make room."""
    why: str = ""
    """What it was loaded for: waiters, age_bound, warm (a warm lease), prefetch (a guess), restore (the default, or one
    to be kept) or pinned."""


class FailureInfo(Body):
    """A model that failed to load on a slot, or whose server died there at work."""

    model: str
    kind: Literal["permanent", "passing", "room", "host", "useless", "unsound", "died"]
    """permanent: not before its entry, program or files change; unsound: the worker sees that it cannot be started;
    room: it may load with more room; host: the host's doing; useless: it was ready and did nothing; died: it was at
    work, and all its loads succeed."""
    fails: int
    """How many loads failed in a row."""
    deaths: int = 0
    """How often its server died at work within the last hour, as this broker has seen it."""
    quarantined: bool
    """It is given up for now: who asks for it is refused at once."""
    failed_seconds_ago: Seconds | None = None
    retry_in_seconds: Seconds | None = None
    """Time until it is tried again; null: it is not before its worker sees a change."""
    error: str
    """Why it failed, with the model server's own last words."""


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
    """Processes on the device that are not ours, ``name/pid:mib``."""
    utilisation_percent: int
    """How much of the time anybody's work ran on the device, over some seconds; 0 where nobody tells."""
    foreign_utilisation_percent: int | None
    """The same for processes other than our model servers; null where nobody tells."""
    residencies: list[ResidencyInfo]
    failures: list[FailureInfo]
    making_room_for: str | None = None


class Status(Body):
    """The pool at one moment: its slots and what is on them."""

    pool: str
    version: str
    uptime_seconds: Seconds
    store: Literal["ok", "unavailable", "uninitialised"]
    snapshot_age_seconds: Seconds | None = None
    """How old the picture below is; null: there is none yet."""
    queued: int
    slots: list[SlotInfo]
    warnings: list[str] = []
    """What is unwise about the store: that it may forget, or is shared with another build."""


class DepartureInfo(Body):
    """How a model that was ready went from a slot the last time."""

    slot: str
    seconds_ago: Seconds
    why: str
    """What it made room for (waiters, age_bound, warm, prefetch, restore, pinned), or release_vram, drain, server_died,
    not_confirmed."""
    made_room_for: str | None = None
    """The model that was loaded in its place; null: none was."""


class ModelInfo(Body):
    """One model of the catalogue."""

    name: str
    state: str
    """Its deepest residency: ready, loading, unloading or absent."""
    slots: list[str]
    """Slots on which it is ready."""
    memory_mib: int
    lease_limit: int
    load_seconds: Seconds
    """Mean time from order to ready; before there was a load, what the operator or its worker expects."""
    hold_seconds: Seconds
    """Mean length of a lease on it."""
    holders: int
    warm: int
    waiters: int
    wait_reason: str | None = None
    off: str | None = None
    """Why an operator took it out of service; null: it is in service."""
    load_error: str | None = None
    """Why its last load failed; null: it did not, or one succeeded since."""
    is_default: bool
    pinned: bool = False
    keep: int = 0
    """On how many slots it is kept while nobody else needs the room."""
    left: DepartureInfo | None = None
    """How it went last; null: it never was ready, or has not gone since the pool was made."""
    trust: Literal["trusted", "suspect", "canary", "quarantined"] = "trusted"
    """Whether its answers can be trusted, as this broker has seen them; a suspect is asked last, or not sent all kinds
    of requests, one in quarantine is asked no more."""
    trust_reason: str | None = None
    """Why its trust is what it is, in words; null: there is nothing to be said."""
    deaths: int = 0
    """How often its server died at work within the last hour, as this broker has seen it."""
    banned: list[str] = []
    """Kinds of requests that it is not sent, for its server died of them."""
    first_token_seconds: Seconds | None = None
    """From the lease to the first token of its streams, as this broker has learned lately; null: not known."""
    tokens_per_second: float | None = None
    """How many tokens per second its streams have after the first one; null: not known."""


Reason = Annotated[str, StringConstraints(pattern=LABEL_PATTERN, min_length=1, max_length=200)]


class ModelOff(Body):
    """Take a model out of service."""

    reason: Reason
    """Why, in words; told to everybody who asks for it."""


class ModelService(Body):
    """Whether a model is in service."""

    model: str
    off: str | None = None
    """Why an operator took it out of service; null: it is in service."""


class ModelPlace(Body):
    """The slot to load or unload a model on."""

    slot: Model | None = None
    """Name of the slot; null: the one where least is lost, and for unloading all."""


class ModelMoved(Body):
    """What became of an operator's order."""

    model: str
    state: str
    """ready or loading; after an unload unloading or absent."""
    slots: list[str]
    """Slots on which it is in that state now."""
    evicted: list[str]
    """Idle models that made room for it."""


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
