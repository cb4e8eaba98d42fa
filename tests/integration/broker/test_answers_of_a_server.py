"""Each fault of an answer, told by a server process over a socket, is recognised."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from broker.answers.verdict import Expected, Reason, Shape, Verdict
from broker.answers.watcher import Watcher

SERVER = Path(__file__).parents[2] / "fakes" / "model_server.py"
ENDPOINTS = {Shape.CHAT: "/v1/chat/completions", Shape.TEXT: "/v1/completions"}


@contextlib.contextmanager
def server(*flags: str) -> Iterator[str]:
    """Address of one with these faults."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(SERVER), "--port", str(port), "--alias", "m", *flags])
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield url
    finally:
        process.kill()
        process.wait()


def asked(url: str, shape: Shape, *, stream: bool) -> Verdict:
    """Ask, and watch the answer pass."""
    question = {"messages": []} if shape is Shape.CHAT else {"prompt": "hi"}
    watcher = Watcher(Expected(shape=shape, models=("m",)))
    with httpx.stream("POST", url + ENDPOINTS[shape], json={**question, "max_tokens": 3, "stream": stream}) as answer:
        watcher.begin(answer.status_code, _lower(answer.headers), 0.0)
        for piece in answer.iter_raw():
            watcher.feed(piece, 1.0)
    return watcher.end(2.0)


def _lower(headers: httpx.Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers.raw]


@pytest.mark.parametrize("shape", ENDPOINTS)
@pytest.mark.parametrize(
    "flags, streamed, whole",
    [
        ((), "fine", "fine"),
        (("--empty",), "no_content", "empty"),
        (("--garbage",), "garbage", "garbage"),
        (("--answer-name", "other"), "wrong_model", "wrong_model"),
        (("--error-inside",), "error_inside", "error_inside"),
    ],
)
def test_a_fault_is_recognised_streamed_and_whole(shape, flags, streamed, whole):
    with server(*flags) as url:
        assert [asked(url, shape, stream=stream).reason for stream in (True, False)] == [streamed, whole]


def test_reasoning_that_eats_the_budget_is_recognised():
    with server("--only-reasoning") as url:
        reasons = [asked(url, Shape.CHAT, stream=stream).reason for stream in (True, False)]
    assert reasons == [Reason.ONLY_REASONING, Reason.ONLY_REASONING]


def test_a_server_can_mend_itself():
    with server("--empty", "--bad-answers", "1") as url:
        assert [asked(url, Shape.CHAT, stream=True).failed for _ in range(3)] == [True, False, False]
