"""Small JSON calls to a server that somebody else runs: one connection each, a deadline, a bounded answer.

Rule: an answer is an answer, whatever its status; an error is raised only where there is none. Whoever is cancelled
hangs up at once, which is how some servers are told to give up. Standard library only, as for all that the worker asks.
"""

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ANSWER_LIMIT_BYTES = 1 << 20
WORDS_LIMIT = 300
"""Characters of a server's error that are repeated."""
_NO_BODY = frozenset({204, 304})


class CallError(Exception):
    """There was no answer; the message says what was asked, and why."""


class NobodyThereError(CallError):
    """Nobody listens at that address."""


class CallTimeoutError(CallError):
    """Somebody listens, and did not answer in time."""


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """Status and body."""

    status: int
    body: bytes

    @property
    def good(self) -> bool:
        """Was it done?"""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body as JSON; None where it is not."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def words(self) -> str:
        """Return what an error says, bounded and printable."""
        told = self.json()
        for key in ("error", "message", "detail"):
            if isinstance(told, dict) and told.get(key):
                told = told[key]
        text = told if isinstance(told, str) else self.body.decode("utf-8", "replace")
        return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:WORDS_LIMIT]


async def call(
    address: str, method: str, path: str, *, body: object = None, bearer: str = "", timeout_s: float
) -> CallAnswer:
    """Ask once.

    Args:
        address: ``http://HOST:PORT``, or ``unix:///PATH`` of a socket on this host.
        method: Such as ``GET``.
        path: From the slash on, with its query.
        body: Sent as JSON; None: nothing is sent.
        bearer: The key to be shown, if there is one.
        timeout_s: For the whole answer, seconds.

    Raises:
        CallError: No answer that is HTTP.
    """
    asked = f"{method} {address}{path}"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            try:
                reader, writer = await _connection_to(address)
            except OSError as error:
                raise NobodyThereError(f"nobody answers at {address}: {error.strerror or error}") from error
            writer.write(_request(address, method, path, body, bearer))
            return await _answer(reader)
    except TimeoutError:
        if writer is None:
            raise NobodyThereError(f"nobody answers at {address} within {timeout_s:g} s") from None
        raise CallTimeoutError(f"{asked}: no answer within {timeout_s:g} s") from None
    except (OSError, ValueError, IndexError, EOFError, asyncio.LimitOverrunError) as error:
        raise CallError(f"{asked}: no answer that is HTTP ({type(error).__name__})") from error
    finally:
        if writer is not None:
            writer.close()


def call_now(
    address: str, method: str, path: str, *, body: object = None, bearer: str = "", timeout_s: float
) -> CallAnswer:
    """Do the same from a thread that may wait.

    Raises:
        CallError: As ``call``.
    """
    with ThreadPoolExecutor(1) as own:  # a loop of its own needs a thread without one
        asking = call(address, method, path, body=body, bearer=bearer, timeout_s=timeout_s)
        return own.submit(asyncio.run, asking).result()


async def _connection_to(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix://"):
        return await asyncio.open_unix_connection(address.removeprefix("unix://"), limit=ANSWER_LIMIT_BYTES)
    parts = urlsplit(address)
    return await asyncio.open_connection(parts.hostname, parts.port or 80, limit=ANSWER_LIMIT_BYTES)


def _request(address: str, method: str, path: str, body: object, bearer: str) -> bytes:
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", "Accept: application/json"]
    lines.append(f"Host: {'localhost' if address.startswith('unix://') else urlsplit(address).netloc}")
    if bearer:
        lines.append(f"Authorization: Bearer {bearer}")
    if body is not None:
        lines.append("Content-Type: application/json")
    if body is not None or method not in {"GET", "HEAD"}:
        lines.append(f"Content-Length: {len(payload)}")
    return "\r\n".join([*lines, "", ""]).encode() + payload


async def _answer(reader: asyncio.StreamReader) -> CallAnswer:
    status, headers = await _head(reader)
    while 100 <= status < 200:
        status, headers = await _head(reader)
    if status in _NO_BODY:
        return CallAnswer(status, b"")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return CallAnswer(status, await _chunks(reader))
    if "content-length" in headers:
        return CallAnswer(status, await reader.readexactly(_bounded(int(headers["content-length"]))))
    return CallAnswer(status, await _rest(reader))


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    if not first.startswith("HTTP/1."):
        raise ValueError("not HTTP")
    fields = (line.partition(":") for line in lines if ":" in line)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in fields}


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        _bounded(len(body) + size)
        body += (await reader.readexactly(size + 2))[:-2]
    return body


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Read up to the end of the connection."""
    body = b""
    with contextlib.suppress(ConnectionResetError):
        while part := await reader.read(1 << 16):
            body += part
            _bounded(len(body))
    return body


def _bounded(size: int) -> int:
    if not 0 <= size <= ANSWER_LIMIT_BYTES:
        raise ValueError("too large")
    return size
