"""How fast candidates answer, learned from their answers: the time to the first token, and tokens per second after it.

Rule: the latest answers count most, and what is old is forgotten: what an answer is worth halves every ``HALF_LIFE_S``.
A candidate of which nothing is known (any more) is taken for fast, so that it is tried and known again.
"""

from collections import OrderedDict
from dataclasses import dataclass

HALF_LIFE_S = 900.0
FORGOTTEN = 1 / 16
"""Answers' worth; less is nothing, of each of the two. One answer is forgotten after four half-lives, an hour."""
MOST = 4_096
"""Candidates; of more those that answered least lately are forgotten."""
LONGEST_S = 3_600.0
"""Longest time that an answer counts with, seconds; a longer one tells as much as this."""
SHORTEST_S = 0.001
MOST_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast one candidate is, as far as it is known now."""

    first_s: float | None = None
    """How long the first token takes from the question on, seconds; None: not known."""
    tokens_per_s: float | None = None
    """After that; None: not known."""
    answers: float = 0.0
    """How many answers that rests on, each counted for what it is still worth."""

    def takes_s(self, tokens: int) -> float:
        """Return the seconds until so many tokens are there; what is not known takes no time."""
        after_s = tokens / self.tokens_per_s if self.tokens_per_s else 0.0
        return (self.first_s or 0.0) + after_s


@dataclass(slots=True, kw_only=True)
class _Sums:
    at_s: float
    answers: float = 0.0
    firsts: float = 0.0
    first_s: float = 0.0
    rates: float = 0.0
    tokens: float = 0.0
    over_s: float = 0.0

    def worth(self, now_s: float) -> float:
        return float(0.5 ** (max(0.0, now_s - self.at_s) / HALF_LIFE_S))

    def age(self, now_s: float) -> None:
        worth = self.worth(now_s)
        for name in ("answers", "firsts", "first_s", "rates", "tokens", "over_s"):
            setattr(self, name, getattr(self, name) * worth)
        self.at_s = max(self.at_s, now_s)


class Speeds:
    """How fast all candidates are, in one process's memory: every process finds out by itself."""

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, _Sums] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def learn(self, name: str, *, now_s: float, first_s: float | None, tokens: int, over_s: float) -> None:
        """An answer was good.

        Args:
            name: The model of the pool, or the upstream's by our name.
            now_s: A clock that does not go back, seconds.
            first_s: From the question to its first token; None: it was no stream, so nobody knows.
            tokens: All of its reply.
            over_s: What they took, seconds: from the first token on, or from the question where that is not known.
        """
        sums = self._by_name.pop(name, None) or _Sums(at_s=now_s)
        sums.age(now_s)
        sums.answers += 1
        if first_s is not None:
            sums.firsts += 1
            sums.first_s += min(max(0.0, first_s), LONGEST_S)
        if tokens > 0 and over_s > 0:
            sums.rates += 1
            sums.tokens += min(tokens, MOST_TOKENS)
            sums.over_s += min(max(SHORTEST_S, over_s), LONGEST_S)
        self._by_name[name] = sums
        if len(self._by_name) > MOST:
            self._by_name.popitem(last=False)

    def of(self, name: str, now_s: float) -> Speed | None:
        """What is known of a candidate; None: nothing, or nothing any more."""
        sums = self._by_name.get(name)
        if sums is None:
            return None
        worth = sums.worth(now_s)
        if sums.answers * worth < FORGOTTEN:
            return None
        return Speed(
            first_s=sums.first_s / sums.firsts if sums.firsts * worth >= FORGOTTEN else None,
            tokens_per_s=sums.tokens / sums.over_s if sums.rates * worth >= FORGOTTEN else None,
            answers=sums.answers * worth,
        )
