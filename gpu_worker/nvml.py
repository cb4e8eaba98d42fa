"""Memory of one device through NVML: total, free, per process.

Rule: no library, no driver or no such function means "no GPU here", and declared footprints count; a device that was
there and is lost is a fault of the slot. The only file that imports ``pynvml`` (distribution **nvidia-ml-py**).
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

_MIB = 1024 * 1024
NAME_LIMIT = 32
FOREIGN_LIMIT = 8
"""Foreign processes named in a report; the sum counts them all."""


class NoGpuError(Exception):
    """There is no NVML on this host: memory cannot be measured."""


class GpuFaultError(Exception):
    """The device is there and cannot be read (fell off the bus, driver reset): its slot must not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProcess:
    """One process that holds memory of the device."""

    pid: int
    used_mib: int | None
    """None where the driver does not tell (another PID name space, WDDM)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """One reading of a device."""

    total_mib: int
    free_mib: int
    processes: tuple[DeviceProcess, ...]

    @property
    def used_mib(self) -> int:
        """All that is not free, whoever holds it."""
        return self.total_mib - self.free_mib

    def of(self, pids: AbstractSet[int]) -> int:
        """What these processes hold, as far as the driver tells."""
        return sum(process.used_mib or 0 for process in self.processes if process.pid in pids)

    def foreign(self, ours: AbstractSet[int]) -> tuple[DeviceProcess, ...]:
        """The processes that are not ours, the largest first."""
        strangers = [process for process in self.processes if process.pid not in ours]
        return tuple(sorted(strangers, key=lambda process: (-(process.used_mib or 0), process.pid)))

    @property
    def nobodys_mib(self) -> int:
        """Held by no process we can see: the driver itself, and memory that did not come back."""
        return max(0, self.used_mib - sum(process.used_mib or 0 for process in self.processes))


class Device:
    """One GPU, by its UUID."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._handle: Any = None

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
        )


def _processes(handle: Any) -> list[Any]:
    """Compute and graphics processes, through the newest call this driver has; an old one may lack the second list."""
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


def names_of(processes: tuple[DeviceProcess, ...]) -> str:
    """``name/pid:mib`` of each, separated by spaces: the largest ones, for a report."""
    named = (f"{_name(process.pid)}/{process.pid}:{process.used_mib or 0}" for process in processes[:FOREIGN_LIMIT])
    return " ".join(named)


def _name(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = ""
    safe = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)[:NAME_LIMIT]
    return safe or "unknown"
