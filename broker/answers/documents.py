"""What JSON of strangers is read as: an object or a list of objects; anything else is an empty one."""

from typing import Any

Document = dict[str, Any]


def tables(value: object) -> list[Document]:
    """The objects of a list; anything else is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def table_in(value: object) -> Document:
    """An object; anything else is an empty one."""
    return value if isinstance(value, dict) else {}
