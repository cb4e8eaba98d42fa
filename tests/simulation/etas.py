"""How true the times are that waiters are told: mixed load on the whole scheduler, under a virtual clock.

    python -m tests.simulation.etas [--seeds 12]

Loads vary from one to the next, and so do holds, as they do on real hosts; agents take turns, others ask once, and some
hold for minutes. Each ticket is told a time in its first answer, and again after 2, 5, 10, 20 … seconds.
"""

import argparse
import asyncio
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from broker.accounting.metrics import Metrics
from broker.core.lease import AcquireRequest, LeaseId, LeaseRecord, LeaseState, ModelName, Nonce, Priority, SlotId
from broker.policy.activity import Activity
from broker.policy.forecast import Forecast
from broker.policy.settings import PolicySettings
from broker.scheduling.forecasts import Forecasts
from broker.scheduling.scheduler import Scheduler
from broker.store.memory.store import MemoryStore
from broker.store.port import ModelSettings, PoolSettings
from tests.simulation.host import Machine, Worker
from tests.simulation.virtual import Network, run_virtually

SLOT = SlotId("gpu0")
WAITER_TTL_S = 3600.0
AGES_S = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
"""When a waiter is told a time, seconds after it asked; the first is the immediate answer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A model: memory, how long loads and holds take (median, and the spread of their logarithms)."""

    memory_mib: int
    load_s: float
    load_spread: float
    hold_s: float
    hold_spread: float
    lease_limit: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Agents:
    """Sessions alike: how many, their models by weight, seconds between two turns."""

    count: int
    models: tuple[tuple[str, float], ...]
    think_s: float
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A workload."""

    models: dict[str, Kind]
    agents: tuple[Agents, ...]
    budget_mib: int = 24_000
    run_s: float = 3600.0


CHAT = Kind(memory_mib=8_000, load_s=4.0, load_spread=0.2, hold_s=6.0, hold_spread=0.7, lease_limit=4)
CODE = Kind(memory_mib=18_000, load_s=14.0, load_spread=0.3, hold_s=20.0, hold_spread=0.9)
BIG = Kind(memory_mib=22_000, load_s=35.0, load_spread=0.4, hold_s=45.0, hold_spread=0.8, lease_limit=1)
BATCH = Kind(memory_mib=16_000, load_s=10.0, load_spread=0.2, hold_s=120.0, hold_spread=1.0, lease_limit=1)
MIXES = {
    "two agents, two models": Mix(
        models={"chat": CHAT, "code": CODE},
        agents=(
            Agents(count=2, models=(("chat", 1.0),), think_s=15.0, priority=Priority.INTERACTIVE),
            Agents(count=2, models=(("code", 1.0),), think_s=30.0),
        ),
    ),
    "agents that switch": Mix(
        models={"chat": CHAT, "code": CODE, "big": BIG},
        agents=(Agents(count=4, models=(("chat", 5.0), ("code", 3.0), ("big", 1.0)), think_s=40.0),),
    ),
    "a crowd and a batch": Mix(
        models={"chat": CHAT, "code": CODE, "batch": BATCH},
        agents=(
            Agents(count=8, models=(("chat", 4.0), ("code", 1.0)), think_s=45.0, priority=Priority.INTERACTIVE),
            Agents(count=1, models=(("batch", 1.0),), think_s=120.0, priority=Priority.BATCH),
        ),
    ),
    "too much": Mix(
        models={"chat": CHAT, "code": CODE, "big": BIG},
        agents=(
            Agents(count=6, models=(("chat", 1.0), ("code", 1.0)), think_s=10.0),
            Agents(count=2, models=(("big", 1.0),), think_s=20.0, priority=Priority.BACKGROUND),
        ),
    ),
}


@dataclass(slots=True)
class Told:
    """One time that was told, and what came of it."""

    age_s: float
    model: str
    forecast: Forecast | None
    actual_s: float = math.nan

    @property
    def held(self) -> bool:
        """Was the grant within the interval? As the API rounds it, to a tenth of a second."""
        assert self.forecast is not None
        low_s, high_s = round(self.forecast.low_s or 0.0, 1), round(self.forecast.high_s or 0.0, 1)
        return low_s - 0.1 <= self.actual_s <= high_s + 0.1

    @property
    def width_s(self) -> float:
        """Of the interval."""
        assert self.forecast is not None
        return (self.forecast.high_s or 0.0) - (self.forecast.low_s or 0.0)


@dataclass(slots=True)
class Played:
    """All that was told in one run."""

    told: list[Told] = field(default_factory=list)


def _drawn(rng: random.Random, median_s: float, spread: float) -> float:
    return median_s * math.exp(rng.gauss(0.0, spread))


class Play:
    """One run."""

    def __init__(self, mix: Mix, seed: int) -> None:
        self.mix, self.rng = mix, random.Random(seed)
        loop = asyncio.get_running_loop()
        self.clock: Callable[[], float] = loop.time
        self.store = MemoryStore(clock=lambda: 1_000_000.0 + loop.time(), run="run-0")
        self.settings = PoolSettings(
            models=tuple(
                ModelSettings(name=ModelName(name), memory_mib=kind.memory_mib, lease_limit=kind.lease_limit)
                for name, kind in mix.models.items()
            )
        )
        self.scheduler = Scheduler(
            self.store,
            pool=self.settings,
            policy=PolicySettings(),
            activity=Activity(),
            metrics=Metrics(),
            new_key=lambda: f"key-{self.rng.getrandbits(40):x}",
            clock=self.clock,
        )
        self.forecasts = Forecasts(last=lambda: self.scheduler.last, policy=PolicySettings(), clock=self.clock)
        self.played = Played()

    async def run(self) -> Played:
        """Play it."""
        await self.store.init(self.settings)
        lives = [self._broker(), self._events(), self._worker().run()]
        number = 0
        for agents in self.mix.agents:
            for _ in range(agents.count):
                number += 1
                lives.append(self._agent(f"agent-{number}", agents))
        tasks = [asyncio.create_task(life) for life in lives]
        await asyncio.sleep(self.mix.run_s)
        failed = [task for task in tasks if task.done()]
        assert not failed, failed[0].exception()
        return self.played

    async def _broker(self) -> None:
        while True:
            await self.scheduler.step()

    async def _events(self) -> None:
        seen = await self.store.last_event_id()
        while True:
            for event in await self.store.events(seen, block_s=1.0, limit=1000):
                self.scheduler.note(event)
                self.forecasts.note(event)
                seen = event.event_id

    def _worker(self) -> Worker:
        kinds, rng = self.mix.models, random.Random(self.rng.getrandbits(32))
        return Worker(
            SLOT,
            Machine(servers={}),
            self.store,
            Network(),
            rng,
            memory_mib={name: kind.memory_mib for name, kind in kinds.items()},
            budget_mib=self.mix.budget_mib,
            fails=0.0,
            changed=lambda: None,
            load_s=lambda name: _drawn(rng, kinds[name].load_s, kinds[name].load_spread),
        )

    async def _agent(self, name: str, agents: Agents) -> None:
        rng = random.Random(f"{name}/{self.rng.getrandbits(32)}")
        models, weights = zip(*agents.models, strict=True)
        await asyncio.sleep(rng.uniform(0.0, agents.think_s))
        count = 0
        while True:
            count += 1
            (model,) = rng.choices(models, weights)
            record = await self._granted(name, f"{name}-{count}", model, agents.priority)
            kind = self.mix.models[model]
            await asyncio.sleep(_drawn(rng, kind.hold_s, kind.hold_spread))
            await self.store.release(record.lease_id, record.nonce, who="agent")
            await asyncio.sleep(rng.expovariate(1.0 / agents.think_s))

    async def _granted(self, session: str, lease: str, model: str, priority: Priority) -> LeaseRecord:
        request = AcquireRequest(
            lease_id=LeaseId(lease),
            nonce=Nonce("n"),
            session=session,
            model=ModelName(model),
            priority=priority,
            ttl_s=3600.0,
            waiter_ttl_s=WAITER_TTL_S,
            single=True,
        )
        record, asked_s = await self.store.acquire(request), self.clock()
        mine: list[Told] = []
        for age_s, until_s in zip(AGES_S, (*AGES_S[1:], math.inf), strict=True):
            if record.state is not LeaseState.QUEUED:
                break
            mine.append(Told(age_s, model, self._forecast(record)))
            while record.state is LeaseState.QUEUED and self.clock() - asked_s < until_s:
                await asyncio.sleep(0.1)
                record = await self.store.poll(request.lease_id, waiter_ttl_s=WAITER_TTL_S)
        for told in mine:
            told.actual_s = self.clock() - asked_s - told.age_s
        self.played.told += mine
        return record

    def _forecast(self, record: LeaseRecord) -> Forecast | None:
        return self.forecasts.of(record)


def played(mix: Mix, seed: int) -> Played:
    """One run under the virtual clock."""

    async def main() -> Played:
        return await Play(mix, seed).run()

    return run_virtually(main())


@dataclass(frozen=True, slots=True)
class Truth:
    """Sums over what was told."""

    waits: int
    told: int
    known: float
    first: float
    later: float
    width_s: float
    """Median width of the interval."""
    wait_s: float
    """Median wait, from when the time was told."""

    @property
    def line(self) -> str:
        """For a table."""
        shares = " | ".join(f"{100 * share:.0f} %" for share in (self.known, self.first, self.later))
        return f"{self.waits} | {shares} | {self.width_s:.0f} s | {self.wait_s:.0f} s"


def truth(told: Iterable[Told]) -> Truth:
    """How often the interval held: of the immediate answers, and of later ones."""
    everything = list(told)
    known = [one for one in everything if one.forecast is not None and one.forecast.eta_s is not None]
    first = [one.held for one in known if one.age_s == 0.0]
    later = [one.held for one in known if one.age_s > 0.0]
    return Truth(
        waits=sum(one.age_s == 0.0 for one in everything),
        told=len(everything),
        known=len(known) / max(1, len(everything)),
        first=sum(first) / max(1, len(first)),
        later=sum(later) / max(1, len(later)),
        width_s=statistics.median([one.width_s for one in known] or [0.0]),
        wait_s=statistics.median([one.actual_s for one in known] or [0.0]),
    )


def main() -> int:
    """Play all mixes, print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.etas", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    given = parser.parse_args()
    write = sys.stdout.write
    write("| mix | waits | with a time | held, immediate answer | held, later | median interval | median wait |\n")
    write("| --- | --- | --- | --- | --- | --- | --- |\n")
    everything: list[Told] = []
    for name, mix in MIXES.items():
        told = [t for seed in range(given.first_seed, given.first_seed + given.seeds) for t in played(mix, seed).told]
        everything += told
        write(f"| {name} | {truth(told).line} |\n")
    write(f"| **all** | {truth(everything).line} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
