"""How texts are looked through for patterns of ours: all literals in one pass, then a pattern where one stands.

Rule: literals are looked for in lower case, all at once (Aho and Corasick, 1975), so that a rule more costs nothing; a
pattern is then tried where its literal stands. A long text is looked at window by window: no step takes long, so other
threads come in between, and a letter outside ASCII does not make all of it slow.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from ahocorasick_rs import AhoCorasick, Implementation

from broker.routing.text.work import ATTEMPT, Work

WINDOW = 32 * 1024
"""Length of the piece of a text that is looked through at once, characters."""
OVERLAP = 40
"""How much of the next window is looked at too, characters: no literal is longer."""
DOTTED_I = "\u0130"
"""The one letter that becomes two when it is lowered."""
PASS = 2
"""How many characters of one pass cost a unit of work: only where a literal stands it costs more."""

LiteralRules = tuple[tuple[str, re.Pattern[str]], ...]
"""Literals in lower case, each with the pattern that must match there."""
Check = Callable[[str, int, Work], object]
"""Tells whether a rule holds in a text where its literal stands; counts what it costs beyond one try of a pattern."""
Found = TypeVar("Found")


def of_one_length(text: str) -> str:
    """Return the text changed so that it is as long in lower case."""
    return text.replace(DOTTED_I, DOTTED_I.lower())


def windows(text: str, work: Work) -> Iterator[tuple[int, str]]:
    """Yield where each window begins, and what is in it in lower case."""
    for begin in range(0, len(text), WINDOW):
        work.spend(min(WINDOW, len(text) - begin) // PASS)
        yield begin, text[begin : begin + WINDOW + OVERLAP].lower()


class Finder(Generic[Found]):
    """Looks for all its rules in one pass over a text."""

    def __init__(self, rules: Iterable[tuple[Found, str, Check]]) -> None:
        """Take each rule's meaning, its literal in lower case, and what must hold where that stands."""
        by_literal: dict[str, list[tuple[Found, Check]]] = {}
        for means, literal, check in rules:
            by_literal.setdefault(literal, []).append((means, check))
        self.literals = tuple(by_literal)
        self._rules = tuple(tuple(of_literal) for of_literal in by_literal.values())
        self._all = AhoCorasick(self.literals, implementation=Implementation.DFA) if by_literal else None

    def find(self, text: str, work: Work) -> Found | None:
        """Return what the first rule stands for that holds; None: none does. The text is ``of_one_length``.

        Raises:
            TooCostlyError: The text would take more work than it may.
        """
        for begin, lower in windows(text, work):
            if (found := self.find_in(text, begin, lower, work)) is not None:
                return found
        return None

    def find_in(self, text: str, begin: int, lower: str, work: Work) -> Found | None:
        """Do the same for one window."""
        if self._all is None:
            return None
        places = self._all.find_matches_as_indexes(lower, overlapping=True)
        work.spend(ATTEMPT * len(places))
        for index, start, _ in places:
            for means, check in self._rules[index]:
                if check(text, begin + start, work):
                    return means
        return None


def matching(rules: LiteralRules) -> Iterator[tuple[str, Check]]:
    """Make rules whose pattern must match at the literal."""
    return ((literal, _matches(pattern)) for literal, pattern in rules)


def _matches(pattern: re.Pattern[str]) -> Check:
    match = pattern.match
    return lambda text, at, _work: match(text, at)


def anywhere(_text: str, _at: int, _work: Work) -> bool:
    """Accept every place where the literal stands: it says it all."""
    return True
