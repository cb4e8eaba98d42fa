"""What streams are in Redis, in memory: a log with ids, the ingress inbox; and reports as the core sees them."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from broker.core.lease import ModelName
from broker.core.pool_slots import Observation, Seen
from broker.store.port import IngressEntry
from schemas.messages import Report

T = TypeVar("T")

TAKEN_OVER_AFTER_S = 30.0
"""An ingress entry that its consumer did not finish in this time goes to another one."""
REJECTED_KEPT = 1000


class Log(Generic[T]):
    """Entries with ids ``1-0``, ``2-0`` …; readers wait for the next one."""

    def __init__(self, kept: int) -> None:
        self._entries: deque[tuple[int, T]] = deque(maxlen=kept)
        self._number = 0
        self._waiters: set[asyncio.Future[None]] = set()

    def append(self, entry: T) -> str:
        """Add one and wake every reader."""
        self._number += 1
        self._entries.append((self._number, entry))
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        return f"{self._number}-0"

    @property
    def last_id(self) -> str:
        """Of the newest entry ever; ``0-0`` when there was none."""
        return f"{self._number}-0"

    @property
    def first_id(self) -> str:
        """Of the oldest entry kept; ``0-0`` when there is none."""
        return f"{self._entries[0][0]}-0" if self._entries else "0-0"

    def after(self, entry_id: str, limit: int) -> list[tuple[str, T]]:
        """Entries with a higher id, oldest first."""
        position = int(entry_id.split("-", maxsplit=1)[0])
        missing = self._number - position
        if missing <= 0 or not self._entries:
            return []
        start = max(len(self._entries) - missing, 0)
        stop = min(start + limit, len(self._entries))
        return [(f"{number}-0", entry) for number, entry in (self._entries[index] for index in range(start, stop))]

    async def read(self, entry_id: str, *, block_s: float, limit: int) -> list[tuple[str, T]]:
        """As ``after``, waiting up to ``block_s`` for the first."""
        found = self.after(entry_id, limit)
        if found or block_s <= 0:
            return found
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait_for(waiter, block_s)
        except TimeoutError:
            return []
        finally:
            self._waiters.discard(waiter)
        return self.after(entry_id, limit)


@dataclass(slots=True)
class _Taken:
    entry: IngressEntry
    consumer: str
    since_s: float


class Inbox:
    """``P:ingress`` with one consumer group."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._log: Log[dict[str, str]] = Log(100_000)
        self._read = "0-0"
        self._taken: dict[str, _Taken] = {}
        self._open: set[str] = set()
        self.rejected: deque[IngressEntry] = deque(maxlen=REJECTED_KEPT)

    def add(self, fields: dict[str, str]) -> str:
        """Publish an entry."""
        entry_id = f"{int(self._log.last_id.split('-')[0]) + 1}-0"
        self._open.add(entry_id)
        return self._log.append(fields)

    async def take(self, consumer: str, *, block_s: float, limit: int) -> Sequence[IngressEntry]:
        """Entries nobody has, and ones somebody took and did not finish."""
        now_s = self._clock()
        late = [taken for taken in self._taken.values() if now_s - taken.since_s >= TAKEN_OVER_AFTER_S][:limit]
        for taken in late:
            taken.consumer, taken.since_s = consumer, now_s
        if late:
            return [taken.entry for taken in late]
        fresh = []
        for entry_id, fields in await self._log.read(self._read, block_s=block_s, limit=limit):
            entry = IngressEntry(entry_id=entry_id, fields=fields)
            self._read = entry_id
            self._taken[entry_id] = _Taken(entry, consumer, self._clock())
            fresh.append(entry)
        return fresh

    def has(self, entry: IngressEntry) -> bool:
        """Was it not carried out or set aside yet?"""
        return entry.entry_id in self._open

    def done(self, entry: IngressEntry) -> None:
        """Remove it."""
        self._open.discard(entry.entry_id)
        self._taken.pop(entry.entry_id, None)

    def reject(self, entry: IngressEntry, why: str) -> None:
        """Set it aside."""
        self.rejected.append(IngressEntry(entry_id=entry.entry_id, fields={**entry.fields, "why": why}))
        self.done(entry)


def observation_of(report: Report) -> Observation:
    """A report in the core's words."""
    return Observation(
        worker=report.worker,
        boot=report.boot,
        inc=report.incarnation,
        epoch=report.epoch,
        hw=report.high_water,
        beat=report.beat,
        budget_mib=report.budget_mib,
        total_mib=report.total_mib,
        free_mib=report.free_mib,
        foreign_mib=report.foreign_mib,
        foreign=report.foreign,
        serves=tuple(ModelName(model) for model in report.serves),
        fault=report.fault,
        models={
            ModelName(one.model): Seen(
                state=one.state.value,
                gen=one.generation,
                url=one.url,
                progress=one.progress,
                mib=one.memory_mib,
                took_ms=one.took_ms,
                error=one.error,
            )
            for one in report.residencies
        },
    )
