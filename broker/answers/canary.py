"""The test question: the smallest request whose answer shows that a model says something."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from broker.answers.verdict import Expected, Reason, Shape, Verdict

MAX_TOKENS = 16
"""Enough for a word, and for the first words of a reasoning."""
QUESTION = "Reply with one word: ready"
MAX_REFUSAL = 4096
"""Bytes of an error that are looked at."""


class Finding(StrEnum):
    """What a test has shown."""

    PASSED = "passed"
    FAILED = "failed"
    VOID = "void"
    """Nothing: the server did not take the question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A request as the gateway sends it, below ``/v1``, and what its answer should be."""

    path: str
    body: bytes
    expected: Expected


def canary_for(kind: str, model: str, *, names: tuple[str, ...]) -> Canary:
    """The test question for a model of the catalogue.

    Args:
        kind: The catalogue's word: chat, completion or embedding.
        model: As the model server knows it.
        names: Names it may give itself.
    """
    generation = {"model": model, "max_tokens": MAX_TOKENS, "temperature": 0}
    body: dict[str, object]
    if kind == "embedding":
        path, shape, body = "/embeddings", Shape.WHOLE, {"model": model, "input": QUESTION}
    elif kind == "completion":
        path, shape, body = "/completions", Shape.TEXT, {**generation, "prompt": QUESTION}
    else:
        question = {"role": "user", "content": QUESTION}
        path, shape, body = "/chat/completions", Shape.CHAT, {**generation, "messages": [question]}
    return Canary(path=path, body=msgspec.json.encode(body), expected=Expected(shape=shape, models=names))


def finding_of(status: int, refusal: bytes, verdict: Verdict) -> Finding:
    """What an answer shows.

    A 4xx is about the question, the key or how busy the server is, not about what the model says; but a 404 that speaks
    of the model: it does not know the one that it should serve.

    Args:
        status: Of the answer.
        refusal: The beginning of its body; matters where the status is 404.
        verdict: On it.
    """
    if 400 <= status < 500:
        is_unknown = status == 404 and b"model" in refusal[:MAX_REFUSAL].lower()
        return Finding.FAILED if is_unknown else Finding.VOID
    return Finding.PASSED if proves_health(verdict) else Finding.FAILED


def proves_health(verdict: Verdict) -> bool:
    """Is this answer to a canary a good one? Reasoning that the token limit cut is a sign of life too."""
    return verdict.reason in {Reason.FINE, Reason.ONLY_REASONING}
