"""One question to a model server of this host: a request over HTTP, and the answer to it.

Nothing is said to a port, the key least of all, before it is proved that our server listens there.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpu_worker.drivers.last_words import cut, last_words
from gpu_worker.drivers.port import Address

ANSWER_LIMIT_BYTES = 1 << 20
WORDS_LIMIT = 200
"""Characters of a server's error that are repeated."""


class ProbeError(Exception):
    """One request failed: nobody listens, no answer in time, or not HTTP."""


class ProbeSilentError(ProbeError):
    """The request was taken and not answered in time."""


class PortOwner(Protocol):
    """Knows whether a port is our server's; ``port.Server`` does."""

    def is_there(self) -> bool:
        """Does our server listen at its address? Raises ``StrangerError`` where somebody else does."""
        ...


Connect = Callable[[Address], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connects to a model server; raises ``OSError`` where nobody listens."""


async def connection_to(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a socket to a server of this host: TCP, or the one at its path."""
    if address.socket:
        return await asyncio.open_unix_connection(address.socket, limit=ANSWER_LIMIT_BYTES)
    return await asyncio.open_connection(address.host, address.port, limit=ANSWER_LIMIT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTarget:
    """A model server and how it is asked: address, key, name and kind."""

    address: Address
    key: str = field(repr=False)
    served_name: str
    kind: str
    owner: PortOwner
    """Asked before every request: the key goes to nobody else."""
    health_path: str = "/health"
    connect: Connect = connection_to


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """Status and body of one HTTP answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def words(self) -> str:
        """What an error says, bounded and printable."""
        document = self.json()
        error = document.get("error", document) if isinstance(document, dict) else document
        said = error.get("message") if isinstance(error, dict) else error
        text = said.encode() if isinstance(said, str) else self.body
        return cut(last_words(text, (), whole=True), WORDS_LIMIT)


async def ask(target: ProbeTarget, method: str, path: str, *, body: object = None, timeout_s: float) -> ProbeAnswer:
    """One request on a connection of its own.

    Raises:
        ProbeError: Nobody listens, no answer within ``timeout_s``, or none that is HTTP.
        StrangerError: Somebody else listens there; nothing was said to him.
    """
    if not target.owner.is_there():
        raise ProbeError(f"{method} {path}: nobody listens at {target.address}")
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(target, method, path, body)
    except TimeoutError as error:
        raise ProbeSilentError(f"{method} {path}: no answer within {timeout_s:g} s") from error
    except (
        OSError,
        ValueError,
        IndexError,
        asyncio.IncompleteReadError,
        asyncio.LimitOverrunError,
    ) as error:
        raise ProbeError(f"{method} {path}: {str(error) or type(error).__name__}") from error


async def _exchange(target: ProbeTarget, method: str, path: str, body: object) -> ProbeAnswer:
    reader, writer = await target.connect(target.address)
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {target.address.authority}\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {target.key}\r\nContent-Length: {len(payload)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + payload)
        return await _read_answer(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_answer(reader: asyncio.StreamReader) -> ProbeAnswer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    status = int(head[0].split()[1])
    if headers.get("transfer-encoding") == "chunked":
        return ProbeAnswer(status=status, body=await _read_chunks(reader))
    length = int(headers.get("content-length", "-1"))
    if length > ANSWER_LIMIT_BYTES:
        raise ValueError("answer too large")
    body = await (reader.readexactly(length) if length >= 0 else reader.read(ANSWER_LIMIT_BYTES))
    return ProbeAnswer(status=status, body=body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        if len(body) + size > ANSWER_LIMIT_BYTES:
            raise ValueError("answer too large")
        body += (await reader.readexactly(size + 2))[:-2]
    return body
