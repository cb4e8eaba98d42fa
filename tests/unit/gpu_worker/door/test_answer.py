"""Where an answer ends."""

import pytest

from gpu_worker.door.answer import AnswerWatch

OK = b"HTTP/1.1 200 OK\r\n"
LONG = OK + b"Content-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    "method, data",
    [
        (b"GET", LONG + b"hello"),
        (b"GET", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (b"HEAD", LONG),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (b"POST", b"HTTP/1.1 100 Continue\r\n\r\n" + LONG + b"hello"),
        (b"POST", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + LONG + b"hello"),
        (b"HEAD", b"HTTP/1.1 100 Continue\r\n\r\n" + LONG),
    ],
)
def test_an_answer_is_done_with_its_last_byte_and_not_before(method, data):
    watch = AnswerWatch(method)
    for number, byte in enumerate(data):
        assert not watch.done, data[:number]
        watch.feed(bytes([byte]))
    assert watch.done
    whole = AnswerWatch(method)
    whole.feed(data)
    assert whole.done


@pytest.mark.parametrize(
    "data", [OK + b"\r\nto the end", b"SSH-2.0-x\r\n", LONG + b"hell", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"]
)
def test_what_ends_with_the_connection_or_is_not_understood_is_never_done(data):
    watch = AnswerWatch(b"GET")
    for byte in data:
        watch.feed(bytes([byte]))
    assert watch.begun
    assert not watch.done
