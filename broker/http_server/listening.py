"""The HTTP server's beginning and end: sockets that a service manager hands over (sd_listen_fds(3)), and draining.

Such a socket outlives the broker: who calls while it is restarted waits to be accepted instead of being refused.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any

import uvicorn

from schemas.config.file import ConfigError
from schemas.config.problems import ConfigProblem

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


class CannotListenError(Exception):
    """Nobody could reach this broker now; the message says why. It may be otherwise in a moment."""


def try_to_listen(host: str, port: int) -> None:
    """Take every address for a moment: what cannot be reached must not begin to work at the pool.

    Raises:
        ConfigError: There is no such host.
        CannotListenError: A name server does not answer, or an address is taken, of another machine, or not for us.
    """
    with contextlib.ExitStack() as opened:
        probes = _probes(host, port, opened)
        for probe, place in probes:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(place)
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise CannotListenError(f"cannot listen on {place[0]}:{port}: {reason}") from None


def _probes(host: str, port: int, opened: contextlib.ExitStack) -> list[tuple[socket.socket, Any]]:
    """A socket for each address; a family that the kernel does not have is passed over, as the server does."""
    found: list[tuple[socket.socket, Any]] = []
    reason: str | None = None
    for family, place in _places(host, port):
        try:
            found.append((opened.enter_context(socket.socket(family, socket.SOCK_STREAM)), place))
        except OSError as error:
            reason = error.strerror
    if not found:
        raise CannotListenError(f"cannot listen on {host}: {reason}")
    return found


def _places(host: str, port: int) -> set[tuple[int, Any]]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise CannotListenError(f"cannot listen on {host}: {error.strerror}") from None
        raise _no_such_host(host, error) from None
    except UnicodeError as error:
        raise _no_such_host(host, error) from None
    return {(family, place) for family, _, _, _, place in infos}


def _no_such_host(host: str, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or "not a host name"
    what = f"{host!r} cannot be resolved: {reason}"
    return ConfigError(ConfigProblem(table="[broker]", key="host", what=what))


def _addresses(host: str, port: int) -> set[tuple[str, int]]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise _no_such_host(host, error) from None
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
        """Catch signals as uvicorn does, but do not raise one again that was obeyed: the exit status is 0."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
