"""How long a request waits in silence, when its answer is begun without the model, and when it is sent away.

A numbered decision tree over plain values; seconds since the request arrived.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum, auto

import msgspec


class WaitMove(Enum):
    """What the gateway does now with a request that waits."""

    HOLD = auto()
    COMMIT = auto()
    """Begin the answer: send 200 and a first keepalive."""
    KEEPALIVE = auto()
    SEND_AWAY = auto()
    """Answer 429; its ticket is kept."""
    REFUSE = auto()
    """Answer 503: nothing serves the model."""
    GIVE_UP = auto()
    """End the begun answer with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatienceLimits:
    """How long requests wait; the numbers are those of ``[gateway]`` in the configuration. Seconds."""

    commit_after_s: float = 8.0
    keepalive_s: float = 5.0
    max_silent_s: float = 55.0
    """How long a client is held in silence of which nobody knows how long it waits."""
    longest_silent_s: float = 600.0
    """How long any client is held in silence at most."""
    max_wait_s: float = 1500.0
    gives_up_s: float | None = None
    """After how long without a byte the client of this request gives up; None: nobody knows."""


SHORTEST_S = 0.25
"""No client is sent keepalives more often, however impatient it says it is: they cost, and it names the number."""
SPARE_S = 2.0
"""Kept for the way of the answer, and for clocks that differ, seconds."""
SPARE_SHARE = 0.05
"""Share of what the client bears that is kept at least."""


def within(limits: PatienceLimits, bears_s: float | None) -> PatienceLimits:
    """Return the limits for a client that gives up after ``bears_s`` seconds without a byte."""
    if bears_s is None:
        return limits
    half_s = max(SHORTEST_S, bears_s / 2)
    return replace(
        limits,
        commit_after_s=min(limits.commit_after_s, half_s),
        keepalive_s=min(limits.keepalive_s, half_s),
        gives_up_s=bears_s,
    )


def silent_until_s(limits: PatienceLimits, answer_s: float) -> float:
    """Tell how long a client is held that hears nothing before the whole answer.

    It is held until shortly before it gives up, with time for the answer, ``answer_s``: then it can be told that its
    ticket is kept, and to come back at once. Half of what it bears is always its own: how long an answer takes is a
    guess.
    """
    if limits.gives_up_s is None:
        return min(limits.max_silent_s, limits.longest_silent_s)
    bears_s = min(limits.gives_up_s, limits.longest_silent_s)
    spare_s = max(SPARE_SHARE * bears_s, SPARE_S + answer_s)
    return max(SHORTEST_S, bears_s - min(spare_s, bears_s / 2))


class RequestWait(msgspec.Struct, frozen=True, kw_only=True):
    """One request's wait so far."""

    waited_s: float
    may_commit: bool
    """It streams, and its profile has keepalives, so its answer can begin before the model has it."""
    spoke_s: float | None = None
    """When the last keepalive went out, seconds since the request arrived; None: the answer is not begun."""
    earliest_s: float | None = None
    """How much longer it takes at least, seconds; None: there is no forecast."""
    doubtful: bool = False
    """The model failed to load again and again while it waited. The next load may fail too, and only an answer that is
    not yet begun can say so."""
    served: bool = True
    """Some slot serves the model."""
    answer_s: float = 0.0
    """How long the model works on an answer, seconds, as far as is known."""


def in_line(wait: RequestWait, limits: PatienceLimits) -> tuple[WaitMove, float]:
    """Decide what to do with a request that waits for its lease.

    Returns:
        The move; for ``HOLD`` the seconds after which to ask again.
    """
    # 1. The answer is begun: speak often enough, end at the bound.
    if wait.spoke_s is not None:
        if wait.waited_s >= limits.max_wait_s:
            return WaitMove.GIVE_UP, 0.0
        return _next_word(wait, wait.spoke_s, limits, limits.max_wait_s)
    due_s = limits.commit_after_s if wait.may_commit else silent_until_s(limits, wait.answer_s)
    if wait.doubtful and limits.gives_up_s is None:  # it can hear of failed loads in no other way
        due_s = min(due_s, limits.commit_after_s)
    # 2. Silence is still fine.
    if wait.waited_s < due_s:
        return WaitMove.HOLD, due_s - wait.waited_s
    # 3. Waiting would be in vain.
    if not wait.served:
        return WaitMove.REFUSE, 0.0
    # 4. An answer must not be begun that may well end as an error: come back later, in the same place.
    too_long = wait.earliest_s is not None and wait.waited_s + wait.earliest_s > limits.max_wait_s
    if not wait.may_commit or wait.doubtful or too_long:
        return WaitMove.SEND_AWAY, 0.0
    # 5. A stream is begun.
    return WaitMove.COMMIT, 0.0


def at_work(wait: RequestWait, limits: PatienceLimits) -> tuple[WaitMove, float]:
    """Decide about a request whose model has it and has not answered yet: it is never sent away any more."""
    if wait.spoke_s is not None:
        return _next_word(wait, wait.spoke_s, limits, math.inf)
    if not wait.may_commit:
        return WaitMove.HOLD, math.inf
    if wait.waited_s < limits.commit_after_s:
        return WaitMove.HOLD, limits.commit_after_s - wait.waited_s
    return WaitMove.COMMIT, 0.0


def _next_word(wait: RequestWait, spoke_s: float, limits: PatienceLimits, end_s: float) -> tuple[WaitMove, float]:
    due_s = spoke_s + limits.keepalive_s
    if wait.waited_s >= due_s:
        return WaitMove.KEEPALIVE, 0.0
    return WaitMove.HOLD, min(due_s, end_s) - wait.waited_s


def waiter_retry_after_s(limits: PatienceLimits, eta_s: float | None, kept_s: float) -> int:
    """Tell after how many whole seconds a client that was sent away should come back.

    At once where it is known to wait: each of its few tries is then held for as long as it bears. The SDKs try again by
    themselves after 60 s at most (the newest after 120 s).

    Args:
        limits: The limits of its request.
        eta_s: The forecast; None: there is none.
        kept_s: How long a ticket or an unclaimed grant is kept; the client is back within two thirds of it.
    """
    return 1 if limits.gives_up_s is not None else ask_again_s(eta_s, kept_s)


def ask_again_s(eta_s: float | None, kept_s: float) -> int:
    """Tell the same to one that asks when it likes: by the forecast, and while its ticket is surely kept."""
    longest = max(1, min(60, math.floor(kept_s * 2 / 3)))
    if eta_s is None or not math.isfinite(eta_s):
        return longest
    return max(1, min(longest, math.ceil(eta_s)))
