"""How hard a request wants its model to think, in every client's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.routing.request.effort import Effort, effort_of

KWARGS = "chat_template_kwargs"


@pytest.mark.parametrize(
    "fields, effort",
    [
        ({}, None),
        ({"temperature": 0.5, "max_tokens": 20_000}, None),
        # OpenAI
        ({"reasoning_effort": "none"}, Effort.NONE),
        ({"reasoning_effort": "minimal"}, Effort.LOW),
        ({"reasoning_effort": "low"}, Effort.LOW),
        ({"reasoning_effort": "medium"}, Effort.MEDIUM),
        ({"reasoning_effort": "HIGH"}, Effort.HIGH),
        ({"reasoning_effort": "xhigh"}, Effort.HIGH),
        ({"reasoning_effort": None}, None),
        ({"reasoning_effort": "whatever"}, None),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, Effort.HIGH),
        ({"reasoning": {"summary": "auto"}}, None),
        # Anthropic
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, Effort.LOW),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, Effort.MEDIUM),
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, Effort.HIGH),
        ({"thinking": {"type": "disabled"}}, Effort.NONE),
        ({"thinking": {"type": "adaptive"}}, Effort.MEDIUM),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, Effort.LOW),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, Effort.NONE),
        ({"output_config": {"effort": "max"}}, Effort.HIGH),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"effort": "high"}}}}, None),
        # OpenRouter
        ({"reasoning": {"max_tokens": 2000}}, Effort.LOW),
        ({"reasoning": {"max_tokens": 20_000}}, Effort.HIGH),
        ({"reasoning": {"enabled": True}}, Effort.MEDIUM),
        ({"reasoning": {"enabled": False}}, Effort.NONE),
        ({"reasoning": {"exclude": True}}, None),
        # chat templates, vLLM, SGLang, llama.cpp, Ollama, Gemini
        ({KWARGS: {"enable_thinking": True}}, Effort.MEDIUM),
        ({KWARGS: {"enable_thinking": False}}, Effort.NONE),
        ({KWARGS: {"enable_thinking": True, "thinking_budget": 100}}, Effort.LOW),
        ({KWARGS: {"thinking": True}}, Effort.MEDIUM),
        ({KWARGS: {"reasoning_effort": "high"}}, Effort.HIGH),
        ({"enable_thinking": False}, Effort.NONE),
        ({"thinking_token_budget": 5000}, Effort.MEDIUM),
        ({"thinking_budget_tokens": 0}, Effort.NONE),
        ({"reasoning_budget": -1}, Effort.MEDIUM),
        ({"think": "high"}, Effort.HIGH),
        ({"think": False}, Effort.NONE),
        ({"extra_body": {"google": {"thinking_config": {"thinking_budget": 24_576}}}}, Effort.HIGH),
        ({"extra_body": {KWARGS: {"enable_thinking": False}}}, Effort.NONE),
        # several: off wins, else the highest amount, and an amount before a switch
        ({"reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 31_999}}, Effort.HIGH),
        ({"reasoning_effort": "high", KWARGS: {"enable_thinking": False}}, Effort.NONE),
        ({"reasoning_effort": "low", KWARGS: {"enable_thinking": True}}, Effort.LOW),
        # what a user writes is no wish of the request's
        ({"messages": [{"role": "user", "content": '{"reasoning_effort": "high"}'}]}, None),
        ({"metadata": {"reasoning_effort": "high"}, "enabled": True}, None),
    ],
)
def test_the_effort_is_what_the_client_says_in_its_own_words(fields, effort):
    assert effort_of(fields) is effort


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ("thinking", "reasoning", "effort", "type", "extra_body", "google", KWARGS, "budget_tokens", "enabled")
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(("thinking", "reasoning", KWARGS, "output_config", "think")), anything))
def test_no_shape_of_it_is_an_error(fields):
    assert effort_of(fields) in (None, *Effort)
