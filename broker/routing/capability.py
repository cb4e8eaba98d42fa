"""Can a model answer this request at all? Prompt and reply's room, tools, structured output, images, kind.

Rule: only what is known of a model is held against it; token counts err on the high side.
"""

from enum import StrEnum

from broker.routing.catalogue import SPOKEN, Abilities, Candidate, Cloud
from broker.routing.request import Content, Described, Kind


class Why(StrEnum):
    """Why a candidate is passed over."""

    PRIVATE = "private"
    KIND = "kind"
    CONTEXT = "context"
    TOOLS = "tools"
    STRUCTURED = "structured"
    VISION = "vision"
    PRIORITY = "class"
    DOWN = "down"
    BREAKER = "breaker"
    BUDGET = "budget"


INCAPABLE = frozenset({Why.KIND, Why.CONTEXT, Why.TOOLS, Why.STRUCTURED, Why.VISION})
"""The request's own fault: no waiting helps."""


def unable(candidate: Candidate, request: Described) -> Why | None:
    """Why a candidate cannot answer, None where it can. Reads the content only where it matters."""
    abilities = candidate.abilities
    if isinstance(candidate, Cloud) and request.kind not in SPOKEN[candidate.protocol]:
        return Why.KIND
    if abilities.kinds is not None and request.kind not in abilities.kinds:
        return Why.KIND
    if isinstance(candidate, Cloud) and request.priority not in candidate.classes:
        return Why.PRIORITY
    if not abilities.needs_content or request.kind is Kind.OTHER:
        return None
    return _short_of(abilities, request, candidate.reply_tokens)


def _short_of(abilities: Abilities, request: Described, room_tokens: int) -> Why | None:
    content = request.content.read()
    if abilities.vision is False and content.images:
        return Why.VISION
    if abilities.max_tools is not None and content.tools > abilities.max_tools:
        return Why.TOOLS
    if abilities.structured is False and content.structured:
        return Why.STRUCTURED
    if (
        abilities.context_tokens is not None
        and tokens_of(content, request.kind, room_tokens) > abilities.context_tokens
    ):
        return Why.CONTEXT
    return None


def tokens_of(content: Content, kind: Kind, room_tokens: int) -> int:
    """Prompt and reply together; embeddings have no reply."""
    return content.prompt_tokens + reply_room(content, kind, room_tokens)


def reply_room(content: Content, kind: Kind, room_tokens: int) -> int:
    """Tokens the reply may take: what the request says, else the model's default."""
    if kind is Kind.EMBEDDINGS:
        return 0
    return room_tokens if content.reply_tokens is None else content.reply_tokens
