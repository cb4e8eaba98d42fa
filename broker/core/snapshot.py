"""Everything a policy may look at: an aggregated picture of one pool at one moment of store time.

Counts per model and class instead of tickets, so the cost of a decision does not grow with the queue.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.core.lease import LeaseId, LeaseState, ModelName, Priority, SlotId
from broker.core.slot import Failing, SlotState
from schemas.residency import Residency

ADMIT_NONE = 0
ADMIT_ALL = 9007199254740991
"""2**53 - 1: every arrival number is below it, also as a Lua number."""

HOLD_S, HOLD_SD_S = 20.0, 20.0
"""How long a lease is held, until that is learned of its model: mean and standard deviation."""
LOAD_S, LOAD_SD_S = 15.0, 10.0
"""The same of a load of which nobody reckons anything."""
UNLOAD_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassQueue:
    """The waiting tickets of one model and class."""

    priority: Priority
    count: int
    oldest_s: float
    """Store time at which its oldest ticket arrived."""
    oldest_arrival: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """How a model that was ready went from a slot."""

    at_s: float
    slot: SlotId
    why: str
    made_room_for: str = ""
    """The model that was loaded in its place; empty: none."""


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
    """How many waiting tickets have no trusted estimate."""
    warm_leases: int = 0
    hold_s: float = HOLD_S
    """Mean length of a lease, seconds (EWMA)."""
    hold_sd_s: float = HOLD_SD_S
    hold_n: int = 0
    load_s: float = LOAD_S
    """Mean seconds from order to ready with the room free (EWMA; until learned see ``load_priors``)."""
    load_sd_s: float = LOAD_SD_S
    load_n: int = 0
    unload_s: float = UNLOAD_S
    unload_n: int = 0
    expected_arrivals: float = 0.0
    """Use leases expected to be asked for within the policy's horizon (60 s), warm leases and hints included."""
    spoken_for_s: float | None = None
    """Store time until which it is expected back by the sessions that used it last: their usual gap after their last
    use. ``None``: nothing is known of anybody who used it."""
    asked_s: float = 0.0
    """Store time at which a use lease was last asked for; 0: never."""
    wrong_guesses: int = 0
    """What counts against the next prefetch, 2 for each one that went unused of late; each doubles its price."""
    is_default: bool = False
    keep: int = 0
    """Copies to hold while nobody else needs the room."""
    pinned: bool = False
    """Its copies are held whoever else needs the room."""
    eviction_weight: float = 1.0
    """How much it costs to give it up, as a multiple of its load."""
    release_vram_after_s: float | None = None
    off: str = ""
    """Why an operator took it out of service; empty: he did not."""
    resting: bool = False
    """It was unloaded by hand, and is not loaded again before somebody asks for it."""
    deserted_s: float = 0.0
    """Store time at which the last ticket that waited for it left; 0: none ever did."""
    given_up_s: float = 0.0
    """Store time at which a load of it was last broken off because nobody waited for it any more; 0: never."""
    left: Departure | None = None
    """How it went from a slot the last time; shown to people, and no decision looks at it."""

    @property
    def copies(self) -> int:
        """Slots on which it is to be while nobody is active."""
        return max(self.keep, int(self.is_default or self.pinned))

    @property
    def waiting(self) -> int:
        """Tickets waiting for this model."""
        return sum(queue.count for queue in self.queues)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """One held ``use`` lease, as far as decisions need it."""

    lease_id: LeaseId
    model: ModelName
    slot: SlotId
    priority: Priority
    state: LeaseState
    granted_s: float
    deadline_s: float
    expected_s: float = 0.0
    """How long it is trusted to take, seconds; 0: no estimate."""
    single: bool = False
    """It is for one request, which would be cut off if it were asked back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyView:
    """One model on one slot, whatever its depth there."""

    model: ModelName
    state: Residency
    generation: int
    memory_mib: int
    """How much memory it takes, MiB: measured where the worker can, else declared."""
    admit: int = ADMIT_ALL
    use: int = 0
    """How many ``use`` leases on it are held."""
    started_s: float = 0.0
    """Store time at which its load was ordered."""
    loaded_s: float = 0.0
    """Store time at which it became ready."""
    last_used_s: float = 0.0
    """Store time at which its last ``use`` lease was granted or ended; ``loaded_s`` when none yet."""
    waited: int = 0
    """Arrival numbers below this were waiting when it became ready."""
    waiting_below: int = 0
    """How many tickets of its model with such a number still wait."""
    why: str = ""
    """Why its load was ordered: a word of ``Why``."""
    prefetched: bool = False
    """It was loaded on a guess, and nobody has used it yet."""
    progress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureView:
    """A model that failed to load on a slot."""

    model: ModelName
    fails: int
    """Failed loads in a row, or falls of a ready server where those are more."""
    retry_at_s: float
    quarantined: bool
    """The model is given up on the slot: until ``retry_at_s`` its tickets end at once."""
    error: str = ""
    kind: Failing = Failing.PASSING
    failed_s: float = 0.0
    """Store time of the last failure."""

    @property
    def not_before_s(self) -> float:
        """Store time from which on it may be loaded again."""
        return math.inf if self.kind is Failing.UNSOUND else self.retry_at_s

    def is_given_up(self, now_s: float) -> bool:
        """Do its tickets end at once?"""
        return self.quarantined and self.not_before_s > now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotView:
    """A place with a memory budget."""

    slot: SlotId
    state: SlotState
    generation: int
    """Generation of the slot's orders; a decision names the one it was based on."""
    budget_mib: int
    serves: frozenset[ModelName]
    residencies: tuple[ResidencyView, ...] = ()
    failures: tuple[FailureView, ...] = ()
    leases: tuple[LeaseView, ...] = ()
    load_priors_s: Mapping[ModelName, float] = field(default_factory=dict)
    """How long its worker reckons that loads take, from files and disk: for models of which nothing is learned."""
    worker: str = ""
    """Name of its worker. This and the fields below are shown to people; no decision looks at them."""
    reason: str = ""
    """Why the slot is in its state: the fault, or who cordoned it."""
    total_mib: int = 0
    free_mib: int = 0
    foreign_mib: int = 0
    foreign: str = ""
    """Foreign processes on the device, ``name/pid:mib`` separated by spaces."""
    used_percent: int = 0
    """How much of the time anybody's work runs on the device, percent; 0 where nobody tells."""
    foreign_percent: int = -1
    """The same for processes other than our model servers; -1 where nobody tells. Routing looks at it, no policy
    does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The picture of one pool at one moment of store time, on which one decision is based."""

    now_s: float
    sequence: int
    """Sequence number of the last event; a higher one means that something happened since."""
    next_arrival: int
    models: Mapping[ModelName, ModelView] = field(default_factory=dict)
    slots: tuple[SlotView, ...] = ()
    queued: int = 0
