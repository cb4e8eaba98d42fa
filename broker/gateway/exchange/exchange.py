"""One request, from its place in line to the last byte of its answer.

The plan's candidates are tried in order, each by an attempt of its kind, until one has served it, or until an error
ends it: quarantined models are left out, suspects come last. What follows a failure is in the retry table
(``broker.routing.fallback``).

Everything may be interrupted, at any wait: the client goes, the lease ends, the client stops reading. For a client that
has closed its connection already nothing is begun.
"""

from collections.abc import Callable

from broker.core.errors import HotseatError
from broker.gateway.exchange.attempt import Attempt, AttemptTurn, how_it_ended
from broker.gateway.exchange.candidates import Candidate, ServingPlan
from broker.gateway.exchange.interruption import Interruption, ReaderWatch
from broker.gateway.exchange.progress import Progress
from broker.protocol.client_side import ClientGoneError
from broker.protocol.error_bodies import ClientError, ClientFacingError
from broker.routing.fallback import ends_all

NOBODY = ClientError(code="unavailable", message="nothing may serve this request now")


class Exchange:
    """See above.

    Args:
        progress: The request, of which nothing is done yet.
        attempt: Makes an attempt of the kind that a candidate needs.
        reader_stall_s: A client that takes nothing for so long is given up, seconds.
    """

    def __init__(self, progress: Progress, attempt: Callable[[AttemptTurn], Attempt], *, reader_stall_s: float) -> None:
        self._progress = progress
        self._client = progress.client
        self._attempt = attempt
        self.interruption = Interruption()
        self._reader = ReaderWatch(progress.client, self.interruption, reader_stall_s)

    async def serve(self, plan: ServingPlan) -> None:
        """Serve the request.

        Raises:
            HotseatError, ClientFacingError: What to tell the client.
            ClientGoneError: It had gone before anything was asked for.
            CancelledError: Interrupted; ``interruption.cause`` says why, None: the process ends.
        """
        self.interruption.arm()
        failed: list[Exception] = []  # emptied in any case: what it holds holds this frame, and with it the request
        try:
            while (candidate := await plan.following()) is not None:
                try:
                    return await self._by(candidate, plan)
                except (ClientFacingError, HotseatError) as error:
                    if ends_all(how_it_ended(error, begun=self._client.answered)):
                        raise
                    failed[:] = [error]
            raise failed.pop() if failed else ClientFacingError(NOBODY)
        finally:
            failed.clear()
            self.interruption.disarm()

    async def _by(self, candidate: Candidate, plan: ServingPlan) -> None:
        if self._client.has_closed():
            raise ClientGoneError
        progress = self._progress
        progress.model, progress.route, progress.reason = candidate.model, candidate.route, candidate.reason
        progress.parameters = candidate.parameters
        progress.lease_id, progress.position, progress.eta_s, progress.granted_s = "", 0, None, None
        progress.load_error = ""
        if progress.checks is not None:
            progress.strict, progress.validated = progress.checks.of(candidate.model)
        turn = AttemptTurn(
            progress=progress, candidate=candidate, plan=plan, interruption=self.interruption, reader=self._reader
        )
        await self._attempt(turn).run()
