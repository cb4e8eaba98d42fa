"""Looks at the store's server now and then: what about it is unwise, and does it still have this broker's library?"""

import asyncio
import logging
from dataclasses import dataclass, field

from broker.core.errors import NewerLibraryError
from broker.store.port import Store

log = logging.getLogger("hotseat.store")

PAUSE_S = 10.0
"""Between two looks."""


@dataclass(slots=True)
class StoreWatch:
    """One broker's."""

    store: Store
    pause_s: float = PAUSE_S
    warnings: tuple[str, ...] = ()
    """What is unwise now, for people."""
    superseded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the store has a newer library: whoever calls it with this one's arguments does harm."""

    def note(self, error: NewerLibraryError) -> None:
        """A newer library was found: this broker stops."""
        log.critical("library_newer", extra={"detail": str(error)})
        self.superseded.set()

    async def step(self) -> None:
        """One look, and a pause.

        Raises:
            LibraryError: A newer library, or somebody else's, is there.
            StoreUnavailableError: It could not be looked at.
        """
        try:
            found = tuple(await self.store.advice())
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
