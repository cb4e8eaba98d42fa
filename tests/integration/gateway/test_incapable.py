"""What a model is known not to be able to answer is refused with the reason before any lease is taken."""

import pytest

from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of, key_entry
from tests.fakes.cloud_scene import NEAR, alias, routed, routed_scene
from tests.fakes.gateway_scene import CHAT, body_of, gateway_scene
from tests.fakes.scripted_server import whole

PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MODELS = (
    ModelEntry(name="blind", memory_mib=900, vision=False),
    ModelEntry(name="eyes", memory_mib=900, vision=True),
    ModelEntry(name="who-knows", memory_mib=900),
    ModelEntry(name="vectors", memory_mib=900, kind="embedding"),
    ModelEntry(name="simple", memory_mib=900, max_tools=1, structured=False),
    ModelEntry(
        name="served",
        memory_mib=900,
        model_path="/m/x.gguf",
        command=("/usr/bin/llama-server", "-m", "{model_path}", "--port", "{port}", "--api-key-file", "{api_key_file}"),
    ),
)
SERVERS = {model.name: [NEAR] for model in MODELS}
PICTURES = {
    CHAT: {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]}]},
    "/v1/messages": {"max_tokens": 5, "messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL[22:]}}]}]},
    "/v1/responses": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PIXEL}]}]},
}  # fmt: skip
OF_A_TOOL = {"max_tokens": 5, "messages": [
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "shot", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [
        {"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}}]}]}]}  # fmt: skip
SCENES = {
    "without routing": lambda: gateway_scene(SERVERS, config_of(models=MODELS)),
    "with routing": lambda: routed_scene(SERVERS, routed(models=MODELS, aliases=(alias("x", "blind"),))),
}


@pytest.fixture(params=SCENES)
async def scene(request):
    async with SCENES[request.param]() as scene:
        yield scene


def refused(answer) -> str:
    """The message; no lease was asked for."""
    assert (answer.status_code, answer.headers["x-hotseat-route"]) == (400, "refused"), answer.text
    assert answer.headers["x-hotseat-reason"] == "incapable"
    assert "x-hotseat-lease" not in answer.headers
    error = answer.json()["error"]
    assert error["code"] == "incapable"
    return error["message"]


@pytest.mark.parametrize("model", ["blind", "served"])
@pytest.mark.parametrize("path", PICTURES)
async def test_a_picture_for_a_model_without_eyes_is_refused_with_who_has_some(scene, path, model):
    message = refused(await scene.client.post(path, json={"model": model, **PICTURES[path]}))
    assert f"{model} takes no pictures; ask for one of: eyes" in message
    assert not scene.models[model].asked
    assert not scene.leases("queued", "active", "ending", "ended")


async def test_a_picture_that_a_tool_answered_with_is_one(scene):
    assert "takes no pictures" in refused(await scene.client.post("/v1/messages", json={"model": "blind", **OF_A_TOOL}))


@pytest.mark.parametrize("model", ["eyes", "who-knows"])
async def test_a_model_that_sees_or_of_which_nothing_is_known_gets_the_picture(scene, model):
    answer = await scene.client.post(CHAT, json={"model": model, **PICTURES[CHAT]})
    assert (answer.status_code, len(scene.models[model].asked)) == (200, 1)


async def test_a_text_that_speaks_of_pictures_is_no_picture(scene):
    said = f'Explain this: {{"type": "image_url", "image_url": {{"url": "{PIXEL}"}}}} and "image"'
    answer = await scene.client.post(CHAT, json={"model": "blind", "messages": [{"role": "user", "content": said}]})
    assert answer.status_code == 200
    tool = {
        "type": "function",
        "function": {"name": "draw", "parameters": {"properties": {"image": {"type": "string"}}}},
    }
    assert (await scene.client.post(CHAT, json=body_of("blind", tools=[tool]))).status_code == 200


async def test_embeddings_of_a_chat_model_are_refused_with_who_gives_some(scene):
    message = refused(await scene.client.post("/v1/embeddings", json={"model": "eyes", "input": "hi"}))
    assert "eyes gives no embeddings; ask for one of: vectors" in message
    assert not scene.models["eyes"].asked


async def test_an_embedding_model_gives_no_other_answers(scene):
    message = refused(await scene.client.post(CHAT, json=body_of("vectors")))
    assert "vectors does not answer chat requests; ask for one of: blind, eyes" in message
    assert (await scene.client.post("/v1/messages", json=body_of("vectors", max_tokens=5))).json()["type"] == "error"


async def test_more_tools_and_forms_than_a_model_says_it_takes_are_refused(scene):
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    assert "simple takes fewer tools" in refused(
        await scene.client.post(CHAT, json=body_of("simple", tools=[tool, tool]))
    )
    form = {"response_format": {"type": "json_object"}}
    assert "no answers in a given form" in refused(await scene.client.post(CHAT, json=body_of("simple", **form)))
    assert (await scene.client.post(CHAT, json=body_of("simple", tools=[tool]))).status_code == 200


async def test_the_message_names_no_model_that_a_key_may_not_use():
    keys = (key_entry("near", models=("blind",)),)
    config = routed(models=MODELS, aliases=(alias("x", "vectors", "blind"),), keys=keys)
    async with routed_scene(SERVERS, config) as scene:
        message = refused(await scene.client.post(CHAT, json={"model": "x", **PICTURES[CHAT]}))
        assert "blind takes no pictures" in message
        assert "vectors" not in message
        assert "eyes" not in message


async def test_a_server_that_is_told_to_gives_embeddings_whatever_the_kind():
    command = ("llama-server", "--embeddings", "--port", "{port}", "--api-key-file", "{api_key_file}")
    models = (ModelEntry(name="both", memory_mib=900, command=command),)
    said = whole(b'{"data": [{"embedding": [0.1]}]}')
    async with gateway_scene({"both": [said]}, config_of(models=models)) as scene:
        assert (await scene.client.post("/v1/embeddings", json={"model": "both", "input": "x"})).status_code == 200
