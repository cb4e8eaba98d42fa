"""A broker whose models are scripted servers: what a client sends to ``/v1`` arrives there, byte by byte."""

import asyncio
import contextlib
import json
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar

import httpx

from broker.config.broker_config import BrokerConfig
from broker.store.memory.store import MemoryStore
from harness.worker import FakeWorker
from tests.fakes.broker_scene import Scene, broker_on, config_of, has_open_slot, until, until_ready
from tests.fakes.scripted_server import DONE, Script, ScriptedServer, scripted_server, word

CHAT = "/v1/chat/completions"
QUICK: dict[str, object] = {"commit_after_s": 0.1, "keepalive_s": 0.1, "max_silent_s": 0.2, "dead_server_s": 0.3}
SAID = [word("one"), word("two"), DONE]


@dataclass
class GatewayScene(Scene):
    """What a test works with."""

    models: dict[str, ScriptedServer]
    worker: FakeWorker

    def leases(self, *states: str) -> list:
        pool = self.store.pool  # type: ignore[attr-defined]
        return [lease for lease in pool.leases.values() if lease.state.value in (states or ("queued", "active"))]

    async def all_given_back(self) -> None:
        await until(lambda: not self.leases("queued", "active", "ending"))

    @property
    def context(self):
        return self.broker.services.gateway.context


@contextlib.asynccontextmanager
async def gateway_scene(
    scripts: dict[str, list[Script]], config: BrokerConfig | None = None, **worker: object
) -> AsyncIterator[GatewayScene]:
    """Models ``a`` and ``b`` do not fit together; ``a`` has two leases at once, ``b`` one."""
    config = config or config_of()
    store = MemoryStore(clock=time.time)
    async with contextlib.AsyncExitStack() as stack:
        models = {name: await stack.enter_async_context(scripted_server(*of)) for name, of in scripts.items()}
        urls = {name: server.url for name, server in models.items()}
        fake = FakeWorker.on_memory(store, **{"serves": tuple(models), "urls": urls, **worker})
        scene = await stack.enter_async_context(broker_on(store, config))
        if config.keys:
            scene.client.headers["Authorization"] = f"Bearer hsk_{config.keys[0].name}"
        await stack.enter_async_context(fake.running())
        await until_ready(scene.client)
        await until(lambda: has_open_slot(store))
        scheduler = scene.broker.scheduler  # until it has looked, nobody is served
        await until(lambda: scheduler.last and any(slot.state == "open" for slot in scheduler.last.snapshot.slots))
        try:
            yield GatewayScene(scene.store, scene.server, scene.client, scene.url, models, fake)
        except BaseException:  # an open socket would be the failure of some later test
            RawClient.close_all()
            raise


class RawClient:
    """One connection, spoken by hand; ``close_all`` closes what a test that failed has left open."""

    opened: ClassVar["weakref.WeakSet[RawClient]"] = weakref.WeakSet()

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, url: str) -> "RawClient":
        host, port = url.removeprefix("http://").split(":")
        client = cls(*await asyncio.open_connection(host, int(port)))
        cls.opened.add(client)
        return client

    @classmethod
    def close_all(cls) -> None:
        for client in tuple(cls.opened):
            client.close()

    def post(self, path: str, body: bytes, *headers: str) -> None:
        lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
        lines.append(f"content-length: {len(body)}")
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        return int(lines[0].split(" ")[1]), {n.lower(): v for n, _, v in (x.partition(": ") for x in lines[1:] if x)}

    async def chunk(self) -> bytes:
        """One chunk as it is framed."""
        size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def chunks(self) -> list[bytes]:
        found = []
        while piece := await self.chunk():
            found.append(piece)
        return found

    def close(self) -> None:
        self.writer.transport.abort()


def body_of(model: str = "a", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def events_of(content: bytes) -> list[bytes]:
    return [frame for frame in content.split(b"\n\n") if frame]


def data_of(frame: bytes) -> dict:
    return json.loads(frame.split(b"data: ", 1)[1])


async def streamed(
    scene: GatewayScene, path: str = CHAT, headers: dict[str, str] | None = None, **more: object
) -> httpx.Response:
    return await scene.client.post(path, json=body_of(stream=True, **more), headers=headers)
