"""What is likely to be asked for next, learned online from sessions: pure, bounded, no clock.

A session's gap (end of a lease to its next arrival) is counted in 18 logarithmic bins up to half an hour; which model
comes next is told by last-model to next-model counts, the session's own and everybody's; sessions that begin come at a
base rate. Expected arrivals of a model = sum over the quiet sessions of P(arrives within the horizon | quiet so long)
x P(that model | its last one) + base rate, + warm leases, + explicit hints ("model X in about n seconds").

Source: histogram keep-alive of Serverless in the Wild (ATC'20), used as a hazard; the scheduling study.
"""

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from math import exp

from broker.core.lease import ModelName

HORIZON_S = 60.0
FORGET_S = 1800.0
"""A session quiet for longer is over: its next arrival is a new session's."""
BINS = 18
_FIRST_S, _RATIO = 2.0, (FORGET_S / 2.0) ** (1.0 / (BINS - 1))
EDGES_S: tuple[float, ...] = (0.0, *(_FIRST_S * _RATIO**i for i in range(BINS)))
"""Bin i covers EDGES_S[i] to EDGES_S[i + 1]: 0-2 s, then growing by 1.49 up to half an hour."""
PRIOR_GAPS = 0.5
"""Weight of one pseudo-gap per bin, and of a session that never returns."""
EVERYBODYS = 2.0
"""What all sessions do weighs as much as this many steps of the session's own."""
MOST_STEPS = 16
"""Distinct steps remembered per session."""
RATE_TAU_S = 7200.0
"""Memory of the base rate of new sessions."""
SAME_MODEL_PRIOR = 3.0
"""A model follows itself as if it had done so this often already (0.72 of the time in GenTD26)."""
NEVER_S = float("-inf")
REFRESH_S = 1.0
"""Expectations move over tens of seconds; they are worked out afresh at most this often."""
WARM_ARRIVALS = 0.5
"""One warm lease counts as this many expected arrivals more: a promise, not a request."""


@dataclass(slots=True)
class _Session:
    last_model: ModelName
    quiet_since_s: float
    open: int = 0
    """Leases asked for and not ended."""
    step: tuple[ModelName, ModelName] | None = None
    """The last one counted; None: it has just begun."""
    left: bool = False
    """It left the line unserved and has not asked since."""
    own: dict[tuple[ModelName, ModelName], float] = field(default_factory=dict)
    """Its own last-model to next-model counts: an agent goes back to its main model, whatever others do."""


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
    """The learner. ``max_sessions`` bounds its memory; the least recently active one is forgotten first."""

    max_sessions: int = 4096
    horizon_s: float = HORIZON_S
    _sessions: OrderedDict[str, _Session] = field(default_factory=OrderedDict)
    _gaps: list[float] = field(default_factory=lambda: [PRIOR_GAPS] * BINS)
    _gone: float = PRIOR_GAPS
    """Sessions that did not come back within ``FORGET_S``."""
    _next: dict[ModelName, dict[ModelName, float]] = field(default_factory=dict)
    _fresh: dict[ModelName, _Rate] = field(default_factory=dict)
    """Arrivals of new sessions, per first model."""
    _began_s: float | None = None
    _warm: dict[ModelName, int] = field(default_factory=dict)
    _hints: dict[tuple[str, ModelName], float] = field(default_factory=dict)
    _survivors: list[float] = field(default_factory=list)
    _cached_at_s: float = NEVER_S
    _cached: dict[ModelName, float] = field(default_factory=dict)

    def observe_arrival(self, session: str, model: ModelName, at_s: float) -> None:
        """A session asked for a model."""
        self._touch(at_s)
        self._hints.pop((session, model), None)
        known = self._sessions.get(session)
        if known is None or (known.open == 0 and at_s - known.quiet_since_s > FORGET_S):
            self._fresh.setdefault(model, _Rate()).add(at_s)
            known = _Session(model, at_s)
            self._sessions[session] = known
        else:
            if known.open == 0:
                self._count_gap(at_s - known.quiet_since_s)
            self._count_step(known, model)
        known.open += 1
        known.left = False
        known.last_model, known.quiet_since_s = model, at_s
        self._sessions.move_to_end(session)
        while len(self._sessions) > self.max_sessions:
            self._sessions.popitem(last=False)

    def observe_end(self, session: str, model: ModelName, at_s: float) -> None:
        """A lease of a session ended."""
        self._touch(at_s)
        known = self._sessions.get(session)
        if known is not None:
            known.open = max(0, known.open - 1)
            known.last_model, known.quiet_since_s = model, at_s

    def observe_leave(self, session: str, model: ModelName, at_s: float) -> None:
        """A ticket ended unserved: who left the line has used nothing, and is not expected back."""
        self.observe_end(session, model, at_s)
        known = self._sessions.get(session)
        if known is None:
            return
        known.left = known.open == 0
        if known.step is None:
            if model in self._fresh:
                self._fresh[model].add(at_s, -1.0)
        elif known.step[1] == model:
            self._uncount_step(known, known.step)

    def observe_warm(self, model: ModelName, leases: int) -> None:
        """How many warm leases there are on a model now."""
        if self._warm.get(model, 0) != leases:
            self._cached_at_s = NEVER_S
            self._warm[model] = leases

    def observe_hint(self, session: str, model: ModelName, due_s: float) -> None:
        """A session says that it will ask for a model around a moment."""
        self._cached_at_s = NEVER_S
        if len(self._hints) < self.max_sessions:
            self._hints[session, model] = due_s

    def expected(self, model: ModelName, now_s: float) -> float:
        """Arrivals of a model to expect within the horizon."""
        return self.all_expected(now_s).get(model, 0.0)

    def all_expected(self, now_s: float) -> dict[ModelName, float]:
        """The same for every model that was ever seen; up to a second old."""
        if not 0.0 <= now_s - self._cached_at_s < REFRESH_S:
            self._cached = self._work_out(now_s)
            self._cached_at_s = now_s
        return self._cached

    def _touch(self, at_s: float) -> None:
        if self._began_s is None:
            self._began_s = at_s

    def _count_step(self, session: _Session, model: ModelName) -> None:
        row = self._next.setdefault(session.last_model, {})
        row[model] = row.get(model, 0.0) + 1.0
        session.step = step = (session.last_model, model)
        if step in session.own or len(session.own) < MOST_STEPS:
            session.own[step] = session.own.get(step, 0.0) + 1.0

    def _uncount_step(self, session: _Session, step: tuple[ModelName, ModelName]) -> None:
        last, model = step
        row = self._next[last]
        row[model] = max(0.0, row[model] - 1.0)
        if step in session.own:
            session.own[step] = max(0.0, session.own[step] - 1.0)
        session.last_model = last

    def _count_gap(self, gap_s: float) -> None:
        self._gaps[min(BINS - 1, bisect_right(EDGES_S, gap_s) - 1)] += 1.0
        self._survivors.clear()

    def _survival(self, quiet_s: float) -> float:
        """Weight of gaps longer than this, those that never ended included; linear within a bin."""
        if not self._survivors:
            self._survivors = [self._gone + sum(self._gaps[i:]) for i in range(BINS + 1)]
        if quiet_s >= FORGET_S:
            return self._gone
        i = bisect_right(EDGES_S, quiet_s) - 1
        share = (quiet_s - EDGES_S[i]) / (EDGES_S[i + 1] - EDGES_S[i])
        return self._survivors[i] - share * self._gaps[i]

    def _work_out(self, now_s: float) -> dict[ModelName, float]:
        self._forget(now_s)
        found: dict[ModelName, float] = {}
        rows = {last: self._row(last) for last in self._next}
        for session in self._sessions.values():
            if session.open or session.left:
                continue
            quiet_s = now_s - session.quiet_since_s
            chance = 1.0 - self._survival(quiet_s + self.horizon_s) / self._survival(quiet_s)
            self._share_out(found, session, rows, chance)
        self._add_base(found, now_s)
        return found

    def _row(self, last: ModelName) -> dict[ModelName, float]:
        """P(next model | last one) over all sessions."""
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
        """Sessions quiet for too long count as gone; hints run out."""
        while self._sessions:
            key, oldest = next(iter(self._sessions.items()))
            if oldest.open or now_s - oldest.quiet_since_s <= FORGET_S:
                break
            del self._sessions[key]
            self._gone += 1.0
            self._survivors.clear()
        for hint in [hint for hint, due_s in self._hints.items() if due_s + self.horizon_s < now_s]:
            del self._hints[hint]
