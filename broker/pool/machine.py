"""One pool as a synchronous state machine: each method is one atomic call of the store, time and server passed in.

The Redis function library (``store/redis/lua``) is the same machine in Lua; a property test walks both. Every method
first moves the logical clock and notices a change of server, then validates, then writes, then appends its events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from broker.core.errors import StoreUninitialisedError, UnknownModelError
from broker.core.lease import LeaseId, LifeId, ModelName, SlotId
from broker.core.slot import SlotState
from broker.pool.leases import broker_lives, comeback, lifecycle
from broker.pool.leases.acquire import acquire
from broker.pool.leases.availability import reject_if_unavailable
from broker.pool.leases.handout import hand_out
from broker.pool.leases.lifecycle import Cause, expire_due
from broker.pool.records.events import emit
from broker.pool.records.key_limits import keep_sequence
from broker.pool.records.lease_row import Ask, LeaseRow
from broker.pool.records.rows import Meta, ModelRow, PoolRules, SessionRow
from broker.pool.records.state import Due, PoolState, TicketQueue
from broker.pool.slots import orders, reports, states
from broker.pool.slots.orders import scheduled
from broker.pool.slots.residencies import At, forget
from schemas.residency import Residency

KEPT_TTLS = 2
"""The list of what is kept of a key lives so many times as long as what is in it, at least."""
RUN_PREFIX = 12
"""Characters of a ``run_id`` that an incarnation shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model of the catalogue: fields of its row, in the order of the arguments of ``hotseat1_init``."""

    name: ModelName
    memory_mib: int
    lease_limit: int
    is_default: bool = False
    release_ms: int = -1
    load_hint_ms: int = 0
    hold_hint_ms: int = 0
    keep: int = 0
    pinned: bool = False
    weight: int = 1000
    """How dear it is to evict, in thousandths."""


SPEC_FIELDS = tuple(field.name for field in fields(ModelSpec))


class Pool(PoolState):
    """The functions of docs/internals.md section 5."""

    def begin(self, wall_ms: int, run: str) -> None:
        """Prologue of every call that may write.

        Args:
            wall_ms: The server's wall clock.
            run: The server's ``run_id``.

        Raises:
            StoreUninitialisedError: Nothing here; never created on the request path.
        """
        meta = self.meta
        if meta is None:
            raise StoreUninitialisedError("the pool is not initialised")
        step = wall_ms - meta.clock_wall
        meta.clock_wall = wall_ms
        meta.clock_log += min(max(step, 0), self.settings.max_step_ms)
        self.now = meta.clock_log
        if step < 0 or step > self.settings.max_step_ms:
            emit(self, "clock_step", who="scheduler", why=f"{step} ms")
        if meta.run != run:
            states.recover(self, run=run, inc=incarnation(run, wall_ms))

    def init(self, wall_ms: int, run: str, settings: PoolRules, models: Sequence[ModelSpec]) -> None:
        """Create the pool, or update its settings and catalogue."""
        if self.meta is None:
            self.meta = Meta(
                inc=incarnation(run, wall_ms), run=run, clock_wall=wall_ms, clock_log=wall_ms, watched=wall_ms
            )
            self.settings, self.now = settings, wall_ms
            emit(self, "initialised", who="scheduler", why=self.meta.inc)
        else:
            self.begin(wall_ms, run)
            self.settings = settings
        for spec in models:
            self._catalogue(spec)
        wanted = {spec.name for spec in models}
        for name in [name for name in self.models if name not in wanted and not self._in_use(name)]:
            self._forget(name)

    def _catalogue(self, spec: ModelSpec) -> None:
        row = self.models.setdefault(spec.name, ModelRow(name=spec.name, memory_mib=0, lease_limit=0))
        for name in SPEC_FIELDS:
            setattr(row, name, getattr(spec, name))
        self.queues.setdefault(spec.name, TicketQueue())

    def _in_use(self, model: ModelName) -> bool:
        resident = any(self.residency(slot, model).state.occupies_host for slot in self.slots)
        return resident or self.models[model].queued > 0 or bool(self.warm.get(model))

    def _forget(self, model: ModelName) -> None:
        for slot in self.slots.values():
            if model in slot.models:
                forget(self, slot.slot, model)
        del self.models[model], self.queues[model]

    def acquire(self, ask: Ask) -> LeaseRow:
        """See ``leases.acquire``."""
        return acquire(self, ask)

    def poll(self, lease_id: LeaseId, *, waiter_ttl_ms: int) -> LeaseRow:
        """See ``leases.lifecycle.poll``."""
        return lifecycle.poll(self, lease_id, waiter_ttl_ms=waiter_ttl_ms)

    def renew(self, lease_id: LeaseId, nonce: str | None, *, ttl_ms: int, who: str) -> LeaseRow:
        """See ``leases.lifecycle.renew``."""
        return lifecycle.renew(self, lease_id, nonce, ttl_ms=ttl_ms, who=who)

    def release(self, lease_id: LeaseId, nonce: str | None, *, who: str) -> LeaseRow:
        """See ``leases.lifecycle.release``."""
        return lifecycle.release(self, lease_id, nonce, who=who)

    def send_away(self, lease_id: LeaseId, nonce: str, *, life: LifeId, back_ms: int, kept_ms: int) -> LeaseRow:
        """See ``leases.comeback.send_away``."""
        return comeback.send_away(self, lease_id, nonce, life=life, back_ms=back_ms, kept_ms=kept_ms)

    def begin_life(self, life: LifeId) -> None:
        """See ``leases.broker_lives.begin``."""
        broker_lives.begin(self, life)

    def rejoin(self, life: LifeId) -> None:
        """See ``leases.broker_lives.rejoin``."""
        broker_lives.rejoin(self, life)

    def beat(self, life: LifeId) -> None:
        """See ``leases.broker_lives.beat``."""
        broker_lives.beat(self, life)

    def end_life(self, life: LifeId) -> None:
        """See ``leases.broker_lives.finish``."""
        broker_lives.finish(self, life)

    def end(self, lease_id: LeaseId, *, who: str, why: str) -> LeaseRow:
        """See ``leases.lifecycle.end``."""
        return lifecycle.end(self, lease_id, Cause(who, why))

    def preempt(self, lease_id: LeaseId, *, grace_ms: int, why: str) -> LeaseRow:
        """See ``leases.lifecycle.preempt``."""
        return lifecycle.preempt(self, lease_id, grace_ms=grace_ms, why=why)

    def tick(self) -> int | None:
        """End what is due, notice silent brokers and workers, reject what nobody can serve, hand out.

        Returns:
            Milliseconds until the next deadline; ``None`` when there is none.
        """
        expire_due(self)
        broker_lives.watch(self)
        states.silence(self)
        for model in sorted(self.models):
            if self.models[model].queued > 0:
                reject_if_unavailable(self, model)
                hand_out(self, model)
        return self._next_deadline()

    def _next_deadline(self) -> int | None:
        first = self.due.first()
        moments = [first[0]] if first else []
        moments += [
            slot.seen + self.settings.silence_ms for slot in self.slots.values() if slot.state is not SlotState.OFFLINE
        ]
        return max(min(moments) - self.now, 0) if moments else None

    def observe(self, slot: SlotId, report: Mapping[str, str]) -> None:
        """See ``slots.reports.take_in``."""
        reports.take_in(self, slot, report)

    def want(
        self,
        slot: SlotId,
        model: ModelName,
        *,
        depth: Residency,
        generation: int,
        evict: Sequence[ModelName],
        key: str,
        why: str,
    ) -> None:
        """See ``slots.orders.want``."""
        orders.want(self, scheduled(slot, model, why), generation=generation, depth=depth, evict=evict, key=key)

    def unwant(self, slot: SlotId, model: ModelName, *, generation: int, why: str) -> None:
        """See ``slots.orders.unwant``."""
        orders.unwant(self, scheduled(slot, model, why), generation=generation)

    def admit(self, slot: SlotId, model: ModelName, *, residency_generation: int, number: int, why: str) -> None:
        """See ``slots.orders.admit``."""
        at = scheduled(slot, model, why)
        orders.admit(self, at, residency_generation=residency_generation, number=number)

    def doubt(self, slot: SlotId, model: ModelName, *, residency_generation: int, who: str, why: str) -> None:
        """See ``slots.orders.doubt``."""
        at = At(slot, model, Cause(who, why))
        orders.doubt(self, at, residency_generation=residency_generation)

    def set_model(self, model: ModelName, *, off: str, who: str) -> None:
        """Operator: take a model out of service, with the reason, or (without one) put it back.

        Raises:
            UnknownModelError: Unknown model.
        """
        row = self.models.get(model)
        if row is None:
            raise UnknownModelError(f"no model {model}")
        was, row.off = row.off, off
        words = {True: "off", False: "on"}
        emit(self, "model", model=model, who=who, why=off, from_=words[bool(was)], to=words[bool(off)])
        reject_if_unavailable(self, model)

    def set_slot(self, slot: SlotId, *, event: str, who: str) -> None:
        """See ``slots.states.set_slot``."""
        states.set_slot(self, slot, event=event, who=who)

    def is_old(self, sh: str, sequence: int | None) -> bool:
        """Was this session's ingress message, or a later one, carried out before?"""
        session = self.sessions.get(sh)
        return sequence is not None and session is not None and session.seq is not None and sequence <= session.seq

    def note_sequence(self, sh: str, sequence: int | None, *, who: str) -> None:
        """Remember the last ingress message of a session."""
        if sequence is not None:
            self.sessions.setdefault(sh, SessionRow()).seq = sequence
            keep_sequence(self, who, sh)

    def reject_ingress(self, why: str) -> None:
        """Say that a malformed ingress entry was set aside."""
        emit(self, "ingress_rejected", who="ingress", why=why)

    def forget_ended(self) -> None:
        """Drop ended leases after ``ended_ttl``, those of an operation after ``op_ttl`` (Redis: key TTLs)."""
        rules = self.settings
        kept: dict[LeaseId, LeaseRow] = {}
        for lease in self.leases.values():
            ttl = rules.op_ttl_ms if lease.op else rules.ended_ttl_ms
            if lease.ended == 0 or self.now < lease.ended + ttl:
                kept[lease.id] = lease
        self.leases = kept
        found = {name: {one: at for one, at in places.items() if one in kept} for name, places in self.left.items()}
        self.left = {name: places for name, places in found.items() if places}
        self.ops = {op: row for op, row in self.ops.items() if self.now < row.made + rules.op_ttl_ms}
        self.kept = {who: kept for who, kept in self.kept.items() if self._is_known(kept)}

    def _is_known(self, kept: Due[str]) -> bool:
        return any(self.now < at + KEPT_TTLS * self.settings.op_ttl_ms for at in kept.items().values())


def incarnation(run: str, wall_ms: int) -> str:
    """Name of the life of a store that began now: never the same twice, though ``run_id`` can come back."""
    return f"{run[:RUN_PREFIX]}-{wall_ms}"


__all__ = ["ModelSpec", "Pool", "incarnation"]
