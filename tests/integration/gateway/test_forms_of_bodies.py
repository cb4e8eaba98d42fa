"""Bodies as other programs write them: passed on as they came, or refused in words that lead to what wrote them."""

import json

import pytest

from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of
from tests.fakes.cloud_scene import routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, body_of, gateway_scene
from tests.fakes.scripted_server import GOOD, whole

JSON = {"content-type": "application/json"}
HI = [{"role": "user", "content": "hi"}]
NULLS = dict.fromkeys(
    (
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
        "prompt_cache_key", "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
        "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user",
    )
)  # fmt: skip
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
FORMS = [
    NULLS,
    {"stop": "x"},
    {"stop": ["x", "y"]},
    {"tools": [], "tool_choice": "none"},
    {"max_completion_tokens": 5, "max_tokens": 5.0},
    {"max_tokens": "100", "temperature": "0.7", "stream": "false"},
    {"max_tokens": -1},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    {"messages": [{"role": "user", "content": ["hi", "ho"]}]},
    {"messages": [{"role": "developer", "content": "x", "name": None}, *HI]},
    {"messages": [*HI, {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None, "audio": None}]},
    {"messages": [*HI, {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "ok"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,iVBORw0="}]}]},
    {"response_format": {"type": "text"}},
    {"chat_template_kwargs": {"enable_thinking": False}, "cache_prompt": True, "top_k": 40, "min_p": None},
    {"metadata": "x", "user": 5, "session_id": 7, "prompt_cache_key": ["a"]},
    {"seed": 2**70, "temperature": 1e-7},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: ",".join(form)[:40])
async def test_a_body_in_another_librarys_form_arrives_as_it_was_sent(form, tmp_path):
    async with stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url), gateway={"strict": True})
        async with routed_scene({"a": [whole(GOOD)]}, config) as scene:
            sent = json.dumps(body_of(**form)).encode()
            answer = await scene.client.post(CHAT, content=sent)
            assert (answer.status_code, answer.content) == (200, GOOD), answer.text
            assert scene.models["a"].asked[-1].body == sent
            await scene.all_given_back()


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/embeddings"])
async def test_a_byte_order_mark_is_taken_off(path):
    kind = "embedding" if path == "/v1/embeddings" else "chat"
    config = config_of(models=(ModelEntry(name="a", memory_mib=900, kind=kind),))
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        sent = json.dumps(body_of(input="x")).encode()
        answer = await scene.client.post(path, content=b"\xef\xbb\xbf" + sent)
        assert answer.status_code == 200, answer.text
        assert scene.models["a"].asked[-1].body == sent


async def test_a_byte_order_mark_is_taken_off_a_call_for_a_lease_too():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        body = b"\xef\xbb\xbf" + json.dumps({"sessionKey": "s", "model": "a"}).encode()
        answer = await scene.client.post("/lease", content=body, headers=JSON)
        assert answer.status_code in {200, 201, 202}, answer.text


LEASE = {"sessionKey": "s", "model": "a"}


@pytest.mark.parametrize("path, fields", [(CHAT, body_of()), ("/lease", LEASE)])
async def test_what_no_server_can_read_is_refused_with_what_is_wrong_with_it(path, fields):
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        for body, words in (
            (json.dumps(fields).encode("utf-16"), "UTF-16"),
            (json.dumps(fields | {"model": "cut \ud83d"}).encode(), "half a character"),
            (json.dumps(fields | {"ttlSeconds": float("nan")}).encode(), "NaN"),
        ):
            answer = await scene.client.post(path, content=body, headers=JSON)
            assert (answer.status_code, words in answer.text) == (400, True), answer.text
        assert scene.models["a"].asked == []


PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
SAID = {"right": '{"age": 7}', "wrong": '{"age": "seven"}'}


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object", "schema": PERSON}},
        {"json_schema": PERSON},
        {"structured_outputs": {"json": PERSON}},
        {"guided_json": json.dumps(PERSON)},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.parametrize("said", SAID)
async def test_a_schema_in_another_servers_words_is_checked_too(fields, said):
    answered = json.dumps({"choices": [{"message": {"role": "assistant", "content": SAID[said]}}]}).encode()
    async with gateway_scene({"a": [whole(answered)]}, config_of(gateway={"strict": True})) as scene:
        answer = await scene.client.post(CHAT, json=body_of(**fields))
        assert answer.status_code == {"right": 200, "wrong": 422}[said], answer.text
        await scene.all_given_back()
