"""The retry table: what comes after a try has failed. The same again, the next candidate, or an honest error.

Rule: the first line that fits, while the client has nothing but keepalives.

1. The client has seen a byte of the answer, or was told the last word: nothing comes after that.
2. Nobody was asked, or the request was refused: the next candidate.
3. The answer is of no use: the same again, once for a request; the next candidate where that one is better.
4. The answer breaks its schema: the same again, cooler, as often as the contract says.
5. An error about the request, or about us at that server: it goes to the client, or the next candidate is asked.
6. Silence: the next candidate, where the rule says that a silent server is not asked again.
7. No answer, or an error that passes: the same again after a pause while tries are left and the pause is worth it;
   then the next candidate.

A session that has become private since the decision has no upstream left but those of the operator's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto

from broker.routing.decision import Choice, Route, RouteDecision
from broker.routing.route import RouteState

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Status codes of a server that may well answer the next time."""
OF_OURS = frozenset({401, 402, 403, 404, 407})
"""The key, the account or the model's name at the upstream is wrong: another upstream may do. A server of the pool that
answers so ends its try without a status, as one that gave no answer."""


class FallbackMove(Enum):
    """What to do now."""

    AGAIN = auto()
    """The same choice, after ``wait_s``."""
    NEXT = auto()
    """The next choice at once."""
    GIVE_BACK = auto()
    """It goes to the client: it is about the request, or has begun."""


class TryEnd(Enum):
    """How a try ended without an answer for the client."""

    NO_ANSWER = auto()
    """None came, or not all of it: unreachable, broken off, refused to the broker, the lease lost. Or an error,
    which has a status."""
    SILENT = auto()
    """The server was given up."""
    USELESS = auto()
    """An answer came that nobody could use."""
    OFF_SCHEMA = auto()
    """An answer came that breaks the schema of its request."""
    REFUSED = auto()
    """Nobody was asked: no lease, no money, no time; or the request was answered with no."""
    FINAL = auto()
    """The client is told the last word, whoever else might serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """How often and how long one kind of server is asked again."""

    tries: int = 2
    """Of one choice, the first one included."""
    longest_s: float = 10.0
    """A longer ``Retry-After`` is not waited for, seconds."""
    first_s: float = 0.5
    """Without ``Retry-After``, seconds; doubles each time."""
    is_silence_repeated: bool = True
    """Is a server asked again that was given up for its silence?"""


POOL = RetryRule(first_s=0.0, is_silence_repeated=False)
"""For models of the pool: the pause is the pool's, which finds out whether the server is dead; and a server that was
given up after ``first_byte_s`` has had its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTry:
    """How one try ended."""

    end: TryEnd = TryEnd.NO_ANSWER
    status: int | None = None
    """Of the answer, where that was an error; None: no answer (unreachable, silent, broken)."""
    retry_after_s: float | None = None
    begun: bool = False
    """Has the client seen a byte of it?"""
    is_next_better: bool = False
    """Of a useless answer: is there another candidate, and one that is trusted more than this?"""


_AT_ONCE = {
    TryEnd.FINAL: FallbackMove.GIVE_BACK,
    TryEnd.REFUSED: FallbackMove.NEXT,
    TryEnd.OFF_SCHEMA: FallbackMove.AGAIN,
}


def after(
    failure: FailedTry, *, tried: int, left_s: float | None = None, rule: RetryRule | None = None
) -> tuple[FallbackMove, float]:
    """What to do after a try has failed; see the table above.

    Args:
        failure: How.
        tried: Tries of this choice so far that brought no answer, this one included.
        left_s: Until the deadline, seconds; None: no hurry.
        rule: None: the default.

    Returns:
        The move, and the seconds to wait before it.
    """
    rule = rule or RetryRule()
    if ends_all(failure):  # 1
        return FallbackMove.GIVE_BACK, 0.0
    if (move := _AT_ONCE.get(failure.end)) is not None:  # 2, 4
        return move, 0.0
    if failure.end is TryEnd.USELESS:  # 3
        return (FallbackMove.NEXT if failure.is_next_better else FallbackMove.AGAIN), 0.0
    if failure.status is not None and failure.status not in PASSING:  # 5
        elsewhere = failure.status in OF_OURS or failure.status < 400  # a redirect is not followed with a request
        return (FallbackMove.NEXT if elsewhere else FallbackMove.GIVE_BACK), 0.0
    if failure.end is TryEnd.SILENT and not rule.is_silence_repeated:  # 6
        return FallbackMove.NEXT, 0.0
    wait_s = failure.retry_after_s if failure.retry_after_s is not None else rule.first_s * 2 ** (tried - 1)  # 7
    if tried >= rule.tries or wait_s > rule.longest_s or (left_s is not None and wait_s >= left_s):
        return FallbackMove.NEXT, 0.0
    return FallbackMove.AGAIN, max(0.0, wait_s)


def ends_all(failure: FailedTry) -> bool:
    """Does nobody else take over?"""
    return failure.begun or failure.end is TryEnd.FINAL


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


def following(decision: RouteDecision, tried: Iterable[Choice], state: RouteState) -> Choice | None:
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


def _may_be_asked(choice: Choice, decision: RouteDecision, state: RouteState) -> bool:
    if (state.session_private or decision.private is not None) and not choice.inside:
        return False
    if choice.upstream in state.open_breakers:
        return False
    if state.allowance_micro is None:
        return True
    return choice.is_priced and choice.reserve_micro <= max(0, state.allowance_micro)
