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
from broker.answers.verdict import ExpectedAnswer, Shape, Verdict, VerdictReason

MAX_TOKENS = 16
"""Most tokens of an answer: enough for a word, and for the first words of a reasoning."""
QUESTION = "Reply with one word: ready"
OTHER_QUESTION = "Count from 1 to 5."
TEXT = "1, 2, 3, 4, 5,"
"""A text that the model is asked to continue."""
MAX_REFUSAL = 4096
"""Bytes of an error that are looked at."""
NEEDED_TO_CLEAR = 1
NEEDED_TO_HEAL = 2
"""How many good answers one canary must have: a suspect to be cleared, one in quarantine to be healed."""

_BOUNDARY = b"hotseat-canary"
_RATE, _CLIP_S = 16_000, 0.5


class Finding(StrEnum):
    """What a canary has shown about a model."""

    PASSED = "passed"
    FAILED = "failed"
    VOID = "void"
    """It has shown nothing: the server did not take the question."""
    SILENT = "silent"
    """No answer came in time, with nobody else on the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request as the gateway sends it, below ``/v1``, and what its answer should be."""

    path: str
    body: bytes
    expected: ExpectedAnswer
    content_type: bytes = b"application/json"


def questions_for(kind: str, model: str, *, names: tuple[str, ...]) -> tuple[Question, ...]:
    """Return the test questions for a model of the catalogue, the best one first.

    Args:
        kind: The catalogue's word: chat, completion, embedding or rerank.
        model: The name that the model server knows it by.
        names: Names it may give itself.
    """
    ask = _Asker(model, names)
    if kind == "embedding":
        return tuple(ask.of("/embeddings", Shape.WHOLE, input=text) for text in (QUESTION, TEXT))
    if kind == "rerank":
        return ask.rankings()
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
        return ask.rankings()
    if path == "/embeddings":
        return questions_for("embedding", model, names=names)
    return ()


def finding_of(status: int, refusal: bytes, verdict: Verdict, expected: ExpectedAnswer) -> Finding:
    """Tell what an answer shows.

    A refusal, or an error about the question, is not about what the model says; but a 404 that speaks of the model is:
    the server does not know the one that it should serve.

    Args:
        status: HTTP status of the answer.
        refusal: The beginning of its body; matters where the status is 404.
        verdict: What the answer was worth.
        expected: What the question's answer should be.
    """
    if status == 404 and b"model" in refusal[:MAX_REFUSAL].lower():
        return Finding.FAILED
    if status != 200:
        is_fault = status >= 500 and status not in NO_FAULT and verdict.reason is not VerdictReason.UNJUDGED
        return Finding.FAILED if is_fault else Finding.VOID
    if verdict.reason in {VerdictReason.UNJUDGED, VerdictReason.REFUSED_INSIDE}:
        return Finding.VOID
    if proves_health(verdict) or (verdict.says_nothing and expected.is_hearing):
        return Finding.PASSED
    return Finding.VOID if verdict.says_nothing else Finding.FAILED


def proves_health(verdict: Verdict) -> bool:
    """Tell whether this answer to a canary is a good one. Reasoning that the token limit cut is a sign of life too."""
    return verdict.vouches or verdict.reason is VerdictReason.ONLY_REASONING


def summed_up(findings: Iterable[Finding], needed: int) -> Finding | None:
    """Tell what the answers so far show together; None: that depends on the next ones.

    Args:
        findings: What each answer has shown, in order.
        needed: Good answers that are enough.
    """
    found = list(findings)
    if Finding.SILENT in found:
        return Finding.SILENT
    return Finding.PASSED if found.count(Finding.PASSED) >= needed else None


def concluded(findings: Iterable[Finding], needed: int) -> Finding:
    """Tell what the answers show when there are no more questions: refusals beside good answers are no bad ones."""
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
        """Make a question in JSON for the address ``path`` below ``/v1``."""
        body = msgspec.json.encode({"model": self.model, **fields})
        return Question(path=path, body=body, expected=ExpectedAnswer(shape=shape, models=self.names))

    def chat(self, content: str) -> Question:
        """Ask in a chat; the answer may begin with white space."""
        fields = {"max_tokens": MAX_TOKENS, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        question = self.of("/chat/completions", Shape.CHAT, **fields)
        asking = Asking(question.path, question.body)
        return replace(question, expected=msgspec.structs.replace(question.expected, asking=asking))

    def text(self, prompt: str) -> Question:
        """Give a text to be continued, one that cannot end there."""
        return self.of("/completions", Shape.TEXT, max_tokens=MAX_TOKENS, temperature=0, prompt=prompt)

    def rankings(self) -> tuple[Question, ...]:
        """Make two questions with two documents each."""
        pairs = (("gpu", ["a card", "a cat"]), ("water", ["rain", "fire"]))
        return tuple(self.of("/rerank", Shape.WHOLE, query=query, documents=texts) for query, texts in pairs)

    def clip(self, path: str) -> Question:
        """Send half a second of silence: whatever is heard in it, the server must answer."""
        parts = (
            (b'name="model"', self.model.encode()),
            (b'name="response_format"', b"json"),
            (b'name="file"; filename="canary.wav"\r\nContent-Type: audio/wav', _silence()),
        )
        told = [b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (_BOUNDARY, *part) for part in parts]
        body = b"".join(told) + b"--%b--\r\n" % _BOUNDARY
        expected = ExpectedAnswer(shape=Shape.WHOLE, models=self.names, asking=Asking(path, body))
        content_type = b"multipart/form-data; boundary=" + _BOUNDARY
        return Question(path=path, body=body, expected=expected, content_type=content_type)


def _silence() -> bytes:
    """Return a sound file: 16 bits, one channel."""
    samples = bytes(2 * round(_RATE * _CLIP_S))
    rate, size = _RATE.to_bytes(4, "little"), len(samples).to_bytes(4, "little")
    form = b"fmt \x10\0\0\0\x01\0\x01\0" + rate + (2 * _RATE).to_bytes(4, "little") + b"\x02\0\x10\0"
    return b"RIFF" + (36 + len(samples)).to_bytes(4, "little") + b"WAVE" + form + b"data" + size + samples
