"""JSON as clients' parsers take it, and as other programs write it."""

import json
import re

import msgspec

from broker.answers.documents import Document

LOOKED_AT = 1024 * 1024
"""Bytes in which the fault of a body is looked for."""
_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{")
_HALF = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
_NO_NUMBER = re.compile(rb"[:\[,]\s{0,64}-?(?:NaN|Infinity)\s{0,64}[,}\]]")


def without_mark(body: bytes) -> bytes:
    """Drop the byte order mark with which Windows' programs begin a file; model servers skip it too."""
    return body.removeprefix(_MARK)


def fault_of(body: bytes, error: Exception) -> str:
    """What is wrong with a body that a strict parser does not take, in words that say what to do."""
    body = body[:LOOKED_AT]
    if body.startswith(_UTF_16):
        return "it is UTF-16, and JSON has to be UTF-8"
    if _HALF.search(body):
        return "a text in it ends or begins with half a character (\\ud83d and the like): it was cut inside an emoji"
    if _NO_NUMBER.search(body):
        return "NaN and Infinity are no JSON; leave such a field out"
    return str(error)


def decoded(data: bytes) -> Document | None:
    """Return the JSON object, or None."""
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
