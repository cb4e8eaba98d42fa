"""Who serves where nothing is to be decided (no ``[routing]``): the model that was asked for, and no other.

Rule: what a model is known not to be able to answer is refused before a lease is asked for: nobody should wait for
a load that is of no use.
"""

from dataclasses import replace

from broker.core.lease import ModelName
from broker.gateway.exchange.candidates import Candidate, ServingPlan
from broker.gateway.exchange.context import PlanRule
from broker.gateway.exchange.progress import Progress
from broker.gateway.plans.incapable import refused_as_incapable
from broker.routing.capability import unable
from broker.routing.catalogue import Local, NameTable
from broker.routing.decision import PassedOver, Route, RouteReason
from broker.routing.request.contents import Demands
from broker.routing.request.request import KIND_OF_PATH, Described, RequestKind


def as_named(table: NameTable) -> PlanRule:
    """The rule over a table of models; one that it does not know the store refuses."""
    return lambda progress: NamedPlan(table, progress)


class NamedPlan(ServingPlan):
    """Of one request."""

    def __init__(self, table: NameTable, progress: Progress) -> None:
        self._table = table
        self._progress = progress
        self._given = False

    async def following(self) -> Candidate | None:
        """See ``ServingPlan``."""
        if self._given:
            return None
        self._given = True
        asked = self._progress.call.asked.model
        entry = self._table.find(asked)
        if entry is None:
            return Candidate(model=ModelName(asked))
        first = entry.candidates[0]
        if isinstance(first, Local):
            self._require_able(first)
        return Candidate(model=ModelName(first.name))

    def _require_able(self, model: Local) -> None:
        """Its context is not looked at: without a tokenizer nobody can say what fits, and nobody else could serve."""
        call, progress = self._progress.call, self._progress
        kind = KIND_OF_PATH.get(call.endpoint.path, RequestKind.OTHER)
        known = replace(model, abilities=replace(model.abilities, context_tokens=None))
        why = unable(known, Described(name=model.name, kind=kind, content=Demands(kind, call.body)))
        if why is not None:
            progress.route, progress.reason = Route.REFUSED, RouteReason.INCAPABLE
            passed = (PassedOver(name=model.name, why=why),)
            raise refused_as_incapable(passed, kind, self._table, call.caller)
