"""The library's JSON as structs; every number travels as a string (cjson would round long ones)."""

import msgspec

from broker.core.lease import Intent, LeaseState, Priority
from broker.core.slot import Residency, SlotState


class LeaseWire(msgspec.Struct):
    """One lease as the library tells it."""

    id: str
    nonce: str
    state: LeaseState
    sh: str
    model: str
    intent: Intent
    priority: Priority
    who: str
    ttl_ms: int
    arrival: int
    enq: int
    now: int
    residency: str
    session: str = ""
    holder: str = ""
    reason: str = ""
    expected_ms: int = 0
    granted: int = 0
    deadline: int = 0
    ended: int = 0
    slot: str | None = None
    gen: int = 0
    url: str = ""
    key: str = ""
    position: int = 0
    progress: int = 0


class QueueWire(msgspec.Struct):
    """One class of a model's queue."""

    priority: Priority
    count: int
    enq: int
    arrival: int


class ModelWire(msgspec.Struct):
    """One model."""

    name: str
    memory_mib: int
    lease_limit: int
    queues: list[QueueWire]
    arrivals: int
    warm: int
    is_default: str = ""
    release_ms: int = -1
    load_hint_ms: int = 0
    queued: int = 0
    expected_ms: int = 0
    estimated: int = 0
    hold_ms: int = 0
    hold_var: int = 0
    hold_n: int = 0
    load_ms: int = 0
    load_var: int = 0
    load_n: int = 0
    unload_ms: int = 0
    unload_var: int = 0
    unload_n: int = 0
    deserted: int = 0
    given_up: int = 0


class ResidencyWire(msgspec.Struct):
    """One model on a slot, or what is known of its failures there."""

    model: str
    state: Residency
    memory_mib: int
    waiting_below: int
    gen: int = 0
    admit: int = 0
    use: int = 0
    used_at: int = 0
    started: int = 0
    loaded: int = 0
    waited: int = 0
    prefetched: str = ""
    progress: int = 0
    error: str = ""
    fails: int = 0
    retry_at: int = 0
    quarantined: str = ""


class HeldWire(msgspec.Struct):
    """A held lease."""

    id: str
    model: str
    priority: Priority
    state: LeaseState
    granted: int
    deadline: int
    expected_ms: int = 0
    single: bool = False


class SlotWire(msgspec.Struct):
    """One slot."""

    slot: str
    state: SlotState
    residencies: list[ResidencyWire]
    leases: list[HeldWire]
    gen: int = 0
    budget_mib: int = 0
    total_mib: int = 0
    free_mib: int = 0
    foreign_mib: int = 0
    foreign: str = ""
    serves: str = ""
    worker: str = ""
    reason: str = ""


class SnapshotWire(msgspec.Struct):
    """The pool."""

    now: int
    seq: int
    arrival: int
    queued: int
    horizon_ms: int
    models: list[ModelWire]
    slots: list[SlotWire]


class HelloWire(msgspec.Struct):
    """What library is loaded."""

    version: int
    hash: str
    schema: int
    initialised: int


LEASE = msgspec.json.Decoder(LeaseWire, strict=False)
LEASES = msgspec.json.Decoder(list[LeaseWire], strict=False)
SNAPSHOT = msgspec.json.Decoder(SnapshotWire, strict=False)
HELLO = msgspec.json.Decoder(HelloWire, strict=False)
VIOLATIONS = msgspec.json.Decoder(list[dict[str, str]])
