"""The scheduler: looks, decides, commits, decides again when refused; remakes an emptied store only beside a worker."""

import pytest

from broker.accounting.metrics import Metrics
from broker.core.errors import BackendError, StoreUninitialisedError
from broker.core.lease import AcquireRequest, Intent, LeaseId, ModelName, Nonce, SlotId
from broker.policy.activity import Activity
from broker.policy.settings import PolicySettings
from broker.scheduling.scheduler import Scheduler
from broker.store.memory.store import MemoryStore
from broker.store.port import ModelSettings, PoolSettings
from schemas.messages import Report, ResidencyReport
from schemas.residency import Residency

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

    def report(self, *there: ResidencyReport) -> None:
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
                residencies=there,
            ),
        )

    async def ask(self, number: int = 1, intent: Intent = Intent.USE) -> None:
        request = AcquireRequest(
            lease_id=LeaseId(f"L{number}"), nonce=Nonce("n"), session=f"s{number}", model=ModelName("a"), intent=intent
        )
        await self.store.acquire(request)

    async def make_ready(self) -> None:
        slot, model = SlotId("gpu0"), ModelName("a")
        generation = self.store.read_orders(slot).generation
        await self.store.want(
            slot=slot, generation=generation, model=model, depth=Residency.READY, evict=(), key="k", why="restore"
        )
        generation = self.store.read_orders(slot).generation
        there = ResidencyReport(model=model, state=Residency.READY, generation=generation, url="http://x/v1")
        self.now_s += 1.0
        self.report(there)
        await self.store.observe(slot)

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


async def test_a_report_that_the_store_chokes_on_does_not_keep_another_slots_from_being_taken_in():
    world = await World().settled()
    await world.ask()
    observe, taken = world.store.observe, []

    async def choke(slot: SlotId) -> None:
        if slot == "aaa":
            raise BackendError("INTERNAL attempt to compare nil with number")
        taken.append(slot)
        await observe(slot)

    world.store.put_report(SlotId("aaa"), Report(worker="liar", boot="b"))
    world.store.observe = choke  # type: ignore[method-assign]
    scheduler = world.scheduler()
    await scheduler.bells_step()
    await scheduler.tick()
    await scheduler.bells_step()
    assert taken == ["gpu0"]
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


@pytest.mark.parametrize("intent, looks", [(Intent.WARM, True), (Intent.USE, False)])
async def test_a_new_warm_lease_is_looked_at_at_once_and_a_granted_use_is_not(intent, looks):
    world = await World().settled()
    if intent is Intent.USE:
        await world.make_ready()
    scheduler = world.scheduler()
    await scheduler.tick()
    first, world.now_s = scheduler.last, world.now_s + 0.3
    seen = await world.store.last_event_id()
    await world.ask(1, intent)
    for event in await world.store.events(seen, block_s=0, limit=100):
        scheduler.note(event)
    await scheduler.tick()
    assert (scheduler.last is not first) is looks


async def test_of_models_that_no_session_it_knows_used_the_stores_own_counts_must_do():
    world = await World().settled()
    await world.ask()
    stranger, listener = world.scheduler(), world.scheduler()
    for event in await world.store.events("0-0", block_s=0, limit=100):
        listener.note(event)
    await stranger.tick()
    await listener.tick()
    told = [one.last.snapshot.models[ModelName("a")] for one in (stranger, listener)]
    assert told[0].spoken_for_s is None
    assert told[0].expected_arrivals == (await world.store.snapshot()).models[ModelName("a")].expected_arrivals
    assert told[1].spoken_for_s is not None
