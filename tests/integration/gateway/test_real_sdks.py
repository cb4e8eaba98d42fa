"""The official SDKs, unmodified, against real llama.cpp servers that do not fit together."""

import json
import os
import re
import threading
import time

import httpx
import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

from broker.answers.verdict import VerdictReason
from broker.answers.watcher import Watcher
from broker.gateway.trust.canary import Finding, finding_of, questions_for
from harness.stack import Stack, real_stack
from tests.data_path.clients import Tally, talk
from tests.fakes.sdks import anthropic, openai

pytestmark = [pytest.mark.redis, pytest.mark.slow]

SETTINGS = "[limits]\nload_backoff_s = 0.3\nmax_fails = 50\n[policy]\nslice_min_s = 1.0\n"
HELLO = [{"role": "user", "content": "ba de fi"}]
EXACT = {"temperature": 0, "cache_prompt": False}
CHANGING = re.compile(rb'"(?:id|created|created_at|completed_at|timings|item_id|call_id)": ?(?:"[^"]*"|\d+|\{[^}]*\})')


@pytest.fixture(scope="module")
def stack():
    with real_stack(SETTINGS) as running:
        yield running


@pytest.fixture
def client(stack: Stack):
    with openai.OpenAI(base_url=stack.v1, api_key="unused", max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
def claude(stack: Stack):
    with anthropic.Anthropic(base_url=stack.url, api_key="unused", max_retries=0, timeout=60) as made:
        yield made


UNIT = {
    "type": "object",
    "properties": {"unit": {"type": "string", "enum": ["celsius", "kelvin"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
CHAT_TOOL = {"type": "function", "function": {"name": "set_unit", "parameters": UNIT}}
RESPONSES_TOOL = {"type": "function", "name": "set_unit", "parameters": UNIT, "strict": True}
CLAUDE_TOOL = {"name": "set_unit", "input_schema": UNIT}
MUST_CALL = {"tool_choice": "required", "parallel_tool_calls": False}
"""Of llama.cpp a grammar: what such a model says is a call of a tool, with arguments of its schema."""
MANY = 200
"""Tokens: a call letter by letter has about fifty. Anthropic's protocol has no way to ask llama.cpp for one only."""


def directly(stack: Stack, path: str, body: dict) -> httpx.Response:
    """The model server's own answer, asked under a lease of our own."""
    with httpx.Client(timeout=60) as http:
        lease = http.post(
            f"{stack.url}/lease", json={"sessionKey": "direct", "model": body["model"], "wait": 30}
        ).json()
        endpoint = lease["endpoint"]
        answer = http.post(
            endpoint["baseUrl"] + path, json=body, headers={"Authorization": f"Bearer {endpoint['apiKey']}"}
        )
        http.post(f"{stack.url}/release", json={"leaseId": lease["leaseId"], "nonce": lease["nonce"]})
        return answer


BODIES = {
    "/chat/completions": {"messages": HELLO, "max_tokens": 12},
    "/completions": {"prompt": "ba de fi", "max_tokens": 12},
    "/responses": {"input": "ba de fi", "max_output_tokens": 12},
    "/messages": {"messages": HELLO, "max_tokens": 12},
    "/messages/count_tokens": {"messages": HELLO},
    "/chat/completions tools": {"messages": HELLO, "tools": [CHAT_TOOL], "max_tokens": MANY, **MUST_CALL},
    "/responses tools": {"input": "ba de fi", "tools": [RESPONSES_TOOL], "max_output_tokens": MANY, **MUST_CALL},
    "/messages tools": {"messages": HELLO, "tools": [CLAUDE_TOOL], "tool_choice": {"type": "any"}, "max_tokens": MANY},
    "/embeddings": {"input": ["ba", "de fi"]},
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_answers_are_the_model_servers_own_byte_by_byte(stack, kind, stream):
    if stream and kind in {"/embeddings", "/messages/count_tokens"}:
        pytest.skip("never streamed")
    path = kind.split(" ", 1)[0]
    body = {"model": "e" if path == "/embeddings" else "a", **BODIES[kind], **EXACT}
    body |= {"stream": True} if stream else {}
    ours = httpx.post(f"{stack.v1}{path}", json=body, timeout=60)
    theirs = directly(stack, path, body)
    assert (ours.status_code, theirs.status_code) == (200, 200), ours.text
    assert CHANGING.sub(b"", ours.content) == CHANGING.sub(b"", theirs.content)
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    assert len(CHANGING.findall(theirs.content)) < 600
    assert ("tools" in kind) == (b'"set_unit"' in theirs.content), "a call where one was asked for"


def test_openais_sdk_speaks_to_two_models_in_turn(client):
    for model in ("a", "b"):
        whole = client.chat.completions.create(model=model, messages=HELLO, max_tokens=6, temperature=0)
        assert whole.model == model
        said = whole.choices[0].message.content
        assert len(said.split()) == 6
        with client.chat.completions.create(
            model=model,
            messages=HELLO,
            max_tokens=6,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        ) as chunks:
            seen = list(chunks)
        assert "".join(c.choices[0].delta.content or "" for c in seen if c.choices) == said
        assert seen[-1].usage.completion_tokens == 6
        answered = client.responses.create(model=model, input="ba de fi", max_output_tokens=6, temperature=0)
        assert len(answered.output_text.split()) == 6
        # The SDK's own helper asks for output_index, which this llama.cpp leaves out; the plain stream does not.
        with client.responses.create(
            model=model, input="ba de fi", max_output_tokens=6, temperature=0, stream=True
        ) as events:
            said = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(said) == answered.output_text
    assert len(client.embeddings.create(model="e", input=["ba", "de"], encoding_format="float").data) == 2
    assert {"a", "b", "e"} == {model.id for model in client.models.list()}


def test_openais_sdk_gets_real_tool_calls_and_sends_their_results_back(client):
    for model in ("a", "b"):
        asked = {"model": model, "messages": HELLO, "tools": [CHAT_TOOL], "max_tokens": MANY, "temperature": 0}
        whole = client.chat.completions.create(**asked, **MUST_CALL)
        (call,) = whole.choices[0].message.tool_calls
        assert (whole.choices[0].finish_reason, call.function.name) == ("tool_calls", "set_unit")
        assert json.loads(call.function.arguments)["unit"] in {"celsius", "kelvin"}
        with client.chat.completions.create(**asked, **MUST_CALL, stream=True) as chunks:
            parts = [part for c in chunks if c.choices for part in c.choices[0].delta.tool_calls or ()]
        assert parts[0].function.name == "set_unit"
        assert len(parts) > 5
        assert "".join(part.function.arguments or "" for part in parts) == call.function.arguments
        turn = [*HELLO, whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
        after = client.chat.completions.create(**asked | {"messages": turn, "max_tokens": 5}, tool_choice="none")
        assert after.choices[0].message.content
        wanted = {"model": model, "input": "ba de fi", "tools": [RESPONSES_TOOL], "max_output_tokens": MANY}
        (item,) = client.responses.create(**wanted, **MUST_CALL, temperature=0).output
        assert (item.type, item.name) == ("function_call", "set_unit")
        with client.responses.create(**wanted, **MUST_CALL, temperature=0, stream=True) as events:
            deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        assert "".join(deltas) == item.arguments
        assert json.loads(item.arguments)["unit"] in {"celsius", "kelvin"}


def test_anthropics_sdk_gets_real_tool_calls(claude):
    for model in ("b", "a"):
        asked = {"model": model, "messages": HELLO, "tools": [CLAUDE_TOOL], "max_tokens": MANY, "extra_body": EXACT}
        whole = claude.messages.create(**asked, tool_choice={"type": "any"})
        calls = [block for block in whole.content if block.type == "tool_use"]
        assert calls[0].name == "set_unit"
        assert calls[0].input["unit"] in {"celsius", "kelvin"}
        with claude.messages.stream(**asked, tool_choice={"type": "any"}) as events:
            streamed = events.get_final_message().content
        assert next(block.input for block in streamed if block.type == "tool_use") == calls[0].input
        result = {"type": "tool_result", "tool_use_id": calls[0].id, "content": "done"}
        said = {"type": "tool_use", "id": calls[0].id, "name": "set_unit", "input": calls[0].input}
        turn = [*HELLO, {"role": "assistant", "content": [said]}, {"role": "user", "content": [result]}]
        after = claude.messages.create(model=model, messages=turn, max_tokens=5, extra_body=EXACT)
        assert after.content[0].text


def test_anthropics_sdk_speaks_to_two_models_in_turn(claude):
    for model in ("b", "a"):
        whole = claude.messages.create(model=model, messages=HELLO, max_tokens=6, extra_body=EXACT)
        assert (whole.model, whole.usage.output_tokens) == (model, 6)
        with claude.messages.stream(model=model, messages=HELLO, max_tokens=6, extra_body=EXACT) as events:
            assert events.get_final_message().content[0].text == whole.content[0].text
        assert claude.messages.count_tokens(model=model, messages=HELLO).input_tokens > 3
    assert {"a", "b", "e"} == {model.id for model in claude.models.list()}


@pytest.mark.parametrize("kind, model", [("chat", "a"), ("completion", "b"), ("embedding", "e")])
def test_every_question_of_a_canary_is_answered_well(stack, kind, model):
    for question in questions_for(kind, model, names=(model,)):
        answer = httpx.post(f"{stack.v1}{question.path}", content=question.body, timeout=60)
        watcher = Watcher(question.expected)
        watcher.begin(answer.status_code, [(name.lower(), value) for name, value in answer.headers.raw], 0.0)
        watcher.feed(answer.content, 1.0)
        verdict = watcher.end(2.0)
        assert (verdict.reason, verdict.model) == (VerdictReason.FINE, model)
        assert finding_of(answer.status_code, b"", verdict, question.expected) is Finding.PASSED


def test_answers_that_break_their_schema_are_a_422_after_four_tries(client):
    array = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
    strict = {"x-hotseat-validate": "strict"}
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        client.chat.completions.create(
            model="a", messages=HELLO, max_tokens=1, response_format=array, extra_headers=strict
        )
    assert (raised.value.code, raised.value.body["attempts"]) == ("schema_violations", 4)


def kill_after_a_while(stack: Stack, model: str) -> None:
    for pid in stack.server_pids(model):
        os.kill(pid, 9)


def test_a_killed_server_is_one_api_error_in_openais_sdk_and_the_next_request_is_served(stack, client):
    with client.chat.completions.create(model="a", messages=HELLO, max_tokens=1900, stream=True) as chunks:
        next(iter(chunks))
        kill_after_a_while(stack, "a")
        with pytest.raises(openai.APIError) as raised:
            list(chunks)
    assert raised.value.code in {"upstream_broken", "lease_lost"}
    started_s = time.monotonic()
    again = client.chat.completions.create(model="a", messages=HELLO, max_tokens=4, temperature=0)
    assert again.choices[0].message.content
    assert time.monotonic() - started_s < 15


def test_a_killed_server_is_one_api_error_in_anthropics_sdk_and_the_next_request_is_served(stack, claude):
    with claude.messages.create(model="b", messages=HELLO, max_tokens=1900, stream=True) as events:
        next(iter(events))
        kill_after_a_while(stack, "b")
        with pytest.raises(anthropic.APIError, match=r"model server|lease"):
            list(events)
    assert claude.messages.create(model="b", messages=HELLO, max_tokens=4).content[0].text


def test_eight_clients_over_two_models_all_get_whole_answers(stack):
    tally = Tally()
    until_s = time.monotonic() + 8
    threads = [threading.Thread(target=talk, args=(stack, n, until_s, tally)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert tally.failures == []
    assert tally.served["a"] >= 4
    assert tally.served["b"] >= 4
