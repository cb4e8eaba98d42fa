"""Passes one request to a model server and its answer back, piece by piece.

Rule: the client's answer begins with the model server's first piece of use and not before, so that whatever goes wrong
until then can be tried again. Only a wait that is too long for the client begins it earlier.
"""

import asyncio
import re

import msgspec

from broker.answers.asking import Asking
from broker.answers.said import said_by
from broker.answers.verdict import ExpectedAnswer, Shape, Verdict, VerdictReason
from broker.core.errors import BackendError
from broker.core.lease import LeaseRecord
from broker.gateway.exchange.context import GatewayContext
from broker.gateway.exchange.delivery import AnswerSource, Delivery, Terms
from broker.gateway.exchange.keepalives import Keepalives
from broker.gateway.exchange.progress import Progress
from broker.gateway.requests.identity import Asked
from broker.gateway.trust.reputations import LOCAL
from broker.http_client.answer import Answer
from broker.http_client.connection_pool import Request
from broker.http_client.errors import ServerError, UnreachableError
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.protocol.forms import form_with
from broker.protocol.headers import to_the_model
from broker.protocol.quoted import quoted, words_of
from broker.routing.request.parameters import NOTHING, Parameters

WRONG_SERVER = frozenset({401, 403, 503})
"""Whoever refuses the load's own key, or says that it still loads, is not the server that the lease was granted on."""
NOT_SERVING = 503
MAX_ERROR = 64 * 1024
_MESSAGE = re.compile(r"[^\x20-\x7e]+")


class OwnKeyRefusedError(BackendError):
    """The model server does not let the broker in."""

    code = "upstream_refused"


class Passing:
    """One try on one lease; it hears of its answer as an ``AnswerListener``."""

    def __init__(
        self,
        context: GatewayContext,
        progress: Progress,
        keepalives: Keepalives,
        lease: LeaseRecord,
        *,
        tries_left: int,
    ) -> None:
        """``tries_left`` as in ``Terms``."""
        self._tries_left = tries_left
        self._context = context
        self._progress = progress
        self._keepalives = keepalives
        self._lease = lease
        self._served_name = context.settings.served_names.get(lease.model) or lease.model
        self._parameters = context.settings.parameters.get(lease.model, NOTHING).within(progress.parameters)
        """What the model changes, and the name that was asked for."""
        self.has_begun = False
        """Did the model server's answer begin?"""
        call = progress.call
        self._watch = context.signs.watch(lease, len(call.body), stream=call.asked.stream)

    async def run(self) -> None:
        """Pass everything on.

        Raises:
            ServerError: The model server broke off, or fell silent.
            OwnKeyRefusedError: It did not take the request.
            UselessAnswerError: Its answer is of no use, and the client got nothing of it.
            ClientFacingError: It answered with an error after the client's answer had begun.
        """
        answer: Answer | None = None
        signs = self._context.signs
        self._keepalives.start()
        try:
            request = self._request()
            delivery = Delivery(self._progress, self._keepalives, self._terms(request), self)
            answer = await self._context.connections.ask(self._lease.base_url, request)
            self.has_begun = True
            if answer.status in WRONG_SERVER:
                said = quoted(await words_of(answer, self._lease.api_key))
                what = "is not ready" if answer.status == NOT_SERVING else "refuses the load's own key"
                raise OwnKeyRefusedError(f"the model server {what}: it answered {answer.status}{said}")
            await delivery.run(answer)
        except UnreachableError:
            signs.unreachable(self._lease)
            raise
        except ServerError:
            signs.broke_off(self._lease)
            raise
        finally:
            self._watch.stop()
            self._keepalives.abort()
            if answer is not None:
                answer.close()

    def _terms(self, request: Request) -> Terms:
        timing = self._context.connections.timing
        return Terms(
            expected=self._expected(request),
            tries_left=self._tries_left,
            first_s=timing.first_byte_s,
            stall_s=timing.stall_s,
            head_s=self._context.settings.head_s,
        )

    # ------------------------------------------------------------------------------------------------------- listening
    def came(self, answer: AnswerSource, piece: bytes) -> None:
        """See ``AnswerListener``."""
        self._context.signs.failed(self._lease, answer.status, piece)

    def begun(self) -> None:
        """See ``AnswerListener``."""

    def lives(self) -> None:
        """See ``AnswerListener``."""
        self._watch.stop()

    async def unfit(self, answer: AnswerSource, piece: bytes) -> ClientFacingError:
        """What the model server said instead of a stream."""
        body = piece
        while piece and len(body) < MAX_ERROR:
            piece = await answer.read(self._context.connections.timing.stall_s)
            body += piece
        said = said_by(body).message if answer.status >= 400 else ""
        said = said or _MESSAGE.sub(" ", body[:MAX_ERROR].decode("utf-8", "replace"))[:2000]
        message = f"the model server answered {answer.status}: {said}"
        status = answer.status if answer.status >= 400 else None
        return ClientFacingError(ClientError(code="upstream_error", message=message, quoted_status=status))

    def judged(self, verdict: Verdict, asked_s: float) -> None:
        """See ``AnswerListener``."""
        model = self._lease.model
        self._context.accounts.answers.judged(LOCAL, model, verdict, asked_s)
        self._context.reputations.judged(model, verdict, self._progress, asyncio.get_running_loop().time())
        if verdict.reason is VerdictReason.FINE:
            self._context.deaths.survived(model, len(self._progress.call.body), self._progress.suspect)
        content_s, call = verdict.marks.first_content_s, self._progress.call
        if content_s is not None and not verdict.failed:
            self._context.signs.lived(model, len(call.body), content_s - asked_s, stream=call.asked.stream)

    # ----------------------------------------------------------------------------------------------------- the question
    def _expected(self, request: Request) -> ExpectedAnswer:
        """Of what the server is asked, which is not what the client wrote where parameters change it."""
        call = self._progress.call
        names = (self._served_name, self._lease.model)
        is_changed = bool(self._parameters) and not request.after
        asking = Asking(call.endpoint.path, bytes(request.body) if is_changed else call.body)
        return ExpectedAnswer(shape=Shape(call.endpoint.shape.value), models=names, asking=asking)

    def _request(self) -> Request:
        call = self._progress.call
        body, *after = changed(self._progress.body, call.asked, self._served_name, self._parameters)
        return Request(
            method="POST",
            path=call.target,
            headers=to_the_model(call.headers.items(), self._lease.api_key),
            body=body,
            after=after,
        )


def changed(body: bytes, asked: Asked, served: str, parameters: Parameters) -> tuple[bytes | memoryview, ...]:
    """The body with the name that the model's own server knows, and with what that name or the model changes.

    Other fields keep their bytes, those of a form its files too, which are not copied; where nothing is to be changed
    it is the very same bytes. Of a form the name alone is changed.
    """
    if asked.model_at:
        return (body,) if served == asked.model else form_with(body, asked.model_at, served.encode())
    if served == asked.model and asked.is_named and not parameters:
        return (body,)
    fields = parameters.apply(msgspec.json.decode(body, type=dict[str, msgspec.Raw]), msgspec.Raw)
    fields["model"] = msgspec.Raw(msgspec.json.encode(served))
    return (msgspec.json.encode(fields),)
