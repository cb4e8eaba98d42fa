"""The form that an answer must have: how deep its schema is, and whether it is but a label.

Rule: depth is how many objects and lists are within one another, wherever the protocols and their servers have the
schema; what it refers to counts where it is referred to. A walk ends after ``MOST_NODES``, however large the schema is
and however often it refers to the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeGuard

MOST_NODES = 10_000
"""How many nodes of a schema are looked at; a larger schema is as deep as what was seen of it."""
MOST_REFERENCES = 64
"""How many references within one another are followed; further ones lead nowhere."""
LONGEST_REFERENCE = 512
"""Length of a reference that is followed, characters; longer ones lead nowhere."""
MOST_TYPES = 16
"""How many types of one node are looked at; JSON has seven."""
LABEL_DEPTH = 2
"""How deep a label may be: a list of labels in an object."""
LABEL_TEXTS = 1
"""How many free texts may stand beside labels: one, for why it is this label."""
_INNER = ("items", "contains", "additionalProperties", "unevaluatedProperties", "not", "if", "then", "else")
_TABLES = ("properties", "patternProperties", "dependentSchemas")
_CHOICES = ("anyOf", "oneOf", "allOf", "prefixItems", "items")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What an answer's schema asks for."""

    depth: int = 0
    """How many objects and lists are within one another; 0: there is no schema, or one of a single value."""
    is_given: bool = False
    """The request names a schema or a choice of answers."""
    is_label: bool = False
    """The answer is one of a few words, a yes or a no, or some of these, with at most a number and one text beside
    it."""


def form_of(fields: Mapping[str, Any]) -> AnswerForm:
    """Measure the schema that the answer must hold, wherever the protocols and their servers have it."""
    if _choice(fields):
        return AnswerForm(is_given=True, is_label=True)
    schema = _schema(fields)
    return AnswerForm() if schema is None else _measured(schema)


def _choice(fields: Mapping[str, Any]) -> bool:
    structured = fields.get("structured_outputs")
    inner = structured.get("choice") if isinstance(structured, dict) else None
    return bool(inner or fields.get("guided_choice"))


def _schema(fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find the schema in the fields of chat, responses, Anthropic, llama.cpp or vLLM."""
    asked, text, config = fields.get("response_format"), fields.get("text"), fields.get("output_config")
    structured = fields.get("structured_outputs")
    places = [
        asked,
        text.get("format") if isinstance(text, dict) else None,
        config.get("format") if isinstance(config, dict) else None,
        fields.get("output_format"),
    ]
    found: list[Any] = [fields.get("json_schema"), fields.get("guided_json")]
    found.append(structured.get("json") if isinstance(structured, dict) else None)
    for place in places:
        if isinstance(place, dict):
            named = place.get("json_schema")
            found += [place.get("schema"), named.get("schema") if isinstance(named, dict) else None]
    return next((one for one in found if isinstance(one, dict)), None)


def _measured(schema: Mapping[str, Any]) -> AnswerForm:
    """Walk through a schema. What it refers to counts where it is referred to, once on each way down."""
    deepest, labels, texts, left = 0, 0, 0, MOST_NODES
    todo: list[tuple[Any, int, tuple[str, ...]]] = [(schema, 0, ())]
    while todo:
        node, depth, way = todo.pop()
        if not isinstance(node, dict):
            continue
        reference, within = node.get("$ref"), list(islice(_within(node), left))
        left -= len(within)
        if left > 0 and _is_new(reference, way):
            left -= 1
            todo.append((_referred(schema, reference), depth, (*way, reference)))
        holds = _is_container(node)
        deepest = max(deepest, depth + holds)
        inner = [one for one in within if isinstance(one, dict)]
        todo += [(one, depth + holds, way) for one in inner]
        if not inner and not holds and reference is None:
            labels += _is_word_of_few(node)
            texts += node.get("type") == "string" and not _is_word_of_few(node)
    return AnswerForm(
        depth=deepest, is_given=True, is_label=labels > 0 and texts <= LABEL_TEXTS and deepest <= LABEL_DEPTH
    )


def _is_new(reference: Any, way: tuple[str, ...]) -> TypeGuard[str]:
    """Tell whether a reference is one to be followed."""
    if not isinstance(reference, str) or len(reference) > LONGEST_REFERENCE:
        return False
    return len(way) < MOST_REFERENCES and reference not in way


def _is_container(node: Mapping[str, Any]) -> bool:
    kinds = node.get("type")
    listed = kinds[:MOST_TYPES] if isinstance(kinds, list) else [kinds]
    return any(kind in ("object", "array") for kind in listed) or any(isinstance(node.get(n), dict) for n in _TABLES)


def _within(node: Mapping[str, Any]) -> Iterator[Any]:
    for name in _TABLES:
        if isinstance(table := node.get(name), dict):
            yield from table.values()
    yield from (node[name] for name in _INNER if name in node)
    for name in _CHOICES:
        if isinstance(choices := node.get(name), list):
            yield from choices


def _is_word_of_few(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("enum"), list) or "const" in node or node.get("type") == "boolean"


def _referred(schema: Mapping[str, Any], reference: str) -> Any:
    """Follow ``#`` or ``#/$defs/Name`` within the schema itself."""
    node: Any = schema
    for step in reference.removeprefix("#").split("/")[1:]:
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node if reference.startswith("#") else None
