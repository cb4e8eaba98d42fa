"""A request of any client takes a lease, reaches the model server, and its answer comes back byte by byte."""

import asyncio
import json

import pytest

from broker.access.keys import new_key
from broker.access.principals import Scope
from schemas.config.file import ModelEntry
from schemas.residency import Residency
from tests.fakes.broker_scene import config_of, key_entry, until
from tests.fakes.gateway_scene import GatewayScene, RawClient, gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, stream, whole, word

CHAT = "/v1/chat/completions"
ANSWER = GOOD[:-1] + b',  "unknown": {"deep": [1e400, "\\u0000"]}}\n'
PATHS = [
    "/chat/completions",
    "/completions",
    "/responses",
    "/embeddings",
    "/rerank",
    "/audio/speech",
    "/images/generations",
    "/messages",
    "/messages/count_tokens",
]


def body_of(model: str = "a", **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_passes_both_ways_untouched_under_a_lease(path):
    body = b'{ "model":"a", "unknown": [1.0, 1e400, "\\ud83d\\ude00 \xc3\xa4"],\n "tools": [{}] }'
    kind = "embedding" if path == "/embeddings" else "chat"
    config = config_of(models=(ModelEntry(name="a", memory_mib=900, kind=kind),))
    async with gateway_scene({"a": [whole(ANSWER)]}, config) as scene:
        leases = []
        scene.models["a"].on_ask = lambda _: leases.extend(scene.leases("active"))
        answer = await scene.client.post(f"/v1{path}?beta=true", content=body)
        assert (answer.status_code, answer.content) == (200, ANSWER)
        asked = scene.models["a"].asked[0]
        assert (asked.target, asked.body) == (f"/v1{path}?beta=true", body)
        assert [lease.model for lease in leases] == ["a"]
        assert answer.headers["x-hotseat-lease"] == leases[0].id
        assert answer.headers["x-hotseat-model"] == "a"
        assert (answer.headers["x-hotseat-route"], answer.headers["x-hotseat-reason"]) == ("local", "named")
        assert answer.headers["x-hotseat-position"] == "0"
        assert int(answer.headers["x-hotseat-waited-ms"]) >= 0
        await scene.all_given_back()


async def test_a_form_with_a_file_passes_by_its_model_field():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        files = {"file": ("speech.wav", b"RIFF\x00\r\n--\xff" * 1000, "audio/wav")}
        answer = await scene.client.post("/v1/audio/transcriptions", data={"model": "a"}, files=files)
        assert answer.status_code == 200, answer.text
        asked = scene.models["a"].asked[0]
        assert asked.header("content-type").startswith("multipart/form-data; boundary=")
        assert files["file"][1] in asked.body


async def test_chunks_of_a_stream_keep_their_boundaries_and_come_at_once():
    gate = asyncio.Event()
    odd = [b"data: {", b'"a": 1}\n', b"\n: comment\r\n\r\n", b"event: x\ndata: \xff\xfe\n\n", b"\n", DONE]
    steps = [
        STREAM_HEAD,
        chunk(odd[0]),
        gate,
        *(step for piece in odd[1:] for step in (chunk(piece), 0.02)),
        chunk(b""),
    ]
    async with gateway_scene({"a": [steps]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        status, headers = await client.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert await client.chunk() == odd[0]  # while the model server still holds the rest back
        assert len(scene.leases("active")) == 1
        gate.set()
        assert await client.chunks() == odd[1:]
        await scene.all_given_back()
        client.close()


async def test_the_clients_credentials_stay_here_and_the_loads_own_key_goes():
    config = config_of(keys=(key_entry("k", Scope.LEASE),))
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        for headers in ({"Authorization": "Bearer hsk_k"}, {"x-api-key": "hsk_k"}):
            scene.client.headers.pop("Authorization", None)
            more = {"Cookie": "c=hsk_k", "X-Secret": "hsk_k", "Proxy-Authorization": "Basic hsk_k", "api-key": "hsk_k"}
            answer = await scene.client.post(CHAT, json=body_of(), headers=headers | more)
            assert answer.status_code == 200
        for asked in scene.models["a"].asked:
            assert asked.header("authorization") == f"Bearer {scene.worker.keys['a']}"
            assert "hsk_k" not in str(asked.headers)


async def test_who_may_not_is_told_in_the_protocol_it_speaks():
    config = config_of(keys=(key_entry("k", Scope.LEASE, models=("b",)), key_entry("o", Scope.OBSERVE)))
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        del scene.client.headers["Authorization"]
        for path in (CHAT, "/v1/messages"):
            for key, status in ((None, 401), ("hsk_wrong", 401), ("hsk_o", 403), ("hsk_k", 403)):
                headers = {} if key is None else {"x-api-key": key}
                answer = await scene.client.post(path, json=body_of(), headers=headers)
                assert answer.status_code == status, answer.text
                kind = answer.json()["error"]["type"]
                assert kind == {401: "authentication_error", 403: "permission_error"}[status]
                assert (answer.json().get("type") == "error") is (path == "/v1/messages")
        answer = await scene.client.post(CHAT, json=body_of("unknown"), headers=scene.auth("k"))
        assert answer.status_code == 403
        assert scene.models["a"].asked == []
        assert scene.leases() == []


async def test_where_callers_need_no_key_any_text_is_none_but_a_mistyped_key_is_not():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of()) as scene:
        scene.client.headers.pop("Authorization", None)
        for key, status in (("none", 200), ("hsk_...", 200), (new_key()[0], 401)):
            answer = await scene.client.post(CHAT, json=body_of(), headers={"x-api-key": key})
            assert answer.status_code == status, answer.text
        assert len(scene.models["a"].asked) == 2  # the third may have been meant to be a private one


async def test_a_model_servers_own_errors_pass_untouched_where_they_have_openais_envelope():
    errors = {
        400: b'{ "error" : {"message": "too long", "n_ctx": 512}}',
        500: b'{"error":{"message":"oops","code":500}}\n',
    }
    async with gateway_scene({"a": [whole(body, status=status) for status, body in errors.items()]}) as scene:
        for status, content in errors.items():
            answer = await scene.client.post(CHAT, json=body_of())
            assert (answer.status_code, answer.content) == (status, content)
        await scene.all_given_back()


def _is_ready(scene):
    residencies = scene.broker.scheduler.last.snapshot.slots[0].residencies
    return [r.state for r in residencies] == [Residency.READY]


async def test_models_are_listed_with_their_state_in_openais_and_anthropics_shape():
    async with gateway_scene({"a": [whole(GOOD)], "b": [whole(GOOD)]}) as scene:
        await scene.client.post(CHAT, json=body_of())
        await until(lambda: _is_ready(scene))
        asked = [len(server.asked) for server in scene.models.values()]
        listed = (await scene.client.get("/v1/models")).json()
        assert [len(server.asked) for server in scene.models.values()] == asked, "no server is asked for it"
        assert (listed["object"], listed["has_more"]) == ("list", False)
        cards = {card["id"]: card for card in listed["data"]}
        assert set(cards) == {"a", "b", "huge"}
        assert (cards["a"]["object"], cards["a"]["type"], cards["a"]["state"]) == ("model", "model", "ready")
        assert (cards["b"]["state"], cards["b"]["served"]) == ("absent", True)
        assert cards["huge"]["served"] is False
        assert (await scene.client.get("/v1/models/b")).json()["id"] == "b"
        assert (await scene.client.get("/v1/models/c")).status_code == 404


async def test_addresses_below_v1_that_do_not_exist_say_so():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        assert (await scene.client.get(CHAT)).status_code == 405
        answer = await scene.client.post("/v1/files", json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_client_that_goes_away_mid_stream_gives_its_lease_back_and_stops_the_model_server():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), 60.0]]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        await client.head()
        assert await client.chunk() == word("one")
        client.close()
        await scene.all_given_back()
        await until(lambda: scene.models["a"].cut == 1)


async def test_a_client_that_offers_another_protocol_is_served_in_this_one():
    offer = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAAB", "Upgrade: h2c")
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        client = await RawClient.to(scene.url)
        body = json.dumps(body_of(note="\r\nupgrade: x")).encode()
        for _ in range(2):
            client.post(CHAT, body, *offer)
            status, headers = await client.head()
            assert (status, await client.reader.readexactly(int(headers["content-length"]))) == (200, GOOD)
        assert [asked.body for asked in scene.models["a"].asked] == [body, body]
        client.close()


async def test_a_client_that_goes_away_in_line_leaves_it_at_once_and_the_load_goes_on():
    async with gateway_scene({"a": [whole(GOOD)]}, load_s=0.5) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of()).encode(), "x-hotseat-session: s1")
        other = asyncio.create_task(scene.client.post(CHAT, json=body_of(), headers={"x-hotseat-session": "s2"}))
        await until(lambda: len(scene.leases("queued")) == 2)
        client.close()
        await until(lambda: len(scene.leases("queued")) == 1)
        assert (await other).status_code == 200
        assert len(scene.models["a"].asked) == 1
        await scene.all_given_back()


def is_connected(scene: GatewayScene, client: RawClient) -> bool:
    address = client.writer.get_extra_info("sockname")
    return any(one.client == address for one in scene.server.server_state.connections)


async def test_a_slow_reader_slows_the_model_server_down():
    piece = word("x" * 60_000)
    async with gateway_scene({"a": [stream(*[piece] * 1600, DONE)]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        await client.head()
        server = scene.models["a"]
        await until(lambda: server.written > 1_000_000)
        before = -1
        while before != server.written:
            before = server.written
            await asyncio.sleep(0.2)
        assert server.written < 50_000_000, "96 MB were asked for, and systems buffer 40 at most: somebody buffers"
        assert b"".join(await client.chunks()) == piece * 1600 + DONE
        client.close()


async def test_a_reader_that_stalls_for_too_long_loses_its_lease():
    config = config_of(gateway={"reader_stall_s": 0.3}, ttl_default_s=1.0)
    async with gateway_scene({"a": [stream(*[word("x" * 60_000)] * 400)]}, config) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        await client.head()
        await until(lambda: scene.leases("active"))
        await scene.all_given_back()
        await until(lambda: not is_connected(scene, client))
        client.close()


async def test_a_reader_that_stalls_while_its_lease_ends_is_cut_off():
    config = config_of(gateway={"reader_stall_s": 0.3})
    async with gateway_scene({"a": [stream(*[word("x" * 60_000)] * 400)]}, config) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, json.dumps(body_of(stream=True)).encode())
        await client.head()
        await until(lambda: any(one.flow.write_paused for one in scene.server.server_state.connections))
        (hold,) = scene.context.holds._holds.values()
        await scene.store.end(hold.record.lease_id, who="operator:x", why="operator")
        await until(lambda: scene.context.room.open == 0)
        await until(lambda: not is_connected(scene, client))
        client.close()


async def test_a_lease_is_renewed_while_a_long_stream_runs():
    pieces = [word(str(number)) for number in range(10)]
    config = config_of(ttl_default_s=1.0, ttl_min_s=1.0)
    async with gateway_scene({"a": [stream(*pieces, pause_s=0.25)]}, config) as scene:
        answer = await scene.client.post(CHAT, json=body_of(stream=True))
        assert answer.content == b"".join(pieces)
        await scene.all_given_back()


async def test_a_body_is_renamed_only_where_the_server_knows_the_model_by_another_name():
    from schemas.config.file import ModelEntry  # noqa: PLC0415

    models = (ModelEntry(name="a", memory_mib=900, served_name="org/A"),)
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(models=models)) as scene:
        body = b'{"x":1.00,"model":"a","y":"\\u0041"}'
        assert (await scene.client.post(CHAT, content=body)).status_code == 200
        assert scene.models["a"].asked[0].body == b'{"x":1.00,"model":"org/A","y":"\\u0041"}'
