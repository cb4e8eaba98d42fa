"""Answers for the tests: written by hand in the words of each protocol, and recorded from a real llama-server."""

import json
from itertools import pairwise
from pathlib import Path

from broker.answers.verdict import ExpectedAnswer, Shape, Verdict
from broker.answers.watcher import Watcher

RECORDED = Path(__file__).parent / "recorded"
"""Of llama.cpp's server with a tiny random model called tiny-a, four tokens each."""
SHAPES = {"chat": Shape.CHAT, "text": Shape.TEXT, "responses": Shape.RESPONSES, "messages": Shape.MESSAGES}
STREAM = (b"content-type", b"text/event-stream")
JSON = (b"content-type", b"application/json; charset=utf-8")


def sse(*documents: dict | str) -> bytes:
    texts = [document if isinstance(document, str) else json.dumps(document) for document in documents]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def delta(*, finish: str | None = None, model: str = "m", **fields) -> dict:
    return {"model": model, "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def message(*, finish: str = "stop", model: str = "m", **fields) -> dict:
    return {"model": model, "choices": [{"index": 0, "message": fields, "finish_reason": finish}]}


def judged(
    body: bytes, shape: Shape, *, models=("m",), cuts=(), status=200, headers=None, may_be_empty=False
) -> Verdict:
    """Feed a body cut at the given places, as the gateway does; the clock is the number of pieces fed."""
    watcher = Watcher(ExpectedAnswer(shape=shape, models=models, may_be_empty=may_be_empty))
    streamed = body.lstrip(b"\xef\xbb\xbf\r\n").startswith((b"data:", b"event:", b":"))
    watcher.begin(status, headers or [STREAM if streamed else JSON], 0.0)
    edges = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
    for number, (start, stop) in enumerate(pairwise(edges)):
        if watcher.is_settled:
            watcher.skim([body[start:stop]])
        else:
            watcher.feed(body[start:stop], float(number + 1))
    return watcher.end(float(len(edges)))
