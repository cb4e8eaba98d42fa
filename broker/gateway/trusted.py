"""A plan's candidates, as far as their answers are trusted.

Rule: a quarantined model is left out, and so is one whose server died of such requests; one that several suspect, or
that this session has seen fail, is set aside until there is nobody else. That is about models of the pool only:
upstreams have circuit breakers. No candidate is ever added, so what a plan keeps inside stays inside.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

from broker.core.errors import HotseatError
from broker.core.lease import ModelName
from broker.gateway.candidates import Candidate, Plan
from broker.gateway.desk import Desk, Progress
from broker.gateway.reputations import LOCAL
from broker.gateway.troubles import Trouble, TroubleError


class Trusted:
    """See ``Plan``."""

    def __init__(self, plan: Plan, desk: Desk, progress: Progress) -> None:
        self._plan = plan
        self._reputations = desk.reputations
        self._deaths = desk.deaths
        self._progress = progress
        self._aside: deque[Candidate] = deque()
        self._refused: Trouble | None = None
        self._gave_one = False

    async def following(self) -> Candidate | None:
        """The next one of the plan that is trusted; then the suspects.

        Raises:
            HotseatError, TroubleError: Nobody may serve this request, or whoever may is quarantined.
        """
        candidate = await self._trusted() or (self._aside.popleft() if self._aside else None)
        if candidate is None and self._refused is not None and not self._gave_one:
            raise TroubleError(self._refused)
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
        except (HotseatError, TroubleError):
            if not self._aside:
                raise
        return None

    def _refusal(self, model: ModelName, now_s: float) -> Trouble | None:
        """Why this request may not go to a model: nothing may, or nothing of its kind."""
        if not self._reputations.of(model).serves:
            return self._reputations.refusal(model, now_s)
        return self._deaths.refusal(model, self._progress.suspect, now_s)

    def _leave_out(self, candidate: Candidate, trouble: Trouble) -> None:
        self._refused = trouble
        progress = self._progress
        progress.model, progress.route, progress.reason = candidate.model, candidate.route, candidate.reason

    def has_more(self) -> bool:
        """See ``Plan``."""
        return bool(self._aside) or self._plan.has_more()

    def close(self, tail: Iterable[bytes]) -> None:
        """See ``Plan``."""
        self._plan.close(tail)
