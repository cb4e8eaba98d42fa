"""One model on one slot, from the order to load it until its memory is back.

Rule: a load that fails, dies or hangs is killed at once, there is nothing in it to save; only a ready server that is
unloaded gets its SIGTERM and its time. `failed` is said as soon as nothing of it lives, so that nobody waits in vain;
`gone` after the memory is back, or the slot has a fault.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from gpu_worker.drivers.dispatcher import Dispatcher
from gpu_worker.drivers.failing import Around, Failing, ProcessEnd, of_a_death, of_a_fall, of_no_output, of_no_room
from gpu_worker.drivers.port import LoadError, Server, StuckError
from gpu_worker.host.memory import MemoryView, SlotMemory
from gpu_worker.slot import clock, liveness, probe, readiness
from gpu_worker.slot.reconcile import Resident
from schemas.messages import FailureKind, ResidencyReport
from schemas.residency import Residency

MEMORY_POLL_S = 0.05
STUCK_POLL_S = 1.0
ERROR_LIMIT = 500
FLUTTER_MIB = 16
SAY_WITHIN_S = 1.0
"""A failure is told after this, though something of the server cannot be killed yet."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How servers are reached, ready ones are watched and memory is waited for."""

    probe_interval_s: float = 5.0
    probe_timeout_s: float = 10.0
    probe_failures: int = 3
    prove_timeout_s: float = 15.0
    """A server that is doubted owes one token within this."""
    adopt_timeout_s: float = 5.0
    memory_timeout_s: float = 10.0
    connect: probe.Connect = probe.connection_to


class DiedError(Exception):
    """The server died while it loaded."""

    def __init__(self, death: ProcessEnd, words: str) -> None:
        super().__init__(f"server_died: {death}")
        self.death = death
        self.words = words


class SlotResidency:
    """One model on one slot: loads it, watches it, proves it and takes it down."""

    def __init__(
        self,
        drivers: Dispatcher,
        server: Server | None,
        resident: Resident,
        care: Care,
        memory: SlotMemory,
        around: Callable[[str], Around],
    ) -> None:
        """``around`` answers what else there is, given how the load ended."""
        self._drivers = drivers
        self._server = server
        self._care = care
        self._memory = memory
        self._around = around
        self._task: asyncio.Task[None] | None = None
        self._proof: asyncio.Task[None] | None = None
        self._proved = 0
        self._target_now: probe.ProbeTarget | None = None
        self._nobodys_mib = 0
        self._pids: set[int] = set()
        self.on_change: Callable[[], None] = lambda: None
        self.on_ready: Callable[[], None] = lambda: None
        self.model = resident.model
        self.generation = resident.generation
        self.depth = resident.depth
        self.progress = 0
        self.memory_mib = 0
        self.took_ms = 0
        self.error = ""
        self.failing: Failing | None = None
        self.fault = ""
        self.gone = False

    @property
    def resident(self) -> Resident:
        """Return what ``reconcile`` compares with the orders."""
        return Resident(model=self.model, generation=self.generation, depth=self.depth)

    def report(self) -> ResidencyReport:
        """Return what the store is told of it."""
        return ResidencyReport(
            model=self.model,
            state=Residency(self.depth.value),
            generation=self.generation,
            url=self._server.url if self._server is not None and self.depth is Residency.READY else "",
            progress=100 if self.depth is Residency.READY else self.progress,
            memory_mib=self.memory_mib,
            took_ms=self.took_ms,
            error=self.error,
            failure=FailureKind(self.failing.value) if self.failing is not None else None,
        )

    def pids(self) -> set[int]:
        """Return the living processes of its server."""
        return self._server.pids() if self._server is not None else set()

    def measure(self, view: MemoryView) -> None:
        """Take the footprint from a look at the device, else by the driver's word; small changes are noise."""
        if self._server is None:
            return
        if self.depth is Residency.LOADING:  # also of a server whose start is the load
            self.progress = max(self.progress, self._drivers.progress_percent(self._server))
        if self.depth is not Residency.READY:
            return
        memory_mib = 0
        if view.reading is not None:
            self._pids = self.pids()
            memory_mib = view.reading.of(self._pids)
        memory_mib = memory_mib or self._drivers.footprint_mib(self._server)
        if abs(memory_mib - self.memory_mib) > FLUTTER_MIB:
            self.memory_mib = memory_mib

    # ------------------------------------------------------------------------------------------------------- verbs

    def load(self, ordered_s: float) -> None:
        """Begin to load. ``ordered_s``: monotonic time the order was read."""
        self._begin(self._load(ordered_s))

    def reject(self, reason: str, failing: Failing) -> None:
        """Fail with a reason, without starting a server."""
        self.depth, self.error, self.failing = Residency.FAILED, reason, failing
        log.warning("load_rejected", extra={"model": self.model, "generation": self.generation, "reason": reason})

    def unload(self) -> None:
        """Begin to unload, also what is still loading or has failed."""
        ready = self.depth is Residency.READY
        self.depth = Residency.UNLOADING
        self._begin(self._unload(self._grace_s() if ready else 0.0))

    async def adopt(self) -> bool:
        """Prove that an adopted server is ready; False when it does not within its time."""
        assert self._server is not None
        try:
            await self._until_ready(self._server, self._care.adopt_timeout_s)
        except (DiedError, readiness.NotReadyError) as error:
            self.error = str(error)
            return False
        await self._remember_memory()
        self._be_ready(self._server)
        return True

    def prove(self, number: int) -> None:
        """Somebody doubts, for the ``number``-th time, that the ready server does anything: ask it."""
        busy = self._proof is not None and not self._proof.done()
        if self.depth is Residency.READY and self._server is not None and number > self._proved and not busy:
            self._proved = number
            self._proof = asyncio.create_task(self._prove(self._server))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._cancel()
        self._task = asyncio.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """What nobody foresaw is a failed residency and a line in the log, not a task that ended in silence."""
        try:
            await work
        except Exception as error:
            log.exception("residency_crashed", extra=self._label())
            self.depth, self.error = Residency.FAILED, f"internal: {type(error).__name__}: {error}"[:ERROR_LIMIT]
            self.failing = Failing.HOST
            self.on_change()

    def let_go(self) -> None:
        """Stop watching; the server runs on."""
        self._cancel()

    def _cancel(self) -> None:
        current = asyncio.current_task()
        for task in (self._task, self._proof):
            if task is not None and task is not current:
                task.cancel()

    async def settled(self) -> None:
        """Wait for the work that was begun; its length is bounded by the deadlines of its parts."""
        if self._task is not None:
            await asyncio.wait({self._task})

    # -------------------------------------------------------------------------------------------------------- load

    async def _load(self, ordered_s: float) -> None:
        assert self._server is not None
        server = self._server
        await self._remember_memory()
        try:
            await self._drivers.start(server)
            await self._until_ready(server, server.launch.recipe.load_timeout_s)
        except (LoadError, DiedError, readiness.NotReadyError, OSError) as error:
            await self._fail(server, error)
            return
        self.took_ms = max(1, round(1000 * (clock.now_s() - ordered_s)))
        self._be_ready(server)

    def _be_ready(self, server: Server) -> None:
        self.depth = Residency.READY
        self.on_ready()
        log.info("model_ready", extra=self._label() | {"took_ms": self.took_ms, "address": str(server.address)})
        self.on_change()
        self._task = asyncio.create_task(self._guarded(self._watch(server)))

    async def _until_ready(self, server: Server, timeout_s: float) -> None:
        def look() -> None:
            self.progress = max(self.progress, self._drivers.progress_percent(server))

        work = readiness.wait_ready(self._target(server), timeout_s=timeout_s, on_poll=look)
        died = await _first(server.ended(), work)
        if isinstance(died, ProcessEnd):
            raise DiedError(died, server.last_words())

    def _target(self, server: Server) -> probe.ProbeTarget:
        if self._target_now is None:
            recipe = server.launch.recipe
            self._target_now = probe.ProbeTarget(
                address=server.address,
                key=server.launch.key,
                served_name=recipe.served_name,
                kind=recipe.kind,
                owner=server,
                health_path=server.health_path,
                connect=self._care.connect,
            )
        return self._target_now

    async def _fail(self, server: Server, error: Exception) -> None:
        """Kill what is left, say so, then wait for its memory."""
        words = error.words if isinstance(error, DiedError) else server.last_words()
        failing = _failing_of(error, words, self._around(str(error)))
        told = _told(str(error), words)
        log.warning("load_failed", extra=self._label() | {"error": told, "failure": failing.value})
        killing = asyncio.ensure_future(self._kill(server, 0.0))
        try:
            await asyncio.wait({killing}, timeout=SAY_WITHIN_S)
            self.depth, self.error, self.failing = Residency.FAILED, told, failing
            self.on_change()
            await killing
        finally:
            killing.cancel()
        await self._until_memory_is_back()
        self.on_change()

    # ------------------------------------------------------------------------------------------------------- watch

    async def _watch(self, server: Server) -> None:
        care = self._care
        probing = liveness.wait_unresponsive(
            self._target(server),
            interval_s=care.probe_interval_s,
            timeout_s=care.probe_timeout_s,
            failures=care.probe_failures,
        )
        died = await _first(server.ended(), probing)
        if isinstance(died, ProcessEnd):
            await self._lose(server, f"server_died: {died}", Failing.PASSING)
        else:
            await self._lose(server, f"server_hung: {died}", Failing.USELESS)

    async def _prove(self, server: Server) -> None:
        patience_s = self._care.prove_timeout_s
        try:
            trouble = await liveness.find_useless(self._target(server), patience_s=patience_s, worked_s=server.worked_s)
        except Exception:  # a doubt must not cost the server its life
            log.exception("proof_crashed", extra=self._label())
            return
        if not trouble:
            log.info("server_proved", extra=self._label())
        elif self.depth is Residency.READY:
            self._begin(self._lose(server, f"server_useless: {trouble}", Failing.USELESS))

    async def _lose(self, server: Server, error: str, otherwise: Failing) -> None:
        """A ready server is dead, or of no use and killed: said at once, its leases are lost already."""
        words = server.last_words()
        self.failing = of_a_fall(f"{error} {words}", self._around(error), otherwise)
        self.depth, self.error = Residency.FAILED, _told(error, words)
        log.warning("server_lost", extra=self._label() | {"error": self.error, "failure": self.failing.value})
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
        await self._kill(server, grace_s)
        await self._until_memory_is_back()

    async def _kill(self, server: Server, grace_s: float) -> None:
        self._pids |= self.pids()
        while True:
            try:
                await server.stop(grace_s)
                break
            except StuckError as error:
                await self._stuck(str(error))

    async def _until_memory_is_back(self) -> None:
        deadline_s = clock.now_s() + self._care.memory_timeout_s
        while not self._memory.is_back(
            await self._memory.look(), pids=self._pids, nobodys_before_mib=self._nobodys_mib
        ):
            if clock.now_s() < deadline_s:
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


def _failing_of(error: Exception, words: str, around: Around) -> Failing:
    """What a failed load tells about the next one."""
    match error:
        case LoadError(failing=Failing.ROOM):
            return of_no_room(around)
        case LoadError():
            return error.failing
        case DiedError():
            return of_a_death(error.death, words, around)
        case readiness.WrongServerError():
            return Failing.PERMANENT
        case readiness.NoOutputError():
            return of_no_output(f"{error.words} {words}", around)
        case readiness.StrangerThereError() | OSError():
            return Failing.HOST
    return Failing.PASSING


def _told(error: str, words: str) -> str:
    """An error, and the server's last words."""
    return (f"{error}; {words}" if words else error)[:ERROR_LIMIT]


async def _first(
    end: Coroutine[Any, Any, ProcessEnd], work: Coroutine[Any, Any, str | None]
) -> ProcessEnd | str | None:
    """The answer of whichever is over first; the other is cancelled. The server's end wins a tie."""
    ended, worked = asyncio.ensure_future(end), asyncio.ensure_future(work)
    try:
        await asyncio.wait({ended, worked}, return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else worked.result()
    finally:
        for task in (ended, worked):
            task.cancel()
        await asyncio.gather(ended, worked, return_exceptions=True)
