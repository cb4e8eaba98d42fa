"""Is there a picture in a body, for the model to look at?

Rule: it costs nothing where there is none. The words of the protocols are looked for among the bytes; only where one of
them stands the body is read, and only where that is done in a moment: nobody counts on it, for the model's own server
refuses what it cannot take.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from broker.routing.request.parts import SPOKEN_FIELDS, is_image
from broker.routing.request.request import RequestKind

_WORDS = re.compile(rb'"(?:image_url|input_image|image|computer_screenshot)"')
"""Words of the protocols for a picture. Inside a string their quotes are escaped."""
MOST_PARTS = 1_000_000
"""How many objects, lists and fields a body may have to be read at once, in a tenth of a second; of a larger nothing is
known."""


def may_show_picture(kind: RequestKind, body: bytes) -> bool:
    """Tell whether the body may hold a picture, as it has one of the protocols' words for one."""
    return kind in SPOKEN_FIELDS and _WORDS.search(body) is not None


def shows_picture(kind: RequestKind, body: bytes) -> bool:
    """Tell whether the body holds a picture; of one that cannot be read it is not known, so it does not."""
    if not may_show_picture(kind, body):
        return False
    fields = fields_at_once(body)
    return any(_shows(fields.get(name)) for name in SPOKEN_FIELDS[kind])


def fields_at_once(body: bytes) -> Mapping[str, Any]:
    """Return the fields of a body; none where it is no object, cannot be read or would take long."""
    if body.count(b"{") + body.count(b"[") + body.count(b",") > MOST_PARTS:
        return {}
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _shows(spoken: Any) -> bool:
    """Look for a picture in messages, in their parts, and in what tools answered."""
    todo = [spoken]
    while todo:
        part = todo.pop()
        if is_image(part):
            return True
        if isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            todo += [part.get("content"), part.get("output")]
    return False
