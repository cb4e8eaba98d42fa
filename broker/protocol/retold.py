"""Errors of model servers and upstreams, in the envelope that the client's SDK reads.

Rule: what is in that envelope already passes as it is, byte by byte; of anything else the status and the server's own
message are kept, and the rest is ours. In a stream only events that say that they are an error are looked at.
"""

import re

import msgspec

from broker.answers.documents import Document
from broker.answers.reading import decoded
from broker.answers.said import MAX_ERROR_READ, Said, said_by, said_in
from broker.protocol.endpoints import ApiEndpoint, Dialect, EventShape
from broker.protocol.error_page import type_of
from broker.protocol.headers import Headers

HINT = b"error"
"""Is in every event that could be one."""
_ENDS_IN_HINT = re.compile(rb"(?:^|[\s\":])e(?:r(?:ro?)?)?$")
"""The word may be cut in the midst."""
MOST_BEGUN = 64
"""Bytes of an event that the client has already; an error that begins with as much can still be told right."""
_FRAMED = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_ANTHROPIC_TYPES = frozenset(
    {
        "invalid_request_error", "authentication_error", "billing_error", "permission_error", "not_found_error",
        "request_too_large", "rate_limit_error", "timeout_error", "api_error", "overloaded_error",
    }
)  # fmt: skip


def whole(status: int, headers: Headers, body: bytes, endpoint: ApiEndpoint) -> tuple[Headers, bytes]:
    """A whole answer that is an error: its head and body for the client.

    Args:
        status: 400 and above.
        headers: Of the answer, names in lower case.
        body: All of it; of a longer one than ``MAX_ERROR_READ`` the beginning.
        endpoint: That was asked.
    """
    is_plain = dict(headers).get(b"content-encoding", b"").strip().lower() in {b"", b"identity"}
    if len(body) < MAX_ERROR_READ and (not is_plain or _is_right(decoded(body), endpoint)):
        return headers, body
    said = said_by(_data_of(body) or body) if is_plain else Said(message="")
    told = msgspec.json.encode(envelope(said, status, endpoint.dialect))
    kept = [(name, value) for name, value in headers if name not in _FRAMED]
    return [*kept, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(told))], told


def envelope(said: Said, status: int, dialect: Dialect) -> Document:
    """An error of a server's, as the dialect has it."""
    message = said.message or f"the model server answered {status} without a word"
    if dialect is Dialect.ANTHROPIC:
        kind = said.kind if said.kind in _ANTHROPIC_TYPES else type_of(status, dialect)
        more = {} if said.code is None else {"code": said.code}
        return {"type": "error", "error": {"type": kind, "message": message, **more}}
    kind = said.kind or type_of(status, dialect)
    return {"error": {"message": message, "type": kind, "param": said.param, "code": said.code}}


class Events:
    """A stream's pieces on their way to the client: its errors are told as its parsers know them.

    Pieces pass as they are cut, but for those with an error in them, which are kept until it is there as a whole.
    """

    __slots__ = ("_begun", "_endpoint", "_held")

    def __init__(self, endpoint: ApiEndpoint) -> None:
        self._endpoint = endpoint
        self._held = b""
        self._begun = b""
        """What was passed on of an event that is not all there, as far as it matters."""

    def take(self, pieces: list[bytes]) -> list[bytes]:
        """What may go out now."""
        if not self._held and not self._begun and all(map(_is_ordinary, pieces)):
            return pieces
        out: list[bytes] = []
        for piece in pieces:
            out += self._one(piece)
        return out

    def rest(self) -> list[bytes]:
        """What is still kept when the stream ends."""
        held, self._held = self._held, b""
        return [self._told(held)] if held else []

    def _one(self, piece: bytes) -> list[bytes]:
        whole, self._held = self._held + piece, b""
        has_error = HINT in whole
        if (
            len(whole) < MAX_ERROR_READ
            and not whole.endswith(_ENDS)
            and (has_error or _ENDS_IN_HINT.search(whole[-5:]))
        ):
            self._held = whole
            return []
        told = self._told(whole) if has_error and len(whole) < MAX_ERROR_READ else whole
        self._begun = _begun(self._begun + whole)
        return [told]

    def _told(self, events: bytes) -> bytes:
        """The same events; those that are an error in another form in the right one."""
        if not self._begun:
            return self._each(events)
        first = min((at for end in _ENDS if (at := events.find(end)) >= 0), default=-1)
        if first < 0:
            return self._continued(events)
        return self._continued(events[:first]) + self._each(events[first:])

    def _continued(self, rest: bytes) -> bytes:
        """The rest of an event whose beginning the client has."""
        told = self._event(self._begun + rest)
        if told.startswith(b"event: error\n") and self._begun[:5] == b"data:"[: len(self._begun)]:
            told = told.removeprefix(b"event: error\n") + b"\nevent: error"  # the order of its lines is free
        return told[len(self._begun) :] if told.startswith(self._begun) else rest

    def _each(self, events: bytes) -> bytes:
        end = b"\r\n\r\n" if b"\r\n\r\n" in events else b"\n\n"
        parts = events.split(end)
        return end.join([self._event(part) if HINT in part else part for part in parts])

    def _event(self, event: bytes) -> bytes:
        name, data = _name_of(event), _data_of(event)
        document = decoded(data) if data else None
        if not _is_error(document, name) or self._is_told(document, name):
            return event
        said = said_by(data) if document is None else said_in(document)
        return error_event(said, self._endpoint).removesuffix(b"\n\n")

    def _is_told(self, document: Document | None, name: bytes) -> bool:
        """Will the client's SDK raise it?"""
        shape = self._endpoint.shape
        if shape is EventShape.MESSAGES:
            return name == b"error" and _is_anthropics(document)
        if shape is EventShape.RESPONSES and document is not None and document.get("type") == "error":
            return isinstance(document.get("message"), str) or _is_openais(document)
        return _is_openais(document) and name != _FIELD


def _is_ordinary(piece: bytes) -> bool:
    return piece.endswith(_ENDS) and HINT not in piece


def _begun(passed: bytes) -> bytes:
    """Of the last event, if it is not all there: its beginning."""
    at = max(passed.rfind(end) + len(end) if end in passed else 0 for end in _ENDS)
    return passed[at : at + MOST_BEGUN + 1]


def error_event(said: Said, endpoint: ApiEndpoint) -> bytes:
    """An error of a server's as the event that ends a stream."""
    told = envelope(said, said.status or 500, endpoint.dialect)
    if endpoint.shape is EventShape.RESPONSES:
        error = told["error"]
        typed = {name: error[name] for name in ("code", "message", "param")}
        told = {"type": "error", **typed, "sequence_number": 0, **told}
    name = b"event: error\n" if endpoint.shape in {EventShape.RESPONSES, EventShape.MESSAGES} else b""
    return name + b"data: " + msgspec.json.encode(told) + b"\n\n"


_FIELD = b"\x00error"
"""For the name of an event in llama.cpp's former form: ``error:`` instead of ``data:``, which no parser reads."""


def _lines(event: bytes) -> list[bytes]:
    return event.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


def _name_of(event: bytes) -> bytes:
    for line in _lines(event):
        if line.startswith(b"event:"):
            return line[6:].strip()
        if line.startswith(b"error:"):
            return _FIELD
    return b""


def _data_of(event: bytes) -> bytes:
    """Of an event; nothing: it is none."""
    found = [line.partition(b":")[2].strip() for line in _lines(event) if line.startswith((b"data:", b"error:"))]
    return b"\n".join(found)


def _is_error(document: Document | None, name: bytes) -> bool:
    """Does an event say that it is one, and nothing else?"""
    if document is None:
        return name in {b"error", _FIELD}
    if name in {b"error", _FIELD} or document.get("object") == "error" or document.get("type") == "error":
        return True
    return bool(document.get("error")) and not document.get("choices")


def _is_right(document: Document | None, endpoint: ApiEndpoint) -> bool:
    return _is_anthropics(document) if endpoint.dialect is Dialect.ANTHROPIC else _is_openais(document)


def _is_openais(document: Document | None) -> bool:
    error = None if document is None else document.get("error")
    return isinstance(error, dict) and isinstance(error.get("message"), str) and bool(error["message"])


def _is_anthropics(document: Document | None) -> bool:
    if document is None or document.get("type") != "error" or not _is_openais(document):
        return False
    return isinstance(document["error"].get("type"), str)
