"""Looks at the store's server now and then: what about it is unwise, and does it still have this broker's library?"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from broker.core.errors import NewerLibraryError
from broker.store.port import Store

log = logging.getLogger("hotseat.store")

PAUSE_S = 10.0
"""Pause between two looks, seconds."""


@dataclass(slots=True)
class StoreWatch:
    """One broker's watch over its store."""

    store: Store
    also: Callable[[], Sequence[str]] = tuple
    """Returns what else is unwise about what is found there, for people."""
    pause_s: float = PAUSE_S
    warnings: tuple[str, ...] = ()
    """What was unwise at the last look, for people."""
    superseded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the store has a newer library: whoever calls it with this one's arguments does harm."""

    def note(self, error: NewerLibraryError) -> None:
        """Note that a newer library was found: this broker stops."""
        log.critical("library_newer", extra={"detail": str(error)})
        self.superseded.set()

    async def step(self) -> None:
        """Look once, and pause.

        Raises:
            LibraryError: A newer library, or somebody else's, is there.
            StoreUnavailableError: It could not be looked at.
        """
        try:
            found = (*await self.store.advice(), *self.also())
        except NewerLibraryError as error:
            self.note(error)
            raise
        for warning in found:
            if warning not in self.warnings:
                log.warning("store_unwise", extra={"detail": warning})
        for warning in self.warnings:
            if warning not in found:
                log.info("store_mended", extra={"detail": warning})
        self.warnings = found
        await asyncio.sleep(self.pause_s)
