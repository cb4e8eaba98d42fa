"""A plan's candidates, as far as their answers are trusted.

Rule: a quarantined model is left out, and so is one whose server died of such requests; one that several suspect, or
that this session has seen fail, is set aside until there is nobody else. That is about models of the pool only:
upstreams have circuit breakers. No candidate is ever added, so what a plan keeps inside stays inside.
"""

import asyncio
from collections import deque

from broker.core.errors import HotseatError
from broker.core.lease import ModelName
from broker.gateway.exchange.candidates import Candidate, NarrowedPlan, ServingPlan
from broker.gateway.exchange.context import GatewayContext
from broker.gateway.exchange.progress import Progress
from broker.gateway.trust.reputations import LOCAL
from broker.protocol.error_bodies import ClientError, ClientFacingError


class Trusted(NarrowedPlan):
    """Of one request."""

    def __init__(self, plan: ServingPlan, context: GatewayContext, progress: Progress) -> None:
        super().__init__(plan)
        self._reputations = context.reputations
        self._deaths = context.deaths
        self._progress = progress
        self._aside: deque[Candidate] = deque()
        self._refused: ClientError | None = None
        self._gave_one = False

    async def following(self) -> Candidate | None:
        """The next one of the plan that is trusted; then the suspects.

        Raises:
            HotseatError, ClientFacingError: Nobody may serve this request, or whoever may is quarantined.
        """
        candidate = await self._trusted() or (self._aside.popleft() if self._aside else None)
        if candidate is None and self._refused is not None and not self._gave_one:
            raise ClientFacingError(self._refused)
        self._gave_one = True
        return candidate

    async def _trusted(self) -> Candidate | None:
        try:
            while (candidate := await self._plan.following()) is not None:
                if candidate.route != LOCAL:
                    return candidate
                now_s = asyncio.get_running_loop().time()
                if (trouble := self._refusal(candidate.model, now_s)) is not None:
                    self._leave_out(candidate, trouble)
                elif self._reputations.is_preferred(candidate.model, self._progress.source, now_s):
                    return candidate
                else:
                    self._aside.append(candidate)
        except (HotseatError, ClientFacingError):
            if not self._aside:
                raise
        return None

    def _refusal(self, model: ModelName, now_s: float) -> ClientError | None:
        """Why this request may not go to a model: nothing may, or nothing of its kind."""
        if not self._reputations.of(model).serves:
            return self._reputations.refusal(model, now_s)
        return self._deaths.refusal(model, self._progress.suspect, now_s)

    def _leave_out(self, candidate: Candidate, trouble: ClientError) -> None:
        self._refused = trouble
        progress = self._progress
        progress.model, progress.route, progress.reason = candidate.model, candidate.route, candidate.reason

    def has_more(self) -> bool:
        """See ``ServingPlan``."""
        return bool(self._aside) or self._plan.has_more()

    def leave_line(self) -> None:
        """See ``ServingPlan``. Whoever is set aside is asked before the line is joined again."""
        if not self._aside:
            super().leave_line()
