"""On which line of a TOML file a value stands, found with the standard library's parser and nothing else.

Rule: tomllib tells no positions, but it tells which beginnings of a file are documents, and what is in them. A value is
brought in by the lines between the last such beginning without it and the first one with it: one statement.
"""

import tomllib
from itertools import chain
from typing import Any

Path = tuple[str | int, ...]
"""Names of tables and keys, numbers of entries: ``("model", 2, "memory_mib")``."""

MAX_LINES = 20_000
"""Of a longer file no lines are told: each value costs a dozen readings of its beginning."""


class TomlLines:
    """The lines of one file that was read without an error."""

    def __init__(self, text: str) -> None:
        lines = text.split("\n")
        self._lines = lines if len(lines) <= MAX_LINES else []
        self._read: dict[int, dict[str, Any] | None] = {0: {}}

    def line_of(self, path: Path) -> int | None:
        """Where the statement begins that brings the value in, counted from 1; None: it is not in the file."""
        last = len(self._lines)
        if not self._has(last, path) or not path:
            return None
        without, holding = 0, last
        while holding - without > 1:
            middle = self._document_between(without, holding)
            if middle is None:
                break
            if self._has(middle, path):
                holding = middle
            else:
                without = middle
        return without + 1

    def deepest(self, path: Path) -> int | None:
        """The line of the value, or of the innermost table around it that is in the file."""
        for length in range(len(path), 0, -1):
            if (line := self.line_of(path[:length])) is not None:
                return line
        return None

    def _document_between(self, low: int, high: int) -> int | None:
        """A number of lines strictly between the two that are a document, near the middle; None: there is none."""
        middle = (low + high) // 2
        for count in chain(range(middle, high), range(middle - 1, low, -1)):
            if self._document(count) is not None:
                return count
        return None

    def _has(self, count: int, path: Path) -> bool:
        value: Any = self._document(count)
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return False
        return value is not None

    def _document(self, count: int) -> dict[str, Any] | None:
        if count not in self._read:
            try:
                self._read[count] = tomllib.loads("\n".join(self._lines[:count]))
            except (tomllib.TOMLDecodeError, RecursionError):
                self._read[count] = None
        return self._read[count]
