"""From the library's JSON and the streams' entries to the port's values. Numbers travel as strings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import sqrt
from typing import Any

from broker.core.errors import BY_CODE, BackendError, HotseatError, LibraryError, StoreFullError, StoreUnavailableError
from broker.core.lease import (
    AcquireRequest,
    LeaseId,
    LeaseRecord,
    ModelName,
    Nonce,
    Priority,
    SessionHash,
    SlotId,
)
from broker.core.pool_views import expected_arrivals
from broker.core.slot import Residency
from broker.core.snapshot import (
    ClassQueue,
    FailureView,
    LeaseView,
    ModelView,
    ResidencyView,
    SlotView,
    Snapshot,
)
from broker.store.labels import label, operation_hash, settings_of, specs_of, text_hash, to_ms
from broker.store.port import Event, IngressEntry, PoolSettings, Violation
from broker.store.redis_wire import (
    VIOLATIONS,
    HeldWire,
    LeaseWire,
    ModelWire,
    ResidencyWire,
    SlotWire,
    SnapshotWire,
)

AWAY = ("LOADING", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN", "MISCONF", "NOAUTH")
"""First words of error replies that say: not now."""


def error_of(text: str) -> HotseatError:
    """The class of an error reply."""
    code, _, message = text.partition(" ")
    if known := BY_CODE.get(code.lower()):
        return known(message or code)
    if code == "OOM":
        return StoreFullError("the store is over its memory limit; leases can still be renewed and released")
    if "unction not found" in text:
        return LibraryError("the function library is not loaded")
    if code in AWAY or code in {"NOPERM", "WRONGPASS"}:
        return StoreUnavailableError(text)
    return BackendError(text)


def ask_words(request: AcquireRequest) -> list[str]:
    """Arguments of ``hotseat1_acquire``, in order."""
    estimate_ms = to_ms(request.expected_s, "expected") if request.expected_s else 0
    return [
        request.lease_id, request.nonce, label(request.session), text_hash(request.session), text_hash(request.holder),
        request.model, request.intent.value, label(request.holder), request.priority.value, label(request.who),
        str(to_ms(request.ttl_s, "ttl")), str(to_ms(request.waiter_ttl_s, "waiter_ttl")), str(estimate_ms),
        operation_hash(request.who, request.operation), text_hash(request.body_hash) if request.operation else "",
        str(request.max_open), "1" if request.single else "", request.life, request.place,
        "1" if request.named else "",
    ]  # fmt: skip


def init_words(settings: PoolSettings) -> list[str]:
    """Arguments of ``hotseat1_init``: settings with their number in front, then six words per model."""
    rules = asdict(settings_of(settings))
    waits = dict(zip((f"max_wait_ms:{priority.value}" for priority in Priority), rules.pop("max_wait_ms"), strict=True))
    words = [str(len(rules) + len(waits))]
    for name, value in {**rules, **waits}.items():
        words += [name, str(value)]
    for spec in specs_of(settings):
        words += [spec.name, str(spec.memory_mib), str(spec.lease_limit), "1" if spec.is_default else ""]
        words += [str(spec.release_ms), str(spec.load_hint_ms)]
    return words


def lease_of(wire: LeaseWire) -> LeaseRecord:
    """One lease."""
    return LeaseRecord(
        lease_id=LeaseId(wire.id),
        nonce=Nonce(wire.nonce),
        session=wire.session,
        session_hash=SessionHash(wire.sh),
        model=ModelName(wire.model),
        intent=wire.intent,
        holder=wire.holder,
        priority=wire.priority,
        who=wire.who,
        state=wire.state,
        reason=wire.reason,
        arrival=wire.arrival,
        position=wire.position,
        waited_s=((wire.granted or wire.ended or wire.now) - wire.enq) / 1000,
        held_s=((wire.ended or wire.now) - wire.granted) / 1000 if wire.granted else 0.0,
        expires_in_s=max(wire.deadline - wire.now, 0) / 1000,
        ttl_s=wire.ttl_ms / 1000,
        expected_s=wire.expected_ms / 1000,
        slot=SlotId(wire.slot) if wire.slot else None,
        generation=wire.gen,
        base_url=wire.url,
        api_key=wire.key,
        residency=wire.residency,
        progress=wire.progress,
        now_s=wire.now / 1000,
    )


def snapshot_of(wire: SnapshotWire) -> Snapshot:
    """The policy's picture."""
    return Snapshot(
        now_s=wire.now / 1000,
        sequence=wire.seq,
        next_arrival=wire.arrival + 1,
        models={ModelName(model.name): _model_of(model, wire.horizon_ms) for model in wire.models},
        slots=tuple(_slot_of(slot) for slot in wire.slots),
        queued=wire.queued,
    )


def _model_of(wire: ModelWire, horizon_ms: int) -> ModelView:
    return ModelView(
        name=ModelName(wire.name),
        memory_mib=wire.memory_mib,
        lease_limit=wire.lease_limit,
        queues=tuple(
            ClassQueue(priority=one.priority, count=one.count, oldest_s=one.enq / 1000, oldest_arrival=one.arrival)
            for one in wire.queues
        ),
        expected_sum_s=wire.expected_ms / 1000,
        unestimated=wire.queued - wire.estimated,
        warm_leases=wire.warm,
        hold_s=wire.hold_ms / 1000 if wire.hold_n else 20.0,
        hold_sd_s=sqrt(wire.hold_var) / 1000 if wire.hold_n > 1 else 20.0,
        hold_n=wire.hold_n,
        load_s=wire.load_ms / 1000 if wire.load_n else wire.load_hint_ms / 1000 or 15.0,
        load_sd_s=sqrt(wire.load_var) / 1000 if wire.load_n > 1 else 10.0,
        load_n=wire.load_n,
        unload_s=wire.unload_ms / 1000 if wire.unload_n else 1.0,
        unload_n=wire.unload_n,
        expected_arrivals=expected_arrivals(wire.arrivals, horizon_ms, wire.warm),
        is_default=wire.is_default == "1",
        release_vram_after_s=wire.release_ms / 1000 if wire.release_ms >= 0 else None,
        deserted_s=wire.deserted / 1000,
        given_up_s=wire.given_up / 1000,
    )


def _slot_of(wire: SlotWire) -> SlotView:
    return SlotView(
        slot=SlotId(wire.slot),
        state=wire.state,
        generation=wire.gen,
        budget_mib=wire.budget_mib,
        serves=frozenset(ModelName(model) for model in wire.serves.split()),
        residencies=tuple(_residency_of(one) for one in wire.residencies if one.state is not Residency.ABSENT),
        failures=tuple(
            FailureView(
                model=ModelName(one.model),
                fails=one.fails,
                retry_at_s=one.retry_at / 1000,
                quarantined=one.quarantined == "1",
                error=one.error,
            )
            for one in wire.residencies
            if one.fails > 0
        ),
        leases=tuple(_held_of(one, wire.slot) for one in wire.leases),
        worker=wire.worker,
        reason=wire.reason,
        total_mib=wire.total_mib,
        free_mib=wire.free_mib,
        foreign_mib=wire.foreign_mib,
        foreign=wire.foreign,
    )


def _residency_of(wire: ResidencyWire) -> ResidencyView:
    return ResidencyView(
        model=ModelName(wire.model),
        state=wire.state,
        generation=wire.gen,
        memory_mib=wire.memory_mib,
        admit=wire.admit,
        use=wire.use,
        started_s=wire.started / 1000,
        loaded_s=wire.loaded / 1000,
        last_used_s=wire.used_at / 1000,
        waited=wire.waited,
        waiting_below=wire.waiting_below,
        prefetched=wire.prefetched == "1",
        progress=wire.progress,
    )


def _held_of(wire: HeldWire, slot: str) -> LeaseView:
    return LeaseView(
        lease_id=LeaseId(wire.id),
        model=ModelName(wire.model),
        slot=SlotId(slot),
        priority=wire.priority,
        state=wire.state,
        granted_s=wire.granted / 1000,
        deadline_s=wire.deadline / 1000,
        expected_s=wire.expected_ms / 1000,
        single=wire.single,
    )


def text(value: bytes | str) -> str:
    """Text of a reply; what is not UTF-8 is shown as such."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def entries_of(reply: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """Entries of an ``XRANGE``, or of one stream of an ``XREAD``."""
    for entry_id, words in reply or ():
        if words is not None:
            flat = map(text, words) if words and isinstance(words[0], bytes) else iter(words)
            yield text(entry_id), dict(zip(flat, flat, strict=True))


def ingress_entry_of(entry_id: bytes, words: "list[bytes] | int") -> IngressEntry:
    """One entry as the function ``ingress`` tells it."""
    if isinstance(words, int):
        return IngressEntry(entry_id=text(entry_id), fields={}, oversize=words)
    flat = map(text, words)
    return IngressEntry(entry_id=text(entry_id), fields=dict(zip(flat, flat, strict=True)))


def stream_of(reply: Any) -> Any:
    """The only stream of an ``XREAD`` or ``XREADGROUP`` reply."""
    return reply[0][1] if reply else ()


def event_of(entry_id: str, fields: Mapping[str, str]) -> Event:
    """One entry of ``P:events``."""
    words = dict(fields)
    return Event(
        event_id=entry_id,
        sequence=int(words.pop("seq")),
        kind=words.pop("type"),
        at_s=int(words.pop("t")) / 1000,
        fields=words,
    )


def violations_of(reply: bytes) -> Sequence[Violation]:
    """Broken invariants, in the order of the memory store."""
    found = [Violation(**one) for one in VIOLATIONS.decode(reply)]
    return sorted(found, key=lambda one: (one.invariant, one.subject, one.detail))
