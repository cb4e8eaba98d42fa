"""One answer on its way from a server to a client: judged as it passes, its beginning kept back while unseen.

Rule: as long as the client has got nothing of an answer, one that turns out to be of no use is thrown away and another
one is asked for, and nobody can notice. What is kept back is bounded in bytes and time, and comes out as it went in.

What the client hears is decided here, whoever answers:

1. Keepalives go out until the answer's first piece has come, and on while all of a stream is kept to be checked.
2. A client whose stream keepalives have begun gets an event stream, or an error as its last event.
3. Any other gets the status, the headers and the bytes of the answer; an error in its own envelope.
"""

import asyncio
import logging
from typing import Protocol

import msgspec

from broker.answers.head import HeldHead
from broker.answers.said import MAX_ERROR_READ
from broker.answers.schema.check import SchemaViolation
from broker.answers.verdict import ExpectedAnswer, Passed, Verdict
from broker.answers.watcher import MAX_WHOLE, Watcher
from broker.core.errors import BackendError
from broker.gateway.exchange.contract import BrokenTryError
from broker.gateway.exchange.keepalives import Keepalives
from broker.gateway.exchange.progress import Progress
from broker.protocol.error_bodies import ClientFacingError
from broker.protocol.headers import Headers, is_event_stream, to_the_client
from broker.protocol.retold import Events, whole

log = logging.getLogger("hotseat.gateway")

_LIFE = frozenset({Passed.REASONING, Passed.CONTENT})
KEEP_BACK = 64 * 1024
"""Bytes of an answer that are kept back while nothing can be seen in it."""
MAX_STREAM = 8 * 1024 * 1024
"""Bytes of a stream that is checked: some 40,000 tokens, each in an event of its own."""


class UselessAnswerError(BackendError):
    """The model answered with nothing of use, and the client got nothing of it."""

    code = "useless_answer"

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"the model's answer is of no use ({verdict.reason}): {verdict.detail}")
        self.verdict = verdict


class AnswerSource(Protocol):
    """An answer as it arrives; see ``broker.http_client.answer``."""

    @property
    def status(self) -> int:
        """Of the head, which is there."""

    @property
    def headers(self) -> Headers:
        """Names in lower case."""

    async def read(self, timeout_s: float) -> bytes:
        """The next piece; nothing at the end."""

    async def read_all(self, timeout_s: float) -> list[bytes]:
        """All pieces that are there, one at least; none at the end."""

    async def has_news(self, within_s: float) -> bool:
        """Wait until there is something to read, or the end."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one try at one server. Durations in seconds."""

    expected: ExpectedAnswer
    tries_left: int
    """None left: the answer goes out whatever it is worth, and nothing is kept back."""
    first_s: float
    """Until the first piece, once the head is there."""
    stall_s: float
    """Between two pieces."""
    head_s: float
    """So long the beginning is kept back at most, while nothing can be seen in it."""
    follows: range = range(200, 201)
    """With one of these statuses an event stream goes on a stream that keepalives have begun."""


class AnswerListener(Protocol):
    """Whoever asked the server, and is told what becomes of the answer."""

    def came(self, answer: AnswerSource, piece: bytes) -> None:
        """The first piece is there; nothing: it has none.

        Raises:
            ServerError: That is no answer.
        """

    async def unfit(self, answer: AnswerSource, piece: bytes) -> ClientFacingError:
        """What is told to a client whose stream has begun, and for which this answer is none."""

    def begun(self) -> None:
        """The client's answer begins."""

    def lives(self) -> None:
        """Something that a reader could use has come; may be told again."""

    def judged(self, verdict: Verdict, asked_s: float) -> None:
        """The verdict, with the loop time at which the server was asked."""


class Delivery:
    """One answer."""

    def __init__(self, progress: Progress, keepalives: Keepalives, terms: Terms, listener: AnswerListener) -> None:
        """The server is about to be asked."""
        self._terms = terms
        self._listener = listener
        self._keepalives = keepalives
        self._progress = progress
        self._client = progress.client
        self._loop = asyncio.get_running_loop()
        self._may_fail = terms.tries_left > 0
        self._watcher = Watcher(terms.expected)
        self._asked_s = self._loop.time()
        self._strict = progress.strict
        self._head = HeldHead(self._watcher, limit=KEEP_BACK if self._may_fail else 0)
        self._events: Events | None = None
        """Of a stream."""

    async def run(self, answer: AnswerSource) -> None:
        """Pass everything on of an answer whose head is there.

        Raises:
            UselessAnswerError, BrokenTryError: Ask again.
            ServerError: The server broke off, or fell silent.
            ClientFacingError: The client's stream has begun, and this is none.
        """
        piece = await answer.read(self._terms.first_s)
        self._listener.came(answer, piece)
        is_stream = is_event_stream(answer.headers)
        strict = self._strict if answer.status == 200 else None
        if strict is None or not is_stream:  # 1; what is no stream comes in one go
            await self._keepalives.stop()
        if self._client.status and not (is_stream and answer.status in self._terms.follows):  # 2
            raise await self._listener.unfit(answer, piece)
        self._watcher.begin(answer.status, answer.headers, self._loop.time())
        if answer.status >= 400:  # 3
            await self._refuse(answer, piece)
            return
        if is_stream:
            self._events = Events(self._progress.call.endpoint)
        kept: list[bytes] = []
        try:
            if strict is None:
                await self._pass_on(answer, piece)
            else:
                kept = await self._collect(answer, piece)
        except BaseException:
            # A stream that said its last word is whole, however its connection ended.
            over = self._client.is_over_for_parsers
            self._judged(self._watcher.end(self._loop.time()) if over else self._watcher.abandon())
            raise
        verdict = self._head.end(self._loop.time())
        self._judged(verdict)
        if verdict.failed and self._may_fail and not self._head.released:
            raise UselessAnswerError(verdict)
        if strict is not None:
            strict.check(b"".join(kept), streamed=is_stream)
            await self._keepalives.stop()
        await self._send(answer, [*kept, *self._head.release()])
        await self._begin(answer)
        if self._events is not None and (rest := self._events.rest()):
            await self._client.pieces(rest)
        await self._client.finish()

    async def _refuse(self, answer: AnswerSource, piece: bytes) -> None:
        """It is an error: pass it on in the client's envelope."""
        kept, size = list[bytes](), 0
        try:
            while piece and size < MAX_ERROR_READ:
                self._watcher.feed(piece, self._loop.time())
                kept.append(piece)
                size += len(piece)
                piece = await answer.read(self._terms.stall_s)
        except BaseException:
            self._judged(self._watcher.abandon())
            raise
        self._judged(self._head.end(self._loop.time()))
        headers, body = whole(answer.status, answer.headers, b"".join(kept), self._progress.call.endpoint)
        self._client.answered = True
        self._listener.begun()
        await self._client.begin(answer.status, to_the_client(headers, self._progress.served()))
        await self._client.pieces([body])
        await self._client.finish()

    async def _pass_on(self, answer: AnswerSource, piece: bytes) -> None:
        stall_s = self._terms.stall_s
        until_s = self._loop.time() + self._terms.head_s
        while piece and not (self._head.released and self._watcher.is_settled):
            await self._send(answer, self._head.take(piece, self._loop.time()))
            self._look_for_life()
            if not self._head.released:
                if self._watcher.is_useless:
                    return
                if not await answer.has_news(until_s - self._loop.time()):
                    await self._send(answer, self._head.release())
            piece = await answer.read(stall_s)
        if not piece:
            return
        self._listener.lives()
        skim, pieces = self._watcher.skim, [piece]
        while pieces:
            skim(pieces)
            await self._send(answer, pieces)
            pieces = await answer.read_all(stall_s)

    def _look_for_life(self) -> None:
        if self._watcher.passed in _LIFE:
            self._listener.lives()

    async def _collect(self, answer: AnswerSource, piece: bytes) -> list[bytes]:
        """Keep all of it back until it is checked.

        Raises:
            BrokenTryError: It cannot be read, or is too large to be checked.
        """
        limit = MAX_STREAM if is_event_stream(answer.headers) else MAX_WHOLE
        kept, size = list[bytes](), 0
        while piece:
            self._watcher.feed(piece, self._loop.time())
            self._look_for_life()
            kept.append(piece)
            size += len(piece)
            if size > limit or not self._watcher.is_readable:
                raise BrokenTryError(
                    (SchemaViolation(path="", keyword="content", message="cannot be read, or is too large"),)
                )
            piece = await answer.read(self._terms.stall_s)
        return kept

    async def _send(self, answer: AnswerSource, pieces: list[bytes]) -> None:
        if self._events is not None:
            pieces = self._events.take(pieces)
        if pieces:
            if not self._client.answered:
                await self._begin(answer)
            await self._client.pieces(pieces)

    async def _begin(self, answer: AnswerSource) -> None:
        """The client gets something of the model server's: from here on there is no other try."""
        if not self._client.answered:
            self._client.answered = True
            self._listener.begun()
        if self._client.status == 0:
            await self._client.begin(answer.status, to_the_client(answer.headers, self._progress.served()))

    def _judged(self, verdict: Verdict) -> None:
        progress = self._progress
        progress.verdict = verdict
        self._listener.judged(verdict, self._asked_s)
        if verdict.failed:
            where = {"model": progress.model, "route": progress.route, "lease_id": progress.lease_id}
            told = {"reason": verdict.reason, "detail": verdict.detail, "passed": verdict.passed}
            log.warning("answer_useless", extra=where | told)
