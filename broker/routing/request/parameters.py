"""What a name changes about a request: one loaded model under several names that differ in parameters.

Rule: top-level fields of a JSON body only, each with its whole value. Of several who say something, the name that was
asked for comes last: strip, then defaults where the request says nothing, then what is set whatever it says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

V = TypeVar("V")
Json = bytes
"""A value as it is written into the body, in JSON."""

ROOM_FIELDS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "n_predict")
"""Fields in which a request says how long its reply may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What one name changes about a request: fields that go, fields that are filled in, fields that are set."""

    strip: frozenset[str] = frozenset()
    """Fields that the request loses."""
    default: Mapping[str, Json] = field(default_factory=dict)
    """Fields that are filled in where the request has none, or has lost its own."""
    set: Mapping[str, Json] = field(default_factory=dict)
    """Fields that are set whatever the request has."""

    def __bool__(self) -> bool:
        """Tell whether there is anything to change."""
        return bool(self.strip or self.default or self.set)

    def within(self, outer: Self) -> Self:
        """Join these with those of a name that leads here, which come last."""
        return type(self)(
            strip=self.strip | outer.strip,
            default={**self.default, **outer.default},
            set={**self.set, **outer.set},
        )

    def apply(self, fields: Mapping[str, V], make: Callable[[Json], V]) -> dict[str, V]:
        """Return a request's fields as they are sent; ``make`` gives a value the form that the body's have."""
        result = {name: value for name, value in fields.items() if name not in self.strip}
        for name, value in self.default.items():
            result.setdefault(name, make(value))
        return result | {name: make(value) for name, value in self.set.items()}

    def reply_tokens(self, asked: int | None) -> int | None:
        """Return the room for the reply that a request is sent with, tokens; None: nobody says.

        Args:
            asked: What the request itself says.
        """
        if (tokens := _room(self.set)) is not None:
            return tokens
        kept = None if self.strip.intersection(ROOM_FIELDS) else asked
        return _room(self.default) if kept is None else kept


NOTHING = Parameters()


def _room(values: Mapping[str, Json]) -> int | None:
    found = [int(value) for name in ROOM_FIELDS if (value := values.get(name, b"")).isdigit()]
    return max(found, default=None)
