"""The ``attach`` driver, for tests: takes a model server that runs already and lets go of it at the unload.

As small as a driver gets, and whole: this file and its name in ``schemas/config/drivers.py``. It parks by vLLM's routes
(docs.vllm.ai, *Sleep Mode*: ``POST /sleep``, ``POST /wake_up``). A server that is there before its load cannot know the
load's key, so nothing here is fenced: no driver for people.
"""

import asyncio
import hashlib
from typing import ClassVar

import httpx
from pydantic import field_validator

from gpu_worker.drivers.failing import Failing, ProcessEnd
from gpu_worker.drivers.port import (
    Address,
    Capability,
    Driver,
    DriverEntry,
    DriverSettings,
    Launch,
    LoadError,
    ParkError,
    Recipe,
    RecipeInspection,
    Server,
)
from schemas.config.source import Section

LOOK_S = 0.1


class AttachSection(Section):
    """``[model.attach]``."""

    url: str
    """Of the server: ``http://HOST:PORT``."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        return str(Address(url))


class AttachedServer(Server):
    """Somebody else's server, while it is ours."""

    def __init__(self, launch: Launch) -> None:
        assert isinstance(launch.recipe.own, AttachSection)
        self._launch, self._address = launch, Address(launch.recipe.own.url)
        self._let_go = asyncio.Event()
        self._mib = 0

    @property
    def launch(self) -> Launch:
        return self._launch

    @property
    def address(self) -> Address:
        return self._address

    @property
    def url(self) -> str:
        return f"{self._address}/v1"

    async def start(self) -> None:
        if self._let_go.is_set():
            raise LoadError("it was let go of", Failing.PASSING)
        try:
            await self._look()
        except httpx.HTTPError as error:
            raise LoadError(f"nobody answers at {self._address}: {error}", Failing.HOST) from error

    def is_there(self) -> bool:
        return not self._let_go.is_set()  # whoever listens at an address that the operator wrote down is meant

    async def ended(self) -> ProcessEnd:
        while not self._let_go.is_set():
            try:
                await self._look()
            except httpx.HTTPError as error:
                return ProcessEnd(told=f"does not answer: {type(error).__name__}")
            await asyncio.sleep(LOOK_S)
        return ProcessEnd(told="was let go of")

    async def stop(self, grace_s: float) -> None:
        self._let_go.set()

    def pids(self) -> set[int]:
        return set()

    def worked_s(self) -> float | None:
        return None

    def last_words(self) -> str:
        return ""

    async def park(self) -> None:
        await self._tell("/sleep?level=1")

    async def wake(self) -> None:
        await self._tell("/wake_up")

    def footprint_mib(self) -> int:
        return self._mib

    async def _tell(self, path: str) -> None:
        try:
            await self._ask("POST", path)
            await self._look()
        except httpx.HTTPError as error:
            raise ParkError(f"{path}: {error}") from error

    async def _look(self) -> None:
        self._mib = (await self._ask("GET", "/footprint")).json()["mib"]

    async def _ask(self, method: str, path: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=None, verify=False, trust_env=False) as client:
            answer = await client.request(method, f"{self._address}{path}")
            return answer.raise_for_status()


class AttachDriver(Driver):
    """Knows nothing but addresses."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PARK, Capability.FOOTPRINT})

    def server(self, launch: Launch) -> Server:
        return AttachedServer(launch)

    def inspect(self, recipe: Recipe) -> RecipeInspection:
        return RecipeInspection(stamp=hashlib.sha256(repr(recipe).encode()).hexdigest()[:16])


def _make(_: DriverSettings) -> Driver:
    return AttachDriver()


DRIVER = DriverEntry(make=_make, section=AttachSection)
