"""One model on one slot, from the order to load it until its memory is back.

Rule: a load that fails, dies or hangs is killed at once, there is nothing in it to save; only a ready server that is
unloaded gets its SIGTERM and its time. Whatever happens, `gone` or `failed` is said after the memory is back, or the
slot has a fault.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gpu_worker import readiness
from gpu_worker.drivers.port import LoadError, Server, StuckError
from gpu_worker.memory import MemoryView, SlotMemory
from gpu_worker.reconcile import Depth, Resident
from schemas.messages import ResidencyReport, ResidencyState

MEMORY_POLL_S = 0.05
STUCK_POLL_S = 1.0
ERROR_LIMIT = 500
FLUTTER_MIB = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How ready servers are watched and memory is waited for; and where servers are reached."""

    probe_host: str = "127.0.0.1"
    advertise_host: str = "127.0.0.1"
    probe_interval_s: float = 5.0
    probe_timeout_s: float = 10.0
    probe_failures: int = 3
    adopt_timeout_s: float = 5.0
    memory_timeout_s: float = 10.0


class Residency:
    """One model on one slot."""

    def __init__(self, server: Server | None, resident: Resident, care: Care, memory: SlotMemory) -> None:
        self._server = server
        self._care = care
        self._memory = memory
        self._task: asyncio.Task[None] | None = None
        self._nobodys_mib = 0
        self._pids: set[int] = set()
        self.on_change: Callable[[], None] = lambda: None
        self.model = resident.model
        self.generation = resident.generation
        self.depth = resident.depth
        self.progress = 0
        self.memory_mib = 0
        self.took_ms = 0
        self.error = ""
        self.fault = ""
        self.gone = False

    @property
    def resident(self) -> Resident:
        """For `reconcile`."""
        return Resident(model=self.model, generation=self.generation, depth=self.depth)

    def report(self) -> ResidencyReport:
        """For the store."""
        return ResidencyReport(
            model=self.model,
            state=ResidencyState(self.depth.value),
            generation=self.generation,
            url=self._url() if self.depth is Depth.READY else "",
            progress=100 if self.depth is Depth.READY else self.progress,
            memory_mib=self.memory_mib,
            took_ms=self.took_ms,
            error=self.error,
        )

    def _url(self) -> str:
        assert self._server is not None
        host = self._care.advertise_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.port}/v1"

    def pids(self) -> set[int]:
        """Its living processes."""
        return self._server.pids() if self._server is not None else set()

    def measure(self, view: MemoryView) -> None:
        """Take the footprint from a look at the device; small changes are noise."""
        if view.reading is None or self.depth is not Depth.READY:
            return
        self._pids = self.pids()
        memory_mib = view.reading.of(self._pids)
        if abs(memory_mib - self.memory_mib) > FLUTTER_MIB:
            self.memory_mib = memory_mib

    # ------------------------------------------------------------------------------------------------------- verbs

    def load(self, ordered_s: float) -> None:
        """Begin to load. ``ordered_s``: monotonic time the order was read."""
        self._begin(self._load(ordered_s))

    def reject(self, reason: str) -> None:
        """Fail without trying."""
        self.depth, self.error = Depth.FAILED, reason
        log.warning("load_rejected", extra={"model": self.model, "generation": self.generation, "reason": reason})

    def unload(self) -> None:
        """Begin to unload, also what is still loading or has failed."""
        ready = self.depth is Depth.READY
        self.depth = Depth.UNLOADING
        self._begin(self._unload(self._grace_s() if ready else 0.0))

    async def adopt(self) -> bool:
        """Prove that an adopted server is ready; False when it does not within its time."""
        assert self._server is not None
        try:
            await self._until_ready(self._server, self._care.adopt_timeout_s)
        except (LoadError, readiness.NotReadyError) as error:
            self.error = str(error)
            return False
        await self._remember_memory()
        self._be_ready(self._server)
        return True

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """What nobody foresaw is a failed residency and a line in the log, not a task that ended in silence."""
        try:
            await work
        except Exception as error:
            log.exception("residency_crashed", extra=self._label())
            self.depth, self.error = Depth.FAILED, f"internal: {type(error).__name__}: {error}"[:ERROR_LIMIT]
            self.on_change()

    def let_go(self) -> None:
        """Stop watching; the server runs on."""
        if self._task is not None:
            self._task.cancel()

    async def settled(self) -> None:
        """Wait for the work that was begun; its length is bounded by the deadlines of its parts."""
        if self._task is not None:
            await asyncio.wait({self._task})

    # -------------------------------------------------------------------------------------------------------- load

    async def _load(self, ordered_s: float) -> None:
        assert self._server is not None
        await self._remember_memory()
        try:
            await self._server.start()
            await self._until_ready(self._server, self._server.launch.recipe.load_timeout_s)
        except (LoadError, readiness.NotReadyError, OSError) as error:
            await self._fail(self._server, str(error))
            return
        self.took_ms = max(1, round(1000 * (time.monotonic() - ordered_s)))
        self._be_ready(self._server)

    def _be_ready(self, server: Server) -> None:
        self.depth = Depth.READY
        log.info("model_ready", extra=self._label() | {"took_ms": self.took_ms, "pid": server.pid, "port": server.port})
        self.on_change()
        self._task = asyncio.create_task(self._guarded(self._watch(server)))

    async def _until_ready(self, server: Server, timeout_s: float) -> None:
        def look() -> None:
            path = server.launch.recipe.model_path
            self.progress = max(self.progress, readiness.progress_percent(server.pid, path))

        work = readiness.wait_ready(self._target(server), timeout_s=timeout_s, on_poll=look)
        died = await _first(server.ended(), work)
        if died is not None:
            raise LoadError(f"server_died: {died}; {server.log_tail()}")

    def _target(self, server: Server) -> readiness.Target:
        recipe = server.launch.recipe
        return readiness.Target(
            host=self._care.probe_host,
            port=server.port,
            key=server.launch.key,
            served_name=recipe.served_name,
            kind=recipe.kind,
            health_path=recipe.health_path,
        )

    async def _fail(self, server: Server, error: str) -> None:
        """Clean up first, then say so: a failed residency holds no memory."""
        log.warning("load_failed", extra=self._label() | {"error": error})
        await self._end(server, 0.0)
        self.depth, self.error = Depth.FAILED, error[:ERROR_LIMIT]
        self.on_change()

    # ------------------------------------------------------------------------------------------------------- watch

    async def _watch(self, server: Server) -> None:
        care = self._care
        probing = readiness.wait_unresponsive(
            self._target(server),
            interval_s=care.probe_interval_s,
            timeout_s=care.probe_timeout_s,
            failures=care.probe_failures,
        )
        ended = asyncio.ensure_future(server.ended())
        died = await _first(ended, probing)
        error = f"server_died: {died}" if ended.done() and not ended.cancelled() else f"server_hung: {died}"
        log.warning("server_lost", extra=self._label() | {"error": error})
        self.depth, self.error = Depth.FAILED, f"{error}; {server.log_tail()}"[:ERROR_LIMIT]
        self.on_change()
        await self._end(server, 0.0)
        self.on_change()

    # --------------------------------------------------------------------------------------------------------- end

    async def _unload(self, grace_s: float) -> None:
        if self._server is not None:
            await self._end(self._server, grace_s)
        self.gone = True
        log.info("model_unloaded", extra=self._label())
        self.on_change()

    async def _end(self, server: Server, grace_s: float) -> None:
        """Stop the server and wait until its memory is back, for ever if need be: past the deadline with a fault."""
        self._pids |= self.pids()
        while True:
            try:
                await server.stop(grace_s)
                break
            except StuckError as error:
                await self._stuck(str(error))
        deadline_s = time.monotonic() + self._care.memory_timeout_s
        while not self._memory.is_back(
            await self._memory.look(), pids=self._pids, nobodys_before_mib=self._nobodys_mib
        ):
            if time.monotonic() < deadline_s:
                await asyncio.sleep(MEMORY_POLL_S)
            else:
                await self._stuck("the device's memory did not come back")
        self.fault = ""

    async def _stuck(self, reason: str) -> None:
        if not self.fault:
            self.fault = f"memory_stuck: {self.model} generation {self.generation}: {reason}"
            log.error("memory_stuck", extra=self._label() | {"reason": reason})
            self.on_change()
        await asyncio.sleep(STUCK_POLL_S)

    async def _remember_memory(self) -> None:
        view = await self._memory.look()
        self._nobodys_mib = view.reading.nobodys_mib if view.reading is not None else 0

    def _grace_s(self) -> float:
        return self._server.launch.recipe.stop_timeout_s if self._server is not None else 0.0

    def _label(self) -> dict[str, object]:
        return {"model": self.model, "generation": self.generation}


async def _first(
    end: Coroutine[Any, Any, str] | asyncio.Future[str], work: Coroutine[Any, Any, str | None]
) -> str | None:
    """The answer of whichever is over first; the other is cancelled. The server's end wins a tie."""
    ended, worked = asyncio.ensure_future(end), asyncio.ensure_future(work)
    try:
        await asyncio.wait({ended, worked}, return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else worked.result()
    finally:
        for task in (ended, worked):
            task.cancel()
        await asyncio.gather(ended, worked, return_exceptions=True)
