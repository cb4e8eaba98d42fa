"""What the door makes of a request's head: strict, and nothing of the key goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.door.head import CHUNKED, UnpassableError, admits, read_head

KEY = b"generation-key-1"


def head(*lines, first=b"POST /v1/completions HTTP/1.1"):
    return b"\r\n".join([first, *lines, b"", b""])


def test_all_but_the_authorization_is_passed_as_it_came():
    told = (b"Host: a", b"X-Odd:   two  spaces ", b"authorization: Bearer " + KEY, b"content-length: 12")
    made = read_head(head(*told))
    assert made.passed == head(told[0], told[1], told[3])
    assert (made.method, made.length, made.bearer) == (b"POST", 12, KEY)


@pytest.mark.parametrize(
    "lines, admitted",
    [
        ((b"Authorization: Bearer " + KEY,), True),
        ((b"AUTHORIZATION: bearer   " + KEY + b" ",), True),
        ((), False),
        ((b"Authorization: Bearer " + KEY + b"x",), False),
        ((b"Authorization: Bearer ",), False),
        ((b"Authorization: Basic " + KEY,), False),
        ((b"Authorization: " + KEY,), False),
        ((b"Authorization: Bearer " + KEY, b"Authorization: Bearer " + KEY), False),
        ((b"X-Api-Key: " + KEY,), False),
    ],
)
def test_who_bears_the_key_and_nobody_else_is_admitted(lines, admitted):
    made = read_head(head(*lines))
    assert admits(KEY, made) is admitted
    assert KEY not in made.passed or lines[0].startswith(b"X-Api")
    assert not admits(b"", made)


@pytest.mark.parametrize(
    "lines, length",
    [
        ((), 0),
        ((b"Content-Length: 0",), 0),
        ((b"Content-Length: 70000000000",), 70_000_000_000),
        ((b"Transfer-Encoding: Chunked",), CHUNKED),
    ],
)
def test_the_length_of_the_body_is_told(lines, length):
    assert read_head(head(*lines)).length == length


@pytest.mark.parametrize(
    "block, status",
    [
        (head(b"Content-Length: 1", b"Content-Length: 1"), 400),
        (head(b"Content-Length: +1"), 400),
        (head(b"Content-Length: 1, 1"), 400),
        (head(b"Content-Length: 0x1"), 400),
        (head(b"Content-Length: "), 400),
        (head(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
        (head(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"), 400),
        (head(b"Transfer-Encoding: gzip, chunked"), 501),
        (head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), 501),
        (head(b"Transfer-Encoding : chunked"), 400),
        (head(b" Transfer-Encoding: chunked"), 400),
        (head(b"A: b\nTransfer-Encoding: chunked"), 400),
        (head(b"A: b\rTransfer-Encoding: chunked"), 400),
        (head(b"A: b\0"), 400),
        (head(b": empty"), 400),
        (head(b"no colon"), 400),
        (head(first=b"POST  / HTTP/1.1"), 400),
        (head(first=b"POST /"), 400),
        (head(first=b"POST / HTTP/2.0"), 400),
        (head(first=b""), 400),
        (head(b"Upgrade: websocket", b"Connection: upgrade"), 501),
        (head(b"Upgrade: h2c"), 501),
        (head(first=b"CONNECT a:1 HTTP/1.1"), 501),
        (head(first=b"PRI * HTTP/2.0"), 400),
    ],
)
def test_what_is_ambiguous_or_not_plain_http_is_refused(block, status):
    with pytest.raises(UnpassableError) as refused:
        read_head(block)
    assert refused.value.status == status


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(junk):
    try:
        made = read_head(junk + b"\r\n\r\n")
    except UnpassableError:
        return
    assert made.passed.endswith(b"\r\n\r\n")


@given(st.lists(st.sampled_from([b"A: 1", b"Authorization: Bearer k", b"authorization:x", b"Cookie: y"]), max_size=6))
def test_no_authorization_ever_goes_on(lines):
    assert b"uthorization" not in read_head(head(*lines)).passed
