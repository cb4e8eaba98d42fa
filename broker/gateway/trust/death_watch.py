"""Notices that a model's server has died or broken off at work, with what was in flight, and what is refused for it.

Rule: the worker's word comes by the event stream, up to a second late; an answer that breaks off once it has begun says
so at once, and is believed when nothing else explains it within ``confirm_s`` (a lease that was taken away, a slot that
is gone); one that was never begun is a sign that only the worker's word makes sure. What comes together is one death.
Rules and values are in ``broker.gateway.trust.deaths``; a restart forgets it.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from broker.accounting.answers import AnswerAccounts
from broker.core.lease import LeaseId, LeaseRecord, ModelName, SlotId
from broker.gateway.trust.deaths import (
    MAX_SUSPECTS,
    Banned,
    Death,
    DeathRules,
    Mortality,
    Suspect,
    banned,
    died,
    is_the_models_own,
    survived,
    told,
    told_of_deaths,
)
from broker.gateway.trust.flights import Flights
from broker.gateway.trust.reputations import MAX_RETRY_AFTER_S, Reputations
from broker.gateway.trust.testimony import RequestSource
from broker.protocol.error_bodies import ClientError
from broker.store.port import Event

log = logging.getLogger("hotseat.gateway")

DIED = "server_died"
"""The worker's word for a server's death, in the events of leases and of the residency."""
_GONE = frozenset({"offline", "recovered", "registered"})
"""Events of a slot that explain connections that broke off."""
LATE_S = 60.0
"""How long the worker's word about a server that was believed dead may take, seconds; a later one is about another
death."""
_NEW = Mortality()


@dataclass(frozen=True, slots=True)
class WatchedServer:
    """One model server: one load of a model on a slot, known by the generation of its orders."""

    slot: SlotId
    model: ModelName
    generation: int


@dataclass(slots=True)
class _Sign:
    """What points to a death at one server, and is not yet believed."""

    since_s: float
    is_sure: bool = False
    """The death is to be believed though the worker says nothing."""
    suspects: dict[LeaseId, Suspect] = field(default_factory=dict)


class DeathWatch:
    """The deaths that one broker process knows of; seconds are loop time."""

    def __init__(
        self, rules: DeathRules, reputations: Reputations, accounts: AnswerAccounts, *, confirm_s: float
    ) -> None:
        self._rules = rules
        self._reputations = reputations
        self._accounts = accounts
        self._confirm_s = confirm_s
        self._known: dict[ModelName, Mortality] = {}
        self._signs: dict[WatchedServer, _Sign] = {}
        self.flights = Flights()

    # ------------------------------------------------------------------------------------------------- what happens
    def note(self, event: Event, now_s: float) -> None:
        """Take in one event of the store's stream."""
        if event.kind not in {"ended", "unloading"} and event.kind not in _GONE:
            return
        fields = event.fields
        slot, why = SlotId(fields.get("slot", "")), fields.get("why", "")
        server = WatchedServer(slot, ModelName(fields.get("model", "")), int(fields.get("gen", "0")))
        if event.kind == "unloading" and why.startswith(DIED):
            self._believe(server, now_s, by_worker=True)
        elif event.kind == "ended":
            self._ended(event, server, why, now_s)
        elif event.kind in _GONE:
            for sign in [sign for sign in self._signs if sign.slot == slot]:
                del self._signs[sign]

    def _ended(self, event: Event, server: WatchedServer, why: str, now_s: float) -> None:
        """Note that a lease ended: with the death of its server, or for another reason, which explains a break."""
        lease = LeaseId(event.fields.get("lease", ""))
        if DIED in why:
            flight = self.flights.of(lease)
            unknown = RequestSource(party=f"?{event.fields.get('sh', '')}", session="")
            suspect = Suspect(source=unknown, request="") if flight is None else flight.who.suspect()
            self._sign(server, now_s).suspects.setdefault(lease, suspect)
        elif server in self._signs and not why.startswith("released"):
            sign = self._signs[server]
            sign.suspects.pop(lease, None)
            if not sign.suspects:
                del self._signs[server]

    def broke_off(self, lease: LeaseRecord, suspect: Suspect, now_s: float, *, begun: bool) -> None:
        """Note that an answer broke off while its lease is good; ``begun``: something of it was there."""
        self.settle(now_s)
        if lease.slot is not None:
            server = WatchedServer(lease.slot, lease.model, lease.generation)
            sign = self._sign(server, now_s)
            sign.suspects[lease.lease_id] = suspect
            sign.is_sure = sign.is_sure or begun

    def survived(self, model: ModelName, size: int, one: Callable[[], Suspect]) -> None:
        """Note that a request was answered; ``size`` is its body's, bytes."""
        known = self._known.get(model, _NEW)
        after = survived(known, size, one)
        if after is not known:
            self._known[model] = after
            if len(after.bans) < len(known.bans):
                self._tell_bans(model, after)

    def settle(self, now_s: float) -> None:
        """Believe the signs that nothing else has explained in time."""
        if self._signs:
            for server, sign in list(self._signs.items()):
                if sign.is_sure and now_s - sign.since_s >= self._confirm_s:
                    self._believe(server, now_s, by_worker=False)
                elif now_s - sign.since_s >= LATE_S:
                    del self._signs[server]

    def heal(self) -> None:
        """Forget all deaths and bans: the operator says that all is mended."""
        for model, known in list(self._known.items()):
            self._known[model] = Mortality(longest=known.longest)
            self._tell_bans(model, self._known[model])
        self._signs.clear()

    # ------------------------------------------------------------------------------------------------ what is known
    def of(self, model: ModelName, now_s: float) -> Mortality:
        """Return what is known about a model's server."""
        self.settle(now_s)
        return self._known.get(model, _NEW)

    def words(self, model: ModelName, now_s: float) -> str:
        """Tell people what the model's server died of; empty: it has not died."""
        return told(self.of(model, now_s), now_s, self._rules)

    def deaths(self, model: ModelName, now_s: float) -> tuple[Death, ...]:
        """Return the deaths of a model's server that are remembered."""
        return self.of(model, now_s).recent(now_s, self._rules)

    def bans(self, model: ModelName, now_s: float) -> tuple[Banned, ...]:
        """Return the kinds of requests that the model is refused now."""
        return self.of(model, now_s).held(now_s)

    def refusal(self, model: ModelName, one: Callable[[], Suspect], now_s: float) -> ClientError | None:
        """Return the error for a request that is not sent to a model; None: it may be sent."""
        self.settle(now_s)
        known = self._known.get(model)
        if known is None or not known.bans:
            return None
        after, ban = banned(known, one, now_s)
        self._known[model] = after
        if ban is None:
            return None
        wait_s = max(1, math.ceil(ban.until_s - now_s))
        died_of = told_of_deaths(after, now_s, self._rules)
        message = (
            f"{model} is quarantined for {ban.culprit.words()}: {died_of}, and they were there each time. "
            f"They are tried again in {wait_s} s; ask for less, for another model, or an operator to heal it"
        )
        retry_s = min(MAX_RETRY_AFTER_S, wait_s)
        return ClientError(code="model_quarantined", message=message, retry_after_s=retry_s)

    # ------------------------------------------------------------------------------------------------------- inside
    def _sign(self, server: WatchedServer, now_s: float) -> _Sign:
        return self._signs.setdefault(server, _Sign(since_s=now_s))

    def _believe(self, server: WatchedServer, now_s: float, *, by_worker: bool) -> None:
        """Believe that a server has died, under the requests that are there and those that broke off just now."""
        sign = self._signs.pop(server, None)
        suspects = {} if sign is None else dict(sign.suspects)
        for flight in self.flights.on(server.slot, server.model):
            if flight.lease.generation == server.generation:
                suspects.setdefault(flight.lease.lease_id, flight.who.suspect())
        some = tuple(suspects.values())[:MAX_SUSPECTS]
        model, known = server.model, self._known.get(server.model, _NEW)
        last = known.deaths[-1] if known.deaths else None
        if last is not None and self._is_same(last, server, now_s, by_worker=by_worker):
            together = (*last.suspects, *some)[:MAX_SUSPECTS]
            merged = replace(last, suspects=together, final=last.final or by_worker)
            self._known[model] = replace(known, deaths=(*known.deaths[:-1], merged))
            return
        death = Death(at_s=now_s, slot=server.slot, generation=server.generation, final=by_worker, suspects=some)
        self._known[model] = after = died(known, death, self._rules)
        self._tell(model, death, known, after)
        self._consequences(model, after, now_s)

    def _is_same(self, last: Death, server: WatchedServer, now_s: float, *, by_worker: bool) -> bool:
        """Tell whether it is the death that is known already."""
        if (last.slot, last.generation) != (server.slot, server.generation):
            return False
        return last.final or now_s - last.at_s < (LATE_S if by_worker else self._confirm_s)

    def _tell(self, model: ModelName, death: Death, before: Mortality, after: Mortality) -> None:
        self._accounts.died(model)
        self._tell_bans(model, after)
        sizes = [one.traits.size for one in death.suspects if one.traits]
        what = {
            "model": model,
            "slot": death.slot,
            "in_flight": len(death.suspects),
            "largest_bytes": max(sizes, default=0),
        }
        log.warning("server_died", extra=what | {"deaths": len(after.recent(death.at_s, self._rules))})
        for ban in after.held(death.at_s):
            if ban not in before.bans:
                extra = {"model": model, "kind": ban.culprit.common, "words": ban.culprit.words(), "times": ban.times}
                log.warning("requests_banned", extra=extra)

    def _consequences(self, model: ModelName, known: Mortality, now_s: float) -> None:
        """Condemn the model if the deaths are its own doing; else have it tested if there is reason to."""
        if is_the_models_own(known, now_s, self._rules):
            self._reputations.condemned(model, told(known, now_s, self._rules), now_s)
        elif len(known.recent(now_s, self._rules)) >= self._rules.deaths_at:
            self._reputations.alarmed(model, now_s)

    def _tell_bans(self, model: ModelName, known: Mortality) -> None:
        self._accounts.banned(model, len(known.bans))
