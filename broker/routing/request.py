"""A request as the rules see it: who asks for what, under which flags, and what its body holds.

Rule: the content is read at most once, and only when a rule looks at it.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, Self

from broker.core.errors import BadArgumentError
from broker.core.lease import Priority
from broker.routing.work import Work

LONGEST_DEADLINE_S = 86_400.0
_NO = frozenset({b"0", b"false", b"no", b"off"})


class Kind(StrEnum):
    """What is asked for. Only the first five have a shape whose content can be judged."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    OTHER = "other"
    """Rerank, audio, images: passed on by model, never to an upstream."""


KIND_OF_PATH = {
    "/chat/completions": Kind.CHAT,
    "/completions": Kind.COMPLETION,
    "/responses": Kind.RESPONSES,
    "/messages": Kind.MESSAGES,
    "/messages/count_tokens": Kind.MESSAGES,
    "/embeddings": Kind.EMBEDDINGS,
}
"""By the address below ``/v1``; every other one is ``OTHER``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image among the input."""

    marked: bool = False
    """As a screenshot or a photograph of a camera."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a body holds."""

    texts: tuple[str, ...] = ()
    """Every string and number of the body, names of fields and decoded base64 included."""
    images: tuple[Image, ...] = ()
    tools: int = 0
    structured: bool = False
    """Is the answer asked for in a given form (JSON mode, a schema)?"""
    prompt_tokens: int = 0
    """Counted so that it is rather too many."""
    reply_tokens: int | None = None
    """Room the request asks for; None: it does not say."""
    hidden: str = ""
    """Why a part cannot be read: a word; empty where all of it can."""

    def read(self) -> Self:
        """Itself: a content is its own source."""
        return self


class ContentSource(Protocol):
    """Gives the content when a rule asks for it; the same one each time."""

    def read(self) -> Content:
        """The content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One request."""

    name: str
    """Model or alias, as asked."""
    kind: Kind
    content: ContentSource
    size_bytes: int = 0
    key_private: bool = False
    header_private: bool = False
    deadline_s: float | None = None
    """From the header, else the key; None: neither says."""
    priority: Priority = Priority.NORMAL
    work: Work = field(default_factory=Work, compare=False)
    """What looking through it has cost, and may."""


def private_header(value: bytes | None) -> bool:
    """Does ``x-hotseat-private`` say so? Whatever is not a plain no is a yes."""
    return value is not None and value.strip().lower() not in _NO


def deadline_header(value: bytes | None) -> float | None:
    """``x-hotseat-deadline-s``: seconds until the first byte is wanted.

    Raises:
        BadArgumentError: Not a number above 0 and at most a day.
    """
    if value is None:
        return None
    try:
        deadline_s = float(value)
    except ValueError:
        deadline_s = math.nan
    if not 0 < deadline_s <= LONGEST_DEADLINE_S:
        raise BadArgumentError(f"x-hotseat-deadline-s must be above 0 and at most {LONGEST_DEADLINE_S:.0f}")
    return deadline_s
