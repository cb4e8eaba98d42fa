"""Rows as flat words: how a hash spells a row's fields, and structs that JSON of such words decodes into.

A missing word and an empty one say nothing: the field has its default then. A list is words with blanks between, a
mapping is ``KEY=NUMBER …``, a ``Statistic`` is three words.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from broker.pool.records.rows import Statistic

STATISTIC = {"mean": "ms", "var": "var", "n": "n"}
"""Field, and how the name of its word ends."""


def words_of_row(kind: type, *, but: frozenset[str] = frozenset()) -> list[str]:
    """Names of the words that a hash has for the fields of a row."""
    found: list[str] = []
    for name, hint in get_type_hints(kind).items():
        if name not in but:
            found += [f"{name}_{end}" for end in STATISTIC.values()] if hint is Statistic else [name]
    return found


def struct_of(name: str, *rows: type, only: tuple[str, ...] = (), **more: Any) -> Any:
    """A struct with the fields of rows, for whoever reads such a row, or something that has one as its ``row``.

    JSON decodes into it in a quarter of the time that it takes with the rows themselves (measured: 1 us, 4.5 us for a
    lease).

    Args:
        name: Of the struct.
        rows: Dataclasses.
        only: Of their fields these; none: all.
        more: Further fields, by type.
    """
    found: list[Any] = list(more.items())
    parsers: dict[str, Callable[[Any, str], Any]] = {}
    for kind in rows:
        hints = get_type_hints(kind)
        for field in fields(kind):
            hint = hints[field.name]
            if only and field.name not in only:
                continue
            if hint is Statistic:
                found += [(f"{field.name}_{end}", int, 0) for end in STATISTIC.values()]
            parse = _parser(hint)
            if parse is not None:
                found.append((field.name, Any, ""))
                parsers[field.name] = parse
            else:
                told = bool | Literal[""] if hint is bool else hint  # an earlier version wrote an empty word for no
                found.append((field.name, told) if field.default is MISSING else (field.name, told, field.default))
    members: dict[str, Any] = {"row": property(lambda self: self)}
    if parsers:
        members["__post_init__"] = _parsing(parsers)
    return msgspec.defstruct(name, found, kw_only=True, namespace=members)


def _parsing(parsers: Mapping[str, Callable[[Any, str], Any]]) -> Callable[[Any], None]:
    """What is done once the words are there; a ``ValueError`` of it is one of decoding."""

    def parse_all(self: Any) -> None:
        for name, parse in parsers.items():
            setattr(self, name, parse(self, name))

    return parse_all


def _parser(hint: Any) -> Callable[[Any, str], Any] | None:
    """How a field's words become its value, where msgspec does not know."""
    if hint is Statistic:
        return _statistic
    if get_origin(hint) is Mapping:
        return _numbers
    if get_origin(hint) is tuple:
        return lambda told, name: tuple(getattr(told, name).split())
    if get_origin(hint) in {Union, UnionType}:
        kind = next(kind for kind in get_args(hint) if kind is not NoneType)
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return lambda told, name: kind(getattr(told, name)) if getattr(told, name) else None
    return None


def _statistic(told: Any, name: str) -> Statistic:
    return Statistic(**{field: getattr(told, f"{name}_{end}") for field, end in STATISTIC.items()})


def _numbers(told: Any, name: str) -> dict[str, int]:
    pairs = (pair.rpartition("=") for pair in getattr(told, name).split())
    return {key: int(number) for key, _, number in pairs}
