"""How hard a request wants its model to think: OpenAI's words, budgets of tokens, and what chat templates are told.

Rule: whoever turns thinking off says so. Else the highest amount counts that is said, a word or a budget; a switch that
is only turned on means a medium one. Who says nothing is not guessed at.

Source: OpenAI's ``reasoning_effort`` and ``reasoning``, Anthropic's ``thinking`` and ``output_config``, OpenRouter's
``reasoning``, vLLM's, SGLang's and llama.cpp's ``chat_template_kwargs``, Ollama's ``think``, Gemini's
``thinking_config``.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any


class Effort(StrEnum):
    """How hard the model is to think, from not at all to much."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


EFFORTS = tuple(Effort)
LITTLE = 4_096
"""A budget of fewer tokens is a low effort: between the 1,024 and the 8,192 that Gemini takes for low and medium."""
MUCH = 16_384
"""A budget of so many tokens or more is a high effort."""

_WORDS = {
    "none": Effort.NONE, "off": Effort.NONE, "disabled": Effort.NONE, "false": Effort.NONE,
    "minimal": Effort.LOW, "low": Effort.LOW, "medium": Effort.MEDIUM,
    "high": Effort.HIGH, "xhigh": Effort.HIGH, "max": Effort.HIGH,
}  # fmt: skip
_ON = frozenset({"enabled", "adaptive", "auto", "on", "true"})
_WITHIN = frozenset({
    "chat_template_kwargs", "reasoning", "thinking", "output_config", "extra_body", "google", "thinking_config",
    "thinkingConfig",
})  # fmt: skip
"""Fields whose own fields say something about thinking."""
_DEEPEST = 4
"""How many of those fields are followed within one another."""
_AMOUNTS = {
    "": frozenset({"reasoning_effort", "thinking_level", "thinking", "think", "reasoning", "thinking_budget",
        "thinking_token_budget", "thinking_budget_tokens", "reasoning_budget"}),
    "chat_template_kwargs": frozenset({"reasoning_effort", "thinking", "think", "thinking_budget", "reasoning_budget"}),
    "reasoning": frozenset({"effort", "max_tokens"}),
    "thinking": frozenset({"budget_tokens", "type", "effort"}),
    "output_config": frozenset({"effort"}),
    "thinking_config": frozenset({"thinking_budget", "thinkingBudget", "thinking_level", "thinkingLevel"}),
}  # fmt: skip
"""Fields that say how much, or only whether, by the field that they are in."""
_AMOUNTS["extra_body"] = _AMOUNTS[""]
_AMOUNTS["thinkingConfig"] = _AMOUNTS["thinking_config"]
_SWITCHES = frozenset({"enable_thinking", "enabled"})


def effort_of(fields: Mapping[str, Any]) -> Effort | None:
    """Return the effort that a body asks for; None: it does not say."""
    said = list(_said(fields, "", 0))
    if Effort.NONE in said:
        return Effort.NONE
    amounts = [one for one in said if one is not None]
    if amounts:
        return max(amounts, key=EFFORTS.index)
    return Effort.MEDIUM if said else None


def _said(fields: Mapping[str, Any], within: str, depth: int) -> Iterator[Effort | None]:
    """Yield every amount that is said; None for a switch that is on."""
    known = _AMOUNTS.get(within, frozenset())
    for name, value in fields.items():
        if name in known:
            yield from _amount(value)
        elif name in _SWITCHES and isinstance(value, bool) and (within or name != "enabled"):
            yield None if value else Effort.NONE
        if name in _WITHIN and isinstance(value, dict) and depth < _DEEPEST:
            yield from _said(value, name, depth + 1)


def _amount(value: Any) -> Iterator[Effort | None]:
    if isinstance(value, bool):
        yield None if value else Effort.NONE
    elif isinstance(value, int | float):
        yield _of_budget(value)
    elif isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            yield _WORDS[word]
        elif word in _ON:
            yield None


def _of_budget(tokens: float) -> Effort | None:
    """Turn a budget into an effort. A negative one means as many tokens as the model likes."""
    if tokens < 0:
        return None
    if tokens == 0:
        return Effort.NONE
    return Effort.LOW if tokens < LITTLE else Effort.MEDIUM if tokens < MUCH else Effort.HIGH
