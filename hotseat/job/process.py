"""A job as `hotseat run` sees it: a command, all it starts, and the keeper between them and us (`keeper.py`)."""

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.host import procfs
from hotseat.terminal.inbox import Inbox, Signalled

_ROOT = str(Path(__file__).resolve().parents[2])
_PROGRAM = "import sys; sys.path.insert(0, {root!r}); from hotseat.job.keeper import main; main({fd})"
_PR_SET_CHILD_SUBREAPER = 36
_SWEEP_S = 0.02
KILL_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The command was started and runs."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed:
    """The command could not be started."""

    errno: int

    @property
    def words(self) -> str:
        """Say why it could not be started, as the operating system does."""
        return os.strerror(self.errno)

    @property
    def status(self) -> int:
        """Return the exit status that shells have for it."""
        return 127 if self.errno in {errno.ENOENT, errno.ENOTDIR} else 126


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The command itself has ended."""

    status: int
    """Exit status as ``Popen.returncode`` has it: a signal's number is negative."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing of the job lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """These processes survive SIGKILL: they hang in the kernel, or are another user's."""

    left: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeeperLost:
    """The keeper was killed; what it kept is ours now."""


class Job:
    """One job. What becomes of it is put into the inbox."""

    def __init__(self, inbox: Inbox, environment: Mapping[str, str]) -> None:
        """Start its keeper; the command is started by `start`."""
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._inbox = inbox
        self._line, theirs = socket.socketpair()
        program = _PROGRAM.format(root=_ROOT, fd=theirs.fileno())
        os.set_inheritable(theirs.fileno(), True)
        with theirs:  # every other descriptor that we were given is the command's as well
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", program], env=environment, close_fds=False
            )
        threading.Thread(target=self._read, name="job", daemon=True).start()

    def start(self, command: Sequence[str], *, kill_after_s: float) -> None:
        """Start the command; `Started` or `StartFailed` follows.

        Args:
            command: Program and arguments.
            kill_after_s: Between SIGTERM and SIGKILL where we are killed ourselves, seconds.
        """
        signals = {"ignored": sorted(self._inbox.ignored), "mask": sorted(self._inbox.mask)}
        self._say(do="start", argv=list(command), kill_after_s=kill_after_s, **signals)

    def pass_on(self, signalled: Signalled, *, grace_s: float) -> None:
        """Give a signal to the whole job, to nobody twice; SIGKILL follows after ``grace_s``."""
        number = signalled.number
        if number in self._inbox.ignored:  # the job was born to ignore it as well
            number = signal.SIGTERM
        as_it_came = number is signalled.number
        self._say(do="stop", number=number, grace_s=grace_s, by_somebody=True, as_it_came=as_it_came)

    def tell(self, signalled: Signalled) -> None:
        """Give a signal to the command alone."""
        self._say(do="tell", number=signalled.number, as_it_came=True)

    def had(self, signalled: Signalled) -> None:
        """Note that the terminal gave this signal to everybody: there is nothing to pass on."""
        self._say(do="discard", number=signalled.number)

    def stop(self, *, grace_s: float) -> None:
        """Send SIGTERM to whoever of the job has not got it yet, and SIGKILL after ``grace_s`` seconds."""
        self._say(do="stop", number=signal.SIGTERM, grace_s=grace_s, by_somebody=False)

    def kill(self) -> None:
        """Send SIGKILL to the whole job."""
        self._say(do="kill")

    def warn(self, number: signal.Signals) -> None:
        """Give a signal to those of the job that listen for it."""
        self._say(do="warn", number=number)

    def pids(self) -> list[int]:
        """Return the ids of the job's processes that live, in order."""
        return sorted(procfs.descendants(self._keeper.pid))

    def bury(self, *, grace_s: float) -> tuple[int, ...]:
        """End what a killed keeper left to us; return who survives SIGKILL."""
        self._keeper.wait()
        end_s = time.monotonic() + grace_s
        procfs.signal_all(self._orphans(), signal.SIGTERM)
        while (left := self._orphans()) and time.monotonic() < end_s + KILL_DEADLINE_S:
            if time.monotonic() >= end_s:
                procfs.signal_all(left, signal.SIGKILL)
            time.sleep(_SWEEP_S)
        return tuple(sorted(left))

    def _orphans(self) -> set[int]:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return set()
        return procfs.descendants(os.getpid())

    def _say(self, **message: object) -> None:
        try:
            self._line.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return  # its reader tells that the keeper is gone

    def _read(self) -> None:
        over = False
        with self._line.makefile("rb") as lines:
            try:
                for line in lines:
                    item = _item_of(json.loads(line))
                    over = over or isinstance(item, Gone | Stuck | StartFailed)
                    self._inbox.put(item)
            except OSError:
                pass
        if not over:
            self._inbox.put(KeeperLost())


NAMED = 8
"""How many of the processes are named in a message."""


def named(pids: Sequence[int]) -> str:
    """Name processes for a person: ``python3 (4711), sleep (4712)``."""
    names = [f"{_name(pid)} ({pid})" for pid in pids[:NAMED]]
    return ", ".join([*names, f"{len(pids) - NAMED} more"] if len(pids) > NAMED else names)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _item_of(message: dict[str, object]) -> object:
    match message:
        case {"event": "started", "pid": int(pid)}:
            return Started(pid=pid)
        case {"event": "start_failed", "errno": int(number)}:
            return StartFailed(errno=number)
        case {"event": "exited", "status": int(status)}:
            return Exited(status=status)
        case {"event": "stuck", "left": list(left)}:
            return Stuck(left=tuple(left))
    return Gone()
