"""Passes one request to a model server and its answer back, piece by piece.

Rule: the client's answer begins with the model server's first piece of use and not before, so that whatever goes wrong
until then can be tried again. Only a wait that is too long for the client begins it earlier.
"""

import asyncio
import re

import msgspec

from broker.answers.asking import Asking
from broker.answers.verdict import Expected, Reason, Shape, Verdict
from broker.core.errors import BackendError
from broker.core.lease import LeaseRecord
from broker.gateway.delivery import Delivery, Terms
from broker.gateway.desk import Desk, Progress
from broker.gateway.forms import form_with
from broker.gateway.headers import is_event_stream, to_the_model
from broker.gateway.identity import Asked
from broker.gateway.reputations import LOCAL
from broker.gateway.speaker import Speaker
from broker.gateway.troubles import Trouble, TroubleError
from broker.upstream.answer import Answer
from broker.upstream.pool import Request

NOT_READY = frozenset({401, 403, 503})
"""The load's own key is wrong, or the server still loads: not the one that the lease was granted on."""
MAX_ERROR = 64 * 1024
_MESSAGE = re.compile(r"[^\x20-\x7e]+")


class RefusedError(BackendError):
    """The model server does not let the broker in."""

    code = "upstream_refused"


class Passing:
    """One attempt on one lease."""

    def __init__(self, desk: Desk, progress: Progress, lease: LeaseRecord, *, tries_left: int) -> None:
        """``tries_left`` as for ``Delivery``."""
        self._tries_left = tries_left
        self._desk = desk
        self._progress = progress
        self._client = progress.client
        self._lease = lease
        self.has_begun = False
        """Did the model server's answer begin?"""

    async def run(self) -> None:
        """Pass everything on.

        Raises:
            UpstreamError: The model server broke off, or fell silent.
            RefusedError: It did not take the request.
            UselessAnswerError: Its answer is of no use, and the client got nothing of it.
            TroubleError: It answered with an error after the client's answer had begun.
        """
        speaker = Speaker(self._progress, self._progress.call.limits)
        speaker.start()
        answer: Answer | None = None
        delivery = Delivery(self._progress, self._expected(), self._terms(speaker), tries_left=self._tries_left)
        try:
            answer = await self._desk.upstreams.ask(self._lease.base_url, self._request())
            self.has_begun = True
            if answer.status in NOT_READY:
                raise RefusedError(f"the model server answered {answer.status} to the broker's own key")
            piece = await answer.read(self._desk.upstreams.timing.first_byte_s)
            if not delivery.keeps_all_of(answer):  # else the client hears keepalives while it is kept
                await speaker.stop()
            if self._client.status and (answer.status != 200 or not is_event_stream(answer.headers)):
                raise await self._error_of(answer, piece)
            await delivery.run(answer, piece)
        finally:
            speaker.abort()
            if answer is not None:
                answer.close()

    def _terms(self, speaker: Speaker) -> Terms:
        desk = self._desk
        stall_s, head_s = desk.upstreams.timing.stall_s, desk.settings.head_s
        return Terms(stall_s=stall_s, head_s=head_s, begun=_nothing, quiet=speaker.stop, judged=self._judged)

    def _judged(self, verdict: Verdict, asked_s: float) -> None:
        model = self._lease.model
        self._desk.accounts.answers.judged(LOCAL, model, verdict, asked_s)
        self._desk.reputations.judged(model, verdict, self._progress, asyncio.get_running_loop().time())
        if verdict.reason is Reason.FINE:
            self._desk.deaths.survived(model, len(self._progress.call.body), self._progress.suspect)

    def _expected(self) -> Expected:
        call = self._progress.call
        names = (self._served_name(), self._lease.model)
        asking = Asking(call.endpoint.path, call.body)
        return Expected(shape=Shape(call.endpoint.shape.value), models=names, asking=asking)

    def _request(self) -> Request:
        call = self._progress.call
        body, *after = renamed(self._progress.body, call.asked, self._served_name())
        return Request(
            method="POST",
            path=call.target,
            headers=to_the_model(call.headers.items(), self._lease.api_key),
            body=body,
            after=after,
        )

    def _served_name(self) -> str:
        return self._desk.settings.served_names.get(self._lease.model) or self._lease.model

    async def _error_of(self, answer: Answer, piece: bytes) -> TroubleError:
        """What the model server said instead of a stream."""
        body = piece
        while piece and len(body) < MAX_ERROR:
            piece = await answer.read(self._desk.upstreams.timing.stall_s)
            body += piece
        said = _MESSAGE.sub(" ", body[:MAX_ERROR].decode("utf-8", "replace"))[:2000]
        message = f"the model server answered {answer.status}: {said}"
        status = answer.status if answer.status >= 400 else 502
        return TroubleError(Trouble(status=status, code="upstream_error", message=message))


def _nothing() -> None:
    """Nobody wants to know."""


def renamed(body: bytes, asked: Asked, served: str) -> tuple[bytes | memoryview, ...]:
    """The body with the name that the model's own server knows; the very same bytes where it was asked for by that.

    Other fields keep their bytes, those of a form its files too, which are not copied.
    """
    if served == asked.model:
        return (body,)
    if asked.model_at:
        return form_with(body, asked.model_at, served.encode())
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = msgspec.Raw(msgspec.json.encode(served))
    return (msgspec.json.encode(fields),)
