"""How long a session usually stays away between two uses: its own gaps, and those of its kind while it has few.

A kind is a model and whether its user has ever come back: what a live agent does says nothing about somebody who asked
once and left. The chance that a session comes back is a hazard: the share of gaps that ended within the time ahead
among those that lasted at least as long as it has been away.

Source: histogram keep-alive of Serverless in the Wild (ATC'20); the study in docs/scheduling.md.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass, field
from math import ceil

FORGET_S = 1800.0
"""A session away for longer is over: its next arrival is a new session's."""
BINS = 18
_FIRST_S, _RATIO = 2.0, (FORGET_S / 2.0) ** (1.0 / (BINS - 1))
EDGES_S: tuple[float, ...] = (0.0, *(_FIRST_S * _RATIO**i for i in range(BINS)))
"""Bin i covers EDGES_S[i] to EDGES_S[i + 1]: 0-2 s, then growing by 1.49 up to half an hour."""
PRIOR_GAPS = 0.5
"""Weight of one pseudo-gap per bin."""
PRIOR_GONE_NEW, PRIOR_GONE_KNOWN = 9.0, 1.0
"""Weight of sessions that never return: of those that asked once it is half, of those that came back before one in
ten."""
KINDS_WEIGHT = 2.0
"""What its kind does weighs as much as this many gaps of the session's own."""
OWN_GAPS = 8
"""How many gaps are remembered per session and model."""
ENOUGH_GAPS = 3
"""How many gaps make a habit; fewer say nothing."""
USUAL_SHARE, USUAL_SLACK = 0.8, 2.0
"""A usual gap is no longer than four in five of the gaps, with as much again as slack."""
AWAY_S = 300.0
"""A session of which nothing is known counts as gone after so long, seconds."""
TURN_PAUSE_S = 60.0
"""A pause this long in the middle of quick turns (a tool runs) is no departure."""


@dataclass(slots=True)
class HabitsOfKind:
    """Gaps of all sessions of a kind, in logarithmic bins."""

    gone: float
    """How many sessions did not come back within ``FORGET_S``."""
    bins: list[float] = field(default_factory=lambda: [PRIOR_GAPS] * BINS)
    _survivors: list[float] = field(default_factory=list)

    def add(self, gap_s: float) -> None:
        """Count one session that came back after so many seconds."""
        self.bins[min(BINS - 1, bisect_right(EDGES_S, gap_s) - 1)] += 1.0
        self._survivors.clear()

    def lose(self) -> None:
        """Count one session that did not come back."""
        self.gone += 1.0
        self._survivors.clear()

    def longer(self, away_s: float) -> float:
        """Return the share of gaps that are longer than this, those that never ended included; linear within a bin."""
        if not self._survivors:
            self._survivors = [self.gone + sum(self.bins[i:]) for i in range(BINS + 1)]
        if away_s >= FORGET_S:
            return self.gone / self._survivors[0]
        i = bisect_right(EDGES_S, away_s) - 1
        share = (away_s - EDGES_S[i]) / (EDGES_S[i + 1] - EDGES_S[i])
        return (self._survivors[i] - share * self.bins[i]) / self._survivors[0]


@dataclass(slots=True)
class Gaps:
    """The last gaps of one session on one model, at most ``OWN_GAPS``."""

    seconds: list[float] = field(default_factory=list)
    """The gaps in seconds, the oldest first."""
    _sorted: list[float] = field(default_factory=list)

    def add(self, gap_s: float) -> None:
        """Add the gap after which the session came back, seconds; the oldest may go."""
        self.seconds.append(gap_s)
        insort(self._sorted, gap_s)
        if len(self.seconds) > OWN_GAPS:
            self._sorted.remove(self.seconds.pop(0))

    def chance(self, away_s: float, horizon_s: float, kind: HabitsOfKind) -> float:
        """Return the chance that a session which has been away for so long comes back within the horizon."""
        now = self._longer(away_s, kind)
        return 1.0 - self._longer(away_s + horizon_s, kind) / now if now > 0.0 else 0.0

    def _longer(self, away_s: float, kind: HabitsOfKind) -> float:
        return len(self._sorted) - bisect_right(self._sorted, away_s) + KINDS_WEIGHT * kind.longer(away_s)

    def usual_s(self, away_s: float) -> float:
        """Return how long a model is spoken for after this session's use, seconds.

        1. Of a session of which little is known: ``away_s``.
        2. Else its usual gap, at least a pause.
        """
        if len(self.seconds) < ENOUGH_GAPS:  # 1
            return away_s
        usual_s = USUAL_SLACK * self._sorted[ceil(USUAL_SHARE * len(self.seconds)) - 1]
        return max(min(TURN_PAUSE_S, away_s), min(usual_s, FORGET_S))  # 2
