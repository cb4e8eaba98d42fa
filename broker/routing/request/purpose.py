"""What a request shows of what it is for: what its user said last, what the model was told to be, a gap to be filled.

Rule: of every text only the beginning and the end are kept, for that is where people write what they want.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from broker.routing.request.demands import TURNS, tables_of

HEAD, TAIL = 2_000, 600
"""How many characters are kept of a text's beginning, and of its end."""
MOST_TURNS = 64
"""How many turns are looked at from the end for the last one of a user; an agent's loop may have as many without
text."""
MOST_TOOLS = 256
LONGEST_NAME = 128
"""Length of a tool's name, letters, as Anthropic allows; a longer one shows nothing."""
SYSTEM = frozenset({"system", "developer"})

_GAP = re.compile(
    r"<\|?[\w▁]{0,24}fim[▁_-](?:prefix|suffix|middle|begin|hole|end)\|?>|<\uff5cfim\u2581(?:begin|hole|end)\uff5c>"
    r"|<(?:PRE|SUF|MID|FILL_ME)>|\[(?:PREFIX|SUFFIX|MIDDLE)\]|<\|(?:code_)?(?:prefix|suffix|middle)\|>",
)
"""The signs with which models of code are told where to write: ``<|fim_prefix|>``, ``<PRE>``, ``[SUFFIX]`` …"""
_CODE_TOOLS = re.compile(
    r"(?:^|[_.-])(?:bash|shell|terminal|apply_?patch|str_?replace\w*|text_?editor\w*|(?:edit|write|create|patch|search)_?files?"
    r"|multi_?edit|edit|glob|grep|run_?(?:command|terminal\w*|tests?)|execute_?command|local_?shell|notebook_?edit)$",
    re.IGNORECASE,
)
"""Names of tools that only an agent has who writes code."""


class Task(StrEnum):
    """What a request is for: the word of ``x-hotseat-task``. ``task`` says how one is known."""

    EMBEDDING = "embedding"
    FILL_IN_THE_MIDDLE = "fill_in_the_middle"
    AGENT = "agent"
    CLASSIFICATION = "classification"
    EXTRACTION = "extraction"
    STRUCTURED = "structured"
    SUMMARY = "summary"
    CODE = "code"
    CHAT = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What one request shows of what it is for; its texts are clipped."""

    question: str = ""
    """What its user said last; empty: nothing that can be read."""
    instructions: str = ""
    """What the model was told before that; empty: nothing."""
    fills_gap: bool = False
    """A text is to be written between two others."""
    has_code_tools: bool = False


def purpose_of(fields: Mapping[str, Any]) -> Purpose:
    """Read out of a body's fields what the request is for."""
    question = next(_questions(fields), "")
    told = [_clipped(text) for text in _told(fields)]
    gap = any(isinstance(text := fields.get(name), str) and bool(text) for name in ("suffix", "input_suffix"))
    return Purpose(
        question=question,
        instructions=_clipped("\n".join(told)),
        fills_gap=gap or _GAP.search(question) is not None,
        has_code_tools=any(_CODE_TOOLS.search(name) for name in _tool_names(fields) if len(name) <= LONGEST_NAME),
    )


def _questions(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield what users said, the last first."""
    for name in (*TURNS, "prompt"):
        value = fields.get(name)
        if isinstance(value, str):
            yield _clipped(value)
        elif isinstance(value, list):
            for turn in islice(reversed(value), MOST_TURNS):
                if isinstance(turn, str):
                    yield _clipped(turn)
                elif isinstance(turn, dict) and turn.get("role") == "user" and (text := _text(turn.get("content"))):
                    yield text


def _told(fields: Mapping[str, Any]) -> Iterator[str]:
    for name in ("system", "instructions"):
        if text := _text(fields.get(name)):
            yield text
    for name in TURNS:
        for turn in islice(tables_of(fields.get(name)), 2):
            role = turn.get("role")
            if isinstance(role, str) and role in SYSTEM and (text := _text(turn.get("content"))):
                yield text


def _text(content: Any) -> str:
    """Return the texts of a message's parts, clipped; empty where there is none."""
    if isinstance(content, str):
        return _clipped(content)
    parts = (part.get("text") for part in tables_of(content))
    return _clipped("\n".join(_clipped(text) for text in islice(parts, MOST_TURNS) if isinstance(text, str)))


def _clipped(text: str) -> str:
    return text if len(text) <= HEAD + TAIL else text[:HEAD] + "\n" + text[-TAIL:]


def _tool_names(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tools' names. OpenAI nests them one level deeper; Anthropic has types such as ``bash_20250124``."""
    for tool in islice(tables_of(fields.get("tools")), MOST_TOOLS):
        function = tool.get("function")
        for name in (tool.get("name"), function.get("name") if isinstance(function, dict) else None, tool.get("type")):
            if isinstance(name, str):
                yield name
