"""Watches one answer pass: fed with the very pieces that go to the client, it keeps what a verdict needs.

Rule: the verdict depends on the bytes, not on how they were cut. Cost is bounded: events are read up to the first with
content; from then on only the stream's end is kept, for token counts, errors and the reason of the end are there. A
whole answer is kept up to ``MAX_WHOLE`` bytes and read at its end.
"""

import re
from collections.abc import Callable, Iterable

from broker.answers.events import OVERSIZE, EventSplitter, last_events
from broker.answers.facts import Facts
from broker.answers.judge import error_reason, is_another_model, judge, judge_failure
from broker.answers.readers import READERS, read_list, read_transcript
from broker.answers.reading import decoded, json_of
from broker.answers.tail import TAIL_BYTES, Tail
from broker.answers.verdict import AnswerTimes, ExpectedAnswer, Passed, Shape, Usage, Verdict, VerdictReason

MAX_WHOLE = 2 * 1024 * 1024
"""Bytes of an answer that is no stream; a larger one is content by its size, its ends are searched for the counts."""

MAX_ERROR = 64 * 1024
"""Bytes of a 5xx that are read."""

_LAST_EVENTS = 4
"""How many events are read at the end of a stream: the counts, the reason of the end and an error are in these, before
``[DONE]``."""
_USAGE = re.compile(rb'"usage"\s*:\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.){1,256}")')


class Watcher:
    """One answer: ``begin``, ``feed`` every piece before or after it is sent, then ``end`` or ``abandon``."""

    __slots__ = (
        "_begun_s", "_binary", "_body", "_expected", "_facts", "_first_byte_s", "_first_content_s", "_first_token_s",
        "_judged", "_read", "_size", "_splitter", "_status", "_tail",
    )  # fmt: skip

    def __init__(self, expected: ExpectedAnswer) -> None:
        self._expected = expected
        self._facts = Facts()
        self._read = read_transcript if expected.is_hearing else READERS[expected.shape]
        self._splitter: EventSplitter | None = None
        self._body = bytearray()
        self._tail = Tail()
        self._size = self._status = 0
        self._judged = self._binary = False
        self._begun_s = 0.0
        self._first_byte_s: float | None = None
        self._first_token_s: float | None = None
        self._first_content_s: float | None = None

    # ---------------------------------------------------------------------------------------------------- what passes
    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]], now_s: float) -> None:
        """Take in status and headers, names in lower case. What is no readable 200 is judged only if it is a 5xx."""
        self._begun_s, self._status = now_s, status
        table = dict(headers)
        encoding = table.get(b"content-encoding", b"identity").strip().lower()
        kind = table.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
        self._judged = status == 200 and encoding in {b"", b"identity"}
        if kind == b"text/event-stream":
            self._splitter = EventSplitter()
        else:
            text = kind.endswith(b"json") or (self._expected.is_hearing and kind.startswith(b"text/"))
            self._binary = self._expected.shape is Shape.WHOLE and bool(kind) and not text

    @property
    def is_readable(self) -> bool:
        """Tell whether the answer is a 200 whose body can be read; only such an answer is judged by its content."""
        return self._judged

    @property
    def is_settled(self) -> bool:
        """Is nothing of what follows looked at but the stream's end? Then ``skim`` will do."""
        return not self._judged or (self._splitter is not None and self._facts.content)

    @property
    def skim(self) -> Callable[[list[bytes]], None]:
        """Return what takes the place of ``feed`` once the answer is settled: every call counts there."""
        return self._tail.extend

    def feed(self, piece: bytes, now_s: float) -> None:
        """Take in one piece of the body."""
        if not piece:
            return
        if self._first_byte_s is None:
            self._first_byte_s = now_s
        if not self._judged:
            if self._status >= 500 and len(self._body) < MAX_ERROR:
                self._body += piece[: MAX_ERROR - len(self._body)]
            return
        self._tail.add(piece)
        if self._splitter is None:
            self._keep(piece, now_s)
        elif not self._facts.content:
            for data in self._splitter.feed(piece):
                self._event(data, now_s)

    # -------------------------------------------------------------------------------------------------- what is known
    @property
    def passed(self) -> Passed:
        """Tell how much a client could have seen so far, this piece included. Of a whole answer: all or nothing."""
        if self._first_byte_s is None:
            return Passed.NOTHING
        if self._facts.content or not self._judged or self._splitter is None:
            return Passed.CONTENT
        return Passed.REASONING if self._facts.reasoning else Passed.PREAMBLE

    @property
    def is_useless(self) -> bool:
        """Is it of no use whatever follows? So is an error of the server's, and the answer of another model."""
        if not self._judged:
            return False
        if self._facts.error is not None:
            return error_reason(self._facts, self._expected) is not VerdictReason.REFUSED_INSIDE
        return is_another_model(self._facts, self._expected)

    @property
    def undecided(self) -> bool:
        """May it still turn out to be of no use, or is it, with nothing in it so far that a client could use?"""
        if self.is_useless:
            return True
        if not self._judged or self._facts.content or self._facts.reasoning:
            return False
        return self._splitter is not None or self._size <= MAX_WHOLE

    def end(self, now_s: float) -> Verdict:
        """Judge the answer, which is complete. Call it once."""
        if self._judged and self._splitter is not None:
            self._read_rest(self._splitter, now_s)
        elif self._judged:
            self._read_whole(now_s)
        else:
            self._read_error()
            return self._verdict(*judge_failure(self._status, self._facts, self._expected))
        return self._verdict(*judge(self._facts, self._expected, streamed=self._splitter is not None))

    def abandon(self) -> Verdict:
        """Judge an answer that broke off, or whose client went away, by what is known so far."""
        return self._verdict(VerdictReason.ABANDONED, "ended before its end")

    # --------------------------------------------------------------------------------------------------------- inside
    def _event(self, data: bytes, now_s: float) -> None:
        if not self._facts.content:
            self._read_event(data)
            self._mark(now_s)

    def _read_event(self, data: bytes) -> None:
        if data == OVERSIZE:
            self._facts.content = True
        elif data.strip() != b"[DONE]":
            document = decoded(data)
            if document is None:
                self._facts.unreadable = True
            else:
                self._read(document, self._facts)

    def _read_rest(self, splitter: EventSplitter, now_s: float) -> None:
        """Read the end of a stream that is over. Reading an event a second time adds nothing: facts only get more."""
        for data in splitter.close():
            self._event(data, now_s)
        if not self._facts.content:
            return
        end = self._tail.content()
        if not _is_worth_reading(end):
            return
        for data in last_events(end, _LAST_EVENTS):
            if _is_worth_reading(data):
                self._read_event(data)
        if b'"usage"' in end and self._facts.usage == Usage():
            self._search(end)

    def _mark(self, now_s: float) -> None:
        facts = self._facts
        if self._first_token_s is None and (facts.content or facts.reasoning):
            self._first_token_s = now_s
        if self._first_content_s is None and facts.content:
            self._first_content_s = now_s

    def _keep(self, piece: bytes, now_s: float) -> None:
        self._size += len(piece)
        if self._binary:
            self._facts.content = True
            self._mark(now_s)
            return
        if len(self._body) < MAX_WHOLE:
            self._body += piece[: MAX_WHOLE - len(self._body)]

    def _read_whole(self, now_s: float) -> None:
        if self._binary or not self._size:
            return
        facts = self._facts
        if self._size > MAX_WHOLE:
            facts.content = True
            self._search(bytes(self._body[:TAIL_BYTES]))
            self._search(self._tail.content())
        else:
            self._read_body(bytes(self._body))
        self._mark(now_s)
        self._body.clear()

    def _read_body(self, body: bytes) -> None:
        """Read a document; or a list, or a plain word of a transcript, where the shape is free."""
        facts, value = self._facts, json_of(body)
        if isinstance(value, dict):
            self._read(value, facts)
        elif self._expected.is_hearing:
            if body.strip() != b"null":
                facts.saw_text(value if isinstance(value, str) else body.decode("utf-8", "replace"))
        elif isinstance(value, list) and self._expected.shape is Shape.WHOLE:
            read_list(value, facts)
        else:
            facts.unreadable = True

    def _read_error(self) -> None:
        """Read what a 5xx says of itself: OpenAI's or Anthropic's envelope, FastAPI's ``detail``, or plain text."""
        if self._status < 500 or not self._body:
            return
        body = bytes(self._body)
        said = decoded(body)
        text = body.decode("utf-8", "replace")
        self._facts.saw_error(text if said is None else said.get("error") or said.get("detail") or said)
        self._body.clear()

    def _search(self, part: bytes) -> None:
        """Search a part of what is too large to be read for the model's name and the counts."""
        if (name := _MODEL.search(part)) is not None:
            self._facts.saw_model(json_of(name[1]))
        if (usage := _USAGE.search(part)) is not None:
            self._facts.saw_usage(json_of(usage[1]))

    def _verdict(self, reason: VerdictReason, detail: str) -> Verdict:
        facts = self._facts
        return Verdict(
            reason=reason,
            detail=detail,
            passed=self.passed,
            streamed=self._splitter is not None,
            model=facts.model,
            finish=facts.finish,
            has_content=facts.content or facts.shown_reasoning,
            usage=facts.usage,
            marks=AnswerTimes(
                begun_s=self._begun_s,
                first_byte_s=self._first_byte_s,
                first_token_s=self._first_token_s,
                first_content_s=self._first_content_s,
            ),
        )


def _is_worth_reading(data: bytes) -> bool:
    """Has it counts, an error, or the reason of the end? Looking is cheaper than reading."""
    return (
        b'"usage"' in data
        or b'_reason":"' in data
        or b'_reason": "' in data
        or b'"timings"' in data
        or b'"error"' in data
    )
