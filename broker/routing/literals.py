"""How texts are looked through for patterns of ours: a literal first, then a pattern at that place only.

Rule: a literal is looked for in lower case, which is fast; a pattern is then tried where it stands. A long text is
looked at window by window: no step takes long, so other threads come in between, and a letter outside ASCII does not
make all of it slow.
"""

import re
from collections.abc import Iterator

from broker.routing.work import ATTEMPT, Work

WINDOW = 32 * 1024
"""Characters."""
OVERLAP = 40
"""Characters of the next window that are looked at too: no literal is longer."""
DOTTED_I = "\u0130"
"""The one letter that becomes two when it is lowered."""
PASS = 2
"""Characters of one pass for a unit of work: only where a literal stands it costs more."""

Rules = tuple[tuple[str, re.Pattern[str]], ...]
"""Literals in lower case, each with the pattern that must match there."""


def of_one_length(text: str) -> str:
    """The text, as long as it is in lower case."""
    return text.replace(DOTTED_I, DOTTED_I.lower())


def windows(text: str, work: Work) -> Iterator[tuple[int, str]]:
    """Where each begins, and what is in it in lower case."""
    for begin in range(0, len(text), WINDOW):
        work.spend(min(WINDOW, len(text) - begin) // PASS)
        yield begin, text[begin : begin + WINDOW + OVERLAP].lower()


def places(literal: str, lower: str) -> Iterator[int]:
    """Where a literal is in a window."""
    at = lower.find(literal)
    while at >= 0:
        yield at
        at = lower.find(literal, at + len(literal))


def found(rules: Rules, text: str, lower: str, begin: int, work: Work) -> bool:
    """Does one of the rules hold in a window?"""
    for literal, pattern in rules:
        for at in places(literal, lower):
            work.spend(ATTEMPT)
            if pattern.match(text, begin + at):
                return True
    return False
