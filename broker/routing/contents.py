"""Reads what a body holds: chat, completions, responses, messages, embeddings.

Rule: fail closed. Every string of the body is kept, in fields nobody knows too, names of fields included, base64 and
JSON inside strings decoded. Whatever cannot be read (unknown kinds of parts, files by id, sound, token numbers, a field
given twice) is named in ``hidden``, and so is what would cost too much to read; a request with something hidden is
private.
"""

import json

from broker.routing.demands import is_structured, room_of, tools_of
from broker.routing.reader import Reader, TwiceError, once
from broker.routing.request import Content, Kind
from broker.routing.tokens import IMAGE_TOKENS, text_tokens
from broker.routing.work import TooCostlyError, Work

OBJECT = 32
"""Units of work of one object of a document that is parsed: each becomes a dictionary."""


class UnreadContent:
    """A body whose content is read when somebody asks, and then once."""

    __slots__ = ("_body", "_content", "_kind", "_work")

    def __init__(self, kind: Kind, body: bytes, work: Work | None = None) -> None:
        """``work`` bounds what reading may cost."""
        self._kind = kind
        self._body = body
        self._work = work or Work()
        self._content: Content | None = None

    def read(self) -> Content:
        """The content; never raises, a body that cannot be read is hidden."""
        if self._content is None:
            self._content = content_of(self._kind, self._body, self._work)
            self._body = b""
        return self._content


def content_of(kind: Kind, body: bytes, work: Work | None = None) -> Content:
    """Read a body. Never raises."""
    if kind is Kind.OTHER:
        return Content(hidden="unknown_shape")
    reader = Reader(work or Work())
    try:
        reader.work.spend(OBJECT * body.count(b"{") + body.count(b"[") + body.count(b","))
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=once)
        if not isinstance(fields, dict):
            return Content(hidden="unreadable")
        reader.body(kind, fields)
    except TooCostlyError:
        return Content(hidden="costly", prompt_tokens=text_tokens(body.decode("latin-1")))
    except TwiceError:
        return Content(hidden="field_twice")
    except (ValueError, RecursionError):
        return Content(hidden="unreadable")
    return Content(
        texts=tuple(reader.texts),
        images=tuple(reader.images),
        tools=tools_of(fields),
        structured=is_structured(fields),
        prompt_tokens=reader.tokens + IMAGE_TOKENS * len(reader.images),
        reply_tokens=room_of(fields),
        hidden=reader.hidden,
    )
