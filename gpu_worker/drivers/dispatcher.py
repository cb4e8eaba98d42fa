"""Takes a slot's words to its drivers: to the one that the model's entry names, only what it can, within a deadline."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any

from gpu_worker.drivers.failing import Failing
from gpu_worker.drivers.port import (
    Capability,
    Driver,
    IncapableError,
    Launch,
    LoadError,
    ParkError,
    Recipe,
    RecipeInspection,
    Server,
    StuckError,
)

log = logging.getLogger(__name__)


class Dispatcher:
    """Holds the drivers of one worker by name, and speaks to them."""

    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self._drivers = dict(drivers)

    def can(self, recipe: Recipe, capability: Capability) -> bool:
        """Does the model's driver state it?"""
        return capability in self._drivers[recipe.driver].capabilities

    def server(self, launch: Launch) -> Server:
        """Make a server that is not started yet."""
        return self._drivers[launch.recipe.driver].server(launch)

    def inspect(self, recipe: Recipe) -> RecipeInspection:
        """Look at what a model is made of; may block."""
        return self._drivers[recipe.driver].inspect(recipe)

    # -------------------------------------------------------------------------------------------------- all of them

    async def prepare(self) -> None:
        """Let each do ahead of time what a start would have to wait for."""
        for driver in self._drivers.values():
            with suppress(OSError):  # a load says it better when there really is no process to be had
                await driver.prepare()

    async def adopt(self, slot: str, recipes: Iterable[Recipe]) -> list[Server]:
        """Let each look for what it left on the slot, also those of which the catalogue has no model now.

        Raises:
            StuckError: Something cannot be killed; the others were asked all the same.
        """
        known, found, stuck = list(recipes), list[Server](), list[str]()
        for name, driver in self._drivers.items():
            if Capability.ADOPT not in driver.capabilities:
                continue
            try:
                found += await driver.adopt(slot, [recipe for recipe in known if recipe.driver == name])
            except StuckError as error:
                stuck.append(str(error))
        if stuck:
            raise StuckError("; ".join(stuck))
        return found

    async def close(self) -> None:
        """Close every driver, also where one of them fails at it."""
        for name, driver in self._drivers.items():
            try:
                await driver.close()
            except Exception:  # the worker ends, and the others' servers have a grace too
                log.exception("driver_not_closed", extra={"driver": name})

    # --------------------------------------------------------------------------------------------------- one server

    async def start(self, server: Server) -> None:
        """Start it within ``load_timeout_s`` of its model.

        Raises:
            LoadError: It could not be started.
        """
        within_s = server.launch.recipe.load_timeout_s
        try:
            async with asyncio.timeout(within_s):
                await server.start()
        except TimeoutError:
            raise LoadError(f"load_timeout: not started after {within_s:g} s", Failing.PASSING) from None

    async def park(self, server: Server, within_s: float) -> None:
        """Take its weights off the device.

        Raises:
            IncapableError: Its driver cannot; it was not asked.
            ParkError: It was not parked in time, or not at all.
        """
        await self._within(within_s, "parked", self._asked(server, Capability.PARK).park())

    async def wake(self, server: Server, within_s: float) -> None:
        """Put its weights back.

        Raises:
            IncapableError: Its driver cannot; it was not asked.
            ParkError: It was not woken in time, or not at all.
        """
        await self._within(within_s, "woken", self._asked(server, Capability.PARK).wake())

    def progress_percent(self, server: Server) -> int:
        """Tell how far its load has come, 0 to 99; 0 where its driver does not."""
        return server.progress_percent() if self.can(server.launch.recipe, Capability.PROGRESS) else 0

    def footprint_mib(self, server: Server) -> int:
        """Tell what it says to hold of the device, MiB; 0 where its driver does not."""
        return server.footprint_mib() if self.can(server.launch.recipe, Capability.FOOTPRINT) else 0

    def _asked(self, server: Server, capability: Capability) -> Server:
        recipe = server.launch.recipe
        if not self.can(recipe, capability):
            raise IncapableError(f"the {recipe.driver} driver cannot {capability}")
        return server

    @staticmethod
    async def _within(within_s: float, done: str, verb: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(within_s):
                await verb
        except TimeoutError:
            raise ParkError(f"not {done} within {within_s:g} s") from None
