"""The HTTP server's beginning and end: sockets that a service manager hands over (sd_listen_fds(3)), and draining.

Such a socket outlives the broker: who calls while it is restarted waits to be accepted instead of being refused.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping

import uvicorn

from schemas.config_file import ConfigError

FIRST = 3
"""The first descriptor that is handed over."""


def inherited(environ: MutableMapping[str, str], host: str, port: int) -> list[socket.socket]:
    """The sockets meant for this process, oldest first; none: it opens its own.

    Takes the variables out of the environment, so that a child does not think they are for it. ``host`` and ``port``
    are those of ``[broker]``.

    Raises:
        ConfigError: One of them listens elsewhere than ``[broker]`` says, which decides who may call.
    """
    meant_for, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant_for != str(os.getpid()) or not count.isdecimal():
        return []
    found = [socket.socket(fileno=FIRST + number) for number in range(int(count))]
    allowed = _addresses(host, port)
    for each in found:
        os.set_inheritable(each.fileno(), False)
        if each.family not in {socket.AF_INET, socket.AF_INET6} or each.getsockname()[:2] not in allowed:
            here = f'[broker] has host = "{host}", port = {port}'
            raise ConfigError(f"the socket handed over listens on {address(each)}, {here}: let them agree")
    return found


def _addresses(host: str, port: int) -> set[tuple[str, int]]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"broker.host: {host}: {error.strerror}") from None
    return {(str(info[4][0]), int(info[4][1])) for info in infos}


def address(found: socket.socket) -> str:
    """Where it listens, for a person."""
    name = found.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"


class DrainingServer(uvicorn.Server):
    """uvicorn waits for open long polls for ever, or cuts them with a bare 500: they are answered first here."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        """``drain``: answer those who wait."""
        super().__init__(config)
        self._drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then what uvicorn does. Who calls a socket that outlives this broker waits for the next one."""
        if sockets:
            for server in self.servers:
                server.close()
        await self._drain()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised once more: the exit status is 0."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
