"""A heartbeat without a plugin: served while its model is warm, else refused at once; nothing is loaded for it."""

import asyncio
import time

import httpx
import pytest

from broker.access.principals import Scope
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.cloud_scene import NEAR, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, QUICK, SAID, body_of, gateway_scene
from tests.fakes.scripted_server import GOOD, chunk, stream, whole
from tests.fakes.sdks import openai

ONLY = {"x-hotseat-only-if-warm": "true"}


async def loads(scene) -> int:
    events = await scene.store.events("0-0", block_s=0, limit=1000)
    return sum(event.kind == "loading" for event in events)


async def test_what_is_not_loaded_is_refused_at_once_with_the_reason_and_nothing_is_loaded():
    async with gateway_scene({"a": [whole(GOOD)]}, load_s=0.1) as scene:
        began_s = time.monotonic()
        answer = await scene.client.post(CHAT, json=body_of(), headers=ONLY)
        assert time.monotonic() - began_s < 10
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_warm")
        assert "a is not loaded" in answer.json()["error"]["message"]
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["x-should-retry"] == "false"
        await asyncio.sleep(0.5)
        assert await loads(scene) == 0
        assert scene.models["a"].asked == []


async def test_the_official_sdk_hears_it_from_its_first_try():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        tries = []

        async def note(request: httpx.Request) -> None:
            tries.append(request.url.path)

        http = httpx.AsyncClient(event_hooks={"request": [note]})
        async with openai.AsyncOpenAI(
            base_url=f"{scene.url}/v1", api_key="none", default_headers=ONLY, http_client=http
        ) as client:
            with pytest.raises(openai.InternalServerError, match="a is not loaded"):
                await client.chat.completions.create(**body_of())
        assert tries == ["/v1/chat/completions"]


async def test_what_is_warm_answers_and_a_busy_one_is_waited_for():
    slow = [0.6, *stream(*SAID)]
    async with gateway_scene({"b": [slow, whole(GOOD)]}, config_of(gateway=QUICK | {"max_silent_s": 5})) as scene:
        person = asyncio.create_task(scene.client.post(CHAT, json=body_of("b", stream=True)))
        await until(lambda: scene.models["b"].asked)
        answer = await scene.client.post(CHAT, json=body_of("b"), headers=ONLY)
        assert (answer.status_code, answer.content) == (200, GOOD)
        assert int(answer.headers["x-hotseat-waited-ms"]) > 100
        assert (await person).status_code == 200


async def test_a_key_says_it_for_a_client_that_can_send_no_header_and_the_header_wins():
    config = config_of(keys=(key_entry("k", Scope.LEASE, only_if_warm=True),))
    async with gateway_scene({"a": [whole(GOOD), whole(GOOD)]}, config) as scene:
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 503
        off = {"x-hotseat-only-if-warm": "false"}
        assert (await scene.client.post(CHAT, json=body_of(), headers=off)).status_code == 200
        assert (await scene.client.post(CHAT, json=body_of())).status_code == 200


async def test_a_word_that_is_neither_yes_nor_no_is_refused():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        answer = await scene.client.post(CHAT, json=body_of(), headers={"x-hotseat-only-if-warm": "perhaps"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_argument")


async def test_it_goes_to_a_warm_substitute_and_never_to_an_upstream(tmp_path):
    async with stub(chunk(b"far")) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(alias("any", "a", "b", "cloud/acme"),))
        async with routed_scene({"a": [NEAR], "b": [NEAR, NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("any"), headers=ONLY)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_warm")
            assert (await scene.client.post(CHAT, json=body_of("b"))).status_code == 200
            answer = await scene.client.post(CHAT, json=body_of("any"), headers=ONLY)
            assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "b")
            assert cloud.accepted == 0
            assert await loads(scene) == 1


async def test_an_upstream_alone_serves_nobody_who_wants_only_what_is_warm(tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), aliases=(alias("far", "cloud/acme"),))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("far"), headers=ONLY)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_warm")
            assert cloud.accepted == 0
