"""Requests that are refused below the routes, told in the protocol of whoever asks.

That is OpenAI's envelope or Anthropic's under ``/v1``, and a problem document everywhere else.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.protocol.client_side import REQUEST
from broker.protocol.endpoints import Dialect
from broker.protocol.error_bodies import ClientError, body_of
from broker.protocol.error_page import ERRORS
from broker.protocol.problems import Reply, problem

log = logging.getLogger("hotseat.api")

PERIOD_S = 60.0
LINES = 20
"""Lines about refusals of a kind in one period; how many went without one is said after it."""
MAX_PATH = 200
"""Characters of a path that are logged."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why, and what to do about it."""

    code: str
    """One of the error page."""
    detail: str
    retry_after_s: int | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    about: str = ""
    """The name, origin or the like that it is about; for the log."""

    @property
    def status(self) -> int:
        """The same in every dialect."""
        return ERRORS[self.code].status

    def reply(self, dialect: Dialect | None) -> Reply:
        """As an answer; no dialect: a problem document."""
        if dialect is None:
            reply = problem(self.code, self.detail, retry_after_s=self.retry_after_s)
            reply.headers.extend(self.headers)
            return reply
        trouble = ClientError(code=self.code, message=self.detail, retry_after_s=self.retry_after_s)
        body = body_of(trouble, dialect)
        about = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        return Reply(trouble.status, body, [*about, *self.headers, *trouble.headers()])


def malformed(found: str) -> Refusal:
    """What is not HTTP/1.1."""
    return Refusal(code="malformed", detail=f"the request is not sound HTTP/1.1: {found}")


def answering(reply: Reply) -> ASGIApp:
    """An application that says this and nothing else; a body that comes is not looked at."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})

    return app


class RefusalLog:
    """Counts what is refused below the routes, and logs whatever is refused, with its request's id.

    So an operator finds what a client was told. A flood of refusals is not logged, unless everything is.

    Args:
        counted: Told of each, as of any answer: route, status, seconds.
    """

    def __init__(
        self, counted: Callable[[str, int, float], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counted = counted
        self._clock = clock
        self._began_s = -PERIOD_S
        self._lines: Counter[str] = Counter()

    def note(self, refusal: Refusal, request_id: str) -> None:
        """The guard refused a request, or a connection's bound did."""
        if self._counted is not None:
            self._counted("refused", refusal.status, 0.0)
        said = {"about": refusal.about} if refusal.about else {}
        fields = {"code": refusal.code, "status": refusal.status, **said, "request_id": request_id}
        self._log(refusal.code, logging.WARNING, fields | {"detail": refusal.detail})

    def answered(self, scope: Scope, status: int) -> None:
        """A route refused a request; what the data path closes itself is in its own lines."""
        told = scope["extensions"][REQUEST]
        if "is_logged" not in told:
            path = scope["path"][:MAX_PATH]
            fields = {"method": scope["method"], "path": path, "status": status, "request_id": told["id"]}
            self._log(str(status), logging.INFO, fields)

    def _log(self, kind: str, level: int, fields: dict[str, object]) -> None:
        """Each kind has its own lines, so that a flood of one hides no other."""
        now_s = self._clock()
        if now_s - self._began_s >= PERIOD_S:
            left_out = {each: count - LINES for each, count in self._lines.items() if count > LINES}
            self._began_s, self._lines = now_s, Counter()
            if left_out and not log.isEnabledFor(logging.DEBUG):
                counts = ", ".join(f"{count} {each}" for each, count in left_out.items())
                log.warning("refusals_unlogged", extra={"counts": counts})
        self._lines[kind] += 1
        if self._lines[kind] <= LINES or log.isEnabledFor(logging.DEBUG):
            log.log(level, "request_refused", extra=fields)
