"""A tiny process between the worker and one model server: the server dies with its line to a worker, but not at once.

Rules:

1. The guardian starts the server in a session of its own, with SIGKILL as its parent-death signal: a guardian that is
   killed leaves no server behind.
2. It is the reaper of everything the server forks: whoever outlives the server is killed with it. The parent-death
   signal reaches the server's main process only, so a guardian that is killed is survived by its warden, its parent,
   which inherits what it guarded and kills it, whatever session or group that moved to. Nobody else need live for that.
3. A worker's control connection is its sign of life. Without one the server lives ``grace_s`` longer; the next worker
   that connects within that time adopts it. Before a server was started there is nothing to adopt: it exits at once.
4. A server without keys has a door in front of it (``gpu_worker/door/``), started and guarded with it: the entrance is
   opened here, so that it takes connections from the first moment. Neither lives without the other: when the door dies
   the server is killed, and with the server everybody.
5. It speaks lines of JSON. ``start``, ``stop`` and ``status`` come in; ``started``, ``start_failed``, ``exited``,
   ``gone``, ``stuck`` and ``status`` go out. It believes whoever may open its socket: the folder is the owner's alone.

Standard library only, and little of that: it must start in milliseconds.
"""

import ctypes
import json
import os
import select
import signal
import socket
import time
from typing import Any, NamedTuple, NoReturn

from gpu_worker.host import procfs
from gpu_worker.host.durable import RingLog, write_durably

KILL_DEADLINE_S = 5.0
"""After SIGKILL a process that still exists hangs in the kernel; waiting longer changes nothing."""
_SWEEP_S = 0.02
_ENTRANCE_BACKLOG = 512
_LINE_LIMIT = 1 << 20
_READ_BYTES = 1 << 16
_LAST_READS = 64
"""A pipe holds a MiB at most; a child that goes on talking is not waited for."""
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


class Guardian:
    """One server's keeper: a loop over its control connection, its listener, its server and its server's output."""

    def __init__(self, control: socket.socket) -> None:
        self._control: socket.socket | None = control
        self._inbox = b""
        self._listener: socket.socket | None = None
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._signals, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        self._wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno())
        self._poll.register(self._signals, select.POLLIN)
        self._directory = -1
        self._log: RingLog | None = None
        self._output = -1
        self._pidfd = -1
        self._pid = 0
        self._door_pidfd = -1
        self._door_pid = 0
        self._door_exit: int | None = None
        self._note: dict[str, Any] = {}
        self._exit: int | None = None
        self._grace_s = 0.0
        self._orphan_at: float | None = None
        self._kill_at: float | None = None
        self._give_up_at: float | None = None

    def run(self) -> None:
        """Until the server and all it forked are gone, or there is nothing to guard."""
        while not self._over():
            for descriptor, _ in self._poll.poll(self._sleep_ms()):
                self._ready(descriptor)
            self._clock()

    def _over(self) -> bool:
        if self._pid == 0:
            return self._control is None
        return self._exit is not None and self._finish()

    def _sleep_ms(self) -> int | None:
        if self._exit is not None or self._kill_at is not None:
            return int(_SWEEP_S * 1000)
        if self._orphan_at is not None:
            return max(0, int(1000 * (self._orphan_at - time.monotonic())) + 1)
        return None

    def _ready(self, descriptor: int) -> None:
        if self._control is not None and descriptor == self._control.fileno():
            self._hear()
        elif self._listener is not None and descriptor == self._listener.fileno():
            self._adopted()
        elif descriptor == self._output:
            self._copy_output()
        elif descriptor == self._pidfd:
            self._server_exited()
        elif descriptor == self._door_pidfd:
            self._door_exited()
        elif descriptor == self._signals.fileno() and signal.SIGTERM in self._signals.recv(64):
            self._stop(self._stop_timeout_s())

    def _stop_timeout_s(self) -> float:
        return float(self._note.get("stop_timeout_s", 0.0))

    def _clock(self) -> None:
        now = time.monotonic()
        if self._orphan_at is not None and now >= self._orphan_at:
            self._orphan_at = None
            self._stop(self._stop_timeout_s())
        if self._kill_at is not None and now >= self._kill_at and self._exit is None:
            self._kill_at = now + _SWEEP_S
            self._kill_everything()
            if self._give_up_at is not None and now >= self._give_up_at:
                self._give_up_at = now + KILL_DEADLINE_S
                self._say(event="stuck", pids=sorted(self._everybody()))

    # ------------------------------------------------------------------------------------------------ the worker

    def _hear(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data or len(self._inbox) > _LINE_LIMIT:
            self._lost_worker()
            return
        *lines, self._inbox = (self._inbox + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        match message.get("do"):
            case "start" if self._pid == 0:
                self._start(message)
            case "stop":
                self._stop(float(message["grace_s"]))
            case "status":
                self._say(event="status", **self._state())

    def _lost_worker(self) -> None:
        assert self._control is not None
        self._poll.unregister(self._control)
        self._control.close()
        self._control, self._inbox = None, b""
        self._orphan_at = time.monotonic() + self._grace_s

    def _adopted(self) -> None:
        assert self._listener is not None
        connection, _ = self._listener.accept()
        if self._control is not None:
            self._lost_worker()
        self._control, self._orphan_at = connection, None
        self._poll.register(connection, select.POLLIN)

    def _say(self, **message: object) -> None:
        if self._control is None:
            return
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return  # the poll reports the broken line next

    def _state(self) -> dict[str, Any]:
        return {
            "pid": self._pid,
            "pid_started": procfs.start_of(self._pid),
            "guardian_pid": os.getpid(),
            "guardian_started": procfs.start_of(os.getpid()),
            "boot_id": procfs.boot_id(),
            "door_pid": self._door_pid,
            "door_pid_started": procfs.start_of(self._door_pid) if self._door_pid else 0,
            "exit": self._exit if self._door_exit is None else self._door_exit,
            "note": self._note,
        }

    # ------------------------------------------------------------------------------------------------ the server

    def _start(self, message: dict[str, Any]) -> None:
        self._note, self._grace_s = message["note"], float(message["adopt_grace_s"])
        self._directory = os.open(message["directory"], os.O_RDONLY | os.O_DIRECTORY)
        self._log = RingLog(self._directory, int(message["log_limit_bytes"]))
        self._listen()
        self._output, output_end = os.pipe()
        door = message.get("door")
        refusal = self._spawn_both(message, door, output_end) if door else self._spawn(message, output_end)
        os.close(output_end)
        if refusal:
            number, _, error = refusal.partition(" ")
            self._say(event="start_failed", error=error, errno=int(number))
            raise SystemExit(1)
        self._say(event="started", **self._state())
        write_durably(self._directory, "server.json", json.dumps(self._state()).encode())

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"/proc/self/fd/{self._directory}/guardian.sock")  # a socket's path is 107 bytes at most
        listener.listen(4)
        self._listener = listener
        self._poll.register(listener, select.POLLIN)

    def _spawn(self, message: dict[str, Any], output: int) -> str:
        """Start the server; answers the error (its number, then words), or nothing once it runs."""
        plugs = _Plugs(stdin=os.open(os.devnull, os.O_RDONLY), output=output)
        pid, error = _fork_and_exec(message["argv"], message["env"], plugs)
        if error:
            return error
        self._pid, self._pidfd = pid, os.pidfd_open(pid)
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(self._pidfd, select.POLLIN)
        return ""

    def _spawn_both(self, message: dict[str, Any], door: dict[str, Any], output: int) -> str:
        """Open the entrance, start the server and its door; whoever is started when the other is not dies with us."""
        try:
            entrance = _entrance(door["host"], int(door["port"]))
        except OSError as error:
            return f"{error.errno or 0} port {door['port']}: {error.strerror}"
        with entrance:
            return self._spawn(message, output) or self._spawn_door(door, entrance.fileno(), output)

    def _spawn_door(self, door: dict[str, Any], entrance: int, output: int) -> str:
        words, words_end = os.pipe()  # what it is told is far less than a pipe holds
        os.write(words_end, json.dumps(door["told"] | {"listener": entrance}).encode())
        os.close(words_end)
        pid, error = _fork_and_exec(door["argv"], door["env"], _Plugs(stdin=words, output=output, kept=entrance))
        if error:
            return error
        self._door_pid, self._door_pidfd = pid, os.pidfd_open(pid)
        self._poll.register(self._door_pidfd, select.POLLIN)
        return ""

    def _copy_output(self) -> None:
        try:
            data = os.read(self._output, _READ_BYTES)
        except BlockingIOError:  # read with the last words
            return
        if data and self._log is not None:
            self._log.write(data)
        elif not data:
            self._poll.unregister(self._output)

    def _copy_last_words(self) -> None:
        """What it said before it exited is in the log before anybody hears of its end; children may still hold it."""
        os.set_blocking(self._output, False)
        for _ in range(_LAST_READS):
            try:
                data = os.read(self._output, _READ_BYTES)
            except BlockingIOError:
                return
            if not data or self._log is None:
                return
            self._log.write(data)

    def _server_exited(self) -> None:
        self._poll.unregister(self._pidfd)
        self._copy_last_words()
        _, status = os.waitpid(self._pid, 0)
        self._exit = os.waitstatus_to_exitcode(status)
        self._give_up_at = time.monotonic() + KILL_DEADLINE_S
        self._tell_exit()

    def _door_exited(self) -> None:
        """Nobody reaches the server any more: it ends, and that is why."""
        self._poll.unregister(self._door_pidfd)
        if self._exit is None and self._kill_at is None:
            _, status = os.waitpid(self._door_pid, 0)
            self._copy_last_words()
            self._door_exit = os.waitstatus_to_exitcode(status)
            self._stop(0.0)
            self._tell_exit()

    def _tell_exit(self) -> None:
        """Say it once: with the door's status where that died first."""
        if self._door_exit is None:
            self._say(event="exited", status=self._exit)
        elif self._exit is None:
            self._say(event="exited", status=self._door_exit, who="door")

    # --------------------------------------------------------------------------------------------------- the end

    def _stop(self, grace_s: float) -> None:
        if self._pid == 0:
            raise SystemExit(0)
        now = time.monotonic()
        if self._kill_at is None:
            procfs.signal_all(self._everybody() if grace_s > 0 else (), signal.SIGTERM)
        self._kill_at = min(now + grace_s, self._kill_at or now + grace_s)
        self._give_up_at = self._kill_at + KILL_DEADLINE_S

    def _everybody(self) -> set[int]:
        return procfs.descendants(os.getpid()) | procfs.members(self._pid)

    def _kill_everything(self) -> None:
        procfs.signal_all(self._everybody(), signal.SIGKILL)

    def _finish(self) -> bool:
        """The server has exited: kill and reap what it left; True when that is done or hopeless."""
        _reap()
        left = self._everybody()
        if left:
            procfs.signal_all(left, signal.SIGKILL)
            assert self._give_up_at is not None
            if time.monotonic() < self._give_up_at:
                return False
        write_durably(self._directory, "server.json", json.dumps(self._state()).encode())
        self._say(event="stuck", pids=sorted(left)) if left else self._say(event="gone")
        return True


class _Plugs(NamedTuple):
    """What a child is born with."""

    stdin: int
    output: int
    kept: int = -1
    """A descriptor that it inherits as it is."""


def _entrance(host: str, port: int) -> socket.socket:
    """Listen where a door is to be.

    Raises:
        OSError: The port is taken.
    """
    entrance = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        entrance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        entrance.bind((host, port))
        entrance.listen(_ENTRANCE_BACKLOG)
    except OSError:
        entrance.close()
        raise
    return entrance


def _fork_and_exec(argv: list[str], env: dict[str, str], plugs: _Plugs) -> tuple[int, str]:
    """Start a program; answers its pid, or the error (its number, then words). Its standard input is closed here."""
    verdict, verdict_end = os.pipe()
    guardian = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become_program(argv, env, plugs, verdict_end, guardian)
    os.close(plugs.stdin)
    os.close(verdict_end)
    error = os.read(verdict, 4096).decode()  # ends at exec: the pipe closes itself
    os.close(verdict)
    if error:
        os.waitpid(pid, 0)
    return pid, error


def _become_program(argv: list[str], env: dict[str, str], plugs: _Plugs, verdict: int, guardian: int) -> None:
    """In the forked child: become the server or its door, or tell why not. Never returns."""
    try:
        os.setsid()
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:  # it died before the line above took hold
            os._exit(127)
        for signum in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)
        procfs.be_killed_first()
        if plugs.kept >= 0:
            os.set_inheritable(plugs.kept, True)
        for target, source in ((0, plugs.stdin), (1, plugs.output), (2, plugs.output)):
            os.dup2(source, target)
        os.execve(argv[0], argv, env)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(verdict, f"{error.errno or 0} {argv[0]}: {error.strerror}".encode())
    finally:
        os._exit(127)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0] > 0:
            pass
    except ChildProcessError:
        return


def _ward(guardian: int) -> NoReturn:
    """Wait for the guardian's end; one that was killed leaves its server and all that forked to us: kill it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service manager's, to everybody: the guardian obeys it
    _, status = os.waitpid(guardian, 0)
    give_up_at = time.monotonic() + KILL_DEADLINE_S
    while status != 0 and time.monotonic() < give_up_at and (left := procfs.descendants(os.getpid())):
        procfs.signal_all(left, signal.SIGKILL)
        time.sleep(_SWEEP_S)
        _reap()
    os._exit(0)


def main(descriptor: int) -> NoReturn:
    """Guard one server; ``descriptor`` is the inherited end of the worker's control connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    guardian = os.fork()
    if guardian:
        os.close(descriptor)  # or the worker would not hear of the guardian's end
        _ward(guardian)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # is not inherited
    os.set_inheritable(descriptor, False)  # or the server would hold our line open after our death
    keeper = Guardian(socket.socket(fileno=descriptor))
    signal.signal(signal.SIGTERM, lambda *_: None)  # the wake-up descriptor tells the loop
    keeper.run()
    os._exit(0)  # the worker waits for this; tidying up an interpreter takes longer than all the rest
