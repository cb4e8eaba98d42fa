"""An answer of no use is recognised, counted, and asked for once more while the client has got nothing of it."""

import asyncio
import json
import logging

import pytest

from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of, until
from tests.fakes.gateway_scene import CHAT, QUICK, RawClient, body_of, gateway_scene, streamed
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, stream, whole, word, word_of

MESSAGES = "/v1/messages"


def event(**fields) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(model="a", finish=None, **said) -> bytes:
    return event(model=model, choices=[{"index": 0, "delta": said, "finish_reason": finish}])


def started(model="a") -> bytes:
    return event(type="message_start", message={"model": model, "content": [], "usage": {"input_tokens": 3}})


def typed(kind, text) -> bytes:
    return event(type="content_block_delta", index=0, delta={"type": f"{kind}_delta", kind: text})


def stopped(reason) -> bytes:
    return event(type="message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 2})


ROLE = delta(role="assistant", content="")
BAD_STREAMS = [
    (CHAT, (ROLE, delta(finish="stop"), DONE), "no_content"),
    (CHAT, (DONE,), "no_content"),
    (CHAT, (ROLE, delta(content="  \n"), delta(finish="stop"), DONE), "no_content"),
    (CHAT, (ROLE, delta(content="\x01\ufffd"), DONE), "garbage"),
    (CHAT, (ROLE, b"data: <html>\n\n"), "garbage"),
    (CHAT, (delta("b", role="assistant"), delta("b", content="hi"), DONE), "wrong_model"),
    (CHAT, (delta("b", role="assistant", content="hi"), DONE), "wrong_model"),
    (CHAT, (ROLE, event(error={"code": 500, "message": "my secret words"})), "error_inside"),
    (MESSAGES, (started(), stopped("end_turn"), event(type="message_stop")), "no_content"),
    (MESSAGES, (started(), typed("text", "\x01"), stopped("end_turn")), "garbage"),
    (MESSAGES, (started("b"), stopped("end_turn")), "wrong_model"),
    (MESSAGES, (started(), event(type="error", error={"type": "overloaded_error"})), "error_inside"),
    (
        "/v1/responses",
        (event(type="response.completed", response={"output": [], "status": "completed"}),),
        "no_content",
    ),
    ("/v1/completions", (event(choices=[{"text": "", "finish_reason": "length"}]), DONE), "no_content"),
]


def said(model="a", finish="stop", **message) -> bytes:
    return json.dumps({"model": model, "choices": [{"message": message, "finish_reason": finish}]}).encode()


def message(*content, model="a", stop="end_turn") -> bytes:
    return json.dumps({"type": "message", "model": model, "content": content, "stop_reason": stop}).encode()


BAD_WHOLES = [
    (CHAT, said(content=""), "empty"),
    (CHAT, said(content=None, reasoning_content="hm", finish="length"), "only_reasoning"),
    (CHAT, said(content="\x01\x02"), "garbage"),
    (CHAT, b"<html>", "garbage"),
    (CHAT, said(model="b", content="hi"), "wrong_model"),
    (CHAT, b'{"error": {"code": 500, "message": "my secret words"}}', "error_inside"),
    (MESSAGES, message(), "empty"),
    (MESSAGES, message({"type": "thinking", "thinking": "hm"}, stop="max_tokens"), "only_reasoning"),
    (MESSAGES, message({"type": "text", "text": "hi"}, model="b"), "wrong_model"),
    ("/v1/embeddings", b'{"data": [{"embedding": []}]}', "empty"),
]


def closed(caplog) -> list[dict]:
    return [vars(record) for record in caplog.records if record.getMessage() == "request_closed"]


def counted(text: str, reason: str) -> bool:
    return f'hotseat_gateway_semantic_failures_total{{model="a",reason="{reason}",route="local"}} 1.0' in text


@pytest.mark.parametrize("path, bad, reason", BAD_STREAMS)
async def test_a_stream_of_no_use_is_replaced_by_another_ones_bytes(path, bad, reason, caplog):
    caplog.set_level(logging.INFO)
    good = (word_of(path, "one"), word_of(path, "two"), DONE)
    async with gateway_scene({"a": [stream(*bad), stream(*good)]}) as scene:
        answer = await streamed(scene, path)
        assert (answer.status_code, answer.content) == (200, b"".join(good))
        assert len(scene.models["a"].asked) == 2
        await scene.all_given_back()
        assert counted((await scene.client.get("/metrics")).text, reason)
        (line,) = closed(caplog)
        assert (line["outcome"], line["retries"], line["answer"]) == ("served", 1, "fine")
        assert "my secret words" not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize("path, bad, reason", BAD_WHOLES)
async def test_a_whole_answer_of_no_use_is_replaced_too(path, bad, reason):
    good = b'{"data": [{"embedding": [0.1]}]}' if path == "/v1/embeddings" else GOOD
    kind = "embedding" if path == "/v1/embeddings" else "chat"
    config = config_of(models=(ModelEntry(name="a", memory_mib=900, kind=kind),))
    async with gateway_scene({"a": [whole(bad), whole(good)]}, config) as scene:
        leases = set()
        scene.models["a"].on_ask = lambda _: leases.update(lease.id for lease in scene.leases("active"))
        answer = await scene.client.post(path, json=body_of())
        assert (answer.status_code, answer.content) == (200, good)
        assert (len(scene.models["a"].asked), len(leases)) == (2, 1), "asked again under the lease it has"
        assert counted((await scene.client.get("/metrics")).text, reason)


async def test_the_second_answer_is_passed_on_whatever_it_is(caplog):
    caplog.set_level(logging.INFO)
    bad = said(content="")
    async with gateway_scene({"a": [whole(bad)]}) as scene:
        answer = await scene.client.post(CHAT, json=body_of())
        assert (answer.status_code, answer.content, len(scene.models["a"].asked)) == (200, bad, 2)
        assert closed(caplog)[0]["answer"] == "empty"


async def test_what_a_client_has_seen_is_counted_and_never_tried_again():
    seen = [ROLE, delta(reasoning_content="hm"), delta(finish="length"), DONE]
    async with gateway_scene({"a": [stream(*seen), stream(word("one"), DONE)]}) as scene:
        answer = await streamed(scene)
        assert (answer.content, len(scene.models["a"].asked)) == (b"".join(seen), 1)
        assert counted((await scene.client.get("/metrics")).text, "only_reasoning")


async def test_a_preamble_is_not_kept_back_for_long():
    gate = asyncio.Event()
    script = [STREAM_HEAD, chunk(ROLE), gate, chunk(delta(finish="stop")), chunk(DONE), chunk(b"")]
    async with gateway_scene({"a": [script]}, config_of(gateway={"head_s": 0.1})) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        await client.head()
        assert await asyncio.wait_for(client.chunk(), 30) == ROLE
        gate.set()
        assert await client.chunks() == [delta(finish="stop"), DONE]
        assert len(scene.models["a"].asked) == 1, "too late for another try"
        client.close()


async def test_another_try_is_unseen_after_keepalives_too():
    scripts = [[0.4, *stream(ROLE, DONE)], stream(word("one"), DONE)]
    async with gateway_scene({"a": scripts}, config_of(gateway=QUICK)) as scene:
        answer = await streamed(scene)
        assert answer.content.endswith(word("one") + DONE)
        assert ROLE not in answer.content
        assert answer.content.count(DONE) == 1


@pytest.mark.parametrize(
    "script", [whole(b'{"error": {}}', status=500), whole(b"", status=204), whole(said(content=""), status=400)]
)
async def test_errors_of_a_model_server_are_passed_on_as_they_are(script):
    async with gateway_scene({"a": [script, whole(GOOD)]}) as scene:
        assert (await scene.client.post(CHAT, json=body_of())).status_code != 200
        assert len(scene.models["a"].asked) == 1


async def test_who_asks_for_no_tokens_gets_none():
    async with gateway_scene({"a": [whole(said(content="")), whole(GOOD)]}) as scene:
        answer = await scene.client.post(CHAT, json=body_of(max_tokens=0))
        assert (answer.content, len(scene.models["a"].asked)) == (said(content=""), 1)


async def test_a_lease_that_ended_meanwhile_is_taken_anew():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(ROLE), 0.3, chunk(b"")], stream(word("one"))]}) as scene:
        leases = []
        scene.models["a"].on_ask = lambda _: leases.append(scene.leases("active")[0].id)
        request = asyncio.create_task(streamed(scene))
        await until(lambda: leases)
        await scene.store.end(leases[0], who="operator:x", why="operator")
        assert (await request).content == word("one")
        assert len(set(leases)) == 2
