"""``parameters`` of a model, an alias or an upstream's model: what it changes about a request's body."""

import json
from typing import Any, Self

from pydantic import Field, model_validator

from schemas.config.source import Section

OURS = ("model", "stream")
"""Fields by which the broker itself goes."""
MAX_CHARACTERS = 64 * 1024


class ParametersEntry(Section):
    """Top-level fields of a JSON body, each with its whole value; forms pass as they came.

    Of several who say something the name that was asked for has the last word, before the model that serves.
    """

    strip: tuple[str, ...] = Field(default=(), max_length=100)
    """Fields that a request loses."""
    default: dict[str, Any] = Field(default_factory=dict, max_length=100)
    """Fields for requests that do not have them."""
    set: dict[str, Any] = Field(default_factory=dict, max_length=100)
    """Fields that a request gets whatever it has."""

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        for table, names in (("strip", self.strip), ("default", tuple(self.default)), ("set", tuple(self.set))):
            if ours := [name for name in OURS if name in names]:
                raise ValueError(f"{table}: {ours[0]} is the broker's own")
        for table, values in (("default", self.default), ("set", self.set)):
            try:
                text = json.dumps(values, allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                raise ValueError(f"{table}: holds a value that JSON has no form for (a date, nan, inf)") from None
            if len(text) > MAX_CHARACTERS:
                raise ValueError(f"{table}: more than {MAX_CHARACTERS} characters")
        return self

    def encoded(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """``default`` and ``set`` with their values as they are written into a body."""
        first, second = (
            {name: json.dumps(value, ensure_ascii=False).encode() for name, value in table.items()}
            for table in (self.default, self.set)
        )
        return first, second
