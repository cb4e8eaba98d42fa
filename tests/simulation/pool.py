"""A whole pool under a virtual clock: real schedulers and core on the memory store; simulated hosts and clients."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.accounting.metrics import Metrics
from broker.core.errors import BackendError, CapacityError, ConflictError, HotseatError
from broker.core.lease import PRIORITIES, AcquireRequest, LeaseId, LeaseState, ModelName, Nonce, SlotId
from broker.policy.activity import Activity
from broker.policy.settings import PolicySettings
from broker.scheduling.scheduler import Scheduler
from broker.store.memory.store import MemoryStore
from broker.store.port import ModelSettings, PoolSettings
from harness.history.replay import Catalogue
from harness.history.trace import Entry, Sample, Violation
from harness.history.trace_check import Run, judge, replayed
from tests.simulation.host import Machine, Worker, sample
from tests.simulation.virtual import FarStore, Network

EPOCH_S = 1_000_000.0
"""Wall clock of the store at the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What to simulate."""

    seed: int
    models: dict[str, int]
    """Name to memory, MiB."""
    budgets: dict[str, int]
    """Slot to memory, MiB."""
    lease_limit: int = 2
    brokers: int = 2
    clients: int = 6
    hurt_s: float = 120.0
    """How long things go wrong."""
    heal_s: float = 240.0
    """How long everybody then has to be served."""
    load_fails: float = 0.05
    load_s: dict[str, float] = field(default_factory=dict)
    """How long a model takes to load; those not named: 0.2 to 1.5 s at random."""
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    """More of a model's settings in the pool."""
    policy: PolicySettings = field(
        default_factory=lambda: PolicySettings(
            slice_min_s=2.0,
            slice_load_factor=1.0,
            slice_hold_factor=1.0,
            exchange_min_run_s=1.0,
            preempt_grace_s=2.0,
            max_wait_s=dict.fromkeys(PRIORITIES, 20.0),
            max_hold_s=20.0,
        )
    )


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of it."""

    entries: list[Entry]
    violations: list[Violation]
    unfinished: list[str]
    complaints: list[str]


class Pool:
    """The simulation in progress."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rng = random.Random(scene.seed)
        self.loop = asyncio.get_running_loop()
        self.store = MemoryStore(clock=lambda: EPOCH_S + self.loop.time(), run="run-0")
        self.settings = PoolSettings(
            models=tuple(
                ModelSettings(
                    name=ModelName(name), memory_mib=mib, lease_limit=scene.lease_limit, **scene.entries.get(name, {})
                )
                for name, mib in scene.models.items()
            ),
            claim_ttl_s=4.0,
            silence_s=3.0,
            load_backoff_s=1.0,
            max_fails=1000,
            max_wait_s=scene.policy.max_wait_s,
        )
        self.network = Network()
        self.machines = {SlotId(slot): Machine(servers={}) for slot in scene.budgets}
        self.samples: list[Sample] = []
        self.hurting = True
        self._restarts = 0

    def looked(self) -> None:
        """Note who is on the hosts."""
        self.samples.append(sample(self.loop.time(), self.machines))

    # ------------------------------------------------------------------------------------------------- processes

    async def broker(self) -> None:
        """One broker process, until it is killed: its scheduler, over the network."""
        far = FarStore(self.store, self.network, self.rng)
        scheduler = Scheduler(
            far,  # type: ignore[arg-type]
            pool=self.settings,
            policy=self.scene.policy,
            activity=Activity(away_s=self.scene.policy.away_s),
            metrics=Metrics(),
            new_key=lambda: f"key-{self.rng.getrandbits(40):x}",
            clock=self.loop.time,
        )
        seen = await self.store.last_event_id()
        while True:
            await asyncio.sleep(self.rng.uniform(0.01, 0.25))
            try:
                for event in await self.store.events(seen, block_s=0.0, limit=1000):
                    scheduler.note(event)
                    seen = event.event_id
                for slot in self.machines:
                    await far.observe(slot)
                await scheduler.tick()
            except BackendError:
                continue

    def worker(self, slot: SlotId) -> Worker:
        """A new worker process for a slot."""
        return Worker(
            slot,
            self.machines[slot],
            self.store,
            self.network,
            self.rng,
            memory_mib=self.scene.models,
            budget_mib=self.scene.budgets[slot],
            fails=self.scene.load_fails if self.hurting else 0.0,
            changed=self.looked,
            load_s=lambda model: self.scene.load_s.get(model) or self.rng.uniform(0.2, 1.5),
        )

    async def mortal(self, life: Callable[[], "asyncio.Future[None] | object"]) -> None:
        """Runs a process; while things go wrong it is killed and started again now and then."""
        while True:
            task = asyncio.ensure_future(life())  # type: ignore[arg-type]
            try:
                await asyncio.wait({task}, timeout=self.rng.expovariate(1 / 12.0) if self.hurting else None)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await asyncio.sleep(self.rng.uniform(0.0, 3.0))

    async def nemesis(self) -> None:
        """The network, the store and the servers go wrong at random; at the end all is well."""
        while self.loop.time() < self.scene.hurt_s:
            await asyncio.sleep(self.rng.uniform(0.2, 4.0))
            self._harm(self.rng.choice(("lossy", "cut", "restart", "server", "clear", "clear")))
        self.hurting = False
        self._harm("clear")

    def _harm(self, what: str) -> None:
        network = self.network
        network.lost = network.lost_reply = network.twice = 0.2 if what == "lossy" else 0.0
        network.delay_s = 0.5 if what == "lossy" else 0.02
        network.cut = what == "cut"
        if what == "restart":
            self._restarts += 1
            self.store.restart(f"run-{self._restarts}")
        elif what == "server":
            machine = self.rng.choice(list(self.machines.values()))
            machine.servers.clear()
            self.looked()

    # ------------------------------------------------------------------------------------------------- the play

    async def play(self) -> Result:
        """Everything, to the verdict."""
        await self.store.init(self.settings)
        slots = list(self.machines)
        tasks = [asyncio.create_task(self.mortal(self.broker)) for _ in range(self.scene.brokers)]
        tasks += [asyncio.create_task(self.mortal(lambda slot=slot: self.worker(slot).run())) for slot in slots]
        tasks.append(asyncio.create_task(self.nemesis()))
        clients = [Client(self, number) for number in range(self.scene.clients)]
        lives = [asyncio.create_task(client.run()) for client in clients]
        entries: list[Entry] = []
        reader = asyncio.create_task(self._read(entries))
        await asyncio.wait(lives, timeout=self.scene.hurt_s + self.scene.heal_s)
        await asyncio.sleep(15.0)  # forgotten leases expire
        reader.cancel()
        unfinished = [client.name for client, life in zip(clients, lives, strict=True) if not life.done()]
        complaints = [str(one) for one in await self.store.check()]
        for life in lives:
            if life.done() and life.exception() is not None:
                raise life.exception()  # type: ignore[misc]
        for task in (*tasks, *lives):
            task.cancel()
        await asyncio.gather(*tasks, *lives, return_exceptions=True)
        return self._result(entries, unfinished, complaints)

    async def _read(self, entries: list[Entry]) -> None:
        seen = "0-0"
        while True:
            for event in await self.store.events(seen, block_s=1.0, limit=1000):
                seen = event.event_id
                entries.append(
                    Entry(
                        seq=event.sequence, kind=event.kind, at_ms=round(event.at_s * 1000), fields=dict(event.fields)
                    )
                )

    def _result(self, entries: list[Entry], unfinished: Sequence[str], complaints: list[str]) -> Result:
        names = self.scene.models
        catalogue = Catalogue(
            memory_mib=names,
            lease_limit=dict.fromkeys(names, self.scene.lease_limit),
            budget_mib=self.scene.budgets,
        )
        waiting = [lease.lease for lease in replayed(catalogue, entries).waiting()]
        verdict = judge(Run(catalogue=catalogue, entries=entries, samples=self.samples))
        return Result(entries=entries, violations=verdict, unfinished=[*unfinished, *waiting], complaints=complaints)


class Client:
    """One session: asks, waits, holds, renews, gives back; retries what it heard nothing of."""

    def __init__(self, pool: Pool, number: int) -> None:
        self._pool = pool
        self._rng = random.Random(f"{pool.scene.seed}/{number}")
        self._store = FarStore(pool.store, pool.network, self._rng)
        self.name = f"agent-{number}"
        self._count = 0

    async def run(self) -> None:
        """Until things stop going wrong, and then once more."""
        while self._pool.hurting:
            await self._one()
            await asyncio.sleep(self._rng.uniform(0.0, 2.0))
        await self._one()

    async def _one(self) -> None:
        self._count += 1
        request = AcquireRequest(
            lease_id=LeaseId(f"{self.name}-{self._count}"),
            nonce=Nonce(f"nonce-{self._rng.getrandbits(32)}"),
            session=self.name,
            model=ModelName(self._rng.choice(list(self._pool.scene.models))),
            priority=self._rng.choice(PRIORITIES),
            ttl_s=5.0,
            waiter_ttl_s=10.0,
            operation=f"{self.name}/{self._count}",
            body_hash="same",
        )
        record = await self._until_answered(lambda: self._store.acquire(request))
        while record is not None and record.state is LeaseState.QUEUED:
            await asyncio.sleep(0.3)
            record = await self._until_answered(lambda: self._store.poll(request.lease_id, waiter_ttl_s=10.0))
        if record is None or self._rng.random() < 0.1:
            return
        for _ in range(self._rng.randint(0, 2)):
            await asyncio.sleep(self._rng.uniform(0.1, 1.5))
            await self._until_answered(
                lambda: self._store.renew(record.lease_id, record.nonce, ttl_s=5.0, who="client")
            )
        await self._until_answered(lambda: self._store.release(record.lease_id, record.nonce, who="client"))

    async def _until_answered(self, call: Callable[[], object]) -> "object":
        """Again and again while the store is away; None for a definite no."""
        while True:
            try:
                return await call()  # type: ignore[misc]
            except (BackendError, CapacityError):
                await asyncio.sleep(self._rng.uniform(0.1, 0.5))
            except ConflictError:
                return None
            except HotseatError:
                return None
