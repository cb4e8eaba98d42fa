"""What streams are in Redis, in memory: a log with ids, the ingress inbox; and orders as a worker reads them."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from broker.pool.records.rows import OrdersRow
from broker.store.port import MAX_ENTRY, MAX_READ, REJECTED_KEPT, IngressEntry
from schemas.messages import Orders, Want

T = TypeVar("T")


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

    def take(self, entries: list[T]) -> None:
        """Add all of them, in order; the list is empty afterwards."""
        for entry in entries:
            self.append(entry)
        entries.clear()

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
            async with asyncio.timeout(block_s):  # wait_for drops a cancellation that meets an entry (Python 3.11)
                await waiter
        except TimeoutError:
            return []
        finally:
            self._waiters.discard(waiter)
        return self.after(entry_id, limit)


class IngressInbox:
    """``P:ingress``: what is done is gone, so the rest is what is to be done, in order."""

    def __init__(self) -> None:
        self._log: Log[dict[str, str]] = Log(100_000)
        self._seen = "0-0"
        self._open: dict[str, IngressEntry] = {}
        self.rejected: deque[IngressEntry] = deque(maxlen=REJECTED_KEPT)

    def add(self, fields: dict[str, str]) -> str:
        """Publish an entry."""
        entry_id = self._log.append(fields)
        self._open[entry_id] = IngressEntry(entry_id=entry_id, fields=fields)
        return entry_id

    def __len__(self) -> int:
        return len(self._open)

    async def read(self, *, block_s: float, limit: int) -> Sequence[IngressEntry]:
        """The oldest entries that are not done."""
        if not self._open:
            await self._log.read(self._seen, block_s=block_s, limit=1)
        found: list[IngressEntry] = []
        size = 0
        for entry in self._open.values():
            if len(found) >= limit or size >= MAX_READ:
                break
            of_one = sum(len(word.encode()) for field in entry.fields.items() for word in field)
            found.append(entry if of_one <= MAX_ENTRY else replace(entry, fields={}, oversize=of_one))
            size += of_one
        self._seen = found[-1].entry_id if found else self._seen
        return found

    def has(self, entry: IngressEntry) -> bool:
        """Was it not carried out or set aside yet?"""
        return entry.entry_id in self._open

    def done(self, entry: IngressEntry) -> None:
        """Remove it."""
        self._open.pop(entry.entry_id, None)

    def reject(self, entry: IngressEntry, why: str) -> None:
        """Set it aside."""
        self.rejected.append(replace(entry, fields={**entry.fields, "why": why}))
        self.done(entry)


def orders_of(row: OrdersRow | None) -> Orders:
    """A slot's orders in the worker's words."""
    if row is None:
        return Orders()
    wants = tuple(
        Want(model=model, generation=gen, key=key, depth=depth, prove=row.proofs.get(model, 0))
        for model, (gen, key, depth) in sorted(row.wants.items())
    )
    return Orders(
        incarnation=row.inc,
        epoch=row.epoch,
        boot=row.boot,
        generation=row.gen,
        refused=row.refused,
        holder=row.holder,
        wants=wants,
    )
