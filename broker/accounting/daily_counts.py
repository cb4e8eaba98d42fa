"""What a broker did, counted by UTC day, on its way to the store.

Rule: counts wait here in memory until the next batch leaves, every few seconds; what a killed process had not sent is
lost, and nothing is ever added twice. A new thing to count is a row of ``COUNTS`` or ``TIMES`` and a call where it
happens; the report shows it as soon as it was counted once.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from broker.store.days import Batch, Days

log = logging.getLogger("hotseat.daybook")

COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "requests": ("route", "reason"),
    "outcomes": ("route", "outcome"),
    "retries": ("model",),
    "tokens": ("route", "model", "kind"),
    "loads": ("model", "why"),
    "failedLoads": ("model",),
    "swaps": ("model",),
    "semanticFailures": ("route", "model", "reason"),
    "costMicro": ("upstream", "model"),
    "savedMicro": ("model",),
}
"""What is counted, and by which labels. ``swaps`` are the loads that evicted another model.
Money is in millionths of the prices' currency."""
TIMES: Final[Mapping[str, tuple[str, ...]]] = {
    "wait": ("model",),
    "firstByte": ("route", "model"),
    "firstToken": ("model",),
    "load": ("model",),
}
"""What is measured in seconds, and by which labels."""
BUCKETS_MS: Final[tuple[int, ...]] = tuple(
    tenths * 10**power // 10 for power in range(7) for tenths in (10, 15, 20, 30, 40, 50, 70) if power or tenths != 15
)
"""Upper bounds, milliseconds, up to two hours. From 2 ms on a percentile is at most half too large or a third too
small."""
BEYOND = "+"
MAX_FIELDS = 4000
"""Fields kept of one day in one process; what comes beyond is dropped, and the log says so once a day."""
MAX_DAYS = 3
"""Days kept while the store is away; the oldest is dropped."""
DAY_S = 86_400.0
LAST_S = 2.0
"""How long sending the last batch may take when the process ends, seconds."""


class DailyCounts:
    """The counts of one broker process that have not reached the store yet."""

    def __init__(self, days: Days, *, source: str, every_s: float, kept_s: float, unix_s: Callable[[], float]) -> None:
        self._days = days
        self._source = source
        self._every_s = every_s
        self._kept_s = kept_s
        self._unix_s = unix_s
        self._number = 0
        self._waiting: dict[str, dict[str, int]] = {}
        self._leaving: Batch | None = None
        self._one_at_a_time = asyncio.Lock()
        self._full: str | None = None
        self._day, self._day_number = "", -1.0

    # ---------------------------------------------------------------------------------------------------- counting
    def count(self, kind: str, *labels: str, by: int = 1) -> None:
        """Count something of ``COUNTS``, with its labels in their order."""
        assert len(labels) == len(COUNTS[kind])
        self._add(field_of(kind, *labels), by)

    def took(self, kind: str, *labels: str, seconds: float) -> None:
        """Note that something of ``TIMES`` took so long."""
        assert len(labels) == len(TIMES[kind])
        at = bisect_left(BUCKETS_MS, seconds * 1000)
        bound = str(BUCKETS_MS[at]) if at < len(BUCKETS_MS) else BEYOND
        self._add(field_of(kind, *labels, bound), 1)

    def _add(self, field: str, by: int) -> None:
        day = self.today()
        counts = self._waiting.get(day)
        if counts is None:
            if len(self._waiting) >= MAX_DAYS:
                lost = next(iter(self._waiting))
                del self._waiting[lost]
                log.warning("day_dropped", extra={"day": lost})
            counts = self._waiting[day] = {}
        if field in counts or len(counts) < MAX_FIELDS:
            counts[field] = counts.get(field, 0) + by
        elif self._full != day:
            self._full = day
            log.warning("daybook_full", extra={"day": day, "fields": MAX_FIELDS})

    def today(self) -> str:
        """Return the current UTC day as ``YYYY-MM-DD``."""
        number = self._unix_s() // DAY_S
        if number != self._day_number:
            self._day_number = number
            self._day = datetime.fromtimestamp(number * DAY_S, UTC).strftime("%Y-%m-%d")
        return self._day

    # --------------------------------------------------------------------------------------------------- to the store
    async def step(self) -> None:
        """Wait, then send what there is."""
        await asyncio.sleep(self._every_s)
        await self.send()

    async def send(self) -> None:
        """Send what there is.

        Raises:
            StoreUnavailableError: It stays here; the batch that was on its way leaves again as it is.
        """
        async with self._one_at_a_time:
            while (batch := self._next()) is not None:
                await self._days.add(batch, kept_s=self._kept_s)
                self._leaving = None

    async def close(self) -> None:
        """Send the last batch; what the store does not take in time is lost."""
        try:
            async with asyncio.timeout(LAST_S):
                await self.send()
        except Exception as error:  # noqa: BLE001  nothing of this may stop the process from ending
            log.warning("daybook_lost", extra={"error": type(error).__name__})

    def _next(self) -> Batch | None:
        if self._leaving is None and self._waiting:
            day = next(iter(self._waiting))
            self._number += 1
            self._leaving = Batch(day=day, source=self._source, number=self._number, counts=self._waiting.pop(day))
        return self._leaving


@lru_cache(maxsize=4096)
def field_of(kind: str, *labels: str) -> str:
    """Name the stored field; what is no plain word in a label is percent-encoded."""
    return "|".join((kind, *(quote(label, safe="._:/@-+") for label in labels)))


def day_words_of(field: str) -> tuple[str, tuple[str, ...]]:
    """Take a stored field apart into what was counted and its labels (the last label of ``TIMES`` is the bucket)."""
    kind, *labels = field.split("|")
    return kind, tuple(map(unquote, labels))
