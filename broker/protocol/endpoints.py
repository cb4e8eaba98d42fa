"""The addresses clients call, and which protocol each speaks."""

from dataclasses import dataclass
from enum import StrEnum


class EventShape(StrEnum):
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
class ApiEndpoint:
    """One address."""

    path: str
    """Below ``/v1``, the same at the model server."""
    shape: EventShape
    dialect: Dialect = Dialect.OPENAI


ENDPOINTS = (
    ApiEndpoint(path="/chat/completions", shape=EventShape.CHAT),
    ApiEndpoint(path="/completions", shape=EventShape.TEXT),
    ApiEndpoint(path="/responses", shape=EventShape.RESPONSES),
    ApiEndpoint(path="/embeddings", shape=EventShape.WHOLE),
    ApiEndpoint(path="/rerank", shape=EventShape.WHOLE),
    ApiEndpoint(path="/audio/speech", shape=EventShape.WHOLE),
    ApiEndpoint(path="/audio/transcriptions", shape=EventShape.WHOLE),
    ApiEndpoint(path="/audio/translations", shape=EventShape.WHOLE),
    ApiEndpoint(path="/images/generations", shape=EventShape.WHOLE),
    ApiEndpoint(path="/images/edits", shape=EventShape.WHOLE),
    ApiEndpoint(path="/images/variations", shape=EventShape.WHOLE),
    ApiEndpoint(path="/messages", shape=EventShape.MESSAGES, dialect=Dialect.ANTHROPIC),
    ApiEndpoint(path="/messages/count_tokens", shape=EventShape.WHOLE, dialect=Dialect.ANTHROPIC),
)
