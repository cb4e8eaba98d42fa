"""What the store keeps of past days: counters, added up by every broker, for `hotseat report`.

Two answers exist, ``memory.days`` and ``redis.days``; one contract suite asks both. Every method is one atomic step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

SOURCE = "from|"
"""Before a broker's name: the field with the number of its last batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one broker counted since its last batch."""

    day: str
    """UTC, ``2026-11-21``."""
    source: str
    """The broker's process, never the same twice."""
    number: int
    """Grows with every batch of a source."""
    counts: Mapping[str, int]
    """Field and how much to add."""


class Days(Protocol):
    """The days of one pool."""

    async def add(self, batch: Batch, *, kept_s: float) -> None:
        """Add a batch to its day; one that was added already is not added again.

        Args:
            batch: Not empty.
            kept_s: The day is forgotten so long after its last batch, seconds.

        Raises:
            StoreUnavailableError: It may have been added; give it again, as it is.
        """

    async def read(self, day: str) -> Mapping[str, int]:
        """The day's counters; empty where nothing is known of it."""
