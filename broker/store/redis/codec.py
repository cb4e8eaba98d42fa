"""From the library's JSON and the streams' entries to the port's values. Numbers travel as strings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import msgspec

from broker.core.errors import (
    BY_CODE,
    BackendError,
    HotseatError,
    LibraryError,
    ModelUnavailableError,
    StoreFullError,
    StoreUnavailableError,
)
from broker.core.lease import AcquireRequest, LeaseRecord, Priority, SlotId
from broker.core.snapshot import Snapshot
from broker.pool.machine import SPEC_FIELDS, ModelSpec
from broker.pool.records.lease_row import Ask
from broker.pool.records.rows import PoolRules
from broker.pool.records.shown import UnreadableSlot
from broker.pool.views import lease_record, snapshot_of
from broker.store.labels import ask_values
from broker.store.port import Event, IngressEntry, Violation
from broker.store.redis.link import Word
from broker.store.redis.wire import POOL, SLOT, SLOT_NAME, VIOLATIONS

AWAY = ("LOADING", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN", "MISCONF", "NOAUTH")
"""First words of error replies that say: not now."""


def error_of(text: str) -> HotseatError:
    """The class of an error reply."""
    code, _, message = text.partition(" ")
    if known := BY_CODE.get(code.lower()):
        return known.told(message) if issubclass(known, ModelUnavailableError) else known(message or code)
    if code == "OOM":
        return StoreFullError("the store is over its memory limit; leases can still be renewed and released")
    if "unction not found" in text:
        return LibraryError("the function library is not loaded")
    if code in AWAY or code in {"NOPERM", "WRONGPASS"}:
        return StoreUnavailableError(text)
    return BackendError(text)


_FLAGS_AT = tuple(at for at, field in enumerate(fields(Ask)) if field.type is bool)
"""The only fields of what is asked that are neither text nor numbers; ``store_words_of`` would look at each thrice."""


def ask_words(request: AcquireRequest) -> list[Word]:
    """Arguments of ``hotseat1_acquire``."""
    values = ask_values(request)
    for at in _FLAGS_AT:
        values[at] = "1" if values[at] else ""
    return values


def store_words_of(values: Iterable[Any]) -> list[Word]:
    """Values as the store has them: what is true is ``1``, what is not, or is nothing, is empty."""
    return ["1" if value is True else "" if value is False or value is None else value for value in values]


def init_words(rules: PoolRules, specs: Iterable[ModelSpec]) -> list[Word]:
    """Arguments of ``hotseat1_init``: settings with their number in front, then the fields of each model."""
    flat = asdict(rules)
    waits_ms = flat.pop("max_wait_ms")
    flat |= {f"max_wait_ms:{priority}": wait_ms for priority, wait_ms in zip(Priority, waits_ms, strict=True)}
    words: list[Word] = [len(flat), *(word for setting in flat.items() for word in setting)]
    for spec in specs:
        words += store_words_of(getattr(spec, name) for name in SPEC_FIELDS)
    return words


def lease_of(told: Any) -> LeaseRecord:
    """One lease, out of its row and what is shown beside it."""
    return lease_record(told, told)


def read_snapshot(reply: bytes) -> Snapshot:
    """The policy's picture.

    Raises:
        msgspec.MsgspecError: It, or a model's record, cannot be read.
    """
    told = POOL.decode(reply)
    told.slots = [_read_slot(raw) for raw in told.slots]
    return snapshot_of(told)


def _read_slot(raw: msgspec.Raw) -> Any:
    try:
        return SLOT.decode(raw)
    except msgspec.MsgspecError as error:
        return UnreadableSlot(slot=SlotId(SLOT_NAME.decode(raw).slot), why=str(error))


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
