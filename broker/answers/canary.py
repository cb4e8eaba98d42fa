"""The test questions: the smallest requests whose answers show that a model says something.

Rule: a canary is fair. It asks what the model is for, in more than one way, for one may not suit it: a base model has
no chat, a chat model may have nothing to add to a text. A suspect has passed with one good answer and failed only when
it answered none of them; one in quarantine must answer two. What a server does not take shows nothing, and neither does
an answer that begins with white space and is cut there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import msgspec

from broker.answers.asking import HEARING, Asking
from broker.answers.judge import NO_FAULT
from broker.answers.verdict import Expected, Reason, Shape, Verdict

MAX_TOKENS = 16
"""Enough for a word, and for the first words of a reasoning."""
QUESTION = "Reply with one word: ready"
OTHER_QUESTION = "Count from 1 to 5."
TEXT = "1, 2, 3, 4, 5,"
"""To be continued."""
MAX_REFUSAL = 4096
"""Bytes of an error that are looked at."""
NEEDED_TO_CLEAR = 1
NEEDED_TO_HEAL = 2
"""Good answers of one canary."""

_BOUNDARY = b"hotseat-canary"
_RATE, _CLIP_S = 16_000, 0.5


class Finding(StrEnum):
    """What a test has shown."""

    PASSED = "passed"
    FAILED = "failed"
    VOID = "void"
    """Nothing: the server did not take the question."""
    SILENT = "silent"
    """No answer in time, with nobody else on the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request as the gateway sends it, below ``/v1``, and what its answer should be."""

    path: str
    body: bytes
    expected: Expected
    content_type: bytes = b"application/json"


def questions_for(kind: str, model: str, *, names: tuple[str, ...]) -> tuple[Question, ...]:
    """The test questions for a model of the catalogue, the best one first.

    Args:
        kind: The catalogue's word: chat, completion or embedding.
        model: As the model server knows it.
        names: Names it may give itself.
    """
    ask = _Asker(model, names)
    if kind == "embedding":
        return tuple(ask.of("/embeddings", Shape.WHOLE, input=text) for text in (QUESTION, TEXT))
    text = ask.text(TEXT)
    if kind == "completion":
        return text, ask.text(QUESTION), ask.chat(OTHER_QUESTION)
    return ask.chat(QUESTION), ask.chat(OTHER_QUESTION), text


def questions_at(path: str, model: str, *, names: tuple[str, ...]) -> tuple[Question, ...]:
    """The test questions for the address at which a model was doubted: it may be for something else than is written.

    Returns:
        None for addresses at which nothing small can be asked, and for those that ``questions_for`` knows.
    """
    ask = _Asker(model, names)
    if path in HEARING:
        return (ask.clip(path),) * NEEDED_TO_HEAL
    if path == "/rerank":
        pairs = (("gpu", ["a card", "a cat"]), ("water", ["rain", "fire"]))
        return tuple(ask.of(path, Shape.WHOLE, query=query, documents=texts) for query, texts in pairs)
    if path == "/embeddings":
        return questions_for("embedding", model, names=names)
    return ()


def finding_of(status: int, refusal: bytes, verdict: Verdict, expected: Expected) -> Finding:
    """What an answer shows.

    A refusal, or an error about the question, is not about what the model says; but a 404 that speaks of the model: it
    does not know the one that it should serve.

    Args:
        status: Of the answer.
        refusal: The beginning of its body; matters where the status is 404.
        verdict: On it.
        expected: Of the question.
    """
    if status == 404 and b"model" in refusal[:MAX_REFUSAL].lower():
        return Finding.FAILED
    if status != 200:
        is_fault = status >= 500 and status not in NO_FAULT and verdict.reason is not Reason.UNJUDGED
        return Finding.FAILED if is_fault else Finding.VOID
    if verdict.reason in {Reason.UNJUDGED, Reason.REFUSED_INSIDE}:
        return Finding.VOID
    if proves_health(verdict) or (verdict.says_nothing and expected.is_hearing):
        return Finding.PASSED
    return Finding.VOID if verdict.says_nothing else Finding.FAILED


def proves_health(verdict: Verdict) -> bool:
    """Is this answer to a canary a good one? Reasoning that the token limit cut is a sign of life too."""
    return verdict.vouches or verdict.reason is Reason.ONLY_REASONING


def summed_up(findings: Iterable[Finding], needed: int) -> Finding | None:
    """What the answers so far show together; None: that depends on the next ones.

    Args:
        findings: In order.
        needed: Good answers that are enough.
    """
    found = list(findings)
    if Finding.SILENT in found:
        return Finding.SILENT
    return Finding.PASSED if found.count(Finding.PASSED) >= needed else None


def concluded(findings: Iterable[Finding], needed: int) -> Finding:
    """What they show when there are no more questions: refusals beside good answers are no bad ones."""
    found = [one for one in findings if one is not Finding.VOID]
    early = summed_up(found, needed)
    if early is not None or not found:
        return early or Finding.VOID
    return Finding.FAILED if Finding.FAILED in found else Finding.PASSED


@dataclass(frozen=True, slots=True)
class _Asker:
    model: str
    names: tuple[str, ...]

    def of(self, path: str, shape: Shape, **fields: object) -> Question:
        """A question in JSON."""
        body = msgspec.json.encode({"model": self.model, **fields})
        return Question(path=path, body=body, expected=Expected(shape=shape, models=self.names))

    def chat(self, content: str) -> Question:
        """A question; its answer may begin with white space."""
        fields = {"max_tokens": MAX_TOKENS, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        question = self.of("/chat/completions", Shape.CHAT, **fields)
        asking = Asking(question.path, question.body)
        return replace(question, expected=msgspec.structs.replace(question.expected, asking=asking))

    def text(self, prompt: str) -> Question:
        """A text to be continued, and one that cannot end there."""
        return self.of("/completions", Shape.TEXT, max_tokens=MAX_TOKENS, temperature=0, prompt=prompt)

    def clip(self, path: str) -> Question:
        """Half a second of silence: whatever is heard in it, the server must answer."""
        parts = (
            (b'name="model"', self.model.encode()),
            (b'name="response_format"', b"json"),
            (b'name="file"; filename="canary.wav"\r\nContent-Type: audio/wav', _silence()),
        )
        told = [b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (_BOUNDARY, *part) for part in parts]
        body = b"".join(told) + b"--%b--\r\n" % _BOUNDARY
        expected = Expected(shape=Shape.WHOLE, models=self.names, asking=Asking(path, body))
        content_type = b"multipart/form-data; boundary=" + _BOUNDARY
        return Question(path=path, body=body, expected=expected, content_type=content_type)


def _silence() -> bytes:
    """A sound file: 16 bits, one channel."""
    samples = bytes(2 * round(_RATE * _CLIP_S))
    rate, size = _RATE.to_bytes(4, "little"), len(samples).to_bytes(4, "little")
    form = b"fmt \x10\0\0\0\x01\0\x01\0" + rate + (2 * _RATE).to_bytes(4, "little") + b"\x02\0\x10\0"
    return b"RIFF" + (36 + len(samples)).to_bytes(4, "little") + b"WAVE" + form + b"data" + size + samples
