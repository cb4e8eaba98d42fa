"""The worker's end of the line to a guardian: start one, call one that lives, say and hear lines of JSON."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpu_worker.host import procfs

_ROOT = str(Path(__file__).resolve().parents[3])
_PROGRAM = "import sys; sys.path.insert(0, {root!r}); from gpu_worker.drivers.process.guardian import main; main({fd})"
_READ_BYTES = 1 << 16
_REAP_DEADLINE_S = 5.0


class GuardianLine:
    """A control connection to a guardian: lines of JSON, events by name.

    ``guardian`` is its pid and start time; of one we started, its warden's until it has said its own.
    """

    def __init__(
        self, connection: socket.socket, guardian: tuple[int, int], child: subprocess.Popen[bytes] | None = None
    ) -> None:
        connection.setblocking(False)
        self.guardian = guardian
        self._connection = connection
        self._child = child
        self._events: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @property
    def open(self) -> bool:
        """Whether the guardian still listens, as far as we know."""
        return not self._closed.done()

    async def _read(self) -> None:
        loop, inbox = asyncio.get_running_loop(), b""
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._connection, _READ_BYTES):
                *lines, inbox = (inbox + data).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    future = self._event(message["event"])
                    if not future.done():
                        future.set_result(message)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._child.wait, _REAP_DEADLINE_S)
        self._set_closed()

    def _set_closed(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)

    def _event(self, name: str) -> asyncio.Future[dict[str, Any]]:
        return self._events.setdefault(name, asyncio.get_running_loop().create_future())

    def say(self, **message: object) -> None:
        """Send one message; a guardian that is gone is noticed by whoever waits for its answer."""
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    async def hear(self, *names: str, within_s: float | None) -> dict[str, Any] | None:
        """The first of these events; None when the line closes or the time is up."""
        futures = {self._event(name) for name in names}
        ends: set[asyncio.Future[Any]] = {*futures, self._closed}
        await asyncio.wait(ends, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        return next((future.result() for future in futures if future.done()), None)

    async def closed(self, within_s: float) -> bool:
        """Wait until the guardian has gone; False when it has not within that time."""
        await asyncio.wait({self._closed}, timeout=within_s)
        return self._closed.done()

    def close(self) -> None:
        """Let go of the guardian: its server's grace begins."""
        self._reader.cancel()
        self._connection.close()
        self._set_closed()


def start_guardian() -> GuardianLine:
    """Start a guardian that has nothing to guard yet; it exits when its line closes."""
    ours, theirs = socket.socketpair()
    with theirs:
        program = _PROGRAM.format(root=_ROOT, fd=theirs.fileno())
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env={},
        )
    return GuardianLine(ours, (child.pid, procfs.start_of(child.pid)), child)


def call_guardian(directory: Path, guardian: tuple[int, int]) -> GuardianLine | None:
    """Connect to the guardian of a server folder; None where nobody listens."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/guardian.sock")
    except OSError:
        connection.close()
        return None
    finally:
        os.close(descriptor)
    return GuardianLine(connection, guardian)
