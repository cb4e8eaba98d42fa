"""Clients that compress their requests: the model server gets the plain body, and so does whoever looks for secrets."""

import gzip
import json
import zlib

import brotli
import pytest

from broker.protocol.unpacking import zstd
from tests.fakes.broker_scene import config_of, until
from tests.fakes.cloud_scene import NEAR, SECRET, alias, routed, routed_scene, stub, upstream
from tests.fakes.gateway_scene import CHAT, RawClient, body_of, gateway_scene
from tests.fakes.scripted_server import GOOD, whole

PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}
BODY = json.dumps(body_of(note="x" * 2000)).encode()
KIND = {"content-type": "application/json"}


@pytest.mark.parametrize("coding", PACKERS)
async def test_a_compressed_request_is_answered_and_arrives_plain(coding):
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        answer = await scene.client.post(
            CHAT, content=PACKERS[coding](BODY), headers=KIND | {"content-encoding": coding}
        )
        assert answer.status_code == 200, answer.text
        (asked,) = scene.models["a"].asked
        assert asked.body == BODY
        assert asked.header("content-encoding") is None
        assert asked.header("content-length") == str(len(BODY))
        await scene.all_given_back()
        assert (scene.context.room.open, scene.context.room.bytes) == (0, 0)


@pytest.mark.parametrize("headers", [[(b"content-encoding", b"Identity")], [(b"content-encoding", b"")], [
    (b"content-encoding", b""), (b"content-encoding", b"identity")]])  # fmt: skip
async def test_a_coding_that_changes_nothing_is_none(headers):
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        headers = [(b"content-type", b"application/json"), *headers]
        assert (await scene.client.post(CHAT, content=BODY, headers=headers)).status_code == 200
        lease = json.dumps({"sessionKey": "s", "model": "a"}).encode()
        assert (await scene.client.post("/lease", content=lease, headers=headers)).status_code in {201, 202}


async def test_a_compressed_lease_call_is_answered():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        body = gzip.compress(json.dumps({"sessionKey": "s", "model": "a", "wait": 5}).encode())
        answer = await scene.client.post("/lease", content=body, headers=KIND | {"content-encoding": "gzip"})
        assert answer.status_code == 201, answer.text


async def test_a_body_that_grows_beyond_the_limit_is_413_and_leaves_no_trace():
    config = config_of(gateway={"max_body_mib": 1})
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        bomb = gzip.compress(body_of_bytes := b'{"model": "a", "x": "' + bytes(50_000_000) + b'"}')
        assert len(bomb) < len(body_of_bytes) / 500
        for path in (CHAT, "/v1/messages"):
            answer = await scene.client.post(path, content=bomb, headers=KIND | {"content-encoding": "gzip"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert scene.models["a"].asked == []
        assert (scene.context.room.open, scene.context.room.bytes) == (0, 0)


async def test_a_body_whose_client_goes_before_it_is_unpacked_is_let_go_at_once():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        room = scene.context.room
        async with room.unpacking, room.unpacking:
            client = await RawClient.to(scene.url)
            client.post(CHAT, gzip.compress(BODY), "content-encoding: gzip")
            await until(lambda: room.open)
            client.close()
            await until(lambda: (room.open, room.bytes) == (0, 0))
        assert scene.models["a"].asked == []
        answer = await scene.client.post(CHAT, content=gzip.compress(BODY), headers=KIND | {"content-encoding": "gzip"})
        assert answer.status_code == 200, "its turn was lost"


async def test_a_secret_in_a_compressed_request_does_not_leave(tmp_path):
    async with stub() as cloud:
        config = routed(
            upstream(tmp_path, "acme", cloud.url), aliases=(alias("auto", "cloud/acme", "a", prefer="listed"),)
        )
        async with routed_scene({"a": [NEAR]}, config) as scene:
            for text, served_by in (("a fine day", "far"), (f"my token is {SECRET}", "near")):
                body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
                packed = zstd.compress(json.dumps(body).encode())
                headers = KIND | {"content-encoding": "zstd", "x-hotseat-session": text[:6]}
                answer = await scene.client.post(CHAT, content=packed, headers=headers)
                assert answer.json()["choices"][0]["message"]["content"] == served_by
            assert cloud.accepted == 1
            assert cloud.asked[0].header("content-encoding") is None
