"""One scene: Valkey, a broker, a real gateway, and two places for models of which only one fits at a time each.

``gpu0`` belongs to a worker without a GPU whose model server does as it is told; ``cpu0`` to a real worker with
llama.cpp and two small models of random weights.
"""

import asyncio
import contextlib
import hashlib
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

from harness.broker_process import BrokerProcess
from harness.openclaw.gateway import Gateway, Operator
from harness.openclaw.gateway_config import COLD, REAL, SCRIPTED, Setup, config_of, free_port, kept_socket
from harness.openclaw.install import Installed
from harness.openclaw.model import ModelServer
from harness.openclaw.relay import Relay
from harness.redis_servers import VALKEY, RedisServer
from harness.stack import Build, Stack, model_toml
from harness.worker import FakeWorker
from hotseat.demo.tiny_gguf import GgufShape

PLUGIN = Path(__file__).parents[2] / "hooks" / "openclaw" / "plugin"
TTL_S = 12.0
ACTIVE_S = 20.0
CONTEXT = 65_536
"""Tokens; the prompt of the agent `real`, who has no tools, has ten thousand of these models' short tokens."""
OWN_TROUBLE = "StateDatabaseCoordinatorContentionError"
"""What a gateway on a crowded machine may answer instead of beginning a turn."""
BUILD = Build(shape=GgufShape(context=CONTEXT))
SIZE = ("-c", str(2 * CONTEXT), "-np", "2")
WITH_PLUGIN = Setup(
    plugin={"ttlSeconds": TTL_S, "activeSeconds": ACTIVE_S, "contextTokens": 131_072}, plugin_paths=(PLUGIN,)
)
KEY = "hsk_openclaw"
KEYS = f'[[key]]\nname = "openclaw"\nsha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"\nscopes = ["lease"]\n'


@dataclass
class Scene:
    """What runs, and how to look at it."""

    where: Installed
    folder: Path
    store: RedisServer
    models: ModelServer
    worker: FakeWorker
    broker: BrokerProcess
    catalogue: str
    settings: str
    gateway: Gateway
    relay: Relay
    """Between plugin and broker."""
    listener: socket.socket | None = None
    """The broker's, where it outlives it."""
    operator: Operator | None = None

    @property
    def chat(self) -> Operator:
        assert self.operator is not None
        return self.operator

    def restart_broker(self) -> None:
        """At the same address."""
        port = int(self.broker.url.rpartition(":")[2])
        self.broker = broker_of(self.store, self.catalogue, self.settings, port, self.listener)

    def stop_broker(self) -> None:
        """Whichever runs now."""
        self.broker.stop()

    async def leases(self, **wanted: str) -> list[dict[str, Any]]:
        """Live leases that are as wanted."""
        async with httpx.AsyncClient(base_url=self.broker.url, timeout=30) as client:
            found = (await client.get("/queue")).json()["leases"]
        return [lease for lease in found if all(lease[name] == value for name, value in wanted.items())]

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """Ask the broker."""
        async with httpx.AsyncClient(base_url=self.broker.url, timeout=30) as client:
            return await client.post(path, json=body, headers={"Authorization": f"Bearer {KEY}"})

    async def state(self, model: str) -> str:
        """A model's deepest residency."""
        async with httpx.AsyncClient(base_url=self.broker.url, timeout=30) as client:
            models = (await client.get("/models")).json()["models"]
        return str(next(each["state"] for each in models if each["name"] == model))

    async def turn(self, session: str, text: str, limit_s: float = 120) -> dict[str, Any]:
        """One turn of a conversation, to its end; once more where OpenClaw's own database was busy before it began."""
        end = await self.chat.ended(await self.chat.say(session, text), limit_s)
        if OWN_TROUBLE in str(end.get("errorMessage")):
            end = await self.chat.ended(await self.chat.say(session, text), limit_s)
        return end

    async def connect(self) -> None:
        if self.operator is not None:
            await self.operator.close()
        self.operator = await Operator.on(self.gateway.port)

    async def close(self) -> None:
        """The connection to the gateway."""
        if self.operator is not None:
            await self.operator.close()

    async def idle(self) -> None:
        """End every conversation and wait until nothing is leased."""
        self.worker.load_s = 0.5
        for lease in await self.leases():
            with contextlib.suppress(AssertionError):  # a session that is gone already
                await self.chat.call("sessions.reset", {"key": lease["sessionKey"]})

        async def empty() -> bool:
            return not await self.leases()

        await until(empty, TTL_S + 60)


async def until(condition: Callable[[], Awaitable[object]], limit_s: float = 30.0) -> float:
    """Wait until something holds; how long that took, seconds."""
    started_s = time.monotonic()
    while not await condition():
        assert time.monotonic() - started_s < limit_s, "it did not come true in time"
        await asyncio.sleep(0.02)
    return time.monotonic() - started_s


def broker_of(
    store: RedisServer, catalogue: str, settings: str, port: int, listener: socket.socket | None = None
) -> BrokerProcess:
    """A broker at an address, or on a socket that is there already."""
    return BrokerProcess(store.url, models=catalogue, extra=settings, port=port, listener=listener).until_ready()


def scripted_models() -> str:
    """Their part of the catalogue."""
    return "".join(f'[[model]]\nname = "{name}"\nmemory_mib = 900\nlease_limit = 4\n' for name in (*SCRIPTED, *COLD))


@contextlib.asynccontextmanager
async def openclaw_scene(
    where: Installed,
    setup: Setup = WITH_PLUGIN,
    settings: str = "",
    before: Callable[[Scene], Awaitable[None]] | None = None,
) -> AsyncIterator[Scene]:
    """Everything started, the plugin loaded from its folder, built.

    The broker runs with ``settings``, and ``before`` is done before the gateway starts.
    """
    folder = Path(tempfile.mkdtemp(prefix="hotseat-openclaw-"))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        store = RedisServer(VALKEY, aof=True).start()
        stack.callback(store.close)
        models = ModelServer()
        stack.callback(models.close)
        real = "".join(model_toml(folder, name, *SIZE, build=BUILD) for name in REAL)
        catalogue = KEYS + scripted_models() + real
        (folder / "key").write_text(KEY)
        listener = stack.enter_context(kept_socket()) if setup.socket_kept else None
        broker = broker_of(store, catalogue, settings, free_port(), listener)
        urls = dict.fromkeys(SCRIPTED, models.url)
        worker = FakeWorker.on_redis(store.url, serves=SCRIPTED, load_s=0.5, urls=urls)
        await stack.enter_async_context(worker.running())
        environ = {} if setup.onboarded else {"HOTSEAT_URL": broker.url, "HOTSEAT_API_KEY": KEY}
        gateway = Gateway(where, folder, free_port(), environ)
        relay = Relay(lambda: scene.broker.url)
        scene = Scene(where, folder, store, models, worker, broker, catalogue, settings, gateway, relay, listener)
        await stack.enter_async_context(relay.running())
        stack.callback(scene.stop_broker)
        host = Stack(folder, broker, store, catalogue=real, slot="cpu0")
        host.start_worker()
        stack.callback(host.stop_worker)
        stack.callback(gateway.stop)
        config = config_of(folder, gateway.port, broker.url, relay.url, setup)
        (folder / "openclaw.json").write_text(json.dumps(config))
        if before is not None:
            await before(scene)
        await gateway.start()
        await scene.connect()
        stack.push_async_callback(scene.close)
        yield scene
