"""Processes as ``/proc`` tells them: who lives, who descends from whom, who bears our mark.

Rule: a process is named by its pid *and* its start time, never by pid, name or port alone; a zombie counts as dead
(``kill(pid, 0)`` succeeds on one). Standard library only: the guardian imports this before anything else exists.
"""

import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

MARK_VARIABLE = b"HOTSEAT_SERVER="
"""Environment variable that every model server is born with; children inherit it even when they change their
session."""

NAME_LIMIT = 32
_PROC = "/proc"


class Proc(NamedTuple):
    """One line of ``/proc/<pid>/stat``, the fields we judge by."""

    pid: int
    state: str
    parent: int
    group: int
    started: int
    """When it was started, clock ticks since the host's boot."""
    worked: int
    """Processor time so far, its own and the kernel's for it, clock ticks."""

    @property
    def alive(self) -> bool:
        """Tell whether it can still hold memory; a zombie and a dying process cannot."""
        return self.state not in "ZXx"


def read_proc(pid: int) -> Proc | None:
    """Return the process, or None where there is none (any more)."""
    try:
        stat = Path(f"{_PROC}/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    ticks = int(fields[11]) + int(fields[12])
    return Proc(pid, fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[19]), ticks)


def start_of(pid: int) -> int:
    """Return the start time of a living process in ticks since boot; 0 where it is gone."""
    proc = read_proc(pid)
    return proc.started if proc is not None and proc.alive else 0


def is_same(pid: int, started: int) -> bool:
    """Tell whether this very process still lives."""
    return started != 0 and start_of(pid) == started


def boot_id() -> str:
    """Return the name of this boot of the host: start times mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def living() -> Iterator[Proc]:
    """Yield every living process we may look at."""
    for name in os.listdir(_PROC):  # noqa: PTH208 - a thousand Path objects a second for nothing
        if name.isdigit() and (proc := read_proc(int(name))) is not None and proc.alive:
            yield proc


def descendants(root: int) -> set[int]:
    """Return the living children, grandchildren … of a process."""
    children: dict[int, list[int]] = {}
    for proc in living():
        children.setdefault(proc.parent, []).append(proc.pid)
    found: set[int] = set()
    front = [root]
    while front:
        for pid in children.get(front.pop(), ()):
            if pid not in found:
                found.add(pid)
                front.append(pid)
    return found


def members(group: int) -> set[int]:
    """Return the living processes of a process group."""
    return {proc.pid for proc in living() if proc.group == group}


def marked(mark: bytes) -> set[int]:
    """Return the living processes whose mark begins with the given one."""
    wanted = MARK_VARIABLE + mark
    found = set()
    for proc in living():
        try:
            environ = Path(f"{_PROC}/{proc.pid}/environ").read_bytes()
        except OSError:
            continue
        if any(variable.startswith(wanted) for variable in environ.split(b"\0")):
            found.add(proc.pid)
    return found


def worked_s(pids: Collection[int]) -> float:
    """Return the processor time of these processes so far, seconds."""
    found = (read_proc(pid) for pid in pids)
    return sum(proc.worked for proc in found if proc is not None) / os.sysconf("SC_CLK_TCK")


def name_of(pid: int) -> str:
    """Return what a process is called, in characters that are safe in a report; ``unknown`` where it is gone."""
    try:
        name = Path(f"{_PROC}/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = ""
    return "".join(char if char.isalnum() or char in "._-" else "_" for char in name)[:NAME_LIMIT] or "unknown"


def signal_all(pids: Collection[int], signum: signal.Signals) -> None:
    """Send a signal to each; who is gone already is no error."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            continue


def be_killed_first() -> None:
    """Let the kernel kill this process first when memory is out, not its guardian or worker; the score is inherited."""
    Path(f"{_PROC}/self/oom_score_adj").write_text("300", encoding="ascii")


def bytes_read(pid: int) -> int:
    """Count the bytes a process took in, by ``read`` or by touching file mappings, whichever is more; 0 if gone."""
    return max(_field(f"{_PROC}/{pid}/io", b"rchar:"), 1024 * _field(f"{_PROC}/{pid}/status", b"RssFile:"))


def _field(path: str, name: bytes) -> int:
    try:
        for line in Path(path).read_bytes().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0
