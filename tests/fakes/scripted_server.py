"""A model server that says, byte by byte and in time, what a test scripts."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

Step = object
"""Bytes to write, seconds to pause, an ``asyncio.Event`` to wait for, ``...``: close, or None: cut."""
Script = list[Step] | tuple[Step, ...]


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class ScriptedServer:
    """Answers with the next script, then with the last one again."""

    scripts: list[Script] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    on_ask: Callable[[Asked], None] = lambda _: None
    cut: int = 0
    """Connections that the other side closed while an answer was written."""
    open: int = 0
    url: str = ""
    written: int = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = [(n.lower(), v) for n, _, v in (line.partition(": ") for line in head[1:] if line)]
        length = int(next((v for n, v in headers if n == "content-length"), 0))
        asked = Asked(method, target, headers, await reader.readexactly(length))
        self.asked.append(asked)
        self.on_ask(asked)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        gone = asyncio.ensure_future(reader.read(1))
        self.open += 1
        try:
            return await self._play(script, writer, gone)
        except ConnectionError:
            self.cut += 1
            return False
        finally:
            self.open -= 1
            gone.cancel()

    async def _play(self, script: Script, writer: asyncio.StreamWriter, gone: "asyncio.Future[bytes]") -> bool:
        for step in script:
            if step is ...:
                return False
            if step is None:
                writer.transport.abort()
                return False
            if isinstance(step, bytes):
                writer.write(step)
                self.written += len(step)
                await writer.drain()
                continue
            pause = asyncio.ensure_future(step.wait() if isinstance(step, asyncio.Event) else asyncio.sleep(step))
            await asyncio.wait({pause, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not pause.done():
                pause.cancel()
                raise ConnectionResetError
        gone.cancel()
        await asyncio.wait({gone})  # to await it and suppress its cancellation would drop our own
        if not gone.cancelled():
            gone.result()
        return True


@contextlib.asynccontextmanager
async def scripted_server(*scripts: Script) -> AsyncIterator[ScriptedServer]:
    play = ScriptedServer(list(scripts))
    server = await asyncio.start_server(play.converse, "127.0.0.1", 0)
    play.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield play
    finally:
        server.close()


def whole(body: bytes, *, status: int = 200, content_type: str = "application/json") -> Script:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return [head.encode() + body]


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def stream(*pieces: bytes, pause_s: float = 0.0) -> Script:
    steps: list[Step] = [STREAM_HEAD]
    for piece in pieces:
        steps += [chunk(piece), pause_s]
    return [*steps, chunk(b"")]


GOOD = json.dumps(
    {
        "choices": [{"message": {"content": "hi"}, "text": "hi"}],
        "content": [{"type": "text", "text": "hi"}],
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}],
    }
).encode()
"""A whole answer with content, at whatever address."""


def word_of(path: str, text: str) -> bytes:
    """One event with text of the stream at an address."""
    if path.endswith("/responses"):
        event: dict[str, object] = {"type": "response.output_text.delta", "delta": text}
    elif path.endswith("/messages"):
        event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    elif path.endswith("/chat/completions"):
        return word(text)
    else:
        event = {"choices": [{"index": 0, "text": text}]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def word(text: str) -> bytes:
    """One chunk of a chat."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return (
        b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


DONE = b"data: [DONE]\n\n"
