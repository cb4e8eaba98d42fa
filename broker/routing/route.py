"""Where is a request served: the one decision, numbered.

1. The name: a model, a family of variants, a model of an upstream, or an alias, or the form of a name; resolved to
   candidates in order, by the first of its rules that holds for a request of this nature.
2. Privacy. A private request loses every candidate that leads out of the house, before anything else is looked at.
3. Capability: what a candidate cannot answer is passed over.
4. State: models no slot can serve, upstreams whose breaker is open or whose price the budget does not hold.
5. Wait, ride warm, or go out: of what meets the deadline the cheapest, a local one among equals, then the order
   written; a name that prefers ``listed`` takes the order written at once, one that prefers ``fastest`` whose answer is
   expected to be whole first. While an upstream is in time, local ones that are busy come after all that are in time:
   others use their device, or their line is longer than it may be. What misses the deadline comes last: local first,
   the soonest first.
6. Nothing left: refused, with the reason that the caller can do most about.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from broker.routing.capability import Unfit, reply_room, unable
from broker.routing.catalogue import CandidateModel, Cloud, Entry, Local, NameTable, Prefer, Prices, leads_out
from broker.routing.decision import Choice, PassedOver, RouteDecision, RouteReason
from broker.routing.privacy.firewall import Firewall, PrivacyCause
from broker.routing.reasons import Ranked, reason_of, refusal
from broker.routing.request.nature import nature_of
from broker.routing.request.request import Described
from broker.routing.speeds import Speed
from broker.routing.variants import ModelState, asked_for, pick

TYPICAL_TOKENS = 256
"""Length of a reply by which candidates are compared, tokens; shorter where the request wants fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteState:
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
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    """What is known of how fast candidates answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The tables of the configuration; no state."""

    table: NameTable
    firewall: Firewall

    def route(self, request: Described, state: RouteState) -> RouteDecision:
        """Decide. The content is read only if a rule needs it."""
        # 1.
        entry = self.table.find(request.name)
        if entry is None:
            return RouteDecision(reason=RouteReason.UNKNOWN_MODEL)
        if entry.branches:
            entry = entry.meant(nature_of(request, entry.task))
        # 2.
        because: PrivacyCause | None = None
        if self.table.has_cloud:
            because = self.firewall.because(request, session_private=state.session_private, name_private=entry.private)
        deadline_s = entry.deadline_s if request.deadline_s is None else request.deadline_s
        ranked: list[Ranked] = []
        passed: list[PassedOver] = []
        for index, one in enumerate(entry.candidates):
            found = _seen(one, request, state, deadline_s, because)
            if isinstance(found, Unfit):
                passed.append(PassedOver(name=one.name, why=found))
            else:
                ranked.append(Ranked(*found, index))
        # 5.
        ranked = _in_order(entry, [_judged(one, entry, request, state) for one in ranked])
        # 6.
        return RouteDecision(
            reason=reason_of(entry, ranked, passed) if ranked else refusal(passed),
            choices=tuple(one.choice for one in ranked),
            private=because,
            deadline_s=deadline_s,
            busy_wait_s=entry.busy_wait_s if any(one.choice.upstream for one in ranked) else None,
            rule=entry.rule,
            passed_over=tuple(passed),
        )


def _seen(
    one: CandidateModel, request: Described, state: RouteState, deadline_s: float | None, because: PrivacyCause | None
) -> Unfit | tuple[Choice, bool]:
    """A candidate as a choice (and whether it is ready), or why it is none."""
    if because and leads_out(one):
        return Unfit.PRIVATE
    if isinstance(one, Cloud):
        return _at_upstream(one, request, state, deadline_s)
    return _in_pool(one, request, state, deadline_s)


def _in_pool(
    one: Local, request: Described, state: RouteState, deadline_s: float | None
) -> Unfit | tuple[Choice, bool]:
    # 3.
    if why := unable(one, request):
        return why
    variants = asked_for(one, request.quantisations)
    if not variants:
        return Unfit.QUANTISATION
    # 4.
    best = pick(variants, state.models, state.free_mib, deadline_s)
    if best is None:
        return Unfit.DOWN
    late = not best.meets(deadline_s)
    choice = Choice(
        model=best.variant.name, wait_s=best.state.wait_s, late=late, busy=best.state.busy, parameters=one.parameters
    )
    return choice, best.state.ready


def _at_upstream(
    one: Cloud, request: Described, state: RouteState, deadline_s: float | None
) -> Unfit | tuple[Choice, bool]:
    # 3.
    if why := unable(one, request):
        return why
    # 4.
    if one.upstream in state.open_breakers:
        return Unfit.BREAKER
    content = request.content.read()
    room = reply_room(content, request.kind, one)
    prices = one.prices or Prices()
    reserve_micro = prices.cost_micro(prompt_tokens=content.prompt_tokens, reply_tokens=room)
    if state.allowance_micro is not None and (one.prices is None or reserve_micro > max(0, state.allowance_micro)):
        return Unfit.BUDGET
    choice = Choice(
        model=one.name,
        upstream=one.upstream,
        remote_name=one.remote_name,
        wait_s=one.first_byte_s,
        reserve_micro=reserve_micro,
        is_priced=one.prices is not None,
        reply_micro=prices.cost_micro(prompt_tokens=0, reply_tokens=room),
        late=deadline_s is not None and one.first_byte_s > deadline_s,
        inside=one.inside,
        parameters=one.parameters,
    )
    return choice, True


def _judged(one: Ranked, entry: Entry, request: Described, state: RouteState) -> Ranked:
    """Add what else the name wants to know: whether its queue is too long, and how long the answer will take."""
    choice, limit_s = one.choice, entry.busy_wait_s
    if limit_s is not None and choice.upstream is None and (choice.wait_s is None or choice.wait_s > limit_s):
        choice = replace(choice, busy=True)
    if entry.prefer is Prefer.FASTEST:
        choice = replace(choice, takes_s=_takes_s(choice, request, state))
    return replace(one, choice=choice)


def _takes_s(choice: Choice, request: Described, state: RouteState) -> float | None:
    """Return the seconds until the answer is whole: the queue, the first token, and a reply of the usual length."""
    if choice.wait_s is None:
        return None
    wanted = request.content.read().reply_tokens
    tokens = TYPICAL_TOKENS if wanted is None else min(wanted, TYPICAL_TOKENS)
    speed = state.speeds.get(choice.model)
    if choice.upstream is None:
        return choice.wait_s + (0.0 if speed is None else speed.takes_s(tokens))
    if speed is None:
        return choice.wait_s
    return speed.takes_s(tokens) + (choice.wait_s if speed.first_s is None else 0.0)


def _in_order(entry: Entry, ranked: list[Ranked]) -> list[Ranked]:
    """1. In time. 2. Busy, where an upstream is in time. 3. Late."""
    goes_out = any(one.choice.upstream is not None and not one.choice.late for one in ranked)
    by = _BY[entry.prefer]

    def key(one: Ranked) -> tuple[float, ...]:
        if one.choice.late:
            return 2, *_of_late(one)
        return (1 if one.choice.busy and goes_out else 0), *by(one)

    return sorted(ranked, key=key)


def _of_late(one: Ranked) -> tuple[float, ...]:
    choice = one.choice
    wait_s = math.inf if choice.wait_s is None else choice.wait_s
    return float(choice.upstream is not None), wait_s, choice.reserve_micro, one.index


def _by_cost(one: Ranked) -> tuple[float, ...]:
    choice = one.choice
    return float(not choice.is_priced), choice.reserve_micro, float(choice.upstream is not None), one.index


def _by_list(one: Ranked) -> tuple[float, ...]:
    return (one.index,)


def _by_speed(one: Ranked) -> tuple[float, ...]:
    return math.inf if one.choice.takes_s is None else one.choice.takes_s, *_by_cost(one)


_BY: Mapping[Prefer, Callable[[Ranked], tuple[float, ...]]] = {
    Prefer.CHEAPEST: _by_cost,
    Prefer.LISTED: _by_list,
    Prefer.FASTEST: _by_speed,
}
