"""The word for a decision: why the first choice is the first, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass

from broker.routing.capability import INCAPABLE, Unfit
from broker.routing.catalogue import CandidateModel, Entry, Local, Prefer
from broker.routing.decision import Choice, PassedOver, Route, RouteReason


@dataclass(frozen=True, slots=True)
class Ranked:
    """A choice, whether it is ready, and its index in the order written."""

    choice: Choice
    ready: bool
    index: int

    @property
    def is_in_time(self) -> bool:
        """Tell whether it meets the deadline on a device that is not busy."""
        return not (self.choice.late or self.choice.busy)


def reason_of(entry: Entry, ranked: list[Ranked], passed: list[PassedOver]) -> RouteReason:
    """Return the reason why the first choice is the first."""
    first = ranked[0]
    why = {one.name: one.why for one in passed}
    if Unfit.PRIVATE in why.values():
        return RouteReason.PRIVATE
    if entry.prefer is Prefer.FASTEST and any(one.is_in_time and one.index < first.index for one in ranked[1:]):
        return RouteReason.FASTEST
    if first.choice.route is not Route.LOCAL:
        return _for_upstream(entry, ranked, why)
    if first.choice.late:
        return RouteReason.BUDGET if Unfit.BUDGET in why.values() else RouteReason.LATE
    if replaced := _to_replace(entry.candidates[: first.index], why, ready=first.ready):
        return replaced
    one = entry.candidates[first.index]
    if isinstance(one, Local) and first.choice.model != one.variants[0].name:
        return RouteReason.VARIANT
    return RouteReason.WARM if first.ready and first.choice.wait_s == 0 else RouteReason.QUEUED


def _to_replace(before: tuple[CandidateModel, ...], why: Mapping[str, Unfit], *, ready: bool) -> RouteReason | None:
    """Tell why a local model goes before others written first; None: the others cost more, which says nothing."""
    if any(isinstance(one, Local) and one.name not in why for one in before):
        return RouteReason.RIDE_WARM if ready else RouteReason.SOONER
    whys = {why[one.name] for one in before if one.name in why}
    if whys & INCAPABLE:
        return RouteReason.CAPABILITY
    if Unfit.BUDGET in whys:
        return RouteReason.BUDGET
    return RouteReason.FALLBACK if whys else None


def _for_upstream(entry: Entry, ranked: list[Ranked], why: Mapping[str, Unfit]) -> RouteReason:
    first = ranked[0]
    if first.choice.late:
        return RouteReason.LATE
    locals_ = [one for one in entry.candidates if isinstance(one, Local)]
    before = entry.candidates[: first.index]
    if locals_ and (entry.prefer is Prefer.CHEAPEST or any(one in before for one in locals_)):
        if any(one.name not in why for one in locals_):
            is_busy = any(one.choice.busy and not one.choice.late for one in ranked)
            return RouteReason.BUSY if is_busy else RouteReason.DEADLINE
        lacks = any(why[one.name] in INCAPABLE for one in locals_)
        return RouteReason.CAPABILITY if lacks else RouteReason.FALLBACK
    if any(one.name not in why for one in before):
        return RouteReason.CHEAPER
    if before:
        lacks = any(why[one.name] in INCAPABLE for one in before)
        return RouteReason.CAPABILITY if lacks else RouteReason.FALLBACK
    return RouteReason.ASKED


def refusal(passed: list[PassedOver]) -> RouteReason:
    """Return the reason of the refusal where no candidate is left."""
    whys = {one.why for one in passed}
    if Unfit.PRIVATE in whys:
        return RouteReason.PRIVATE_REFUSED
    if Unfit.BUDGET in whys:
        return RouteReason.BUDGET_REFUSED
    if whys & INCAPABLE and whys <= INCAPABLE | {Unfit.PRIORITY}:
        return RouteReason.TOO_LONG if Unfit.CONTEXT in whys else RouteReason.INCAPABLE
    return RouteReason.UNAVAILABLE
