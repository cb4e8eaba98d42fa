"""Reads a few short fields of a ``multipart/form-data`` body and leaves its files alone."""

import re
from dataclasses import dataclass

MAX_PARTS = 64
MAX_PART_HEAD = 8 * 1024
MAX_VALUE = 1024
"""Bytes of a field that is read."""

_BOUNDARY = re.compile(rb'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*[;\s]name="([^"\r\n]*)"', re.IGNORECASE)


class FormError(ValueError):
    """Not a form."""


Places = tuple[tuple[int, int], ...]
"""Where values are in a body: begin and end of each, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipartForm:
    """What was read of one."""

    texts: dict[str, str]
    """By the field's name; of one that is there twice the first."""
    places: dict[str, Places]
    """By the field's name; of one that is there twice both, whatever their length."""


def boundary_of(content_type: bytes) -> bytes | None:
    """What stands between the parts of a form; None: it is none."""
    found = _BOUNDARY.search(content_type)
    return None if found is None else found[1] or found[2]


def without_boundary(body: bytes, content_type: bytes) -> bytes | None:
    """The form as it is in every try: libraries make up a new boundary for each. None: it is no form."""
    boundary = boundary_of(content_type)
    return None if boundary is None else body.replace(b"--" + boundary, b"--")


def multipart_form_of(body: bytes, content_type: bytes, wanted: frozenset[str]) -> MultipartForm:
    """The fields of these names.

    Raises:
        FormError: No boundary, parts without an end, or too many of them.
    """
    boundary = boundary_of(content_type)
    if boundary is None:
        raise FormError("the form's Content-Type names no boundary")
    delimiter = b"--" + boundary
    start = body.find(delimiter)
    texts: dict[str, str] = {}
    places: dict[str, Places] = {}
    for _ in range(MAX_PARTS):
        start += len(delimiter)
        if start < len(delimiter) or body[start : start + 2] not in {b"\r\n", b"--"}:
            raise FormError("the form does not begin with its boundary")
        if body[start : start + 2] == b"--":
            return MultipartForm(texts=texts, places=places)
        end = body.find(b"\r\n" + delimiter, start)
        head_end = body.find(b"\r\n\r\n", start, min(end, start + MAX_PART_HEAD) if end >= 0 else None)
        if end < 0 or head_end < 0:
            raise FormError("a part of the form has no end")
        name = _NAME.search(body, start, head_end)
        if name is not None and (key := name[1].decode("latin-1")) in wanted:
            begin = head_end + 4
            places[key] = (*places.get(key, ()), (begin, end))
            if end - begin <= MAX_VALUE:
                texts.setdefault(key, body[begin:end].decode("utf-8", "replace"))
        start = end + 2
    raise FormError(f"a form may have {MAX_PARTS} parts at most")


def form_with(body: bytes, places: Places, value: bytes) -> tuple[bytes | memoryview, ...]:
    """The form with another value in these places, as pieces of the same memory: every other byte as it was."""
    seen, pieces, done = memoryview(body), list[bytes | memoryview](), 0
    for begin, end in places:
        pieces += (seen[done:begin], value)
        done = end
    return (*pieces, seen[done:])
