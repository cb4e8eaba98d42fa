"""Lease events published with ``XADD`` by hooks, pollers or a person: carried out exactly once, in order per session.

Rule: an entry is removed in the same store call that carries it out, so a broker that dies in between leaves it to the
next one. Every broker reads every entry and tries them in order; so none can overtake what another has not finished.
Late and repeated messages (``seq`` not above the session's last) are dropped there as well. What cannot be understood
is set aside with the reason; it never stops the stream.
"""

import asyncio
import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypedDict

import msgspec
from msgspec import Meta, Struct

from broker.access.principals import ANONYMOUS, Principal, Scope
from broker.accounting.metrics import Metrics
from broker.core.errors import (
    ConflictError,
    HotseatError,
    LeaseNotFoundError,
    LibraryError,
    StoreUnavailableError,
    StoreUninitialisedError,
)
from broker.core.lease import (
    INGRESS,
    AcquireRequest,
    Intent,
    LeaseId,
    LeaseRecord,
    ModelName,
    Priority,
    Session,
    priority_of,
)
from broker.leasing.service import Leasing, Wish
from broker.store.port import MAX_ENTRY, IngressEntry, Store

log = logging.getLogger("hotseat.ingress")

READ_LIMIT = 100
BLOCK_S = 1.0
RENEW_S = 2.0
"""A stream whose ids ran out is noticed this late at most."""
MAX_FIELD = 2048
"""Characters of one field; also of the one ``json`` field."""
MAX_FIELDS = 24
STORE_FAULTS = (StoreUnavailableError, StoreUninitialisedError, LibraryError)
"""The entry is sound and stays where it is."""
_LABEL = r"^[^\u0000-\u001f\u007f-\u009f{}\u2028\u2029]+\Z"
_INTEGER = re.compile(r"^-?[0-9]{1,15}\Z")


class Message(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One entry of ``P:ingress``."""

    type: Literal["lease", "renew", "release", "activity"]
    session_key: Annotated[str, Meta(pattern=_LABEL, min_length=1, max_length=256)]
    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}\Z")]
    ttl_seconds: Annotated[float, Meta(ge=1, le=86_400)] | None = None
    intent: Literal["use", "warm"] = "use"
    seq: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    """Grows per session; what is not above the last one is late or repeated, and ignored."""
    holder: Annotated[str, Meta(pattern=_LABEL, max_length=128)] | None = None
    priority: str | int = "normal"
    expected_seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    publisher: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")] = "anonymous"
    """Who published it; the API key of the same name owns the lease too."""
    max_open: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Live leases that the publisher may have from this stream; 0: no limit. ``POST /activity`` writes its key's."""

    def wish(self) -> Wish:
        """As an HTTP caller would have asked.

        Raises:
            ValueError: No such priority.
        """
        named = self.priority
        number = int(named) if isinstance(named, int) or _INTEGER.match(named) else None
        return Wish(
            session=self.session_key,
            model=ModelName(self.model),
            intent=Intent.WARM if self.type == "activity" else Intent(self.intent),
            priority=Priority(str(named)) if number is None else priority_of(number),
            holder=self.holder or "",
            ttl_s=self.ttl_seconds,
            expected_s=self.expected_seconds,
        )


class MessageBase(TypedDict):
    """What every kind of message tells the store."""

    session: Session
    sequence: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an entry."""

    word: str
    """carried_out, old (late, repeated, or done by another broker), rejected or nothing_to_do: the metric's label."""
    why: str = ""


def parse(fields: Mapping[str, str]) -> Message:
    """Read an entry: flat fields, or all of them as one JSON object in the field ``json``.

    Raises:
        ValueError: It is malformed; the message is for the person who published it.
    """
    if len(fields) > MAX_FIELDS or any(len(name) + len(value) > MAX_FIELD for name, value in fields.items()):
        raise ValueError("too large")
    if "json" in fields:
        if len(fields) > 1:
            raise ValueError("send either the field json or flat fields, not both")
        _refuse_duplicates(fields["json"])
        return msgspec.json.decode(fields["json"], type=Message)
    return msgspec.convert(dict(fields), Message, strict=False)


def _refuse_duplicates(text: str) -> None:
    pairs = json.JSONDecoder(object_pairs_hook=_Pairs).decode(text)
    if isinstance(pairs, _Pairs) and len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a field is given twice")


class _Pairs(list[tuple[str, object]]):
    """An object's members, repeated ones included."""


class Ingress:
    """Reads the stream on behalf of this process."""

    def __init__(
        self, store: Store, leasing: Leasing, metrics: Metrics, *, keys: Collection[str] = (), warm_ttl_s: float = 120.0
    ) -> None:
        """``keys``: names of the API keys. A publisher speaks of the sessions of the one of its name.

        Any other one speaks of those of whoever needs no key.
        """
        self._store = store
        self._leasing = leasing
        self._metrics = metrics
        self._keys = frozenset(keys)
        self._warm_ttl_s = warm_ttl_s
        self._renewed_s = float("-inf")

    async def step(self) -> None:
        """Read once and carry out in order; waits for the first entry."""
        await self._renew_streams()
        entries = await self._store.read_ingress(block_s=BLOCK_S, limit=READ_LIMIT)
        for entry in entries:
            outcome = await self.take(entry)
            self._metrics.ingress.labels(outcome.word).inc()
            if outcome.word == "rejected":
                log.warning("ingress_rejected", extra={"entry": entry.entry_id, "why": outcome.why})
        if entries:
            await asyncio.sleep(0)

    async def _renew_streams(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._renewed_s < RENEW_S:
            return
        self._renewed_s = now_s
        for stream in await self._store.renew_streams():
            log.warning("stream_renewed", extra={"stream": stream, "why": "an entry had used up its ids"})

    async def take(self, entry: IngressEntry) -> Outcome:
        """Carry out one entry, or set it aside.

        Raises:
            StoreUnavailableError, StoreUninitialisedError, LibraryError: The store is at fault; the entry stays.
        """
        if entry.oversize:
            return await self._reject(entry, f"too large: {entry.oversize} bytes, {MAX_ENTRY} are read")
        try:
            message = parse(entry.fields)
            wish = message.wish()
        except (ValueError, RecursionError) as error:
            return await self._reject(entry, _reason(error))
        try:
            return await self._carry_out(entry, message, wish)
        except STORE_FAULTS:
            raise
        except (ConflictError, LeaseNotFoundError):  # it ended between the look and the call
            await self._finish(entry, message)
            return Outcome(word="nothing_to_do")
        except HotseatError as error:
            return await self._reject(entry, f"{error.code}: {error}")

    async def _carry_out(self, entry: IngressEntry, message: Message, wish: Wish) -> Outcome:
        name, bound = INGRESS + message.publisher, message.max_open
        speaks_for = self._owner_of(message)
        caller = Principal(name=name, scopes=frozenset({Scope.LEASE}), max_open=bound, speaks_for=speaks_for)
        ttl_s = wish.ttl_s
        if ttl_s is None and message.type == "activity":
            ttl_s = self._warm_ttl_s
        request = self._leasing.request_of(caller, msgspec.structs.replace(wish, ttl_s=ttl_s))
        live = await self._store.find(request.of, wish.model, wish.intent, wish.holder)
        if (live is None and message.type in {"renew", "release"}) or (
            live is not None and message.type == "activity" and await self._lasts(live, request.ttl_s)
        ):
            await self._finish(entry, message)
            return Outcome(word="nothing_to_do")
        record = await self._ingest(entry, message, request, live)
        return Outcome(word="old" if record is None else "carried_out")

    async def _lasts(self, lease_id: LeaseId, ttl_s: float) -> bool:
        """Does the lease live that long anyway? A sign of activity never shortens what somebody asked for."""
        return (await self._store.lease(lease_id)).expires_in_s >= ttl_s

    async def _ingest(
        self, entry: IngressEntry, message: Message, request: AcquireRequest, live: LeaseId | None
    ) -> LeaseRecord | None:
        common = MessageBase(session=request.of, sequence=message.seq)
        if live is not None and message.type == "release":
            return await self._store.ingest(entry, **common, release=live)
        if live is not None and message.type in {"renew", "activity"}:
            return await self._store.ingest(entry, **common, renew=(live, None, request.ttl_s))
        return await self._store.ingest(entry, **common, acquire=request)

    async def _finish(self, entry: IngressEntry, message: Message) -> None:
        """Remove an entry that changes nothing; its sequence number counts all the same."""
        session = Session(self._owner_of(message), message.session_key)
        await self._store.ingest(entry, session=session, sequence=message.seq)

    def _owner_of(self, message: Message) -> str:
        return message.publisher if message.publisher in self._keys else ANONYMOUS

    async def _reject(self, entry: IngressEntry, why: str) -> Outcome:
        await self._store.reject_ingress(entry, why=why[:256])
        return Outcome(word="rejected", why=why[:256])


def _reason(error: Exception) -> str:
    return f"malformed: {error}" if str(error) else "malformed: nested too deeply"
