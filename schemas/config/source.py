"""Reads ``hotseat.toml`` and the environment, and collects what is wrong with them until everything was looked at.

Rule: each part validates its own sections strictly and leaves the others' alone, so one file serves all parts and a
typing error is still found. Environment variables win over the file: ``HOTSEAT_<SECTION>_<FIELD>``. Whoever reads asks
for all of its sections, then calls ``done``, which tells every problem at once.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.config import toml_lines
from schemas.config.problems import ConfigError, ConfigProblem, near, nearest, problem_words_of
from schemas.config.toml_lines import TomlLines

SECTIONS = frozenset(
    {"store", "model", "broker", "limits", "policy", "gateway", "key", "worker", "routing", "poller", "up"}
)
"""Top-level names a file may have; whoever owns a section refuses unknown keys inside it."""
ARRAYS = frozenset({"model", "key"})
"""Those of them that are written ``[[…]]``; no variable can stand for them."""

ENV_PREFIX = "HOTSEAT_"
NOT_SETTINGS = frozenset(
    {"HOTSEAT_CONFIG", "HOTSEAT_URL", "HOTSEAT_API_KEY", "HOTSEAT_LEASE", "HOTSEAT_NONCE", "HOTSEAT_NOTICE"}
)
"""Variables of the command line (path of the file, broker's address and key for a client) and those that a job under a
lease finds, not of any section."""
MAX_BYTES = 4 * 1024 * 1024

_OF_A_SERVICE = re.compile(
    r"HOTSEAT_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_PORT_OF_A_SERVICE = re.compile(r"HOTSEAT_(?:[A-Z0-9_]+_)?PORT")
_WHERE = re.compile(r" \(at line (\d+), column (\d+)\)$")


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, docstrings kept as descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    beside: ClassVar[frozenset[str]] = frozenset()
    """Names of tables in it that somebody else owns and asks for."""


S = TypeVar("S", bound=Section)


class ConfigSource:
    """One configuration as it was written, and what was found wrong with it so far."""

    def __init__(self, raw: dict[str, Any], *, file: Path | None = None, text: str = "") -> None:
        self.raw = raw
        self._file = "" if file is None else str(file)
        self._text = text
        self._lines: TomlLines | None = None
        self._given: dict[tuple[str | int, ...], str] = {}
        """What a section's field was given by, where that is not the file: a variable, a flag."""
        self._problems: list[ConfigProblem] = []
        self._unsound: set[str] = set()

    @classmethod
    def read(cls, path: Path | None, environ: Mapping[str, str]) -> Self:
        """Read the file (none: everything default) and lay the environment over it.

        Raises:
            ConfigError: The file cannot be read, or is not TOML.
        """
        text = "" if path is None else _text_of(path)
        source = cls(_parsed(text, path), file=path, text=text)
        for name in sorted(source.raw.keys() - SECTIONS):
            source._refuse_section(name)
        for variable, value in sorted(environ.items()):
            if variable.startswith(ENV_PREFIX) and not _is_foreign(variable, value):
                source._overlay(variable, value)
        return source

    # ------------------------------------------------------------------------------------------------- what is asked
    def section(self, kind: type[S], name: str) -> S:
        """One section; an absent one is all defaults, and so is one with problems, until ``done`` tells them."""
        return self._validated(kind, self.raw.get(name, {}), (name,)) or kind.model_construct()

    def tables(self, kind: type[S], name: str) -> tuple[S, ...]:
        """The entries of ``[[name]]``, in file order, without those that have problems."""
        entries = self.raw.get(name, [])
        if not isinstance(entries, list):
            self.blame(f"write [[{name}]], a table for each", name)
            return ()
        found = (self._validated(kind, entry, (name, index)) for index, entry in enumerate(entries))
        return tuple(entry for entry in found if entry is not None)

    def table_in(self, kind: type[S], *path: str | int) -> S | None:
        """A table inside of an entry, ``("model", 2, "vllm")``; an absent one is all defaults.

        None: it has problems, or is absent and needs to be there.
        """
        table: Any = self.raw
        for part in path:
            table = _inside(table, part)
        if table is not None:
            return self._validated(kind, table, path)
        try:
            return kind()
        except ValidationError:
            return None

    def names(self, *path: str) -> list[str]:
        """What the entries at a path are called, those with problems included; more than one name leads deeper."""
        values: list[Any] = [self.raw]
        for part in path:
            inner = (value.get(part) for value in values if isinstance(value, dict))
            values = [one for value in inner for one in (value if isinstance(value, list) else [value])]
        return [one["name"] for one in values if isinstance(one, dict) and isinstance(one.get("name"), str)]

    def is_sound(self, *sections: str) -> bool:
        """Has nothing been found wrong with these?"""
        return self._unsound.isdisjoint(sections)

    def blame(self, what: str, *path: str | int) -> None:
        """Note a problem, at the value that a path leads to: ``("model", 2, "fallbacks")``."""
        if path:
            self._unsound.add(str(path[0]))
        if variable := self._given.get(path[:2]):
            self._problems.append(ConfigProblem(file=variable, what=what))
            return
        table, key = _place(self.raw, path)
        if self._lines is None:
            self._lines = TomlLines(self._text)
        line = self._lines.deepest(path)
        self._problems.append(ConfigProblem(file=self._file, line=line, table=table, key=key, what=what))

    def give(self, section: str, field: str, value: str, *, by: str) -> None:
        """Let a variable or a flag win over the file; ``by`` is what it is called."""
        table = self.raw.setdefault(section, {})
        if isinstance(table, dict):
            table[field] = value
            self._given[section, field] = by

    def done(self) -> None:
        """Everything was asked for.

        Raises:
            ConfigError: With every problem that was found.
        """
        if self._problems:
            in_order = sorted(self._problems, key=lambda one: (one.line is None, one.line or 0))
            raise ConfigError(*dict.fromkeys(in_order))

    # --------------------------------------------------------------------------------------------------------- inside
    def _validated(self, kind: type[S], table: object, where: tuple[str | int, ...]) -> S | None:
        if isinstance(table, dict):
            table = {name: value for name, value in table.items() if name not in kind.beside}
        try:
            return kind.model_validate(table)
        except ValidationError as error:
            found: list[dict[str, Any]] = [dict(one) for one in error.errors(include_url=False)]
            for one in found:
                if not _is_told(kind, one, found):
                    self._blame_found(kind, one, (*where, *(part for part in one["loc"] if part != "[key]")))
            return None

    def _blame_found(self, kind: type[Section], error: dict[str, Any], path: tuple[str | int, ...]) -> None:
        known: Sequence[str] = fields_at(kind, error["loc"][:-1])
        section = str(path[0])
        if path[:2] in self._given and error["type"] == "extra_forbidden" and self._given[path[:2]][:2] != "--":
            self._unsound.add(section)
            meant = near(self._given[path[:2]], [variable_of(section, name) for name in known])
            self._problems.append(
                ConfigProblem(file=self._given[path[:2]], what=f"unknown environment variable; {meant}")
            )
            return
        if _is_no_table_of_several(error) and fields_at(kind, error["loc"]):
            header = ".".join(part for part in path if isinstance(part, str))
            self.blame(f"must be tables of its own, each headed [[{header}]]", *path)
            return
        self.blame(problem_words_of(error, known), *path)

    def _refuse_section(self, name: str) -> None:
        if isinstance(self.raw[name], dict | list):
            meant = nearest(name, SECTIONS)
            shown = f"[[{meant}]]" if meant in ARRAYS else f"[{meant}]"
            hint = f"did you mean {shown}?" if meant else near(name, SECTIONS)
            self.blame(f"unknown section; {hint}", name)
        else:
            self.blame("stands outside of every section", name)

    def _overlay(self, variable: str, value: str) -> None:
        section, _, field = variable.removeprefix(ENV_PREFIX).lower().partition("_")
        if section in SECTIONS - ARRAYS and field:
            if not isinstance(self.raw.setdefault(section, {}), dict):
                self.blame(f"write [{section}], one table", section)
                return
            self.give(section, field, value, by=variable)
            return
        meant = nearest(section, SECTIONS - ARRAYS)
        hint = f"; did you mean {variable_of(meant, field)}?" if meant and field else ""
        if section in ARRAYS:
            hint = f"; [[{section}]] is for the file alone"
        self._problems.append(ConfigProblem(file=variable, what=f"unknown environment variable{hint}"))


def _is_no_table_of_several(error: Mapping[str, Any]) -> bool:
    is_element = bool(error["loc"]) and isinstance(error["loc"][-1], int)
    return error["type"] in {"tuple_type", "list_type"} or (is_element and error["type"].startswith("model_"))


def _is_told(kind: type[Section], error: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Does another problem say it better? One inside of it, or a mistyped name of what is missing."""
    if error["type"] in {"too_short", "too_long"}:
        length = len(error["loc"])
        return any(one["loc"][:length] == error["loc"] and len(one["loc"]) > length for one in others)
    if error["type"] != "missing":
        return False
    *table, name = error["loc"]
    unknown = [one["loc"] for one in others if one["type"] == "extra_forbidden" and [*one["loc"][:-1]] == table]
    return any(nearest(str(loc[-1]), fields_at(kind, table)) == name for loc in unknown)


def variable_of(section: str, field: str) -> str:
    """The environment variable for a field."""
    return f"{ENV_PREFIX}{section}_{field}".upper()


def fields_at(kind: type[Section], where: Sequence[str | int]) -> tuple[str, ...]:
    """The keys of the table that a path of Pydantic's leads to."""
    found: Any = kind
    for part in where:
        if isinstance(part, str):
            field = found.model_fields.get(part) if isinstance(found, type) and issubclass(found, BaseModel) else None
            found = None if field is None else _section_in(field.annotation)
    if not isinstance(found, type) or not issubclass(found, BaseModel):
        return ()
    return (*found.model_fields, *(found.beside if issubclass(found, Section) else ()))


def _section_in(annotation: Any) -> Any:
    """The section that a field holds: itself, one of several, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in getattr(annotation, "__args__", ()) if (found := _section_in(one))), None)


def _place(raw: Mapping[str, Any], path: toml_lines.Path) -> tuple[str, str]:
    """The table and the key that a path leads to, as they are written in the file."""
    value: Any = raw
    table, header, keys = "", list[str](), list[str]()
    for index, part in enumerate(path):
        value = _inside(value, part)
        if isinstance(part, str):
            header.append(part)
            keys.append(part)
            if index == 0:
                table, keys = f"[[{part}]]" if part in ARRAYS else f"[{part}]", []
        elif isinstance(value, dict):
            table, keys = f"[[{'.'.join(header)}]] {_title(value, part)}", []
        else:
            keys.append(f"[{part}]")
    return table, ".".join(keys).replace(".[", "[")


def _title(entry: Mapping[str, Any], number: int) -> str:
    name = entry.get("name", entry.get("id"))
    return json.dumps(name[:64], ensure_ascii=False) if isinstance(name, str) else f"number {number + 1}"


def _inside(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _is_foreign(variable: str, value: str) -> bool:
    """Not of any section: a client's, or what Kubernetes tells of a Service whose name begins with ours."""
    if variable in NOT_SETTINGS or _OF_A_SERVICE.fullmatch(variable):
        return True
    return _PORT_OF_A_SERVICE.fullmatch(variable) is not None and value.startswith(("tcp://", "udp://", "sctp://"))


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(ConfigProblem(file=str(path), what=error.strerror or "cannot be read")) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(
            ConfigProblem(file=str(path), what=f"more than {MAX_BYTES} bytes; no configuration is that large")
        )
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ConfigError(ConfigProblem(file=str(path), what="is not UTF-8")) from None


def _parsed(text: str, path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = _WHERE.search(str(error))
        what = f"not TOML: {_WHERE.sub('', str(error))}" + (f", column {where[2]}" if where else "")
        line = int(where[1]) if where else None
        raise ConfigError(ConfigProblem(file=str(path), line=line, what=what)) from None
    except RecursionError:
        raise ConfigError(ConfigProblem(file=str(path), what="not TOML: nested too deeply")) from None
