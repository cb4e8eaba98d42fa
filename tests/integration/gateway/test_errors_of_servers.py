"""A model server's error reaches both SDKs as the exception of its status, with the server's own words."""

import asyncio
import json

import pytest

from tests.fakes.broker_scene import config_of
from tests.fakes.cloud_scene import NEAR, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, QUICK, body_of, gateway_scene
from tests.fakes.scripted_server import STREAM_HEAD, chunk, whole, word_of
from tests.fakes.sdks import anthropic, openai

MESSAGES = "/v1/messages"
SAID = "request (21023 tokens) exceeds the available context size"
PAGE = f"<html><head><title>{SAID}</title></head><body><h1>{SAID}</h1></body></html>".encode()
FORMS = {
    "llama.cpp": json.dumps({"error": {"code": 400, "message": SAID, "type": "exceed_context_size_error"}}).encode(),
    "vllm": json.dumps({"object": "error", "message": SAID, "type": "BadRequestError", "code": 400}).encode(),
    "anthropic": json.dumps({"type": "error", "error": {"type": "api_error", "message": SAID}}).encode(),
    "ollama": json.dumps({"error": SAID}).encode(),
    "fastapi": json.dumps({"detail": SAID}).encode(),
    "text": SAID.encode(),
    "page": PAGE,
}
OF_STATUS = {
    400: "BadRequestError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "InternalServerError",
}
HELLO = [{"role": "user", "content": "hi"}]


def sdk(kind, url):
    if kind == "openai":
        return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
    return anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0)


async def asked(client, *, stream):
    """What the SDK's plain call gives; a stream is read to its end."""
    if isinstance(client, openai.AsyncOpenAI):
        answer = await client.chat.completions.create(model="a", messages=HELLO, stream=stream)
    else:
        answer = await client.messages.create(model="a", max_tokens=9, messages=HELLO, stream=stream)
    if stream:
        async for _ in answer:
            pass


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", OF_STATUS)
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_a_whole_error_in_any_form_is_the_exception_of_its_status(kind, status, stream):
    module = {"openai": openai, "anthropic": anthropic}[kind]
    scripts = [whole(body, status=status, content_type="text/html" if body is PAGE else "application/json")
               for body in FORMS.values()]  # fmt: skip
    async with gateway_scene({"a": scripts}) as scene, sdk(kind, scene.url) as client:
        for form in FORMS:
            with pytest.raises(getattr(module, OF_STATUS[status])) as caught:
                await asked(client, stream=stream)
            assert caught.value.status_code == status
            assert caught.value.body["error" if kind == "anthropic" else "message"], form
            error = caught.value.body["error"] if kind == "anthropic" else caught.value.body
            assert error["message"] == SAID, form
            assert caught.value.request_id
            if kind == "anthropic":
                assert caught.value.body["type"] == "error"
        await scene.all_given_back()


@pytest.mark.parametrize("path, kind", [(CHAT, "openai"), (MESSAGES, "anthropic")])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "page"])
async def test_an_error_inside_a_stream_is_raised_with_the_servers_own_words(path, kind, form):
    begun = word_of(path, "one")
    for event in (b"data: " + FORMS[form] + b"\n\n", b"event: error\ndata: " + FORMS[form] + b"\n\n"):
        if not event.startswith(b"event") and form in {"text", "fastapi"}:
            continue  # nothing says that it is an error
        name = b"event: content_block_delta\n" if path == MESSAGES else b""
        script = [STREAM_HEAD, chunk(name + begun), chunk(event), chunk(b"")]
        async with gateway_scene({"a": [script]}) as scene, sdk(kind, scene.url) as client:
            module = {"openai": openai, "anthropic": anthropic}[kind]
            with pytest.raises(module.APIError, match="exceeds the available context"):
                await asked(client, stream=True)
            await scene.all_given_back()


@pytest.mark.parametrize("path, kind", [(CHAT, "openai"), (MESSAGES, "anthropic")])
@pytest.mark.parametrize("form", FORMS)
async def test_an_error_after_keepalives_says_the_servers_own_words(path, kind, form):
    config = config_of(gateway=QUICK)
    async with (
        gateway_scene({"a": [whole(FORMS[form], status=400)]}, config, load_s=0.5) as scene,
        sdk(kind, scene.url) as client,
    ):
        module = {"openai": openai, "anthropic": anthropic}[kind]
        with pytest.raises(module.APIError) as caught:
            await asked(client, stream=True)
        error = caught.value.body["error"] if kind == "anthropic" else caught.value.body
        assert error["message"] == f"the model server answered 400: {SAID}"
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("form", FORMS)
async def test_an_upstreams_refusal_is_the_exception_of_its_status_too(kind, form, tmp_path):
    async with stub(whole(FORMS[form], status=400)) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url, protocol=kind))
        async with routed_scene({"a": [NEAR]}, config) as scene, sdk(kind, scene.url) as client:
            module = {"openai": openai, "anthropic": anthropic}[kind]
            call = client.chat.completions if kind == "openai" else client.messages
            with pytest.raises(module.BadRequestError) as caught:
                await call.create(model="cloud/acme", max_tokens=9, messages=HELLO)
            error = caught.value.body["error"] if kind == "anthropic" else caught.value.body
            assert error["message"] == SAID


async def test_an_upstream_that_fails_is_quoted(tmp_path):
    async with stub(whole(FORMS["page"], status=503)) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url, tries=1))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
            assert answer.json()["error"]["message"] == f"the upstream acme answered 503: {SAID}"


async def test_a_key_that_an_upstream_repeats_is_not_told(tmp_path):
    refusal = json.dumps({"error": {"message": "Incorrect API key provided: sk-acme. Mend it."}}).encode()
    async with stub(whole(refusal, status=503)) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url, tries=1))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert "Incorrect API key provided: …. Mend it." in answer.json()["error"]["message"]
            assert "sk-acme" not in answer.text


async def test_an_upstream_whose_refusal_does_not_end_holds_nobody(tmp_path):
    head = b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\n"
    async with stub([head + b"it br", asyncio.Event()]) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url, tries=1))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answer = await scene.client.post(CHAT, json=body_of("cloud/acme"))
            assert answer.json()["error"]["message"] == "the upstream acme answered 500: it br"


async def test_a_large_error_is_bounded():
    async with gateway_scene({"a": [whole(b"x" * 3_000_000, status=500)]}) as scene:
        answer = await scene.client.post(MESSAGES, json=body_of())
        assert answer.status_code == 500
        assert len(answer.content) < 4096
        await scene.all_given_back()
