"""Each fault of an answer, told by a server process over a socket, is recognised."""

import httpx
import pytest

from broker.answers.verdict import ExpectedAnswer, Shape, Verdict, VerdictReason
from broker.answers.watcher import Watcher
from tests.fakes.model_process import model_process

ENDPOINTS = {Shape.CHAT: "/v1/chat/completions", Shape.TEXT: "/v1/completions"}


def asked(url: str, shape: Shape, *, stream: bool) -> Verdict:
    """Ask, and watch the answer pass."""
    question = {"messages": []} if shape is Shape.CHAT else {"prompt": "hi"}
    watcher = Watcher(ExpectedAnswer(shape=shape, models=("m",)))
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
    with model_process(*flags) as url:
        assert [asked(url, shape, stream=stream).reason for stream in (True, False)] == [streamed, whole]


def test_reasoning_that_eats_the_budget_is_recognised():
    with model_process("--only-reasoning") as url:
        reasons = [asked(url, Shape.CHAT, stream=stream).reason for stream in (True, False)]
    assert reasons == [VerdictReason.ONLY_REASONING, VerdictReason.ONLY_REASONING]


def test_a_server_can_mend_itself():
    with model_process("--empty", "--bad-answers", "1") as url:
        assert [asked(url, Shape.CHAT, stream=True).failed for _ in range(3)] == [True, False, False]
