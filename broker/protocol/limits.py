"""Bounds on what one request may cost before anybody knows whether it is sound."""

from urllib.parse import parse_qsl

from starlette.types import Message, Receive, Scope

from broker.protocol.client_side import ClientGoneError
from broker.protocol.errors import InvalidError, MediaTypeError, TooLargeError
from broker.protocol.unpacking import codings_of, unpacked

MAX_BODY = 8 * 1024
"""Bytes. The largest sound body is under 2 KiB."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """A header's value.

    Raises:
        InvalidError: It is there twice.
    """
    found = None
    for key, value in scope["headers"]:
        if key == name:
            if found is not None:
                raise InvalidError(f"the header {name.decode()} is sent twice")
            found = value
    return found


def require_json(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request that says that it is JSON: a page cannot say so without asking first.

    Raises:
        MediaTypeError
        InvalidError: Type or length are sent twice.
    """
    headers = dict(scope["headers"])
    if len(headers) != len(scope["headers"]):
        for name in (b"content-type", b"content-length"):
            header(scope, name)
    content_type = headers.get(b"content-type", b"")
    if content_type != b"application/json" and not _is_json(content_type):
        raise MediaTypeError("send Content-Type: application/json, in UTF-8")
    return headers


async def read_json_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body of a small JSON request; how long it may take is ``connections.py``'s business.

    Raises:
        MediaTypeError, TooLargeError, MalformedError
        ClientGoneError: The client went away half-way.
    """
    headers = require_json(scope)
    codings = codings_of(b",".join(value for name, value in scope["headers"] if name == b"content-encoding"))
    length = headers.get(b"content-length")
    if length is not None and (not length.isdigit() or int(length[:12]) > MAX_BODY):
        raise TooLargeError(f"the body may have {MAX_BODY} bytes at most")
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= MAX_BODY:
        message = await _next(receive)
        body += message.get("body", b"")
    if len(body) > MAX_BODY:
        raise TooLargeError(f"the body may have {MAX_BODY} bytes at most")
    return unpacked(body, codings, MAX_BODY) if codings else body


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


def _is_json(content_type: bytes) -> bool:
    kind, _, parameters = content_type.partition(b";")
    charset = parameters.strip().lower().replace(b'"', b"")
    return kind.strip().lower() == b"application/json" and charset in {b"", b"charset=utf-8"}


def query_of(scope: Scope, known: frozenset[str]) -> dict[str, str]:
    """The query's parameters.

    Raises:
        InvalidError: One is unknown or given twice.
    """
    raw: bytes = scope["query_string"]
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except ValueError:
        raise InvalidError("the query cannot be read") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise InvalidError("a query parameter is given twice")
    if strangers := sorted(query.keys() - known):
        raise InvalidError(f"unknown query parameter {strangers[0]!r}; known: {', '.join(sorted(known)) or 'none'}")
    return query
