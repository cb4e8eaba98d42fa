"""What is likely to be asked for next, and which models are spoken for, learned online from sessions: pure, bounded.

Expected arrivals of a model = sum over the sessions that are away of P(back within the horizon | away so long) x
P(that model | its last one) + base rate of new sessions, + warm leases, + explicit hints ("model X in about n
seconds"). Which model comes next is told by last-model to next-model counts, the session's own and everybody's.

A model is *spoken for* until the usual gap of those that used it last is over (``habits``): until then nothing but a
use may move it.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from math import exp

from broker.core.lease import ModelName
from broker.policy.habits import AWAY_S, FORGET_S, PRIOR_GONE_KNOWN, PRIOR_GONE_NEW, Gaps, HabitsOfKind

HORIZON_S = 60.0
EVERYBODYS = 2.0
"""What all sessions do weighs as much as this many steps of the session's own."""
MOST_STEPS = 16
"""How many distinct steps are remembered per session."""
MOST_MODELS = 8
"""How many models are remembered per session."""
TURN_S = 1.0
"""Who asks again sooner is still in the same turn: a sub-agent of it, or its next step."""
MOST_TURNS = 8
"""How many turns are remembered per session."""
RATE_TAU_S = 7200.0
"""Time constant of the base rate of new sessions, seconds: older ones fade."""
SAME_MODEL_PRIOR = 3.0
"""A model follows itself as if it had done so this often already (0.72 of the time in GenTD26)."""
NEVER_S = float("-inf")
REFRESH_S = 1.0
"""Expectations move over tens of seconds; they are worked out afresh at most this often."""
WARM_ARRIVALS = 0.5
"""One warm lease counts as this many expected arrivals: it is a promise, not a request."""


@dataclass(slots=True)
class _Use:
    """How one session uses one model."""

    open: int = 0
    """How many leases were asked for and have not ended."""
    ended_s: float = NEVER_S
    gaps: Gaps = field(default_factory=Gaps)


@dataclass(slots=True)
class _Session:
    last_model: ModelName
    quiet_since_s: float
    open: int = 0
    """How many leases were asked for and have not ended."""
    own: dict[tuple[ModelName, ModelName], float] = field(default_factory=dict)
    """Its own last-model to next-model counts: an agent goes back to its main model, whatever others do."""
    gaps: Gaps = field(default_factory=Gaps)
    """The pauses between its turns, whatever the model."""
    uses: dict[ModelName, _Use] = field(default_factory=dict)
    """Its models; the least recently used one comes first."""
    began: list[ModelName] = field(default_factory=list)
    """The models with which its last turns began."""
    is_fresh: bool = True
    """The session has asked only once so far."""
    step: tuple[ModelName, ModelName] | None = None
    """The step as which its latest arrival was counted; None: it was not."""
    left: bool = False
    """It left the queue unserved and has not asked since."""


@dataclass(slots=True)
class _Rate:
    """An exponentially decaying count."""

    count: float = 0.0
    at_s: float = 0.0

    def add(self, at_s: float, number: float = 1.0) -> None:
        self.count = max(0.0, self.value(at_s) + number)
        self.at_s = at_s

    def value(self, now_s: float) -> float:
        return self.count * exp(-max(0.0, now_s - self.at_s) / RATE_TAU_S)


@dataclass(slots=True)
class Activity:
    """Learns from sessions. ``max_sessions`` bounds its memory; the least recently active one is forgotten first."""

    max_sessions: int = 4096
    horizon_s: float = HORIZON_S
    away_s: float = AWAY_S
    """After this long away, seconds, a session counts as gone if no habit of it is known."""
    _sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)
    _kinds: dict[tuple[ModelName, bool], HabitsOfKind] = field(default_factory=dict)
    """Habits by the last model, and whether the session has come back before."""
    _next: dict[ModelName, dict[ModelName, float]] = field(default_factory=dict)
    _fresh: dict[ModelName, _Rate] = field(default_factory=dict)
    """Arrivals of new sessions, per first model."""
    _began_s: float | None = None
    _warm: dict[ModelName, int] = field(default_factory=dict)
    _hints: dict[tuple[str, ModelName], float] = field(default_factory=dict)
    _spoken_for: dict[ModelName, dict[str, float]] = field(default_factory=dict)
    """For each model, the store time until which each session is expected back on it."""
    _cached_at_s: float = NEVER_S
    _cached: dict[ModelName, float] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------------- what happens
    def observe_arrival(self, session: str, model: ModelName, at_s: float) -> None:
        """Note that a session asked for a model."""
        self._touch(at_s)
        self._hints.pop((session, model), None)
        known = self._sessions.get(session)
        if known is None or (known.open == 0 and at_s - known.quiet_since_s > FORGET_S):
            self._fresh.setdefault(model, _Rate()).add(at_s)
            known = self._sessions[session] = _Session(model, at_s)
            known.began.append(model)
        else:
            known.is_fresh, known.step = False, None
            if known.open == 0:
                self._count_return(known, model, at_s - known.quiet_since_s)
        known.open += 1
        known.left = False
        known.last_model, known.quiet_since_s = model, at_s
        self._sessions.move_to_end(session)
        self._begin_use(session, known, model, at_s)
        while len(self._sessions) > self.max_sessions:
            self._sessions.popitem(last=False)

    def observe_end(self, session: str, model: ModelName, at_s: float) -> None:
        """Note that a lease of a session ended; it may have begun before anybody listened."""
        self._touch(at_s)
        known = self._sessions.get(session)
        if known is None:
            known = self._sessions[session] = _Session(model, at_s)
        known.open = max(0, known.open - 1)
        known.last_model, known.quiet_since_s = model, at_s
        self._sessions.move_to_end(session)
        use = known.uses.get(model)
        if use is None:
            use = known.uses[model] = _Use()
        use.open, use.ended_s = max(0, use.open - 1), at_s
        if use.open == 0:
            comes_back_to_it = model in known.began or not known.began
            self._speak_for(session, model, at_s + use.gaps.usual_s(self.away_s) if comes_back_to_it else at_s)

    def observe_leave(self, session: str, model: ModelName, at_s: float) -> None:
        """Note that a ticket ended unserved: who left the queue has used nothing, and is not expected back."""
        self._touch(at_s)
        known = self._sessions.get(session)
        if known is None:
            return
        known.open = max(0, known.open - 1)
        use = known.uses.get(model)
        if use is not None:
            use.open = max(0, use.open - 1)
            if use.open == 0:
                self._spoken_for.get(model, {}).pop(session, None)
        known.left = known.open == 0
        self._unlearn(known, model, at_s)

    def observe_warm(self, model: ModelName, leases: int) -> None:
        """Note how many warm leases there are on a model now."""
        if self._warm.get(model, 0) != leases:
            self._cached_at_s = NEVER_S
            self._warm[model] = leases

    def observe_hint(self, session: str, model: ModelName, due_s: float) -> None:
        """Note that a session says that it will ask for a model around a moment."""
        self._cached_at_s = NEVER_S
        if len(self._hints) < self.max_sessions:
            self._hints[session, model] = due_s

    # ---------------------------------------------------------------------------------------------- what was learned
    def expected(self, model: ModelName, now_s: float) -> float:
        """Return how many arrivals of a model to expect within the horizon."""
        return self.all_expected(now_s).get(model, 0.0)

    def all_expected(self, now_s: float) -> dict[ModelName, float]:
        """Return the same for every model that was ever seen; up to a second old."""
        if not 0.0 <= now_s - self._cached_at_s < REFRESH_S:
            self._cached = self._work_out(now_s)
            self._cached_at_s = now_s
        return self._cached

    def spoken_for_until_s(self, model: ModelName, now_s: float) -> float | None:
        """Return when the usual gap of those that used a model last is over; ``None``: nobody is known to have."""
        sessions = self._spoken_for.get(model)
        if not sessions:
            return None
        until_s = max(sessions.values())
        if until_s > now_s and len(sessions) > 1:
            self._spoken_for[model] = {session: end_s for session, end_s in sessions.items() if end_s > now_s}
        elif len(sessions) > 1:
            self._spoken_for[model] = {"": until_s}
        return until_s

    # --------------------------------------------------------------------------------------------------------- parts
    def _touch(self, at_s: float) -> None:
        if self._began_s is None:
            self._began_s = at_s

    def _begin_use(self, session: str, known: _Session, model: ModelName, at_s: float) -> None:
        use = known.uses.pop(model, None) or _Use()
        known.uses[model] = use
        if use.open == 0 and at_s - use.ended_s <= FORGET_S:
            use.gaps.add(at_s - use.ended_s)
        use.open += 1
        while len(known.uses) > MOST_MODELS:
            del known.uses[next(iter(known.uses))]
        self._speak_for(session, model, at_s + FORGET_S)  # until its end is seen

    def _speak_for(self, session: str, model: ModelName, until_s: float) -> None:
        sessions = self._spoken_for.setdefault(model, {})
        sessions[session] = until_s
        if len(sessions) > self.max_sessions:
            del sessions[min(sessions, key=sessions.__getitem__)]

    def _kind(self, session: _Session) -> HabitsOfKind:
        known = bool(session.gaps.seconds)
        kind = self._kinds.get((session.last_model, known))
        if kind is None:
            kind = self._kinds[session.last_model, known] = HabitsOfKind(PRIOR_GONE_KNOWN if known else PRIOR_GONE_NEW)
        return kind

    def _count_return(self, session: _Session, model: ModelName, gap_s: float) -> None:
        self._kind(session).add(gap_s)
        session.gaps.add(gap_s)
        if gap_s < TURN_S:
            return
        session.began.append(model)
        del session.began[:-MOST_TURNS]
        row = self._next.setdefault(session.last_model, {})
        row[model] = row.get(model, 0.0) + 1.0
        session.step = step = (session.last_model, model)
        if step in session.own or len(session.own) < MOST_STEPS:
            session.own[step] = session.own.get(step, 0.0) + 1.0

    def _unlearn(self, session: _Session, model: ModelName, at_s: float) -> None:
        """Take back what the latest arrival was counted as."""
        if session.is_fresh:
            if model in self._fresh:
                self._fresh[model].add(at_s, -1.0)
        elif session.step is not None and session.step[1] == model:
            last, _ = session.step
            self._next[last][model] = max(0.0, self._next[last][model] - 1.0)
            if session.step in session.own:
                session.own[session.step] = max(0.0, session.own[session.step] - 1.0)
            session.last_model, session.step = last, None

    def _work_out(self, now_s: float) -> dict[ModelName, float]:
        self._forget(now_s)
        found: dict[ModelName, float] = {}
        rows = {last: self._row(last) for last in self._next}
        for session in self._sessions.values():
            if not session.open and not session.left:
                away_s = now_s - session.quiet_since_s
                chance = session.gaps.chance(away_s, self.horizon_s, self._kind(session))
                self._share_out(found, session, rows, chance)
        self._add_base(found, now_s)
        return found

    def _row(self, last: ModelName) -> dict[ModelName, float]:
        """Return P(next model | last one) over all sessions."""
        row = self._next[last]
        total = sum(row.values()) + SAME_MODEL_PRIOR
        shares = {model: count / total for model, count in row.items()}
        shares[last] = shares.get(last, 0.0) + SAME_MODEL_PRIOR / total
        return shares

    def _share_out(
        self, found: dict[ModelName, float], session: _Session, rows: dict[ModelName, dict[ModelName, float]], p: float
    ) -> None:
        last = session.last_model
        steps = [(model, count) for (before, model), count in session.own.items() if before == last]
        known = sum(count for _, count in steps) + EVERYBODYS
        for model, count in steps:
            found[model] = found.get(model, 0.0) + p * count / known
        for model, share in rows.get(last, {last: 1.0}).items():
            found[model] = found.get(model, 0.0) + p * share * EVERYBODYS / known

    def _add_base(self, found: dict[ModelName, float], now_s: float) -> None:
        began_s = now_s if self._began_s is None else self._began_s
        seen_s = max(600.0, now_s - began_s)
        window_s = RATE_TAU_S * (1.0 - exp(-seen_s / RATE_TAU_S))
        for model, rate in self._fresh.items():
            found[model] = found.get(model, 0.0) + rate.value(now_s) * self.horizon_s / window_s
        for model, leases in self._warm.items():
            found[model] = found.get(model, 0.0) + WARM_ARRIVALS * leases
        for (_, model), due_s in self._hints.items():
            if due_s - self.horizon_s <= now_s <= due_s + self.horizon_s:
                found[model] = found.get(model, 0.0) + 1.0

    def _forget(self, now_s: float) -> None:
        """Sessions away for too long count as gone; hints run out."""
        while self._sessions:
            key, oldest = next(iter(self._sessions.items()))
            if now_s - oldest.quiet_since_s <= FORGET_S:
                break
            if oldest.open:  # a lease that is held for hours is activity
                oldest.quiet_since_s = now_s
                self._sessions.move_to_end(key)
                continue
            del self._sessions[key]
            self._kind(oldest).lose()
        for hint in [hint for hint, due_s in self._hints.items() if due_s + self.horizon_s < now_s]:
            del self._hints[hint]
