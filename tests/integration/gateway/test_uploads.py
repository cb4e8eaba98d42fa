"""An upload is limited by stalling, not by its whole time; what was met is said in the client's own protocol."""

import asyncio
import json
import time

import pytest

from broker.http_server import arrival
from tests.fakes.broker_scene import config_of, memory_scene, until
from tests.fakes.gateway_scene import CHAT, RawClient, gateway_scene
from tests.fakes.scripted_server import GOOD, whole

QUICK = config_of(broker={"request_timeout_s": 0.4})
BODY = b'{"model": "a", "messages": [], "x": "' + b"y" * 4000 + b'"}'


def head(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def said(client: RawClient) -> tuple[int, dict, dict]:
    status, headers = await client.head()
    return status, headers, json.loads(await client.reader.readexactly(int(headers["content-length"])))


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_slow_upload_that_goes_on_is_answered(framing):
    async with gateway_scene({"a": [whole(GOOD)]}, QUICK) as scene:
        client = await RawClient.to(scene.url)
        chunked = framing == "chunks"
        client.writer.write(head(CHAT, "transfer-encoding: chunked" if chunked else f"content-length: {len(BODY)}"))
        for start in range(0, len(BODY), 400):
            piece = BODY[start : start + 400]
            client.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            sent_s = time.monotonic()
            await asyncio.sleep(0.15)  # ten pieces: far beyond the limit on their whole time that there was
        if chunked:
            client.writer.write(b"0\r\n\r\n")
        status, headers = await client.head()
        assert status == 200
        waited_s = int(headers["x-hotseat-waited-ms"]) / 1000
        assert waited_s <= time.monotonic() - sent_s, "what an upload takes is no waiting"
        assert scene.models["a"].asked[0].body == BODY
        client.close()


@pytest.mark.parametrize(
    "path, kind",
    [(CHAT, "openai"), ("/v1/audio/transcriptions", "openai"), ("/v1/messages", "anthropic"), ("/lease", "problem")],
)
async def test_an_upload_that_stalls_is_told_which_limit_it_met(path, kind):
    async with gateway_scene({"a": [whole(GOOD)]}, QUICK) as scene:
        client = await RawClient.to(scene.url)
        client.writer.write(head(path, "content-length: 500") + b'{"model": "a"')
        status, headers, body = await said(client)
        assert status == 408
        assert headers["x-request-id"]
        detail = body["detail"] if kind == "problem" else body["error"]["message"]
        assert "stalled" in detail
        assert "request_timeout_s" in detail
        assert "0.4 s" in detail
        if kind != "problem":
            assert body["error"]["code"] == "too_slow"
            assert (body.get("type") == "error") == (kind == "anthropic")
        assert await client.reader.read() == b""
        client.close()
        await until(lambda: scene.context.room.open == 0)


async def test_a_head_has_its_whole_time_only_however_it_drips():
    async with gateway_scene({"a": [whole(GOOD)]}, QUICK) as scene:
        client = await RawClient.to(scene.url)
        line, _, rest = head(CHAT, "x-filler: " + "x" * 100).partition(b"\r\n")
        client.writer.write(line + b"\r\n")  # at once: before it nobody knows in which form an error is expected
        dripping = asyncio.create_task(_drip(client, rest))
        status, _, body = await said(client)
        dripping.cancel()
        assert status == 408
        assert "head" in body["error"]["message"]
        client.close()


async def _drip(client: RawClient, raw: bytes) -> None:
    for byte in raw:
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def test_a_body_that_drips_for_ever_is_cut_by_its_pace(monkeypatch):
    monkeypatch.setattr(arrival, "PATIENCE_S", 1.0)
    async with gateway_scene({"a": [whole(GOOD)]}, QUICK) as scene:
        client = await RawClient.to(scene.url)
        client.writer.write(head(CHAT, "content-length: 5000"))
        dripping = asyncio.create_task(_drip(client, BODY))
        status, _, body = await asyncio.wait_for(said(client), 10)
        dripping.cancel()
        assert status == 408
        assert "bytes per second" in body["error"]["message"]
        client.close()


async def test_an_answer_that_came_before_its_body_can_be_read_while_the_body_is_still_sent():
    """Closing while a client sends would reset the connection, and the answer with it."""
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway={"max_body_mib": 1})) as scene:
        for close in ("connection: close", "connection: keep-alive"):
            client = await RawClient.to(scene.url)
            client.writer.write(head(CHAT, "content-length: 9000000", close))
            for _ in range(90):
                client.writer.write(b"x" * 100_000)
                await asyncio.sleep(0)
            status, _, body = await said(client)
            assert (status, body["error"]["code"]) == (413, "too_large")
            assert "max_body_mib" in body["error"]["message"]
            client.close()


async def test_what_is_left_of_an_answered_upload_is_dropped_for_a_while_only():
    config = config_of(broker={"request_timeout_s": 0.4}, gateway={"max_body_mib": 1})
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        client = await RawClient.to(scene.url)
        client.writer.write(head(CHAT, "content-length: 900000000"))
        assert (await said(client))[0] == 413
        pouring = asyncio.create_task(_pour(client))
        assert await asyncio.wait_for(client.reader.read(), 30) == b""
        pouring.cancel()
        client.close()


async def _pour(client: RawClient) -> None:
    while True:
        client.writer.write(b"x" * 1000)
        await asyncio.sleep(0.05)


async def test_who_was_answered_without_a_go_ahead_gets_no_second_request_on_that_connection():
    """Whether the body still comes nobody knows: taken for a request it could be anything."""
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        client = await RawClient.to(scene.url)
        inner = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
        client.writer.write(head("/v1/nothing", f"content-length: {len(inner)}", "expect: 100-continue"))
        status, headers, _ = await said(client)
        assert (status, headers["connection"]) == (404, "close")
        client.writer.write(inner + inner)
        assert await client.reader.read() == b""
        client.close()


async def test_the_wait_behind_another_request_is_no_stall():
    """Nothing is read of the next request meanwhile: that is no stall of the client's."""
    release = asyncio.Event()
    config = config_of(broker={"request_timeout_s": 0.3})
    async with gateway_scene({"a": [[release, *whole(GOOD)], whole(GOOD)]}, config) as scene:
        client = await RawClient.to(scene.url)
        body = b'{"model": "a", "messages": [], "x": "' + b"y" * 900_000 + b'"}'
        client.writer.write(head(CHAT, f"content-length: {len(body)}") + body)
        client.writer.write(head(CHAT, f"content-length: {len(body)}") + body)
        await until(lambda: scene.models["a"].open)
        await asyncio.sleep(0.8)
        release.set()
        for _ in range(2):
            status, headers = await client.head()
            assert status == 200
            assert await client.reader.readexactly(int(headers["content-length"])) == GOOD
        client.close()


async def test_bodies_of_the_lease_calls_are_held_to_the_same():
    async with memory_scene(QUICK) as scene:
        client = await RawClient.to(scene.url)
        body = b'{"sessionKey": "s", "model": "a"}'
        client.writer.write(head("/lease", f"content-length: {len(body)}"))
        for byte in body:
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0.03)
        assert (await client.head())[0] in {201, 202}
        client.close()
