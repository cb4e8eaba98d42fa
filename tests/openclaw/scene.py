"""The real gateway with our plugin beside Valkey, a broker, a worker without a GPU, and a model server that is slow on
demand. Two models, of which one fits at a time.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.fakes.broker_process import BrokerProcess
from tests.fakes.redis_servers import VALKEY, RedisServer
from tests.fakes.worker import FakeWorker
from tests.openclaw.gateway import Gateway, Operator, config_of
from tests.openclaw.install import Installed, installed
from tests.openclaw.model import ModelServer

PLUGIN = Path(__file__).parents[2] / "hooks" / "openclaw" / "plugin"
TTL_S = 12.0
ACTIVE_S = 20.0
MODELS = "".join(
    f'[[model]]\nname = "{name}"\nmemory_mib = 900\nlease_limit = {limit}\n'
    for name, limit in (("alpha", 4), ("beta", 4))
)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Scene:
    """What runs, and how to look at it."""

    where: Installed
    folder: Path
    store: RedisServer
    models: ModelServer
    worker: FakeWorker
    broker: BrokerProcess
    broker_port: int
    gateway: Gateway
    operator: Operator | None = None

    @property
    def chat(self) -> Operator:
        assert self.operator is not None
        return self.operator

    def restart_broker(self) -> None:
        """At the same address."""
        self.broker = BrokerProcess(self.store.url, models=MODELS, port=self.broker_port).until_ready()

    def stop_broker(self) -> None:
        """Whichever runs now."""
        self.broker.stop()

    async def leases(self, **wanted: str) -> list[dict[str, Any]]:
        """Live leases that are as wanted."""
        async with httpx.AsyncClient(base_url=self.broker.url) as client:
            found = (await client.get("/queue")).json()["leases"]
        return [lease for lease in found if all(lease[name] == value for name, value in wanted.items())]

    async def state(self, model: str) -> str:
        """A model's deepest residency."""
        async with httpx.AsyncClient(base_url=self.broker.url) as client:
            models = (await client.get("/models")).json()["models"]
        return str(next(each["state"] for each in models if each["name"] == model))

    async def turn(self, session: str, text: str, limit_s: float = 120) -> dict[str, Any]:
        """One turn of a conversation, to its end."""
        return await self.chat.ended(await self.chat.say(session, text), limit_s)

    async def connect(self) -> None:
        if self.operator is not None:
            await self.operator.close()
        self.operator = await Operator.on(self.gateway.port)


async def until(condition: Callable[[], Awaitable[object]], limit_s: float = 30.0) -> float:
    """Wait until something holds; how long that took, seconds."""
    started_s = time.monotonic()
    while not await condition():
        assert time.monotonic() - started_s < limit_s, "it did not come true in time"
        await asyncio.sleep(0.02)
    return time.monotonic() - started_s


@contextlib.asynccontextmanager
async def openclaw_scene(**defaults: Any) -> AsyncIterator[Scene]:
    """Everything started, the plugin loaded from its folder, built; `defaults` are OpenClaw's `agents.defaults`."""
    where = installed()
    folder = Path(tempfile.mkdtemp(prefix="hotseat-openclaw-"))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        store = RedisServer(VALKEY).start()
        stack.callback(store.close)
        models = ModelServer()
        stack.callback(models.close)
        port = free_port()
        broker = BrokerProcess(store.url, models=MODELS, port=port).until_ready()
        urls = {"alpha": models.url, "beta": models.url}
        worker = FakeWorker.on_redis(store.url, serves=("alpha", "beta"), load_s=0.5, urls=urls)
        await stack.enter_async_context(worker.running())
        gateway = Gateway(where, folder, free_port())
        stack.callback(gateway.stop)
        scene = Scene(where, folder, store, models, worker, broker, port, gateway)
        stack.callback(scene.stop_broker)
        _configure(scene, defaults)
        await gateway.start()
        await scene.connect()
        stack.push_async_callback(scene.chat.close)
        yield scene


def _configure(scene: Scene, defaults: dict[str, Any]) -> None:
    plugin = {"ttlSeconds": TTL_S, "activeSeconds": ACTIVE_S}
    config = config_of(scene.folder, scene.gateway.port, scene.broker.url, plugin, **defaults)
    config["plugins"]["load"] = {"paths": [str(PLUGIN)]}
    (scene.folder / "openclaw.json").write_text(json.dumps(config))
