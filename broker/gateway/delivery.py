"""One answer on its way from a model server to a client: judged as it passes, its beginning kept back while unseen.

Rule: as long as the client has got nothing of an answer, one that turns out to be of no use is thrown away and another
one is asked for, and nobody can notice. What is kept back is bounded in bytes and time, and comes out as it went in.
"""

import asyncio
import logging

from broker.answers.head import Head
from broker.answers.strict import Violation
from broker.answers.verdict import Expected, Verdict
from broker.answers.watcher import MAX_WHOLE, Watcher
from broker.core.errors import BackendError
from broker.core.lease import ModelName
from broker.gateway.contract import BrokenTryError
from broker.gateway.desk import Desk, Progress
from broker.gateway.headers import to_the_client
from broker.gateway.reputations import LOCAL
from broker.upstream.answer import Answer

log = logging.getLogger("hotseat.gateway")

KEEP_BACK = 64 * 1024
"""Bytes of an answer that are kept back while nothing can be seen in it."""


class UselessAnswerError(BackendError):
    """The model answered with nothing of use, and the client got nothing of it."""

    code = "useless_answer"

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"the model's answer is of no use ({verdict.reason}): {verdict.detail}")
        self.verdict = verdict


class Delivery:
    """One answer."""

    def __init__(self, desk: Desk, progress: Progress, expected: Expected, *, tries_left: int) -> None:
        """With no tries left the answer goes out whatever it is worth, and nothing is kept back."""
        self._desk = desk
        self._progress = progress
        self._client = progress.client
        self._loop = asyncio.get_running_loop()
        self._may_fail = tries_left > 0
        self._watcher = Watcher(expected)
        self._asked_s = self._loop.time()
        self._strict = progress.strict
        keep_back = KEEP_BACK if self._may_fail else 0
        self._head = Head(self._watcher, limit=keep_back if self._strict is None else MAX_WHOLE)

    async def run(self, answer: Answer, piece: bytes) -> None:
        """Pass everything on.

        Args:
            answer: Its head is there.
            piece: The first one; nothing: it has none.

        Raises:
            UselessAnswerError, BrokenTryError: Ask again.
            UpstreamError: The model server broke off, or fell silent.
        """
        self._watcher.begin(answer.status, answer.headers, self._loop.time())
        try:
            if self._strict is None or answer.status != 200:
                await self._pass_on(answer, piece)
            else:
                await self._collect(answer, piece)
        except BaseException:
            # A stream that said its last word is whole, however its connection ended.
            over = self._client.is_over_for_parsers
            self._judged(self._watcher.end(self._loop.time()) if over else self._watcher.abandon())
            raise
        verdict = self._head.end(self._loop.time())
        self._judged(verdict)
        if verdict.failed and self._may_fail and not self._head.released:
            raise UselessAnswerError(verdict)
        rest = self._head.release()
        if self._strict is not None and answer.status == 200:
            self._strict.check(b"".join(rest))
        await self._send(answer, rest)
        await self._begin(answer)
        await self._client.finish()

    async def _pass_on(self, answer: Answer, piece: bytes) -> None:
        stall_s = self._desk.upstreams.timing.stall_s
        until_s = self._loop.time() + self._desk.settings.head_s
        while piece and not (self._head.released and self._watcher.is_settled):
            await self._send(answer, self._head.take(piece, self._loop.time()))
            if not self._head.released:
                if self._watcher.is_useless:
                    return
                if not await answer.has_news(until_s - self._loop.time()):
                    await self._send(answer, self._head.release())
            piece = await answer.read(stall_s)
        if not piece:
            return
        skim, send = self._watcher.skim, self._client.pieces
        pieces = [piece]
        while pieces:
            skim(pieces)
            await send(pieces)
            pieces = await answer.read_all(stall_s)

    async def _collect(self, answer: Answer, piece: bytes) -> None:
        """Keep all of it back until it is checked."""
        while piece:
            if self._head.take(piece, self._loop.time()):
                raise BrokenTryError(
                    (Violation(path="", keyword="content", message="cannot be read, or is too large"),)
                )
            piece = await answer.read(self._desk.upstreams.timing.stall_s)

    async def _send(self, answer: Answer, pieces: list[bytes]) -> None:
        if pieces:
            if not self._client.answered:
                await self._begin(answer)
            await self._client.pieces(pieces)

    async def _begin(self, answer: Answer) -> None:
        """The client gets something of the model server's: from here on there is no other try."""
        self._client.answered = True
        if self._client.status == 0:
            await self._client.begin(answer.status, to_the_client(answer.headers, self._progress.served()))

    def _judged(self, verdict: Verdict) -> None:
        progress = self._progress
        progress.verdict = verdict
        self._desk.accounts.answers.judged(progress.model, verdict, self._asked_s)
        if progress.route == LOCAL:
            self._desk.reputations.judged(ModelName(progress.model), verdict, self._loop.time())
        if verdict.failed:
            told = {"model": progress.model, "reason": verdict.reason, "detail": verdict.detail}
            log.warning("answer_useless", extra=told | {"lease_id": progress.lease_id, "passed": verdict.passed})
