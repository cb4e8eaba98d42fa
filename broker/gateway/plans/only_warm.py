"""Only while it is warm: for requests that nobody misses, a heartbeat or a background task.

Rule: such a request causes no load and costs no money. It goes to models of the pool alone, each only while it is
loaded (the store keeps that, ``AcquireRequest.only_warm``); where none is, it is refused at once with 503
``model_not_warm``. One that is warm and busy is waited for in line, until it goes.
"""

from broker.core.refusals import not_warm
from broker.gateway.exchange.candidates import Candidate, NarrowedPlan, ServingPlan


class OnlyWarm(NarrowedPlan):
    """A plan without its upstreams."""

    def __init__(self, plan: ServingPlan, name: str) -> None:
        super().__init__(plan)
        self._name = name
        self._gave_one = False

    async def following(self) -> Candidate | None:
        """See ``ServingPlan``.

        Raises:
            ModelNotWarmError: No model of the pool may serve it.
        """
        while (candidate := await self._plan.following()) is not None:
            if candidate.upstream is None:
                self._gave_one = True
                return candidate
        if not self._gave_one:
            raise not_warm(self._name)
        return None
