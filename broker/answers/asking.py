"""What a request allows its answer to be: who asked for little, or for what may be nothing, is answered by nothing.

Rule: a request is read only when its answer has nothing in it, so that an ordinary one costs nothing. In doubt an empty
answer is taken for one that may be: a model that has fallen silent is found by its canary all the same.
"""

import math
import re
from typing import Any, TypeGuard

import msgspec

from broker.answers.documents import Document, table_in, tables

FEW_TOKENS = 16
"""An answer of at most so many tokens may be white space alone. One token may be anything: half a character, the
beginning of a thought."""
MAX_READ = 8 * 1024 * 1024
"""Bytes of a request that are read; what a larger one allows is not known."""
LOOKED_AT = 64 * 1024
"""Characters at either end of a text that are searched for the marks of a gap."""

CUT_WORDS = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_length", "model_length", "model_context_window_exceeded"}
)
"""The token limit ended it: chat and text, Anthropic, responses, and other servers' words."""
HEARING = frozenset({"/audio/transcriptions", "/audio/translations"})
"""Addresses that answer with what was said in a recording: silence has no words."""
TURNS = {"/chat/completions": "messages", "/messages": "messages", "/responses": "input"}
"""The request's field that holds the conversation, by address."""

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "n_predict")
_STOPS = ("stop", "stop_sequences", "stop_token_ids")
_RULES = (
    "grammar", "guided_grammar", "guided_regex", "guided_choice", "guided_json", "regex", "ebnf", "structural_tag",
    "structured_outputs", "json_schema", "logit_bias",
)  # fmt: skip
"""Fields that say what the text must keep to; such a rule can leave nothing to be said. vLLM, SGLang and llama.cpp use
these names."""
_FORMS = ("tools", "functions", "response_format", "text", "output_config", "output_format")
"""Fields by which the server must find a form in what the model wrote: calls of tools, a schema."""
_INPUTS = ("input", "documents", "texts", "inputs", "query", "prompt")
_GAP = re.compile(
    r"[<\[][|\uff5c]?(?:[\w\u2581-]{0,20}fim[\w\u2581-]{0,20}|(?:code_)?(?:suf|suffix|mid|middle)|infill|fill_?me|fill_?(?:in_?)?here"
    r"|extra_id_\d{1,3})[|\uff5c]?[>\]]",
    re.IGNORECASE,
)
"""The marks of fill-in-the-middle: ``<|fim_middle|>``, ``<MID>``, ``[SUFFIX]``, ``<FILL_ME>`` and their kin."""
_TOOL_ROLES = frozenset({"tool", "function", "ipython", "observation"})


class Asking:
    """What one request allows; its body is read at most once."""

    __slots__ = ("_body", "_path", "_request")

    def __init__(self, path: str, body: bytes) -> None:
        """``path`` is that below ``/v1``; ``body`` as the model server gets it."""
        self._path = path
        self._body = body
        self._request: Document | None = None

    @property
    def is_hearing(self) -> bool:
        """Is its answer what somebody said, in whatever form?"""
        return self._path in HEARING

    def may_be_empty(self, finish: str | None) -> bool:
        """May an answer without content be right?

        1. What somebody said: nothing may have been.
        2. One token is asked for, or none: to warm a cache, to see whether the server is there.
        3. Not where the token limit ended it: so many tokens say something.
        4. The text is to be continued, or a gap in it to be filled: nothing may be missing.
        5. It ends with words that the request names, or keeps to a rule of the request's.
        6. A tool has answered since the model last spoke, or the model's own words are to be continued.
        7. Nothing was said, so nothing needs to be.

        Args:
            finish: The answer's own word for why it ended.
        """
        if self.is_hearing or self.most_tokens <= 1:  # 1, 2
            return True
        if finish in CUT_WORDS:  # 3
            return False
        request = self._read
        if request is None:
            return True
        if self._path == "/completions" or request.get("suffix"):  # 4
            return True
        if any(request.get(name) for name in (*_STOPS, *_RULES)):  # 5
            return True
        turns = self._turns(request)
        return _follows_a_tool(turns) or _has_gap(turns) or _says_nothing(request, turns)  # 6, 4, 7

    @property
    def most_tokens(self) -> float:
        """Return how many tokens it wants at most; infinite where it does not say."""
        request = self._read
        limits = [] if request is None else [request.get(name) for name in _LIMITS]
        return min((float(limit) for limit in limits if _is_number(limit)), default=math.inf)

    @property
    def wants_a_form(self) -> bool:
        """Must the server read a form in what the model writes? Where it cannot, the words were the request's."""
        request = self._read
        return (
            request is None or any(request.get(name) for name in (*_FORMS, *_RULES)) or _has_calls(self._turns(request))
        )

    def _turns(self, request: Document) -> list[Document]:
        """Return what was said, in order: messages, or the items of a response's input."""
        return tables(request.get(TURNS.get(self._path, "")))

    @property
    def _read(self) -> Document | None:
        """Return the request's fields; None where it is a form, or too large."""
        if self._request is None and 0 < len(self._body) <= MAX_READ and self._body[:2] != b"--":
            try:
                self._request = table_in(msgspec.json.decode(self._body))
            except (msgspec.DecodeError, ValueError, RecursionError):
                self._request = {}
        return self._request


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _speaks(turn: Document) -> bool:
    """Tell whether the model itself said this turn, rather than the user or a tool."""
    kind = turn.get("type")
    return turn.get("role") in {"assistant", "model"} or kind == "reasoning" or str(kind).endswith("_call")


def _follows_a_tool(turns: list[Document]) -> bool:
    """Has a tool answered since the model last spoke, or has the model the last word?"""
    for number, turn in enumerate(reversed(turns)):
        if _speaks(turn):
            return number == 0
        blocks = tables(turn.get("content"))
        if turn.get("role") in _TOOL_ROLES or str(turn.get("type")).endswith("_output"):
            return True
        if any(str(block.get("type")).endswith("tool_result") for block in blocks):
            return True
    return False


def _has_calls(turns: list[Document]) -> bool:
    return any(turn.get("tool_calls") for turn in turns)


def _texts(content: object) -> list[str]:
    """The texts of a message's content: one, or those of its parts."""
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    found = [part if isinstance(part, str) else table_in(part).get("text") for part in parts]
    return [text for text in found if isinstance(text, str)]


def _has_gap(turns: list[Document]) -> bool:
    """Is the last thing said a text with a gap to be filled?"""
    texts = _texts(turns[-1].get("content")) if turns else []
    return any(_GAP.search(end) for text in texts for end in (text[:LOOKED_AT], text[-LOOKED_AT:]))


def _says_nothing(request: Document, turns: list[Document]) -> bool:
    """Is there no word in what was said last? Pictures and sound are words."""
    if turns:
        content = turns[-1].get("content")
        others = [part for part in tables(content) if part.get("type") not in {"text", "input_text"}]
        return not others and not any(text.strip() for text in _texts(content))
    said: list[Any] = [request[name] for name in _INPUTS if name in request]
    return any(_is_blank(value) for value in said) or request.get("top_n") == 0 or request.get("messages") == []


def _is_blank(value: object) -> bool:
    """Is it an empty text, or a list of nothing else?"""
    parts = value if isinstance(value, list) else [value]
    return all(isinstance(part, str) and not part.strip() for part in parts)
