"""Memory and use of one device through NVML: total, free, per process.

Rule: no library, no driver or no such function means "no GPU here", and declared footprints count; a device that was
there and is lost is a fault of the slot. The only file that imports ``pynvml`` (distribution **nvidia-ml-py**).
"""

import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pynvml

from gpu_worker.host import procfs

_MIB = 1024 * 1024
SAMPLED_US = 2_000_000
"""How far back the driver's notes count, microseconds: it notes what each process computes a few times a second."""
UNCHANGED_S = 3.0
"""When there was no new note for so long, seconds, nobody computes."""
FOREIGN_LIMIT = 8
"""How many foreign processes a report names; the sum counts them all."""


class NoGpuError(Exception):
    """There is no NVML on this host: memory cannot be measured."""


class GpuFaultError(Exception):
    """The device is there and cannot be read (fell off the bus, driver reset): its slot must not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProcess:
    """One process that holds memory of the device."""

    pid: int
    used_mib: int | None
    """Memory that it holds, MiB; None where the driver does not tell (another PID name space, WDDM)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """One reading of a device."""

    total_mib: int
    free_mib: int
    processes: tuple[DeviceProcess, ...]
    used_percent: int | None = None
    """How much of the time something of anybody's ran on it, percent; None where the driver does not tell."""
    use: tuple[tuple[int, int], ...] | None = None
    """Id and percentage of each process that computed since the last reading; None where nobody tells."""

    @property
    def used_mib(self) -> int:
        """Return all memory that is not free, whoever holds it."""
        return self.total_mib - self.free_mib

    def of(self, pids: AbstractSet[int]) -> int:
        """Return what these processes hold, MiB, as far as the driver tells."""
        return sum(process.used_mib or 0 for process in self.processes if process.pid in pids)

    def used_by_others(self, ours: AbstractSet[int]) -> int | None:
        """Return the percentage of the time that others used; None where nobody tells.

        Where our own processes hold memory of the device, and none by the name that we know it by, they are seen from
        another PID name space, and nobody could be told apart.
        """
        if self.use is None or (ours and not any(process.pid in ours for process in self.processes)):
            return None
        return min(100, sum(percent for pid, percent in self.use if pid not in ours))

    def foreign(self, ours: AbstractSet[int]) -> tuple[DeviceProcess, ...]:
        """Return the processes that are not ours, the largest first."""
        strangers = [process for process in self.processes if process.pid not in ours]
        return tuple(sorted(strangers, key=lambda process: (-(process.used_mib or 0), process.pid)))

    @property
    def nobodys_mib(self) -> int:
        """Return what no process holds that we can see: the driver's own memory, and memory that did not come back."""
        return max(0, self.used_mib - sum(process.used_mib or 0 for process in self.processes))


class Device:
    """One GPU, known by its UUID, whose memory and use can be read."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._handle: Any = None
        self._noted_us = 0
        self._noted_s = 0.0

    def read(self) -> DeviceMemory:
        """Measure now; a millisecond or so.

        Raises:
            NoGpuError: There is no NVML.
            GpuFaultError: The device cannot be read, or NVML does not know it (any more).
        """
        try:
            with _translated():
                return self._read()
        except (NoGpuError, GpuFaultError):
            self._handle = None
            raise

    def _read(self) -> DeviceMemory:
        if self._handle is None:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(self._uuid)
        memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle)
        found: dict[int, int | None] = {}
        for process in _processes(self._handle):
            used = None if process.usedGpuMemory is None else process.usedGpuMemory // _MIB
            found[process.pid] = max(used or 0, found.get(process.pid) or 0) or used  # in both lists: counted once
        return DeviceMemory(
            total_mib=memory.total // _MIB,
            free_mib=memory.free // _MIB,
            processes=tuple(DeviceProcess(pid=pid, used_mib=used) for pid, used in sorted(found.items())),
            used_percent=_used_percent(self._handle),
            use=self._use(time.monotonic()),
        )

    def _use(self, now_s: float) -> tuple[tuple[int, int], ...] | None:
        """Return what each process computed lately; empty where nobody did.

        The driver gives one note per process, the last of each, also of one that has ended, and no clock is told by
        which they bear their times: whether they are new shows when they change.
        """
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(self._handle, max(0, self._noted_us - SAMPLED_US))
        except pynvml.NVMLError_NotFound:
            return ()
        except pynvml.NVMLError:
            return None
        newest_us = max((sample.timeStamp for sample in samples), default=0)
        if newest_us > self._noted_us:
            self._noted_us, self._noted_s = newest_us, now_s
        if now_s - self._noted_s > UNCHANGED_S:
            return ()
        fresh = [sample for sample in samples if sample.timeStamp > newest_us - SAMPLED_US]
        return tuple((int(sample.pid), min(100, int(sample.smUtil))) for sample in fresh)


def _used_percent(handle: Any) -> int | None:
    try:
        return min(100, int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu))
    except pynvml.NVMLError:
        return None


def _processes(handle: Any) -> list[Any]:
    """List compute and graphics processes, by the newest call this driver has; an old one may lack the second list."""
    return [process for kind in ("Compute", "Graphics") for process in _listed(handle, kind)]


def _listed(handle: Any, kind: str) -> list[Any]:
    for version in ("_v3", "_v2"):  # by version: the call without one refuses every driver but its own
        with suppress(pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
            return list(getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses{version}")(handle))
    return []


@contextmanager
def _translated() -> Iterator[None]:
    absent = (
        pynvml.NVMLError_LibraryNotFound,
        pynvml.NVMLError_DriverNotLoaded,
        pynvml.NVMLError_FunctionNotFound,
    )
    try:
        yield
    except absent as error:
        raise NoGpuError(str(error)) from error
    except (pynvml.NVMLError_GpuIsLost, pynvml.NVMLError_NotFound) as error:
        raise GpuFaultError(f"gpu_lost: {error}") from error
    except pynvml.NVMLError as error:
        raise GpuFaultError(f"gpu_fault: {error}") from error


def process_names_of(processes: tuple[DeviceProcess, ...]) -> str:
    """Name the largest processes for a report, as ``name/pid:mib`` with spaces between."""
    shown = processes[:FOREIGN_LIMIT]
    return " ".join(f"{procfs.name_of(process.pid)}/{process.pid}:{process.used_mib or 0}" for process in shown)
