"""llama-swap's macros: ``${name}``, ``${env.NAME}``, and the ones that are ours to fill in."""

import re
from collections.abc import Mapping

MAX_TEXT = 64 * 1024
"""Characters after expansion: macros that contain each other twice grow without end."""
MAX_ROUNDS = 32
_MACRO = re.compile(r"\$\{([A-Za-z0-9_.-]{1,128})\}")


class MacroError(ValueError):
    """A macro cannot be expanded; the message names it."""


def text_of(value: object) -> str:
    """A macro's value as llama-swap writes it into a command."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise MacroError("a macro must be text, a number or a boolean")


def expand(text: str, macros: Mapping[str, str], environ: Mapping[str, str]) -> str:
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
            parts += [text[end : found.start()], _value(found[1], macros, environ)]
            size += len(parts[-2]) + len(parts[-1])
            end = found.end()
            if size > MAX_TEXT:
                raise MacroError("its macros expand to more than 64 KiB")
        text = "".join([*parts, text[end:]])
    raise MacroError("its macros contain each other")


def _value(name: str, macros: Mapping[str, str], environ: Mapping[str, str]) -> str:
    if name.startswith("env."):
        if (value := environ.get(name.removeprefix("env."))) is None:
            raise MacroError(f"the environment variable {name.removeprefix('env.')} is not set here")
        return value
    if name not in macros:
        raise MacroError(f"${{{name}}} is not defined")
    return macros[name]
