"""Short words for what a worker and a scheduler do to a store, over its port only."""

from collections.abc import Mapping
from typing import Any

from broker.core.lease import LeaseId, LeaseRecord, ModelName, Nonce, SlotId
from schemas.messages import Inspection, Report, ResidencyReport, report_to_hash
from schemas.residency import Residency
from tests.fakes.store_rigs import Rig

READY, LOADING, FAILED = Residency.READY, Residency.LOADING, Residency.FAILED
GPU = SlotId("gpu0")


class HandWorker:
    """A worker moved by hand: what it reports is what the test says."""

    def __init__(
        self,
        rig: Rig,
        slot: str = GPU,
        *,
        boot: str = "boot1",
        budget_mib: int = 2000,
        name: str = "host",
        home: str = "",
    ) -> None:
        self.rig, self.slot, self.boot, self.budget_mib = rig, SlotId(slot), boot, budget_mib
        self.name, self.home = name, home
        self.inc, self.epoch, self.hw, self.beat, self.fault = "", 0, 0, 0, ""
        self.serves: tuple[str, ...] = ("a", "b", "big")
        self.models: dict[str, ResidencyReport] = {}
        self.inspections: dict[str, Inspection] = {}

    def next_report(self, **more: Any) -> Report:
        """What it would write now."""
        self.beat += 1
        words: dict[str, Any] = {
            "worker": self.name, "boot": self.boot, "home": self.home, "incarnation": self.inc,
            "epoch": self.epoch, "high_water": self.hw, "beat": self.beat,
            "budget_mib": self.budget_mib, "serves": self.serves, "fault": self.fault,
            "residencies": tuple(self.models.values()), "inspections": tuple(self.inspections.values()),
        }  # fmt: skip
        return Report(**{**words, **more})

    async def report(self, **more: Any) -> None:
        """Write a report and have it taken in."""
        await self.rig.put_report(self.slot, self.next_report(**more))
        await self.rig.store.observe(self.slot)

    async def lie(self, fields: Mapping[str, bytes | str]) -> None:
        """The same, with something else in some fields."""
        words: dict[str, bytes | str] = {**report_to_hash(self.next_report()), **fields}
        as_bytes = {name: word.encode() if isinstance(word, str) else word for name, word in words.items()}
        await self.rig.put_fields(self.slot, as_bytes)
        await self.rig.store.observe(self.slot)

    async def read(self) -> None:
        """Take over incarnation, epoch and generation of the orders."""
        orders = await self.rig.read_orders(self.slot)
        self.inc = orders.incarnation
        if orders.boot == self.boot:
            self.epoch, self.hw = orders.epoch, max(self.hw, orders.generation)

    async def register(self) -> "HandWorker":
        """From unknown, silent or another incarnation to registered."""
        await self.report()
        await self.read()
        self.epoch = 0
        await self.report()
        await self.read()
        await self.report()
        return self

    async def say(self, model: str, state: Residency, **more: Any) -> None:
        """Report a state of the ordered generation of a model."""
        await self.read()
        orders = await self.rig.read_orders(self.slot)
        gen = {want.model: want.generation for want in orders.wants}.get(model) or self.models[model].generation
        url = f"http://{self.slot}/{model}/v1" if state is READY else ""
        self.models[model] = ResidencyReport(model=model, state=state, generation=gen, url=url, **more)
        await self.report()

    async def gone(self, model: str) -> None:
        """Report that a model is not there."""
        await self.read()
        self.models.pop(model, None)
        await self.report()


async def want(rig: Rig, model: str, *evict: str, slot: str = GPU, why: str = "prefetch") -> None:
    """The scheduler orders a load."""
    generation = (await rig.read_orders(slot)).generation
    await rig.store.want(
        slot=SlotId(slot), generation=generation, model=ModelName(model), evict=[ModelName(name) for name in evict],
        depth=READY, key=f"key-{model}-{generation}", why=why,
    )  # fmt: skip


async def ready(rig: Rig, *models: str, slot: str = GPU) -> HandWorker:
    """A registered worker with models ready."""
    worker = await HandWorker(rig, slot).register()
    for model in models:
        await want(rig, model, slot=slot)
        await worker.say(model, READY)
    return worker


async def release(rig: Rig, record: LeaseRecord) -> LeaseRecord:
    """Its holder gives it back."""
    return await rig.store.release(LeaseId(record.lease_id), Nonce(record.nonce), who="key")


async def kinds(rig: Rig) -> list[str]:
    """Kinds of all events so far."""
    return [event.kind for event in await rig.store.events("0-0", block_s=0, limit=1000)]
