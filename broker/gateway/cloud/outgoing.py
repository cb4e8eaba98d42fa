"""Which headers of a client an upstream is sent: values of a fixed list of forms, no words of the client's own.

Rule: nobody looks through headers, so none passes that could say something. What is not on the list is left out, and
the request goes on without it. A feature that its maker has announced since is on the operator's list (``betas``).
"""

import re
from collections.abc import Mapping

from broker.protocol.headers import Headers

JSON = b"application/json"
"""Every body is written anew, as JSON."""
MOST = 32
"""Words of one header that are looked at."""
_MEDIA = frozenset(
    {b"*/*", b"application/*", JSON, b"text/event-stream", b"text/*", b"text/plain", b"application/x-ndjson"}
)
_QUALITY = re.compile(rb"q=(?:0(?:\.\d{1,3})?|1(?:\.0{1,3})?)")
_VERSION = re.compile(rb"20\d\d-[01]\d-[0-3]\d")
_DATED = re.compile(rb"([a-z0-9-]{2,40})-20\d\d-?[01]\d-?[0-3]\d")
_ANTHROPIC = frozenset({
    b"adaptive-thinking", b"advanced-tool-use", b"advisor-tool", b"claude-code", b"code-execution", b"compact",
    b"computer-use", b"context-1m", b"context-management", b"dev-full-thinking", b"effort", b"extended-cache-ttl",
    b"fast-mode", b"files-api", b"fine-grained-tool-streaming", b"interleaved-thinking", b"max-tokens-3-5-sonnet",
    b"mcp-client", b"mcp-servers", b"message-batches", b"model-context-window-exceeded", b"oauth", b"output-128k",
    b"pdfs", b"prompt-caching", b"prompt-caching-scope", b"redact-thinking", b"search-results", b"skills",
    b"structured-outputs", b"token-counting", b"token-efficient-tools", b"tool-examples", b"tool-search-tool",
    b"web-fetch", b"web-search",
})  # fmt: skip
"""Names of features; their dates are any."""
_OPENAI = re.compile(
    rb"(?:assistants|responses|realtime|responses_websockets|chatkit_beta)=(?:v[1-9]|experimental|20\d\d-\d\d-\d\d)"
)


def outgoing(headers: Mapping[bytes, bytes], betas: frozenset[bytes] = frozenset()) -> Headers:
    """The client's headers as they leave.

    Args:
        headers: The client's.
        betas: Further words of ``anthropic-beta`` and ``openai-beta`` that may pass.
    """
    passed: Headers = [(b"content-type", JSON)]
    for name, words in (
        (b"accept", [word for word in map(_media, _words(headers, b"accept")) if word]),
        (
            b"anthropic-version",
            [word for word in _words(headers, b"anthropic-version") if _VERSION.fullmatch(word)][:1],
        ),
        (b"anthropic-beta", [word for word in _words(headers, b"anthropic-beta") if word in betas or _is_known(word)]),
        (
            b"openai-beta",
            [word for word in _words(headers, b"openai-beta") if word in betas or _OPENAI.fullmatch(word)],
        ),
    ):
        if words:
            passed.append((name, b", ".join(dict.fromkeys(words))))
    return passed


def _words(headers: Mapping[bytes, bytes], name: bytes) -> list[bytes]:
    return [word.strip().lower() for word in headers.get(name, b"").split(b",", MOST)[:MOST]]


def _is_known(word: bytes) -> bool:
    dated = _DATED.fullmatch(word)
    return dated is not None and dated[1] in _ANTHROPIC


def _media(word: bytes) -> bytes:
    """A kind of answer, with how much it is wanted; empty: none of ours."""
    kind, *more = (part.strip() for part in word.split(b";"))
    quality = [part for part in more if _QUALITY.fullmatch(part)][:1]
    return b";".join([kind, *quality]) if kind in _MEDIA else b""
