"""Nothing is loaded, evicted or paid for a client that has gone: real sockets, closed before and while it waits."""

import asyncio
import json
import time

import pytest

from broker.routing.budget import periods
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of, until
from tests.fakes.cloud_scene import routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, RawClient, body_of, gateway_scene, streamed
from tests.fakes.scripted_server import GOOD, whole

SECONDS = 8.0
"""A load that is far from done when its client leaves."""


async def kinds(scene) -> list[tuple[str, str, str]]:
    events = await scene.store.events("0-0", block_s=0, limit=1000)
    return [(one.kind, one.fields.get("model", ""), one.fields.get("why", "")) for one in events]


async def settled(scene) -> None:
    """The broker has read and forgotten every connection but the test's own."""
    await until(lambda: len(scene.server.server_state.connections) <= 1)
    await until(lambda: not scene.leases("queued", "active"))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_whose_client_has_closed_already_evicts_and_loads_nothing(stream, caplog):
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}) as scene:
        assert (await streamed(scene, model="a")).status_code == 200
        before = await kinds(scene)
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of("b", stream=stream)).encode())
        client.writer.close()
        await settled(scene)
        assert await kinds(scene) == before
        assert scene.models["b"].asked == []
        assert not [record for record in caplog.records if record.levelname == "ERROR"], "it is no fault of ours"


@pytest.mark.parametrize("body", [{}, {"wait": 30}, {"wait": 30, "cancelOnDisconnect": True}, {"intent": "warm"}])
async def test_a_lease_is_not_opened_for_a_client_that_has_closed_already(body, caplog):
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}) as scene:
        before = await kinds(scene)
        client = await RawClient.to(scene.url)
        client.post("/lease", json.dumps({"sessionKey": "s", "model": "b"} | body).encode())
        client.writer.close()
        await settled(scene)
        assert await kinds(scene) == before
        assert not [record for record in caplog.records if record.levelname == "ERROR"], "it is no fault of ours"


@pytest.mark.parametrize("path", ["/lease/{}", "/lease/{}?wait=5", "/lease/{}/events"])
async def test_a_grant_is_not_claimed_by_a_client_that_has_closed_already(path):
    async with gateway_scene({"a": [whole(GOOD)]}, load_s=0.3) as scene:
        lease = (await scene.lease(ttlSeconds=600)).json()
        await until(lambda: scene.leases("active"))
        client = await RawClient.to(scene.url)
        client.writer.write(f"GET {path.format(lease['leaseId'])} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        client.writer.close()
        await until(lambda: len(scene.server.server_state.connections) <= 1)
        assert not scene.leases("active")[0].claimed


async def test_an_upstream_is_neither_asked_nor_paid_for_a_client_that_has_closed_already(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url))
        async with routed_scene({"a": [whole(GOOD)]}, config) as scene:
            client = await RawClient.to(scene.url)
            client.post(CHAT, json.dumps(body_of("cloud/acme")).encode())
            client.writer.close()
            await settled(scene)
            spent = await scene.store.spending.spent([("*", periods(time.time())[0])])
            assert (cloud.accepted, spent) == (0, [0])


async def says(scene, kind: str, model: str, why: str) -> bool:
    return (kind, model, why) in await kinds(scene)


async def test_a_load_given_up_after_a_second_and_a_half_is_broken_off_and_leaves_nothing_behind():
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}, load_s=SECONDS) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of("b", stream=True)).encode())
        await until(lambda: says(scene, "loading", "b", "waiters"))
        await asyncio.sleep(1.5)
        client.close()
        await until(lambda: says(scene, "unloading", "b", "deserted"))
        await until(lambda: not scene.worker.loads)
        await scene.broker.scheduler.tick()
        await asyncio.sleep(1.0)
        assert [kind for kind, _, _ in await kinds(scene)].count("loading") == 1
        assert not scene.worker.loads


async def test_nobody_learns_from_a_request_that_was_given_up_that_its_model_will_be_asked_for():
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}) as scene:
        for session in ("agent", "other"):
            answer = await scene.client.post(CHAT, json=body_of("a"), headers={"x-hotseat-session": session})
            assert answer.status_code == 200
        scene.worker.load_s = SECONDS
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of("b")).encode(), "x-hotseat-session: agent")
        await until(lambda: says(scene, "loading", "b", "waiters"))
        await asyncio.sleep(0.5)
        client.close()
        await until(lambda: says(scene, "unloading", "b", "deserted"))
        await until(lambda: "b" not in scene.worker.loads)
        await asyncio.sleep(2.0)
        assert [model for kind, model, _ in await kinds(scene) if kind == "loading"].count("b") == 1


async def test_who_comes_back_at_once_finds_the_load_going_on():
    async with gateway_scene({"a": [whole(GOOD)]}, load_s=2.5) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of("a")).encode())
        await until(lambda: says(scene, "loading", "a", "waiters"))
        client.close()
        await until(lambda: not scene.leases("queued"))
        assert (await scene.client.post(CHAT, json=body_of("a"))).status_code == 200
        assert [kind for kind, _, _ in await kinds(scene)].count("loading") == 1


async def test_a_client_that_gives_up_sooner_than_the_load_takes_gets_there_in_the_end():
    """Each time it waits for a second and pauses for longer than anybody is patient with."""
    slow = ModelEntry(name="a", memory_mib=900, lease_limit=2, load_s_hint=9.0)
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(models=(slow,)), load_s=9.0) as scene:
        for _ in range(12):
            client = await RawClient.to(scene.url)
            client.post(CHAT, json.dumps(body_of("a")).encode())
            try:
                status, _ = await asyncio.wait_for(client.head(), 1.0)
            except TimeoutError:
                client.close()
                await asyncio.sleep(1.5)
            else:
                client.close()
                assert status == 200
                break
        else:
            pytest.fail("it never was served")
        assert [kind for kind, _, _ in await kinds(scene)].count("loading") == 2
