"""The store in Redis or Valkey: one function call per method, the pool's state machine runs inside the server.

A call whose reply was lost is sent once more: ids and nonces are made by the caller, so a repeated call is the same
call (``acquire`` finds its lease, ``release`` a lease that has ended, ``want`` an older generation).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from broker.core.errors import BackendError, LibraryError, StoreFullError, StoreUninitialisedError
from broker.core.lease import AcquireRequest, Intent, LeaseId, LeaseRecord, LifeId, ModelName, Nonce, Session, SlotId
from broker.core.snapshot import Snapshot
from broker.pool.views import in_shown_order
from broker.store.labels import label, session_hash, settings_of, specs_of, text_hash, to_ms
from broker.store.port import MAX_ENTRY, MAX_READ, Event, IngressEntry, PoolSettings, Violation
from broker.store.redis import codec, wire
from broker.store.redis.codec import ask_words, error_of, lease_of, text
from broker.store.redis.days import RedisDays
from broker.store.redis.library import check_server, ensure_library, library_advice
from broker.store.redis.link import BlockingLinks, Link, LinkLostError, RedisLink, ReplyError, Word
from broker.store.redis.privacy_marks import RedisSessionMarks
from broker.store.redis.spending import RedisSpendingAccounts
from schemas.messages import base_key
from schemas.residency import Residency

BELLS_READ = 16
"""At once: an entry of a worker gone wrong may be of any size."""
INGRESS_PAUSE_S = 0.1
"""The ingress is asked for its length this often: a blocking read would bring the entry with it, whatever its size."""
NO_IDS_LEFT = "18446744073709551615-"


BEGINNING = "0-0"


def _number(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


D = TypeVar("D")


def _read(decode: Callable[[bytes], D], reply: Any) -> D:
    """What our library answers.

    Raises:
        LibraryError: It is somebody else's.
    """
    try:
        return decode(reply)
    except (msgspec.MsgspecError, TypeError) as error:
        told = f"the store answers {reply!r:.60}, which this version's function library does not: {error}"
        raise LibraryError(f"{told}; hotseat check says what is there") from error


class RedisStore:
    """One pool."""

    def __init__(self, *, pool: str, link: Link, blocking: BlockingLinks) -> None:
        self._base = base_key(pool)
        self._link = link
        self._blocking = blocking
        self.days = RedisDays(self._function, self._reading)
        self.privacy_marks = RedisSessionMarks(self._function, self._reading)
        self.spending = RedisSpendingAccounts(self._function_once, self._reading)
        self._ready = False

    @classmethod
    def connect(cls, url: str, *, pool: str = "default", timeout_s: float = 2.5) -> "RedisStore":
        """A store at ``redis://``, ``rediss://`` or ``unix://``; connections are made when needed."""
        return cls(
            pool=pool,
            link=RedisLink(url, timeout_s=timeout_s),
            blocking=BlockingLinks(lambda: RedisLink(url, timeout_s=timeout_s, decoded=True)),
        )

    # ---------------------------------------------------------------------------------------------------- calling
    async def _call(self, *words: Word) -> Any:
        try:
            try:
                return await self._link.call(*words)
            except ReplyError as refusal:
                return await self._after(refusal, words)
        except LinkLostError:
            return await self._again(words)

    async def _once(self, *words: Word) -> Any:
        """For what must not happen twice: a lost reply is the caller's to judge."""
        try:
            return await self._link.call(*words)
        except ReplyError as refusal:
            return await self._after(refusal, words)

    async def _after(self, refusal: ReplyError, words: tuple[Word, ...]) -> Any:
        """Refused: for want of our library, which is loaded then, or for good."""
        if not isinstance(error_of(str(refusal)), LibraryError):
            raise error_of(str(refusal)) from None
        await ensure_library(self._link, self._base)
        return await self._again(words)

    async def _again(self, words: tuple[Word, ...]) -> Any:
        try:
            return await self._link.call(*words)
        except ReplyError as refusal:
            raise error_of(str(refusal)) from None

    async def _function(self, name: str, *args: Word) -> Any:
        return await self._call("FCALL", f"hotseat1_{name}", 1, self._base, *args)

    async def _function_once(self, name: str, *args: Word) -> Any:
        return await self._once("FCALL", f"hotseat1_{name}", 1, self._base, *args)

    async def _reading(self, name: str, *args: Word) -> Any:
        return await self._call("FCALL_RO", f"hotseat1_{name}", 1, self._base, *args)

    async def _lease(self, name: str, *args: Word) -> LeaseRecord:
        return lease_of(_read(wire.LEASE.decode, await self._function(name, *args)))

    async def _prepare(self) -> None:
        await check_server(self._link)
        await ensure_library(self._link, self._base)
        self._ready = True

    # ---------------------------------------------------------------------------------------------------- the port
    async def init(self, settings: PoolSettings) -> None:
        """See the port."""
        await self._prepare()
        await self._function("init", *codec.init_words(settings_of(settings), specs_of(settings)))

    async def advice(self) -> Sequence[str]:
        """See the port."""
        return [*await check_server(self._link), *await library_advice(self._link, self._base)]

    async def hello(self) -> None:
        """See the port."""
        if not self._ready:
            await self._prepare()
        answer = _read(wire.HELLO.decode, await self._reading("hello"))
        if not answer.initialised:
            raise StoreUninitialisedError("the pool is not initialised")

    async def acquire(self, request: AcquireRequest) -> LeaseRecord:
        """See the port."""
        words = ask_words(request)  # here and below without the steps between: they are what requests are made of
        return lease_of(_read(wire.LEASE.decode, await self._call("FCALL", "hotseat1_acquire", 1, self._base, *words)))

    async def poll(self, lease_id: LeaseId, *, waiter_ttl_s: float) -> LeaseRecord:
        """See the port."""
        return await self._lease("poll", lease_id, to_ms(waiter_ttl_s, "waiter_ttl"))

    async def renew(self, lease_id: LeaseId, nonce: Nonce, *, ttl_s: float, who: str) -> LeaseRecord:
        """See the port."""
        return await self._lease("renew", lease_id, nonce, to_ms(ttl_s, "ttl"), label(who))

    async def release(self, lease_id: LeaseId, nonce: Nonce, *, who: str) -> LeaseRecord:
        """See the port."""
        return await self._lease("release", lease_id, nonce, label(who))

    async def give_back(self, lease_id: LeaseId, nonce: Nonce, *, who: str) -> None:
        """See the port."""
        await self._call("FCALL", "hotseat1_release", 1, self._base, lease_id, nonce, label(who), "quiet")

    async def send_away(self, lease_id: LeaseId, nonce: Nonce, *, life: LifeId, back_s: float, kept_s: float) -> None:
        """See the port."""
        await self._function("send_away", lease_id, nonce, life, to_ms(back_s, "back"), to_ms(kept_s, "kept"))

    async def begin_life(self, life: LifeId) -> None:
        """See the port."""
        await self._function("begin_life", life)

    async def rejoin(self, life: LifeId) -> None:
        """See the port."""
        await self._function("rejoin", life)

    async def beat(self, life: LifeId) -> None:
        """See the port."""
        await self._function("beat", life)

    async def end_life(self, life: LifeId) -> None:
        """See the port."""
        await self._function("end_life", life)

    async def end(self, lease_id: LeaseId, *, who: str, why: str) -> LeaseRecord:
        """See the port."""
        return await self._lease("end", lease_id, label(who), why)

    async def find(self, session: Session, model: ModelName, intent: Intent, holder: str) -> LeaseId | None:
        """See the port."""
        field = f"{intent.value}|{text_hash(holder)}|{model}"
        found = await self._call("HGET", f"{self._base}:session:{session_hash(session)}", field)
        return None if found is None else LeaseId(text(found))

    async def lease(self, lease_id: LeaseId) -> LeaseRecord:
        """See the port."""
        return lease_of(_read(wire.LEASE.decode, await self._reading("lease", lease_id)))

    async def leases(
        self, *, model: ModelName | None, limit: int, who: Sequence[str] | None = None
    ) -> Sequence[LeaseRecord]:
        """See the port; at most 1,000."""
        whose = [] if who is None else [label(one) for one in who]
        found = _read(wire.LEASES.decode, await self._reading("leases", limit, model or "", *whose))
        records = [lease_of(one) for one in found]
        return records if who is None else in_shown_order(records)

    async def count_open(self, who: Sequence[str]) -> int:
        """See the port."""
        counts = [await self._call("ZCARD", f"{self._base}:mine:{label(one)}") for one in who]
        return sum(map(int, counts))

    async def snapshot(self) -> Snapshot:
        """See the port."""
        return _read(codec.read_snapshot, await self._reading("snapshot"))

    async def tick(self) -> float | None:
        """See the port."""
        reply = await self._function("tick")
        return int(reply) / 1000 if reply else None

    async def observe(self, slot: SlotId) -> None:
        """See the port."""
        await self._function("observe", slot)

    async def reported_slots(self) -> Sequence[SlotId]:
        """See the port: slots that are known, and slots whose worker rang lately."""
        known = {text(slot) for slot in await self._call("SMEMBERS", f"{self._base}:slots")}
        slots = sorted(known.union(map(text, await self._reading("rang"))))
        there = await asyncio.gather(*(self._call("EXISTS", f"{self._base}:report:{slot}") for slot in slots))
        return [SlotId(slot) for slot, exists in zip(slots, there, strict=True) if exists]

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
        """See the port."""
        await self._function("want", slot, generation, model, why, key, depth, *evict)

    async def unwant(self, *, slot: SlotId, generation: int, model: ModelName, why: str) -> None:
        """See the port."""
        await self._function("unwant", slot, generation, model, why)

    async def admit(self, *, slot: SlotId, model: ModelName, residency_generation: int, admit: int, why: str) -> None:
        """See the port."""
        await self._function("admit", slot, residency_generation, model, why, admit)

    async def preempt(self, lease_id: LeaseId, *, grace_s: float, why: str) -> None:
        """See the port."""
        await self._function("preempt", lease_id, to_ms(grace_s, "grace"), why)

    async def doubt(self, *, slot: SlotId, generation: int, model: ModelName, who: str, why: str) -> None:
        """See the port."""
        await self._function("doubt", slot, generation, model, label(who), why)

    async def set_model(self, model: ModelName, *, off: str, who: str) -> None:
        """See the port."""
        await self._function("model_state", model, off, label(who))

    async def set_slot(self, slot: SlotId, *, event: str, who: str) -> None:
        """See the port."""
        await self._function("slot_state", slot, event, label(who))

    async def check(self) -> Sequence[Violation]:
        """See the port."""
        return codec.violations_of(await self._reading("check"))

    async def ps(self) -> Sequence[str]:
        """See the port."""
        return [text(line) for line in await self._reading("ps")]

    # ------------------------------------------------------------------------------------------------------ streams
    async def _read(self, stream: str, after: str, *, block_s: float, limit: int) -> list[tuple[str, dict[str, str]]]:
        words: list[Word] = ["XREAD", "COUNT", limit]
        if block_s > 0:
            words += ["BLOCK", max(to_ms(block_s, "block"), 1)]
        words += ["STREAMS", f"{self._base}:{stream}", after]
        return list(codec.entries_of(codec.stream_of(await self._waiting(*words, block_s=block_s))))

    async def _waiting(self, *words: Word, block_s: float) -> Any:
        try:
            return await self._blocking.call(*words, block_s=block_s)
        except ReplyError as refusal:
            raise error_of(str(refusal)) from None

    async def events(self, after: str, *, block_s: float, limit: int) -> Sequence[Event]:
        """See the port."""
        found = await self._read("events", after, block_s=block_s, limit=limit)
        return [codec.event_of(entry_id, fields) for entry_id, fields in found]

    async def last_event_id(self) -> str:
        """See the port."""
        return await self._edge("XREVRANGE", "+", "-")

    async def first_event_id(self) -> str:
        """See the port."""
        return await self._edge("XRANGE", "-", "+")

    async def _edge(self, command: str, start: str, end: str) -> str:
        reply = await self._call(command, f"{self._base}:events", start, end, "COUNT", 1)
        return text(reply[0][0]) if reply else "0-0"

    async def bells(self, after: str, *, block_s: float) -> tuple[str, Sequence[SlotId]]:
        """See the port."""
        if not after:
            return await self._last_id("bell"), []
        found = await self._read("bell", after, block_s=block_s, limit=BELLS_READ)
        if not found and _number(await self._last_id("bell")) < _number(after):
            return BEGINNING, []  # begun anew
        slots = dict.fromkeys(SlotId(fields["slot"]) for _, fields in found if "slot" in fields)
        return (found[-1][0] if found else after), list(slots)

    async def _last_id(self, stream: str) -> str:
        """The highest id that a stream ever gave, without reading an entry."""
        try:
            reply = await self._call("XINFO", "STREAM", f"{self._base}:{stream}")
        except BackendError as error:
            if "no such key" in str(error):
                return BEGINNING
            raise
        facts = dict(zip(map(text, reply[::2]), reply[1::2], strict=True))
        return text(facts["last-generated-id"])

    async def renew_streams(self) -> Sequence[str]:
        """See the port."""
        renewed = []
        for stream in ("ingress", "bell"):
            exhausted = (await self._last_id(stream)).startswith(NO_IDS_LEFT)
            if exhausted and int(await self._function("renew_stream", stream)):
                renewed.append(stream)
        return renewed

    async def publish_ingress(self, fields: Mapping[str, str], *, limit: int) -> None:
        """See the port."""
        if await self._call("XLEN", f"{self._base}:ingress") >= limit:
            raise StoreFullError("too many messages wait on the ingress stream")
        words = [word for field in fields.items() for word in field]
        try:
            await self._call("XADD", f"{self._base}:ingress", "*", *words)
        except BackendError as error:
            if "exhausted" not in str(error):
                raise
            await self._function("renew_stream", "ingress")
            raise StoreFullError("the ingress stream had no ids left and begins anew; send it again") from None

    async def read_ingress(self, *, block_s: float, limit: int) -> Sequence[IngressEntry]:
        """See the port."""
        until_s = asyncio.get_running_loop().time() + block_s
        while not await self._call("XLEN", f"{self._base}:ingress"):
            rest_s = until_s - asyncio.get_running_loop().time()
            if rest_s <= 0:
                return []
            await asyncio.sleep(min(INGRESS_PAUSE_S, rest_s))
        reply = await self._reading("ingress", limit, MAX_READ, MAX_ENTRY)
        return [codec.ingress_entry_of(entry_id, words) for entry_id, words in reply]

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
        """See the port."""
        who = f"ingress:{label(entry.fields.get('publisher', ''))}"
        effect: list[Word] = ["none"]
        if acquire is not None:
            effect = ["acquire", *ask_words(acquire)]
        elif renew is not None:
            effect = ["renew", renew[0], renew[1] or "", to_ms(renew[2], "ttl"), who]
        elif release is not None:
            effect = ["release", release, who]
        number = "" if sequence is None else sequence
        reply = await self._function("ingest", entry.entry_id, session_hash(session), number, who, *effect)
        return lease_of(_read(wire.LEASE.decode, reply)) if reply else None

    async def reject_ingress(self, entry: IngressEntry, *, why: str) -> None:
        """See the port."""
        await self._function("reject", entry.entry_id, why)

    async def close(self) -> None:
        """See the port."""
        await self._blocking.close()
        await self._link.close()
