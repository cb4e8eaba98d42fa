"""``x-hotseat-validate: strict``: what breaks its schema is asked for again, cooler, and never reaches the client."""

import json
from dataclasses import replace

import anthropic
import openai
import pytest

from broker.core.lease import ModelName
from broker.gateway.candidates import Candidate, Listed
from tests.fakes.broker_scene import config_of
from tests.fakes.gateway_scene import CHAT, QUICK, body_of, gateway_scene
from tests.fakes.scripted_server import whole

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
        scene.broker.services.gateway.desk = replace(scene.desk, rule=lambda _: Listed(rule))
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
    monkeypatch.setattr("broker.gateway.delivery.MAX_WHOLE", 100)
    async with gateway_scene({"a": [said('{"age": ' + "1" * 200 + "}")]}) as scene:
        answer = await ask(scene, temperature=0)
        assert (answer.status_code, answer.json()["error"]["violations"][0]["keyword"]) == (422, "content")
        await scene.all_given_back()


async def test_a_model_servers_error_passes_unchecked():
    async with gateway_scene({"a": [whole(b'{"error": "too long"}', status=400)]}) as scene:
        assert (await ask(scene)).content == b'{"error": "too long"}'


@pytest.mark.parametrize(
    "more, headers",
    [
        ({"stream": True}, STRICT),
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
