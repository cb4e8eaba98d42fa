"""What one pool remembers, as plain rows: the same fields as the hashes of docs/internals.md section 3.

Rows are mutable on purpose: they stand for Redis hashes, and only the ``pool_*`` modules of this package write them,
one transition at a time. Times are integer milliseconds of the pool's logical clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.core.lease import NO_LIFE, Intent, LeaseId, LeaseState, LifeId, ModelName, Priority, SlotId
from broker.core.slot import Residency, SlotState
from broker.core.snapshot import ADMIT_ALL

SCHEMA = 1
MAX_LOOP = 200
"""No function handles more tickets, leases or grants than this in one call."""
SURVIVED_MS = 60_000
"""A model server that lived this long after its load has proved that it loads."""


@dataclass(slots=True, kw_only=True)
class Settings:
    """``PoolSettings`` in milliseconds, kept in ``P:meta``."""

    max_queue: int = 10_000
    max_queue_session: int = 64
    claim_ttl_ms: int = 30_000
    op_ttl_ms: int = 86_400_000
    ended_ttl_ms: int = 600_000
    max_step_ms: int = 5_000
    silence_ms: int = 10_000
    broker_silence_ms: int = 3_000
    load_backoff_ms: int = 60_000
    max_fails: int = 3
    horizon_ms: int = 60_000
    max_wait_ms: tuple[int, int, int, int] = (600_000, 600_000, 600_000, 600_000)
    """Per class, most urgent first."""


@dataclass(slots=True, kw_only=True)
class Meta:
    """``P:meta`` without the settings."""

    inc: str
    """Incarnation: start of the server's ``run_id`` and the moment it took over; never the same twice."""
    run: str
    """``run_id`` of the server that wrote last; another one means restart or failover."""
    inc_no: int = 1
    seq: int = 0
    arrival: int = 0
    clock_wall: int = 0
    clock_log: int = 0
    queued: int = 0
    watch: int = 0
    """Time that somebody was there to notice a missed beat: see ``pool_lives.watch``."""
    watched: int = 0
    """Logical clock of the last look."""


@dataclass(slots=True, kw_only=True)
class Statistic:
    """Exponentially weighted mean and variance (alpha 0.2) of a duration in milliseconds."""

    mean: int = 0
    var: int = 0
    n: int = 0


@dataclass(slots=True, kw_only=True)
class ModelRow:
    """``P:model:<m>``."""

    name: ModelName
    memory_mib: int
    lease_limit: int
    is_default: bool = False
    release_ms: int = -1
    load_hint_ms: int = 0
    queued: int = 0
    expected_ms: int = 0
    estimated: int = 0
    """Queued tickets with a trusted estimate; ``expected_ms`` is their sum."""
    turn: int = 0
    """Virtual time of its fair queue: the turn of the ticket served last; 0 while nobody waits."""
    ready: tuple[SlotId, ...] = ()
    loading: tuple[SlotId, ...] = ()
    bad: int = 0
    """Slots on which it is quarantined."""
    arrivals: int = 0
    """Decaying count of new ``use`` leases, in thousandths."""
    arrived_at: int = 0
    deserted: int = 0
    """When the last ticket left its line."""
    given_up: int = 0
    """When a load of it was last broken off because nobody waited for it any more."""
    hold: Statistic = field(default_factory=Statistic)
    load: Statistic = field(default_factory=Statistic)
    unload: Statistic = field(default_factory=Statistic)


@dataclass(slots=True, kw_only=True)
class SlotRow:
    """``P:slot:<s>``."""

    slot: SlotId
    state: SlotState
    reason: str = ""
    wish: str = ""
    """What the operator asked for, ``cordon`` or ``drain``; survives silence and recovery."""
    worker: str = ""
    inc: str = ""
    """Incarnation with which its worker last registered."""
    epoch: int = 0
    boot: str = ""
    home: str = ""
    """Where its worker keeps its state; a worker with another home is another host's."""
    old_boots: tuple[str, ...] = ()
    """Superseded worker processes; their reports are ignored."""
    gen: int = 0
    beat: int = 0
    seen: int = 0
    budget_mib: int = 0
    total_mib: int = 0
    free_mib: int = 0
    foreign_mib: int = 0
    foreign: str = ""
    serves: tuple[ModelName, ...] = ()
    models: tuple[ModelName, ...] = ()


@dataclass(slots=True, kw_only=True)
class ResidencyRow:
    """``P:residency:<s>:<m>``."""

    state: Residency = Residency.ABSENT
    gen: int = 0
    key: str = ""
    admit: int = ADMIT_ALL
    use: int = 0
    used_at: int = 0
    started: int = 0
    """When its load, or its unload, was ordered."""
    loaded: int = 0
    waited: int = 0
    url: str = ""
    progress: int = 0
    mib: int = 0
    prefetched: bool = False
    error: str = ""
    fails: int = 0
    retry_at: int = 0
    quarantined: bool = False


@dataclass(slots=True, kw_only=True)
class LeaseRow:
    """``P:lease:<id>``."""

    id: LeaseId
    nonce: str
    state: LeaseState
    session: str
    sh: str
    hh: str
    """Hash of the holder, part of the session's index."""
    model: ModelName
    intent: Intent
    holder: str
    priority: Priority
    who: str
    ttl_ms: int
    arrival: int
    enq: int
    reason: str = ""
    expected_ms: int = 0
    estimate_ms: int = 0
    """What the client said; ``expected_ms`` is the same or 0 while its estimates are not trusted."""
    cost: int = 0
    """What its session was charged when it entered the line, thousandths of a mean lease; 0: it never waited."""
    turn: int = 0
    """Virtual start of a ticket: its place among the tickets of its class."""
    granted: int = 0
    deadline: int = 0
    ended: int = 0
    slot: SlotId | None = None
    gen: int = 0
    claimed: bool = False
    op: str = ""
    single: bool = False
    life: LifeId = NO_LIFE
    """The broker's life it belongs to; empty: its holder's own, or left behind."""
    place: str = ""
    """Of a ticket: fingerprint of the request."""
    named: bool = False
    left: int = 0
    """Left behind: when its client is expected back; 0: somebody attends to it."""
    kept: int = 0
    """Of a ticket that was lost with its broker: until when its place is kept."""


@dataclass(slots=True, kw_only=True)
class LifeRow:
    """One member of ``P:brokers``, and ``P:life:<life>``."""

    beat: int
    """``Meta.watch`` at its last beat; ``GONE``: its leases are being ended."""
    tickets: dict[LeaseId, int] = field(default_factory=dict)
    """Of clients that wait at this broker, with their arrival numbers."""


GONE = -1


@dataclass(slots=True, kw_only=True)
class SessionRow:
    """``P:session:<sh>``."""

    queued: int = 0
    left: int = 0
    """Of its live leases those that were left behind."""
    seq: int | None = None
    live: dict[str, LeaseId] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TenantRow:
    """``P:tenant:<who>``."""

    open: int = 0
    err: int = 0
    err_n: int = 0


@dataclass(frozen=True, slots=True)
class OperationRow:
    """``P:op:<hash>``."""

    lease_id: LeaseId
    body: str
    made: int


@dataclass(slots=True, kw_only=True)
class OrdersRow:
    """``P:orders:<s>``."""

    inc: str = ""
    epoch: int = 0
    boot: str = ""
    gen: int = 0
    refused: str = ""
    """Boot of the rival that was refused last."""
    holder: str = ""
    """Who has the slot instead: what that rival tells its operator."""
    wants: dict[ModelName, tuple[int, str]] = field(default_factory=dict)
    """Model to generation and key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One entry of ``P:events``."""

    seq: int
    kind: str
    at_ms: int
    fields: Mapping[str, str]
