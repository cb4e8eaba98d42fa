"""Is this model server ready, is it still alive: asked of the server itself, over HTTP on this host.

Rule: ready = the health endpoint answers 200 *and* ``/v1/models`` lists the right name *and* the server has generated
one token (an embedding model: one vector) for a bearer of the generation key. A server can be healthy and crash at its
first decode, or be somebody else's on a port we thought was ours.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_worker import procfs

FIRST_POLL_S = 0.01
SLOWEST_POLL_S = 0.5
POLL_SHARE = 0.02
"""Polls are this share of the elapsed time apart: noticing late costs at most 2 % of a load."""
ANSWER_LIMIT_BYTES = 1 << 20
REQUEST_TIMEOUT_S = 5.0
LOADING_PROGRESS_LIMIT = 99
"""Percent; a hundred is said by the server itself, by being ready."""


class NotReadyError(Exception):
    """The server will not become ready; the message is for the report."""


class ProbeError(Exception):
    """One request failed: nobody listens, no answer in time, or not HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model server to ask."""

    host: str
    port: int
    key: str = field(repr=False)
    served_name: str
    kind: str
    health_path: str = "/health"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status and body of one HTTP answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


async def ask(target: Target, method: str, path: str, *, body: object = None, timeout_s: float) -> Answer:
    """One request on a connection of its own.

    Raises:
        ProbeError: No answer within ``timeout_s``, or none that is HTTP.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(target, method, path, body)
    except (
        OSError,
        TimeoutError,
        ValueError,
        IndexError,
        asyncio.IncompleteReadError,
        asyncio.LimitOverrunError,
    ) as error:
        raise ProbeError(f"{method} {path}: {str(error) or type(error).__name__}") from error


async def _exchange(target: Target, method: str, path: str, body: object) -> Answer:
    reader, writer = await asyncio.open_connection(target.host, target.port, limit=ANSWER_LIMIT_BYTES)
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {target.key}\r\nContent-Length: {len(payload)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + payload)
        return await _read_answer(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    status = int(head[0].split()[1])
    if headers.get("transfer-encoding") == "chunked":
        return Answer(status=status, body=await _read_chunks(reader))
    length = int(headers.get("content-length", "-1"))
    if length > ANSWER_LIMIT_BYTES:
        raise ValueError("answer too large")
    body = await (reader.readexactly(length) if length >= 0 else reader.read(ANSWER_LIMIT_BYTES))
    return Answer(status=status, body=body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        if len(body) + size > ANSWER_LIMIT_BYTES:
            raise ValueError("answer too large")
        body += (await reader.readexactly(size + 2))[:-2]
    return body


async def wait_ready(target: Target, *, timeout_s: float, on_poll: Callable[[], None]) -> None:
    """Return when the server is ready in all three senses.

    Args:
        target: The server that was just started.
        timeout_s: Of the whole load, seconds.
        on_poll: Called after every unsuccessful poll: the moment to look at the progress.

    Raises:
        NotReadyError: The time is up, or the server is healthy but wrong.
    """
    started_s = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            while not await _healthy(target):
                on_poll()
                elapsed_s = time.monotonic() - started_s
                await asyncio.sleep(min(SLOWEST_POLL_S, max(FIRST_POLL_S, POLL_SHARE * elapsed_s)))
            await _prove(target, timeout_s)
    except TimeoutError:
        raise NotReadyError(f"load_timeout: not ready after {timeout_s:g} s") from None
    except ProbeError as error:
        raise NotReadyError(f"not_ready: healthy, but {error}") from error


async def _healthy(target: Target) -> bool:
    try:
        answer = await ask(target, "GET", target.health_path, timeout_s=REQUEST_TIMEOUT_S)
    except ProbeError:
        return False
    return answer.status == 200


async def _prove(target: Target, timeout_s: float) -> None:
    """The right name, then the first fruit."""
    models = (await ask(target, "GET", "/v1/models", timeout_s=REQUEST_TIMEOUT_S)).json()
    names = _names(models)
    if target.served_name not in names:
        raise NotReadyError(f"wrong_model: the server offers {', '.join(sorted(names)) or 'nothing'}")
    await (_embed if target.kind == "embedding" else _generate)(target, timeout_s)


def _names(models: Any) -> set[str]:
    entries = models.get("data", []) if isinstance(models, dict) else []
    return {str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry}


async def _embed(target: Target, timeout_s: float) -> None:
    body = {"model": target.served_name, "input": "a"}
    answer = await ask(target, "POST", "/v1/embeddings", body=body, timeout_s=timeout_s)
    document = answer.json()
    vectors = document.get("data") if isinstance(document, dict) else None
    if answer.status != 200 or not vectors or not vectors[0].get("embedding"):
        raise NotReadyError(f"no_embedding: status {answer.status}")


async def _generate(target: Target, timeout_s: float) -> None:
    """One token through the plain completion endpoint, which costs the least; through the chat where that is absent."""
    common = {"model": target.served_name, "max_tokens": 1}
    answer = await ask(target, "POST", "/v1/completions", body=common | {"prompt": "a"}, timeout_s=timeout_s)
    if answer.status in {404, 405, 501} and target.kind == "chat":
        message = {"messages": [{"role": "user", "content": "a"}]}
        answer = await ask(target, "POST", "/v1/chat/completions", body=common | message, timeout_s=timeout_s)
    if answer.status != 200 or not _generated(answer.json()):
        raise NotReadyError(f"no_token: status {answer.status}")


def _generated(document: Any) -> bool:
    """Whether a token was generated: counted by the server where it counts, seen in the text where not."""
    if not isinstance(document, dict) or not document.get("choices"):
        return False
    counted = (document.get("usage") or {}).get("completion_tokens")
    if counted is not None:
        return bool(counted)
    choice = document["choices"][0]
    return bool(choice.get("text") or (choice.get("message") or {}).get("content"))


async def wait_unresponsive(target: Target, *, interval_s: float, timeout_s: float, failures: int) -> str:
    """Probe a ready server until it has failed to answer so many times in a row; answers what went wrong.

    A hung server is noticed after at most ``failures * (interval_s + timeout_s)`` seconds.
    """
    missed = 0
    while True:
        await asyncio.sleep(interval_s)
        try:
            answer = await ask(target, "GET", target.health_path, timeout_s=timeout_s)
            trouble = "" if answer.status == 200 else f"health says {answer.status}"
        except ProbeError as error:
            trouble = str(error)
        missed = missed + 1 if trouble else 0
        if missed >= failures:
            return trouble


def progress_percent(pid: int, model_path: Path | None) -> int:
    """How much of the weights the server has taken in, 0 to 99; 0 where nobody can tell.

    Bytes it has read or mapped in, over the size of the file: an upper bound for how far it is, for it also reads its
    own program. Honest enough for a progress bar, and never a hundred before the server says so itself.
    """
    try:
        size = model_path.stat().st_size if model_path is not None else 0
    except OSError:
        return 0
    return min(LOADING_PROGRESS_LIMIT, 100 * procfs.bytes_read(pid) // size) if size else 0
