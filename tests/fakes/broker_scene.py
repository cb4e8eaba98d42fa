"""A broker on a real socket in the test's own event loop, with a worker that needs no GPU."""

import asyncio
import contextlib
import hashlib
import inspect
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx

from broker.access.principals import Scope
from broker.app import Broker, build_app, server_of
from broker.config.broker_config import BrokerConfig, BrokerSection, LimitsSection, PolicySection
from broker.config.gateway_config import GatewaySection
from broker.config.key_config import KeyEntry
from broker.http_server.listening import DrainingServer
from broker.store.memory.store import MemoryStore
from broker.store.port import Store
from harness.worker import FakeWorker
from schemas.config.file import ModelEntry, StoreSection
from schemas.config.routing import RoutingSection

PATIENCE_S = 60.0
"""What only a hang can reach, on a machine where others compute."""
MODELS = (
    ModelEntry(name="a", memory_mib=900, lease_limit=2),
    ModelEntry(name="b", memory_mib=900, lease_limit=1),
    ModelEntry(name="huge", memory_mib=5000),
)


def key_entry(name: str, *scopes: Scope, **more: object) -> KeyEntry:
    """A key whose secret is ``hsk_<name>``."""
    digest = hashlib.sha256(f"hsk_{name}".encode()).hexdigest()
    return KeyEntry(name=name, sha256=digest, scopes=scopes or (Scope.LEASE,), **more)  # type: ignore[arg-type]


def config_of(
    *,
    keys: tuple[KeyEntry, ...] = (),
    models: tuple[ModelEntry, ...] = MODELS,
    broker: object = None,
    gateway: dict[str, object] | None = None,
    **limits: object,
) -> BrokerConfig:
    """Anonymous on loopback unless keys are given; any free port."""
    section = {"port": 0, "anonymous": not keys, "drain_s": 1.0} | (broker if isinstance(broker, dict) else {})
    return BrokerConfig(
        store=StoreSection(),
        broker=BrokerSection(**section),
        limits=LimitsSection(**limits),
        policy=PolicySection(),
        gateway=GatewaySection(**(gateway or {})),  # type: ignore[arg-type]
        keys=keys,
        models=models,
        routing=RoutingSection(),
    )


@dataclass
class Scene:
    """What a test works with."""

    store: Store
    server: DrainingServer
    client: httpx.AsyncClient
    url: str

    def auth(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer hsk_{name}"}

    async def lease(self, session: str = "s", model: str = "a", **more: object) -> httpx.Response:
        headers = more.pop("headers", None)
        body = {"sessionKey": session, "model": model, **more}
        return await self.client.post("/lease", json=body, headers=headers)  # type: ignore[arg-type]

    @property
    def broker(self) -> Broker:
        return self.server.config.loaded_app.state.broker

    @property
    def open_waiters(self) -> int:
        return self.broker.services.waiters.count


async def until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until a condition (also an asynchronous one) holds; what it looks at need not be there yet."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        holds: object = False
        with contextlib.suppress(LookupError):
            holds = condition()
            if inspect.isawaitable(holds):
                holds = await holds
        if holds:
            return
        assert time.monotonic() < deadline_s, "it did not come true in time"
        await asyncio.sleep(0.01)


async def has_open_slot(store: Store) -> bool:
    """Has a worker registered?"""
    return any(slot.state == "open" for slot in (await store.snapshot()).slots)


@contextlib.asynccontextmanager
async def broker_on(store: Store, config: BrokerConfig) -> AsyncIterator[Scene]:
    """A broker serving a store."""
    app = build_app(config, store)
    server = server_of(config, app)
    task = asyncio.create_task(server._serve())
    while not server.started:
        assert not task.done(), "the broker did not start"
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        try:
            yield Scene(store, server, client, url)
        finally:
            server.should_exit = True
            await task


async def until_ready(client: httpx.AsyncClient, timeout_s: float = PATIENCE_S) -> None:
    """Wait for ``/readyz``."""
    deadline_s = time.monotonic() + timeout_s
    while (answer := await client.get("/readyz")).status_code != 200:
        assert time.monotonic() < deadline_s, answer.text
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def memory_scene(config: BrokerConfig | None = None, **worker: object) -> AsyncIterator[Scene]:
    """The usual scene: memory store, one slot that serves every model, a broker that is ready."""
    config = config or config_of()
    store = MemoryStore(clock=time.time)
    serves = tuple(model.name for model in config.models)
    fake = FakeWorker.on_memory(store, **{"serves": serves, **worker})
    async with broker_on(store, config) as scene, fake.running():
        await until_ready(scene.client)
        await until(lambda: has_open_slot(store))
        yield scene
