"""Keepalives that a client's parser counts, while a stream waits for its model.

Measured with OpenClaw: an idle watchdog is reset by parsed events only; comments (``: ping``) do not count, chunks with
empty ``choices`` and ``event: ping`` do.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from broker.gateway.endpoints import Dialect, Endpoint, Shape


class Profile(StrEnum):
    """What a waiting stream says."""

    OPENAI = "openai"
    """A chunk with empty ``choices``."""
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

    def words(self) -> str:
        """For people."""
        if self.position == 0:
            return f"{self.model} is working"
        about = "" if self.eta_s is None else f", about {self.eta_s:.0f} s"
        return f"waiting for {self.model}: position {self.position}{about}"


def profile_for(endpoint: Endpoint, wanted: Profile | None) -> Profile:
    """The profile of a request: the key's setting, else by the endpoint.

    A setting that the endpoint's parsers would trip over falls back to the endpoint's own.
    """
    own = Profile.ANTHROPIC if endpoint.dialect is Dialect.ANTHROPIC else Profile.OPENAI
    if endpoint.shape is Shape.RESPONSES:
        own = Profile.COMMENT
    if wanted is None or wanted in {Profile.COMMENT, Profile.NONE}:
        return own if wanted is None else wanted
    if wanted is Profile.REASONING:
        return wanted if endpoint.shape is Shape.CHAT else own
    return wanted if (wanted is Profile.ANTHROPIC) == (endpoint.dialect is Dialect.ANTHROPIC) else own


def keepalive(profile: Profile, shape: Shape, waiting: Waiting) -> bytes:
    """One keepalive."""
    if profile is Profile.NONE:
        return b""
    if profile is Profile.COMMENT:
        return f": {waiting.words()}\n\n".encode()
    if profile is Profile.ANTHROPIC:
        return b'event: ping\ndata: {"type": "ping"}\n\n'
    if shape is Shape.RESPONSES:
        return b'event: keepalive\ndata: {"type": "keepalive", "sequence_number": 0}\n\n'
    choices: list[object] = []
    if profile is Profile.REASONING:
        delta = {"role": "assistant", "reasoning_content": waiting.words() + "\n"}
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
    chunk = {
        "id": f"hotseat-{waiting.lease_id}",
        "object": "text_completion" if shape is Shape.TEXT else "chat.completion.chunk",
        "created": waiting.created_s,
        "model": waiting.model,
        "choices": choices,
    }
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
