"""Replays ``P:events`` through the TRANSITIONS tables and notes every broken invariant.

The stream is the linearization: ``seq`` is given inside the function that makes the transition, so there is nothing to
search for. A replay never stops at a violation; it takes the entry's word and goes on, so one fault is told once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from broker.core.lease import IllegalTransitionError as IllegalLeaseError
from broker.core.lease import LeaseEvent, LeaseState, next_state
from broker.core.slot import ResidencyEvent, SlotState, next_residency
from harness.history.trace import Entry, Violation
from schemas.residency import Residency

EVENT_OF_REASON = {
    "released": LeaseEvent.RELEASE,
    "expired": LeaseEvent.EXPIRE,
    "preempted": LeaseEvent.EXPIRE,
    "cancelled": LeaseEvent.CANCEL,
    "timed_out": LeaseEvent.TIME_OUT,
    "rejected": LeaseEvent.REJECT,
    "revoked": LeaseEvent.REVOKE,
    "lost": LeaseEvent.LOSE,
}
HELD = (LeaseState.ACTIVE, LeaseState.ENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What the run was configured with."""

    memory_mib: Mapping[str, int]
    """Per model."""
    lease_limit: Mapping[str, int]
    budget_mib: Mapping[str, int]
    """Per slot."""


@dataclass(slots=True, kw_only=True)
class LeaseNow:
    """A lease as far as replayed."""

    lease: str
    model: str
    sh: str
    intent: str
    state: LeaseState = LeaseState.QUEUED
    slot: str = ""
    gen: int = 0
    reason: str = ""
    created_seq: int = 0
    granted_seq: int = 0
    ended_seq: int = 0
    created_ms: int = 0
    granted_ms: int = 0


@dataclass(slots=True, kw_only=True)
class ResidencyNow:
    """A residency as far as replayed."""

    state: Residency = Residency.ABSENT
    gen: int = 0
    held: set[str] = field(default_factory=set)


class Replay:
    """One pass over a trace."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.violations: list[Violation] = []
        self.leases: dict[str, LeaseNow] = {}
        self.residencies: dict[tuple[str, str], ResidencyNow] = {}
        self.slots: dict[str, SlotState] = {}
        self.generation: dict[str, int] = {}
        """Highest order generation per slot in this incarnation."""
        self.incarnations = 0
        self.sequence: int | None = None
        self.at_ms = 0
        self._entry = Entry(seq=0, kind="", at_ms=0)
        self._handlers: dict[str, Callable[[Entry], None]] = {
            "initialised": self._initialised,
            "recovered": self._recovered,
            "registered": self._registered,
            "offline": self._offline,
            "slot": self._slot,
            "loading": self._loading,
            "ready": self._ready,
            "load_failed": self._load_failed,
            "unloading": self._unloading,
            "absent": self._absent,
            "queued": self._queued,
            "granted": self._granted,
            "renewed": self._moved,
            "ending": self._moved,
            "ended": self._ended,
        }

    def feed(self, entry: Entry) -> None:
        """Take in the next entry."""
        self._entry = entry
        self._check_sequence(entry)
        if handler := self._handlers.get(entry.kind):
            handler(entry)

    def held(self, slot: str, model: str) -> set[str]:
        """Ids of the ``use`` leases held there now."""
        return self._residency(slot, model).held

    def waiting(self) -> list[LeaseNow]:
        """Tickets in line."""
        return [lease for lease in self.leases.values() if lease.state is LeaseState.QUEUED]

    def _broken(self, invariant: str, subject: str, detail: str) -> None:
        self.violations.append(
            Violation(invariant=invariant, subject=subject, detail=detail, seq=self._entry.seq),
        )

    def _check_sequence(self, entry: Entry) -> None:
        if self.sequence is not None and entry.kind != "initialised" and entry.seq != self.sequence + 1:
            self._broken("sequence_without_gap", entry.kind, f"follows {self.sequence}")
        if entry.kind == "initialised":
            self.at_ms = 0
        if entry.at_ms < self.at_ms:
            self._broken("clock_never_back", entry.kind, f"{entry.at_ms} ms after {self.at_ms} ms")
        self.sequence, self.at_ms = entry.seq, max(entry.at_ms, self.at_ms)

    # -------------------------------------------------------------------------------------------- store and slots

    def _initialised(self, _entry: Entry) -> None:
        """A store that forgot everything: nothing of before counts."""
        self.incarnations += 1
        for memory in (self.leases, self.residencies, self.slots, self.generation):
            memory.clear()

    def _recovered(self, _entry: Entry) -> None:
        self.incarnations += 1
        for slot, state in self.slots.items():
            if state is not SlotState.OFFLINE:
                self.slots[slot] = SlotState.RECOVERING

    def _registered(self, entry: Entry) -> None:
        slot = entry.get("slot")
        self.slots[slot] = SlotState(entry.get("to") or SlotState.OPEN)
        self._grow(slot, entry.gen)

    def _offline(self, entry: Entry) -> None:
        self.slots[entry.get("slot")] = SlotState.OFFLINE

    def _slot(self, entry: Entry) -> None:
        if entry.get("to"):
            self.slots[entry.get("slot")] = SlotState(entry.get("to"))

    def _grow(self, slot: str, gen: int) -> None:
        last = self.generation.get(slot, 0)
        if gen and gen <= last:
            self._broken("generations_only_grow", slot, f"{gen} after {last}")
        self.generation[slot] = max(gen, last)

    # ------------------------------------------------------------------------------------------------ residencies

    def _residency(self, slot: str, model: str) -> ResidencyNow:
        return self.residencies.setdefault((slot, model), ResidencyNow())

    def _step(self, entry: Entry, event: ResidencyEvent) -> ResidencyNow:
        residency = self._residency(entry.get("slot"), entry.get("model"))
        after = next_residency(residency.state, event)
        if after is None:
            self._broken("legal_transition", entry.get("model"), f"{residency.state} cannot {event} on {entry.kind}")
            after = AFTER[event]
        residency.state = after
        return residency

    def _loading(self, entry: Entry) -> None:
        self._grow(entry.get("slot"), entry.gen)
        residency = self._step(entry, ResidencyEvent.ORDER)
        residency.gen = entry.gen
        self._check_memory(entry.get("slot"))

    def _check_memory(self, slot: str) -> None:
        """What unloads is gone before the next load starts: the worker sees to that, and ``/proc`` is the witness."""
        resident = [m for (s, m), now in self.residencies.items() if s == slot and now.state.occupies_device]
        total = sum(self.catalogue.memory_mib[model] for model in resident)
        if total > self.catalogue.budget_mib[slot]:
            self._broken("memory_fits", slot, f"{' + '.join(resident)} = {total} MiB")

    def _same_generation(self, entry: Entry, residency: ResidencyNow, invariant: str) -> None:
        if entry.gen != residency.gen:
            self._broken(invariant, entry.get("model"), f"{entry.kind} of generation {entry.gen}, is {residency.gen}")

    def _ready(self, entry: Entry) -> None:
        self._same_generation(entry, self._step(entry, ResidencyEvent.BECOME_READY), "generations_only_grow")

    def _load_failed(self, entry: Entry) -> None:
        self._step(entry, ResidencyEvent.FAIL)

    def _unloading(self, entry: Entry) -> None:
        self._not_under_use(entry, self._step(entry, ResidencyEvent.WITHDRAW))

    def _absent(self, entry: Entry) -> None:
        self._not_under_use(entry, self._step(entry, ResidencyEvent.VANISH))

    def _not_under_use(self, entry: Entry, residency: ResidencyNow) -> None:
        """Leases on a server that died or was lost end ``lost`` before its residency goes."""
        if residency.held:
            holders = ", ".join(sorted(residency.held))
            self._broken("no_eviction_under_a_use_lease", entry.get("model"), f"{entry.kind} under {holders}")

    # ----------------------------------------------------------------------------------------------------- leases

    def _create(self, entry: Entry) -> LeaseNow:
        lease_id = entry.get("lease")
        if lease_id in self.leases:
            self._broken("legal_transition", lease_id, f"{entry.kind} again")
        lease = LeaseNow(
            lease=lease_id,
            model=entry.get("model"),
            sh=entry.get("sh"),
            intent=entry.get("intent"),
            created_seq=entry.seq,
            created_ms=entry.at_ms,
        )
        self.leases[lease_id] = lease
        return lease

    def _queued(self, entry: Entry) -> None:
        self._create(entry)

    def _granted(self, entry: Entry) -> None:
        lease = self.leases.get(entry.get("lease")) if entry.get("from") else None
        lease = lease or self._create(entry)
        self._follow(entry, lease, LeaseEvent.GRANT)
        lease.slot, lease.gen, lease.granted_seq, lease.granted_ms = (
            entry.get("slot"),
            entry.gen,
            entry.seq,
            entry.at_ms,
        )
        if lease.intent == "use":
            self._granted_use(entry, lease)

    def _granted_use(self, entry: Entry, lease: LeaseNow) -> None:
        residency = self._residency(lease.slot, lease.model)
        if residency.state is not Residency.READY:
            self._broken("granted_only_when_ready", lease.lease, f"{lease.model} is {residency.state}")
        self._same_generation(entry, residency, "granted_only_when_ready")
        if (state := self.slots.get(lease.slot)) is not SlotState.OPEN:
            self._broken("granted_only_on_an_open_slot", lease.lease, f"{lease.slot} is {state}")
        residency.held.add(lease.lease)
        if len(residency.held) > self.catalogue.lease_limit[lease.model]:
            self._broken("at_most_lease_limit_per_model", lease.model, f"{len(residency.held)} leases")

    def _follow(self, entry: Entry, lease: LeaseNow, event: LeaseEvent) -> None:
        if (said := entry.get("from")) and said != lease.state:
            self._broken("legal_transition", lease.lease, f"{entry.kind} says from {said}, was {lease.state}")
        try:
            lease.state = next_state(lease.state, event)
        except IllegalLeaseError as error:
            invariant = "ended_stays_ended" if lease.state is LeaseState.ENDED else "legal_transition"
            self._broken(invariant, lease.lease, str(error))
        if (said := entry.get("to")) and said != lease.state:
            self._broken("legal_transition", lease.lease, f"{entry.kind} says to {said}, is {lease.state}")

    def _known(self, entry: Entry) -> LeaseNow:
        lease = self.leases.get(entry.get("lease"))
        if lease is None:
            self._broken("legal_transition", entry.get("lease"), f"{entry.kind} of a lease never asked for")
            lease = self._create(entry)
        return lease

    def _moved(self, entry: Entry) -> None:
        event = LeaseEvent.RENEW if entry.kind == "renewed" else LeaseEvent.PREEMPT
        self._follow(entry, self._known(entry), event)

    def _ended(self, entry: Entry) -> None:
        lease = self._known(entry)
        reason = entry.get("why").partition(":")[0]
        if reason == "preempted" and lease.state is LeaseState.ACTIVE:
            self._broken("legal_transition", lease.lease, "preempted without being asked")
        self._follow(entry, lease, EVENT_OF_REASON[reason])
        lease.reason, lease.ended_seq = reason, entry.seq
        if lease.slot:
            self.held(lease.slot, lease.model).discard(lease.lease)


AFTER = {
    ResidencyEvent.ORDER: Residency.LOADING,
    ResidencyEvent.BECOME_READY: Residency.READY,
    ResidencyEvent.FAIL: Residency.UNLOADING,
    ResidencyEvent.WITHDRAW: Residency.UNLOADING,
    ResidencyEvent.DIE: Residency.UNLOADING,
    ResidencyEvent.VANISH: Residency.ABSENT,
}
"""Where an event leads when it was legal: the replay goes on from there after an illegal one."""
