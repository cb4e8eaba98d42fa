"""What ``/v1`` is made of, each part alone, as servers for ``bench.gateway --floors``.

``python -m bench.gateway_floor KIND BACKEND [STORE]`` prints its port and serves until it is killed:

* *prototype*: what a forwarder can be at its least: uvicorn as it comes, and sixty lines that pass bytes on
  (:mod:`bench.parts.prototype`). No leases, bounds, time-outs or accounts.
* *plain*: the broker's HTTP server and its client for model servers, and nothing between them.
* *noop*: the same, with one ``FCALL`` of a function that does nothing before the request goes on and one after its end.
* *memory*: the whole broker, its store in its own memory: nothing is sent, and nothing is flushed to disk.
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from bench.parts import prototype
from bench.parts.bare import NOOP
from bench.parts.gateway_targets import BROKER, MODELS
from broker.access.guard import Guard
from broker.access.host_names import Names
from broker.access.origins import Origins
from broker.app import build_app, server_of
from broker.config.broker_config import load_config
from broker.http_client.connection_pool import ConnectionPool, Request, Timing
from broker.http_server.connections import guarded
from broker.http_server.whole_requests import Bounds
from broker.process import collector, logs
from broker.protocol.client_side import PIECES
from broker.protocol.refusals import RefusalLog
from broker.store.memory.store import MemoryStore
from broker.store.redis.link import RedisLink
from harness.worker import FakeWorker

FORWARDED = [(b"content-type", b"application/json")]


class Plain:
    """Forwards, with or without calls of the store."""

    def __init__(self, backend: str, link: RedisLink | None) -> None:
        self._url = f"{backend}/v1"
        self._link = link
        self._connections = ConnectionPool(Timing())
        self._after: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        message = await receive()
        body: bytes = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        await self._call_store()
        request = Request(method="POST", path="/chat/completions", headers=FORWARDED, body=body)
        answer = await self._connections.ask(self._url, request)
        head = [h for h in answer.headers if h[0] != b"transfer-encoding"]
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        while pieces := await answer.read_all(60.0):
            await send({"type": PIECES, "pieces": pieces})
        await send({"type": "http.response.body"})
        answer.close()
        task = asyncio.get_running_loop().create_task(self._call_store())
        self._after.add(task)
        task.add_done_callback(self._after.discard)

    async def _call_store(self) -> None:
        if self._link is not None:
            await self._link.call("FCALL", "bench_noop", 1, "hotseat:{default}")


async def plain(backend: str, store: str | None) -> uvicorn.Server:
    """See above."""
    link = None if store is None else RedisLink(store)
    if link is not None:
        await link.call("FUNCTION", "LOAD", "REPLACE", NOOP)
    protocol = guarded(Bounds(), Guard(Names(), Origins()), RefusalLog())
    config = uvicorn.Config(
        Plain(backend, link), http=protocol, ws="none", loop="uvloop", lifespan="off", log_config=None,
        interface="asgi3", server_header=False, access_log=False,
    )  # fmt: skip
    return uvicorn.Server(config)


@contextlib.asynccontextmanager
async def whole(backend: str) -> AsyncIterator[uvicorn.Server]:
    """The broker on a memory store, with a worker."""
    store = MemoryStore(clock=time.time)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hotseat.toml"
        path.write_text(f'[store]\nurl = "redis://nowhere"\n[broker]\nport = 0\nanonymous = true\n{BROKER}\n{MODELS}')
        config = load_config(path, {})
    logs.set_up(config.broker.log_format, config.broker.log_level)
    urls = {"wide": f"{backend}/v1", "cold": f"{backend}/v1"}
    async with FakeWorker.on_memory(store, serves=("wide", "cold"), urls=urls).running(every_s=0.5):
        yield server_of(config, build_app(config, store))


async def main(kind: str, backend: str, store: str | None = None) -> None:
    """Serve."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        async with contextlib.AsyncExitStack() as stack:
            if kind == "memory":
                server = await stack.enter_async_context(whole(backend))
            elif kind == "prototype":
                server = prototype.server(backend)
            else:
                server = await plain(backend, store if kind == "noop" else None)
            collector.settle()
            await server.serve([listener])


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
