"""This broker's life in the store: begun at its start, told every second, said goodbye to at its end.

Rule: what this process serves belongs to its life, so that it ends with the process and not minutes later. A process
that was only away (paused, cut off from the store) finds that its life is over: everything that belonged to it has
ended and is let go of at once, and a new life begins, with which nothing of the old one is believed.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from broker.core.errors import LifeEndedError, StoreUnavailableError
from broker.core.lease import LifeId
from broker.store.port import Event, Store

log = logging.getLogger("hotseat.life")

BEATS_PER_SILENCE = 3
TRIES_PER_SILENCE = 12
"""While the store does not answer."""


@dataclass(slots=True, kw_only=True)
class BrokerLife:
    """One process's lives, one after the other."""

    store: Store
    name: str
    """Name of this broker among those on one store; the same after a restart."""
    new_boot: Callable[[], str]
    silence_s: float
    """A life whose beats are missed for so long is over."""
    listeners: list[Callable[[LifeId], None]] = field(default_factory=list)
    """Told of a life that is over, as soon as it is known."""
    _now: LifeId | None = None
    _has_started: bool = False
    _beginning: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def now(self) -> LifeId:
        """The life that new leases belong to; begins one where there is none.

        Raises:
            StoreUnavailableError, StoreUninitialisedError
        """
        return self._now or await self._begin()

    async def _begin(self) -> LifeId:
        async with self._beginning:
            if self._now is not None:
                return self._now
            life = LifeId(f"{self.name}/{self.new_boot()}")
            if self._has_started:
                await self.store.rejoin(life)
            else:
                await self.store.begin_life(life)
            self._now, self._has_started = life, True
            log.info("life_begun", extra={"life": life})
            return life

    async def step(self) -> None:
        """Say that it lives, and sleep until that is due again.

        A store that was away must hear of it soon after it is back: whoever is there before us begins to miss us. So it
        is tried again without the pause of other loops, which grows; they tell the operator.
        """
        try:
            life = await self.now()
            await self.store.beat(life)
        except LifeEndedError:
            if self._now is not None:
                self.is_over(self._now, "over")
        except StoreUnavailableError:
            await asyncio.sleep(self.silence_s / TRIES_PER_SILENCE)
        else:
            await asyncio.sleep(self.silence_s / BEATS_PER_SILENCE)

    def is_over(self, life: LifeId, why: str) -> None:
        """The store says so; the next lease, or the next beat, begins another. Safe to repeat."""
        if self._now != life:
            return
        self._now = None
        extra = {"life": life, "reason": why}
        if why == "superseded":
            log.critical("broker_name_taken", extra=extra | {"action": "give each broker a gateway.name of its own"})
        else:
            log.error("life_lost", extra=extra)
        for listener in self.listeners:
            listener(life)

    def note(self, event: Event) -> None:
        """Listen to the event stream: the next beat alone would notice a second late."""
        if event.kind == "broker" and event.fields.get("to") == "gone":
            life = LifeId(event.fields.get("who", "").removeprefix("broker:"))
            self.is_over(life, event.fields.get("why", ""))

    async def close(self) -> None:
        """Say goodbye; a store that does not answer will miss the beats."""
        life, self._now = self._now, None
        if life is not None:
            try:
                await self.store.end_life(life)
            except StoreUnavailableError:
                log.warning("goodbye_unheard", extra={"life": life})
