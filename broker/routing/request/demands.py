"""What a request demands of a model beside its prompt: tools, an answer in a given form, room for the reply."""

from collections.abc import Iterator, Mapping
from typing import Any

from broker.routing.request.parameters import ROOM_FIELDS

LARGEST_ROOM = 10_000_000
TURNS = ("messages", "input")
"""Where a conversation stands: chat and Anthropic's, responses."""


def tools_of(fields: Mapping[str, Any]) -> int:
    """How many tools it brings."""
    return _count(fields.get("tools")) + _count(fields.get("functions"))


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def calls_of(fields: Mapping[str, Any]) -> int:
    """How many calls of tools were made in the conversation so far."""
    turns = (turn for name in TURNS for turn in tables_of(fields.get(name)))
    return sum(_calls_in(turn) for turn in turns)


def _calls_in(turn: Mapping[str, Any]) -> int:
    """OpenAI's ``tool_calls`` and older ``function_call``, items of a response, Anthropic's blocks."""
    if _kind(turn).endswith("_call"):
        return 1
    blocks = sum(_kind(block).endswith("tool_use") for block in tables_of(turn.get("content")))
    return _count(turn.get("tool_calls")) + blocks + isinstance(turn.get("function_call"), dict)


def _kind(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    return kind if isinstance(kind, str) else ""


def tables_of(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of a list; nothing where it is none."""
    return (one for one in (value if isinstance(value, list) else ()) if isinstance(one, dict))


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
