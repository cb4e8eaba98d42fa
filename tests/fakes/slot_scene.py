"""One slot of a worker without a socket, a process or a wait: what is around its loop, by hand, on a virtual clock.

Of the worker everything is real but the ends of it: servers that live in memory and talk over a pair of streams, a
device whose memory they hold, and a store that is one value.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from gpu_worker.drivers.dispatcher import Dispatcher
from gpu_worker.drivers.failing import ProcessEnd
from gpu_worker.drivers.inspector import Inspector
from gpu_worker.drivers.port import Address, Capability, Driver, Launch, Recipe, RecipeInspection, Server, StuckError
from gpu_worker.host.memory import MemorySettings, SlotMemory
from gpu_worker.host.nvml import DeviceMemory, DeviceProcess
from gpu_worker.slot.high_water import HighWater
from gpu_worker.slot.residency import Care
from gpu_worker.slot.settings import SlotSettings
from gpu_worker.slot.supervisor import Supervisor
from gpu_worker.store_port import StoreError
from schemas.messages import Orders, Report, Want

SLOT, BOOT, INCARNATION = "gpu0", "me", "inc1"
TOTAL_MIB = 1000
FOOTPRINT_MIB = 400


async def until(question: Callable[[], object], within_s: float = 600.0) -> None:
    """Let time pass until it is so."""
    async with asyncio.timeout(within_s):
        while not question():  # noqa: ASYNC110 - of virtual time there is enough
            await asyncio.sleep(0.01)


def recipe_of(model: str, **more: object) -> Recipe:
    """Two of these fit on the device, three do not."""
    plain: dict[str, object] = {
        "served_name": model,
        "kind": "chat",
        "memory_mib": FOOTPRINT_MIB,
        "stop_timeout_s": 7.0,
    }
    return Recipe(model=model, **(plain | more))  # type: ignore[arg-type]


class MemoryServer(Server):
    """A model server that answers as it is told to; its process is a number and holds memory of the device."""

    def __init__(self, launch: Launch, pid: int) -> None:
        self._launch, self.pid = launch, pid
        self.running = False
        self.healthy = True
        self.offers = launch.recipe.served_name
        self.token: str | None = "x"
        """What it generates; None: it takes the question and says nothing."""
        self.status = 200
        """Of its answers to questions."""
        self.stranger: Exception | None = None
        self.words = ""
        self.failure: Exception | None = None
        """Of the start."""
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.stuck = 0
        """How many attempts to end it fail."""
        self.started, self.graces, self.questions = 0, list[float](), list[tuple[str, str]]()
        self.worked: float | None = 0.0
        self.on_question: Callable[[str], object] = lambda _: None
        """Called with the path of each question, before it is answered."""
        self._end: asyncio.Future[ProcessEnd] = asyncio.get_running_loop().create_future()

    @property
    def launch(self) -> Launch:
        return self._launch

    @property
    def address(self) -> Address:
        return Address.at("127.0.0.1", self.pid)

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    async def start(self) -> None:
        self.started += 1
        self.running = True
        await self.may_start.wait()
        if self.failure is not None:
            self.running = False
            raise self.failure

    def is_there(self) -> bool:
        if self.stranger is not None:
            raise self.stranger
        return self.running

    async def ended(self) -> ProcessEnd:
        return await asyncio.shield(self._end)

    async def stop(self, grace_s: float) -> None:
        self.graces.append(grace_s)
        if self.stuck:
            self.stuck -= 1
            raise StuckError(f"pid {self.pid} survives SIGKILL")
        self.die(-9)

    def die(self, status: int, words: str = "") -> None:
        """End by itself, or by somebody's signal."""
        self.running, self.words = False, words or self.words
        if not self._end.done():
            self._end.set_result(ProcessEnd(status=status))

    def pids(self) -> set[int]:
        return {self.pid} if self.running else set()

    def worked_s(self) -> float | None:
        return self.worked

    def last_words(self) -> str:
        return self.words

    def answer(self, path: str) -> tuple[int, object] | None:
        """Status and body, as llama.cpp's server has them; None while it is silent."""
        if path == "/health":
            return (200 if self.healthy else 503), {}
        if path == "/v1/models":
            return 200, {"data": [{"id": self.offers}]}
        if self.token is None:
            return None
        return self.status, {"choices": [{"text": self.token, "message": {"content": self.token}}]}


class MemoryWriter:
    """The writing end of a connection to a server in memory; the answer lies in the reader at once."""

    def __init__(self, server: MemoryServer, reader: asyncio.StreamReader) -> None:
        self._server, self._reader = server, reader

    def write(self, request: bytes) -> None:
        head = request.split(b"\r\n\r\n")[0].decode().split("\r\n")
        path = head[0].split()[1]
        self._server.questions.append((path, next(line for line in head if line.startswith("Authorization"))))
        self._server.on_question(path)
        answer = self._server.answer(path)
        if answer is None:
            return
        status, body = answer
        payload = json.dumps(body).encode()
        self._reader.feed_data(b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n" % (status, len(payload)) + payload)

    def close(self) -> None:
        return

    async def wait_closed(self) -> None:
        return


class MemoryDriver(Driver):
    """Makes them, and finds those that a former worker left."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.ADOPT})

    def __init__(self) -> None:
        self.servers: list[MemoryServer] = []
        self.left: list[MemoryServer] = []
        """To be adopted."""
        self.strays: StuckError | None = None
        self.on_made: Callable[[MemoryServer], None] = lambda _: None
        """Called with each server that is made for a load."""
        self.prepared = 0
        self.stamps: dict[str, str] = {}

    def server(self, launch: Launch) -> MemoryServer:
        made = self.made(launch)
        self.on_made(made)
        return made

    def made(self, launch: Launch) -> MemoryServer:
        self.servers.append(MemoryServer(launch, pid=1000 + len(self.servers)))
        return self.servers[-1]

    def inspect(self, recipe: Recipe) -> RecipeInspection:
        return RecipeInspection(stamp=self.stamps.get(recipe.model, ""))

    async def prepare(self) -> None:
        self.prepared += 1

    async def adopt(self, slot: str, recipes: Iterable[Recipe]) -> list[Server]:
        if self.strays is not None:
            raise self.strays
        return list(self.left)

    async def connect(self, address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As ``probe.Connect``."""
        server = next((one for one in self.servers if one.address == address and one.running), None)
        if server is None:
            raise ConnectionRefusedError(f"nobody listens at {address}")
        reader = asyncio.StreamReader()
        return reader, MemoryWriter(server, reader)  # type: ignore[return-value]


class MemoryDevice:
    """A device: running servers hold memory of it, and so may processes of others, and what is left of the dead."""

    def __init__(self, driver: MemoryDriver) -> None:
        self._driver = driver
        self.strangers: tuple[DeviceProcess, ...] = ()
        self.not_back_mib = 0
        """Memory that no process holds any more and that is not free."""
        self.looks = 0
        self.on_look: Callable[[], object] = lambda: None

    def read(self) -> DeviceMemory:
        """As ``nvml.Device``."""
        self.looks += 1
        self.on_look()
        ours = [
            DeviceProcess(pid=one.pid, used_mib=one.launch.recipe.memory_mib)
            for one in self._driver.servers
            if one.running
        ]
        processes = (*ours, *self.strangers)
        held_mib = sum(process.used_mib or 0 for process in processes) + self.not_back_mib
        return DeviceMemory(total_mib=TOTAL_MIB, free_mib=TOTAL_MIB - held_mib, processes=processes)


class HandStore:
    """The store, in which a hand writes the orders."""

    def __init__(self) -> None:
        self.orders = Orders()
        self.reports: list[Report] = []
        self.rung: list[Report] = []
        """Those that a broker is told of at once."""
        self.reads = list[float]()
        """When orders were read."""
        self.away = False
        self.deaf = False
        """Rings are lost."""
        self._rings = 0
        self._ring = asyncio.Event()

    def write(self, orders: Orders) -> None:
        """Replace the orders and ring."""
        self.orders, self._rings = orders, self._rings + 1
        self._ring.set()

    async def read_orders(self, slot: str) -> Orders:
        self.reads.append(asyncio.get_running_loop().time())
        self._answers()
        return self.orders

    async def write_report(self, slot: str, report: Report) -> None:
        self._answers()
        self.reports.append(report)

    async def write_changed_report(self, slot: str, report: Report) -> None:
        await self.write_report(slot, report)
        self.rung.append(report)

    async def wait_ring(self, slot: str, last_id: str, block_s: float) -> str:
        self._answers()
        try:
            async with asyncio.timeout(block_s):
                while self.deaf or str(self._rings) == last_id:
                    self._ring.clear()
                    await self._ring.wait()
        except TimeoutError:
            return last_id
        return str(self._rings)

    def _answers(self) -> None:
        if self.away:
            raise StoreError("connection refused")


@dataclass
class SlotScene:
    """A slot, its surroundings, and the hand that orders."""

    folder: Path
    models: tuple[Recipe, ...] = (recipe_of("a"), recipe_of("b"), recipe_of("c"))
    care: dict[str, float] = field(default_factory=dict)
    settings: dict[str, float] = field(default_factory=dict)
    wants: dict[str, Want] = field(default_factory=dict)
    generation: int = 0
    epoch: int = 1

    def __post_init__(self) -> None:
        self.driver, self.store = MemoryDriver(), HandStore()
        self.device = MemoryDevice(self.driver)
        self.dispatcher = Dispatcher({"process": self.driver})
        self.inspector = Inspector(self.dispatcher.inspect, self.models)
        self.high_water = HighWater(self.folder)
        self.memory = SlotMemory(MemorySettings(), self.device, self._own_pids)  # type: ignore[arg-type]
        self.supervisor = Supervisor(
            SlotSettings(slot=SLOT, worker="host1", boot=BOOT, care=self.care_taken, **self.settings),  # type: ignore[arg-type]
            self.models,
            self.dispatcher,
            self.store,
            self.high_water,
            self.memory,
            self.inspector,
        )

    def _own_pids(self) -> set[int]:
        return self.supervisor.own_pids()

    @property
    def care_taken(self) -> Care:
        return Care(connect=self.driver.connect, **self.care)

    @property
    def servers(self) -> list[MemoryServer]:
        """All that were ever made, the oldest first."""
        return self.driver.servers

    def server_of(self, model: str) -> MemoryServer:
        """The newest server of a model."""
        return next(one for one in reversed(self.servers) if one.launch.recipe.model == model)

    def left(self, model: str, generation: int) -> MemoryServer:
        """A server that a former worker has left."""
        recipe = next(one for one in self.models if one.model == model)
        server = self.driver.made(Launch(slot=SLOT, recipe=recipe, generation=generation, key=f"key-{generation}"))
        server.running = True
        self.driver.left.append(server)
        return server

    # ------------------------------------------------------------------------------------------------- the hand

    def write(self, **more: object) -> None:
        """Say what is wanted; ``more`` is of the heading."""
        plain = {"incarnation": INCARNATION, "epoch": self.epoch, "boot": BOOT, "generation": self.generation}
        wants = tuple(self.wants.values())
        self.store.write(Orders(**(plain | {"wants": wants} | more)))  # type: ignore[arg-type]

    def order(self, *models: str) -> None:
        """Want these and nothing else; what is wanted already keeps its generation."""
        self.generation += 1
        new = {model: Want(model=model, generation=self.generation, key=f"key-{self.generation}") for model in models}
        self.wants = {model: self.wants.get(model, want) for model, want in new.items()}
        self.write()

    async def runs(self) -> "asyncio.Task[object]":
        """Open and run the slot; answers the task that runs."""
        await self.supervisor.open()
        return asyncio.create_task(self.supervisor.run())

    async def registered(self) -> "asyncio.Task[object]":
        """Run the slot until its orders count; answers the task that runs."""
        running = await self.runs()
        self.write(boot="", epoch=0)
        await until(lambda: self.report.incarnation == INCARNATION)
        self.generation = max(self.generation, self.report.high_water) + 1
        self.write()
        await until(lambda: self.report.epoch == self.epoch)
        return running

    # ------------------------------------------------------------------------------------------------- the eye

    @property
    def report(self) -> Report:
        return self.store.reports[-1] if self.store.reports else Report(worker="", boot="")

    def states(self) -> dict[str, str]:
        """As last reported."""
        return {one.model: one.state.value for one in self.report.residencies}

    def of(self, model: str):
        """What is reported of a model."""
        return next(one for one in self.report.residencies if one.model == model)

    async def until_state(self, model: str, state: str) -> None:
        await until(lambda: self.states().get(model) == state)
