"""The store's contract. Two answers exist: ``memory.store`` and ``redis.store``; one contract suite asks both.

Every method is one atomic step. Refusals are the errors of ``broker.core.errors``; nothing was changed then but one
thing: a lease whose deadline had come is ended first, and its place handed out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from broker.core.lease import (
    AcquireRequest,
    Intent,
    LeaseId,
    LeaseRecord,
    LifeId,
    ModelName,
    Nonce,
    Priority,
    Session,
    SlotId,
)
from broker.core.snapshot import Snapshot
from broker.store.days import Days
from broker.store.privacy_marks import SessionMarks
from broker.store.spending import SpendingAccounts
from schemas.residency import Residency


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What the pool knows of a model before anything was observed."""

    name: ModelName
    memory_mib: int
    lease_limit: int = 4
    is_default: bool = False
    keep: int = 0
    pinned: bool = False
    eviction_weight: float = 1.0
    release_vram_after_s: float | None = None
    load_s_hint: float | None = None
    """What its first load will take, until one was seen."""
    hold_s_hint: float | None = None
    """How long its first leases will be held."""


def _max_wait_defaults() -> dict[Priority, float]:
    return dict.fromkeys(Priority, 600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Settings kept in the store, so that N brokers act alike."""

    models: tuple[ModelSettings, ...]
    max_queue: int = 10_000
    max_queue_session: int = 64
    max_kept: int = 2_000
    """Ended leases, operations and sequence numbers kept of each API key, together; the oldest go first."""
    claim_ttl_s: float = 30.0
    """A lease granted while its client was away runs out after this unless somebody claims it."""
    operation_ttl_s: float = 86_400.0
    ended_ttl_s: float = 600.0
    """An ended lease can be asked about for this long; one with an idempotency key for ``operation_ttl_s``."""
    max_step_s: float = 5.0
    """Most that the logical clock goes forward between two calls."""
    silence_s: float = 10.0
    """A slot whose worker reports nothing for this long is offline."""
    broker_silence_s: float = 3.0
    """A broker whose beats are missed for this long is dead, and what only it could serve ends."""
    load_retry_s: float = 1.0
    """First pause after a failed load; doubles with each, up to ``load_backoff_s``."""
    load_backoff_s: float = 30.0
    """First pause of a model that is given up; doubles each time, up to sixteen times as long."""
    max_fails: int = 5
    """Failed loads in a row after which it is given up."""
    max_wait_s: Mapping[Priority, float] = field(default_factory=_max_wait_defaults)
    horizon_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of ``P:events``. ``fields`` are the wire words of docs/internals.md section 6."""

    event_id: str
    """Stream id, usable as ``Last-Event-ID``."""
    sequence: int
    kind: str
    at_s: float
    fields: Mapping[str, str]


MAX_ENTRY = 256 * 1024
"""Bytes of one ingress entry: twice what the fields of a sound one can have."""
REJECTED_KEPT = 1000
"""Ingress entries that were set aside, the newest."""
EVENTS_KEPT = 100_000
"""The newest, roughly."""
MAX_READ = 1024 * 1024
"""Bytes of ingress entries read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressEntry:
    """One entry of ``P:ingress``, undecoded."""

    entry_id: str
    fields: Mapping[str, str]
    oversize: int = 0
    """Its bytes, where it is above ``MAX_ENTRY`` and was left unread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken invariant found by ``check``."""

    invariant: str
    subject: str
    detail: str


class Store(Protocol):
    """Leases, queues, slots of one pool."""

    @property
    def days(self) -> Days:
        """What is kept of past days."""

    @property
    def privacy_marks(self) -> SessionMarks:
        """Which sessions are private."""

    @property
    def spending(self) -> SpendingAccounts:
        """What requests that left did cost."""

    async def init(self, settings: PoolSettings) -> None:
        """Create the pool or update its settings and catalogue; leaves leases and slots as they are."""

    async def advice(self) -> Sequence[str]:
        """What is unwise about the server now: that it may forget, or that it is shared with another build of ours.

        Raises:
            NewerLibraryError: A later version of ours uses it.
            LibraryError: Somebody else's library bears the name of ours.
        """

    async def hello(self) -> None:
        """Check that the store answers, has our function library and is initialised.

        Raises:
            StoreUnavailableError, LibraryError, StoreUninitialisedError
        """

    async def acquire(self, request: AcquireRequest) -> LeaseRecord:
        """Open a lease, or answer with the one that this operation, id or session has already."""

    async def poll(self, lease_id: LeaseId, *, waiter_ttl_s: float) -> LeaseRecord:
        """Say that the waiter is still there; claims a granted lease. Any state is answered."""

    async def renew(self, lease_id: LeaseId, nonce: Nonce, *, ttl_s: float, who: str) -> LeaseRecord:
        """Active: deadline = now + ttl. Ending: accepted, deadline unchanged. Queued: keeps its place in line."""

    async def release(self, lease_id: LeaseId, nonce: Nonce, *, who: str) -> LeaseRecord:
        """Give back, or leave the line; safe to repeat."""

    async def give_back(self, lease_id: LeaseId, nonce: Nonce, *, who: str) -> None:
        """As ``release``, for whoever does not look at the lease any more."""

    async def send_away(self, lease_id: LeaseId, nonce: Nonce, *, life: LifeId, back_s: float, kept_s: float) -> None:
        """Its client was told to come back in ``back_s``: at any broker it finds its place until ``kept_s`` after."""

    async def begin_life(self, life: LifeId) -> None:
        """A broker has started: other lives of its name are over."""

    async def rejoin(self, life: LifeId) -> None:
        """A broker whose life was over begins another, beside whoever bears its name now."""

    async def beat(self, life: LifeId) -> None:
        """It is there. Raises ``LifeEndedError`` where the store knows it as dead, or not at all."""

    async def end_life(self, life: LifeId) -> None:
        """A broker that stops says goodbye: what only it could serve ends; safe to repeat."""

    async def end(self, lease_id: LeaseId, *, who: str, why: str) -> LeaseRecord:
        """End without the nonce: a queued lease is cancelled, a held one revoked; safe to repeat."""

    async def find(self, session: Session, model: ModelName, intent: Intent, holder: str) -> LeaseId | None:
        """The live lease of a session, if any."""

    async def lease(self, lease_id: LeaseId) -> LeaseRecord:
        """Read only; touches nothing."""

    async def leases(
        self, *, model: ModelName | None, limit: int, who: Sequence[str] | None = None
    ) -> Sequence[LeaseRecord]:
        """Live leases: held ones first, then queued in order of service; at most ``limit``.

        Args:
            model: Of this one only; None: of all.
            limit: At most so many; of those of ``who`` the ones that were asked for first.
            who: Only what these API keys and publishers asked for, wherever it stands in line; None: everybody's.
        """

    async def count_open(self, who: Sequence[str]) -> int:
        """How many live leases these API keys and publishers have together."""

    async def snapshot(self) -> Snapshot:
        """What the policy decides upon."""

    async def tick(self) -> float | None:
        """End what is due and notice silent workers and brokers.

        Returns:
            Seconds until the next deadline; None when nothing is due.
        """

    async def observe(self, slot: SlotId) -> None:
        """Take in the slot's report."""

    async def reported_slots(self) -> Sequence[SlotId]:
        """Slots that have a report (also ones never registered)."""

    async def want(
        self,
        *,
        slot: SlotId,
        generation: int,
        model: ModelName,
        depth: Residency,
        evict: Sequence[ModelName],
        key: str,
        why: str,
    ) -> None:
        """Commit a ``Load``. Raises ``StaleDecisionError`` when the picture was old."""

    async def unwant(self, *, slot: SlotId, generation: int, model: ModelName, why: str) -> None:
        """Commit an ``Unload``; also aborts a load. Raises ``StaleDecisionError`` when the picture was old."""

    async def admit(self, *, slot: SlotId, model: ModelName, residency_generation: int, admit: int, why: str) -> None:
        """Commit a ``SetAdmission`` and hand out. Raises ``StaleDecisionError`` when the picture was old."""

    async def preempt(self, lease_id: LeaseId, *, grace_s: float, why: str) -> None:
        """Commit a ``PreemptLease``: active → ending. Raises ``StaleDecisionError`` when it is not active."""

    async def doubt(self, *, slot: SlotId, generation: int, model: ModelName, who: str, why: str) -> None:
        """Have the worker prove that a ready server does anything; ``generation`` is the residency's.

        Raises ``StaleDecisionError`` when that residency is not ready any more.
        """

    async def set_model(self, model: ModelName, *, off: str, who: str) -> None:
        """Operator: take a model out of service for that reason, or with an empty one put it back.

        Raises ``UnknownModelError``.
        """

    async def set_slot(self, slot: SlotId, *, event: str, who: str) -> None:
        """Operator: ``cordon``, ``drain``, ``uncordon``; also lifts quarantines of models on the slot with ``heal``."""

    async def check(self) -> Sequence[Violation]:
        """Run the invariants read-only."""

    async def ps(self) -> Sequence[str]:
        """The lines of the table that ``redis-cli FCALL_RO hotseat1_ps`` prints."""

    async def events(self, after: str, *, block_s: float, limit: int) -> Sequence[Event]:
        """Events after a stream id, waiting up to ``block_s`` for the first. Not ``"$"``: see ``last_event_id``."""

    async def last_event_id(self) -> str:
        """Id of the newest event; ``0-0`` when there is none."""

    async def first_event_id(self) -> str:
        """Id of the oldest event kept; a reader whose position is before it has missed some."""

    async def bells(self, after: str, *, block_s: float) -> tuple[str, Sequence[SlotId]]:
        """Slots whose worker rang since ``after``; returns the new position with them.

        ``""`` is now: what rang before is read with the reports.
        """

    async def publish_ingress(self, fields: Mapping[str, str], *, limit: int) -> None:
        """Append a message to the ingress stream; it may be there twice when the connection broke meanwhile.

        Raises:
            StoreFullError: ``limit`` messages wait there already.
        """

    async def read_ingress(self, *, block_s: float, limit: int) -> Sequence[IngressEntry]:
        """The oldest entries that are not done, in order; fewer than ``limit`` where they are large.

        One above ``MAX_ENTRY`` comes without its fields.

        Every broker reads all of them and tries them in order; what another one has done since is answered None by
        ``ingest``. So no broker overtakes another's earlier entry.
        """

    async def ingest(
        self,
        entry: IngressEntry,
        *,
        session: Session,
        sequence: int | None,
        acquire: AcquireRequest | None = None,
        renew: tuple[LeaseId, Nonce | None, float] | None = None,
        release: LeaseId | None = None,
    ) -> LeaseRecord | None:
        """Carry out one ingress message and remove it, atomically; None when its sequence number was old."""

    async def renew_streams(self) -> Sequence[str]:
        """Begin streams anew whose ids ran out; the names of those that were.

        Whoever may publish can use up all ids with one entry; nobody could add to the stream any more.
        """

    async def reject_ingress(self, entry: IngressEntry, *, why: str) -> None:
        """Set a malformed entry aside in ``P:ingress:rejected``."""

    async def close(self) -> None:
        """Close connections."""
