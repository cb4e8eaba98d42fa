"""Walks through a body and collects what it says: its texts, its pictures, and whether something is hidden in it."""

import json
import re
from collections.abc import Mapping
from typing import Any

from broker.routing.request.parts import (
    FREE_FIELDS,
    IMAGE_PARTS,
    KNOWN_PARTS,
    OPAQUE_PARTS,
    SPOKEN_FIELDS,
    TOOL_RESULTS,
    UNSEEN_FIELDS,
    has_address,
    is_image,
    is_reference,
    reads_elsewhere,
    says_mark,
)
from broker.routing.request.request import Image, RequestKind
from broker.routing.text.disguise import readings
from broker.routing.text.encoded import LONG_BINARY, blobs
from broker.routing.text.formats import Contained, is_closed_text, text_of
from broker.routing.text.tokens import text_tokens
from broker.routing.text.work import FIELD, PIECE, Work

DEEPEST = 3
"""Layers of base64 and JSON inside strings that are opened; what lies deeper is hidden."""
SEAM = 256
"""Characters on either side of where two parts of a message meet: no secret of a detector's is longer, but keys in PEM,
whose first line is enough. Parts that are shorter are read as one."""
SHORTEST_BYTES = 8
"""So many numbers from 0 to 255 in a row may be somebody's bytes."""

_TELLING = re.compile(
    "pass|pwd|secret|key|token|credential|auth|kennwort|contrase|senha|wachtwoord|parol|hes[lł]o|\u043f\u0430\u0440\u043e\u043b|\u5bc6\u7801|\u5bc6\u78bc",
    re.IGNORECASE,
)
"""Names of fields whose value is looked at together with the name."""
_NAMES, _VALUES = ("name", "key", "field", "header", "variable"), ("value", "val", "content", "default")
"""Fields of an object that hold a name and its value, as lists of variables and headers have them."""


class TwiceError(ValueError):
    """A field is given twice: two readers may see two requests."""


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its fields, for the parser.

    Raises:
        TwiceError: A field is given twice.
    """
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise TwiceError
    return fields


class BodyReader:
    """Reads one body and collects what it holds; used once."""

    def __init__(self, work: Work) -> None:
        """Count every step in ``work``; reading ends with ``TooCostlyError`` where they are too many."""
        self.work = work
        self.texts: list[str] = []
        self.images: list[Image] = []
        self.pictured = False
        self.tokens = 0
        self.hidden = ""
        self._names: set[str] = set()

    def body(self, kind: RequestKind, fields: Mapping[str, Any]) -> None:
        """Read all fields of a body of this kind."""
        spoken = SPOKEN_FIELDS[kind]
        if not any(fields.get(name) is not None for name in spoken):
            self._hide("unknown_shape")
        for name, value in fields.items():
            if name in UNSEEN_FIELDS and value is not None:
                self._hide("kept_elsewhere")
            if name == "tools" and isinstance(value, list) and any(map(reads_elsewhere, value)):
                self._hide("kept_elsewhere")
            if name == "prompt" and isinstance(value, dict):  # a template at the upstream's, of /responses
                self._hide("kept_elsewhere")
            if name in spoken:
                self._spoken(value, in_tool=False, marked=False)
            else:
                self._name(name)
                self._pair(name, value)
                self._free(value)

    def _hide(self, why: str) -> None:
        self.hidden = self.hidden or why

    # ------------------------------------------------------------------------------------------------ the conversation
    def _spoken(self, value: Any, *, in_tool: bool, marked: bool) -> None:
        """Read a part of the conversation: strings, and objects of known types."""
        self.work.spend(FIELD)
        if isinstance(value, str):
            self._text(value, marked=in_tool or marked)
        elif isinstance(value, list):
            marked = marked or (any(map(is_image, value)) and any(map(says_mark, value)))
            for one in value:
                self._spoken(one, in_tool=in_tool, marked=marked)
            self._seams(value)
        elif isinstance(value, dict):
            self._part(value, in_tool=in_tool, marked=marked)
        elif value is not None and not isinstance(value, bool):
            self._hide("numbers")

    def _part(self, part: dict[str, Any], *, in_tool: bool, marked: bool) -> None:
        kind = part.get("type")
        if kind is not None and (not isinstance(kind, str) or kind not in KNOWN_PARTS):
            self._hide("unknown_part")
            kind = None
        if kind in OPAQUE_PARTS or is_reference(part):
            self._hide("file")
        in_tool = in_tool or kind in TOOL_RESULTS or part.get("role") in ("tool", "function")
        if kind in IMAGE_PARTS:
            self._image(part, marked=in_tool or marked or kind == "computer_screenshot" or says_mark(part))
            return
        self.tokens += 8
        for name, value in part.items():
            if name in FREE_FIELDS or not isinstance(value, str | list | dict):
                self._free({name: value}, marked=in_tool)
            else:
                self._name(name)
                self._spoken(value, in_tool=in_tool, marked=marked)

    def _seams(self, parts: list[Any]) -> None:
        """Read where parts of one message meet: the model reads on, and so must whoever looks for a secret."""
        pieces: list[str] = []
        for part in [*parts, None]:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str) and len(text) <= 2 * SEAM:
                pieces.append(text)
                continue
            if isinstance(text, str):
                pieces.append(text[:SEAM])
            if len(pieces) > 1:
                self._text("".join(pieces), depth=1)
            pieces = [text[-SEAM:]] if isinstance(text, str) else []

    def _image(self, part: dict[str, Any], *, marked: bool) -> None:
        self.pictured = True
        before, tokens = len(self.images), self.tokens
        self._free(part, marked=marked)
        if len(self.images) == before:
            self.images.append(Image(marked=marked))
            if not has_address(part):
                self._hide("file")
        self.tokens = tokens

    # ------------------------------------------------------------------------------------------------------ anything
    def _free(self, value: Any, *, marked: bool = False, depth: int = 0) -> None:
        """Read any value: its strings and numbers, and the names of its fields."""
        self.work.spend(FIELD)
        if isinstance(value, str):
            self._text(value, marked=marked, depth=depth)
        elif isinstance(value, list):
            self._bytes(value, depth)
            for one in value:
                self._free(one, marked=marked, depth=depth)
        elif isinstance(value, dict):
            for name, inner in value.items():
                self._name(name, depth=depth)
                self._pair(name, inner)
                self._free(inner, marked=marked, depth=depth)
            self._named_value(value)
        elif value is not None and not isinstance(value, bool):
            self.work.spend(PIECE)
            self.texts.append(str(value))
            self.tokens += 0 if depth else text_tokens(self.texts[-1])

    def _pair(self, name: str, value: Any) -> None:
        if isinstance(value, str) and _TELLING.search(name):
            self.work.spend(PIECE + len(value))
            self.texts.append(f"{name}: {value}")

    def _named_value(self, fields: dict[str, Any]) -> None:
        """Read an object that is a name and a value."""
        name = next((fields[one] for one in _NAMES if isinstance(fields.get(one), str)), "")
        if len(name) <= SEAM:
            for one in _VALUES:
                self._pair(name, fields.get(one))

    def _bytes(self, numbers: list[Any], depth: int) -> None:
        """Read bytes written as numbers, where they are a text; long ones that are none cannot be read."""
        if len(numbers) < SHORTEST_BYTES or not all(type(one) is int and 0 <= one < 256 for one in numbers):
            return
        text = text_of(bytes(numbers))
        if text is not None:
            self._text(text, depth=max(1, depth))
        elif len(numbers) >= LONG_BINARY:
            self._hide("binary")

    def _name(self, name: str, depth: int = 0) -> None:
        """Read a field's name, once, however often it comes."""
        self.tokens += 0 if depth else 2 + len(name) // 3
        if name not in self._names:
            self._names.add(name)
            self._text(name, depth=max(1, depth))

    # --------------------------------------------------------------------------------------------------------- strings
    def _text(self, string: str, *, marked: bool = False, depth: int = 0) -> None:
        """Read a string, what of it is read otherwise than written, and what is encoded in either."""
        self._look(string, marked=marked, depth=depth)
        for read in readings(string):
            self._look(read, marked=marked, depth=max(1, depth))

    def _look(self, string: str, *, marked: bool, depth: int) -> None:
        """Look at what is encoded in a string, and keep the rest as text; a picture's own letters are no text."""
        self.work.spend(PIECE)
        picture = False
        for blob in blobs(string, self.work):
            if blob.held is Contained.TEXT:
                if depth < DEEPEST:
                    self._text(blob.text, marked=marked, depth=depth + 1)
                else:
                    self._hide("deep")
                continue
            if blob.held is Contained.IMAGE:
                self.images.append(Image(marked=marked or blob.marked))
                picture = picture or blob.whole
            else:
                self._hide("binary")
            self._keep(blob.text)
        if picture and len(string) >= LONG_BINARY:
            self.work.spend(len(string) // 16)
            return
        self._keep(string)
        if is_closed_text(string):
            self._hide("binary")
        if depth == 0:
            self.tokens += text_tokens(string)
        if string[:64].lstrip()[:1] in {"{", "["}:
            self._json(string, marked=marked, depth=depth + 1)

    def _keep(self, text: str) -> None:
        if text:
            self.work.spend(len(text))
            self.texts.append(text)

    def _json(self, string: str, *, marked: bool, depth: int) -> None:
        """Read JSON written as a string, such as a tool call's arguments: its strings with their escapes undone."""
        self.work.spend(FIELD * string.count("{") + len(string) // 8)
        try:
            value = json.loads(string, object_pairs_hook=once)
        except TwiceError:
            self._hide("field_twice")
            return
        except (ValueError, RecursionError):
            return
        if depth > DEEPEST:
            self._hide("deep")
        else:
            self._free(value, marked=marked, depth=depth)
