"""An ``Idempotency-Key`` under ``/v1``: one generation for the same key and body of a caller."""

import asyncio
import json

import pytest

from broker.gateway.repeats.operations import MAX_ANSWER
from schemas.config.file import ModelEntry
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.cloud_scene import NEAR, routed, routed_scene, stub, upstream
from tests.fakes.cloud_scene import SAID as FAR
from tests.fakes.gateway_scene import CHAT, QUICK, SAID, RawClient, body_of, gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, stream, whole, word
from tests.fakes.sdks import openai

MESSAGES = "/v1/messages"
OTHER = json.dumps({"choices": [{"message": {"content": "other"}}], "content": []}).encode()
KEY = {"Idempotency-Key": "turn-1"}
HELLO = [{"role": "user", "content": "hi"}]


def held(*pieces: bytes, rest: tuple[bytes, ...], until_set: asyncio.Event) -> list:
    """A stream that stops in the midst until it is let go on."""
    return [STREAM_HEAD, *map(chunk, pieces), until_set, *map(chunk, rest), chunk(b"")]


def pausing(until_set: asyncio.Event, body: bytes = GOOD) -> list:
    return [until_set, *whole(body)]


def raw(**more: object) -> bytes:
    """As httpx writes it."""
    return json.dumps(body_of(**more), separators=(",", ":")).encode()


async def post(scene, headers=KEY, path=CHAT, **more):
    return await scene.client.post(path, json=body_of(**more), headers=headers)


async def settled(scene) -> None:
    await scene.all_given_back()
    room = scene.context.room
    await until(lambda: (room.open, room.bytes) == (0, 0))


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", MESSAGES, "/v1/embeddings"])
async def test_the_same_key_and_body_is_one_generation_afterwards(path):
    kind = "embedding" if path == "/v1/embeddings" else "chat"
    config = config_of(models=(ModelEntry(name="a", memory_mib=900, kind=kind),))
    async with gateway_scene({"a": [whole(GOOD), whole(OTHER)]}, config) as scene:
        first = await post(scene, path=path, input="x", prompt="x")
        again = await post(scene, path=path, input="x", prompt="x")
        assert (first.content, again.content) == (GOOD, GOOD)
        assert len(scene.models["a"].asked) == 1
        assert "x-hotseat-repeated" not in first.headers
        assert again.headers["x-hotseat-repeated"] == "kept"
        assert again.headers["x-hotseat-lease"] == first.headers["x-hotseat-lease"]
        assert again.headers["x-request-id"] != first.headers["x-request-id"]
        await settled(scene)


async def test_a_stream_is_repeated_byte_by_byte():
    async with gateway_scene({"a": [stream(*SAID)]}) as scene:
        answers = [await post(scene, stream=True) for _ in range(3)]
        assert {answer.content for answer in answers} == {b"".join(SAID)}
        assert len(scene.models["a"].asked) == 1
        await settled(scene)


async def test_who_asks_while_it_runs_follows_it_from_its_beginning():
    on = asyncio.Event()
    async with gateway_scene({"a": [held(SAID[0], rest=(SAID[1], DONE), until_set=on)]}) as scene:
        clients = [await RawClient.to(scene.url) for _ in range(3)]
        for client in clients:
            client.post(CHAT, raw(stream=True), "idempotency-key: turn-1")
            _, headers = await client.head()
            assert headers.get("x-hotseat-repeated") == (None if client is clients[0] else "running")
            assert await client.chunk() == SAID[0]
        on.set()
        assert [await client.chunks() for client in clients] == [[SAID[1], DONE]] * 3
        for client in clients:
            client.close()
        assert len(scene.models["a"].asked) == 1
        await settled(scene)


async def test_without_streaming_both_wait_for_the_one_answer():
    on = asyncio.Event()
    async with gateway_scene({"a": [pausing(on), whole(OTHER)]}) as scene:
        asking = [asyncio.create_task(post(scene)) for _ in range(5)]
        await until(lambda: scene.context.room.open == 6)
        on.set()
        assert {answer.content for answer in await asyncio.gather(*asking)} == {GOOD}
        await settled(scene)


async def test_a_retry_after_a_lost_connection_gets_the_generation_that_runs():
    on = asyncio.Event()
    async with gateway_scene({"a": [pausing(on), whole(OTHER)]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, raw(), "idempotency-key: turn-1")
        await until(lambda: scene.models["a"].asked)
        client.close()
        await until(lambda: len(scene.server.server_state.connections) <= 1)
        again = asyncio.create_task(post(scene))
        await until(lambda: scene.context.room.open == 2)
        on.set()
        assert (await again).content == GOOD
        assert (scene.models["a"].cut, len(scene.models["a"].asked)) == (0, 1)
        await settled(scene)


async def test_openais_sdk_with_a_key_gets_the_generation_of_its_first_try_after_a_time_out():
    async with gateway_scene({"a": [[2.0, *whole(GOOD)], whole(OTHER)]}) as scene:
        async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="x", timeout=1.2) as client:
            answer = await client.chat.completions.create(model="a", messages=HELLO, extra_headers=KEY)
        assert answer.choices[0].message.content == "hi"
        assert len(scene.models["a"].asked) == 1
        await settled(scene)


async def test_openais_sdk_sends_no_key_of_its_own():
    """Should that change, every request of it is recorded: look at the bounds again."""
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="x") as client:
            await client.chat.completions.create(model="a", messages=HELLO)
            await client.chat.completions.create(model="a", messages=HELLO)
        assert len(scene.models["a"].asked) == 2


async def test_a_transcript_is_one_generation_though_the_forms_boundary_changes():
    async with gateway_scene({"a": [whole(b'{"text": "hello"}'), whole(b'{"text": "other"}')]}) as scene:
        async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key="x") as client:
            told = [
                await client.audio.transcriptions.create(model="a", file=("a.wav", b"RIFF" * 100), extra_headers=KEY)
                for _ in range(2)
            ]
        assert [one.text for one in told] == ["hello", "hello"]
        assert len(scene.models["a"].asked) == 1


async def test_an_upstream_is_asked_and_paid_once(tmp_path):
    async with stub(FAR) as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url))
        async with routed_scene({"a": [NEAR]}, config) as scene:
            answers = [await post(scene, model="cloud/acme") for _ in range(3)]
            assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {"far"}
            assert answers[2].headers["x-hotseat-route"] == "cloud"
            assert len(cloud.asked) == 1
            await settled(scene)


@pytest.mark.parametrize(
    "path, more, headers",
    [(CHAT, {"temperature": 1}, {}), (MESSAGES, {}, {}), (CHAT, {}, {"x-hotseat-validate": "off"})],
    ids=["body", "address", "header"],
)
async def test_the_same_key_for_another_request_is_refused_with_the_reason(path, more, headers):
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        await post(scene)
        answer = await post(scene, path=path, headers=KEY | headers, **more)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "op_mismatch"
        assert "a key of its own" in answer.json()["error"]["message"]
        assert len(scene.models["a"].asked) == 1
        await settled(scene)


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "ü"])
async def test_a_key_that_is_none_is_told(given):
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        answer = await post(scene, headers={"Idempotency-Key": given.encode()})
        assert answer.status_code == 400
        assert "Idempotency-Key must be" in answer.json()["error"]["message"]
        await settled(scene)


async def test_each_api_key_has_its_own():
    config = config_of(keys=(key_entry("one"), key_entry("two")))
    async with gateway_scene({"a": [whole(GOOD), whole(OTHER)]}, config) as scene:
        for name, content in (("one", GOOD), ("two", OTHER), ("one", GOOD)):
            answer = await post(scene, headers=KEY | {"Authorization": f"Bearer hsk_{name}"})
            assert answer.content == content


FAILED = {
    "error": whole(b'{"error": {"message": "no"}}', status=400),
    "server error": whole(b"no", status=500),
    "error in a stream": stream(word("one"), b'data: {"error": {"message": "no"}}\n\n'),
    "broken stream": [STREAM_HEAD, chunk(word("one")), None],
}


@pytest.mark.parametrize("script", FAILED.values(), ids=FAILED)
async def test_a_generation_that_failed_is_not_repeated(script):
    async with gateway_scene({"a": [script, stream(*SAID)]}) as scene:
        await post(scene, stream=True)
        again = await post(scene, stream=True)
        assert again.content == b"".join(SAID)
        assert "x-hotseat-repeated" not in again.headers
        await settled(scene)


async def test_who_follows_hears_that_it_failed():
    on = asyncio.Event()
    script = [STREAM_HEAD, chunk(word("one")), on, None]
    async with gateway_scene({"a": [script, stream(*SAID)]}) as scene:
        asking = [asyncio.create_task(post(scene, stream=True)) for _ in range(2)]
        await until(lambda: scene.context.room.open == 3)
        on.set()
        for answer in await asyncio.gather(*asking):
            assert b"upstream_broken" in answer.content
        await settled(scene)


async def test_a_generation_that_nobody_comes_back_to_is_given_up(monkeypatch):
    monkeypatch.setattr("broker.gateway.repeats.operations.GRACE_S", 0.3)
    async with gateway_scene({"a": [[30.0], whole(OTHER)]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, raw(), "idempotency-key: turn-1")
        await until(lambda: scene.models["a"].asked)
        client.close()
        await settled(scene)
        assert scene.models["a"].cut == 1
        assert (await post(scene)).content == OTHER


async def test_for_a_client_that_has_closed_already_nothing_is_begun():
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(OTHER)]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, raw(model="b"), "idempotency-key: turn-1")
        client.writer.close()
        await until(lambda: len(scene.server.server_state.connections) <= 1)
        await settled(scene)
        assert scene.models["b"].asked == []
        assert (await post(scene, model="b")).content == OTHER


async def test_a_place_in_line_is_left_at_once_all_the_same():
    async with gateway_scene({"a": [whole(GOOD)]}, load_s=30.0) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, raw(), "idempotency-key: turn-1")
        await until(lambda: scene.leases("queued"))
        client.close()
        await settled(scene)
        assert scene.models["a"].asked == []


async def test_who_waits_in_line_hears_keepalives_and_a_repeat_has_none_of_them():
    async with gateway_scene({"a": [stream(*SAID)]}, config_of(gateway=QUICK), load_s=0.6) as scene:
        first = await post(scene, stream=True)
        again = await post(scene, stream=True)
        assert len(first.content) > len(again.content)
        assert first.content.endswith(b"".join(SAID))
        assert again.content == b"".join(SAID)


async def test_a_slow_reader_holds_up_nobody_who_follows_the_same():
    big = [word("x" * 60_000) for _ in range(80)]
    async with gateway_scene({"a": [stream(*big, DONE)]}) as scene:
        slow = await RawClient.to(scene.url)
        slow.post(CHAT, raw(stream=True), "idempotency-key: turn-1")
        await until(lambda: scene.models["a"].asked)
        again = await post(scene, stream=True)
        assert again.content == b"".join([*big, DONE])
        assert b"".join((await slow.head()) and await slow.chunks()) == again.content
        slow.close()
        await settled(scene)


async def test_a_slow_reader_alone_slows_the_model_server_down():
    piece = word("x" * 60_000)
    async with gateway_scene({"a": [stream(*[piece] * 1600, DONE)]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, raw(stream=True), "idempotency-key: turn-1")
        await client.head()
        server, before = scene.models["a"], -1
        await until(lambda: server.written > 1_000_000)
        while before != server.written:
            before = server.written
            await asyncio.sleep(0.3)
        assert server.written < 50_000_000, "96 MB were asked for, and systems buffer 40 at most: somebody buffers"
        assert scene.broker.services.gateway.repeats.operations.size < 2 * MAX_ANSWER
        assert b"".join(await client.chunks()) == piece * 1600 + DONE
        client.close()
        await settled(scene)


async def test_an_answer_too_large_to_be_kept_arrives_whole_and_is_asked_for_again(monkeypatch):
    monkeypatch.setattr("broker.gateway.repeats.operations.MAX_ANSWER", 100_000)
    big = [word("x" * 6000) for _ in range(80)]
    async with gateway_scene({"a": [stream(*big, DONE)]}) as scene:
        for _ in range(2):
            assert (await post(scene, stream=True)).content == b"".join([*big, DONE])
        assert len(scene.models["a"].asked) == 2
        assert scene.broker.services.gateway.repeats.operations.size == 0
        await settled(scene)


async def test_an_answer_is_kept_for_a_while_and_nothing_is_left_of_it():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway={"answer_kept_s": 0.2})) as scene:
        await post(scene)
        await until(lambda: scene.broker.services.gateway.repeats.operations.size == 0)
        await post(scene)
        assert len(scene.models["a"].asked) == 2


async def test_where_nothing_is_to_be_kept_the_header_means_nothing():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway={"answer_kept_s": 0})) as scene:
        await post(scene)
        assert "x-hotseat-repeated" not in (await post(scene)).headers
        assert len(scene.models["a"].asked) == 2


async def test_a_repeated_request_is_a_line_of_its_own_in_the_accounts():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        await post(scene)
        await post(scene)
        report = (await scene.client.get("/metrics")).text
        counts = [line for line in report.splitlines() if line.startswith("hotseat_gateway_requests_total{")]
        assert len(counts) == 2
        assert any('outcome="repeated"' in line and 'model="a"' in line and line.endswith(" 1.0") for line in counts)
        assert any('outcome="served"' in line and line.endswith(" 1.0") for line in counts)


async def test_a_broker_that_ends_tells_who_follows():
    async with gateway_scene({"a": [[30.0]]}) as scene:
        asking = [asyncio.create_task(post(scene)) for _ in range(2)]
        await until(lambda: scene.context.room.open == 3)
        await scene.broker.services.gateway.repeats.close()
        for answer in await asyncio.gather(*asking):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        await settled(scene)
