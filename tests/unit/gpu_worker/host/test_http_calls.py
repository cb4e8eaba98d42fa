"""Calls to a server that answers in every way it should not."""

import asyncio

import pytest

from gpu_worker.host import http_calls
from gpu_worker.host.http_calls import CallAnswer, CallError, CallTimeoutError, NobodyThereError, call, call_now

OK = b"HTTP/1.1 200 OK\r\n"


class Scripted:
    """Answers everybody the same bytes, and keeps what it was asked."""

    def __init__(self, said, *, hangs=False):
        self.said, self.hangs, self.asked = said, hangs, b""
        self.begun, self.hung_up = asyncio.Event(), asyncio.Event()

    async def converse(self, reader, writer):
        self.asked = await reader.readuntil(b"\r\n\r\n")
        self.begun.set()
        writer.write(self.said)
        await writer.drain()
        if self.hangs:
            await reader.read()
        self.hung_up.set()
        writer.close()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.converse, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()


@pytest.mark.parametrize(
    "said, body",
    [
        (OK + b"Content-Length: 2\r\n\r\n{}", b"{}"),
        (OK + b"content-length:2\r\n\r\n{}", b"{}"),
        (OK + b'\r\n{"a": 1}', b'{"a": 1}'),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)  # fmt: skip
async def test_an_answer_is_read_in_every_form(said, body):
    async with Scripted(said) as server:
        answer = await call(server.url, "GET", "/", timeout_s=5)
    assert answer.body == body
    assert answer.good


@pytest.mark.parametrize(
    "said",
    [
        b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 nine\r\n\r\n", OK + b"Content-Length: 9\r\n\r\n{}",
        OK + b"Content-Length: -1\r\n\r\n", OK + b"Content-Length: 99999999\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", OK + b"\r\n" + b"x" * (http_calls.ANSWER_LIMIT_BYTES + 1),
    ],
)  # fmt: skip
async def test_what_is_no_answer_is_an_error(said):
    async with Scripted(said) as server:
        with pytest.raises(CallError, match="no answer that is HTTP"):
            await call(server.url, "GET", "/", timeout_s=5)


async def test_silence_and_nobody_are_told_apart():
    async with Scripted(b"", hangs=True) as server:
        with pytest.raises(CallTimeoutError, match=r"GET .*/slow: no answer within 0\.05 s"):
            await call(server.url, "GET", "/slow", timeout_s=0.05)
    with pytest.raises(NobodyThereError, match="nobody answers at"):
        await call("http://127.0.0.1:9", "GET", "/", timeout_s=5)
    with pytest.raises(NobodyThereError, match="nobody answers at"):
        await call("unix:///nowhere/at.all", "GET", "/", timeout_s=5)


async def test_whoever_is_cancelled_hangs_up():
    async with Scripted(b"", hangs=True) as server:
        task = asyncio.create_task(call(server.url, "POST", "/", timeout_s=60))
        async with asyncio.timeout(5):
            await server.begun.wait()
            task.cancel()
            await server.hung_up.wait()


async def test_a_key_and_a_body_are_sent_only_where_there_are_any():
    async with Scripted(OK + b"\r\n") as server:
        await call(server.url, "GET", "/", timeout_s=5)
        assert b"Authorization" not in server.asked
        assert b"Content" not in server.asked
        await asyncio.to_thread(call_now, server.url, "POST", "/x?y=1", body={"a": 1}, bearer="k", timeout_s=5)
        assert server.asked.startswith(b"POST /x?y=1 HTTP/1.1\r\n")
        assert b"Authorization: Bearer k\r\n" in server.asked
        assert b"Content-Length: 8\r\n" in server.asked


@pytest.mark.parametrize(
    "body, words",
    [
        (b'{"error": "model \'x\' not found"}', "model 'x' not found"),
        (b'{"error": {"message": "no", "code": 4}}', "no"),
        (b'{"status": "error", "message": "Model not found: x"}', "Model not found: x"),
        (b"<h1>\x1b[31mBad\n\nGateway</h1>", "<h1> [31mBad Gateway</h1>"),
        (b"x" * 1000, "x" * http_calls.WORDS_LIMIT),
        (b"", ""),
    ],
)
def test_an_error_is_repeated_in_its_own_words_printable_and_bounded(body, words):
    assert CallAnswer(500, body).words() == words
