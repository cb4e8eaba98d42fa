"""What is wrong with a configuration: all of it at once, each with its place, what is allowed, and what was meant.

Rule: no value is ever repeated, for it may be a secret; names of keys, tables and allowed words are.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from schemas import names

MOST_SHOWN = 50
"""Problems told of one configuration; the rest is counted."""
MOST_NAMES = 24
"""Names that are listed where none is near."""

_KINDS = re.compile(r"^(String|Tuple|List|Dictionary|Set|Value|Frozenset) (should|must) ")
_COUNTED = re.compile(r" after validation, not (more|\d+)$")
_WRITTEN = {
    "string": "text in quotes",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "tuple": "a list in square brackets",
    "list": "a list in square brackets",
    "set": "a list in square brackets",
    "frozen_set": "a list in square brackets",
    "dict": "a table",
    "mapping": "a table",
    "model": "a table",
    "model_attributes": "a table",
    "path": "a path in quotes",
}
"""How a value of each of Pydantic's types is written in TOML."""
_WRONG_TYPE = re.compile(r"^(.+?)_(type|parsing|from_float|parsing_size)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem:
    """One thing that is wrong."""

    what: str
    table: str = ""
    """``[broker]``, ``[[model]] "qwen"``; empty: of no table."""
    key: str = ""
    file: str = ""
    line: int | None = None
    """In the file; None: not in it, or not known."""

    def __str__(self) -> str:
        """One line for people."""
        place = f"{self.file}:{self.line}" if self.line is not None else self.file
        return ": ".join(part for part in (place, self.table, self.key, self.what) if part)


class ConfigError(ValueError):
    """The configuration cannot be used; the message says what is wrong, one line for each problem."""

    def __init__(self, *problems: ConfigProblem | str) -> None:
        self.problems = tuple(one if isinstance(one, ConfigProblem) else ConfigProblem(what=one) for one in problems)
        super().__init__(_told(self.problems))


def _told(problems: tuple[ConfigProblem, ...]) -> str:
    if len(problems) == 1:
        return str(problems[0])
    lines = [f"{len(problems)} problems", *(f"  {problem}" for problem in problems[:MOST_SHOWN])]
    if len(problems) > MOST_SHOWN:
        lines.append(f"  and {len(problems) - MOST_SHOWN} more")
    return "\n".join(lines)


def near(name: str, known: Iterable[str]) -> str:
    """Which of the known names was meant, as the end of a sentence; else what there is."""
    listed = sorted(known)
    if found := nearest(name, listed):
        return f"did you mean {found}?"
    if not listed:
        return "there is none"
    shown = ", ".join(listed[:MOST_NAMES])
    return f"there is {shown}" + (f" and {len(listed) - MOST_NAMES} more" if len(listed) > MOST_NAMES else "")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one; None: none does."""
    by_lower = {one.lower(): one for one in known}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def problem_words_of(error: Mapping[str, Any], known: Iterable[str]) -> str:
    """What Pydantic found, in our words.

    Args:
        error: One of ``ValidationError.errors()``.
        known: The keys that the table may have.
    """
    kind, context, message = error["type"], error.get("ctx") or {}, str(error["msg"])
    if kind == "extra_forbidden":
        return f"unknown key; {near(str(error['loc'][-1]), known)}"
    if kind == "missing":
        return "is missing"
    if kind in {"literal_error", "enum"}:
        return _one_of(str(context["expected"]), error.get("input"))
    if kind == "string_pattern_mismatch" and context.get("pattern") in names.WORDS:
        return names.WORDS[context["pattern"]]
    if (wrong := _WRONG_TYPE.match(kind)) and wrong[1] in _WRITTEN:
        return f"must be {_WRITTEN[wrong[1]]}"
    message = message.removeprefix("Value error, ").replace("Input should be ", "must be ")
    message = _COUNTED.sub("", message.replace("should have", "must have"))
    return _KINDS.sub("must ", message)


def _one_of(expected: str, given: object) -> str:
    words = re.findall(r"'([^']+)'", expected)
    meant = nearest(given, words) if isinstance(given, str) else None
    told = f"must be one of {', '.join(words)}" if len(words) > 1 else f"must be {expected.strip(chr(39))}"
    return f"{told}; did you mean {meant}?" if meant else told
