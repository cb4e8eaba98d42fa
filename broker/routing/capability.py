"""Can a model answer this request at all? Prompt and reply's room, tools, structured output, images, kind.

Rule: only what is known of a model is held against it; token counts err on the high side.
"""

from enum import StrEnum

from broker.routing.catalogue import SPOKEN, Abilities, CandidateModel, Cloud
from broker.routing.request.request import UNREAD, Content, Described, RequestKind


class Unfit(StrEnum):
    """Why a candidate is passed over."""

    PRIVATE = "private"
    KIND = "kind"
    CONTEXT = "context"
    TOOLS = "tools"
    STRUCTURED = "structured"
    VISION = "vision"
    QUANTISATION = "quantisation"
    PRIORITY = "class"
    DOWN = "down"
    BREAKER = "breaker"
    BUDGET = "budget"


INCAPABLE = frozenset({Unfit.KIND, Unfit.CONTEXT, Unfit.TOOLS, Unfit.STRUCTURED, Unfit.VISION, Unfit.QUANTISATION})
"""The request's own fault: no waiting helps."""


def unable(candidate: CandidateModel, request: Described) -> Unfit | None:
    """Why a candidate cannot answer, None where it can. Reads the content only where it matters."""
    abilities = candidate.abilities
    if isinstance(candidate, Cloud) and request.kind not in SPOKEN[candidate.protocol]:
        return Unfit.KIND
    if (abilities.kinds is not None and request.kind not in abilities.kinds) or request.kind in abilities.refuses:
        return Unfit.KIND
    if abilities.vision is False and request.content.shows_picture():
        return Unfit.VISION
    if isinstance(candidate, Cloud) and request.priority not in candidate.classes:
        return Unfit.PRIORITY
    if not abilities.needs_content or request.kind in UNREAD:
        return None
    return _short_of(abilities, request, candidate)


def _short_of(abilities: Abilities, request: Described, candidate: CandidateModel) -> Unfit | None:
    content = request.content.read()
    if abilities.max_tools is not None and content.tools > abilities.max_tools:
        return Unfit.TOOLS
    if abilities.structured is False and content.structured:
        return Unfit.STRUCTURED
    if abilities.context_tokens is not None and tokens_of(content, request.kind, candidate) > abilities.context_tokens:
        return Unfit.CONTEXT
    return None


def tokens_of(content: Content, kind: RequestKind, candidate: CandidateModel) -> int:
    """Prompt and reply together."""
    return content.prompt_tokens + reply_room(content, kind, candidate)


def reply_room(content: Content, kind: RequestKind, candidate: CandidateModel) -> int:
    """Tokens the reply may take: what the request is sent with, else the model's default; embeddings have no reply."""
    if kind is RequestKind.EMBEDDINGS:
        return 0
    tokens = candidate.parameters.reply_tokens(content.reply_tokens)
    return candidate.reply_tokens if tokens is None else tokens
