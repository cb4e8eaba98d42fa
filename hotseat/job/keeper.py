"""The keeper of a job: a small process between `hotseat run` and the command, which sees all that the command starts.

Rules:

1. A job is the command and whatever descends from it, in any session or process group. The keeper is the reaper of them
   all (child subreaper): a daemon that forked twice becomes its child. So a job is over when its keeper has no child.
2. The command stays in the process group that `hotseat run` was started in, as if it had been started alone: Ctrl-C,
   Ctrl-Z, reading the terminal and pipelines are the terminal's and the shell's business. The keeper is of that group
   too and keeps such signals pending: so it knows whether one that is to be passed on was sent to the group, and
   nobody gets it twice.
3. Whoever outlives `hotseat run` is ended: told by SIGTERM, killed after ``kill_after_s``. A command whose keeper and
   `hotseat run` were killed together dies with them (parent-death signal).
4. It speaks lines of JSON. ``start``, ``stop``, ``kill``, ``warn``, ``tell`` and ``discard`` come in; ``started``,
   ``start_failed``, ``exited``, ``gone`` and ``stuck`` go out.

Standard library only, and little of that: it must start in milliseconds.
"""

import ctypes
import json
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from gpu_worker.host import procfs

KILL_DEADLINE_S = 5.0
"""After SIGKILL a process that still exists hangs in the kernel, or is another user's."""
TWIN_S = 0.05
"""A signal to a process group is sent to one member after the other."""
_SWEEP_S = 0.02
_READ_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_HELD_BACK = {
    signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
}  # fmt: skip


class Keeper:
    """One job's keeper: a loop over its control connection and the deaths of its children."""

    def __init__(self, control: socket.socket) -> None:
        self._control: socket.socket | None = control
        self._inbox = b""
        self._wakeup, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        self._wakeup_end = wakeup
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the wake-up descriptor tells the loop
        signal.set_wakeup_fd(wakeup.fileno())
        self._poll = select.poll()
        for end in (control, self._wakeup):
            self._poll.register(end, select.POLLIN)
        self._pid = 0
        self._exited = self._gone = False
        self._told: set[int] = set()
        self._kill_after_s = 0.0
        self._term_at: float | None = None
        self._kill_at: float | None = None

    def run(self) -> None:
        """Keep the job until nothing of it lives, or what lives cannot be killed."""
        while not self._gone:
            for descriptor, _ in self._poll.poll(self._sleep_ms()):
                if descriptor == self._wakeup.fileno():
                    self._wakeup.recv(_READ_BYTES)
                else:
                    self._hear()
            self._reap()
            if not self._kill():
                return

    def _sleep_ms(self) -> int | None:
        if self._kill_at is None:
            return None
        next_at = self._kill_at if self._term_at is None else min(self._kill_at, self._term_at)
        return max(int(_SWEEP_S * 1000), int(1000 * (next_at - time.monotonic())) + 1)

    # ------------------------------------------------------------------------------------------------ hotseat run

    def _hear(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._alone()
            return
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        match message["do"]:
            case "start":
                self._start(message)
            case "stop":
                had_it = self._had_it(message) if message["by_somebody"] else self._told
                self._stop(message["number"], message["grace_s"], had_it=had_it)
            case "kill":
                self._kill_at = time.monotonic()
            case "warn":
                self._warn(message["number"])
            case "tell":
                command = set() if self._exited else {self._pid}
                procfs.signal_all(command - self._had_it(message), message["number"])
            case "discard":
                self._twin(message["number"], by_terminal=True)

    def _alone(self) -> None:
        """`hotseat run` was killed: nobody keeps the lease."""
        assert self._control is not None
        self._poll.unregister(self._control)
        self._control.close()
        self._control = None
        if self._pid == 0:
            raise SystemExit(1)
        self._stop(signal.SIGTERM, self._kill_after_s, had_it=self._told)

    def _say(self, **message: object) -> None:
        if self._control is None:
            return
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return  # the poll reports the broken line next

    # ---------------------------------------------------------------------------------------------------- the job

    def _start(self, message: dict[str, Any]) -> None:
        self._kill_after_s = message["kill_after_s"]
        verdict, verdict_end = os.pipe()
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_command(message, verdict_end, keeper)
        os.close(verdict_end)
        failed = os.read(verdict, 64)  # ends at exec: the pipe closes itself
        os.close(verdict)
        if failed:
            os.waitpid(pid, 0)
            self._say(event="start_failed", errno=int(failed))
            raise SystemExit(1)
        self._pid = pid
        self._let_go_of_files()
        self._say(event="started", pid=pid)

    def _let_go_of_files(self) -> None:
        """What the command inherited is the command's: a pipe must not stay open because we have it too."""
        assert self._control is not None
        ours = {self._control.fileno(), self._wakeup.fileno(), self._wakeup_end.fileno()}
        null = os.open(os.devnull, os.O_RDWR)
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - spares the import at start
            descriptor = int(name)
            if descriptor <= 2:
                os.dup2(null, descriptor)
            elif descriptor not in ours:
                try:
                    os.close(descriptor)
                except OSError:
                    continue  # the listing's own

    def _reap(self) -> None:
        try:
            while self._pid and not self._gone:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == self._pid:
                    self._exited = True
                    self._say(event="exited", status=os.waitstatus_to_exitcode(status))
                    if self._kill_at is not None:  # what it leaves behind was told to end as well
                        self._term_at = time.monotonic()
        except ChildProcessError:
            self._gone = True
            self._say(event="gone")

    def _everybody(self) -> set[int]:
        return procfs.descendants(os.getpid())

    def _stop(self, number: int, grace_s: float, *, had_it: set[int]) -> None:
        """Ask the job to end. What has not after half of the grace is asked by SIGTERM, and killed at its end."""
        everybody = self._everybody()
        self._signal(everybody - had_it, number)
        if number == signal.SIGTERM:
            self._told |= everybody
        procfs.signal_all(everybody, signal.SIGCONT)  # who is stopped could not obey
        now = time.monotonic()
        self._term_at = None if number == signal.SIGTERM or self._exited else now + grace_s / 2
        kill_at = now + grace_s
        self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)

    def _signal(self, pids: set[int], number: int) -> None:
        """The command first: one that waits for its children must not end well because they were ended."""
        first = sorted(pids, key=lambda pid: (pid != self._pid, pid))
        procfs.signal_all(first, signal.Signals(number))

    def _warn(self, number: int) -> None:
        """A warning kills nobody: only who listens for the signal gets it."""
        listening = {pid for pid in self._everybody() if _catches(pid, number)}
        procfs.signal_all(listening, signal.Signals(number))
        if number == signal.SIGTERM:
            self._told |= listening

    def _had_it(self, message: dict[str, Any]) -> set[int]:
        """Who has got this very signal already, because it was sent to the whole process group."""
        if not message["as_it_came"] or not self._twin(message["number"], by_terminal=False):
            return set()
        group = os.getpgrp()
        return {proc.pid for proc in procfs.living() if proc.group == group}

    def _twin(self, number: int, *, by_terminal: bool) -> bool:
        """Take the signal that we got as one of the group; False where there is none."""
        while True:
            info = signal.sigtimedwait({number}, TWIN_S)
            if info is None:
                return False
            if (info.si_code > 0) == by_terminal:
                return True

    def _kill(self) -> bool:
        """SIGTERM, then SIGKILL for everybody once it is time; False when somebody survives that."""
        now = time.monotonic()
        if self._term_at is not None and now >= self._term_at:
            self._term_at = None
            left = self._everybody()
            self._signal(left - self._told, signal.SIGTERM)
            self._told |= left
        if self._kill_at is None or now < self._kill_at:
            return True
        procfs.signal_all(self._everybody(), signal.SIGKILL)
        if now < self._kill_at + KILL_DEADLINE_S:
            return True
        self._say(event="stuck", left=sorted(self._everybody()))
        return False


def _become_command(message: dict[str, Any], verdict: int, keeper: int) -> NoReturn:
    """Become, in the forked child, the command as it would have been started alone, or tell why not."""
    try:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it died before the line above took hold
            os._exit(1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):  # what Python itself had set
            signal.signal(number, signal.SIG_DFL)
        for number in message["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, message["mask"])
        os.execvp(message["argv"][0], message["argv"])  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(verdict, str(error.errno or 0).encode())
    finally:
        os._exit(127)


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:  # noqa: PTH123 - as above
            caught = next((line for line in lines if line.startswith("SigCgt:")), "SigCgt: 0")
    except OSError:
        return False
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def main(descriptor: int) -> NoReturn:
    """Keep one job; ``descriptor`` is the inherited end of the control connection."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    os.set_inheritable(descriptor, False)  # or the command would hold our line open after our death
    Keeper(socket.socket(fileno=descriptor)).run()
    os._exit(0)
