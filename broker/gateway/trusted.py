"""A plan's candidates, as far as their answers are trusted.

Rule: a quarantined model is left out; one that several suspect, or that this session has seen fail, is set aside until
there is nobody else. That is about models of the pool only: upstreams have circuit breakers. No candidate is ever
added, so what a plan keeps inside stays inside.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

from broker.core.errors import HotseatError
from broker.core.lease import ModelName
from broker.gateway.candidates import Candidate, Plan
from broker.gateway.desk import Progress
from broker.gateway.reputations import LOCAL, Reputations
from broker.gateway.troubles import TroubleError


class Trusted:
    """See ``Plan``."""

    def __init__(self, plan: Plan, reputations: Reputations, progress: Progress) -> None:
        self._plan = plan
        self._reputations = reputations
        self._progress = progress
        self._aside: deque[Candidate] = deque()
        self._left_out: ModelName | None = None
        self._gave_one = False

    async def following(self) -> Candidate | None:
        """The next one of the plan that is trusted; then the suspects.

        Raises:
            HotseatError, TroubleError: Nobody may serve this request, or whoever may is quarantined.
        """
        candidate = await self._trusted() or (self._aside.popleft() if self._aside else None)
        if candidate is None and self._left_out is not None and not self._gave_one:
            raise TroubleError(self._reputations.refusal(self._left_out, asyncio.get_running_loop().time()))
        self._gave_one = True
        return candidate

    async def _trusted(self) -> Candidate | None:
        try:
            while (candidate := await self._plan.following()) is not None:
                known = self._reputations.of(candidate.model)
                if candidate.route != LOCAL or self._is_preferred(candidate):
                    return candidate
                if known.serves:
                    self._aside.append(candidate)
                else:
                    self._leave_out(candidate)
        except (HotseatError, TroubleError):
            if not self._aside:
                raise
        return None

    def _is_preferred(self, candidate: Candidate) -> bool:
        now_s = asyncio.get_running_loop().time()
        return self._reputations.is_preferred(candidate.model, self._progress.source, now_s)

    def _leave_out(self, candidate: Candidate) -> None:
        self._left_out = candidate.model
        progress = self._progress
        progress.model, progress.route, progress.reason = candidate.model, candidate.route, candidate.reason

    def has_more(self) -> bool:
        """See ``Plan``."""
        return bool(self._aside) or self._plan.has_more()

    def close(self, tail: Iterable[bytes]) -> None:
        """See ``Plan``."""
        self._plan.close(tail)
