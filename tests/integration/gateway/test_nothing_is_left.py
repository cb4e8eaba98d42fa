"""Whatever becomes of a request of ``/v1``, its memory is free when it is over: no cycle waits for a collection."""

import asyncio
import contextlib
import gzip
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from broker.core.errors import StoreUnavailableError
from broker.core.lease import LeaseId, ModelName
from broker.gateway.exchange.candidates import Candidate, Listed
from broker.gateway.trust.suspicion import Trust
from tests.fakes.broker_scene import config_of, until
from tests.fakes.cloud_scene import SAID as SAID_FAR
from tests.fakes.cloud_scene import SECRET, alias, routed, stub, upstream
from tests.fakes.gateway_scene import CHAT, QUICK, SAID, GatewayScene, RawClient, gateway_scene
from tests.fakes.left_over import left_over
from tests.fakes.scripted_server import GOOD, STREAM_HEAD, Asked, Script, chunk, stream, whole, word

SIZE = 1024 * 1024
"""Of a request's body."""
KEPT = SIZE // 4
"""What may be held more after it: counters, caches, buffers of connections."""
UNHURRIED = QUICK | {"commit_after_s": 5.0, "max_silent_s": 20.0}
"""What is answered is answered whole, however slow the machine."""
EMPTY = whole(b'{"choices": [{"message": {"content": ""}}]}')
AGED = whole(b'{"choices": [{"message": {"content": "{\\"age\\": 3}"}}]}')
UNFRAMED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall"
LONG = [STREAM_HEAD, chunk(word("one")), 60.0]
STRICT = "x-hotseat-validate: strict"
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "required": ["age"]}}}
MULTIPART = (
    b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\na\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + SIZE * b"z" + b"\r\n--x--\r\n"
)


def body(model: str = "a", **more: object) -> bytes:
    """A large request; its text is one of ours, and another one each time."""
    content = [{"type": "text", "text": "word " * (SIZE // 5)}]
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}], **more}).encode()


class Client:
    """One connection to the scene's broker."""

    def __init__(self, scene: GatewayScene, raw: RawClient) -> None:
        self.scene, self.raw = scene, raw

    async def ask(self, content: bytes, *headers: str, path: str = CHAT) -> int:
        """Send it and read the answer to its end."""
        self.raw.post(path, content, *headers)
        return await self.read()

    async def read(self) -> int:
        status, headers = await self.raw.head()
        if "content-length" in headers:
            await self.raw.reader.readexactly(int(headers["content-length"]))
        else:
            with contextlib.suppress(asyncio.IncompleteReadError, ValueError):
                await self.raw.chunks()
        return status


def forget(asked: Asked) -> None:
    """What a model server was sent is none of the broker's memory."""
    asked.body = b""


Doing = Callable[[Client], Awaitable[object]]


async def walk(scripts: dict[str, list[Script]], doing: Doing, config: object = None, **scene_settings: object) -> None:
    """Do it twice: the first time fills caches, after the second nothing may be left."""
    config = config or config_of(gateway=UNHURRIED)
    async with gateway_scene(scripts, config, **scene_settings) as scene:  # type: ignore[arg-type]
        others = len(scene.server.server_state.connections)
        for server in scene.models.values():
            server.on_ask = forget

        async def once() -> None:
            for name, server in scene.models.items():
                server.scripts[:] = scripts[name]
            client = Client(scene, await RawClient.to(scene.url))
            await doing(client)
            client.raw.close()
            await scene.all_given_back()
            await until(lambda: len(scene.server.server_state.connections) == others)
            await until(lambda: all(server.open == 0 for server in scene.models.values()))
            await asyncio.sleep(0.05)  # what was begun beside it comes to its end

        logging.disable()  # pytest keeps what is logged, with the frames of exceptions
        try:
            await once()
            async with left_over() as found:
                await once()
        finally:
            logging.disable(logging.NOTSET)
        assert not found.objects
        assert found.bytes < KEPT


async def answered(client: Client, status: int, content: bytes, *headers: str, path: str = CHAT) -> None:
    assert await client.ask(content, *headers, path=path) == status


ANSWERED: dict[str, tuple[Script, int, bytes, tuple[str, ...]]] = {
    "served": (whole(GOOD), 200, body(), ()),
    "streamed": (stream(*SAID), 200, body(stream=True), ()),
    "after keepalives": ([0.3, *stream(*SAID)], 200, body(stream=True), ()),
    "packed": (whole(GOOD), 200, gzip.compress(body()), ("content-encoding: gzip",)),
    "an answer without an end": ([UNFRAMED, 0.05, ...], 200, body(), ()),
    "no JSON": (whole(GOOD), 400, body()[:-1], ()),
    "no model of ours": (whole(GOOD), 404, body("nobody"), ()),
    "damaged": (whole(GOOD), 400, body(), ("content-encoding: gzip",)),
    "an unknown coding": (whole(GOOD), 415, body(), ("content-encoding: compress",)),
    "a word that is none": (whole(GOOD), 400, body(), ("x-hotseat-priority: now",)),
    "only if it is warm": (whole(GOOD), 503, body(), ("x-hotseat-only-if-warm: true",)),
    "too much at once": (whole(GOOD), 400, body(), ("x-hotseat-deadline-s: never", "x-hotseat-validate: maybe")),
    "an error of the model server": (whole(b'{"error": {"message": "x"}}', status=500), 500, body(), ()),
    "a refusal of the model server": (whole(b'{"error": {"message": "x"}}', status=400), 400, body(), ()),
    "an error after keepalives": ([0.3, *whole(b'{"error": "x"}', status=500)], 200, body(stream=True), ()),
    "not let in": (whole(b"{}", status=401), 502, body(), ()),
    "cut before its first byte": ([None], 502, body(), ()),
    "cut in its head": ([b"HTTP/1.1 200 OK\r\nContent-Le", None], 502, body(), ()),
    "cut in a stream": ([STREAM_HEAD, chunk(word("one")), None], 200, body(stream=True), ()),
    "no HTTP": ([b"\x16\x03\x01\x02"], 502, body(), ()),
    "another protocol": (
        [b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], 502, body(), ()
    ),
    "useless": (EMPTY, 200, body(), ()),
    "strict": (AGED, 200, body(response_format=FORMAT), (STRICT,)),
    "strict, and it breaks": (whole(GOOD), 422, body(response_format=FORMAT), (STRICT,)),
    "strict, and a stream breaks it": (stream(*SAID), 422, body(stream=True, response_format=FORMAT), (STRICT,)),
    "a schema that is none": (whole(GOOD), 400, body(response_format={"type": "json_schema"}), (STRICT,)),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
async def test_nothing_is_left_of_a_request_that_was_answered(name):
    script, status, content, headers = ANSWERED[name]
    hurried = config_of(gateway=QUICK) if name == "an error after keepalives" else None
    await walk({"a": [script]}, lambda client: answered(client, status, content, *headers), hurried)


@pytest.mark.parametrize("streams", [True, False])
async def test_nothing_but_its_answer_is_left_of_a_request_with_a_key_of_its_own(streams):
    keys = iter("ab")

    async def keyed(client: Client) -> None:
        await answered(client, 200, body(stream=streams), f"idempotency-key: {next(keys)}")

    await walk({"a": [stream(*SAID) if streams else whole(GOOD)]}, keyed)


TOO_LARGE = {"max_body_mib": 1}
FULL = {"no room": 1 << 40}
REFUSED: dict[str, tuple[int, bytes, dict[str, object], tuple[str, ...]]] = {
    "too large": (413, body() + SIZE * b" ", TOO_LARGE, ()),
    "too large when unpacked": (413, gzip.compress(body() + SIZE * b" "), TOO_LARGE, ("content-encoding: gzip",)),
    "no room": (429, body(), {}, ()),
    "of a foreign page": (403, body(), {}, ("origin: https://evil.example", "sec-fetch-site: cross-site")),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_nothing_is_left_of_a_request_that_is_not_let_in(name):
    status, content, settings, headers = REFUSED[name]

    async def doing(client: Client) -> None:
        room = client.scene.context.room
        room.bytes += FULL.get(name, 0)
        assert await client.ask(content, *headers) == status
        room.bytes -= FULL.get(name, 0)

    await walk({"a": [whole(GOOD)]}, doing, config_of(gateway=UNHURRIED | settings))


MESSAGES: dict[str, tuple[Script, int]] = {
    "served": (whole(b'{"type": "message", "role": "assistant", "content": [{"type": "text", "text": "one"}]}'), 200),
    "in error": (whole(b'{"error": {"message": "x"}}', status=500), 500),
    "cut": ([None], 502),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_nothing_is_left_of_a_message(name):
    script, status = MESSAGES[name]
    await walk({"a": [script]}, lambda client: answered(client, status, body(), path="/v1/messages"))


async def test_nothing_is_left_of_a_form():
    path, kind = "/v1/audio/transcriptions", "content-type: multipart/form-data; boundary=x"

    async def doing(client: Client) -> None:
        raw = client.raw
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{kind}\r\ncontent-length: {len(MULTIPART)}\r\n\r\n"
        raw.writer.write(head.encode() + MULTIPART)
        assert await client.read() == 200

    await walk({"a": [whole(b'{"text": "hi"}')]}, doing)


async def until_asked(client: Client) -> None:
    await until(lambda: client.scene.models["a"].open)


async def gone_in_its_body(client: Client) -> None:
    client.raw.writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), SIZE))
    client.raw.writer.write(b"x" * (SIZE // 2))
    await until(lambda: client.scene.context.room.bytes > SIZE // 4)


async def gone_before_it_was_unpacked(client: Client) -> None:
    room = client.scene.context.room
    async with room.unpacking, room.unpacking:
        client.raw.post(CHAT, gzip.compress(body()), "content-encoding: gzip")
        await until(lambda: room.open)
        client.raw.close()
        await until(lambda: not room.open)


async def gone_while_it_waits_for_a_lease(client: Client) -> None:
    asked = {"sessionKey": "s", "model": "a", "wait": 30, "cancelOnDisconnect": True}
    client.raw.post("/lease", json.dumps(asked).encode())
    await until(lambda: client.scene.leases("queued"))


async def gone_in_line(client: Client) -> None:
    client.raw.post(CHAT, body())
    await until(lambda: client.scene.leases("queued"))


async def gone_in_line_after_keepalives(client: Client) -> None:
    client.raw.post(CHAT, body(stream=True))
    await client.raw.head()
    await client.raw.chunk()
    await client.raw.chunk()


async def gone_before_the_first_byte(client: Client) -> None:
    client.raw.post(CHAT, body())
    await until_asked(client)


async def gone_in_the_stream(client: Client) -> None:
    client.raw.post(CHAT, body(stream=True))
    await client.raw.head()
    await client.raw.chunk()


async def half_closed(client: Client) -> None:
    await gone_in_the_stream(client)
    client.raw.writer.write_eof()
    await client.scene.all_given_back()


async def reads_nothing(client: Client) -> None:
    client.raw.post(CHAT, body(stream=True))
    client.raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await until_asked(client)
    await client.scene.all_given_back()


SILENT = [60.0]
FLOOD = [STREAM_HEAD, *(chunk(word("x" * 50_000)) for _ in range(400)), 60.0]
NEVER = {"load_s": 60.0}
GONE: dict[Doing, tuple[Script, dict[str, object]]] = {
    gone_in_its_body: (whole(GOOD), {}),
    gone_before_it_was_unpacked: (whole(GOOD), {}),
    gone_while_it_waits_for_a_lease: (whole(GOOD), NEVER),
    gone_in_line: (whole(GOOD), NEVER),
    gone_in_line_after_keepalives: (whole(GOOD), NEVER),
    gone_before_the_first_byte: (SILENT, {}),
    gone_in_the_stream: (LONG, {}),
    half_closed: (LONG, {}),
    reads_nothing: (FLOOD, {}),
}


@pytest.mark.parametrize("doing", GONE)
async def test_nothing_is_left_of_a_request_whose_client_is_gone(doing):
    script, scene_settings = GONE[doing]
    config = config_of(gateway=QUICK | {"reader_stall_s": 0.2})
    await walk({"a": [script]}, doing, config, **scene_settings)


async def its_lease_is_revoked(client: Client) -> None:
    client.raw.post(CHAT, body(stream=True))
    await client.raw.head()
    (lease,) = client.scene.leases("active")
    await client.scene.store.end(LeaseId(lease.id), who="operator:test", why="operator")
    await client.raw.chunks()


async def its_lease_is_revoked_before_the_first_byte(client: Client) -> None:
    client.raw.post(CHAT, body())
    await until_asked(client)
    client.scene.models["a"].scripts[:] = [whole(GOOD)]
    (lease,) = client.scene.leases("active")
    await client.scene.store.end(LeaseId(lease.id), who="operator:test", why="operator")
    assert await client.read() == 200


async def its_ticket_is_cancelled(client: Client) -> None:
    client.raw.post(CHAT, body())
    await until(lambda: client.scene.leases("queued"))
    (lease,) = client.scene.leases("queued")
    await client.scene.store.end(LeaseId(lease.id), who="operator:test", why="operator")
    assert await client.read() == 429


async def it_is_sent_away(client: Client) -> None:
    assert await client.ask(body()) == 429
    for lease in client.scene.leases("queued"):
        await client.scene.store.end(LeaseId(lease.id), who="operator:test", why="operator")


async def there_is_a_bug(client: Client) -> None:
    context = client.scene.context

    def rule(progress: object) -> object:
        raise ZeroDivisionError

    client.scene.broker.services.gateway.context = replace(context, rule=rule)
    assert await client.ask(body()) == 500
    client.scene.broker.services.gateway.context = context


async def the_store_is_away(client: Client) -> None:
    store = client.scene.store

    async def acquire(request: object) -> object:
        raise StoreUnavailableError("no store")

    store.acquire = acquire  # type: ignore[method-assign, assignment]
    assert await client.ask(body()) == 503
    del store.acquire  # type: ignore[attr-defined]


async def others_may_be_asked(client: Client) -> None:
    context = client.scene.context
    candidates = [Candidate(model=ModelName(name)) for name in ("nobody", "a")]
    client.scene.broker.services.gateway.context = replace(context, rule=lambda _: Listed(candidates))
    assert await client.ask(body()) == 200
    client.scene.broker.services.gateway.context = context


EVENTS: dict[Doing, tuple[Script, dict[str, object]]] = {
    its_lease_is_revoked: (LONG, {}),
    its_lease_is_revoked_before_the_first_byte: (SILENT, {}),
    its_ticket_is_cancelled: (whole(GOOD), NEVER),
    it_is_sent_away: (whole(GOOD), NEVER),
    there_is_a_bug: (whole(GOOD), {}),
    the_store_is_away: (whole(GOOD), {}),
    others_may_be_asked: (whole(GOOD), {}),
}


@pytest.mark.parametrize("doing", EVENTS)
async def test_nothing_is_left_of_a_request_that_something_happens_to(doing):
    script, scene_settings = EVENTS[doing]
    hurried = config_of(gateway=QUICK) if doing is it_is_sent_away else None
    await walk({"a": [script]}, doing, hurried, **scene_settings)


async def test_nothing_is_left_of_canaries():
    config = config_of(gateway=QUICK | {"canary_pause_s": 0.01, "quarantine_s": 0.1})

    async def doing(client: Client) -> None:
        for number, session in enumerate(("one", "two")):
            await client.ask(body(seed=number), f"x-hotseat-session: {session}")
        client.scene.models["a"].scripts[:] = [whole(b'{"choices": [{"message": {"content": "1, 2, 3, 4, 5"}}]}')]
        reputations = client.scene.context.reputations
        await until(lambda: reputations.of(ModelName("a")).state is Trust.TRUSTED)
        await asyncio.sleep(0.1)

    await walk({"a": [EMPTY]}, doing, config)


ROOMY = {"context_tokens": 10_000_000}
UPSTREAMS: dict[str, tuple[Script, int]] = {
    "served": (SAID_FAR, 200),
    "streamed": (stream(*SAID), 200),
    "busy": (whole(b"{}", status=429), 200),
    "failing": (whole(b"{}", status=500), 200),
    "wrong": (whole(b"{}", status=400), 400),
    "cut": ([None], 200),
    "cut in a stream": ([STREAM_HEAD, chunk(word("one")), None], 200),
    "useless": (EMPTY, 200),
}


@pytest.mark.parametrize("name", UPSTREAMS)
async def test_nothing_is_left_of_a_request_that_went_out(name, tmp_path):
    script, status = UPSTREAMS[name]
    async with stub(script) as acme, stub(SAID_FAR) as bolt:
        acme.on_ask = bolt.on_ask = forget
        offers = [upstream(tmp_path, one, server.url, offer=ROOMY) for one, server in (("acme", acme), ("bolt", bolt))]
        ways = alias("out", "cloud/acme", "cloud/bolt", prefer="listed")

        async def doing(client: Client) -> None:
            client.scene.broker.services.gateway.routing._routes.clouds.breakers.__init__(("acme", "bolt"))
            assert await client.ask(body("out", stream=name.endswith("stream"))) == status

        await walk({"a": [whole(GOOD)]}, doing, routed(*offers, aliases=(ways,), gateway=UNHURRIED))


async def test_nothing_is_left_of_a_request_that_may_not_leave(tmp_path):
    async with stub() as acme:
        offer, ways = upstream(tmp_path, "acme", acme.url, offer=ROOMY), alias("out", "cloud/acme")

        async def doing(client: Client) -> None:
            secret = body("out", x=SECRET)
            assert await client.ask(secret) == 503

        await walk({"a": [whole(GOOD)]}, doing, routed(offer, aliases=(ways,), gateway=UNHURRIED))


ASKED: dict[str, tuple[int, str, str, object]] = {
    "granted": (201, "POST", "/lease", {"sessionKey": "s", "model": "a", "wait": 5}),
    "of no model": (404, "POST", "/lease", {"sessionKey": "s", "model": "nobody"}),
    "unreadable": (422, "POST", "/lease", {"sessionKey": 1}),
    "an unknown lease": (404, "GET", "/lease/unknown", None),
    "released by nobody": (404, "POST", "/release", {"leaseId": "unknown", "nonce": "x"}),
    "heard of activity": (202, "POST", "/activity", {"sessionKey": "s", "model": "a"}),
    "status": (200, "GET", "/status", None),
    "queue": (200, "GET", "/queue", None),
    "models": (200, "GET", "/v1/models", None),
    "no such model": (404, "GET", "/v1/models/nobody", None),
    "no such page": (404, "GET", "/nowhere", None),
    "no such method": (405, "PUT", "/lease", {}),
}


@pytest.mark.parametrize("name", ASKED)
async def test_nothing_is_left_of_a_call_of_the_api(name):
    status, method, path, content = ASKED[name]

    async def doing(client: Client) -> None:
        data = b"" if content is None else json.dumps(content).encode()
        kind = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n" if data else ""
        client.raw.writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{kind}\r\n".encode() + data)
        assert await client.read() == status
        for lease in client.scene.leases():
            await client.scene.store.end(LeaseId(lease.id), who="operator:test", why="operator")

    await walk({"a": [whole(GOOD)]}, doing)


async def test_a_connection_that_is_kept_keeps_nothing_of_its_last_request():
    async with gateway_scene({"a": [whole(GOOD)]}, config_of(gateway=QUICK)) as scene:
        scene.models["a"].on_ask = forget
        async with contextlib.AsyncExitStack() as stack:

            async def ask() -> None:
                client = Client(scene, await RawClient.to(scene.url))
                stack.callback(client.raw.close)
                await answered(client, 200, body())
                await scene.all_given_back()

            await ask()
            async with left_over() as found:
                for _ in range(3):
                    await ask()
            assert found.bytes < KEPT
