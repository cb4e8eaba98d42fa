"""What comes after a choice has failed: the same again, the next one, or an honest error.

Rule: nothing is repeated once a byte of the answer has been passed on. A session that has become private since the
decision has no upstream left but those of the operator's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto

from broker.routing.decision import Choice, Decision, Route
from broker.routing.route import State

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Status codes of a server that may well answer the next time."""
OF_OURS = frozenset({401, 402, 403, 404, 407})
"""The key, the account or the model's name at the upstream is wrong: another upstream may do. So is its
address where it sends us elsewhere (3xx): nobody follows with a request in his hand."""


class Move(Enum):
    """What to do now."""

    AGAIN = auto()
    """The same choice, after ``wait_s``."""
    NEXT = auto()
    """The next choice at once."""
    GIVE_BACK = auto()
    """The answer goes to the client: it is about the request, or has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """How often and how long."""

    tries: int = 2
    """Of one choice, the first one included."""
    longest_s: float = 10.0
    """A longer ``Retry-After`` is not waited for, seconds."""
    first_s: float = 0.5
    """Without ``Retry-After``, seconds; doubles each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How one try ended."""

    status: int | None = None
    """Of the answer; None: no answer (unreachable, silent, broken)."""
    retry_after_s: float | None = None
    begun: bool = False
    """Has the client seen a byte of it?"""


def after(
    failure: Failure, *, tried: int, left_s: float | None = None, rule: RetryRule | None = None
) -> tuple[Move, float]:
    """What to do after a try of an upstream has failed.

    Args:
        failure: How.
        tried: Tries of this choice so far, this one included.
        left_s: Until the deadline, seconds; None: no hurry.
        rule: None: the default.

    Returns:
        The move, and the seconds to wait before it.
    """
    rule = rule or RetryRule()
    if failure.begun:
        return Move.GIVE_BACK, 0.0
    if failure.status is not None and failure.status not in PASSING:
        elsewhere = failure.status in OF_OURS or failure.status < 400
        return (Move.NEXT if elsewhere else Move.GIVE_BACK), 0.0
    wait_s = failure.retry_after_s if failure.retry_after_s is not None else rule.first_s * 2 ** (tried - 1)
    if tried >= rule.tries or wait_s > rule.longest_s or (left_s is not None and wait_s >= left_s):
        return Move.NEXT, 0.0
    return Move.AGAIN, max(0.0, wait_s)


def retry_after_s(value: str | None, now_unix_s: float) -> float | None:
    """``Retry-After`` of an answer: seconds, or a date; None: absent or not to be read.

    Args:
        value: The header.
        now_unix_s: The wall clock, seconds since 1970.
    """
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now_unix_s)


def following(decision: Decision, tried: Iterable[Choice], state: State) -> Choice | None:
    """The choice to try next; None: all were tried, or may not be used any more.

    Args:
        decision: As it was made.
        tried: What failed since.
        state: As it is now: a session may have become private, a breaker may have opened, money may be spent.
    """
    failed = set(tried)
    for choice in decision.choices:
        if choice in failed:
            continue
        if choice.route is not Route.LOCAL and not _may_be_asked(choice, decision, state):
            continue
        return choice
    return None


def _may_be_asked(choice: Choice, decision: Decision, state: State) -> bool:
    if (state.session_private or decision.private is not None) and not choice.inside:
        return False
    if choice.upstream in state.open_breakers:
        return False
    return state.allowance_micro is None or choice.reserve_micro <= max(0, state.allowance_micro)
