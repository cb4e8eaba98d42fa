"""Reads what a body holds: chat, completions, responses, messages, embeddings.

Rule: fail closed. Every string of the body is kept, in fields nobody knows too, names of fields included, base64 and
JSON inside strings decoded. Whatever cannot be read (unknown kinds of parts, files by id, sound, token numbers, a field
given twice) is named in ``hidden``, and a request with something hidden is private.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from broker.routing.disguise import plain
from broker.routing.encoded import LONG_BINARY, Held, blobs
from broker.routing.parts import (
    FREE_FIELDS,
    IMAGE_PARTS,
    KNOWN_PARTS,
    MARKS,
    OPAQUE_PARTS,
    SPOKEN_FIELDS,
    TOOL_RESULTS,
    UNSEEN_FIELDS,
    is_reference,
    reads_elsewhere,
)
from broker.routing.request import Content, Image, Kind
from broker.routing.tokens import IMAGE_TOKENS, text_tokens

DEEPEST = 3
"""Layers of base64 and JSON inside strings that are opened; what lies deeper is hidden."""
SEAM = 256
"""Characters on either side of where two parts of a message meet: no secret of a detector's is longer, but keys in PEM,
whose first line is enough."""
ROOM_FIELDS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "n_predict")
LARGEST_ROOM = 10_000_000

_TELLING = re.compile("pass|pwd|secret|key|token|credential", re.IGNORECASE)
"""Names of fields whose value is looked at together with the name."""
_ESCAPED = re.compile(r"\\u00([2-7][0-9a-fA-F])|\\/")
"""JSON's escapes of letters that secrets consist of, in a text that is no JSON as a whole."""


def _undone(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else "/"


class UnreadContent:
    """A body whose content is read when somebody asks, and then once."""

    __slots__ = ("_body", "_content", "_kind")

    def __init__(self, kind: Kind, body: bytes) -> None:
        self._kind = kind
        self._body = body
        self._content: Content | None = None

    def read(self) -> Content:
        """The content; never raises, a body that cannot be read is hidden."""
        if self._content is None:
            self._content = content_of(self._kind, self._body)
            self._body = b""
        return self._content


class _TwiceError(ValueError):
    """A field is given twice: two readers may see two requests."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _TwiceError
    return fields


def content_of(kind: Kind, body: bytes) -> Content:
    """Read a body. Never raises."""
    if kind is Kind.OTHER:
        return Content(hidden="unknown_shape")
    try:
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=_once)
        if not isinstance(fields, dict):
            return Content(hidden="unreadable")
        reader = _Reader()
        reader.body(kind, fields)
    except _TwiceError:
        return Content(hidden="field_twice")
    except (ValueError, RecursionError):
        return Content(hidden="unreadable")
    return Content(
        texts=tuple(reader.texts),
        images=tuple(reader.images),
        tools=_count(fields.get("tools")) + _count(fields.get("functions")),
        structured=_is_structured(fields),
        prompt_tokens=reader.tokens + IMAGE_TOKENS * len(reader.images),
        reply_tokens=_room(fields),
        hidden=reader.hidden,
    )


class _Reader:
    """Walks a body and collects."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.images: list[Image] = []
        self.tokens = 0
        self.hidden = ""
        self._names: set[str] = set()

    def body(self, kind: Kind, fields: Mapping[str, Any]) -> None:
        spoken = SPOKEN_FIELDS[kind]
        if not any(fields.get(name) is not None for name in spoken):
            self.hide("unknown_shape")
        for name, value in fields.items():
            if name in UNSEEN_FIELDS and value is not None:
                self.hide("kept_elsewhere")
            if name == "tools" and isinstance(value, list) and any(map(reads_elsewhere, value)):
                self.hide("kept_elsewhere")
            if name == "prompt" and isinstance(value, dict):  # a template at the upstream's, of /responses
                self.hide("kept_elsewhere")
            if name in spoken:
                self.spoken(value, in_tool=False, marked=False)
            else:
                self.name(name)
                self.free(value)

    def hide(self, why: str) -> None:
        self.hidden = self.hidden or why

    def spoken(self, value: Any, *, in_tool: bool, marked: bool) -> None:
        """A part of the conversation: strings, and objects of known types."""
        if isinstance(value, str):
            self.text(value, marked=in_tool or marked)
        elif isinstance(value, list):
            marked = marked or (any(map(_is_image, value)) and any(map(_says_mark, value)))
            for one in value:
                self.spoken(one, in_tool=in_tool, marked=marked)
            self._seams(value)
        elif isinstance(value, dict):
            self._part(value, in_tool=in_tool, marked=marked)
        elif value is not None and not isinstance(value, bool):
            self.hide("numbers")

    def _part(self, part: dict[str, Any], *, in_tool: bool, marked: bool) -> None:
        kind = part.get("type")
        if kind is not None and (not isinstance(kind, str) or kind not in KNOWN_PARTS):
            self.hide("unknown_part")
            kind = None
        if kind in OPAQUE_PARTS or is_reference(part):
            self.hide("file")
        in_tool = in_tool or kind in TOOL_RESULTS or part.get("role") in ("tool", "function")
        if kind in IMAGE_PARTS:
            self._image(part, marked=in_tool or marked or kind == "computer_screenshot" or _says_mark(part))
            return
        self.tokens += 8
        for name, value in part.items():
            if name in FREE_FIELDS or not isinstance(value, str | list | dict):
                self.free({name: value}, marked=in_tool)
            else:
                self.name(name)
                self.spoken(value, in_tool=in_tool, marked=marked)

    def _seams(self, parts: list[Any]) -> None:
        """Where two parts of one message meet: the model reads on, and so must whoever looks for a secret."""
        before = ""
        for part in parts:
            text = part.get("text") if isinstance(part, dict) else None
            if not isinstance(text, str):
                before = ""
                continue
            if before:
                self.text(before + text[:SEAM], depth=1)
            before = (before + text)[-SEAM:]

    def _image(self, part: dict[str, Any], *, marked: bool) -> None:
        before, tokens = len(self.images), self.tokens
        self.free(part, marked=marked)
        if len(self.images) == before:
            self.images.append(Image(marked=marked))
            if not _has_address(part):
                self.hide("file")
        self.tokens = tokens

    def free(self, value: Any, *, marked: bool = False, depth: int = 0) -> None:
        """Anything: its strings and numbers, and the names of its fields."""
        if isinstance(value, str):
            self.text(value, marked=marked, depth=depth)
        elif isinstance(value, list):
            for one in value:
                self.free(one, marked=marked, depth=depth)
        elif isinstance(value, dict):
            for name, inner in value.items():
                self.name(name, depth=depth)
                if isinstance(inner, str) and _TELLING.search(name):
                    self.texts.append(f"{name}: {inner}")
                self.free(inner, marked=marked, depth=depth)
        elif value is not None and not isinstance(value, bool):
            self.texts.append(str(value))
            self.tokens += 0 if depth else text_tokens(self.texts[-1])

    def name(self, name: str, depth: int = 0) -> None:
        """A field's name: looked at once, however often it comes."""
        self.tokens += 0 if depth else 2 + len(name) // 3
        if name not in self._names:
            self._names.add(name)
            self.text(name, depth=max(1, depth))

    def text(self, string: str, *, marked: bool = False, depth: int = 0) -> None:
        """A string, what of it is read otherwise than written, and what is encoded in either."""
        self._look(string, marked=marked, depth=depth)
        if read := plain(string):
            self._look(read, marked=marked, depth=max(1, depth))

    def _look(self, string: str, *, marked: bool, depth: int) -> None:
        """A picture's own letters are no text."""
        picture = False
        for blob in blobs(string):
            if blob.held is Held.IMAGE:
                self.images.append(Image(marked=marked or blob.marked))
                picture = picture or blob.whole
            elif blob.held is Held.BINARY:
                self.hide("binary")
            elif depth < DEEPEST:
                self.text(blob.text, marked=marked, depth=depth + 1)
            else:
                self.hide("deep")
        if picture and len(string) >= LONG_BINARY:
            return
        self.texts.append(string)
        if "\\" in string and _ESCAPED.search(string):
            self.texts.append(_ESCAPED.sub(_undone, string))
        if depth == 0:
            self.tokens += text_tokens(string)
        if string[:64].lstrip()[:1] in {"{", "["}:
            self._json(string, marked=marked, depth=depth + 1)

    def _json(self, string: str, *, marked: bool, depth: int) -> None:
        """JSON as a string, such as a tool call's arguments: its strings with their escapes undone."""
        try:
            value = json.loads(string, object_pairs_hook=_once)
        except _TwiceError:
            self.hide("field_twice")
            return
        except (ValueError, RecursionError):
            return
        if depth > DEEPEST:
            self.hide("deep")
        else:
            self.free(value, marked=marked, depth=depth)


def _has_address(value: Any) -> bool:
    """Is a picture somewhere on the web, where the upstream can fetch it?"""
    if isinstance(value, str):
        return value.startswith(("https://", "http://"))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_has_address, inner))


def _is_image(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") in tuple(IMAGE_PARTS)


def _says_mark(value: Any) -> bool:
    """Do the strings of a part, base64 aside, speak of a screen or a camera?"""
    if isinstance(value, str):
        return len(value) < 65_536 and MARKS.search(value) is not None
    if isinstance(value, dict):
        return any(_says_mark(inner) for inner in value.values())
    return isinstance(value, list) and any(_says_mark(inner) for inner in value)


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _is_structured(fields: Mapping[str, Any]) -> bool:
    asked = fields.get("response_format")
    text = fields.get("text")
    if asked is None and isinstance(text, dict):
        asked = text.get("format")
    if asked is None:
        given = ("output_format", "output_config", "json_schema", "grammar", "guided_json", "structured_outputs")
        return any(fields.get(name) for name in given)
    return not (isinstance(asked, dict) and asked.get("type") == "text")


def _room(fields: Mapping[str, Any]) -> int | None:
    """The reply's room; several answers to one prompt need it several times."""
    rooms = [fields[name] for name in ROOM_FIELDS if _is_count(fields.get(name))]
    if not rooms:
        return None
    times = max([fields[name] for name in ("n", "best_of") if _is_count(fields.get(name))], default=1)
    return int(min(max(rooms) * times, LARGEST_ROOM))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
