"""One candidate's turn: it is asked, and asked again as the retry table says (``broker.routing.fallback``).

There are two kinds: a model of the pool, which takes a lease (``local_attempt``), and an upstream's
(``broker.gateway.cloud.attempt``). What both do stands here, once.
"""

from abc import ABC, abstractmethod

import msgspec

from broker.accounting.answers import AnswerAccounts
from broker.core.errors import HotseatError
from broker.gateway.exchange.candidates import Candidate, ServingPlan
from broker.gateway.exchange.contract import BrokenTryError, ContractBrokenError
from broker.gateway.exchange.delivery import UselessAnswerError
from broker.gateway.exchange.interruption import Interruption, ReaderWatch
from broker.gateway.exchange.keepalives import Keepalives
from broker.gateway.exchange.passing import OwnKeyRefusedError
from broker.gateway.exchange.progress import Progress
from broker.gateway.exchange.queueing import SentAwayError
from broker.http_client.errors import BrokenAnswerError, SilentError, UnreachableError
from broker.leasing.held_lease import LeaseLostError
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.routing.fallback import FailedTry, FallbackMove, RetryRule, TryEnd, after


class FailedTryError(ClientFacingError):
    """A try failed in a way that its kind of attempt can tell best."""

    def __init__(self, trouble: ClientError, failed: FailedTry) -> None:
        super().__init__(trouble)
        self.failed = failed


ENDS: tuple[tuple[type[Exception], TryEnd], ...] = (
    (SentAwayError, TryEnd.FINAL),
    (ContractBrokenError, TryEnd.FINAL),
    (UselessAnswerError, TryEnd.USELESS),
    (BrokenTryError, TryEnd.OFF_SCHEMA),
    (SilentError, TryEnd.SILENT),
    (UnreachableError, TryEnd.NO_ANSWER),
    (BrokenAnswerError, TryEnd.NO_ANSWER),
    (OwnKeyRefusedError, TryEnd.NO_ANSWER),
    (LeaseLostError, TryEnd.NO_ANSWER),
)
"""Any other error is a refusal."""


def how_it_ended(error: Exception, *, begun: bool, is_next_better: bool = False) -> FailedTry:
    """The error of a try, for the retry table.

    Args:
        error: What the try raised.
        begun: Has the client seen a byte of an answer?
        is_next_better: As in ``FailedTry``.
    """
    if isinstance(error, FailedTryError) and not begun:
        return error.failed
    end = next((end for kind, end in ENDS if isinstance(error, kind)), TryEnd.REFUSED)
    return FailedTry(end=end, begun=begun, is_next_better=is_next_better)


class AttemptTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt is made of."""

    progress: Progress
    candidate: Candidate
    plan: ServingPlan
    """Whose candidate it is."""
    interruption: Interruption
    reader: ReaderWatch


class Attempt(ABC):
    """See above."""

    def __init__(self, turn: AttemptTurn, answers: AnswerAccounts, rule: RetryRule) -> None:
        self._turn = turn
        self._progress = turn.progress
        self._client = turn.progress.client
        self._keepalives = Keepalives(turn.progress, turn.progress.call.limits)
        self._answers = answers
        self._rule = rule

    async def run(self) -> None:
        """Have the candidate serve the request.

        Raises:
            HotseatError, ClientFacingError: It does not; ``how_it_ended`` says whether the next candidate may.
        """
        tried = 1
        failed: list[Exception] = []  # emptied in any case: what it holds holds this frame, and with it the request
        try:
            while True:
                try:
                    return await self._ask(tried)
                except (ClientFacingError, HotseatError) as error:
                    failure = self._looked_at(error)
                    move, pause_s = after(failure, tried=tried, left_s=self._left_s(), rule=self._rule)
                    if move is not FallbackMove.AGAIN:
                        raise
                    self._prepare(error)
                    failed[:] = [error]
                tried += failure.end in {TryEnd.NO_ANSWER, TryEnd.SILENT}
                if not await self._prepare_retry(failure, pause_s):
                    raise failed.pop()
                self._progress.retries += 1
        finally:
            failed.clear()

    @abstractmethod
    async def _ask(self, tried: int) -> None:
        """Once; ``tried`` as in ``after``."""

    @abstractmethod
    async def _prepare_retry(self, failure: FailedTry, pause_s: float) -> bool:
        """Do what has to be done before another try; False: there must be none."""

    @abstractmethod
    def _is_next_better(self) -> bool:
        """See ``FailedTry``."""

    def _left_s(self) -> float | None:
        """Until the deadline, seconds; None: no hurry, or nobody else who could keep it."""
        return None

    def _looked_at(self, error: Exception) -> FailedTry:
        if not isinstance(error, UselessAnswerError):
            return how_it_ended(error, begun=self._client.answered)
        self._progress.had_useless = True
        is_next_better = self._is_next_better()
        self._progress.retries += is_next_better
        return how_it_ended(error, begun=self._client.answered, is_next_better=is_next_better)

    def _prepare(self, error: Exception) -> None:
        """An answer that broke its schema is asked for cooler.

        Raises:
            ContractBrokenError: It was the last one.
        """
        if isinstance(error, BrokenTryError):
            candidate, strict = self._turn.candidate, self._progress.strict
            self._answers.broke_schema(candidate.route, candidate.model)
            assert strict is not None
            strict.again(error)
