"""Strict, by header, key, model and configuration: what breaks its schema is asked for again and never passed on."""

import json
from dataclasses import replace

import pytest

from broker.core.lease import ModelName
from broker.gateway.exchange.candidates import Candidate, Listed
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import MODELS, config_of, key_entry
from tests.fakes.gateway_scene import CHAT, QUICK, body_of, data_of, events_of, gateway_scene
from tests.fakes.scripted_server import DONE, STREAM_HEAD, chunk, stream, whole
from tests.fakes.sdks import anthropic, openai

STRICT = {"x-hotseat-validate": "strict"}
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
MESSAGES = "/v1/messages"


def said(text: str, model: str = "a") -> list:
    return whole(json.dumps({"model": model, "choices": [{"message": {"content": text}}]}).encode())


def message(text: str) -> list:
    content = [{"type": "text", "text": text}]
    document = {"id": "m", "type": "message", "role": "assistant", "model": "a", "content": content}
    return whole(json.dumps(document).encode())


GOOD, BAD = '{"age": 3}', '{"age": "three"}'


async def ask(scene, path=CHAT, headers=STRICT, **more):
    return await scene.client.post(path, json=body_of(response_format=RESPONSE_FORMAT, **more), headers=headers)


def temperatures(scene, model="a") -> list:
    return [json.loads(asked.body).get("temperature") for asked in scene.models[model].asked]


async def test_a_good_answer_passes_as_it_is_and_its_request_too():
    async with gateway_scene({"a": [said(GOOD)]}) as scene:
        body = (
            b'{ "model":"a", "messages": [], "response_format": %s, "x": 1.00}' % json.dumps(RESPONSE_FORMAT).encode()
        )
        answer = await scene.client.post(CHAT, content=body, headers=STRICT)
        assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, GOOD)
        assert [asked.body for asked in scene.models["a"].asked] == [body]
        assert scene.models["a"].asked[0].header("x-hotseat-validate") is None
        await scene.all_given_back()


@pytest.mark.parametrize("bad", [BAD, "Sure! Here it is:", '{"age": 3', "{}"])
async def test_a_bad_answer_is_asked_for_again_cooler_under_the_same_lease(bad):
    async with gateway_scene({"a": [said(bad), said(bad), said(GOOD)]}) as scene:
        leases = set()
        scene.models["a"].on_ask = lambda _: leases.update(lease.id for lease in scene.leases("active"))
        answer = await ask(scene, temperature=0.8)
        assert answer.json()["choices"][0]["message"]["content"] == GOOD
        assert temperatures(scene) == [0.8, 0.4, 0.2]
        assert len(leases) == 1
        metrics = (await scene.client.get("/metrics")).text
        assert 'hotseat_gateway_semantic_failures_total{model="a",reason="schema",route="local"} 2.0' in metrics
        await scene.broker.book.send()
        day = (await scene.client.get("/report")).json()
        useless = {"labels": {"route": "local", "model": "a", "reason": "schema"}, "count": 2}
        assert useless in day["counts"]["semanticFailures"]
        assert 'hotseat_gateway_retries_total{model="a"} 2.0' in metrics


async def test_in_the_end_it_is_a_422_with_the_violations_in_the_clients_protocol():
    wanted = {"path": "/age", "keyword": "type"}
    async with gateway_scene({"a": [said(BAD)]}) as scene:
        error = (answer := await ask(scene)).json()["error"]
        assert (answer.status_code, error["code"], error["attempts"]) == (422, "schema_violations", 4)
        assert wanted.items() <= error["violations"][0].items()
        assert temperatures(scene) == [None, 0.5, 0.25, 0.0]
        async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="any") as client:
            with pytest.raises(openai.UnprocessableEntityError) as raised:
                await client.chat.completions.create(
                    model="a", messages=[], temperature=0, response_format=RESPONSE_FORMAT, extra_headers=STRICT
                )
        assert wanted.items() <= raised.value.body["violations"][0].items()
        assert temperatures(scene)[4:] == [0], "zero cannot be lowered"
        await scene.all_given_back()


async def test_anthropics_client_is_told_in_its_own_envelope():
    async with gateway_scene({"a": [message(BAD)]}) as scene:
        output = {"format": {"type": "json_schema", "schema": SCHEMA}}
        async with anthropic.AsyncAnthropic(base_url=scene.url, api_key="any") as client:
            with pytest.raises(anthropic.UnprocessableEntityError) as raised:
                await client.messages.create(
                    model="a", max_tokens=9, messages=[], extra_body={"output_config": output}, extra_headers=STRICT
                )
            assert raised.value.body["type"] == "error"
            assert raised.value.body["error"]["violations"][0]["path"] == "/age"
            scene.models["a"].scripts[:] = [message(BAD), message(GOOD)]
            answer = await client.messages.create(
                model="a", max_tokens=9, messages=[], extra_body={"output_config": output}, extra_headers=STRICT
            )
            assert answer.content[0].text == GOOD


async def test_no_other_route_is_asked_once_the_attempts_are_spent():
    async with gateway_scene({"a": [said(BAD)], "b": [said(GOOD, "b")]}) as scene:
        rule = [Candidate(model=ModelName(name)) for name in ("a", "b")]
        scene.broker.services.gateway.context = replace(scene.context, rule=lambda _: Listed(rule))
        assert (await ask(scene)).status_code == 422
        assert scene.models["b"].asked == []


async def test_an_empty_answer_and_a_dying_server_are_tried_again_as_ever():
    scripts = [said(""), [None], said(BAD), said(GOOD)]
    async with gateway_scene({"a": scripts}, config_of(gateway=QUICK | {"max_silent_s": 10.0})) as scene:
        answer = await ask(scene, temperature=1)
        assert answer.json()["choices"][0]["message"]["content"] == GOOD
        assert temperatures(scene) == [1, 1, 1, 0.5]
        await scene.all_given_back()


async def test_an_answer_too_large_to_be_checked_is_not_passed_on(monkeypatch):
    monkeypatch.setattr("broker.gateway.exchange.delivery.MAX_WHOLE", 100)
    async with gateway_scene({"a": [said('{"age": ' + "1" * 200 + "}")]}) as scene:
        answer = await ask(scene, temperature=0)
        assert (answer.status_code, answer.json()["error"]["violations"][0]["keyword"]) == (422, "content")
        await scene.all_given_back()


async def test_a_model_servers_error_passes_unchecked():
    async with gateway_scene({"a": [whole(b'{"error": {"message": "too long"}}', status=400)]}) as scene:
        assert (await ask(scene)).content == b'{"error": {"message": "too long"}}'


@pytest.mark.parametrize(
    "more, headers",
    [
        ({}, {"x-hotseat-validate": "lax"}),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, STRICT),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonesuch"}}}}, STRICT),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x/y"}}}}, STRICT),
    ],
)
async def test_what_cannot_be_checked_is_refused_before_anything_is_asked(more, headers):
    async with gateway_scene({"a": [said(GOOD)]}) as scene:
        answer = await scene.client.post(
            CHAT, json=body_of(**{"response_format": RESPONSE_FORMAT} | more), headers=headers
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_argument")
        assert scene.models["a"].asked == []


async def test_without_a_schema_or_the_header_nothing_is_checked():
    async with gateway_scene({"a": [said(BAD)]}) as scene:
        assert (await ask(scene, headers={})).status_code == 200
        assert (await scene.client.post(CHAT, json=body_of(), headers=STRICT)).status_code == 200
        assert (await scene.client.post(CHAT, json=body_of(stream=True), headers=STRICT)).status_code == 200
        assert len(scene.models["a"].asked) == 3


# ---------------------------------------------------------------------------------------- by key, model, configuration
def strict_config(*, everybody=False, model=None, key=None, **gateway):
    models = (ModelEntry(name="a", memory_mib=900, lease_limit=2, strict=model), *MODELS[1:])
    return config_of(gateway={"strict": everybody} | gateway, keys=(key_entry("k", strict=key),), models=models)


@pytest.mark.parametrize(
    "everybody, model, key, word, checked",
    [
        (False, None, None, None, False),
        (True, None, None, None, True),
        (False, True, None, None, True),
        (False, None, True, None, True),
        (True, False, None, None, False),
        (False, True, False, None, False),
        (True, True, True, "off", False),
        (False, False, False, "strict", True),
    ],
)
async def test_the_header_goes_before_the_key_the_key_before_the_model_the_model_before_all(
    everybody, model, key, word, checked
):
    config = strict_config(everybody=everybody, model=model, key=key)
    async with gateway_scene({"a": [said(BAD), said(GOOD)]}, config) as scene:
        answer = await ask(scene, headers={"x-hotseat-validate": word} if word else {})
        assert answer.json()["choices"][0]["message"]["content"] == (GOOD if checked else BAD)
        assert answer.headers.get("x-hotseat-validate") == ("strict" if checked else None)


async def test_the_model_that_serves_decides_whatever_name_was_asked_for():
    config = strict_config(model=True)
    async with gateway_scene({"a": [said(BAD), said(GOOD)], "b": [said(BAD, "b")]}, config) as scene:
        for name, content in (("b", BAD), ("a", GOOD)):
            rule = [Candidate(model=ModelName(name))]
            scene.broker.services.gateway.context = replace(scene.context, rule=lambda _, rule=rule: Listed(rule))
            answer = await ask(scene, headers={})
            assert answer.json()["choices"][0]["message"]["content"] == content


async def test_a_schema_that_cannot_be_used_stops_nobody_who_did_not_ask_for_the_check_and_is_told():
    foreign = {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x/y"}}}
    async with gateway_scene({"a": [said(BAD)]}, strict_config(everybody=True)) as scene:
        answer = await scene.client.post(CHAT, json=body_of(response_format=foreign))
        assert (answer.status_code, answer.headers["x-hotseat-validate"]) == (200, "unchecked")
        answer = await scene.client.post(CHAT, json=body_of(response_format=foreign), headers=STRICT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_argument")
        assert "x-hotseat-validate" not in (await scene.client.post(CHAT, json=body_of())).headers


# ------------------------------------------------------------------------------------------------------------- streams
def event(**fields) -> bytes:
    name = f"event: {fields['type']}\n" if "type" in fields else ""
    return f"{name}data: {json.dumps(fields)}\n\n".encode()


def delta(index=0, finish=None, **fields) -> bytes:
    return event(model="a", choices=[{"index": index, "delta": fields, "finish_reason": finish}])


def told(path: str, text: str) -> list[bytes]:
    """A stream that says a text, in two pieces."""
    parts = [text[:4], text[4:]]
    if path == MESSAGES:
        start = event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
        texts = [
            event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": part}) for part in parts
        ]
        return [start, *texts, event(type="message_delta", delta={"stop_reason": "end_turn"})]
    if path == "/v1/responses":
        item = {"type": "message", "content": [{"type": "output_text", "text": text}]}
        response = {"model": "a", "status": "completed", "output": [item]}
        deltas = [event(type="response.output_text.delta", delta=part) for part in parts]
        return [*deltas, event(type="response.completed", response=response)]
    if path == "/v1/completions":
        return [*(event(model="a", choices=[{"index": 0, "text": part}]) for part in parts), DONE]
    return [delta(role="assistant", content=""), *(delta(content=part) for part in parts), delta(finish="stop"), DONE]


FORMATS = {
    CHAT: {"response_format": RESPONSE_FORMAT},
    "/v1/completions": {"prompt": "x", "response_format": RESPONSE_FORMAT},
    "/v1/responses": {"input": "x", "text": {"format": {"type": "json_schema", "name": "p", "schema": SCHEMA}}},
    MESSAGES: {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
}


async def stream_of(scene, path=CHAT, **more):
    return await scene.client.post(path, json=body_of(stream=True, **FORMATS[path], **more), headers=STRICT)


@pytest.mark.parametrize("path", FORMATS)
async def test_a_stream_is_checked_before_any_of_it_is_sent_and_then_passed_on_as_it_came(path):
    bad, good = told(path, BAD), told(path, GOOD)
    async with gateway_scene({"a": [stream(*bad), stream(*good)]}) as scene:
        answer = await stream_of(scene, path, temperature=0.8)
        assert (answer.status_code, answer.content) == (200, b"".join(good))
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-hotseat-validate"] == "strict"
        assert temperatures(scene) == [0.8, 0.4]
        await scene.all_given_back()


async def test_while_a_stream_is_kept_its_client_hears_keepalives_and_then_the_answer():
    slow = [STREAM_HEAD]
    for piece in told(CHAT, GOOD):
        slow += [chunk(piece), 0.15]
    config = config_of(gateway=QUICK)
    async with gateway_scene({"a": [stream(*told(CHAT, BAD)), [*slow, chunk(b"")]]}, config) as scene:
        answer = await stream_of(scene)
        assert answer.content.endswith(b"".join(told(CHAT, GOOD)))
        before = events_of(answer.content.removesuffix(b"".join(told(CHAT, GOOD))))
        assert len(before) >= 3
        assert all(data_of(frame)["id"].startswith("hotseat-") for frame in before)
        assert b"three" not in answer.content


async def test_a_stream_that_breaks_its_schema_to_the_end_is_a_422_or_where_it_has_begun_its_last_event():
    async with gateway_scene({"a": [stream(*told(CHAT, BAD))]}, config_of(gateway={"commit_after_s": 30.0})) as scene:
        answer = await stream_of(scene)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "schema_violations")
        assert len(scene.models["a"].asked) == 4
    async with gateway_scene({"a": [[0.3, *stream(*told(CHAT, BAD))]]}, config_of(gateway=QUICK)) as scene:
        answer = await stream_of(scene, temperature=0)
        error = data_of(events_of(answer.content)[-1])["error"]
        assert (answer.status_code, error["code"]) == (200, "schema_violations")
        assert error["violations"][0]["path"] == "/age"
        assert b"three" not in b"".join(events_of(answer.content)[:-1])
        await scene.all_given_back()


async def test_every_choice_of_a_stream_must_hold_and_one_that_calls_a_tool_has_nothing_to_check():
    call = {"index": 0, "id": "c", "function": {"name": "look", "arguments": "{}"}}
    calls = [delta(content=None), delta(tool_calls=[call]), delta(finish="tool_calls"), DONE]
    two = [delta(0, content=GOOD), delta(1, content=BAD), DONE]
    both = [delta(0, content=GOOD[:3]), delta(1, content=GOOD), delta(0, content=GOOD[3:]), DONE]
    async with gateway_scene({"a": [stream(*calls)]}) as scene:
        assert (await stream_of(scene)).content == b"".join(calls)
        scene.models["a"].scripts[:] = [stream(*two), stream(*both)]
        assert (await stream_of(scene, n=2)).content == b"".join(both)


async def test_a_stream_that_is_too_large_or_not_to_be_read_is_not_passed_on(monkeypatch):
    monkeypatch.setattr("broker.gateway.exchange.delivery.MAX_STREAM", 300)
    large = [delta(content="1" * 200), delta(content="1" * 200), DONE]
    packed = [STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n"), chunk(b"\x1f\x8b"), chunk(b"")]
    async with gateway_scene({"a": [stream(*large), packed]}) as scene:
        for _ in range(2):
            answer = await stream_of(scene, temperature=0)
            assert (answer.status_code, answer.json()["error"]["violations"][0]["keyword"]) == (422, "content")


async def test_both_sdks_read_a_checked_stream_after_a_wait():
    config = config_of(gateway=QUICK)
    scripts = {path: [[0.3, *stream(*told(path, BAD))], [0.3, *stream(*told(path, GOOD))]] for path in (CHAT, MESSAGES)}
    async with gateway_scene({"a": scripts[CHAT]}, config) as scene:
        async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="any") as client:
            chunks = await client.chat.completions.create(
                model="a", messages=[], stream=True, response_format=RESPONSE_FORMAT, extra_headers=STRICT
            )
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in chunks]) == GOOD
        opened = event(type="message_start", message={"id": "m", "type": "message", "role": "assistant", "model": "a",
                       "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}})  # fmt: skip
        for script in scripts[MESSAGES]:
            script.insert(2, chunk(opened))
        scene.models["a"].scripts[:] = scripts[MESSAGES]
        async with anthropic.AsyncAnthropic(base_url=scene.url, api_key="any") as client:
            events = await client.messages.create(
                model="a", max_tokens=9, messages=[], stream=True, extra_body=FORMATS[MESSAGES], extra_headers=STRICT
            )
            texts = [event.delta.text async for event in events if event.type == "content_block_delta"]
            assert "".join(texts) == GOOD
