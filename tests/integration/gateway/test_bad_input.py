"""Whatever comes in from either side: an answer in the protocol, no lease left behind, and a broker that serves on."""

import asyncio
import contextlib
import json

import pytest

from tests.fakes.broker_scene import config_of, until
from tests.fakes.gateway_scene import RawClient, gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, STREAM_HEAD, chunk, whole, word

CHAT = "/v1/chat/completions"
ASKED = json.dumps({"model": "a", "messages": []}).encode()
STREAMED = json.dumps({"model": "a", "messages": [], "stream": True}).encode()
BODIES = {
    b"": 400,
    b"null": 400,
    b"[]": 400,
    b"{": 400,
    b"\xff\xfe{}": 400,
    b'{"messages": []}': 400,
    b'{"model": null}': 400,
    b'{"model": ["a"]}': 400,
    b'{"model": ""}': 400,
    b'{"model": "a\\u0000"}': 404,
    b'{"model": "../../etc/passwd"}': 404,
    b'{"model": "{default}"}': 404,
    b'{"model": "nobody"}': 404,
    b'{"model": "\xff"}': 400,
    b'{"model": "\\ud800"}': 400,
    b'{"model": "a", "x": ' + b"[" * 100_000: 400,
    b'{"model": "a", "x": ' + b'{"a":' * 100_000: 400,
    b'{"model": "a"} trailing': 400,
    b"x" * 100_000: 400,
}
FORMS = [
    ("multipart/form-data", b""),
    ("multipart/form-data; boundary=", b"--x\r\n"),
    ("multipart/form-data; boundary=x", b"no form"),
    ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\na'),
    ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\nz\r\n--x--\r\n'),
    ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n" * 100 + b"--x--"),
]


async def still_serves(scene) -> None:
    scene.models["a"].scripts[:] = [whole(b'{"fine": true}')]
    answer = await scene.client.post(CHAT, content=ASKED)
    assert (answer.status_code, answer.content) == (200, b'{"fine": true}')
    await scene.all_given_back()
    assert (scene.context.room.open, scene.context.room.bytes) == (0, 0)
    assert scene.context.holds._holds == {}


async def test_bad_bodies_are_refused_in_the_protocol_and_never_reach_a_model_server():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        for path in (CHAT, "/v1/messages"):
            for body, status in BODIES.items():
                answer = await scene.client.post(path, content=body)
                assert answer.status_code == status, (body[:40], answer.text)
                assert answer.json()["error"]["message"]
        for content_type, body in FORMS:
            answer = await scene.client.post(
                "/v1/audio/transcriptions", content=body, headers={"content-type": content_type}
            )
            assert answer.status_code == 400, (body[:40], answer.text)
        for headers, status in (
            ({"content-encoding": "gzip"}, 400),
            ({"content-encoding": "compress"}, 415),
            ({"content-encoding": "gzip, gzip, gzip, gzip"}, 415),
            ({"x-hotseat-priority": "now"}, 400),
            ({"x-hotseat-priority": "99"}, 400),
            ({"x-hotseat-profile": "loud"}, 400),
        ):
            answer = await scene.client.post(CHAT, content=ASKED, headers=headers)
            assert answer.status_code == status, answer.text
        assert scene.models["a"].asked == []
        assert scene.leases() == []
        await still_serves(scene)


async def test_odd_but_sound_requests_pass():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        for headers in (
            [(b"x-hotseat-session", b"\xff\xfe{} " + b"s" * 5000)],
            [(b"session_id", "日本".encode())],
            [(b"traceparent", b"00-zz")],
            [(b"content-type", b"application/octet-stream")],
            [(b"content-type", b"application/json; charset=utf-8")],
        ):
            answer = await scene.client.post(CHAT, content=ASKED, headers=[*headers])
            assert answer.status_code == 200, answer.text
        invalid = b'{"model": "a", "messages": [{"content": "\xff\xfe"}], "n": 1e999}'
        await scene.client.post(CHAT, content=invalid)
        await still_serves(scene)


async def test_bodies_over_the_bound_are_refused_however_they_are_framed():
    config = config_of(gateway={"max_body_mib": 1, "max_bodies_mib": 2})
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        huge = b'{"model": "a", "x": "' + b"x" * 1_100_000 + b'"}'

        async def pieces():
            for start in range(0, len(huge), 100_000):
                yield huge[start : start + 100_000]

        for content in (huge, pieces()):
            answer = await scene.client.post(CHAT, content=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        client = await RawClient.to(scene.url)
        client.writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999\r\n\r\n".encode())
        assert (await client.head())[0] == 413
        client.close()
        await still_serves(scene)


async def test_the_bodies_of_all_open_requests_are_bounded_together():
    config = config_of(gateway={"max_body_mib": 1, "max_bodies_mib": 2})
    async with gateway_scene({"a": [[asyncio.Event()]]}, config, load_s=30.0) as scene:
        big = b'{"model": "a", "x": "' + b"x" * 900_000 + b'"}'
        clients = [await RawClient.to(scene.url) for _ in range(3)]
        for number, client in enumerate(clients):
            client.post(CHAT, big)
            if number < 2:
                await until(lambda: len(scene.leases("queued")) == number + 1)  # noqa: B023
        assert (await clients[2].head())[0] == 429
        for client in clients:
            client.close()
        await scene.all_given_back()
        await until(lambda: scene.context.room.bytes == 0)


async def test_a_body_that_stalls_is_cut_off_and_takes_no_lease():
    config = config_of(broker={"request_timeout_s": 0.3})
    async with gateway_scene({"a": [whole(GOOD)]}, config) as scene:
        for framing in ("content-length: 100", "transfer-encoding: chunked"):
            client = await RawClient.to(scene.url)
            start = b'{"model": "a"' if framing.startswith("c") else b'd\r\n{"model": "a"\r\n'
            client.writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n".encode() + start)
            assert (await client.head())[0] == 408
            client.close()
        assert scene.leases() == []
        await still_serves(scene)


async def test_a_client_that_goes_away_in_its_body_leaves_nothing():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        client = await RawClient.to(scene.url)
        client.writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode())
        await until(lambda: scene.context.room.open == 1)
        client.close()
        await until(lambda: scene.context.room.open == 0)
        await still_serves(scene)


@pytest.mark.parametrize("script", [[STREAM_HEAD, chunk(word("one")), 1.0, chunk(b"")], [1.0, *whole(GOOD)]])
@pytest.mark.parametrize(
    "more, status",
    [
        (b"no http\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nx: ", 408),
        (b"GET / HTTP/1.1\r\nx: " + b"x" * 40_000, 431),
        (b"GET / HTTP/1.1\r\nx: " + b"x" * 2_000_000, None),
    ],
)
async def test_what_follows_a_request_waits_for_its_answer_and_is_none_to_it(script, more, status):
    """More than a socket's buffers hold is not read at all."""
    config = config_of(broker={"request_timeout_s": 0.3})
    async with gateway_scene({"a": [script]}, config) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, STREAMED)
        await until(lambda: scene.models["a"].open)
        client.writer.write(more)
        first, headers = await client.head()
        assert first == 200
        if "content-length" in headers:
            assert await client.reader.readexactly(int(headers["content-length"])) == GOOD
        else:
            assert await client.chunks() == [word("one")]
        if status is not None:
            assert (await client.head())[0] == status
        client.close()
        await still_serves(scene)


async def test_a_half_closed_socket_counts_as_gone():
    async with gateway_scene({"a": [[STREAM_HEAD, chunk(word("one")), 60.0]]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, STREAMED)
        await client.head()
        client.writer.write_eof()
        await scene.all_given_back()
        await until(lambda: scene.models["a"].cut == 1)
        client.close()
        await still_serves(scene)


async def test_ten_megabytes_of_headers_are_refused_while_they_come():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        client = await RawClient.to(scene.url)
        client.writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-big: ".encode())

        async def flood() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    client.writer.write(b"x" * 100_000)
                    await client.writer.drain()

        flooding = asyncio.create_task(flood())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # a reset may overtake the answer
            assert (await client.head())[0] == 431
        await flooding
        client.close()
        await still_serves(scene)


ODD_STREAMS = [
    [b"data: 1\r\n\r\ndata: 2\r\n\r\n", DONE],
    [b"\xef\xbb\xbf: bom\n\n", b"data:no space\n\n"],
    [b"d", b"a", b"t", b"a", b":", b" ", b"x", b"\n", b"\n"],
    [b"event: a\nevent: b\nid\nretry: x\ndata\n\n\n\n"],
    [b"data: " + b"x" * 300_000 + b"\n\n"],
    [b"\x00\xff\n\n", b"data: \xf0\x9f", b"\x98\x80\n\n"],
]


@pytest.mark.parametrize("pieces", ODD_STREAMS)
async def test_odd_framing_of_events_passes_as_it_is(pieces):
    script = [STREAM_HEAD, *(step for piece in pieces for step in (chunk(piece), 0.01)), chunk(b"")]
    async with gateway_scene({"a": [script]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, STREAMED)
        await client.head()
        got = await client.chunks()
        assert b"".join(got) == b"".join(pieces)
        if max(map(len, pieces)) < 1000:
            assert got == pieces
        client.close()
        await still_serves(scene)


ODD_ANSWERS = {
    "no HTTP": ([b"\x16\x03\x01\x02"], 502),
    "huge head": ([b"HTTP/1.1 200 OK\r\nx: " + b"x" * 300_000 + b"\r\n\r\n"], 502),
    "body too short": ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", None], 502),
    "upgrade": ([b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], 502),
    "no length": ([b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nConnection: close\r\n\r\nall", 0.05, ...], 200),
    "interim": ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nall"], 200),
    "no content": ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204),
    "extra bytes": ([b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nallHTTP/1.1 200 OK\r\n\r\n"], 200),
    "odd status": ([b"HTTP/1.1 299 Odd\r\nContent-Length: 3\r\nX-Hotseat-Lease: fake\r\n\r\nall"], 299),
}


@pytest.mark.parametrize("name", ODD_ANSWERS)
async def test_odd_answers_of_a_model_server_are_passed_on_or_told_as_such(name):
    script, status = ODD_ANSWERS[name]
    config = config_of(gateway={"dead_server_s": 0.1})
    async with gateway_scene({"a": [script]}, config) as scene:
        answer = await scene.client.post(CHAT, content=ASKED)
        assert answer.status_code == status, answer.text
        assert answer.headers["x-hotseat-lease"] != "fake"
        if status == 502:
            assert answer.json()["error"]["code"].startswith("upstream")
        elif status != 204:
            assert answer.content == b"all"
        await still_serves(scene)


async def test_an_answer_with_a_length_that_breaks_off_is_cut_so_that_nobody_takes_it_for_whole():
    script = [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\nabc", 0.05, None]
    async with gateway_scene({"a": [script]}) as scene:
        client = await RawClient.to(scene.url)
        client.post(CHAT, ASKED)
        assert (await client.head())[0] == 200
        assert await client.reader.read() == b"abc"
        client.close()
        await still_serves(scene)
