"""What passes between the plugin and the broker, byte by byte: a relay that remembers all of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit


class Relay:
    """At a port of its own; to whichever broker runs now."""

    def __init__(self, target_url: Callable[[], str]) -> None:
        self._target_url = target_url
        self.sent = bytearray()
        """By the plugin."""
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Relay"]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = urlsplit(self._target_url())
        with contextlib.suppress(OSError):
            back, forth = await asyncio.open_connection(target.hostname, target.port)
            await asyncio.gather(_pass_on(reader, forth, self.sent), _pass_on(back, writer, bytearray()))
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65_536):
            seen += piece
            writer.write(piece)
            await writer.drain()
    writer.close()
