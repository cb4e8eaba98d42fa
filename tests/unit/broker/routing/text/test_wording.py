"""The patterns that strangers' texts are held against: none of them can be made to try for ever."""

import re
from collections.abc import Iterator
from itertools import pairwise
from re import _constants as signs  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from broker.routing.request import purpose
from broker.routing.text import wording

MOST = 512
"""Times; what is repeated more often is as good as without a bound."""
MOST_WAYS = 8
"""Times that something may be repeated in which a choice is left."""


def patterns() -> list[re.Pattern[str]]:
    found: list[re.Pattern[str]] = []
    for module in (wording, purpose):
        for value in vars(module).values():
            found += [one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, re.Pattern)]
    return found


def repeats(parsed: Any) -> Iterator[tuple[int, int, Any]]:
    """Every repetition in a pattern: least, most and what is repeated."""
    for sign, given in parsed:
        if sign in {signs.MAX_REPEAT, signs.MIN_REPEAT}:
            yield given
        for inner in inside(sign, given):
            yield from repeats(inner)


def inside(sign: Any, given: Any) -> Iterator[Any]:
    if sign in {signs.MAX_REPEAT, signs.MIN_REPEAT}:
        yield given[2]
    elif sign is signs.SUBPATTERN:
        yield given[3]
    elif sign is signs.BRANCH:
        yield from given[1]
    elif sign in {signs.ASSERT, signs.ASSERT_NOT}:
        yield given[1]


def begins_lines_with_any_blanks(parsed: Any) -> bool:
    """Is there ``^\\s*``, which goes through all empty lines from each of them?"""
    items = list(parsed)
    for (sign, given), (after, repeated) in pairwise(items):
        if sign is signs.AT and given is signs.AT_BEGINNING and after is signs.MAX_REPEAT:
            _, most, what = repeated
            if most > MOST and "CATEGORY_SPACE" in str(what):
                return True
    return any(begins_lines_with_any_blanks(inner) for sign, given in items for inner in inside(sign, given))


def repeats_what_repeats(parsed: Any) -> bool:
    """Can one text be cut into such pieces in many ways? Each more piece multiplies them."""
    often = [what for _, most, what in repeats(parsed) if most > MOST_WAYS]
    return any(least != most for what in often for least, most, _ in repeats(what))


@pytest.mark.parametrize("pattern", patterns(), ids=lambda pattern: pattern.pattern[:40])
def test_nothing_that_repeats_is_repeated_often(pattern):
    assert not repeats_what_repeats(parser.parse(pattern.pattern, pattern.flags))


@pytest.mark.parametrize("pattern", patterns(), ids=lambda pattern: pattern.pattern[:40])
def test_no_lines_beginning_runs_on_over_empty_lines(pattern):
    assert not begins_lines_with_any_blanks(parser.parse(pattern.pattern, pattern.flags))


def test_the_tests_see_what_they_are_there_for():
    assert repeats_what_repeats(parser.parse(r"a (?:(?:\d+[- ]\w+ ?\w*)[, ]*)*summary"))
    assert not repeats_what_repeats(parser.parse(r"a (?:(?:short|brief)[, -])*summary"))
    assert begins_lines_with_any_blanks(parser.parse(r"(?:^\s*x|y)"))
    assert not begins_lines_with_any_blanks(parser.parse(r"^[ \t]{0,40}x"))
