"""Forms of names: ``*`` stands for any letters, ``?`` for one.

Rule: of several forms that a name has the most specific one counts: the one with the most letters of its own, among
equals the one with fewer ``*``, then the one that is written first.
"""

import fnmatch
import re
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
SIGNS = "*?"


def is_wildcard(name: str) -> bool:
    """Is it a form, and no name itself?"""
    return any(sign in name for sign in SIGNS)


class Wildcards(Generic[T]):
    """What forms of names stand for."""

    def __init__(self, *groups: Iterable[tuple[str, T]]) -> None:
        """Every form of an earlier group comes before those of a later one."""
        ranked = [one for group in groups for one in sorted(group, key=lambda one: _rank(one[0]))]
        self._forms = [(form, _pattern(form), meant) for form, meant in ranked]

    def find(self, name: str) -> T | None:
        """What a name stands for; None: it has none of the forms."""
        return next((meant for _, pattern, meant in self._forms if pattern.match(name)), None)

    def items(self) -> list[tuple[str, T]]:
        """The forms, in the order in which they are tried."""
        return [(form, meant) for form, _, meant in self._forms]


def _rank(form: str) -> tuple[int, int]:
    return -sum(letter not in SIGNS for letter in form), form.count("*")


def _pattern(form: str) -> re.Pattern[str]:
    """Python's own takes no long time, however many ``*`` there are; ``[`` is a letter like any other."""
    return re.compile(fnmatch.translate(form.replace("[", "[[]")))
