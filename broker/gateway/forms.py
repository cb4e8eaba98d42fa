"""Reads a few short fields of a ``multipart/form-data`` body and leaves its files alone."""

import re

MAX_PARTS = 64
MAX_PART_HEAD = 8 * 1024
MAX_VALUE = 1024
"""Bytes of a field that is read."""

_BOUNDARY = re.compile(rb'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*[;\s]name="([^"\r\n]*)"', re.IGNORECASE)


class FormError(ValueError):
    """Not a form."""


def form_fields(body: bytes, content_type: bytes, wanted: frozenset[str]) -> dict[str, str]:
    """The fields of these names; of one that is there twice the first.

    Raises:
        FormError: No boundary, parts without an end, or too many of them.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise FormError("the form's Content-Type names no boundary")
    delimiter = b"--" + (found[1] or found[2])
    start = body.find(delimiter)
    fields: dict[str, str] = {}
    for _ in range(MAX_PARTS):
        start += len(delimiter)
        if start < len(delimiter) or body[start : start + 2] not in {b"\r\n", b"--"}:
            raise FormError("the form does not begin with its boundary")
        if body[start : start + 2] == b"--":
            return fields
        end = body.find(b"\r\n" + delimiter, start)
        head_end = body.find(b"\r\n\r\n", start, min(end, start + MAX_PART_HEAD) if end >= 0 else None)
        if end < 0 or head_end < 0:
            raise FormError("a part of the form has no end")
        name = _NAME.search(body, start, head_end)
        if name is not None and (key := name[1].decode("latin-1")) in wanted and end - head_end - 4 <= MAX_VALUE:
            fields.setdefault(key, body[head_end + 4 : end].decode("utf-8", "replace"))
        start = end + 2
    raise FormError(f"a form may have {MAX_PARTS} parts at most")
