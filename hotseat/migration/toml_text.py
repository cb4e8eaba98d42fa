"""Values as TOML, in which every character can be seen: a stranger's may hide text or turn it around."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

LONG_LINE = 90
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NoTomlError(ValueError):
    """TOML has no form for a value; the message says what it is."""


def toml_quoted(text: str) -> str:
    """Write text as a basic string of TOML, with escapes for what cannot be seen."""
    plain = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in plain)


def _escaped(char: str) -> str:
    number = ord(char)
    if 0xD800 <= number < 0xE000:
        return "\\uFFFD"
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"


def toml(value: Any) -> str:
    """Write a value as it stands behind an equals sign; long lists of words have one option a line.

    Raises:
        NoTomlError: It is null, a number that is none, a date, or something no document holds.
    """
    if isinstance(value, str | bool | int):
        return toml_quoted(value) if isinstance(value, str) else json.dumps(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NoTomlError("a number that JSON has no form for")
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key(str(name))} = {toml(one)}" for name, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        inner = ", ".join(toml(one) for one in value)
        words = all(isinstance(one, str) for one in value)
        return f"[{inner}]" if len(inner) < LONG_LINE or not words else _one_a_line(value)
    raise NoTomlError("null" if value is None else f"a {type(value).__name__}")


def key(name: str) -> str:
    """Write a key, in quotes where it must be."""
    return name if _BARE.fullmatch(name) else toml_quoted(name)


def _one_a_line(words: Sequence[str]) -> str:
    """Write each option on a line of its own, with its value beside it."""
    lines: list[str] = []
    for word in words:
        text = toml_quoted(word)
        if not lines or word.startswith("-") or not lines[-1].startswith('"-') or '", "' in lines[-1]:
            lines.append(text)
        else:
            lines[-1] += f", {text}"
    return "[\n" + "".join(f"  {line},\n" for line in lines) + "]"
