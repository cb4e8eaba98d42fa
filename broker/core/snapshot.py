"""Everything a policy may look at: an aggregated picture of one pool at one moment of store time.

Counts per model and class instead of tickets, so the cost of a decision does not grow with the queue.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.core.lease import LeaseId, LeaseState, ModelName, Priority, SlotId
from broker.core.slot import Residency, SlotState

ADMIT_NONE = 0
ADMIT_ALL = 9007199254740991
"""2**53 - 1: every arrival number is below it, also as a Lua number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassQueue:
    """The waiting tickets of one model and class."""

    priority: Priority
    count: int
    oldest_s: float
    """Store time at which its oldest ticket arrived."""
    oldest_arrival: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model of the catalogue: its queue and what was learned of it."""

    name: ModelName
    memory_mib: int
    lease_limit: int
    queues: tuple[ClassQueue, ...] = ()
    """Classes with waiters only, most urgent first."""
    expected_sum_s: float = 0.0
    """Sum over the waiting tickets of their trusted estimates; those without one count 0 here."""
    unestimated: int = 0
    """Waiting tickets without a trusted estimate."""
    warm_leases: int = 0
    hold_s: float = 20.0
    """Mean lease seconds (EWMA; 20 s until learned)."""
    hold_sd_s: float = 20.0
    hold_n: int = 0
    load_s: float = 15.0
    """Mean seconds from order to ready with the room free (EWMA; 15 s or the catalogue's hint until learned)."""
    load_sd_s: float = 10.0
    load_n: int = 0
    unload_s: float = 1.0
    unload_n: int = 0
    expected_arrivals: float = 0.0
    """Use leases expected to be asked for within the policy's horizon (60 s), warm leases and hints included."""
    is_default: bool = False
    release_vram_after_s: float | None = None
    deserted_s: float = 0.0
    """Store time at which the last ticket left its line; 0: none ever did."""
    given_up_s: float = 0.0
    """Store time at which a load of it was last broken off because nobody waited for it any more; 0: never."""

    @property
    def waiting(self) -> int:
        """Tickets waiting for this model."""
        return sum(queue.count for queue in self.queues)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """A held ``use`` lease."""

    lease_id: LeaseId
    model: ModelName
    slot: SlotId
    priority: Priority
    state: LeaseState
    granted_s: float
    deadline_s: float
    expected_s: float = 0.0
    """Trusted estimate of its length; 0: none."""
    single: bool = False
    """It is one request, which would be cut off if it were asked back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyView:
    """A model on a slot."""

    model: ModelName
    state: Residency
    generation: int
    memory_mib: int
    """Measured where the worker can, else declared."""
    admit: int = ADMIT_ALL
    use: int = 0
    """Held ``use`` leases."""
    started_s: float = 0.0
    """Store time of the order."""
    loaded_s: float = 0.0
    """Store time at which it became ready."""
    last_used_s: float = 0.0
    """Store time at which its last ``use`` lease was granted or ended; ``loaded_s`` when none yet."""
    waited: int = 0
    """Arrival numbers below this were waiting when it became ready."""
    waiting_below: int = 0
    """How many tickets of its model with such a number still wait."""
    prefetched: bool = False
    """Ordered when nobody waited for it."""
    progress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureView:
    """A model that failed to load on a slot."""

    model: ModelName
    fails: int
    retry_at_s: float
    quarantined: bool
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """A place with a memory budget."""

    slot: SlotId
    state: SlotState
    generation: int
    """Of its orders; a decision names the one it was based on."""
    budget_mib: int
    serves: frozenset[ModelName]
    residencies: tuple[ResidencyView, ...] = ()
    failures: tuple[FailureView, ...] = ()
    leases: tuple[LeaseView, ...] = ()
    worker: str = ""
    """Below: for people only, no decision looks at it."""
    reason: str = ""
    """Why the slot is in its state: the fault, or who cordoned it."""
    total_mib: int = 0
    free_mib: int = 0
    foreign_mib: int = 0
    foreign: str = ""
    """Foreign processes on the device, ``name/pid:mib`` separated by spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One pool at one moment."""

    now_s: float
    sequence: int
    """Of the last event; a higher one means that something happened since."""
    next_arrival: int
    models: Mapping[ModelName, ModelView] = field(default_factory=dict)
    slots: tuple[SlotView, ...] = ()
    queued: int = 0
