"""Who lives, from ``/proc``: the processes of a run, its model servers and their guardians.

A run's processes have their working directory inside the run's folder; it is inherited by whatever they start, also by
what re-parents itself, clears its environment or changes its session.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.host.procfs import MARK_VARIABLE, read_proc
from harness.history.trace import Sample, Server

YOUNG_S = 2.0
"""A process this young may still become another program."""


@dataclass(frozen=True, slots=True)
class Process:
    """One living process."""

    pid: int
    parent: int
    started: int
    command: str


def alive(pid: int) -> bool:
    """Living and not a zombie."""
    proc = read_proc(pid)
    return proc is not None and proc.alive


def of_folder(folder: Path) -> list[Process]:
    """Living processes whose working directory is inside."""
    home = str(folder.resolve())
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - as in procfs
        if name.isdigit() and _cwd(name).startswith(home):
            proc = read_proc(int(name))
            if proc is not None and proc.alive:
                found.append(Process(proc.pid, proc.parent, proc.started, command_of(proc.pid)))
    return found


def _cwd(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - as above
    except OSError:
        return ""


def command_of(pid: int) -> str:
    """Its arguments, separated by spaces."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def guardians(folder: Path) -> list[Process]:
    """Guardians that guard a server: parents of the run's model servers."""
    processes = of_folder(folder)
    parents = {process.parent for process in processes if _mark(process.pid)}
    return [process for process in processes if process.pid in parents and "guardian" in process.command]


def servers(folder: Path) -> list[Process]:
    """Model servers of the run."""
    return [process for process in of_folder(folder) if _mark(process.pid)]


def _mark(pid: int) -> str:
    """The mark the worker gave it: ``<home>/<slot>/<generation>:``."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    for variable in environ.split(b"\0"):
        if variable.startswith(MARK_VARIABLE):
            return variable[len(MARK_VARIABLE) :].decode(errors="replace")
    return ""


class Sampler:
    """Looks for the run's model servers again and again; remembers who has been looked at."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())
        self._known: dict[int, Server | None] = {}
        self._first_seen: dict[int, float] = {}

    def sample(self) -> Sample:
        """All model servers alive now."""
        now_s = time.monotonic()
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - as above
        for pid in self._known.keys() - pids:
            del self._known[pid], self._first_seen[pid]
        found = []
        for pid in pids:
            self._look(pid, now_s)
            server = self._known[pid]
            if server is not None and (proc := read_proc(pid)) is not None and proc.alive:
                found.append(server)
        return Sample(at_s=now_s, servers=tuple(found))

    def _look(self, pid: int, now_s: float) -> None:
        first_s = self._first_seen.setdefault(pid, now_s)
        if pid in self._known and (self._known[pid] is not None or now_s - first_s > YOUNG_S):
            return
        self._known[pid] = self._server(pid) if _cwd(str(pid)).startswith(self._folder) else None

    @staticmethod
    def _server(pid: int) -> Server | None:
        mark, proc = _mark(pid), read_proc(pid)
        if not mark or proc is None:
            return None
        _, slot, _ = mark.split("/", 2)
        words = command_of(pid).split()
        model = words[words.index("--alias") + 1] if "--alias" in words else ""
        return Server(pid=pid, started=proc.started, slot=slot, model=model, key=mark) if model else None
