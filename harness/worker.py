"""A worker without a GPU: carries out orders after a delay, reports, rings; on the memory store or on a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import redis.asyncio

from broker.core.lease import SlotId
from broker.store.memory.store import MemoryStore
from schemas.messages import (
    FailureKind,
    Inspection,
    Orders,
    Report,
    ResidencyReport,
    base_key,
    orders_from_hash,
    report_to_hash,
)
from schemas.residency import Residency


class FakeWorker:
    """One slot. ``broken`` models fail to load; ``load_s`` is how long a load takes."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Orders]],
        write: Callable[[Report], Awaitable[None]],
        *,
        serves: tuple[str, ...],
        budget_mib: int = 1000,
        load_s: float = 0.0,
        broken: tuple[str, ...] = (),
        urls: dict[str, str] | None = None,
    ) -> None:
        self._read, self._write = read, write
        self.disconnect: Callable[[], Awaitable[None]] | None = None
        self.serves, self.budget_mib, self.load_s, self.broken = serves, budget_mib, load_s, broken
        self.urls = urls or {}
        self.dead: set[str] = set()
        """Models whose server is reported dead until they are ordered anew."""
        self.failed: set[str] = set()
        """Models whose load has failed."""
        self.failure: FailureKind | None = None
        """Of the loads that fail, and of the dead."""
        self.error = "out of memory"
        self.fails_left: dict[str, int] = {}
        """So many more loads of a model fail, then they succeed."""
        self.useless: set[str] = set()
        """Models whose server is proved useless when somebody doubts it."""
        self.inspections: dict[str, Inspection] = {}
        self.keys: dict[str, str] = {}
        """Of the loads, by model."""
        self.boot = "boot1"
        self.beat = 0
        self.foreign = ""
        self.used_percent, self.foreign_percent = 0, -1
        self._ready_at: dict[str, tuple[int, float]] = {}

    @property
    def loads(self) -> set[str]:
        """What it loads, or has loaded."""
        return set(self._ready_at)

    @classmethod
    def on_memory(cls, store: MemoryStore, slot: str = "gpu0", **more: object) -> "FakeWorker":
        async def read() -> Orders:
            return store.read_orders(SlotId(slot))

        async def write(report: Report) -> None:
            store.put_report(SlotId(slot), report)

        return cls(read, write, **more)  # type: ignore[arg-type]

    @classmethod
    def on_redis(cls, url: str, pool: str = "default", slot: str = "gpu0", **more: object) -> "FakeWorker":
        # with a time-out of its own redis-py swallows cancellations on Python 3.11, and `running` would never end
        client = redis.asyncio.from_url(url, decode_responses=True, socket_timeout=None)
        base = base_key(pool)

        async def read() -> Orders:
            fields = await client.hgetall(f"{base}:orders:{slot}")
            return orders_from_hash({str(name): str(value) for name, value in fields.items()})

        async def write(report: Report) -> None:
            async with client.pipeline(transaction=True) as pipe:
                pipe.delete(f"{base}:report:{slot}")
                pipe.hset(f"{base}:report:{slot}", mapping=dict(report_to_hash(report).items()))
                pipe.xadd(f"{base}:bell", {"slot": slot}, maxlen=1000)
                await pipe.execute()

        worker = cls(read, write, **more)  # type: ignore[arg-type]
        worker.disconnect = client.aclose
        return worker

    async def close(self) -> None:
        """Let go of the connection, where there is one."""
        if self.disconnect is not None:
            await self.disconnect()

    async def step(self) -> None:
        """Read, obey, report."""
        orders = await self._read()
        mine = orders.boot == self.boot
        wants = {want.model: want for want in orders.wants} if mine else {}
        now_s = asyncio.get_running_loop().time()
        for model, want in wants.items():
            self.keys[model] = want.key
            if self._ready_at.get(model, (0, 0.0))[0] != want.generation:
                self.dead.discard(model)
                self.failed.discard(model)
                self._ready_at[model] = (want.generation, now_s + self.load_s)
                self._fail_next(model)
            if want.prove and model in self.useless:
                self.dead.add(model)
        for model in set(self._ready_at) - set(wants):
            del self._ready_at[model]
        self.beat += 1
        await self._write(
            Report(
                worker="fake",
                boot=self.boot,
                home="fakehome",
                incarnation=orders.incarnation,
                epoch=orders.epoch if mine else 0,
                high_water=orders.generation,
                beat=self.beat,
                budget_mib=self.budget_mib,
                total_mib=self.budget_mib,
                free_mib=self.budget_mib,
                foreign=self.foreign,
                used_percent=self.used_percent,
                foreign_percent=self.foreign_percent,
                serves=self.serves,
                residencies=tuple(self._seen(model, *entry, now_s) for model, entry in self._ready_at.items()),
                inspections=tuple(self.inspections.values()),
            )
        )

    def _error(self, model: str) -> str:
        died = model in self.dead and model not in self.useless
        return f"server_died: {self.error}" if died else self.error

    def _fail_next(self, model: str) -> None:
        if self.fails_left.get(model, 0) > 0:
            self.fails_left[model] -= 1
            self.failed.add(model)

    def _seen(self, model: str, generation: int, ready_at_s: float, now_s: float) -> ResidencyReport:
        left_s = ready_at_s - now_s
        if left_s > 0:
            progress = round(100 * (1 - left_s / self.load_s))
            return ResidencyReport(model=model, state=Residency.LOADING, generation=generation, progress=progress)
        if model in {*self.broken, *self.dead, *self.failed}:
            return ResidencyReport(
                model=model,
                state=Residency.FAILED,
                generation=generation,
                error=self._error(model),
                failure=self.failure,
            )
        return ResidencyReport(
            model=model,
            state=Residency.READY,
            generation=generation,
            url=self.urls.get(model) or f"http://127.0.0.1:9/{model}/v1",
            took_ms=max(1, round(self.load_s * 1000)),
        )

    @contextlib.asynccontextmanager
    async def running(self, every_s: float = 0.02) -> AsyncIterator["FakeWorker"]:
        """Keep stepping."""

        async def loop() -> None:
            while True:
                with contextlib.suppress(redis.RedisError):
                    await self.step()
                await asyncio.sleep(every_s)

        task = asyncio.create_task(loop())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.close()
