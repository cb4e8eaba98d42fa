"""JSON as clients' parsers take it."""

import json

import msgspec

from broker.answers.documents import Document


def decoded(data: bytes) -> Document | None:
    """The JSON object, or None."""
    value = json_of(data)
    return value if isinstance(value, dict) else None


def json_of(data: bytes) -> object:
    """What clients' parsers make of it: where the fast one is too strict, the standard library's is asked.

    That is so for numbers beyond all bounds, half a surrogate pair, and bytes that are no UTF-8.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
