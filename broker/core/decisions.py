"""What a policy can decide, and how it says why somebody waits."""

from dataclasses import dataclass, field
from enum import StrEnum

from broker.core.lease import LeaseId, ModelName, SlotId
from schemas.residency import Residency


class Why(StrEnum):
    """Why a decision was made; events carry it as ``why``."""

    WAITERS = "waiters"
    """Tickets wait for the model."""
    AGE_BOUND = "age_bound"
    """A ticket is older than ``max_wait_s``."""
    SLICE = "slice"
    """The resident model's time slice is over while others wait."""
    EXCHANGE = "exchange"
    """Exchange preemption: the switch is worth more than what runs."""
    PRIORITY = "priority"
    MAX_HOLD = "max_hold"
    WARM = "warm"
    """A warm lease: somebody said that it will be needed."""
    PREFETCH = "prefetch"
    """It was guessed that the model will soon be asked for."""
    RESTORE = "restore"
    """The default, or one that is to be kept, comes back while nobody is active."""
    PINNED = "pinned"
    """The model is pinned: it is always to be there."""
    RELEASE_VRAM = "release_vram"
    DESERTED = "deserted"
    """Whoever the load began for has left."""
    DRAIN = "drain"
    REOPEN = "reopen"
    OFF = "off"
    """An operator took the model out of service."""
    OPERATOR = "operator"
    """An operator gave the order by hand."""


class WaitReason(StrEnum):
    """Why the tickets of a model wait; wire words of ``waitReason``."""

    MODEL_BUSY = "model_busy"
    """The model is resident, but as many leases are held on it as its ``lease_limit`` allows."""
    LOADING = "loading"
    DRAINING_OTHER = "draining_other"
    """The model is next to load, and waits for the leases on what must go."""
    OTHER_MODEL_FIRST = "other_model_first"
    """Another model is worth more per second."""
    BARRIER = "barrier"
    """The model is resident, but must make room: only those who waited for its load are still admitted."""
    LOADER_BUSY = "loader_busy"
    """Another load runs on the slot."""
    BACKING_OFF = "backing_off"
    """Its load failed; it is tried again at a stated time."""
    NO_SLOT = "no_slot"
    """No worker that can serve it is open."""
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Make ``model`` resident on ``slot``, giving up ``evict`` (all idle) in the same order."""

    slot: SlotId
    generation: int
    """Generation of the slot's orders in the snapshot; the store refuses when they have changed."""
    model: ModelName
    depth: Residency = Residency.READY
    """How deep it is to be there; one of ``ORDERABLE``."""
    evict: tuple[ModelName, ...]
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """Give up an idle residency, or break off a load that nobody waits for."""

    slot: SlotId
    generation: int
    model: ModelName
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAdmission:
    """Admit tickets with an arrival number below ``admit`` to a residency."""

    slot: SlotId
    model: ModelName
    residency_generation: int
    admit: int
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptLease:
    """Ask a lease back; its holder has ``grace_s``."""

    lease_id: LeaseId
    grace_s: float
    why: Why


Decision = Load | Unload | SetAdmission | PreemptLease


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer of ``decide``."""

    decisions: tuple[Decision, ...] = ()
    waits: dict[ModelName, WaitReason] = field(default_factory=dict)
    """Why the first ticket of each model with waiters waits."""
    targets: dict[SlotId, ModelName] = field(default_factory=dict)
    """The model each slot is making room for."""
    decide_again_s: float | None = None
    """Store time at which the answer may change by itself (a slice or bound ends); ``None``: at an event only."""
