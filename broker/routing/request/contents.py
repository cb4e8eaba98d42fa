"""Reads what a body holds: chat, completions, responses, messages, embeddings.

Rule: fail closed. Every string of the body is kept, in fields nobody knows too, names of fields included, base64 and
JSON inside strings decoded. Whatever cannot be read (unknown kinds of parts, files by id, sound, token numbers, a field
given twice) is named in ``hidden``, and so is what would cost too much to read; a request with something hidden is
private.
"""

import json

from broker.routing.request.answer_form import form_of
from broker.routing.request.demands import calls_of, is_structured, room_of, tools_of
from broker.routing.request.effort import effort_of
from broker.routing.request.pictures import fields_at_once, may_show_picture, shows_picture
from broker.routing.request.purpose import purpose_of
from broker.routing.request.reader import BodyReader, TwiceError, once
from broker.routing.request.request import UNREAD, Content, RequestKind
from broker.routing.text.tokens import IMAGE_TOKENS, text_tokens
from broker.routing.text.work import TooCostlyError, Work

OBJECT = 32
"""Units of work for one object of a document that is parsed: each becomes a dictionary."""


class UnreadContent:
    """A body whose content is read when somebody asks, and then once."""

    __slots__ = ("_body", "_content", "_kind", "_pictured", "_work")

    def __init__(self, kind: RequestKind, body: bytes, work: Work | None = None) -> None:
        """Take a body; ``work`` bounds what reading it may cost."""
        self._kind = kind
        self._body = body
        self._work = work or Work()
        self._content: Content | None = None
        self._pictured: bool | None = None

    def read(self) -> Content:
        """Return the content; never raises, a body that cannot be read is hidden."""
        if self._content is None:
            self._content = content_of(self._kind, self._body, self._work)
            self._body = b""
        return self._content

    def shows_picture(self) -> bool:
        """Tell whether a picture is there for the model to look at; what that says is kept."""
        if self._pictured is None:
            self._pictured = shows_picture(self._kind, self._body) if self._content is None else self._content.pictured
        return self._pictured


class Demands:
    """A body of which nothing is read but what it demands: tools, an answer in a given form, pictures."""

    __slots__ = ("_body", "_kind")

    def __init__(self, kind: RequestKind, body: bytes) -> None:
        self._kind = kind
        self._body = body

    def read(self) -> Content:
        """Return the demands without any text; never raises, of a body that cannot be read at once nothing is known."""
        fields = fields_at_once(self._body)
        return Content(tools=tools_of(fields), structured=is_structured(fields))

    def shows_picture(self) -> bool:
        """Tell whether a picture is there for the model to look at."""
        return shows_picture(self._kind, self._body)


def content_of(kind: RequestKind, body: bytes, work: Work | None = None) -> Content:
    """Read a body. Never raises."""
    if kind in UNREAD:
        return Content(hidden="unknown_shape")
    reader = BodyReader(work or Work())
    try:
        reader.work.spend(OBJECT * body.count(b"{") + body.count(b"[") + body.count(b","))
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=once)
        if not isinstance(fields, dict):
            return Content(hidden="unreadable")
        reader.body(kind, fields)
    except TooCostlyError:
        tokens = text_tokens(body.decode("latin-1"))
        return Content(hidden="costly", prompt_tokens=tokens, pictured=may_show_picture(kind, body))
    except TwiceError:
        return Content(hidden="field_twice")
    except (ValueError, RecursionError):
        return Content(hidden="unreadable")
    return Content(
        texts=tuple(reader.texts),
        images=tuple(reader.images),
        pictured=reader.pictured,
        tools=tools_of(fields),
        structured=is_structured(fields),
        prompt_tokens=reader.tokens + IMAGE_TOKENS * len(reader.images),
        reply_tokens=room_of(fields),
        tool_calls=calls_of(fields),
        form=form_of(fields),
        effort=effort_of(fields),
        purpose=purpose_of(fields),
        hidden=reader.hidden,
    )
