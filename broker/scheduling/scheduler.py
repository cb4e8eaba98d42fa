"""Looks at the pool when something happened, decides, commits; the same in every broker process, none is a leader.

Rule: what was decided on an old picture is refused by the store, and decided again on a new one. So any number of
schedulers run side by side, each may be paused or killed at any point, and a late one does no harm.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

from broker.accounting.metrics import Metrics
from broker.core.decisions import Decision, Load, Plan, PreemptLease, SetAdmission, Unload
from broker.core.errors import (
    BackendError,
    ConflictError,
    LibraryError,
    StoreUnavailableError,
    StoreUninitialisedError,
)
from broker.core.lease import ModelName, SlotId
from broker.core.snapshot import Snapshot
from broker.policy.activity import Activity
from broker.policy.decide import PolicySettings, decide
from broker.store.port import Event, PoolSettings, Store

log = logging.getLogger("hotseat.scheduler")

TICK_S = 0.25
"""Longest pause between two looks at the deadlines: an expiry is noticed this late at most."""
SHORTEST_S = 0.002
"""Shortest pause, also when a deadline is nearer."""
LOOK_S = 5.0
"""Longest time without a new picture."""
OBSERVE_S = 2.0
"""Every report is read again this often: a bell may have been missed."""
SHARE = 20
"""A look is followed by a rest of this many times its length, so that deciding takes 5 % of process and store."""
LONGEST_REST_S = 1.0
"""But the rest is no longer than this: then deciding takes more. Deadlines are watched meanwhile."""
AGAIN = 3
"""Times a refused plan is decided again at once; then at the next round."""
BELL_BLOCK_S = 1.0

RELEVANT = frozenset(
    {
        "absent",
        "ended",
        "ending",
        "forgiven",
        "initialised",
        "load_failed",
        "loading",
        "model",
        "offline",
        "queued",
        "ready",
        "recovered",
        "registered",
        "slot",
        "unloading",
        "unsound",
    }
)
"""Events after which another decision may be right. A grant takes no room that was not already counted as taken; but a
warm lease asks for some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The last picture and what was decided on it."""

    snapshot: Snapshot
    plan: Plan
    at_s: float
    """When it was looked at, seconds of the process's monotonic clock."""


class Scheduler:
    """One process's scheduler."""

    def __init__(
        self,
        store: Store,
        *,
        pool: PoolSettings,
        policy: PolicySettings,
        activity: Activity,
        metrics: Metrics,
        new_key: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._pool = pool
        self._policy = policy
        self._activity = activity
        self._metrics = metrics
        self._new_key = new_key
        self._clock = clock
        self._wake = asyncio.Event()
        self._dirty = True
        self._looked_s = self._observed_s = self._rest_until_s = float("-inf")
        self._again_s: float | None = None
        self._bell = ""
        self._choked: dict[SlotId, str] = {}
        self.last: Round | None = None
        self.listeners: list[Callable[[Decision], None]] = []
        """Told of every decision that this broker carried out."""

    # ------------------------------------------------------------------------------------------------- listening
    def note(self, event: Event) -> None:
        """Listen to the event stream: learn from it, and look again where it matters."""
        self._learn(event)
        if event.kind == "offline":
            log.warning("slot_offline", extra={name: event.fields.get(name, "") for name in ("slot", "why")})
        if event.kind in RELEVANT or _asks_for_warmth(event):
            self._dirty = True
            self._wake.set()

    def _learn(self, event: Event) -> None:
        session, model = event.fields.get("sh", ""), ModelName(event.fields.get("model", ""))
        if event.fields.get("intent") != "use" or not session:
            return
        if event.kind in {"queued", "granted"} and not event.fields.get("from"):
            self._activity.observe_arrival(session, model, event.at_s)
        elif event.kind == "ended" and event.fields.get("from") == "queued":
            self._activity.observe_leave(session, model, event.at_s)
        elif event.kind == "ended":
            self._activity.observe_end(session, model, event.at_s)

    # ----------------------------------------------------------------------------------------------------- loops
    async def step(self) -> None:
        """One round, then sleep until there may be something to do."""
        pause_s = min(await self.tick(), TICK_S)
        rest_s = self._rest_until_s - self._clock()
        if rest_s > 0:
            await asyncio.sleep(max(SHORTEST_S, min(pause_s, rest_s)))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(SHORTEST_S, pause_s)):
                await self._wake.wait()

    async def bells_step(self) -> None:
        """Take in the reports whose worker rang; waits for a bell."""
        self._bell, slots = await self._store.bells(self._bell, block_s=BELL_BLOCK_S)
        for slot in slots:
            await self._observe(slot)

    async def tick(self) -> float:
        """End what is due, take in reports now and then, decide where something changed.

        Returns:
            Seconds until the next deadline.
        """
        self._wake.clear()
        try:
            due_s = await self._store.tick()
            await self._observe_all()
            if self._should_look():
                await self._look()
        except StoreUninitialisedError:
            await self._revive()
            raise
        return TICK_S if due_s is None else due_s

    async def _observe_all(self) -> None:
        now_s = self._clock()
        if now_s - self._observed_s < OBSERVE_S:
            return
        self._observed_s = now_s
        for slot in await self._store.reported_slots():
            await self._observe(slot)

    async def _observe(self, slot: SlotId) -> None:
        """Take in one slot's report; one that the store chokes on stops nobody else's."""
        try:
            await self._store.observe(slot)
        except (StoreUnavailableError, StoreUninitialisedError, LibraryError):
            raise
        except BackendError as error:
            if self._choked.get(slot) != str(error):
                self._choked[slot] = str(error)
                log.error("report_not_taken_in", extra={"slot": slot, "error": str(error)})  # noqa: TRY400

    def _should_look(self) -> bool:
        now_s = self._clock()
        if now_s < self._rest_until_s:
            return False
        due = self._again_s is not None and now_s >= self._again_s
        return self._dirty or due or now_s - self._looked_s >= LOOK_S

    async def _revive(self) -> None:
        """The store was emptied under us: make the pool again where a worker is alive to say what the GPU holds.

        Without one nobody could fence what the old leases may still be doing, so an operator has to restart a broker.
        """
        slots = await self._store.reported_slots()
        if slots:
            log.critical("store_found_empty", extra={"action": "reinitialise", "reported_slots": " ".join(slots)})
            await self._store.init(self._pool)
            self._dirty = True

    # -------------------------------------------------------------------------------------------------- deciding
    async def _look(self) -> None:
        began_s = self._clock()
        self._dirty = False
        for _ in range(AGAIN):
            plan = await self._decide()
            if await self._commit(plan):
                break
        else:
            self._dirty = True
        now_s = self._clock()
        self._rest_until_s = now_s + min(LONGEST_REST_S, (now_s - began_s) * SHARE)

    async def _decide(self) -> Plan:
        started_s = perf_counter()
        snapshot = self._expecting(await self._store.snapshot())
        plan = decide(snapshot, self._policy)
        self._metrics.decide_seconds.observe(perf_counter() - started_s)
        now_s = self._clock()
        self._looked_s = now_s
        self._again_s = None if plan.decide_again_s is None else now_s + max(0.0, plan.decide_again_s - snapshot.now_s)
        self.last = Round(snapshot=snapshot, plan=plan, at_s=now_s)
        return plan

    def _expecting(self, snapshot: Snapshot) -> Snapshot:
        """Add what was learned from sessions; of models that none of them used the store's own counts must do."""
        for model in snapshot.models.values():
            self._activity.observe_warm(model.name, model.warm_leases)
        learned = self._activity.all_expected(snapshot.now_s)
        models = {
            name: replace(
                model,
                expected_arrivals=learned.get(name, model.expected_arrivals),
                spoken_for_s=self._activity.spoken_for_until_s(name, snapshot.now_s),
            )
            for name, model in snapshot.models.items()
        }
        return replace(snapshot, models=models)

    async def _commit(self, plan: Plan) -> bool:
        """Carry out a plan; False when the pool had moved on."""
        for decision in plan.decisions:
            try:
                await self._carry_out(decision)
            except ConflictError as error:
                self._metrics.stale.inc()
                log.debug("decision_refused", extra={"kind": type(decision).__name__, "detail": str(error)})
                return False
            self._metrics.decisions.labels(type(decision).__name__, decision.why.value).inc()
            for listener in self.listeners:
                listener(decision)
            log.info("decision_committed", extra=_words(decision))
        return True

    async def _carry_out(self, decision: Decision) -> None:
        store, why = self._store, decision.why.value
        match decision:
            case Load(slot=slot, generation=generation, model=model, depth=depth, evict=evict):
                await store.want(
                    slot=slot,
                    generation=generation,
                    model=model,
                    depth=depth,
                    evict=evict,
                    key=self._new_key(),
                    why=why,
                )
            case Unload(slot=slot, generation=generation, model=model):
                await store.unwant(slot=slot, generation=generation, model=model, why=why)
            case SetAdmission(slot=slot, model=model, residency_generation=generation, admit=admit):
                await store.admit(slot=slot, model=model, residency_generation=generation, admit=admit, why=why)
            case PreemptLease(lease_id=lease_id, grace_s=grace_s):
                await store.preempt(lease_id, grace_s=grace_s, why=why)


def _asks_for_warmth(event: Event) -> bool:
    """A new warm lease: its model may have to be fetched. A use that is granted takes what was there."""
    return event.kind == "granted" and event.fields.get("intent") == "warm"


def _words(decision: Decision) -> dict[str, str]:
    subject = decision.lease_id if isinstance(decision, PreemptLease) else f"{decision.slot}/{decision.model}"
    return {"kind": type(decision).__name__, "subject": subject, "why": decision.why.value}
