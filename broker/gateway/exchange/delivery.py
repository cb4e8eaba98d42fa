"""One answer on its way from a server to a client: judged as it passes, its beginning kept back while unseen.

Rule: as long as the client has got nothing of an answer, one that turns out to be of no use is thrown away and another
one is asked for, and nobody can notice. What is kept back is bounded in bytes and time, and comes out as it went in.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from broker.answers.head import HeldHead
from broker.answers.said import MAX_ERROR_READ
from broker.answers.schema.check import SchemaViolation
from broker.answers.verdict import ExpectedAnswer, Passed, Verdict
from broker.answers.watcher import MAX_WHOLE, Watcher
from broker.core.errors import BackendError
from broker.gateway.exchange.contract import BrokenTryError
from broker.gateway.exchange.progress import Progress
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for the answers of one server. Durations in seconds."""

    stall_s: float
    """Between two pieces."""
    head_s: float
    """So long the beginning is kept back at most, while nothing can be seen in it."""
    begun: Callable[[], None]
    """Told when the client's answer begins."""
    quiet: Callable[[], Awaitable[None]]
    """Ends the keepalives that go out while an answer is kept; called before it is sent."""
    judged: Callable[[Verdict, float], None]
    """Told of the verdict, with the loop time at which the server was asked."""
    lives: Callable[[], None] = lambda: None
    """Told once when something that a reader could use has come."""


class Delivery:
    """One answer."""

    def __init__(self, progress: Progress, expected: ExpectedAnswer, terms: Terms, *, tries_left: int) -> None:
        """With no tries left the answer goes out whatever it is worth, and nothing is kept back."""
        self._terms = terms
        self._progress = progress
        self._client = progress.client
        self._loop = asyncio.get_running_loop()
        self._may_fail = tries_left > 0
        self._watcher = Watcher(expected)
        self._asked_s = self._loop.time()
        self._strict = progress.strict
        self._head = HeldHead(self._watcher, limit=KEEP_BACK if self._may_fail else 0)
        self._events: Events | None = None
        """Of a stream."""

    def keeps_all_of(self, answer: AnswerSource) -> bool:
        """Is it a stream that is kept until it is checked? What is none comes in one go."""
        return self._strict is not None and answer.status == 200 and is_event_stream(answer.headers)

    async def run(self, answer: AnswerSource, piece: bytes) -> None:
        """Pass everything on.

        Args:
            answer: Its head is there.
            piece: The first one; nothing: it has none.

        Raises:
            UselessAnswerError, BrokenTryError: Ask again.
            ServerError: The model server broke off, or fell silent.
        """
        self._watcher.begin(answer.status, answer.headers, self._loop.time())
        if answer.status >= 400 and not self._client.status:
            await self._refuse(answer, piece)
            return
        if is_event_stream(answer.headers):
            self._events = Events(self._progress.call.endpoint)
        strict = self._strict if answer.status == 200 else None
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
            strict.check(b"".join(kept), streamed=is_event_stream(answer.headers))
            await self._terms.quiet()
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
        self._terms.begun()
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
        self._terms.lives()
        skim, pieces = self._watcher.skim, [piece]
        while pieces:
            skim(pieces)
            await self._send(answer, pieces)
            pieces = await answer.read_all(stall_s)

    def _look_for_life(self) -> None:
        if self._watcher.passed in _LIFE:
            self._terms.lives()

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
            self._terms.begun()
        if self._client.status == 0:
            await self._client.begin(answer.status, to_the_client(answer.headers, self._progress.served()))

    def _judged(self, verdict: Verdict) -> None:
        progress = self._progress
        progress.verdict = verdict
        self._terms.judged(verdict, self._asked_s)
        if verdict.failed:
            where = {"model": progress.model, "route": progress.route, "lease_id": progress.lease_id}
            told = {"reason": verdict.reason, "detail": verdict.detail, "passed": verdict.passed}
            log.warning("answer_useless", extra=where | told)
