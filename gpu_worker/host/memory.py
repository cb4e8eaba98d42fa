"""What a slot may use now, who else uses its device, and whether memory came back.

Rule: measured where NVML is there, declared otherwise. Foreign processes shrink the budget at the next look; memory
that no visible process holds and that was not there before a load has not come back.
"""

import asyncio
import math
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gpu_worker.host.nvml import Device, DeviceMemory, GpuFaultError, NoGpuError, process_names_of

STEADY_S = 5.0
READ_DEADLINE_S = 5.0
"""NVML answers in a millisecond; a driver in trouble blocks for minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryView:
    """One look at a slot's memory."""

    budget_mib: int
    total_mib: int = 0
    free_mib: int = 0
    foreign_mib: int = 0
    foreign: str = ""
    used_percent: int = 0
    """How much of the time anybody's work ran on the device lately, percent; 0 where nobody tells."""
    foreign_percent: int = -1
    """The same of others than our model servers; -1 where nobody tells."""
    fault: str = ""
    reading: DeviceMemory | None = None
    """None where memory cannot be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """What the operator allows the slot."""

    budget_mib: int | None = None
    """None: all of the device but the reserve."""
    reserve_mib: int = 0
    tolerance_mib: int = 64
    """Memory that need not come back: allocator and driver keep a little."""


class Steady:
    """A percentage that flutters, over some seconds: what is older by ``STEADY_S`` counts a third."""

    def __init__(self) -> None:
        self._percent: float | None = None
        self._at_s = 0.0

    def take(self, percent: int | None, now_s: float) -> int | None:
        """A new reading; gives the steady one. None: nobody tells."""
        if percent is None or self._percent is None:
            self._percent = percent
        else:
            worth = math.exp(-max(0.0, now_s - self._at_s) / STEADY_S)
            self._percent = worth * self._percent + (1 - worth) * percent
        self._at_s = now_s
        return None if self._percent is None else round(self._percent)


class SlotMemory:
    """The memory of one slot, and how much its device is used."""

    def __init__(self, settings: MemorySettings, device: Device | None, own_pids: Callable[[], set[int]]) -> None:
        self._settings = settings
        self._device = device
        self._own_pids = own_pids
        self._reading: asyncio.Future[DeviceMemory] | None = None
        self._used, self._foreign = Steady(), Steady()

    async def look(self) -> MemoryView:
        """Measure now, within a deadline; a device that cannot be read is a fault and no budget."""
        declared_mib = self._settings.budget_mib or 0
        if self._device is None:
            return MemoryView(budget_mib=declared_mib, total_mib=declared_mib)
        try:
            reading = await self._read(self._device)
        except NoGpuError:
            return MemoryView(budget_mib=declared_mib, total_mib=declared_mib)
        except GpuFaultError as error:
            return MemoryView(budget_mib=0, fault=str(error))
        return self._view(reading)

    async def _read(self, device: Device) -> DeviceMemory:
        """Read in a thread, one at a time: a hung driver costs one thread, not the loop."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(asyncio.to_thread(device.read))
        reading = self._reading  # another task may begin the next one while we wait
        await asyncio.wait({reading}, timeout=READ_DEADLINE_S)
        if not reading.done():
            raise GpuFaultError("gpu_fault: NVML does not answer")
        return reading.result()

    def _view(self, reading: DeviceMemory) -> MemoryView:
        ours = self._own_pids()
        strangers = reading.foreign(ours)
        foreign_mib = sum(process.used_mib or 0 for process in strangers)
        room_mib = max(0, reading.total_mib - self._settings.reserve_mib - foreign_mib)
        budget_mib = room_mib if self._settings.budget_mib is None else min(self._settings.budget_mib, room_mib)
        return MemoryView(
            budget_mib=budget_mib,
            total_mib=reading.total_mib,
            free_mib=reading.free_mib,
            foreign_mib=foreign_mib,
            foreign=process_names_of(strangers),
            used_percent=self._used.take(reading.used_percent, time.monotonic()) or 0,
            foreign_percent=_or_unknown(self._foreign.take(reading.used_by_others(ours), time.monotonic())),
            reading=reading,
        )

    def is_back(self, view: MemoryView, *, pids: AbstractSet[int], nobodys_before_mib: int) -> bool:
        """Whether what these processes held is free again. A lost device gives nothing back."""
        if view.fault:
            return False
        if view.reading is None:
            return True
        if any(process.pid in pids for process in view.reading.processes):
            return False
        return view.reading.nobodys_mib <= nobodys_before_mib + self._settings.tolerance_mib


def _or_unknown(percent: int | None) -> int:
    return -1 if percent is None else percent
