"""Reads a stranger's YAML: plain data only, bounded, with errors that say where."""

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1024 * 1024
MAX_MERGED = 10_000
"""Entries of one table after its merge keys (``<<``): a few lines of them can stand for billions."""

YamlTable = dict[str, Any]


class ImportFailedError(ValueError):
    """The file cannot be imported; the message says what is wrong and where."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """Safe, and as strict as the programs that these files are for: a key that occurs twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r:.80} occurs twice", key.start_mark
                    )
                seen.add(key.value)
        table: dict[Any, Any] = super().construct_mapping(node, deep)
        return table

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_MERGED:
            raise yaml.constructor.ConstructorError(None, None, "its merge keys are too many", node.start_mark)


def read_yaml(path: Path) -> YamlTable:
    """The file's top-level table.

    Raises:
        ImportFailedError: Unreadable, too large, not YAML, or no table.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImportFailedError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ImportFailedError(f"{path}: more than {MAX_BYTES} bytes; no configuration is that large")
    try:
        loaded = yaml.load(data, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}: line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise ImportFailedError(
            f"{where}: not YAML that can be used: {one_line(error.problem or 'unreadable')}"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise ImportFailedError(f"{path}: not YAML that can be used: {one_line(str(error))}") from None
    except RecursionError:
        raise ImportFailedError(f"{path}: nested too deeply") from None
    if not isinstance(loaded, dict):
        raise ImportFailedError(f"{path}: the top level must be a table (key: value)")
    return loaded


def one_line(text: object, limit: int = 160) -> str:
    """Anything as text that is safe in a comment and on a terminal: no line ends, no control characters, not long.

    Of tables and lists only the kind is told: a value may be a secret, and an alias may stand for a million of them.
    """
    if isinstance(text, dict | list):
        return "a table" if isinstance(text, dict) else "a list"
    plain = "".join(char if char.isprintable() else "�" for char in str(text)[: limit + 1])
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"
