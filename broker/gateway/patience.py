"""How long a request waits in silence, when its answer is begun without the model, and when it is sent away.

A numbered decision tree over plain values; seconds since the request arrived.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum, auto

import msgspec


class Move(Enum):
    """What to do now."""

    HOLD = auto()
    COMMIT = auto()
    """Begin the answer: 200 and a first keepalive."""
    KEEPALIVE = auto()
    SEND_AWAY = auto()
    """429, the place in line is kept."""
    REFUSE = auto()
    """503: nothing serves the model."""
    GIVE_UP = auto()
    """End the begun answer with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``[gateway]`` of the configuration."""

    commit_after_s: float = 8.0
    keepalive_s: float = 5.0
    max_silent_s: float = 55.0
    """Of a client that bears nobody knows how much."""
    longest_silent_s: float = 600.0
    """Of any client."""
    max_wait_s: float = 1500.0
    gives_up_s: float | None = None
    """Of this request: after so many seconds without a byte its client gives up. None: nobody knows."""


SHORTEST_S = 0.25
"""No client is spoken to more often, however impatient it says it is: keepalives cost, and it names the number."""
SPARE_S = 2.0
"""For the way of the answer, and for clocks that differ."""
SPARE_SHARE = 0.05
"""Of what the client bears, at least."""


def within(limits: Limits, bears_s: float | None) -> Limits:
    """The limits for a client that gives up after ``bears_s`` seconds without a byte."""
    if bears_s is None:
        return limits
    half_s = max(SHORTEST_S, bears_s / 2)
    return replace(
        limits,
        commit_after_s=min(limits.commit_after_s, half_s),
        keepalive_s=min(limits.keepalive_s, half_s),
        gives_up_s=bears_s,
    )


def silent_until_s(limits: Limits, answer_s: float) -> float:
    """How long a client is held that hears nothing before the whole answer.

    Until shortly before it gives up, with time for the answer, ``answer_s``: then it can be told that its place is
    kept, and to come back at once. Half of what it bears is always its own: how long an answer takes is a guess.
    """
    if limits.gives_up_s is None:
        return min(limits.max_silent_s, limits.longest_silent_s)
    bears_s = min(limits.gives_up_s, limits.longest_silent_s)
    spare_s = max(SPARE_SHARE * bears_s, SPARE_S + answer_s)
    return max(SHORTEST_S, bears_s - min(spare_s, bears_s / 2))


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """One request's wait so far."""

    waited_s: float
    may_commit: bool
    """It streams, and its profile has keepalives."""
    spoke_s: float | None = None
    """When the last keepalive went out; None: the answer is not begun."""
    earliest_s: float | None = None
    """How much longer it takes at least, where the forecast says."""
    doubtful: bool = False
    """The model's last load failed: the next one may well fail too, and only an answer not yet begun can say so."""
    served: bool = True
    """Does any slot serve the model?"""
    answer_s: float = 0.0
    """How long the model works on an answer, as far as is known."""


def in_line(wait: Wait, limits: Limits) -> tuple[Move, float]:
    """What to do with a request that waits for its lease.

    Returns:
        The move; for ``HOLD`` the seconds after which to ask again.
    """
    # 1. The answer is begun: speak often enough, end at the bound.
    if wait.spoke_s is not None:
        if wait.waited_s >= limits.max_wait_s:
            return Move.GIVE_UP, 0.0
        return _next_word(wait, wait.spoke_s, limits, limits.max_wait_s)
    due_s = limits.commit_after_s if wait.may_commit else silent_until_s(limits, wait.answer_s)
    # 2. Silence is still fine.
    if wait.waited_s < due_s:
        return Move.HOLD, due_s - wait.waited_s
    # 3. Waiting would be in vain.
    if not wait.served:
        return Move.REFUSE, 0.0
    # 4. An answer must not be begun that may well end as an error: come back later, in the same place.
    too_long = wait.earliest_s is not None and wait.waited_s + wait.earliest_s > limits.max_wait_s
    if not wait.may_commit or wait.doubtful or too_long:
        return Move.SEND_AWAY, 0.0
    # 5. A stream is begun.
    return Move.COMMIT, 0.0


def at_work(wait: Wait, limits: Limits) -> tuple[Move, float]:
    """What to do with a request whose model has it and has not answered yet: it is never sent away any more."""
    if wait.spoke_s is not None:
        return _next_word(wait, wait.spoke_s, limits, math.inf)
    if not wait.may_commit:
        return Move.HOLD, math.inf
    if wait.waited_s < limits.commit_after_s:
        return Move.HOLD, limits.commit_after_s - wait.waited_s
    return Move.COMMIT, 0.0


def _next_word(wait: Wait, spoke_s: float, limits: Limits, end_s: float) -> tuple[Move, float]:
    due_s = spoke_s + limits.keepalive_s
    if wait.waited_s >= due_s:
        return Move.KEEPALIVE, 0.0
    return Move.HOLD, min(due_s, end_s) - wait.waited_s


def retry_after_s(limits: Limits, eta_s: float | None, kept_s: float) -> int:
    """Whole seconds after which a client that was sent away should come back.

    At once where it is known to wait: each of its few tries is then held for as long as it bears. The SDKs try again
    by themselves after 60 s at most (the newest after 120 s).

    Args:
        limits: Of its request.
        eta_s: The forecast, None where there is none.
        kept_s: How long a place or an unclaimed grant is kept; the client is back within two thirds of it.
    """
    if limits.gives_up_s is not None:
        return 1
    longest = max(1, min(60, math.floor(kept_s * 2 / 3)))
    if eta_s is None or not math.isfinite(eta_s):
        return longest
    return max(1, min(longest, math.ceil(eta_s)))
