"""The scheduler: looks, decides, commits, decides again when refused; remakes an emptied store only beside a worker."""

import pytest

from broker.core.activity import Activity
from broker.core.errors import StoreUninitialisedError
from broker.core.lease import AcquireRequest, LeaseId, ModelName, Nonce, SlotId
from broker.core.settings import PolicySettings
from broker.metrics import Metrics
from broker.scheduler import Scheduler
from broker.store.memory_store import MemoryStore
from broker.store.port import ModelSettings, PoolSettings
from schemas.messages import Report

POOL = PoolSettings(models=(ModelSettings(name=ModelName("a"), memory_mib=100),))


class World:
    """Time and a store; whoever is asked for keys counts."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.store = MemoryStore(clock=lambda: self.now_s)
        self.keys = 0

    def scheduler(self) -> Scheduler:
        return Scheduler(
            self.store,
            pool=POOL,
            policy=PolicySettings(),
            activity=Activity(),
            metrics=Metrics(),
            new_key=self.new_key,
            clock=lambda: self.now_s,
        )

    def new_key(self) -> str:
        self.keys += 1
        return f"key{self.keys}"

    def report(self) -> None:
        orders = self.store.read_orders(SlotId("gpu0"))
        self.store.put_report(
            SlotId("gpu0"),
            Report(
                worker="w",
                boot="b",
                incarnation=orders.incarnation,
                epoch=orders.epoch,
                beat=self.keys + int(self.now_s),
                budget_mib=100,
                serves=("a",),
            ),
        )

    async def ask(self, number: int = 1) -> None:
        request = AcquireRequest(
            lease_id=LeaseId(f"L{number}"), nonce=Nonce("n"), session=f"s{number}", model=ModelName("a")
        )
        await self.store.acquire(request)

    async def settled(self) -> "World":
        await self.store.init(POOL)
        for _ in range(3):
            self.report()
            await self.store.observe(SlotId("gpu0"))
        return self


async def test_a_waiting_ticket_orders_its_model_with_a_fresh_key():
    world = await World().settled()
    await world.ask()
    scheduler = world.scheduler()
    await scheduler.tick()
    [want] = world.store.read_orders(SlotId("gpu0")).wants
    assert (want.model, want.key) == ("a", "key1")
    assert scheduler.last is not None
    assert scheduler.last.snapshot.queued == 1


async def test_two_schedulers_order_once():
    world = await World().settled()
    await world.ask()
    one, two = world.scheduler(), world.scheduler()
    await one.tick()
    generation = world.store.read_orders(SlotId("gpu0")).generation
    await two.tick()
    assert world.store.read_orders(SlotId("gpu0")).generation == generation


async def test_a_refused_decision_is_taken_again_on_a_new_picture():
    world = await World().settled()
    await world.ask()
    scheduler = world.scheduler()
    snapshot, old = world.store.snapshot, await world.store.snapshot()
    await world.store.set_slot(SlotId("gpu0"), event="cordon", who="operator:x")
    await world.store.set_slot(SlotId("gpu0"), event="uncordon", who="operator:x")
    pictures = [old]

    async def stale_first():
        return pictures.pop() if pictures else await snapshot()

    world.store.snapshot = stale_first  # type: ignore[method-assign]
    await scheduler.tick()
    assert len(world.store.read_orders(SlotId("gpu0")).wants) == 1


async def test_nothing_is_looked_at_twice_without_cause():
    world = await World().settled()
    scheduler = world.scheduler()
    await scheduler.tick()
    first = scheduler.last
    world.now_s += 0.3
    await scheduler.tick()
    assert scheduler.last is first
    for event in (await world.store.events("0-0", block_s=0, limit=100))[-1:]:
        scheduler.note(event)
    await scheduler.tick()
    assert scheduler.last is not first


async def test_an_emptied_store_is_made_again_only_beside_a_worker():
    world = await World().settled()
    scheduler = world.scheduler()
    world.store.flush()
    with pytest.raises(StoreUninitialisedError):
        await scheduler.tick()
    with pytest.raises(StoreUninitialisedError):
        await world.store.hello()
    world.store.put_report(SlotId("gpu0"), Report(worker="w", boot="b"))
    with pytest.raises(StoreUninitialisedError):
        await scheduler.tick()
    await world.store.hello()
    await scheduler.tick()
