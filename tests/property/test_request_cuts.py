"""What a request is does not depend on how TCP cuts it, and no body is ever taken for a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.http_server.connections import GuardedProtocol
from broker.http_server.framing import MAX_HEAD
from tests.fakes.wire import cut_at, outcome_of
from tests.searching import examples

HOST = b"Host: localhost\r\n"
INNER = b"POST /slots/gpu0/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
"""A body that would be a request."""
BODY = b"Content-Length: %d\r\n\r\n%b" % (len(INNER), INNER)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)
POST = b"POST /v1/x HTTP/1.1\r\n" + HOST
GET = b"GET /n HTTP/1.1\r\n" + HOST + b"\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
POSTED, GOT = ("POST", "/v1/x", INNER), ("GET", "/n", b"")

SOUND = {
    "a body": (POST + BODY, [POSTED]),
    "chunks": (POST + CHUNKED + CHUNKS, [POSTED]),
    "many chunks": (
        POST + CHUNKED + b"1\r\n\r\r\n1;x=y\r\n\n\r\n2\r\n\r\n\r\n0\r\n\r\n" + GET,
        [("POST", "/v1/x", b"\r\n\r\n"), GOT],
    ),
    "trailers": (
        POST + CHUNKED + b"3\r\nabc\r\n0\r\nHost: evil.example\r\nX: y\r\n\r\n" + GET,
        [("POST", "/v1/x", b"abc"), GOT],
    ),
    "nothing after the head": (POST + b"\r\n" + GET, [("POST", "/v1/x", b""), GOT]),
    "pipelined": (POST + BODY + GET + POST + CHUNKED + CHUNKS + GET, [POSTED, GOT, POSTED, GOT]),
    "empty lines before": (b"\r\n\r\n" + GET + b"\r\n\n" + GET, [GOT, GOT]),
    "an offer of HTTP/2 with a body": (POST + H2C + BODY + GET, [POSTED, GOT]),
    "one with chunks": (POST + H2C + CHUNKED + CHUNKS + GET, [POSTED, GOT]),
    "one without a body": (b"GET /n HTTP/1.1\r\n" + HOST + H2C + b"\r\n" + GET, [GOT, GOT]),
    "one in capitals": (POST + b"CONNECTION: UPGRADE\r\nUPGRADE: H2C\r\n" + BODY + GET, [POSTED, GOT]),
    "one of TLS": (POST + b"connection: upgrade\r\nupgrade: TLS/1.2\r\n" + BODY + GET, [POSTED, GOT]),
    "two of them": (POST + b"Upgrade: a\r\nUpgrade: b\r\nConnection: upgrade\r\n" + BODY + GET, [POSTED, GOT]),
    "the last one of a connection": (POST + b"Connection: close\r\n" + BODY + GET, [POSTED]),
    "one of HTTP/1.0": (b"POST /v1/x HTTP/1.0\r\n" + BODY + GET, [POSTED]),
    "an address for proxies": (b"GET http://localhost/n HTTP/1.1\r\n" + HOST + b"\r\n", [GOT]),
}
UNSOUND = {
    "two lengths": POST + b"Content-Length: 3\r\n" + BODY,
    "two lengths in one": POST + b"Content-Length: 3, 3\r\n\r\n" + INNER,
    "length and chunks": POST + b"Content-Length: 3\r\n" + CHUNKED + CHUNKS,
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\n" + BODY,
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\n" + CHUNKED + CHUNKS,
    "chunks in something": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "something in chunks": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS,
    "no coding": POST + b"Transfer-Encoding: identity\r\n\r\n" + INNER,
    "an odd coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + INNER,
    "chunks of HTTP/1.0": b"POST /v1/x HTTP/1.0\r\n" + HOST + CHUNKED + CHUNKS,
    "a folded header": POST + b"X: a\r\n b\r\n" + BODY,
    "a folded length": POST + b"Content-Length:\r\n 3\r\n\r\n" + INNER,
    "a blank before the colon": POST + b"Content-Length : 3\r\n\r\n" + INNER,
    "lines without CR": b"POST /v1/x HTTP/1.1\nHost: localhost\nContent-Length: 3\n\nabc\r\n\r\n",
    "a CR alone": POST + b"X: a\rContent-Length: 3\r\n" + BODY,
    "a NUL": POST + b"X: \x00\r\n" + BODY,
    "chunks without CR": POST + CHUNKED + b"3\nabc\n0\n\n" + INNER,
    "a chunk too long": POST + CHUNKED + b"2\r\nabc\r\n0\r\n\r\n" + INNER,
    "a chunk's length with a sign": POST + CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n" + INNER,
    "two hosts": POST + b"Host: evil.example\r\n" + BODY,
    "no host": b"POST /v1/x HTTP/1.1\r\n" + BODY,
    "an old version": b"GET /n\r\n\r\n" + INNER,
    "old and new": b"GET /n\r\nPOST /slots/gpu0/drain HTTP/1.1\r\n" + HOST + b"\r\n",
    "a new version": b"GET /n HTTP/2.0\r\n" + HOST + b"\r\n" + INNER,
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + INNER,
    "another protocol": b"GET /n RTSP/1.0\r\n" + HOST + b"\r\n" + INNER,
    "a tunnel": b"CONNECT localhost:4687 HTTP/1.1\r\n" + HOST + b"\r\n" + INNER,
    "no method": b"get /n HTTP/1.1\r\n" + HOST + b"\r\n" + INNER,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a head too large": POST + b"X: " + b"x" * MAX_HEAD + b"\r\n" + BODY,
    "a head too large by a byte": POST + b"X: %b\r\n\r\n" % (b"x" * (MAX_HEAD - len(POST) - 6)) + INNER,
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_request_is_the_same_wherever_it_is_cut(name):
    raw, served = SOUND[name]
    for place in range(len(raw)):
        found = outcome_of(GuardedProtocol, cut_at(raw, place))
        assert found.served == served, f"cut at {place}: {raw[:place]!r}"
        assert found.statuses == [200] * len(served), f"cut at {place}: {raw[:place]!r}"


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_request_is_refused_wherever_it_is_cut_and_nothing_of_it_is_served(name):
    raw = UNSOUND[name]
    places = range(len(raw)) if len(raw) < 1000 else [*range(0, len(raw), 997), MAX_HEAD - 1, MAX_HEAD, MAX_HEAD + 1]
    status = outcome_of(GuardedProtocol, [raw]).statuses
    assert len(status) == 1
    assert 400 <= status[0] < 600
    for place in places:
        found = outcome_of(GuardedProtocol, cut_at(raw, place))
        assert found.served == [], f"cut at {place}: {raw[:place]!r}"
        assert found.statuses == status, f"cut at {place}: {raw[:place]!r}"
        assert found.closed


def test_a_head_of_the_largest_size_passes_however_it_comes():
    head = POST + b"X: %b\r\n\r\n" % (b"x" * (MAX_HEAD - len(POST) - 7))
    assert len(head) == MAX_HEAD
    for place in (0, 1, MAX_HEAD - 1):
        assert outcome_of(GuardedProtocol, cut_at(head + GET, place)).served == [("POST", "/v1/x", b""), GOT]


@examples(400)
@given(data=st.data())
def test_any_requests_in_any_pieces_are_the_same(data):
    names = data.draw(st.lists(st.sampled_from([*SOUND, *UNSOUND]), min_size=1, max_size=4))
    raw = b"".join(SOUND[name][0] if name in SOUND else UNSOUND[name] for name in names)
    whole = outcome_of(GuardedProtocol, [raw])
    places = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    found = outcome_of(GuardedProtocol, cut_at(raw, *places))
    assert (found.served, found.statuses) == (whole.served, whole.statuses)
    assert INNER not in [body for _, path, body in found.served if path.startswith("/slots")]
    assert not [path for _, path, _ in found.served if path.startswith("/slots")]
