"""Clients whose base URL lacks ``/v1``, has it twice or ends in a slash are served; others are told what to set."""

import json

import pytest

from tests.fakes.broker_scene import config_of, key_entry, memory_scene
from tests.fakes.gateway_scene import body_of, gateway_scene
from tests.fakes.scripted_server import DONE, stream, whole, word
from tests.fakes.sdks import anthropic, openai

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
CHAT = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "a", "choices": [CHOICE]}).encode()
SAID = {"id": "x", "type": "message", "role": "assistant", "model": "a", "content": [{"type": "text", "text": "hi"}]}
CLAUDE = json.dumps(SAID | {"stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}}).encode()


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/", "/v1/v1", "/v1/v1/", "//v1"])
async def test_openais_sdk_is_served_under_any_base_url_that_is_clear(base):
    async with (
        gateway_scene({"a": [whole(CHAT)]}) as scene,
        openai.AsyncOpenAI(base_url=scene.url + base, api_key="x", max_retries=0) as client,
    ):
        answer = await client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}])
        assert answer.choices[0].message.content == "hi"
        assert "a" in [model.id async for model in client.models.list()]
        assert (await client.models.retrieve("a")).id == "a"
        with pytest.raises(openai.NotFoundError, match="no model nobody"):
            await client.models.retrieve("nobody")
        assert scene.models["a"].asked[0].target == "/v1/chat/completions"


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/", "/v1/v1"])
async def test_anthropics_sdk_is_served_under_any_base_url_that_is_clear(base):
    async with (
        gateway_scene({"a": [whole(CLAUDE)]}) as scene,
        anthropic.AsyncAnthropic(base_url=scene.url + base, api_key="x", max_retries=0) as client,
    ):
        answer = await client.messages.create(model="a", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
        assert answer.content[0].text == "hi"
        assert "a" in [model.id async for model in client.models.list()]


async def test_a_stream_is_served_there_too():
    async with gateway_scene({"a": [stream(word("one"), DONE)]}) as scene:
        answer = await scene.client.post("/chat/completions", json=body_of(stream=True))
        assert answer.content == word("one") + DONE


@pytest.mark.parametrize(
    "base", ["/v1/chat/completions", "/openai", "/api/v1", "/api", "/v2", "/openai/deployments/a", "/v1beta/openai"]
)
async def test_under_any_other_base_url_the_client_is_told_what_to_set(base):
    async with (
        memory_scene() as scene,
        openai.AsyncOpenAI(base_url=scene.url + base, api_key="x", max_retries=0) as client,
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="a", messages=[])
        assert f"base URL to {scene.url}/v1" in caught.value.message
        assert caught.value.code == "not_found"


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/v1", "/v1/", "/v1/nothing"])
async def test_who_asks_at_no_address_of_ours_is_told_so(path):
    async with memory_scene() as scene:
        answer = await scene.client.post(path, json={})
        assert answer.status_code == 404
        assert f"{scene.url}/v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completions/"])
async def test_a_wrong_method_is_told_the_right_one(path):
    async with memory_scene() as scene:
        answer = await scene.client.get(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        listed = await scene.client.post("/v1/models/", json={})
        assert (listed.status_code, listed.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completions/"])
async def test_a_wrong_base_url_is_no_way_past_the_keys(path):
    async with gateway_scene({"a": [whole(CHAT)]}, config_of(keys=(key_entry("one"),))) as scene:
        for headers, status in (({"Authorization": "Bearer no"}, 401), ({"Authorization": ""}, 401), ({}, 200)):
            assert (await scene.client.post(path, json=body_of(), headers=headers)).status_code == status
        for listed in ("/models", "/models/", "/v1/models/", "/models/a"):
            assert (await scene.client.get(listed, headers={"Authorization": "Bearer no"})).status_code == 401


async def test_the_list_of_models_has_one_form_wherever_an_sdk_asks():
    async with memory_scene() as scene:
        ours = (await scene.client.get("/models")).json()
        lists = [
            (await scene.client.get(path)).json() for path in ("/v1/models", "/v1/models/", "/v1/v1/models", "/models/")
        ]
        claude = await scene.client.get(
            "/v1/models?limit=20", headers={"anthropic-version": "2023-06-01", "x-api-key": "k"}
        )
        lists.append(claude.json())
    first = lists[0]
    assert all(found == first for found in lists)
    assert (ours["object"], ours["data"]) == ("list", first["data"])
    assert [model["name"] for model in ours["models"]] == [card["id"] for card in first["data"]]
