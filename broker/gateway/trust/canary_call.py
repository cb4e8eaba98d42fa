"""Asks one model server test questions, on a lease that somebody holds: what they show, and of what it died if it did.

Rule: only what cannot have another cause condemns. Silence while others use the model is a queue; an answer that broke
off because the lease ended, or because the server died under somebody else's request, shows nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from broker.answers.verdict import Verdict
from broker.answers.watcher import Watcher
from broker.core.lease import LeaseRecord
from broker.gateway.trust.canary import MAX_REFUSAL, Finding, Question, concluded, finding_of, summed_up
from broker.http_client.connection_pool import ConnectionPool, Request
from broker.http_client.errors import ServerError
from broker.protocol.headers import to_the_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What a canary has shown."""

    finding: Finding
    verdict: Verdict | None = None
    """What its last answer was worth; None: there was none."""
    asked: int = 0
    """How many questions were asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryCall:
    """One canary at one model server, on a lease that the caller holds."""

    connections: ConnectionPool
    lease: LeaseRecord
    timeout_s: float
    """How long each question's answer may take, seconds."""
    has_company: Callable[[], Awaitable[bool]]
    """Tells whether anybody else holds a lease on this server."""
    judged: Callable[[Verdict, float], None]
    """Called with each verdict, and the loop time at which its question was asked."""

    async def ask(self, questions: Sequence[Question], needed: int) -> Examined:
        """Ask one question after the other, until it is clear what they show.

        Args:
            questions: The best one first; none: nothing is shown.
            needed: Good answers that are enough.
        """
        found: list[Finding] = []
        verdict: Verdict | None = None
        crowded = await self.has_company()
        for question in questions:
            finding, verdict = await self._one(question)
            if finding is Finding.SILENT and (crowded or await self.has_company()):
                return Examined(finding=Finding.VOID, verdict=verdict, asked=len(found) + 1)
            found.append(finding)
            if (early := summed_up(found, needed)) is not None:
                return Examined(finding=early, verdict=verdict, asked=len(found))
        return Examined(finding=concluded(found, needed), verdict=verdict, asked=len(found))

    async def _one(self, question: Question) -> tuple[Finding, Verdict | None]:
        """Ask one question. An answer that broke off counts as silence, which has to be found alone and again."""
        asked_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.timeout_s):
                finding, verdict = await self._answer_to(question)
        except (ServerError, TimeoutError):
            return Finding.SILENT, None
        self.judged(verdict, asked_s)
        return finding, verdict

    async def _answer_to(self, question: Question) -> tuple[Finding, Verdict]:
        loop = asyncio.get_running_loop()
        headers = to_the_model([(b"content-type", question.content_type)], self.lease.api_key)
        request = Request(method="POST", path=question.path, headers=headers, body=question.body)
        answer = await self.connections.ask(self.lease.base_url, request)
        try:
            watcher = Watcher(question.expected)
            watcher.begin(answer.status, answer.headers, loop.time())
            refusal = b""
            while piece := await answer.read(self.connections.timing.stall_s):
                watcher.feed(piece, loop.time())
                refusal += piece[: MAX_REFUSAL - len(refusal)]
            verdict = watcher.end(loop.time())
            return finding_of(answer.status, refusal, verdict, question.expected), verdict
        finally:
            answer.close()
