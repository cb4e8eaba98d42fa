"""One client's trouble is not the model's: whatever one session or key is answered, others are served as before."""

import asyncio
import json

import pytest

from broker.access.principals import Scope
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.gateway_scene import CHAT, QUICK, body_of, gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, stream, whole, word
from tests.integration.gateway.test_trust import QUESTIONS, canaries_of, route_to
from tests.integration.gateway.test_useless_answers import delta, event, message, said

SWIFT = QUICK | {"canary_pause_s": 0.01, "quarantine_s": 60.0, "max_silent_s": 10.0, "dead_server_s": 0.1}
TEXT, MESSAGES, RESPONSES, HEARD = "/v1/completions", "/v1/messages", "/v1/responses", "/v1/audio/transcriptions"
TURNS = 6
"""More than ever condemned a model."""

USER = {"role": "user", "content": "hi"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "ls"}}]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "ok"}
USED = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "ls", "input": {}}]}
GOT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "ok"}]}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "ok"}
TOOLS = [{"type": "function", "function": {"name": "x", "parameters": {}}}]
LOST = {"code": 500, "message": "Failed to parse input at pos 12: <tool_call>", "type": "server_error"}

NOTHING = whole(said(content=""))
THOUGHT = whole(said(content="", reasoning_content="hmm", finish="stop"))
NO_TEXT = whole(b'{"model": "a", "choices": [{"text": "", "finish_reason": "stop"}]}')
NO_ITEM = whole(b'{"model": "a", "status": "completed", "output": []}')
LOST_CALL = stream(delta(content="tok0"), event(error=LOST))


def as_asked(server, clients) -> None:
    """Clients get this script, the broker's own questions a good answer."""

    def choose(asked) -> None:
        server.scripts[:] = [whole(GOOD) if any(one in asked.body for one in QUESTIONS) else clients]

    server.on_ask = choose


def config(*keys: str, **gateway: object):
    entries = tuple(key_entry(key, Scope.LEASE, Scope.OBSERVE) for key in keys)
    return config_of(gateway=SWIFT | gateway, keys=entries)


async def ask(scene, path=CHAT, session="one", key=None, headers=None, **body):
    headers = {"x-hotseat-session": session} | (headers or {}) | (scene.auth(key) if key else {})
    return await scene.client.post(path, json=body_of(**body), headers=headers)


async def trust(scene) -> str:
    return (await scene.client.get("/v1/models/a")).json()["trust"]


@pytest.mark.parametrize(
    "path, request_, script",
    [
        (TEXT, {"prompt": "def f(<|fim_middle|>", "max_tokens": 32}, NO_TEXT),
        (TEXT, {"prompt": "def f(", "suffix": ")"}, NO_TEXT),
        (TEXT, {"prompt": "The end.", "logprobs": 5, "max_tokens": 1}, NO_TEXT),
        (CHAT, {"max_tokens": 1}, whole(said(content="\n", finish="length"))),
        (CHAT, {"max_tokens": 1}, whole(said(content="\ufffd", finish="length"))),
        (CHAT, {"max_tokens": 1}, whole(said(content="", reasoning_content="hmm", finish="length"))),
        (CHAT, {}, THOUGHT),
        (CHAT, {"stream": True}, stream(delta(reasoning_content="hm"), delta(finish="stop"), DONE)),
        (CHAT, {"messages": [USER, CALL, RESULT]}, NOTHING),
        (
            CHAT,
            {"messages": [USER, CALL, RESULT], "stream": True},
            stream(delta(role="assistant"), delta(finish="stop")),
        ),
        (MESSAGES, {"messages": [USER, USED, GOT]}, whole(message())),
        (RESPONSES, {"input": [OUTPUT], "previous_response_id": "r"}, NO_ITEM),
        (CHAT, {"stop": ["\n"]}, NOTHING),
        (CHAT, {"grammar": 'root ::= ""'}, NOTHING),
        (CHAT, {}, whole(said(content="", finish="content_filter"))),
        (CHAT, {"messages": [{"role": "user", "content": ""}]}, NOTHING),
        ("/v1/embeddings", {"input": []}, whole(b'{"data": []}')),
        ("/v1/rerank", {"query": "x", "documents": []}, whole(b'{"results": []}')),
    ],
)
async def test_an_answer_that_may_be_empty_is_passed_on_once_and_counts_for_nothing(path, request_, script):
    kind = "embedding" if path == "/v1/embeddings" else "chat"
    models = (ModelEntry(name="a", memory_mib=900, kind=kind),)
    async with gateway_scene({"a": [script]}, config_of(gateway=SWIFT, models=models)) as scene:
        as_asked(scene.models["a"], script)
        for turn in range(TURNS):
            answer = await ask(scene, path, **request_, seed=turn)
            assert answer.status_code == 200
        assert len(scene.models["a"].asked) == TURNS, "nothing was asked for a second time"
        assert await trust(scene) == "trusted"
        assert "semantic_failures_total{" not in (await scene.client.get("/metrics")).text


@pytest.mark.parametrize(
    "form, body, kind",
    [
        ("text", b"", "text/plain"),
        ("json", b'{"text": ""}', "application/json"),
        ("json", b'""', "application/json"),
        ("verbose_json", b'{"text": "", "segments": []}', "application/json"),
        ("srt", b"", "text/plain"),
        ("srt", b"\n", "application/x-subrip"),
        ("vtt", b"WEBVTT\n\n", "text/vtt"),
        ("text", b"", "application/json"),
    ],
)
async def test_silent_clips_are_transcribed_as_nothing_by_a_trusted_model(form, body, kind):
    async with gateway_scene({"a": [whole(body, content_type=kind)]}, config()) as scene:
        for _ in range(TURNS):
            files = {"file": ("silence.wav", b"\0" * 300, "audio/wav")}
            answer = await scene.client.post(HEARD, data={"model": "a", "response_format": form}, files=files)
            assert (answer.status_code, answer.content) == (200, body)
        assert await trust(scene) == "trusted"
        assert len(scene.models["a"].asked) == TURNS


@pytest.mark.parametrize("keys", [(), ("k", "l")])
@pytest.mark.parametrize(
    "script, request_",
    [
        (NOTHING, {}),
        (LOST_CALL, {"stream": True, "tools": TOOLS}),
        (LOST_CALL, {"stream": True}),
        (whole(json.dumps({"error": LOST}).encode(), status=500), {"tools": TOOLS}),
        (whole(b"Internal Server Error", status=500), {}),
        (whole(b"<html>"), {}),
        (whole(said(model="b", content="hi")), {}),
        (stream(event(error={"code": 500, "message": "boom"})), {"stream": True}),
    ],
)
async def test_what_one_is_answered_again_and_again_takes_the_model_from_nobody(script, request_, keys):
    mine, theirs = keys or (None, None)
    async with gateway_scene({"a": [script], "b": [whole(GOOD)]}, config(*keys)) as scene:
        server = scene.models["a"]
        as_asked(server, script)
        for turn in range(TURNS):
            await ask(scene, session="agent-7", key=mine, seed=turn, **request_)
        server.on_ask = lambda _: server.scripts.__setitem__(slice(None), [whole(GOOD)])
        route_to(scene, "a", "b")
        for turn in range(3):
            answer = await ask(scene, session="agent-8", key=theirs, seed=turn)
            assert (answer.status_code, answer.content) == (200, GOOD)
            assert answer.headers["x-hotseat-model"] == "a", "it goes to nobody's second choice"

        async def trusted() -> bool:
            return await trust(scene) == "trusted"

        await until(trusted)


async def test_both_tries_of_a_request_count_once_and_so_does_a_retry_that_says_so():
    async with gateway_scene({"a": [NOTHING]}, config(canary_pause_s=60.0)) as scene:
        await ask(scene)
        for number in ("1", "2"):
            await ask(scene, headers={"x-stainless-retry-count": number})
        assert len(scene.models["a"].asked) == 6
        witness = scene.context.reputations.of("a").said.witnesses[0]
        assert (witness.doubt, witness.share) == (1.0, 1.0)
        assert canaries_of(scene.models["a"]) == []


async def test_who_has_seen_a_model_fail_goes_elsewhere_and_others_do_not():
    async with gateway_scene({"a": [NOTHING], "b": [whole(GOOD)]}, config(suspect_at=1.0)) as scene:
        as_asked(scene.models["a"], NOTHING)
        await ask(scene, session="one")
        route_to(scene, "a", "b")
        assert (await ask(scene, session="one", seed=1)).headers["x-hotseat-model"] == "b"
        as_asked(scene.models["a"], whole(GOOD))
        assert (await ask(scene, session="two")).headers["x-hotseat-model"] == "a"


@pytest.mark.parametrize(
    "refusal",
    [
        whole(b'{"error": {"code": 501, "message": "This server does not support this endpoint"}}', status=501),
        whole(b'{"detail": "Not Found"}', status=404),
        whole(b'{"error": {"message": "bad"}}', status=400),
    ],
)
@pytest.mark.parametrize("path, good", [("/v1/rerank", b'{"results": [{"index": 0}]}'), (HEARD, b'{"text": "hi"}')])
async def test_a_server_that_generates_no_text_is_not_condemned_by_a_question_for_text(path, good, refusal):
    async with gateway_scene({"a": [whole(b"")]}, config(canary_pause_s=0.01)) as scene:
        server = scene.models["a"]
        bad = whole(b"<html>", content_type="application/json") if path != HEARD else whole(b"oh", status=500)

        def choose(asked) -> None:
            own = b"hotseat-canary" in asked.body or b"a card" in asked.body or b"rain" in asked.body
            text = any(question in asked.body for question in QUESTIONS)
            server.scripts[:] = [refusal if text else whole(good) if own else bad]

        server.on_ask = choose
        for turn in range(TURNS):
            if path == HEARD:
                files = {"file": (f"{turn}.wav", b"\0" * 300, "audio/wav")}
                await scene.client.post(path, data={"model": "a"}, files=files)
            else:
                await ask(scene, path, query=f"x{turn}", documents=["y"])
        await until(lambda: any(b"hotseat-canary" in one.body or b"a card" in one.body for one in server.asked))

        async def trusted() -> bool:
            return await trust(scene) == "trusted"

        await until(trusted)
        server.on_ask = lambda _: server.scripts.__setitem__(slice(None), [whole(good)])
        assert (await ask(scene, path, session="other", query="x", documents=["y"])).status_code == 200


async def test_a_canary_that_finds_no_ear_while_others_are_served_shows_nothing():
    gate = asyncio.Event()
    async with gateway_scene({"a": [NOTHING]}, config(canary_timeout_s=0.2)) as scene:
        server = scene.models["a"]

        def choose(asked) -> None:
            own = any(question in asked.body for question in QUESTIONS)
            slow = [STREAM_HEAD, chunk(word("one")), gate, chunk(DONE), chunk(b"")]
            server.scripts[:] = [[30.0] if own else slow if b'"long"' in asked.body else NOTHING]

        server.on_ask = choose
        long = asyncio.create_task(ask(scene, session="long", stream=True, user="long"))
        await until(lambda: server.asked)
        for turn in range(2):
            await ask(scene, session="fool", seed=turn)
        await until(lambda: len(canaries_of(server)) >= 1)
        await asyncio.sleep(1.0)
        assert await trust(scene) in {"trusted", "canary"}
        gate.set()
        assert (await long).status_code == 200


async def test_a_model_that_is_silent_alone_and_again_is_quarantined():
    async with gateway_scene({"a": [NOTHING]}, config(canary_timeout_s=0.1)) as scene:
        server = scene.models["a"]
        server.on_ask = lambda asked: server.scripts.__setitem__(
            slice(None), [[30.0] if any(question in asked.body for question in QUESTIONS) else NOTHING]
        )
        for turn in range(2):
            await ask(scene, seed=turn)

        async def quarantined() -> bool:
            return await trust(scene) == "quarantined"

        await until(quarantined)
        assert len(canaries_of(server)) == 2


async def test_a_canary_whose_lease_is_taken_from_it_shows_nothing():
    async with gateway_scene({"a": [NOTHING]}, config(canary_pause_s=60.0)) as scene:
        server = scene.models["a"]
        server.on_ask = lambda asked: server.scripts.__setitem__(
            slice(None), [[0.5, None] if any(question in asked.body for question in QUESTIONS) else NOTHING]
        )
        for turn in range(2):
            await ask(scene, seed=turn)
        await until(lambda: canaries_of(server))
        (lease,) = scene.leases("active")
        await scene.store.end(lease.id, who="operator:x", why="operator")
        await scene.all_given_back()
        await until(lambda: scene.context.reputations.of("a").state != "canary")
        assert await trust(scene) == "trusted"


async def test_a_canary_that_a_session_calls_for_loads_nothing():
    async with gateway_scene({"a": [NOTHING], "b": [whole(GOOD)]}, config(canary_pause_s=0.01)) as scene:
        server = scene.models["a"]
        as_asked(server, NOTHING)
        assert (await ask(scene)).status_code == 200
        await scene.all_given_back()
        assert (await scene.lease("other", model="b", wait=5)).status_code == 201
        asked = len(canaries_of(server))
        for _ in range(3):
            scene.context.reputations.alarmed("a", asyncio.get_running_loop().time())
            await asyncio.sleep(0.6)
        assert len(canaries_of(server)) == asked
        assert not [lease for lease in scene.leases("queued") if lease.who == "broker:canary"]
