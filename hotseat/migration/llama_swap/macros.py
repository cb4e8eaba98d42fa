"""llama-swap's macros: ``${name}``, ``${env.NAME}``, and the ones that are ours to fill in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_TEXT = 64 * 1024
"""Characters after expansion: macros that contain each other twice grow without end."""
MAX_ROUNDS = 32
MAX_VALUES = 10_000
"""Values of one parameter: an alias of YAML may stand for millions of them."""
_MACRO = re.compile(r"\$\{([A-Za-z0-9_.-]{1,128})\}")


class MacroError(ValueError):
    """A macro cannot be expanded; the message names it."""


@dataclass(frozen=True, slots=True)
class Macros:
    """What can be expanded at one place of the document."""

    values: Mapping[str, Any]
    environ: Mapping[str, str] = field(repr=False)

    def with_more(self, more: Mapping[str, Any]) -> "Macros":
        """These and others, which win."""
        return Macros({**self.values, **more}, self.environ)

    def expand(self, text: str) -> str:
        """The text without macros.

        Raises:
            MacroError: One is unknown, not set in the environment, or they grow without end.
        """
        for _ in range(MAX_ROUNDS):
            if _MACRO.search(text) is None:
                return text
            size = 0
            parts: list[str] = []
            end = 0
            for found in _MACRO.finditer(text):
                parts += [text[end : found.start()], macro_text_of(self._value(found[1]))]
                size += len(parts[-2]) + len(parts[-1])
                end = found.end()
                if size > MAX_TEXT:
                    raise MacroError("its macros expand to more than 64 KiB")
            text = "".join([*parts, text[end:]])
        raise MacroError("its macros contain each other")

    def without_environment(self, text: str) -> str:
        """The same, with a word in place of every variable: to look at what is started, whatever is set here.

        Raises:
            MacroError: As ``expand``.
        """
        return Macros(self.values, _Anything()).expand(text)

    def inside(self, value: Any) -> Any:
        """A value with the macros of its texts expanded; one that is a macro and nothing else keeps its type.

        Raises:
            MacroError: As ``expand``, or there are too many values.
        """
        return self._inside(value, [0])

    def _inside(self, value: Any, count: list[int]) -> Any:
        count[0] += 1
        if count[0] > MAX_VALUES:
            raise MacroError(f"it holds more than {MAX_VALUES} values")
        if isinstance(value, str):
            whole = _MACRO.fullmatch(value)
            if whole is not None and not isinstance(known := self.values.get(whole[1], ""), str):
                return known
            return self.expand(value)
        if isinstance(value, list):
            return [self._inside(one, count) for one in value]
        if isinstance(value, dict):
            return {self.expand(str(name)): self._inside(one, count) for name, one in value.items()}
        return value

    def _value(self, name: str) -> Any:
        if name.startswith("env."):
            if (value := self.environ.get(name.removeprefix("env."))) is None:
                raise MacroError(f"the environment variable {name.removeprefix('env.')} is not set here")
            return value
        if name not in self.values:
            raise MacroError(f"${{{name}}} is not defined")
        return self.values[name]


class _Anything(dict[str, str]):
    def get(self, _name: str, _default: object = None) -> str:
        return "x"


def macro_text_of(value: object) -> str:
    """A macro's value as llama-swap writes it into a command.

    Raises:
        MacroError: It is a table, a list or nothing.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise MacroError("a macro must be text, a number or a boolean")
