"""What a model server's error is about: the request, what the model wrote, or the server itself.

Rule: only an error that cannot be the request's doing counts against a model. The words are those of llama.cpp, vLLM,
SGLang, Ollama and the two APIs; what they do not name is the server's own.
"""

import re

MAX_MESSAGE = 4096
"""How many characters of an error are looked at."""

_ABOUT_THE_REQUEST = frozenset(
    {
        "invalid_request_error", "invalid_request", "bad_request", "badrequesterror", "not_found_error",
        "not_supported_error", "request_too_large", "exceed_context_size_error", "context_length_exceeded",
        "string_above_max_length", "content_filter", "content_policy_violation", "unsupported_value",
        "unsupported_parameter", "invalid_prompt", "invalid_image", "invalid_image_format", "image_parse_error",
    }
)  # fmt: skip
_TOO_MUCH_ASKED = re.compile(
    r"context (?:size|length|window)|maximum context|too (?:long|large|many)|not support|unsupported|mmproj"
    r"|tool call arguments|invalid (?:request|image|audio|json schema|grammar|parameter)|chat template"
    r"|failed to (?:load|decode|process) (?:image|audio)|failed to (?:parse|initialize) (?:grammar|samplers?)",
    re.IGNORECASE,
)
_SERVERS_OWN = re.compile(
    r"cuda|rocm|hip error|vulkan|metal|out of (?:device )?memory|\boom\b|assert|segfault|traceback", re.IGNORECASE
)
_UNPARSED = re.compile(
    r"fail\w* (?:to|in|while|when) pars|pars\w+ (?:error|fail)|cannot parse|could not parse|error parsing"
    r"|tool.?call|does not match the expected|extract\w* tool|grammar stack",
    re.IGNORECASE,
)


def is_unparsed(message: str) -> bool:
    """Tell whether it says that a call of a tool, or another form, was not found in what the model wrote."""
    return _UNPARSED.search(message[:MAX_MESSAGE]) is not None


def is_about_the_request(words: list[str], message: str) -> bool:
    """Tell whether the error is about what was asked."""
    if any(word.casefold() in _ABOUT_THE_REQUEST or _is_4xx(word) for word in words):
        return True
    said = message[:MAX_MESSAGE]
    return _TOO_MUCH_ASKED.search(said) is not None and _SERVERS_OWN.search(said) is None


def _is_4xx(word: str) -> bool:
    """Tell whether it is a 4xx about the request; 408 and 429 are about the time."""
    return len(word) == 3 and word[0] == "4" and word.isdecimal() and word not in {"408", "429"}
