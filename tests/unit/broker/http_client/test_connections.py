"""One connection: what is kept while a request is answered, what is dropped, what is refused."""

import asyncio
import socket

import pytest

from broker.access.guard import Guard
from broker.access.host_names import Names
from broker.access.origins import Origins
from broker.http_server.connections import GuardedProtocol, guarded
from broker.http_server.framing import MAX_FRAMING
from broker.http_server.whole_requests import MAX_AHEAD, Bounds
from broker.protocol.refusals import LINES, PERIOD_S, Refusal, RefusalLog
from tests.fakes.wire import Wire

GET = b"GET /n HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


async def test_one_request_is_served_at_a_time_and_the_others_wait_unread():
    wire = Wire(GuardedProtocol)
    wire.go_on.clear()
    await wire.feed([GET * 1000])
    assert len(wire.outcome.served) == 1
    assert len(wire.protocol.pipeline) == 0
    wire.go_on.set()
    await wire.settle(20_000)
    assert len(wire.end().served) == 1000


async def test_what_comes_ahead_is_bounded():
    wire = Wire(GuardedProtocol)
    wire.go_on.clear()
    await wire.feed([GET, b"x" * (MAX_AHEAD - 1)])
    assert wire.transport.reading
    await wire.feed([b"x" * 2])
    assert not wire.transport.reading
    await wire.feed([b"x" * MAX_AHEAD for _ in range(20)])
    assert wire.transport.closed


async def test_trailers_are_no_headers_and_have_an_end():
    wire = Wire(GuardedProtocol)
    await wire.feed([CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\nHost: evil.example\r\n\r\n"])
    await wire.settle()
    names = [name for name, _ in wire.scopes[0]["headers"]]
    assert names == [b"host", b"transfer-encoding"]
    wire.end()
    endless = Wire(GuardedProtocol)
    await endless.feed([CHUNKED + b"1\r\na\r\n0\r\n", *[b"X: " + b"y" * 1000 + b"\r\n"] * (MAX_FRAMING // 900)])
    found = endless.end()
    assert (found.served, found.statuses) == ([], [400])


async def test_a_refused_request_is_dropped_to_its_end_and_its_reader_is_told():
    wire = Wire(GuardedProtocol)
    await wire.feed([CHUNKED + b"1\r\na\r\n"])
    assert wire.outcome.served == []
    await wire.feed([b"no chunk\r\n", GET])
    await wire.settle()
    found = wire.end()
    assert (found.served, found.statuses, found.closed) == ([], [400], True)


async def test_a_websocket_probe_keeps_its_body_to_itself():
    probe = b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n\r\n%b" % (len(GET), GET)
    assert await fed(POST + probe + GET) == ([("GET", "/n", b"")], [426, 200])


async def fed(raw: bytes) -> tuple[list, list]:
    wire = Wire(GuardedProtocol)
    await wire.feed([raw])
    await wire.settle(20)
    found = wire.end()
    return found.served, found.statuses


@pytest.mark.parametrize("target", [b"http://evil.example/n", b"http://evil.example:4687", b"http://[2001:db8::1]/n"])
async def test_the_name_in_an_address_for_proxies_must_be_ours_too(target):
    assert await fed(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target) == ([], [421])


async def test_an_early_answer_does_not_end_the_connection_nor_take_the_rest_for_a_request():
    async def app(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    wire = Wire(GuardedProtocol)
    serve, wire.protocol.app = wire.protocol.app, app
    await wire.feed([POST + b"Content-Length: %d\r\n\r\n" % (2 * len(GET)), GET])
    wire.protocol.app = serve
    await wire.feed([GET + GET])
    await wire.settle(20)
    found = wire.end()
    assert (found.served, found.statuses, found.closed) == ([("GET", "/n", b"")], [413, 200], False)


def test_a_log_of_refusals_is_bounded_and_says_how_many_it_left_out(caplog):
    now, counted = [0.0], []
    log = RefusalLog(lambda *told: counted.append(told), clock=lambda: now[0])
    refusal = Refusal(code="foreign_page", detail="no", about="https://evil.example")
    for number in range(LINES + 30):
        log.note(refusal, f"req_{number}")
    assert len(caplog.records) == LINES
    assert len(counted) == LINES + 30
    log.note(Refusal(code="descriptors_full", detail="no"), "req_other")
    assert caplog.records[-1].code == "descriptors_full", "a flood of one kind hides no other"
    now[0] += PERIOD_S
    log.note(refusal, "req_last")
    assert [record.getMessage() for record in caplog.records[-2:]] == ["refusals_unlogged", "request_refused"]
    assert caplog.records[-2].counts == "30 foreign_page"
    caplog.set_level("DEBUG", logger="hotseat.api")
    for number in range(LINES + 30):
        log.note(refusal, f"req_{number}")
    assert caplog.records[-1].request_id == f"req_{LINES + 29}", "at level debug all of them"


async def test_each_bound_is_told_apart():
    class Socket:
        family = socket.AF_UNIX

        def fileno(self):
            return 900

        def getsockname(self):
            return ("127.0.0.1", 4687)

        getpeername = getsockname

    bounds = Bounds(max_connections=0, descriptors=lambda: 900)
    for each, code in ((bounds, b"connections_full"), (Bounds(descriptors=lambda: 900), b"descriptors_full")):
        protocol = guarded(each, Guard(Names(), Origins()), RefusalLog())
        wire = Wire(protocol, socket=Socket())
        await wire.feed([GET.replace(b"/n", b"/v1/models")])
        await asyncio.sleep(0)
        assert code in wire.transport.written
        assert b"retry-after: 1" in wire.transport.written
        assert b'{"error":' in wire.transport.written
        wire.end()
