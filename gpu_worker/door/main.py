"""The door's process: started by a guardian beside its server, told by its standard input what it guards.

Rule: it never ends by itself while it works. SIGTERM closes its entrance and lets answers finish; the guardian kills it
once its server is gone, and ends the server when the door is gone. What it is told never stands in its arguments.
"""

import asyncio
import json
import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import Any, NoReturn

from gpu_worker.door.connection import DoorConnection, Entrance

CONNECTIONS = 1024
"""At once; whoever comes then is told to come again."""
_SPARE_DESCRIPTORS = 64
_BACKLOG = 512
_FULL_S = 0.005
"""Between two tries at a server that has more connections waiting than it takes; the connection has the deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """All that a door is told."""

    listener: int
    """Descriptor of its entrance, which its guardian has opened: it takes connections from the first moment."""
    key: str = field(repr=False)
    socket: str = ""
    """Where the server listens: the path of a socket, else …"""
    host: str = ""
    port: int = 0
    """… a port of this host."""


def _connections() -> int:
    """As many as there are descriptors for, two for each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return CONNECTIONS if most < 0 else max(1, min(CONNECTIONS, (most - _SPARE_DESCRIPTORS) // 4))


async def _to_socket(path: str, make: Any) -> object:
    """Connect to a Unix socket; where its backlog is full, asyncio would take the refusal for a connection."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(path)
        except BlockingIOError:
            connection.close()
            await asyncio.sleep(_FULL_S)
        except BaseException:
            connection.close()
            raise
        else:
            return await asyncio.get_running_loop().create_unix_connection(make, sock=connection)


async def keep(told: DoorSettings) -> None:
    """Let bearers of the key through, for ever."""
    loop = asyncio.get_running_loop()

    def connect(make: Any) -> "asyncio.Future[object]":
        if told.socket:
            return asyncio.ensure_future(_to_socket(told.socket, make))
        return asyncio.ensure_future(loop.create_connection(make, told.host, told.port))

    entrance = Entrance(told.key.encode(), connect, _connections())
    listening = await loop.create_server(
        lambda: DoorConnection(entrance), sock=socket.socket(fileno=told.listener), backlog=_BACKLOG
    )

    def close() -> None:
        listening.close()
        entrance.close()

    loop.add_signal_handler(signal.SIGTERM, close)
    try:
        await asyncio.Event().wait()
    finally:
        listening.close()
        entrance.abort()


def main() -> NoReturn:
    """Keep the door of which standard input tells."""
    told = DoorSettings(**json.loads(sys.stdin.buffer.read()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(keep(told))
    raise SystemExit(1)
