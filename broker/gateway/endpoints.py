"""The addresses clients call, and which protocol each speaks."""

from dataclasses import dataclass
from enum import StrEnum


class Shape(StrEnum):
    """What the events of a streamed answer look like."""

    CHAT = "chat"
    """OpenAI's ``chat.completion.chunk``."""
    TEXT = "text"
    """OpenAI's ``text_completion``."""
    RESPONSES = "responses"
    """OpenAI's typed events; its SDK's helper takes none before ``response.created``."""
    MESSAGES = "messages"
    """Anthropic's typed events."""
    WHOLE = "whole"
    """Not one that we could begin for the model server; what it streams all the same is passed on."""


class Dialect(StrEnum):
    """Whose error bodies a client reads."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address."""

    path: str
    """Below ``/v1``, the same at the model server."""
    shape: Shape
    dialect: Dialect = Dialect.OPENAI


ENDPOINTS = (
    Endpoint(path="/chat/completions", shape=Shape.CHAT),
    Endpoint(path="/completions", shape=Shape.TEXT),
    Endpoint(path="/responses", shape=Shape.RESPONSES),
    Endpoint(path="/embeddings", shape=Shape.WHOLE),
    Endpoint(path="/rerank", shape=Shape.WHOLE),
    Endpoint(path="/audio/speech", shape=Shape.WHOLE),
    Endpoint(path="/audio/transcriptions", shape=Shape.WHOLE),
    Endpoint(path="/audio/translations", shape=Shape.WHOLE),
    Endpoint(path="/images/generations", shape=Shape.WHOLE),
    Endpoint(path="/images/edits", shape=Shape.WHOLE),
    Endpoint(path="/images/variations", shape=Shape.WHOLE),
    Endpoint(path="/messages", shape=Shape.MESSAGES, dialect=Dialect.ANTHROPIC),
    Endpoint(path="/messages/count_tokens", shape=Shape.WHOLE, dialect=Dialect.ANTHROPIC),
)
