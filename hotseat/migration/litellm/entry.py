"""One entry of LiteLLM's ``model_list``: what it asks for, with ``os.environ/…`` resolved, and what we make of it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hotseat.migration.draft import Draft, DraftModel, DraftParameters
from hotseat.migration.litellm.providers import NO_KEYS
from hotseat.migration.reading import DocumentTable, count_of, number_of

ENVIRON = "os.environ/"
MILLION = 1_000_000
LONGEST_ANSWER_S = 3600.0
MOST_TRIES = 5
DEFAULT_REPLY_TOKENS = 4096

REQUEST = frozenset({
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "seed", "stop", "n", "logit_bias", "logprobs", "top_logprobs", "user",
    "response_format", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "thinking", "verbosity",
    "service_tier", "chat_template_kwargs", "stream_options", "dimensions", "encoding_format", "store", "reasoning",
    "input_type", "provider",
})  # fmt: skip
"""Fields of a request that LiteLLM fills in where a request has none."""
PARAMETERS_LEFT = {
    **dict.fromkeys(("rpm", "tpm", "max_budget", "budget_duration"), "limits are of keys and of all together"),
    **dict.fromkeys(("weight", "tags", "region_name"), "whoever serves is chosen by the order of candidates"),
    **dict.fromkeys(("cooldown_time", "allowed_fails"), "an upstream's breaker opens after five failures in a row"),
    **dict.fromkeys(
        ("extra_headers", "headers", "organization", "default_headers", "api_version"),
        "an upstream is sent its key and what its protocol needs",
    ),
    **dict.fromkeys(
        ("drop_params", "allowed_openai_params"), "parameters pass as they come; parameters.strip names some"
    ),
    **dict.fromkeys(("guardrails", "guardrail"), "what may not leave is private ([routing])"),
    **dict.fromkeys(("num_gpu", "num_thread", "format"), "is said to Ollama in its own way; enter it in command"),
    "cache_control_injection_points": "requests are not rewritten",
    "merge_reasoning_content_in_choices": "answers are not rewritten",
    "mock_response": "nothing is mocked",
    "ssl_verify": "certificates are always checked",
    "use_in_pass_through": "there are no such addresses",
    "configurable_clientside_auth_params": "clients do not choose addresses or keys",
}
INFO_LEFT = {
    "id": "models have names alone",
    "base_model": "prices and contexts are entered here",
    "access_groups": "a key's models say what it may use",
    "supported_environments": "there is one environment",
    "description": "not shown by /v1/models",
    "metadata": "not shown by /v1/models",
    "health_check_model": "breakers find out by requests",
    "health_check_timeout": "breakers find out by requests",
    "disable_background_health_check": "breakers find out by requests",
    "litellm_provider": "is in litellm_params",
}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(s|sec|m|min|h|hr|d|mo)?", re.IGNORECASE)
_SECONDS = {None: 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hr": 3600, "d": 86_400, "mo": 2_592_000}


@dataclass(frozen=True, slots=True)
class Variables:
    """Where ``os.environ/NAME`` leads: the file's own ``environment_variables``, then the environment."""

    values: Mapping[str, str] = field(repr=False)

    def resolved(self, value: object) -> tuple[str | None, str]:
        """Return a text, and the variable that is missing for it; (None, ""): there is no text."""
        if not isinstance(value, str):
            return None, ""
        for _ in range(3):  # environment_variables may name others
            if not value.startswith(ENVIRON):
                return value, ""
            name = value.removeprefix(ENVIRON)
            if (found := self.values.get(name)) is None or found == value:
                return None, name
            value = found
        return None, value.removeprefix(ENVIRON)

    def resolver(self, draft: Draft) -> Callable[[Any, str], Any]:
        """Make a function that tells tables what a value stands for; what is not set here is told and is nothing."""

        def resolve(value: Any, where: str) -> Any:
            if not isinstance(value, str) or not value.startswith(ENVIRON):
                return value
            text, missing = self.resolved(value)
            if missing:
                draft.leave(where, f"the environment variable {missing} is not set here")
            return _typed(text)

        return resolve


def _typed(text: str | None) -> Any:
    """Turn a variable's text into the number or truth that it means, if it means one."""
    if text is None:
        return None
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if re.fullmatch(r"-?\d{1,15}", text):
        return int(text)
    return _number_in(text) if re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?(e-?\d{1,3})?", text, re.IGNORECASE) else text


@dataclass(slots=True, kw_only=True)
class Deployment:
    """One entry of the ``model_list``, read."""

    where: str
    group: str
    """The name that clients ask for, which several entries may share."""
    provider: str
    bare: str
    """The provider's name for the model."""
    address: str | None
    kind: str
    is_home: bool
    is_responses: bool
    """Chats are asked there as ``/v1/responses``."""
    table: DocumentTable
    parameters: DocumentTable
    info: DocumentTable
    model: DraftModel = field(default_factory=lambda: DraftModel(name=""))

    @property
    def label(self) -> str:
        """The entry's place and name, for messages."""
        return f"{self.where} ({self.group})"


def has_key(value: object) -> bool:
    """Tell whether something is said that is a key."""
    return isinstance(value, str) and value.strip().lower() not in NO_KEYS and not value.lower().startswith("sk-dummy")


def seconds_of(value: object) -> float | None:
    """Read a number of seconds, or a duration such as ``30d``; None: it is neither."""
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        unit = found[2].lower() if found[2] else None
        return float(found[1]) * _SECONDS[unit]
    return number_of(value)


def fill_parameters(draft: Draft, target: DraftParameters, table: DocumentTable) -> None:
    """Fill in what a request is given where it says nothing, and what it loses."""
    for key in table:
        if key in REQUEST:
            draft.set_parameter(target.default, key, table.get(key), table.path(key))
    body = table.get("extra_body")
    for key, value in body.items() if isinstance(body, dict) else ():
        draft.set_parameter(target.default, str(key), value, f"{table.path('extra_body')}.{key}")
    if body is not None and not isinstance(body, dict):
        draft.leave(table.path("extra_body"), "not a table of parameters")
    where = table.path("additional_drop_params")
    for word in draft.texts(table, "additional_drop_params"):
        if word in {"model", "stream"}:
            draft.leave(where, f"{word} cannot be left out")
        elif re.search(r"[.\[]", word):
            draft.leave(f"{where}: {word}", "parameters are left out as a whole")
        else:
            target.strip.append(word)
    draft.leave_known(table, PARAMETERS_LEFT)


def fill_info(draft: Draft, one: Deployment, known: Mapping[str, Any]) -> None:
    """Fill in what is known of the model; ``known`` is LiteLLM's own table, used where the file says nothing."""
    info, fields = one.info, one.model.fields
    context = info.get("max_input_tokens") or (info.get("max_tokens") if one.kind == "embedding" else None)
    context = context or known.get("max_input_tokens")
    if (tokens := count_of(context, most=100_000_000)) is not None:
        fields["context_tokens"] = tokens
    elif context is not None:
        draft.leave(info.path("max_input_tokens"), "not a number of tokens")
    if (sees := _truth(draft, info, "supports_vision", known)) or (sees is False and one.is_home):
        fields["vision"] = sees
    if _truth(draft, info, "supports_function_calling") is False:
        fields["max_tools"] = 0
    if _truth(draft, info, "supports_response_schema") is False:
        fields["structured"] = False
    _reply(draft, one)
    if (elsewhere := _asked_elsewhere(one)) is not None:
        why = f"chats are not turned into {elsewhere} here: clients of this model ask there themselves"
        draft.change(one.label, why)
    draft.leave_known(info, INFO_LEFT)


def _asked_elsewhere(one: Deployment) -> str | None:
    """Return the address at which LiteLLM asks for what a client asks as a chat; None: the client's own."""
    if one.provider.startswith("text-completion-"):
        return "/v1/completions"
    return "/v1/responses" if one.is_responses else None


def _truth(draft: Draft, table: DocumentTable, key: str, known: Mapping[str, Any] | None = None) -> bool | None:
    value = table.get(key, (known or {}).get(key))
    if isinstance(value, bool):
        return value
    if value is not None:
        draft.leave(table.path(key), "neither true nor false")
    return None


def _reply(draft: Draft, one: Deployment) -> None:
    for key in ("max_output_tokens", *(() if one.kind == "embedding" else ("max_tokens",))):
        if (value := one.info.get(key)) is None:
            continue
        most = count_of(value, most=10_000_000)
        if most is not None and not one.is_home and most < DEFAULT_REPLY_TOKENS:
            one.model.fields["max_reply_tokens"] = most
        else:
            why = "not a number of tokens" if most is None else "how long a reply may be is the request's to say"
            draft.leave(one.info.path(key), why)


def fill_prices(draft: Draft, one: Deployment, known: Mapping[str, Any]) -> bool:
    """Fill in the prices of a cloud's model; False: they are not known."""
    found = {}
    for key, field_name in (
        ("input_cost_per_token", "prompt_price"),
        ("output_cost_per_token", "reply_price"),
        ("cache_read_input_token_cost", "cached_price"),
    ):
        of_entry = one.parameters.get(key)
        value = one.info.get(key, known.get(key)) if of_entry is None else of_entry
        price = number_of(_number_in(value) if isinstance(value, str) else value, most=1.0)
        if price is not None:
            found[field_name] = round(price * MILLION, 6)
        elif value is not None:
            draft.leave(one.info.path(key), "not a price")
    if one.kind == "embedding":
        found.setdefault("reply_price", 0.0)
    if "prompt_price" not in found or "reply_price" not in found:
        return False
    one.model.fields |= found
    return True


def _number_in(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
