"""The store in this process's memory: the pool machine behind the port. For tests and the simulator.

Nothing survives the process. Time and the server's identity are injected: ``clock`` is a wall clock in seconds,
``restart`` is what a restart or failover of a Redis server looks like.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from broker.core.errors import LeaseNotFoundError, StoreFullError, StoreUninitialisedError
from broker.core.lease import AcquireRequest, Intent, LeaseId, LeaseRecord, LifeId, ModelName, Nonce, Session, SlotId
from broker.core.snapshot import Snapshot
from broker.pool import check as pool_check
from broker.pool import ps as pool_ps
from broker.pool import views
from broker.pool.machine import Pool
from broker.pool.records import key_limits
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.rows import EventRow
from broker.store.labels import ask_of, label, session_hash, settings_of, specs_of, text_hash, to_ms
from broker.store.memory.days import MemoryDays
from broker.store.memory.mail import IngressInbox, Log, orders_of
from broker.store.memory.privacy_marks import MemorySessionMarks, StoreLife
from broker.store.memory.spending import MemorySpendingAccounts
from broker.store.port import EVENTS_KEPT, Event, IngressEntry, PoolSettings, Violation
from schemas.messages import Orders, Report, report_to_hash
from schemas.residency import Residency

BELLS_KEPT = 1_000
SWEEP_MS = 60_000
"""Ended leases are looked for this often."""


class MemoryStore:
    """One pool in memory."""

    def __init__(self, *, clock: Callable[[], float], run: str = "memory") -> None:
        self.pool = Pool()
        self._clock = clock
        self._run = run
        self._swept_ms = 0
        self._reports: dict[SlotId, Mapping[str, str]] = {}
        self._events: Log[EventRow] = Log(EVENTS_KEPT)
        self._bells: Log[SlotId] = Log(BELLS_KEPT)
        self._rings: Log[SlotId] = Log(BELLS_KEPT)
        self._ingress = IngressInbox()
        self.days = MemoryDays(self._living_ms)
        self.privacy_marks = MemorySessionMarks(self._logical_ms, self._life, self._begin)
        self.spending = MemorySpendingAccounts(self._logical_ms)

    # ------------------------------------------------------------------------------------------- outside the port
    def restart(self, run: str) -> None:
        """Become another server with the same data."""
        self._run = run

    def flush(self) -> None:
        """Lose everything, as ``FLUSHALL`` does."""
        self.pool = Pool()
        self._reports.clear()
        self.days.flush()
        self.privacy_marks.flush()
        self.spending.flush()

    def put_report(self, slot: SlotId, report: Report) -> None:
        """What the worker does: replace its report and ring the bell."""
        self.put_fields(slot, report_to_hash(report))

    def put_fields(self, slot: SlotId, fields: Mapping[str, str]) -> None:
        """The same with whatever somebody writes there."""
        self._reports[slot] = fields
        self._bells.append(slot)

    def read_orders(self, slot: SlotId) -> Orders:
        """What the worker reads."""
        return orders_of(self.pool.orders.get(slot))

    async def rings(self, after: str, *, block_s: float) -> tuple[str, Sequence[SlotId]]:
        """Slots whose orders changed since ``after`` (``P:ring:<s>`` of all slots in one)."""
        found = await self._rings.read(after, block_s=block_s, limit=BELLS_KEPT)
        return (found[-1][0] if found else after), [slot for _, slot in found]

    def append_ingress(self, fields: dict[str, str]) -> str:
        """What a hook does with ``XADD P:ingress``."""
        return self._ingress.add(fields)

    @property
    def rejected_ingress(self) -> Sequence[IngressEntry]:
        """``P:ingress:rejected``."""
        return self._ingress.rejected

    # ------------------------------------------------------------------------------------------------ the machine
    @contextmanager
    def _writing(self) -> Iterator[Pool]:
        pool = self.pool
        try:
            pool.begin(self._wall_ms(), self._run)
            yield pool
        finally:
            self._publish()

    def _publish(self) -> None:
        self._events.take(self.pool.events)
        self._rings.take(self.pool.rings)

    def _reading(self) -> Pool:
        pool = self.pool
        if pool.meta is None:
            raise StoreUninitialisedError("the pool is not initialised")
        step = self._wall_ms() - pool.meta.clock_wall
        pool.now = pool.meta.clock_log + min(max(step, 0), pool.settings.max_step_ms)
        return pool

    def _living_ms(self) -> int:
        self._reading()
        return self._wall_ms()

    def _logical_ms(self) -> int:
        return self._reading().now

    def _begin(self) -> None:
        with self._writing():
            pass

    def _life(self) -> StoreLife:
        meta = self._reading().known
        changed = meta.run != self._run
        return StoreLife(incarnation=meta.inc, number=meta.inc_no, changed=changed, wall_ms=self._wall_ms())

    def _wall_ms(self) -> int:
        return int(self._clock() * 1000)

    def _record(self, lease: LeaseRow) -> LeaseRecord:
        return views.record(self.pool, lease)

    # ---------------------------------------------------------------------------------------------------- the port
    async def init(self, settings: PoolSettings) -> None:
        """See the port."""
        self.pool.init(self._wall_ms(), self._run, settings_of(settings), specs_of(settings))
        self._publish()

    async def advice(self) -> Sequence[str]:
        """See the port: it forgets with its process, and who chose it knows that."""
        return ()

    async def hello(self) -> None:
        """See the port."""
        self._reading()

    async def acquire(self, request: AcquireRequest) -> LeaseRecord:
        """See the port."""
        ask = ask_of(request)
        with self._writing() as pool:
            return self._record(pool.acquire(ask))

    async def poll(self, lease_id: LeaseId, *, waiter_ttl_s: float) -> LeaseRecord:
        """See the port."""
        waiter_ttl_ms = to_ms(waiter_ttl_s, "waiter_ttl")
        with self._writing() as pool:
            return self._record(pool.poll(lease_id, waiter_ttl_ms=waiter_ttl_ms))

    async def renew(self, lease_id: LeaseId, nonce: Nonce, *, ttl_s: float, who: str) -> LeaseRecord:
        """See the port."""
        ttl_ms = to_ms(ttl_s, "ttl")
        with self._writing() as pool:
            return self._record(pool.renew(lease_id, nonce, ttl_ms=ttl_ms, who=label(who)))

    async def release(self, lease_id: LeaseId, nonce: Nonce, *, who: str) -> LeaseRecord:
        """See the port."""
        with self._writing() as pool:
            return self._record(pool.release(lease_id, nonce, who=label(who)))

    async def give_back(self, lease_id: LeaseId, nonce: Nonce, *, who: str) -> None:
        """See the port."""
        await self.release(lease_id, nonce, who=who)

    async def send_away(self, lease_id: LeaseId, nonce: Nonce, *, life: LifeId, back_s: float, kept_s: float) -> None:
        """See the port."""
        back_ms, kept_ms = to_ms(back_s, "back"), to_ms(kept_s, "kept")
        with self._writing() as pool:
            pool.send_away(lease_id, nonce, life=life, back_ms=back_ms, kept_ms=kept_ms)

    async def begin_life(self, life: LifeId) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.begin_life(life)

    async def rejoin(self, life: LifeId) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.rejoin(life)

    async def beat(self, life: LifeId) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.beat(life)

    async def end_life(self, life: LifeId) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.end_life(life)

    async def end(self, lease_id: LeaseId, *, who: str, why: str) -> LeaseRecord:
        """See the port."""
        with self._writing() as pool:
            return self._record(pool.end(lease_id, who=label(who), why=why))

    async def find(self, session: Session, model: ModelName, intent: Intent, holder: str) -> LeaseId | None:
        """See the port."""
        row = self._reading().sessions.get(session_hash(session))
        return row.live.get(f"{intent.value}|{text_hash(holder)}|{model}") if row else None

    async def lease(self, lease_id: LeaseId) -> LeaseRecord:
        """See the port."""
        row = self._reading().leases.get(lease_id)
        if row is None:
            raise LeaseNotFoundError(f"no lease {lease_id}")
        return self._record(row)

    async def leases(
        self, *, model: ModelName | None, limit: int, who: Sequence[str] | None = None
    ) -> Sequence[LeaseRecord]:
        """See the port."""
        if who is not None:
            whose = [label(one) for one in who]
            return views.in_shown_order(views.leases_of(self._reading(), whose, model=model, limit=limit))
        return views.live_leases(self._reading(), model=model, limit=limit)

    async def count_open(self, who: Sequence[str]) -> int:
        """See the port."""
        return sum(key_limits.count(self._reading(), label(one)) for one in who)

    async def snapshot(self) -> Snapshot:
        """See the port."""
        return views.snapshot(self._reading())

    async def tick(self) -> float | None:
        """See the port."""
        with self._writing() as pool:
            if pool.now >= self._swept_ms + SWEEP_MS:
                self._swept_ms = pool.now
                pool.forget_ended()
            next_ms = pool.tick()
        return None if next_ms is None else next_ms / 1000

    async def observe(self, slot: SlotId) -> None:
        """See the port."""
        report = self._reports.get(slot)
        with self._writing() as pool:
            if report is not None:
                pool.observe(slot, report)

    async def reported_slots(self) -> Sequence[SlotId]:
        """See the port."""
        return sorted(self._reports)

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
        with self._writing() as pool:
            pool.want(slot, model, depth=depth, generation=generation, evict=evict, key=key, why=why)

    async def unwant(self, *, slot: SlotId, generation: int, model: ModelName, why: str) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.unwant(slot, model, generation=generation, why=why)

    async def admit(self, *, slot: SlotId, model: ModelName, residency_generation: int, admit: int, why: str) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.admit(slot, model, residency_generation=residency_generation, number=admit, why=why)

    async def preempt(self, lease_id: LeaseId, *, grace_s: float, why: str) -> None:
        """See the port."""
        grace_ms = to_ms(grace_s, "grace")
        with self._writing() as pool:
            pool.preempt(lease_id, grace_ms=grace_ms, why=why)

    async def doubt(self, *, slot: SlotId, generation: int, model: ModelName, who: str, why: str) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.doubt(slot, model, residency_generation=generation, who=label(who), why=why)

    async def set_model(self, model: ModelName, *, off: str, who: str) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.set_model(model, off=off, who=label(who))

    async def set_slot(self, slot: SlotId, *, event: str, who: str) -> None:
        """See the port."""
        with self._writing() as pool:
            pool.set_slot(slot, event=event, who=label(who))

    async def check(self) -> Sequence[Violation]:
        """See the port."""
        found = pool_check.check(self._reading())
        return [Violation(invariant=one.invariant, subject=one.subject, detail=one.detail) for one in found]

    async def ps(self) -> Sequence[str]:
        """See the port."""
        return pool_ps.table(self._reading())

    async def events(self, after: str, *, block_s: float, limit: int) -> Sequence[Event]:
        """See the port."""
        found = await self._events.read(after, block_s=block_s, limit=limit)
        return [
            Event(event_id=entry_id, sequence=row.seq, kind=row.kind, at_s=row.at_ms / 1000, fields=row.fields)
            for entry_id, row in found
        ]

    async def last_event_id(self) -> str:
        """See the port."""
        return self._events.last_id

    async def first_event_id(self) -> str:
        """See the port."""
        return self._events.first_id

    async def bells(self, after: str, *, block_s: float) -> tuple[str, Sequence[SlotId]]:
        """See the port."""
        if not after:
            return self._bells.last_id, []
        found = await self._bells.read(after, block_s=block_s, limit=BELLS_KEPT)
        return (found[-1][0] if found else after), list(dict.fromkeys(slot for _, slot in found))

    async def publish_ingress(self, fields: Mapping[str, str], *, limit: int) -> None:
        """See the port."""
        if len(self._ingress) >= limit:
            raise StoreFullError("too many messages wait on the ingress stream")
        self._ingress.add(dict(fields))

    async def read_ingress(self, *, block_s: float, limit: int) -> Sequence[IngressEntry]:
        """See the port."""
        return await self._ingress.read(block_s=block_s, limit=limit)

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
        with self._writing() as pool:
            sh, lease = session_hash(session), None
            if not self._ingress.has(entry) or pool.is_old(sh, sequence):
                self._ingress.done(entry)
                return None
            who = f"ingress:{label(entry.fields.get('publisher', ''))}"
            if acquire is not None:
                lease = pool.acquire(ask_of(acquire))
            elif renew is not None:
                lease = pool.renew(renew[0], renew[1], ttl_ms=to_ms(renew[2], "ttl"), who=who)
            elif release is not None:
                lease = pool.release(release, None, who=who)
            pool.note_sequence(sh, sequence, who=who)
            self._ingress.done(entry)
            return self._record(lease) if lease else None

    async def renew_streams(self) -> Sequence[str]:
        """See the port: ids are made here, nobody can use them up."""
        return ()

    async def reject_ingress(self, entry: IngressEntry, *, why: str) -> None:
        """See the port."""
        with self._writing() as pool:
            if self._ingress.has(entry):
                self._ingress.reject(entry, why)
                pool.reject_ingress(why)

    async def close(self) -> None:
        """See the port."""
