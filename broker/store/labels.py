"""From what clients say to what the store keeps: hashed key parts, percent-encoded labels, milliseconds."""

import base64
import hashlib
import math
import re
from functools import lru_cache
from urllib.parse import quote

from broker.core.errors import BadArgumentError
from broker.core.lease import AcquireRequest, Priority
from broker.core.pool import Ask, ModelSpec
from broker.core.pool_rows import Settings
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


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode().lower()[:HASH_LENGTH]


_short_hash = lru_cache(maxsize=4096)(_hash)
"""Sessions and holders come back with every call; at most a few MiB."""


def label(text: str) -> str:
    """Percent-encoded ASCII, at most 256 characters, never cut inside an escape."""
    if _is_label(text):
        return text
    encoded = quote(text, safe=SAFE, errors="surrogatepass")
    if len(encoded) <= LABEL_LENGTH:
        return encoded
    cut = encoded[: LABEL_LENGTH - len(CUT)]
    escape = cut.rfind("%", len(cut) - 2)
    return (cut if escape < 0 else cut[:escape]) + CUT


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


def ask_of(request: AcquireRequest) -> Ask:
    """The store's words for an acquire request.

    Raises:
        BadArgumentError: A duration is not finite.
    """
    return Ask(
        id=request.lease_id,
        nonce=request.nonce,
        session=label(request.session),
        sh=text_hash(request.session),
        hh=text_hash(request.holder),
        model=request.model,
        intent=request.intent,
        holder=label(request.holder),
        priority=request.priority,
        who=label(request.who),
        ttl_ms=to_ms(request.ttl_s, "ttl"),
        waiter_ttl_ms=to_ms(request.waiter_ttl_s, "waiter_ttl"),
        estimate_ms=to_ms(request.expected_s, "expected") if request.expected_s else 0,
        op=operation_hash(request.who, request.operation),
        body=text_hash(request.body_hash) if request.operation else "",
        max_open=request.max_open,
        single=request.single,
        life=request.life,
        place=request.place,
        named=request.named,
    )


def settings_of(settings: PoolSettings) -> Settings:
    """Pool settings in milliseconds."""
    ranked = [to_ms(settings.max_wait_s.get(priority, 600.0), "max_wait") for priority in Priority]
    return Settings(
        max_queue=settings.max_queue,
        max_queue_session=settings.max_queue_session,
        claim_ttl_ms=to_ms(settings.claim_ttl_s, "claim_ttl"),
        op_ttl_ms=to_ms(settings.operation_ttl_s, "operation_ttl"),
        ended_ttl_ms=to_ms(settings.ended_ttl_s, "ended_ttl"),
        max_step_ms=to_ms(settings.max_step_s, "max_step"),
        silence_ms=to_ms(settings.silence_s, "silence"),
        broker_silence_ms=to_ms(settings.broker_silence_s, "broker_silence"),
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
            load_hint_ms=0 if model.load_s_hint is None else to_ms(model.load_s_hint, "load_hint"),
        )
        for model in settings.models
    ]
