"""Memory that several API keys share: when it is full, the oldest entries of the key that has most go first."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class Shared(Generic[K, V]):
    """A bounded table that several API keys share. A key that floods it displaces its own entries only."""

    limit: int
    whose: Callable[[K], str]
    """Names the API key that an entry belongs to."""
    _of: dict[str, "OrderedDict[K, V]"] = field(default_factory=dict)
    _number: int = 0

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, name: K) -> V:
        return self._of[self.whose(name)][name]

    def get(self, name: K) -> V | None:
        """Return one entry; None: it is not there."""
        mine = self._of.get(self.whose(name))
        return None if mine is None else mine.get(name)

    def put(self, name: K, value: V) -> None:
        """Put an entry in, as its key's newest."""
        self.pop(name)
        self._of.setdefault(self.whose(name), OrderedDict())[name] = value
        self._number += 1
        if self._number > self.limit:
            fullest: OrderedDict[K, V] = max(self._of.values(), key=len)
            self.pop(next(iter(fullest)))

    def pop(self, name: K) -> V | None:
        """Take one entry out; None: it was not there."""
        owner = self.whose(name)
        mine = self._of.get(owner)
        if mine is None or name not in mine:
            return None
        self._number -= 1
        value = mine.pop(name)
        if not mine:
            del self._of[owner]
        return value
