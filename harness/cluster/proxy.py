"""A TCP proxy that breaks connections on purpose, between any two parts of a cluster."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from enum import StrEnum

CHUNK_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 2.0
LINGER_NOT = struct.pack("ii", 1, 0)
"""Close with a reset instead of a polite end."""


class Weather(StrEnum):
    """What happens to the bytes."""

    CLEAR = "clear"
    DROP = "drop"
    """Connections are reset, new ones too."""
    HALF_OPEN = "half_open"
    """Connections stay, nothing arrives: a cable pulled out."""
    LOST_REPLY = "lost_reply"
    """Requests arrive, then the connection is reset in place of the reply: done, and nobody knows."""
    DELAY = "delay"
    """Everything arrives, ``delay_s`` late."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Pipe:
    """One proxied connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        """Both ends hear of it at once."""
        for writer in (self.client, self.server):
            if writer is not None:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
                writer.transport.abort()


class Proxy:
    """Listens on a port of its own and forwards to a target that may come and go."""

    def __init__(self, name: str, target_port: int) -> None:
        self.name = name
        self.port = 0
        self.weather = Weather.CLEAR
        self.delay_s = 0.0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self._thaw = asyncio.Event()
        self._thaw.set()

    async def start(self) -> None:
        """Begin to listen, on any free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Reset everything."""
        assert self._server is not None
        self._server.close()
        tasks = [task for pipe in self._pipes for task in pipe.tasks]
        self._reset_all()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def change(self, weather: Weather, *, delay_s: float = 0.0) -> None:
        """From now on."""
        self.weather, self.delay_s = weather, delay_s
        if weather is Weather.HALF_OPEN:
            self._thaw.clear()
            return
        self._thaw.set()
        if weather is Weather.DROP:
            self._reset_all()

    def clear(self) -> None:
        """Fair weather again. Connections that were frozen are reset: what was sent into the void stays lost."""
        frozen = self.weather is Weather.HALF_OPEN
        self.change(Weather.CLEAR)
        if frozen:
            self._reset_all()

    def _reset_all(self) -> None:
        for pipe in tuple(self._pipes):
            pipe.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = _Pipe(client=writer)
        self._pipes.add(pipe)
        try:
            await self._thaw.wait()
            if self.weather is Weather.DROP:
                return
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                server_reader, pipe.server = await asyncio.open_connection("127.0.0.1", self._target_port)
            pipe.tasks = [
                asyncio.create_task(self._forward(reader, pipe.server, pipe, is_reply=False)),
                asyncio.create_task(self._forward(server_reader, writer, pipe, is_reply=True)),
            ]
            await asyncio.wait(pipe.tasks, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, TimeoutError):
            pass
        finally:
            pipe.reset()
            for task in pipe.tasks:
                task.cancel()
            await asyncio.gather(*pipe.tasks, return_exceptions=True)
            self._pipes.discard(pipe)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: _Pipe, *, is_reply: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self.weather is Weather.LOST_REPLY and is_reply:
                    return
                if self.weather is Weather.DELAY:
                    await asyncio.sleep(self.delay_s)
                await self._thaw.wait()
                if pipe.client.transport.is_closing():
                    return
                writer.write(data)
                await writer.drain()
