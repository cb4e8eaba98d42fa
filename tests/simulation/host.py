"""A simulated GPU host: servers that take time to start and stop, and a worker made of the real pure parts."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.core.lease import SlotId
from broker.store.memory.store import MemoryStore
from gpu_worker.slot.reconcile import Load, Reject, Resident, Step, Unload, Wanted, reconcile
from gpu_worker.slot.registration import Heading, OrdersVerdict, WorkerStanding, judge_orders
from harness.history.trace import Sample, Server
from schemas.messages import Orders, Report, ResidencyReport
from schemas.residency import Residency
from tests.simulation.virtual import Network

BEAT_S = 0.5


@dataclass(slots=True, kw_only=True)
class Machine:
    """What is physically on the GPU; survives the worker."""

    servers: dict[tuple[str, int], str]
    """Model and generation to key."""
    high_water: int = 0
    """On disk."""
    boots: int = 0


class Worker:
    """One worker process; dies with its task."""

    def __init__(
        self,
        slot: SlotId,
        machine: Machine,
        store: MemoryStore,
        network: Network,
        rng: random.Random,
        *,
        memory_mib: Mapping[str, int],
        budget_mib: int,
        fails: float,
        changed: Callable[[], None],
        load_s: Callable[[str], float] | None = None,
    ) -> None:
        machine.boots += 1
        self._slot, self._machine, self._store, self._network, self._rng = slot, machine, store, network, rng
        self._memory_mib, self._budget_mib, self._fails, self._changed = memory_mib, budget_mib, fails, changed
        self._load_s = load_s or (lambda _: rng.uniform(0.2, 1.5))
        boot = f"{slot}-boot-{machine.boots}"
        self._standing = WorkerStanding(boot=boot, high_water=machine.high_water)
        self._orders: Orders | None = None
        self._beat = 0
        self._work: set[asyncio.Task[None]] = set()
        self._residents = {
            model: Resident(model=model, generation=gen, depth=Residency.READY) for model, gen in machine.servers
        }

    async def run(self) -> None:
        """Until cancelled: read, compare, step, report."""
        try:
            while True:
                await self._tick()
        finally:
            for task in self._work:
                task.cancel()

    async def _tick(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.01, 0.1))
        if self._network.cut:
            return
        orders = self._store.read_orders(self._slot)
        await asyncio.sleep(self._rng.uniform(0.0, self._network.delay_s))
        self._take(orders)
        if self._orders is not None and (step := self._step()) is not None:
            self._carry_out(step)
        self._report()

    def _take(self, orders: Orders) -> None:
        heading = Heading(
            incarnation=orders.incarnation, epoch=orders.epoch, boot=orders.boot, generation=orders.generation
        )
        verdict, standing = judge_orders(self._standing, heading)
        assert verdict is not OrdersVerdict.SUPERSEDED, "there is one worker"
        if verdict is OrdersVerdict.OBEY:
            self._machine.high_water = standing.high_water
        self._standing = standing
        self._orders = {OrdersVerdict.OBEY: orders, OrdersVerdict.WAIT: None}.get(verdict, self._orders)

    def _step(self) -> Step | None:
        assert self._orders is not None
        wanted = [Wanted(model=want.model, generation=want.generation) for want in self._orders.wants]
        footprints = dict(self._memory_mib)
        return reconcile(wanted, self._residents.values(), footprints_mib=footprints, budget_mib=self._budget_mib)

    def _carry_out(self, step: Step) -> None:
        depth = {Load: Residency.LOADING, Unload: Residency.UNLOADING, Reject: Residency.FAILED}[type(step)]
        self._residents[step.model] = Resident(model=step.model, generation=step.generation, depth=depth)
        work = {Load: self._load, Unload: self._unload}.get(type(step))
        if work is not None:
            task = asyncio.create_task(work(step.model, step.generation))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _load(self, model: str, generation: int) -> None:
        assert self._orders is not None
        key = next(want.key for want in self._orders.wants if want.model == model)
        self._machine.servers[model, generation] = key
        self._changed()
        await asyncio.sleep(self._load_s(model))
        if self._residents.get(model) != Resident(model=model, generation=generation, depth=Residency.LOADING):
            return
        failed = self._rng.random() < self._fails
        if failed:
            self._machine.servers.pop((model, generation), None)
        depth = Residency.FAILED if failed else Residency.READY
        self._residents[model] = Resident(model=model, generation=generation, depth=depth)

    async def _unload(self, model: str, generation: int) -> None:
        await asyncio.sleep(self._rng.uniform(0.05, 0.4))
        self._machine.servers.pop((model, generation), None)
        self._changed()
        self._residents.pop(model, None)

    def _report(self) -> None:
        for model, resident in self._residents.items():
            if resident.depth is Residency.READY and (model, resident.generation) not in self._machine.servers:
                self._residents[model] = Resident(model=model, generation=resident.generation, depth=Residency.FAILED)
        self._beat += 1
        report = Report(
            worker="host",
            boot=self._standing.boot,
            incarnation=self._standing.incarnation,
            epoch=self._standing.epoch,
            high_water=self._machine.high_water,
            beat=self._beat,
            budget_mib=self._budget_mib,
            serves=tuple(sorted(self._memory_mib)),
            residencies=tuple(
                ResidencyReport(
                    model=resident.model,
                    state=Residency(resident.depth.value),
                    generation=resident.generation,
                    url="http://127.0.0.1:1/v1" if resident.depth is Residency.READY else "",
                )
                for resident in self._residents.values()
            ),
        )
        if self._rng.random() >= self._network.lost:
            self._store.put_report(self._slot, report)


def sample(at_s: float, machines: Mapping[SlotId, Machine]) -> Sample:
    """Who is physically there now."""
    servers = [
        Server(pid=1, started=1, slot=slot, model=model, key=f"{model}/{generation}")
        for slot, machine in machines.items()
        for model, generation in machine.servers
    ]
    return Sample(at_s=at_s, servers=tuple(servers))
