"""A pool in which nothing goes wrong and little happens: one broker, its worker, a few sessions, virtual hours."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from broker.core.lease import AcquireRequest, Intent, LeaseId, LeaseState, ModelName, Nonce, SlotId
from broker.policy.settings import PolicySettings
from harness.history.trace import Entry
from tests.simulation.pool import Pool, Scene
from tests.simulation.virtual import run_virtually

WAITER_TTL_S = 3600.0


class Quiet:
    """What a scene's sessions work with, and what is read off it afterwards."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.store = pool, pool.store
        self.entries: list[Entry] = []
        self._number = 0

    @property
    def now_s(self) -> float:
        """Virtual seconds since the beginning."""
        return self.pool.loop.time()

    async def use(self, session: str, model: str, hold_s: float = 1.0) -> float:
        """One request: wait for the model, use it, give it back. Returns how long it waited."""
        self._number += 1
        lease_id, asked_s = LeaseId(f"{session}-{self._number}"), self.now_s
        request = AcquireRequest(
            lease_id=lease_id,
            nonce=Nonce("n"),
            session=session,
            model=ModelName(model),
            ttl_s=3600.0,
            waiter_ttl_s=WAITER_TTL_S,
        )
        record = await self.store.acquire(request)
        while record.state is LeaseState.QUEUED:
            await asyncio.sleep(0.1)
            record = await self.store.poll(lease_id, waiter_ttl_s=WAITER_TTL_S)
        waited_s = self.now_s - asked_s
        await asyncio.sleep(hold_s)
        await self.store.release(lease_id, record.nonce, who="agent")
        return waited_s

    async def keep_warm(self, session: str, model: str, ttl_s: float) -> None:
        """A warm lease."""
        self._number += 1
        request = AcquireRequest(
            lease_id=LeaseId(f"{session}-{self._number}"),
            nonce=Nonce("n"),
            session=session,
            model=ModelName(model),
            intent=Intent.WARM,
            ttl_s=ttl_s,
            waiter_ttl_s=WAITER_TTL_S,
        )
        await self.store.acquire(request)

    def is_ready(self, model: str, slot: str = "gpu0") -> bool:
        """Now."""
        return self.store.pool.residency(SlotId(slot), ModelName(model)).state == "ready"

    def of(self, kind: str, model: str | None = None, *, after_s: float = 0.0) -> list[Entry]:
        """Events of a kind, of one model or all."""
        return [e for e in self.entries if e.kind == kind and model in {None, e.get("model")} and at_s(e) >= after_s]

    def loads(self, model: str | None = None, *, after_s: float = 0.0) -> list[Entry]:
        """Orders to load."""
        return self.of("loading", model, after_s=after_s)


def at_s(entry: Entry) -> float:
    """Virtual seconds since the beginning."""
    return entry.at_ms / 1000 - 1_000_000.0


def played(
    story: Callable[[Quiet], Awaitable[Any]],
    *,
    load_s: Mapping[str, float],
    memory_mib: int | Mapping[str, int] = 600,
    budgets: Mapping[str, int] | None = None,
    entries: Mapping[str, dict[str, Any]] | None = None,
    **policy: Any,
) -> Quiet:
    """Play a story on models that take so long to load; by default one fits at a time."""
    sizes = {name: memory_mib if isinstance(memory_mib, int) else memory_mib[name] for name in load_s}

    async def main() -> Quiet:
        scene = Scene(
            seed=1,
            models=sizes,
            budgets=dict(budgets or {"gpu0": 1000}),
            policy=PolicySettings(**policy),
            load_fails=0.0,
            load_s=dict(load_s),
            entries=dict(entries or {}),
        )
        pool = Pool(scene)
        pool.hurting = False
        await pool.store.init(pool.settings)
        quiet = Quiet(pool)
        lives = [pool.broker(), pool._read(quiet.entries)]
        lives += [pool.worker(SlotId(slot)).run() for slot in scene.budgets]
        tasks = [asyncio.create_task(life) for life in lives]
        await asyncio.sleep(5.0)
        await story(quiet)
        await asyncio.sleep(1.5)
        assert not any(task.done() for task in tasks)
        return quiet

    return run_virtually(main())


async def turns(quiet: Quiet, session: str, model: str, count: int, gap_s: float | Sequence[float]) -> list[float]:
    """A session that comes back after each answer. Returns what each turn waited."""
    gaps_s = [gap_s] * count if isinstance(gap_s, int | float) else list(gap_s)
    waits_s = []
    for number in range(count):
        waits_s.append(await quiet.use(session, model))
        await asyncio.sleep(gaps_s[number])
    return waits_s
