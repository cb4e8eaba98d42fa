"""What a reader is shown of a pool: rows, and beside them what no row has, counted or looked up where the rows are.

Both stores make these, ``pool.views`` turns them into the port's values. Times and durations are in milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.lease import ModelName, Priority, SlotId
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.rows import ModelRow, ResidencyRow, SlotRow


@dataclass(slots=True, kw_only=True)
class BesideLease:
    """What is shown beside a lease."""

    now: int
    residency: str
    """State of its model where it is, or of the model's best residency."""
    progress: int = 0
    url: str = ""
    key: str = ""
    """Of the model server, while the lease may call it."""
    position: int = 0
    load_error: str = ""
    """Below: the failure that a ticket, or one that ended, hears of."""
    load_tries: int = 0
    failed_ago: int = 0
    retry_in: int = 0


@dataclass(slots=True, kw_only=True)
class ShownQueue:
    """Tickets of one class that wait for a model, and the oldest of them."""

    priority: Priority
    count: int
    enq: int
    arrival: int


@dataclass(slots=True, kw_only=True)
class ShownModel:
    """A model as a picture of the pool shows it."""

    row: ModelRow
    queues: Sequence[ShownQueue]
    """Classes with waiters only, most urgent first."""
    arrivals: int
    """The decaying count as of now."""
    warm: int


@dataclass(slots=True, kw_only=True)
class ShownResidency:
    """A model on a slot, or the record of its failures there."""

    model: ModelName
    row: ResidencyRow
    memory_mib: int
    """What it takes."""
    waiting_below: int


@dataclass(slots=True, kw_only=True)
class ShownSlot:
    """A slot, what is on it, and who holds that."""

    row: SlotRow
    residencies: Sequence[ShownResidency]
    leases: Sequence[LeaseRow]


@dataclass(slots=True, kw_only=True)
class UnreadableSlot:
    """A slot whose record in the store makes no sense."""

    slot: SlotId
    why: str


@dataclass(slots=True, kw_only=True)
class ShownPool:
    """Everything that a picture of the pool is made of."""

    now: int
    seq: int
    arrival: int
    queued: int
    horizon_ms: int
    models: Sequence[ShownModel]
    """By name, as the slots are."""
    slots: Sequence[ShownSlot | UnreadableSlot]


UNSHOWN = {
    ModelRow: frozenset({"ready", "loading", "failing", "only_warm", "turn", "arrivals"}),
    SlotRow: frozenset({"slot", "wish", "inc", "epoch", "boot", "home", "old_boots", "beat", "seen", "models"}),
    ResidencyRow: frozenset({"url", "key", "wanted", "mib", "doubts", "fails", "stamp", "given_up"}),
}
"""Fields of rows that a reader has no use for, or no business with."""
HELD_FIELDS = ("id", "model", "priority", "state", "granted", "deadline", "expected_ms", "single")
"""Fields of a held lease that are shown with its slot: there may be many of them."""
