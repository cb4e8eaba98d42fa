"""Past days in this process's memory; see ``days``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from broker.store.days import Batch
from broker.store.labels import to_ms


@dataclass(slots=True)
class _Day:
    counts: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    """Of the last batch, by source."""
    until_ms: int = 0


class MemoryDays:
    """One pool's. ``wall_ms`` raises where the pool is not initialised."""

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._days: dict[str, _Day] = {}

    def flush(self) -> None:
        """Lose everything."""
        self._days.clear()

    async def add(self, batch: Batch, *, kept_s: float) -> None:
        """See the port."""
        now_ms = self._forget()
        day = self._days.setdefault(batch.day, _Day())
        if day.numbers.get(batch.source, 0) >= batch.number:
            return
        day.numbers[batch.source] = batch.number
        day.until_ms = now_ms + to_ms(kept_s, "kept")
        for name, by in batch.counts.items():
            day.counts[name] = day.counts.get(name, 0) + by

    async def read(self, day: str) -> Mapping[str, int]:
        """See the port."""
        self._forget()
        found = self._days.get(day)
        return {} if found is None else dict(found.counts)

    def _forget(self) -> int:
        now_ms = self._wall_ms()
        self._days = {name: day for name, day in self._days.items() if day.until_ms > now_ms}
        return now_ms
