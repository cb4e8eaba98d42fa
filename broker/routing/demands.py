"""What a request demands of a model beside its prompt: tools, an answer in a given form, room for the reply."""

from collections.abc import Mapping
from typing import Any

ROOM_FIELDS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "n_predict")
LARGEST_ROOM = 10_000_000


def tools_of(fields: Mapping[str, Any]) -> int:
    """How many tools it brings."""
    return _count(fields.get("tools")) + _count(fields.get("functions"))


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def is_structured(fields: Mapping[str, Any]) -> bool:
    """Is the answer asked for in a given form?"""
    asked = fields.get("response_format")
    text = fields.get("text")
    if asked is None and isinstance(text, dict):
        asked = text.get("format")
    if asked is None:
        given = ("output_format", "output_config", "json_schema", "grammar", "guided_json", "structured_outputs")
        return any(fields.get(name) for name in given)
    return not (isinstance(asked, dict) and asked.get("type") == "text")


def room_of(fields: Mapping[str, Any]) -> int | None:
    """The reply's room; several answers to one prompt need it several times."""
    rooms = [fields[name] for name in ROOM_FIELDS if _is_count(fields.get(name))]
    if not rooms:
        return None
    times = max([fields[name] for name in ("n", "best_of") if _is_count(fields.get(name))], default=1)
    return int(min(max(rooms) * times, LARGEST_ROOM))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
