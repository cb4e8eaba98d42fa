"""What one pool remembers, as plain rows: the same fields as the hashes of docs/internals.md section 3.

Rows are mutable on purpose: they stand for Redis hashes, and only the modules of this package write them,
one transition at a time. Times are integer milliseconds of the pool's logical clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.core.lease import LeaseId, ModelName, SlotId
from broker.core.slot import Failing, SlotState
from broker.core.snapshot import ADMIT_ALL
from schemas.residency import Residency

SCHEMA = 1
MAX_LOOP = 200
"""No function handles more tickets, leases or grants than this in one call."""
SURVIVED_MS = 60_000
"""A ready model server that lived this long after its load has proved that it loads."""
PROVED_MS = 600_000
"""The same for one that is proved useless: a hang is found later than a death."""
FORGET_MS = 600_000
"""A failed load this long ago says nothing of the next one."""
UNSERVED_MS = 1_500
"""A model that no worker's catalogue has is given so long: its worker may just have started."""
MOST_DOUBLINGS = 4
"""The pause of what was given up grows no further than sixteen times the first."""
GUESS = "prefetch"
"""Cause of a load on a guess; ``Why.PREFETCH`` on the wire."""
WRONG, MOST_WRONG = 2, 10
"""What a prefetch that went unused adds to its model's wrong guesses, and their bound. One that was used halves them, a
load that somebody had to wait for takes one off."""


@dataclass(slots=True, kw_only=True)
class PoolRules:
    """``PoolSettings`` in milliseconds, kept in ``P:meta``."""

    max_queue: int = 10_000
    max_queue_session: int = 64
    max_kept: int = 2_000
    claim_ttl_ms: int = 30_000
    op_ttl_ms: int = 86_400_000
    ended_ttl_ms: int = 600_000
    max_step_ms: int = 5_000
    silence_ms: int = 10_000
    broker_silence_ms: int = 3_000
    load_retry_ms: int = 1_000
    load_backoff_ms: int = 30_000
    max_fails: int = 5
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
    """Time that somebody was there to notice a missed beat: see ``broker_lives.watch``."""
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
    """A model of the catalogue with its queue and homes, as ``P:model:<m>`` holds it."""

    name: ModelName
    memory_mib: int
    lease_limit: int
    is_default: bool = False
    keep: int = 0
    pinned: bool = False
    weight: int = 1000
    """How dear it is to evict, in thousandths."""
    release_ms: int = -1
    load_hint_ms: int = 0
    hold_hint_ms: int = 0
    queued: int = 0
    expected_ms: int = 0
    estimated: int = 0
    """Queued tickets with a trusted estimate; ``expected_ms`` is their sum."""
    only_warm: int = 0
    """Queued tickets that wait only while it is loaded."""
    turn: int = 0
    """Virtual time of its fair queue: the turn of the ticket served last; 0 while nobody waits."""
    ready: tuple[SlotId, ...] = ()
    loading: tuple[SlotId, ...] = ()
    failing: tuple[SlotId, ...] = ()
    """Slots on which a failure of it is on record."""
    off: str = ""
    """Why an operator took it out of service."""
    resting: bool = False
    """An operator unloaded it: not loaded again before somebody asks for it."""
    arrivals: int = 0
    """Decaying count of new ``use`` leases, in thousandths."""
    arrived_at: int = 0
    wrong_guesses: int = 0
    left_at: int = 0
    """When it last went though it had been ready, from where, why and for which other model; 0: never."""
    left_slot: SlotId | None = None
    left_why: str = ""
    left_for: str = ""
    deserted: int = 0
    """When the last ticket left its line."""
    given_up: int = 0
    """When a load of it was last broken off because nobody waited for it any more."""
    hold: Statistic = field(default_factory=Statistic)
    load: Statistic = field(default_factory=Statistic)
    unload: Statistic = field(default_factory=Statistic)


@dataclass(slots=True, kw_only=True)
class SlotRow:
    """A slot with what its worker last reported, as ``P:slot:<s>`` holds it."""

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
    used_percent: int = 0
    foreign_percent: int = 0
    """-1: nobody tells."""
    serves: tuple[ModelName, ...] = ()
    priors: Mapping[ModelName, int] = field(default_factory=dict)
    """How long its worker reckons that loads take, milliseconds; of models that it serves."""
    models: tuple[ModelName, ...] = ()


@dataclass(slots=True, kw_only=True)
class ResidencyRow:
    """``P:residency:<s>:<m>``; in front what nearly every call looks for, as small hashes are searched from there."""

    state: Residency = Residency.ABSENT
    gen: int = 0
    admit: int = ADMIT_ALL
    use: int = 0
    url: str = ""
    key: str = ""
    wanted: Residency = Residency.READY
    """How deep it was last ordered to be."""
    progress: int = 0
    used_at: int = 0
    started: int = 0
    """When its load, or its unload, was ordered."""
    loaded: int = 0
    waited: int = 0
    mib: int = 0
    why: str = ""
    """Cause of its load."""
    prefetched: bool = False
    """Loaded on a guess, and nobody has used it yet."""
    doubts: int = 0
    """How often its server was doubted; each is a question to the worker."""
    error: str = ""
    """Below: the failure on record here; it outlives the residency and ends with the next that is ready."""
    kind: Failing | None = None
    """None: none on record."""
    fails: int = 0
    """Failed loads in a row, the host's doing not counted."""
    tries: int = 0
    """The same, whoever's doing."""
    falls: int = 0
    """Times in a row that its server was ready and fell, without having stood for long in between."""
    failed_at: int = 0
    stamp: str = ""
    """Of entry, program and files at the failed load; another one forgives it."""
    retry_at: int = 0
    given_up: int = 0
    """How often in a row."""
    quarantined: bool = False
    """Given up: until ``retry_at`` its tickets end at once."""


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
    """The live leases of a session, as ``P:session:<sh>`` holds them."""

    queued: int = 0
    left: int = 0
    """Of its live leases those that were left behind."""
    seq: int | None = None
    live: dict[str, LeaseId] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TenantRow:
    """How well an API key estimates its leases, as ``P:tenant:<who>`` holds it."""

    err: int = 0
    err_n: int = 0


@dataclass(frozen=True, slots=True)
class OperationRow:
    """The lease that an operation made, as ``P:op:<hash>`` holds it."""

    lease_id: LeaseId
    body: str
    made: int


@dataclass(slots=True, kw_only=True)
class OrdersRow:
    """What the worker of a slot is to do, as ``P:orders:<s>`` holds it."""

    inc: str = ""
    epoch: int = 0
    boot: str = ""
    gen: int = 0
    refused: str = ""
    """Boot of the rival that was refused last."""
    holder: str = ""
    """Who has the slot instead: what that rival tells its operator."""
    wants: dict[ModelName, tuple[int, str, Residency]] = field(default_factory=dict)
    """Model to generation, key and depth."""
    proofs: dict[ModelName, int] = field(default_factory=dict)
    """Model to the number of the last doubt about its server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One entry of ``P:events``."""

    seq: int
    kind: str
    at_ms: int
    fields: Mapping[str, str]
