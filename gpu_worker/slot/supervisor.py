"""One slot's loop: read the orders, compare, take one step, report; level-triggered.

Rule: nothing is acted upon that is not registered, not above the durable mark and not still wanted. The store may be
away for as long as it likes: servers run on and the loop keeps trying. A missed ring heals at the next periodic read.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from gpu_worker.drivers.dispatcher import Dispatcher
from gpu_worker.drivers.failing import Around, Endings, Failing
from gpu_worker.drivers.inspector import Inspector
from gpu_worker.drivers.port import Launch, Recipe, Server, StuckError
from gpu_worker.host.memory import MemoryView, SlotMemory
from gpu_worker.slot import clock
from gpu_worker.slot.high_water import HighWater
from gpu_worker.slot.reconcile import Load, Reject, Resident, Step, Unload, Wanted, reconcile
from gpu_worker.slot.registration import Claim, Heading, OrdersVerdict, WorkerStanding, judge_orders
from gpu_worker.slot.residency import SlotResidency
from gpu_worker.slot.ring import listen
from gpu_worker.slot.settings import Backoff, Ending, SlotSettings, essence, is_usable_key
from gpu_worker.slot.unanswered import Unanswered
from gpu_worker.store_port import StoreError, StorePort
from schemas.messages import Inspection, Orders, Report, Want
from schemas.residency import Residency

log = logging.getLogger(__name__)


class Supervisor:
    """Keeps one slot at what its orders want."""

    def __init__(
        self,
        settings: SlotSettings,
        recipes: Sequence[Recipe],
        drivers: Dispatcher,
        store: StorePort,
        high_water: HighWater,
        memory: SlotMemory,
        inspector: Inspector,
    ) -> None:
        self._settings = settings
        self._recipes: Mapping[str, Recipe] = {recipe.model: recipe for recipe in recipes}
        self._drivers = drivers
        self._store = store
        self._high_water = high_water
        self._memory = memory
        self._inspector = inspector
        self._endings = Endings()
        self._stamps: dict[str, str] = {}
        self.neighbours: Callable[[], frozenset[str]] = self.ready_models
        """Tells which models are ready on the device: those of this slot, until ``app`` has it count the others too."""
        self._standing = WorkerStanding(boot=settings.boot)
        self._wants: tuple[Want, ...] | None = None
        self._residencies: dict[str, SlotResidency] = {}
        self._view = MemoryView(budget_mib=0)
        self._start_fault = ""
        self._disk_fault = ""
        self._wake = asyncio.Event()
        self._ring_heard = True
        self._orders_read_s = 0.0
        self._orders_due_s = 0.0
        self._beat = 0
        self._beat_due_s = 0.0
        self._reported: Report | None = None
        self._backoff = Backoff(limit_s=settings.orders_interval_s)
        self._claim = Claim(patience_s=settings.claim_wait_s)
        self._unanswered = Unanswered(store=settings.store)
        self.holder = ""
        """Name of the worker that has the slot, where that is not us."""
        self.ending: Ending | None = None

    @property
    def slot(self) -> str:
        """Name of the slot that it keeps."""
        return self._settings.slot

    def own_pids(self) -> set[int]:
        """All living processes of this slot's servers."""
        return set().union(*(residency.pids() for residency in self._residencies.values()))

    def ready_models(self) -> frozenset[str]:
        """Models that are ready here."""
        return frozenset(model for model, one in self._residencies.items() if one.depth is Residency.READY)

    @property
    def is_loading(self) -> bool:
        """Whether a load runs here; may be asked in another thread."""
        return any(one.depth is Residency.LOADING for one in tuple(self._residencies.values()))

    # ------------------------------------------------------------------------------------------------- life

    async def open(self) -> None:
        """Adopt what a former worker left, before the first report: what it confirms keeps its leases."""
        slot = self._settings.slot
        self._inspector.listeners.append(self._wake.set)
        if self._high_water.broken:
            log.error("high_water_unreadable", extra={"slot": slot})
        servers: list[Server] = []
        try:
            servers = await self._drivers.adopt(slot, self._recipes.values())
        except StuckError as error:  # somebody has to look at this host: nothing may be loaded beside it
            self._start_fault = f"memory_stuck: {error}"
            log.exception("strays_not_killed", extra={"slot": slot})
        ready = await asyncio.gather(*(self._adopt(server) for server in servers))
        for residency in ready:
            if residency is not None:
                self._residencies[residency.model] = residency
                self._high_water.at_least(residency.generation)
        self._standing = WorkerStanding(boot=self._settings.boot, high_water=self._high_water.generation)

    async def _adopt(self, server: Server) -> SlotResidency | None:
        launch = server.launch
        label = {"slot": launch.slot, "model": launch.recipe.model, "generation": launch.generation}
        residency = self._residency(launch.recipe.model, launch.generation, server)
        if await residency.adopt():
            log.info("server_adopted", extra=label | {"address": str(server.address)})
            return residency
        log.warning("adoption_refused", extra=label | {"reason": residency.error})
        await server.stop(0.0)
        return None

    async def run(self) -> Ending:
        """Until `stop` is called or another worker was registered for the slot."""
        ring = asyncio.create_task(listen(self._store, self._settings, self._on_ring))
        try:
            while self.ending is None:
                await self.tick(clock.now_s())
                await self._sleep()
        finally:
            ring.cancel()
            await asyncio.gather(ring, return_exceptions=True)
        log.info("supervisor_ended", extra={"slot": self._settings.slot, "reason": self.ending.value})
        return self.ending

    def stop(self) -> None:
        """End the loop after the tick that runs."""
        self.ending = self.ending or Ending.STOPPED
        self._wake.set()

    def let_go(self) -> None:
        """Stop watching; servers run on for the next worker."""
        for residency in self._residencies.values():
            residency.let_go()

    async def stop_servers(self) -> None:
        """Unload everything, each with its grace."""
        for residency in self._residencies.values():
            if residency.depth is not Residency.UNLOADING:
                residency.unload()
        await asyncio.gather(*(residency.settled() for residency in self._residencies.values()))
        self._residencies.clear()

    # ------------------------------------------------------------------------------------------------- tick

    async def tick(self, now_s: float) -> None:
        """Look at everything once, take at most one step, report if anything changed or the beat is due."""
        if now_s >= self._backoff.retry_at_s and (self._ring_heard or now_s >= self._orders_due_s):
            await self._read_orders(now_s)
        self._view = await self._memory.look()
        self._look_at_residencies()
        self._prove_the_doubted()
        if self.ending is None and (step := self._next_step()) is not None:
            self._carry_out(step)
            self._wake.set()
        if clock.now_s() >= self._backoff.retry_at_s and self._claim.may_report(now_s):
            await self._report(now_s)
        if not self.is_loading:  # a load wants the processor
            await self._drivers.prepare()

    async def _sleep(self) -> None:
        report_due_s = self._claim.report_due_s(self._beat_due_s)
        due_s = max(self._backoff.retry_at_s, min(report_due_s, self._orders_due_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due_s - clock.now_s())):
                await self._wake.wait()
        self._wake.clear()

    def _on_ring(self) -> None:
        self._ring_heard = True
        self._wake.set()

    # ----------------------------------------------------------------------------------------------- orders

    async def _read_orders(self, now_s: float) -> None:
        self._ring_heard = False
        self._orders_due_s = now_s + self._settings.orders_interval_s
        try:
            orders = await self._store.read_orders(self._settings.slot)
        except StoreError as error:
            self._store_away(error)
            return
        self._orders_read_s = clock.now_s()
        heading = Heading(
            incarnation=orders.incarnation,
            epoch=orders.epoch,
            boot=orders.boot,
            generation=orders.generation,
            refused=orders.refused,
        )
        verdict, standing = judge_orders(self._standing, heading)
        self._note_answer(verdict, orders.incarnation)
        self._act_on(verdict, standing, orders)

    def _note_answer(self, verdict: OrdersVerdict, incarnation: str) -> None:
        slot = self._settings.slot
        if verdict is not OrdersVerdict.WAIT:
            if self._unanswered.answered():
                log.info("somebody_answers", extra={"slot": slot})
        elif told := self._unanswered.waits(clock.now_s(), incarnation):
            log.warning("nobody_answers", extra={"slot": slot, "detail": told})

    def _act_on(self, verdict: OrdersVerdict, standing: WorkerStanding, orders: Orders) -> None:
        label = {"slot": self._settings.slot, "generation": orders.generation, "epoch": orders.epoch}
        match verdict:
            case OrdersVerdict.OBEY:
                if not self._raise_high_water(standing.high_water):
                    return
                self._claim.accepted()
                if standing.epoch != self._standing.epoch:
                    log.info("slot_registered", extra=label)
                self._standing, self._wants = standing, orders.wants
            case OrdersVerdict.WAIT:
                if standing.incarnation != self._standing.incarnation:
                    log.info("incarnation_changed", extra=label)
                self._standing, self._wants = standing, None
            case OrdersVerdict.STALE:
                log.warning("orders_stale", extra=label | {"high_water": self._standing.high_water})
            case OrdersVerdict.SUPERSEDED:
                log.error("worker_superseded", extra=label)
                self._wants, self.ending = None, Ending.SUPERSEDED
            case OrdersVerdict.TAKEN:
                self._refused(orders.holder)

    def _refused(self, holder: str) -> None:
        """Another host has the slot: say whose it is, once, and in the end leave it that one."""
        if not self._claim.standing:
            wait_s = self._settings.claim_wait_s
            log.error("slot_taken", extra={"slot": self._settings.slot, "holder": holder, "asking_for_s": wait_s})
        self.holder, self._wants, self._reported = holder, None, None
        if self._claim.refused(clock.now_s()):
            self.ending = Ending.TAKEN

    def _raise_high_water(self, generation: int) -> bool:
        try:
            self._high_water.raise_to(generation)
        except OSError as error:
            self._disk_fault = f"state_dir: {error.strerror}"
            log.exception("high_water_not_written", extra={"slot": self._settings.slot})
            return False
        self._disk_fault = ""
        return True

    # ------------------------------------------------------------------------------------------------ steps

    def _next_step(self) -> Step | None:
        if self._wants is None:
            return None
        return reconcile(
            (Wanted(model=want.model, generation=want.generation, depth=want.depth) for want in self._wants),
            (residency.resident for residency in self._residencies.values()),
            footprints_mib={name: recipe.memory_mib for name, recipe in self._recipes.items()},
            budget_mib=self._view.budget_mib,
        )

    def _carry_out(self, step: Step) -> None:
        label = {"slot": self._settings.slot, "model": step.model, "generation": step.generation}
        log.info("step_taken", extra=label | {"step": type(step).__name__.lower()})
        match step:
            case Unload():
                self._residencies[step.model].unload()
            case Reject():
                self._residencies[step.model] = residency = self._residency(step.model, step.generation, None)
                known = step.model in self._recipes
                residency.reject(step.reason, Failing.HOST if known else Failing.PERMANENT)
            case Load():
                self._load(step)

    def _load(self, step: Load) -> None:
        key = next(want.key for want in self._wants or () if want.model == step.model)
        if not is_usable_key(key):
            self._carry_out(
                Reject(model=step.model, generation=step.generation, reason="bad_key: the orders have none")
            )
            return
        recipe = self._recipes[step.model]
        launch = Launch(slot=self._settings.slot, recipe=recipe, generation=step.generation, key=key)
        self._stamps[step.model] = self._inspector.of(step.model).stamp  # what is mended from here on has changed
        residency = self._residency(step.model, step.generation, self._drivers.server(launch))
        self._residencies[step.model] = residency
        residency.load(self._orders_read_s)

    def _residency(self, model: str, generation: int, server: Server | None) -> SlotResidency:
        resident = Resident(model=model, generation=generation, depth=Residency.LOADING)
        around = partial(self._around, model)
        residency = SlotResidency(self._drivers, server, resident, self._settings.care, self._memory, around)
        residency.on_change = self._wake.set
        residency.on_ready = partial(self._endings.forget, model)
        return residency

    def _around(self, model: str, how: str) -> Around:
        """What else there was when a model failed in that way."""
        neighbours = tuple(sorted(self.neighbours() - {model}))
        stamp = self._stamps.get(model, "")
        return self._endings.note(model, how, stamp, neighbours, self._view.foreign_mib)

    def _prove_the_doubted(self) -> None:
        for want in self._wants or ():
            residency = self._residencies.get(want.model)
            if residency is not None and residency.generation == want.generation:
                residency.prove(want.prove)

    def _look_at_residencies(self) -> None:
        for residency in self._residencies.values():
            residency.measure(self._view)
        for model in [model for model, residency in self._residencies.items() if residency.gone]:
            del self._residencies[model]

    # ----------------------------------------------------------------------------------------------- report

    async def _report(self, now_s: float) -> None:
        report = self._made_report()
        changed = self._reported is None or essence(report) != essence(self._reported)
        if not changed and now_s < self._beat_due_s:
            return
        self._beat_due_s = now_s + self._settings.beat_s
        write = self._store.write_changed_report if changed else self._store.write_report
        try:
            await write(self._settings.slot, report)
        except StoreError as error:
            self._store_away(error)
            return
        if self._backoff.succeeded():
            log.info("store_back", extra={"slot": self._settings.slot})
        self._reported = report
        self._claim.reported(clock.now_s())

    def _made_report(self) -> Report:
        self._beat += 1
        faults = [
            self._start_fault,
            self._view.fault,
            self._disk_fault,
            *(one.fault for one in self._residencies.values()),
        ]
        return Report(
            worker=self._settings.worker,
            boot=self._settings.boot,
            home=self._settings.home,
            incarnation=self._standing.incarnation,
            epoch=self._standing.epoch,
            high_water=self._high_water.generation,
            beat=self._beat,
            budget_mib=self._view.budget_mib,
            total_mib=self._view.total_mib,
            free_mib=self._view.free_mib,
            foreign_mib=self._view.foreign_mib,
            foreign=self._view.foreign,
            used_percent=self._view.used_percent,
            foreign_percent=self._view.foreign_percent,
            serves=tuple(sorted(self._recipes)),
            fault="; ".join(fault for fault in faults if fault),
            residencies=tuple(one.report() for _, one in sorted(self._residencies.items())),
            inspections=tuple(self._inspections()),
        )

    def _inspections(self) -> list[Inspection]:
        """How long loads should take; and what cannot be started or has failed.

        The stamp of what has failed is the one of its load while that is reported.
        """
        priors = {model: prior_ms for model in self._recipes if (prior_ms := self._inspector.prior_ms(model))}
        unwell = (self._inspector.troubled.keys() & self._recipes.keys()) | self._endings.models
        found = []
        for model in sorted(unwell | priors.keys()):
            seen, stamp, prior_ms = self._inspector.of(model), "", priors.get(model, 0)
            if model in unwell:
                stamp = self._stamps.get(model, "") if model in self._residencies else seen.stamp
            found.append(Inspection(model=model, stamp=stamp, trouble=seen.trouble, prior_ms=prior_ms))
        return found

    def _store_away(self, error: StoreError) -> None:
        if self._backoff.failed(clock.now_s()):
            log.warning("store_lost", extra={"slot": self._settings.slot, "error": str(error)})
