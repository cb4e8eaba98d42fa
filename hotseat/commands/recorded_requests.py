"""Requests as people and programs record them: JSON, a JSON object a line, batches of OpenAI's, archives of browsers.

Rule: credentials are left where they are; what is not a request is named with its place.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CREDENTIALS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization", "api-key"})
ADDRESSES = ("path", "url", "endpoint", "uri")
BODIES = ("body", "request_body", "requestBody", "payload", "json")
BARE = frozenset({"messages", "prompt", "input", "model", "documents"})
MOST_HEADERS = 200

Fields = dict[str, Any]


class NotRecordedError(ValueError):
    """The file holds no requests; the message says where that shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One recorded request, or what stands where one should be."""

    place: str
    """Where it stands in the file, in words for people."""
    request: Fields
    """The request as ``POST /route`` takes it; empty: it is none."""
    trouble: str = ""
    """Why it is no request; empty: it is one."""


def records_of(text: str) -> Iterator[Record]:
    """Yield all requests of a file.

    Raises:
        NotRecordedError: It is neither JSON nor JSON lines.
    """
    for place, value in _values(text):
        try:
            yield Record(place=place, request=request_of(value))
        except ValueError as error:
            yield Record(place=place, request={}, trouble=str(error))


def _values(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the file's objects, and an error in place of a line that is none."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise NotRecordedError("it is empty")
    if len(lines) > 1 and _is_object(lines[0][1]):
        for number, line in lines:
            yield f"line {number}", _value_or_error(line)
        return
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotRecordedError(f"it is neither JSON nor one JSON object a line: {error}") from None
    yield from _of_whole(whole)


def _of_whole(whole: Any) -> Iterator[tuple[str, Any]]:
    entries = whole
    if isinstance(whole, dict):
        log = whole.get("log")
        listed = log.get("entries") if isinstance(log, dict) else whole.get("requests")
        if not isinstance(listed, list):
            yield "request", whole
            return
        entries = listed
    if not isinstance(entries, list):
        raise NotRecordedError("it must be an object, a list of objects, or one object a line")
    for number, entry in enumerate(entries, 1):
        yield f"request {number}", entry


def _is_object(line: str) -> bool:
    return isinstance(_value_or_error(line), dict)


def _value_or_error(line: str) -> Any:
    """Read one line; return the error as a value, so that the other lines are read all the same."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return error


def request_of(value: Any) -> Fields:
    """Return what ``POST /route`` is sent for one object.

    Raises:
        ValueError: It is no request.
    """
    if isinstance(value, Exception):
        raise ValueError(f"not JSON: {value}")  # noqa: TRY004 - an error of the file's, not of a type
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - as above
    inner = value.get("request")
    if isinstance(inner, dict) and not BARE & value.keys():
        return request_of({**inner, **({"key": value["key"]} if "key" in value else {})})
    body = _body_of(value)
    if body is None:
        if not BARE & value.keys():
            raise ValueError("no request: it has neither a 'body' nor 'messages', 'prompt' or 'input'")
        return {"body": value}
    path = next((_path_in(value[name]) for name in ADDRESSES if isinstance(value.get(name), str)), None)
    found: Fields = {"body": body, "path": path, "headers": _headers_of(value.get("headers"))}
    if isinstance(value.get("key"), str):
        found["key"] = value["key"]
    return {name: one for name, one in found.items() if name == "body" or one not in (None, {})}


def _path_in(address: str) -> str:
    """Return the part of an address below ``/v1``, whatever stands before it."""
    path = urlsplit(address).path.rstrip("/")
    before, found, rest = path.rpartition("/v1/")
    return f"/v1/{rest}" if found else before or path


def _body_of(value: Fields) -> Any:
    """Find the body, which may be recorded as text; an archive has it one level deeper."""
    posted = value.get("postData")
    found = posted.get("text") if isinstance(posted, dict) else None
    found = next((value[name] for name in BODIES if name in value), found)
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its body is not JSON: {error}") from None
    if found is not None and not isinstance(found, dict):
        raise ValueError("its body is no object")
    return found


def _headers_of(headers: Any) -> dict[str, str]:
    """Read headers from an object, or from an archive's list of names and values."""
    pairs = list(headers.items()) if isinstance(headers, dict) else []
    for one in headers if isinstance(headers, list) else []:
        if isinstance(one, dict):
            pairs.append((one.get("name"), one.get("value")))
    kept = {str(name): str(value) for name, value in pairs if str(name).lower() not in CREDENTIALS}
    return dict([one for one in kept.items() if not one[0].startswith(":")][:MOST_HEADERS])
