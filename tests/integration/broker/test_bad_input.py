"""Whatever comes in: a problem document with a 4xx status, and a store that has not changed."""

import asyncio
import gzip
import json

import pytest

from tests.fakes.broker_scene import Scene, config_of, memory_scene

SESSIONS = ["", "a\r\nb", "a\x1b[2J", "{default}", "a\x00b", "\u2028", "a\n", "\x85", "x" * 257, "x" * 1_000_000]
TTLS = ["0", "-1", "1e9", "NaN", "Infinity", "1e999", "0.5", '"60"', "true", "[60]", "3601"]
BODIES = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b'{"sessionKey": "s"}',
    b'{"sessionKey": "s", "model": "a", "model": "b"}',
    b'{"sessionKey": "s", "model": "a", "ttlSeconds": 60, "ttlSeconds": 61}',
    b'{"sessionKey": "s", "model": "a", "unknown": 1}',
    b'{"sessionKey": "s", "model": "a", "holder": ""}',
    b'{"sessionKey": "s", "model": "../../etc/passwd"}',
    b'{"sessionKey": "s", "model": "a\\n"}',
    b'{"sessionKey": "s", "model": "a", "intent": "own"}',
    b'{"sessionKey": "s", "model": "a", "priority": 6}',
    b'{"sessionKey": "s", "model": "a", "priority": "urgent"}',
    b'{"sessionKey": "s", "model": "a", "priority": 1.5}',
    b'{"sessionKey": "s", "model": "a", "wait": -1}',
    b'{"sessionKey": "s", "model": "a", "expectedSeconds": 0}',
    b'{"sessionKey": "\\ud800", "model": "a"}',
    b'{"sessionKey": {"a": 1}, "model": "a"}',
    b"[" * 8000,
    b'{"sessionKey": ' + b'{"a":' * 1500,
    b'{"sessionKey": "s", "model": "a"} trailing',
    b" " * 9000 + b"{}",
]
REFERENCES = [
    {},
    {"leaseId": "L1"},
    {"nonce": "n"},
    {"sessionKey": "s"},
    {"leaseId": "L1", "nonce": "n", "sessionKey": "s", "model": "a"},
    {"leaseId": "L1", "nonce": "n", "model": "a"},
    {"leaseId": "L 1", "nonce": "n"},
    {"leaseId": "L1", "nonce": ""},
]


async def refused(scene: Scene, answer, *statuses: int) -> None:
    assert 400 <= answer.status_code < 500, answer.text
    if statuses:
        assert answer.status_code in statuses
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["code"]
    assert problem["detail"]
    assert scene.broker.services.store.pool.leases == {}


async def post(scene: Scene, body: bytes, path: str = "/lease", **headers: str):
    return await scene.client.post(path, content=body, headers={"Content-Type": "application/json", **headers})


async def test_bad_bodies_are_refused_and_change_nothing():
    async with memory_scene() as scene:
        for session in SESSIONS:
            await refused(scene, await scene.lease(session))
        for ttl in TTLS:
            await refused(scene, await post(scene, f'{{"sessionKey":"s","model":"a","ttlSeconds":{ttl}}}'.encode()))
        for body in BODIES:
            await refused(scene, await post(scene, body))
        await refused(scene, await scene.lease(model="unknown"), 404)
        await refused(scene, await scene.lease(model="huge"), 422)
        for path in ("/renew", "/release"):
            for reference in REFERENCES:
                await refused(scene, await post(scene, json.dumps(reference).encode(), path), 422)
            await refused(scene, await post(scene, b'{"leaseId":"L1","nonce":"n"}', path), 404)
        assert (await scene.client.get("/healthz")).status_code == 200


async def test_bad_headers_and_queries_are_refused():
    sound = b'{"sessionKey":"s","model":"a"}'
    async with memory_scene() as scene:
        for kind in ("text/plain", "application/json; charset=latin-1", "application/x-www-form-urlencoded", "", "a"):
            await refused(scene, await post(scene, sound, **{"Content-Type": kind}), 415)
        await refused(scene, await post(scene, sound, **{"Content-Encoding": "gzip"}), 400)
        await refused(scene, await post(scene, sound, **{"Content-Encoding": "compress"}), 415)
        await refused(scene, await post(scene, gzip.compress(b" " * 9000 + sound), **{"Content-Encoding": "gzip"}), 413)
        for key in ("", "a b", "x" * 129):
            await refused(scene, await post(scene, sound, **{"Idempotency-Key": key}), 422)
        await refused(scene, await post(scene, sound, "/lease?wait=5"), 422)
        for query in ("wait=NaN", "wait=-1", "wait=301", "wait=1&wait=2", "wati=1", "wait=", "cancelOnDisconnect=1"):
            await refused(scene, await scene.client.get(f"/lease/L1?{query}"), 422)
        for path in ("/lease/%00", "/lease/" + "x" * 65, "/lease/a%20b", "/nothing", "/lease/", "//", "/lease/L1/why"):
            await refused(scene, await scene.client.get(path), 404, 422)
        for last in ("x", "1-", "-1", "1-2-3", "9" * 50):
            await refused(scene, await scene.client.get("/events", headers={"Last-Event-ID": last}), 422)
        for authorization in ("Bearer hsk_" + "x" * 43, "hsk_" + "x" * 43, "Bearer  hsk_" + "x" * 5000):
            answer = await post(scene, sound, Authorization=authorization)
            await refused(scene, answer, 401)


async def test_other_methods_are_problem_documents():
    async with memory_scene() as scene:
        for method, path in (("GET", "/lease"), ("PUT", "/lease"), ("POST", "/lease/L1"), ("DELETE", "/status")):
            answer = await scene.client.request(method, path)
            await refused(scene, answer, 405)
            assert answer.headers["allow"]
        head = await scene.client.head("/lease")
        assert (head.status_code, head.content) == (405, b"")
        assert head.headers["content-type"] == "application/problem+json"


async def exchange(scene: Scene, *chunks: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(scene.url.rsplit(":", 1)[1]))
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        return await reader.readuntil(b"}")
    finally:
        writer.close()


HEAD = b"POST /lease HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def test_a_hundred_megabytes_are_refused_at_once():
    async with memory_scene() as scene:
        declared = await exchange(scene, HEAD + b"Content-Length: 100000000\r\n\r\n")
        assert b" 413 " in declared
        chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
        chunked = await exchange(scene, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk)
        assert b" 413 " in chunked
        whole = await scene.client.post(
            "/lease", content=b"x" * 100_000_000, headers={"Content-Type": "application/json"}
        )
        await refused(scene, whole, 413)


async def test_slow_and_endless_requests_are_cut_off():
    config = config_of(broker={"request_timeout_s": 0.2})
    async with memory_scene(config) as scene:
        assert b" 408 " in await exchange(scene, b"POST /lease HT")
        assert b" 408 " in await exchange(scene, HEAD + b"Content-Length: 30\r\n\r\n{")
        assert b" 431 " in await exchange(scene, HEAD, b"X-Filler: " + b"x" * 40_000)
        assert b" 400 " in await exchange(scene, b"\x16\x03\x01 TLS hello\r\n\r\n")


async def test_connections_over_the_cap_are_told_to_come_back():
    async with memory_scene(config_of(broker={"max_connections": 3})) as scene:
        port = int(scene.url.rsplit(":", 1)[1])
        open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0.05)
        answer = await exchange(scene, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 503 " in answer
        assert b"retry-after: 1" in answer
        for _, writer in open_ones:
            writer.close()


@pytest.mark.parametrize("kind", ["queue", "session"])
async def test_full_queues_say_when_to_come_back(kind):
    limits = {"max_queue": 2} if kind == "queue" else {"max_queue_session": 2}
    async with memory_scene(config_of(**limits), load_s=30) as scene:
        for holder in ("one", "two"):
            assert (await scene.lease(holder=holder)).status_code == 202
        full = await scene.lease(holder="three")
        assert full.status_code == 429
        assert full.json()["code"] in {"queue_full", "session_queue_full"}
        assert int(full.headers["retry-after"]) > 0
