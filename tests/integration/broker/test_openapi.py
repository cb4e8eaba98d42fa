"""The OpenAPI document: complete, in step with the hot paths, and true under schemathesis."""

import asyncio
import threading
import time
from typing import Self

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings

from broker.access.principals import Scope
from broker.app import build_app, openapi_document
from broker.store.memory.store import MemoryStore
from harness.worker import FakeWorker
from tests.fakes.broker_scene import broker_on, config_of, has_open_slot, key_entry, until

DOCUMENT = openapi_document()


def test_every_route_is_documented_and_every_documented_route_exists():
    app = build_app(config_of(), MemoryStore(clock=time.time))
    documented = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}
    real = set()
    for route in [*app.router.routes, *_included()]:
        path = getattr(route, "path", "").replace(":path}", "}")
        real |= {(path, method) for method in getattr(route, "methods", None) or () if method != "HEAD"}
    real.discard(("/openapi.json", "GET"))
    assert {entry for entry in real if entry[0]} == documented


def _included():
    from broker.api.pool import models, reports, status  # noqa: PLC0415

    return [*status.control.routes, *models.operating.routes, *reports.router.routes]


class ServerThread:
    """A broker on the memory store in its own thread and loop, for tests that are not asynchronous."""

    def __init__(self) -> None:
        self.url = ""
        self.errors: list[BaseException] = []
        self._up = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        store = MemoryStore(clock=time.time)
        worker = FakeWorker.on_memory(store, serves=("a", "b", "huge"))
        async with (
            broker_on(
                store, config_of(keys=(key_entry("root", Scope.ADMIN),), wait_max_s=1, ttl_max_s=86_400)
            ) as scene,
            worker.running(),
        ):
            await until(lambda: has_open_slot(store))
            self.url = scene.url
            self._up.set()
            await self._stop.wait()


@pytest.fixture(scope="module")
def server():
    with ServerThread() as running:
        yield running


def _is_sent(value):
    """HTTP clients leave parameters out whose value is null or holds nothing: there is nothing to be refused then."""
    return any(item is not None for item in value) if isinstance(value, list | dict) else value is not None


schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path="/events").exclude(path="/lease/{lease_id}/events")


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_schemathesis_finds_no_fault(case, server):
    assume(all(map(_is_sent, (case.query or {}).values())))
    case.call_and_validate(base_url=server.url, headers={"Authorization": "Bearer hsk_root"})
