"""From what clients say to what the store keeps: hashed key parts, percent-encoded labels, milliseconds."""

import base64
import hashlib
import math
import re
from collections.abc import Callable
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, get_type_hints
from urllib.parse import quote

from broker.core.errors import BadArgumentError
from broker.core.lease import AcquireRequest, Priority, Session
from broker.pool.machine import ModelSpec
from broker.pool.records.lease_row import ASK_FIELDS, Ask, Label
from broker.pool.records.rows import PoolRules
from broker.store.port import PoolSettings

HASH_LENGTH = 20
LABEL_LENGTH = 256
SAFE = "-._~:/@+=,"
"""Kept as they are in labels: readable, and harmless in keys, logs and terminals."""
CUT = "%E2%80%A6"
"""A percent-encoded ellipsis where a label was cut."""
_is_label = re.compile(rf"[A-Za-z0-9{re.escape(SAFE)}]{{0,{LABEL_LENGTH}}}\Z").match
LONGEST_MS = 10**12
"""About 31 years: every duration fits a double and a Lua number exactly."""


def text_hash(text: str) -> str:
    """First 20 characters of lower-case base32(sha256): 100 bits, safe in key names."""
    return _short_hash(text) if len(text) <= LABEL_LENGTH else _hash(text)


def session_hash(session: Session) -> str:
    """Of a session: its key, and whose it is; no key's name has a line break."""
    return text_hash(f"{session.owner}\n{session.key}")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode().lower()[:HASH_LENGTH]


_short_hash = lru_cache(maxsize=4096)(_hash)
"""Sessions and holders come back with every call; at most a few MiB."""


def label(text: str) -> Label:
    """Percent-encoded ASCII, at most 256 characters, never cut inside an escape."""
    if _is_label(text):
        return Label(text)
    encoded = quote(text, safe=SAFE, errors="surrogatepass")
    if len(encoded) <= LABEL_LENGTH:
        return Label(encoded)
    cut = encoded[: LABEL_LENGTH - len(CUT)]
    escape = cut.rfind("%", len(cut) - 2)
    return Label((cut if escape < 0 else cut[:escape]) + CUT)


def to_ms(seconds: float, name: str) -> int:
    """Whole milliseconds, at least one for every positive duration.

    Raises:
        BadArgumentError: Not a finite number, or too large to be exact.
    """
    if not math.isfinite(seconds) or abs(seconds) * 1000 > LONGEST_MS:
        raise BadArgumentError(f"{name} must be a finite number of seconds")
    return max(math.floor(seconds * 1000 + 0.5), 1) if seconds > 0 else math.floor(seconds * 1000 + 0.5)


def operation_hash(who: str, operation: str) -> str:
    """Idempotency keys of different API keys never meet."""
    return text_hash(f"{who}\0{operation}") if operation else ""


def _estimate_ms(expected_s: float | None) -> int:
    return to_ms(expected_s, "expected") if expected_s else 0


_READ_FROM = {
    "id": "lease_id", "sh": "of", "hh": "holder", "ttl_ms": "ttl_s", "waiter_ttl_ms": "waiter_ttl_s",
    "estimate_ms": "expected_s", "op": "operation", "body": "body_hash",
}  # fmt: skip
"""Fields of an ``Ask`` that are read from something of another name in an acquire request."""
_TURNED: dict[str, Callable[[Any], Any]] = {
    **{name: label for name, kind in get_type_hints(Ask).items() if kind is Label},
    "sh": session_hash,
    "hh": text_hash,
    "ttl_ms": partial(to_ms, name="ttl"),
    "waiter_ttl_ms": partial(to_ms, name="waiter_ttl"),
    "estimate_ms": _estimate_ms,
}
"""And what is made of it; free text is percent-encoded, everything else is kept as it is."""
_read = attrgetter(*(_READ_FROM.get(name, name) for name in ASK_FIELDS))
_TURNED_AT = tuple((ASK_FIELDS.index(name), turned) for name, turned in _TURNED.items())
_OP, _BODY = ASK_FIELDS.index("op"), ASK_FIELDS.index("body")


def ask_values(request: AcquireRequest) -> list[Any]:
    """The fields of an ``Ask`` for an acquire request, in their order. By position: it is made of every request.

    Raises:
        BadArgumentError: A duration is not finite.
    """
    values = list(_read(request))
    for at, turned in _TURNED_AT:
        values[at] = turned(values[at])
    if request.operation:
        values[_OP] = operation_hash(request.who, request.operation)
        values[_BODY] = text_hash(request.body_hash)
    else:
        values[_OP] = values[_BODY] = ""
    return values


def ask_of(request: AcquireRequest) -> Ask:
    """An acquire request in the store's words; raises as ``ask_values``."""
    return Ask(**dict(zip(ASK_FIELDS, ask_values(request), strict=True)))


def settings_of(settings: PoolSettings) -> PoolRules:
    """Pool settings in milliseconds."""
    ranked = [to_ms(settings.max_wait_s.get(priority, 600.0), "max_wait") for priority in Priority]
    return PoolRules(
        max_queue=settings.max_queue,
        max_queue_session=settings.max_queue_session,
        max_kept=settings.max_kept,
        claim_ttl_ms=to_ms(settings.claim_ttl_s, "claim_ttl"),
        op_ttl_ms=to_ms(settings.operation_ttl_s, "operation_ttl"),
        ended_ttl_ms=to_ms(settings.ended_ttl_s, "ended_ttl"),
        max_step_ms=to_ms(settings.max_step_s, "max_step"),
        silence_ms=to_ms(settings.silence_s, "silence"),
        broker_silence_ms=to_ms(settings.broker_silence_s, "broker_silence"),
        load_retry_ms=to_ms(settings.load_retry_s, "load_retry"),
        load_backoff_ms=to_ms(settings.load_backoff_s, "load_backoff"),
        max_fails=settings.max_fails,
        horizon_ms=to_ms(settings.horizon_s, "horizon"),
        max_wait_ms=(ranked[0], ranked[1], ranked[2], ranked[3]),
    )


def specs_of(settings: PoolSettings) -> list[ModelSpec]:
    """The catalogue in the store's words."""
    return [
        ModelSpec(
            name=model.name,
            memory_mib=model.memory_mib,
            lease_limit=model.lease_limit,
            is_default=model.is_default,
            release_ms=-1 if model.release_vram_after_s is None else to_ms(model.release_vram_after_s, "release_vram"),
            keep=model.keep,
            pinned=model.pinned,
            weight=max(1, round(model.eviction_weight * 1000)),
            load_hint_ms=0 if model.load_s_hint is None else to_ms(model.load_s_hint, "load_hint"),
            hold_hint_ms=0 if model.hold_s_hint is None else to_ms(model.hold_s_hint, "hold_hint"),
        )
        for model in settings.models
    ]
