"""Where is a request served: the one decision, numbered.

1. The name: a model, a family of variants, a model of an upstream, or an alias; resolved to candidates in order.
2. Privacy. A private request loses every candidate that leads out of the house, before anything else is looked at.
3. Capability: what a candidate cannot answer is passed over.
4. State: models no slot can serve, upstreams whose breaker is open or whose price the budget does not hold.
5. Wait, ride warm, or go out: of what meets the deadline the cheapest, a local one among equals, then the order
   written; a name that prefers ``listed`` takes the order written at once. What misses it comes last: local first, the
   soonest first.
6. Nothing left: refused, with the reason that the caller can do most about.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.routing.capability import INCAPABLE, Why, reply_room, unable
from broker.routing.catalogue import Candidate, Cloud, Entry, Local, Prefer, Table, leads_out
from broker.routing.decision import Choice, Decision, PassedOver, Reason, Route
from broker.routing.privacy import Cause, Firewall
from broker.routing.request import Described
from broker.routing.variants import ModelState, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What may be looked at beside the request, as it is now."""

    models: Mapping[str, ModelState] = field(default_factory=dict)
    """The pool's models that some slot can serve."""
    free_mib: int = 0
    """The largest piece of memory on one slot that is free or held by idle models only."""
    open_breakers: frozenset[str] = frozenset()
    """Upstreams that are not to be called now."""
    allowance_micro: int | None = None
    """What the key may still spend, micro-units; None: no limit."""
    session_private: bool = False


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A choice with its place in the order written."""

    choice: Choice
    index: int
    ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The tables of the configuration; no state."""

    table: Table
    firewall: Firewall

    def route(self, request: Described, state: State) -> Decision:
        """Decide. The content is read only if a rule needs it."""
        # 1.
        entry = self.table.entries.get(request.name)
        if entry is None:
            return Decision(reason=Reason.UNKNOWN_MODEL)
        # 2.
        because: Cause | None = None
        if self.table.has_cloud:
            because = self.firewall.because(request, session_private=state.session_private, name_private=entry.private)
        deadline_s = entry.deadline_s if request.deadline_s is None else request.deadline_s
        ranked: list[_Ranked] = []
        passed: list[PassedOver] = []
        for index, one in enumerate(entry.candidates):
            found = _seen(one, request, state, deadline_s, because)
            if isinstance(found, Why):
                passed.append(PassedOver(name=one.name, why=found))
            else:
                choice, ready = found
                ranked.append(_Ranked(choice, index, ready))
        # 5.
        ranked.sort(key=_by_cost if entry.prefer is Prefer.CHEAPEST else _by_list)
        # 6.
        return Decision(
            reason=_reason(entry, ranked, passed) if ranked else _refusal(passed),
            choices=tuple(one.choice for one in ranked),
            private=because,
            passed_over=tuple(passed),
        )


def _seen(
    one: Candidate, request: Described, state: State, deadline_s: float | None, because: Cause | None
) -> Why | tuple[Choice, bool]:
    """A candidate as a choice (and whether it is ready), or why it is none."""
    if because and leads_out(one):
        return Why.PRIVATE
    if isinstance(one, Cloud):
        return _at_upstream(one, request, state, deadline_s)
    return _in_pool(one, request, state, deadline_s)


def _in_pool(one: Local, request: Described, state: State, deadline_s: float | None) -> Why | tuple[Choice, bool]:
    # 3.
    if why := unable(one, request):
        return why
    # 4.
    best = pick(one, state.models, state.free_mib, deadline_s)
    if best is None:
        return Why.DOWN
    choice = Choice(model=best.variant.name, wait_s=best.state.wait_s, late=not best.meets(deadline_s))
    return choice, best.state.ready


def _at_upstream(one: Cloud, request: Described, state: State, deadline_s: float | None) -> Why | tuple[Choice, bool]:
    # 3.
    if why := unable(one, request):
        return why
    # 4.
    if one.upstream in state.open_breakers:
        return Why.BREAKER
    content = request.content.read()
    room = reply_room(content, request.kind, one.reply_tokens)
    reserve_micro = one.prices.cost_micro(prompt_tokens=content.prompt_tokens, reply_tokens=room)
    if state.allowance_micro is not None and reserve_micro > max(0, state.allowance_micro):
        return Why.BUDGET
    choice = Choice(
        model=one.name,
        upstream=one.upstream,
        remote_name=one.remote_name,
        wait_s=one.first_byte_s,
        reserve_micro=reserve_micro,
        late=deadline_s is not None and one.first_byte_s > deadline_s,
        inside=one.inside,
    )
    return choice, True


def _by_cost(one: _Ranked) -> tuple[float, ...]:
    choice = one.choice
    away = float(choice.upstream is not None)
    if choice.late:
        return 1, away, math.inf if choice.wait_s is None else choice.wait_s, choice.reserve_micro, one.index
    return 0, choice.reserve_micro, away, one.index


def _by_list(one: _Ranked) -> tuple[float, ...]:
    return (0, one.index) if not one.choice.late else _by_cost(one)


def _reason(entry: Entry, ranked: list[_Ranked], passed: list[PassedOver]) -> Reason:
    """The word for the first choice."""
    first = ranked[0]
    why = {one.name: one.why for one in passed}
    if Why.PRIVATE in why.values():
        return Reason.PRIVATE
    if first.choice.route is not Route.LOCAL:
        return _reason_for_upstream(entry, ranked, why)
    if first.choice.late:
        return Reason.BUDGET if Why.BUDGET in why.values() else Reason.LATE
    if replaced := _reason_to_replace(entry.candidates[: first.index], why, ready=first.ready):
        return replaced
    one = entry.candidates[first.index]
    if isinstance(one, Local) and first.choice.model != one.variants[0].name:
        return Reason.VARIANT
    return Reason.WARM if first.ready and first.choice.wait_s == 0 else Reason.QUEUED


def _reason_to_replace(before: tuple[Candidate, ...], why: Mapping[str, Why], *, ready: bool) -> Reason | None:
    """Why a local model serves though others are written before it; None: the others cost more, which says nothing."""
    if any(isinstance(one, Local) and one.name not in why for one in before):
        return Reason.RIDE_WARM if ready else Reason.SOONER
    whys = {why[one.name] for one in before if one.name in why}
    if whys & INCAPABLE:
        return Reason.CAPABILITY
    if Why.BUDGET in whys:
        return Reason.BUDGET
    return Reason.FALLBACK if whys else None


def _reason_for_upstream(entry: Entry, ranked: list[_Ranked], why: Mapping[str, Why]) -> Reason:
    first = ranked[0]
    if first.choice.late:
        return Reason.LATE
    locals_ = [one for one in entry.candidates if isinstance(one, Local)]
    before = entry.candidates[: first.index]
    if locals_ and (entry.prefer is Prefer.CHEAPEST or any(one in before for one in locals_)):
        if any(one.name not in why for one in locals_):
            return Reason.DEADLINE
        lacks = any(why[one.name] in INCAPABLE for one in locals_)
        return Reason.CAPABILITY if lacks else Reason.FALLBACK
    if any(one.name not in why for one in before):
        return Reason.CHEAPER
    if before:
        lacks = any(why[one.name] in INCAPABLE for one in before)
        return Reason.CAPABILITY if lacks else Reason.FALLBACK
    return Reason.ASKED


def _refusal(passed: list[PassedOver]) -> Reason:
    whys = {one.why for one in passed}
    if Why.PRIVATE in whys:
        return Reason.PRIVATE_REFUSED
    if Why.BUDGET in whys:
        return Reason.BUDGET_REFUSED
    if whys & INCAPABLE and whys <= INCAPABLE | {Why.PRIORITY}:
        return Reason.TOO_LONG if Why.CONTEXT in whys else Reason.INCAPABLE
    return Reason.UNAVAILABLE
