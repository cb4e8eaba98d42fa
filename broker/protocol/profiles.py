"""Keepalives that a client's parser counts and no program stumbles over, while a stream waits for its model.

Measured with OpenClaw: an idle watchdog is reset by parsed events only; comments (``: ping``) do not count.

Rule for a chat's chunks: there is a choice, for the commonest program of all reads ``choices[0].delta.content``. Its
delta is empty, except for the JavaScript SDK: LangChain makes what has no role a message of an unknown kind, and all
that comes after, calls of tools too, is added to that. Elsewhere no role: Python's SDK joins the roles of all chunks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from broker.protocol.endpoints import ApiEndpoint, Dialect, EventShape


class Profile(StrEnum):
    """What a waiting stream says."""

    OPENAI = "openai"
    """A chunk that adds nothing to the answer."""
    NO_CHOICES = "no_choices"
    """A chunk with empty ``choices``, as OpenAI's own with the usage is."""
    ANTHROPIC = "anthropic"
    """``event: ping``."""
    REASONING = "reasoning"
    """The place in line as reasoning text: people see it. Chat only; elsewhere the endpoint's own."""
    COMMENT = "comment"
    """A comment: keeps proxies awake, no parser sees it."""
    NONE = "none"
    """Nothing: such a client is silent until the model answers, or is sent away like one that does not stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What there is to say."""

    lease_id: str
    model: str
    position: int
    """0: granted, the model has not answered yet."""
    eta_s: float | None
    created_s: int
    """Unix time of the request, for the field ``created``."""
    with_role: bool = False
    """Does the client's SDK take a delta's role from the first chunk?"""
    load_error: str = ""
    """How the last load of the model failed, in a sentence."""

    def words(self) -> str:
        """For people."""
        if self.position == 0:
            return f"{self.model} is working"
        about = "" if self.eta_s is None else f", about {self.eta_s:.0f} s"
        failed = f"; {self.load_error}" if self.load_error else ""
        return f"waiting for {self.model}: position {self.position}{about}{failed}"


def takes_role(headers: Mapping[bytes, bytes]) -> bool:
    """Is it the JavaScript SDK, or what is built upon it?"""
    return headers.get(b"x-stainless-lang") == b"js"


def is_codex(headers: Mapping[bytes, bytes]) -> bool:
    """Codex, its editors' extensions and what it runs as; it says so in ``originator`` and in its user agent."""
    return headers.get(b"originator", b"").startswith(b"codex") or headers.get(b"user-agent", b"").startswith(b"codex")


def profile_for(endpoint: ApiEndpoint, wanted: Profile | None, headers: Mapping[bytes, bytes]) -> Profile:
    """The profile of a request: what its key or itself asks for, else by client and endpoint.

    What the endpoint's parsers would trip over falls back to the endpoint's own.
    """
    own = Profile.ANTHROPIC if endpoint.dialect is Dialect.ANTHROPIC else Profile.OPENAI
    if endpoint.shape is EventShape.RESPONSES and not is_codex(headers):
        own = Profile.COMMENT  # Python's helper takes no event before ``response.created``; Codex counts events only
    if wanted is None or wanted in {Profile.COMMENT, Profile.NONE}:
        return own if wanted is None else wanted
    if wanted is Profile.REASONING:
        return wanted if endpoint.shape is EventShape.CHAT else own
    if wanted is Profile.NO_CHOICES and endpoint.shape is EventShape.RESPONSES:
        return own
    return wanted if (wanted is Profile.ANTHROPIC) == (endpoint.dialect is Dialect.ANTHROPIC) else own


def keepalive(profile: Profile, shape: EventShape, waiting: Waiting) -> bytes:
    """One keepalive; while the last load has failed, behind a comment that says so."""
    if profile is Profile.NONE:
        return b""
    if profile is Profile.COMMENT:
        return _comment(waiting)
    failed = _comment(waiting) if waiting.load_error and profile is not Profile.REASONING else b""
    return failed + _event(profile, shape, waiting)


def _comment(waiting: Waiting) -> bytes:
    return f": {waiting.words()}\n\n".encode()


def _event(profile: Profile, shape: EventShape, waiting: Waiting) -> bytes:
    if profile is Profile.ANTHROPIC:
        return b'event: ping\ndata: {"type": "ping"}\n\n'
    if shape is EventShape.RESPONSES:
        return b'event: keepalive\ndata: {"type": "keepalive", "sequence_number": 0}\n\n'
    choice: dict[str, object] = {"index": 0, "finish_reason": None}
    if shape is EventShape.TEXT:
        choice |= {"text": "", "logprobs": None}
    else:
        delta = {"role": "assistant"} if waiting.with_role else {}
        if profile is Profile.REASONING:
            delta["reasoning_content"] = waiting.words() + "\n"
        choice["delta"] = delta
    chunk = {
        "id": f"hotseat-{waiting.lease_id}",
        "object": "text_completion" if shape is EventShape.TEXT else "chat.completion.chunk",
        "created": waiting.created_s,
        "model": waiting.model,
        "choices": [] if profile is Profile.NO_CHOICES else [choice],
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
