"""Reads a document of another program key by key.

Rule: a value was asked for by somebody, or it is told in the end: nothing of it gets lost because nobody knew it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hotseat.migration.yaml_file import ImportFailedError, one_line


class DocumentTable:
    """One table of the document, and which of its keys were asked for."""

    def __init__(self, values: object, where: str, resolve: Callable[[Any, str], Any] | None = None) -> None:
        """Wrap a value that should be a table; None is an empty one.

        Args:
            values: The value in the document.
            where: What it is called in messages.
            resolve: Tells what a value stands for, given what it is called; None: for itself.

        Raises:
            ImportFailedError: It is no table.
        """
        if values is not None and not isinstance(values, dict):
            raise ImportFailedError(f"{where}: must be a table, and is {type(values).__name__}")
        self.where = where
        self._resolve = resolve
        self._values: Mapping[str, Any] = {str(key): value for key, value in (values or {}).items()}
        self._asked: set[str] = set()
        self._inner: list[DocumentTable] = []
        self._tables: dict[str, DocumentTable] = {}

    def __iter__(self) -> Iterator[str]:
        """Iterate over the table's keys; none counts as asked for by that."""
        return iter(self._values)

    def __contains__(self, key: str) -> bool:
        """Tell whether there is anything under this key. Null is nothing."""
        return self._values.get(key) is not None

    def __len__(self) -> int:
        """Count the table's keys."""
        return len(self._values)

    def path(self, key: str) -> str:
        """Return what one of its keys is called in messages."""
        return f"{self.where}.{one_line(key)}" if self.where else one_line(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value; whoever asks says so if it cannot be carried over."""
        value = self.raw(key)
        if self._resolve is not None:
            value = self._resolve(value, self.path(key))
        return default if value is None else value

    def raw(self, key: str) -> Any:
        """Return a value as it is written."""
        self._asked.add(key)
        return self._values.get(key)

    def table(self, key: str) -> "DocumentTable":
        """Return a table in it, the same one each time; an absent one is empty."""
        if key not in self._tables:
            self._tables[key] = self.adopt(DocumentTable(self.get(key), self.path(key), self._resolve))
        return self._tables[key]

    def adopt(self, inner: "DocumentTable") -> "DocumentTable":
        """Answer for a table that lies deeper, in a list."""
        self._inner.append(inner)
        return inner

    def told(self) -> None:
        """Note that the table was told of as a whole."""
        self._asked |= self._values.keys()
        self._inner.clear()

    def unasked(self) -> Iterator[str]:
        """Yield what nobody asked for, here and in the tables that somebody did ask for."""
        yield from (self.path(key) for key in self._values if key not in self._asked and self._values[key] is not None)
        for inner in self._inner:
            yield from inner.unasked()


def number_of(value: object, *, most: float = 1e9) -> float | None:
    """Return a number that is not negative and not beyond reason; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return None
    return value


def count_of(value: object, *, most: int) -> int | None:
    """Return a whole number above 0; None: it is none."""
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most
    return int(value) if whole else None  # type: ignore[call-overload]  # an int by then
