"""How much work a schema can make of one value: refused before it is compiled where it is too much.

Rule: a schema of a few hundred bytes whose definitions refer to each other twice costs a validator 2 to the power of
its depth. So references are unrolled on paper: each costs what it refers to. Only references within the document are
understood (``#`` and ``#/…``), which is also all that structured output allows elsewhere. A schema that contains itself
has no end on paper: it costs its weight times the ways back into it, for every level of the value it is held against.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

MAX_WEIGHT = 20_000
"""Most subschemas after unrolling. Large real ones have some hundreds; at 20,000 a check takes about 20 ms."""

_FOREIGN = ("$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "$recursiveAnchor")
_CHILDREN = frozenset(
    {"items", "prefixItems", "additionalProperties", "patternProperties", "contains", "unevaluatedProperties"}
)
"""Keywords besides ``properties`` that go one level down in the value."""


class UnusableSchemaError(ValueError):
    """The schema is too heavy, or it refers in a way that cannot be followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What it costs to check a value against one schema."""

    subschemas: int
    branches: int
    """Ways in which one property leads back into the schema; 1: a value is looked at once."""

    def against(self, depth: int) -> int:
        """Subschemas that are tried on a value of so many levels, at most."""
        tried: int = self.subschemas * self.branches ** min(depth, 64)
        return tried


def weigh(schema: dict[str, Any]) -> Weight:
    """Weigh a schema.

    Raises:
        UnusableSchemaError: More than ``MAX_WEIGHT``, or a reference that cannot be followed.
        RecursionError: Nested too deeply.
    """
    scale = _Scale(schema)
    subschemas = scale.weight_of(schema, "*")
    return Weight(subschemas=subschemas, branches=scale.branches if scale.recursive else 1)


def depth_of(value: object) -> int:
    """Count the levels of a JSON value; a plain value has one."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
    return depth


class _Scale:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[str, int] = {}
        self._open = {"#"}
        self._references: Counter[str] = Counter()
        self.recursive = False

    @property
    def branches(self) -> int:
        """In how many ways the most referred-to property leads back; what is said of any property counts for each."""
        of_any = self._references["*"]
        return max(1, *(count + of_any for name, count in self._references.items() if name != "*"), of_any)

    def weight_of(self, node: object, name: str) -> int:
        """Weigh a subschema, or a list or table of them, that holds for the property ``name`` (``*``: any)."""
        if isinstance(node, list):
            return self._sum([(item, name) for item in node], 0)
        if not isinstance(node, dict):
            return 0
        if word := next((word for word in _FOREIGN if word in node), None):
            raise UnusableSchemaError(f"{word} is not supported; refer with $ref to #/$defs/…")
        if isinstance(node.get("$id"), str) and node is not self._root:
            raise UnusableSchemaError("$id is only supported at the top")
        start = 1
        if isinstance(reference := node.get("$ref"), str):
            self._references[name] += 1
            start += self._target(reference, name)
        parts: list[tuple[object, str]] = []
        for key, value in node.items():
            if key == "properties" and isinstance(value, dict):
                parts += [(child, property_name) for property_name, child in value.items()]
            elif key not in {"$defs", "definitions"}:
                parts.append((value, "*" if key in _CHILDREN else name))
        return self._sum(parts, start)

    def _sum(self, parts: list[tuple[object, str]], start: int) -> int:
        total = start
        for node, name in parts:
            total += self.weight_of(node, name)
            if total > MAX_WEIGHT:
                raise UnusableSchemaError(f"the schema unrolls to more than {MAX_WEIGHT} subschemas")
        return total

    def _target(self, reference: str, name: str) -> int:
        if reference != "#" and not reference.startswith("#/"):
            raise UnusableSchemaError("$ref may only refer to # or #/… of the same schema")
        if reference in self._open:
            self.recursive = True
            return 1
        if reference not in self._known:
            self._open.add(reference)
            self._known[reference] = self.weight_of(self._resolve(reference), name)
            self._open.discard(reference)
        return self._known[reference]

    def _resolve(self, reference: str) -> object:
        node: object = self._root
        for part in reference.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            else:
                raise UnusableSchemaError("$ref refers to nothing")
        return node
