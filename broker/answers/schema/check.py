"""Structured output that is checked: the schema a request names, what an answer violates, and how it is asked again.

Rule: nothing is fetched and nothing can run away. References to other documents are refused, patterns are matched in
linear time (those that need backtracking are refused), and a schema is weighed before it is compiled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import msgspec

from broker.answers.assembly import assembled
from broker.answers.documents import table_in, tables
from broker.answers.reading import json_of
from broker.answers.schema.weight import depth_of, weigh
from broker.answers.verdict import Shape

ATTEMPTS = 4
"""How often a model is asked: once, and three times more."""
MAX_SCHEMA = 256 * 1024
"""Size of the largest schema that is accepted, bytes."""
MAX_COST = 2_000_000
"""Subschemas tried on one answer, at most: about 0.1 s."""
MAX_EXPLAINED = 20_000
"""Above it a violation is not located: finding every one costs a hundred times as much as finding that there is one."""
MAX_VIOLATIONS = 20
MESSAGE_LIMIT = 300
"""Characters; a message quotes the value it is about."""

_LOWERED = (1.0, 0.5, 0.25, 0.0)
"""Factors by which the asked temperature is lowered, by attempt: the last one is greedy, as near to the schema as the
model can get."""
_DEFAULT_TEMPERATURE = 1.0
"""The temperature that OpenAI's API uses where a request names none."""


class SchemaError(ValueError):
    """The request's schema cannot be used; the client must change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaViolation:
    """One way in which an answer breaks its schema."""

    path: str
    """JSON pointer into the answer; empty: all of it."""
    keyword: str
    """The keyword of JSON Schema that is broken; ``json``: the text is no JSON at all, ``content``: there is no
    text."""
    message: str


class Contract:
    """A compiled schema, against which answers are checked."""

    def __init__(self, schema: object) -> None:
        """Compile it.

        Raises:
            SchemaError: It is no schema, refers to another document, or is too large.
        """
        if not isinstance(schema, dict):
            raise SchemaError("the schema must be an object")
        try:
            size = len(msgspec.json.encode(schema))
            self._weight = weigh(schema)
            self._validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions(), validate_formats=False
            )
        except (jsonschema_rs.ReferencingError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise SchemaError(_first_line(error)) from None
        if size > MAX_SCHEMA:
            raise SchemaError(f"the schema has more than {MAX_SCHEMA} bytes")

    def violations(self, text: str) -> tuple[SchemaViolation, ...]:
        """What a text violates, at most ``MAX_VIOLATIONS``; nothing: it is good."""
        try:
            instance = msgspec.json.decode(text)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            return (SchemaViolation(path="", keyword="json", message=f"not JSON: {_first_line(error)}"),)
        cost = self._weight.against(depth_of(instance))
        if cost > MAX_COST:
            return (
                SchemaViolation(path="", keyword="depth", message="nested too deeply for its schema to be checked"),
            )
        if self._validator.is_valid(instance):
            return ()
        if cost > MAX_EXPLAINED:
            return (SchemaViolation(path="", keyword="schema", message="does not hold; too deep to say where"),)
        found: list[SchemaViolation] = []
        for broken in self._validator.iter_errors(instance):
            keyword = str(broken.schema_path[-1]) if broken.schema_path else "schema"
            found.append(
                SchemaViolation(path=_pointer(broken.instance_path), keyword=keyword, message=_first_line(broken))
            )
            if len(found) == MAX_VIOLATIONS:
                break
        return tuple(found)


def schema_of(shape: Shape, request: dict[str, Any]) -> object | None:
    """The schema a request wants its answer to have, in the words of whichever server; None: it names none.

    Raises:
        SchemaError: It says ``json_schema`` and names none.
    """
    wanted: object = None
    if shape is Shape.RESPONSES:
        wanted = table_in(request.get("text")).get("format")
    elif shape is Shape.MESSAGES:
        wanted = table_in(request.get("output_config")).get("format") or request.get("output_format")
    elif shape in {Shape.CHAT, Shape.TEXT}:
        wanted = request.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return _schema_elsewhere(request, wanted) if shape in {Shape.CHAT, Shape.TEXT} else None
    inner = wanted.get("json_schema", wanted)
    if not isinstance(inner, dict) or inner.get("schema") is None:
        raise SchemaError("json_schema names no schema")
    schema: object = inner["schema"]
    return schema


def _schema_elsewhere(request: dict[str, Any], wanted: object) -> object | None:
    """Look for a schema in the fields of llama.cpp, and of vLLM, which takes a text of JSON too."""
    found = table_in(wanted).get("schema") if table_in(wanted).get("type") == "json_object" else None
    named: tuple[object, ...] = (
        found,
        request.get("json_schema"),
        table_in(request.get("structured_outputs")).get("json"),
        request.get("guided_json"),
    )
    for schema in named:
        if isinstance(schema, str) and (read := json_of(schema.encode("utf-8", "replace"))) is not None:
            return read
        if schema is not None:
            return schema
    return None


def check(contract: Contract, shape: Shape, body: bytes, *, streamed: bool = False) -> tuple[SchemaViolation, ...]:
    """What an answer violates, all of which is there; every choice must hold. One that calls a tool has no text."""
    texts = _texts(shape, assembled(shape, body) if streamed else table_in(json_of(body)))
    if not all(text is None or text for text in texts) or not texts:
        return (SchemaViolation(path="", keyword="content", message="the answer has no text"),)
    found = [violation for text in texts if text is not None for violation in contract.violations(text)]
    return tuple(found[:MAX_VIOLATIONS])


def temperature_for(asked: object, attempt: int) -> float | None:
    """The temperature of an attempt: 1 the asked one, then half, a quarter, zero.

    Args:
        asked: As in the request; anything but a positive number counts as the API's default, zero as zero.
        attempt: 1 is the first.

    Returns:
        None: there is no such attempt. Zero cannot be lowered: the same answer would come again.
    """
    numeric = isinstance(asked, int | float) and not isinstance(asked, bool) and asked >= 0
    base = float(asked) if numeric and isinstance(asked, int | float) else _DEFAULT_TEMPERATURE
    if attempt < 1 or attempt > ATTEMPTS or (attempt > 1 and base == 0.0):
        return None
    return base * _LOWERED[attempt - 1]


def with_temperature(request: Mapping[str, Any], temperature: float) -> bytes:
    """The request's body again, at another temperature; everything else as it was."""
    return msgspec.json.encode({**request, "temperature": temperature})


def violations_told(violations: tuple[SchemaViolation, ...]) -> list[dict[str, str]]:
    """Return the violations as the client is told them, in JSON objects."""
    return [{"path": v.path, "keyword": v.keyword, "message": v.message} for v in violations]


def _texts(shape: Shape, document: dict[str, Any]) -> list[str | None]:
    """The text of every choice; None: a choice that calls a tool."""
    if shape is Shape.RESPONSES:
        items = tables(document.get("output"))
        parts = [part for item in items if item.get("type") == "message" for part in tables(item.get("content"))]
        text = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
        calls = any(item.get("type") not in {"message", "reasoning"} for item in items)
        return [None] if calls and not text else [text]
    if shape is Shape.MESSAGES:
        blocks = tables(document.get("content"))
        text = "".join(block["text"] for block in blocks if isinstance(block.get("text"), str))
        return [None if not text and any(block.get("type") == "tool_use" for block in blocks) else text]
    return [_text_of(choice) for choice in tables(document.get("choices"))]


def _text_of(choice: dict[str, Any]) -> str | None:
    message = table_in(choice.get("message"))
    content = message.get("content") if message else choice.get("text")
    if isinstance(content, str) and content:
        return content
    return None if message.get("tool_calls") else ""


def _pointer(path: list[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    line = (text.splitlines() or [type(error).__name__])[0]
    return line if len(line) <= MESSAGE_LIMIT else "…" + line[1 - MESSAGE_LIMIT :]
