"""A request as the rules see it: who asks for what, under which flags, and what its body holds.

Rule: the content is read at most once, and only when a rule looks at it.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, Self

from broker.core.errors import BadArgumentError
from broker.core.lease import Priority
from broker.routing.request.answer_form import AnswerForm
from broker.routing.request.effort import Effort
from broker.routing.request.purpose import Purpose, Task
from broker.routing.text.work import Work

LONGEST_DEADLINE_S = 86_400.0
_NO = frozenset({b"0", b"false", b"no", b"off"})


class RequestKind(StrEnum):
    """What is asked for. What is ``UNREAD`` has no shape whose content can be judged."""

    CHAT = "chat"
    COMPLETION = "completion"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    OTHER = "other"
    """Audio or images; also every address that ``KIND_OF_PATH`` does not name."""


UNREAD = frozenset({RequestKind.RERANK, RequestKind.OTHER})
"""Kinds that are passed on by their model's name alone, and never go to an upstream."""


KIND_OF_PATH = {
    "/chat/completions": RequestKind.CHAT,
    "/completions": RequestKind.COMPLETION,
    "/responses": RequestKind.RESPONSES,
    "/messages": RequestKind.MESSAGES,
    "/messages/count_tokens": RequestKind.MESSAGES,
    "/embeddings": RequestKind.EMBEDDINGS,
    "/rerank": RequestKind.RERANK,
}
"""Kinds by the address below ``/v1``; every other address is ``OTHER``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image among the input."""

    marked: bool = False
    """It is marked as a screenshot, or as a camera's photograph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What the body of one request holds, as far as it can be read."""

    texts: tuple[str, ...] = ()
    """Every string and number of the body, names of fields and decoded base64 included."""
    images: tuple[Image, ...] = ()
    """All images, those inside texts included."""
    pictured: bool = False
    """One of the images is for the model to look at."""
    tools: int = 0
    structured: bool = False
    """The answer is asked for in a given form (JSON mode, a schema)."""
    prompt_tokens: int = 0
    """How many tokens the prompt has, counted so that it is rather too many."""
    reply_tokens: int | None = None
    """How much room the request asks for its reply, tokens; None: it does not say."""
    tool_calls: int = 0
    """How many calls of tools were made in the conversation so far."""
    form: AnswerForm = field(default_factory=AnswerForm)
    """Form that the answer must have, by its schema."""
    effort: Effort | None = None
    """How hard the model is to think; None: it does not say."""
    purpose: Purpose = field(default_factory=Purpose)
    """What shows what the request is for."""
    hidden: str = ""
    """Why a part cannot be read, in a word; empty: all of it can be read."""

    def read(self) -> Self:
        """Return itself: a content is its own source."""
        return self

    def shows_picture(self) -> bool:
        """Tell whether a picture is there for the model to look at."""
        return self.pictured


class ContentSource(Protocol):
    """Gives the content when a rule asks for it; the same one each time."""

    def read(self) -> Content:
        """Return the content."""

    def shows_picture(self) -> bool:
        """Tell whether a picture is there for the model to look at. Costs little where nothing was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One request as routing looks at it: what it asks for, by which name, and what holds for its sender."""

    name: str
    """Model or alias, as it was asked for."""
    kind: RequestKind
    content: ContentSource
    size_bytes: int = 0
    key_private: bool = False
    header_private: bool = False
    deadline_s: float | None = None
    """Seconds until the first byte is wanted, from the header or else the key; None: neither says."""
    priority: Priority = Priority.NORMAL
    task: Task | None = None
    """What it is for, as its header says; None: it has no such header."""
    usual_task: Task | None = None
    """What its key's requests are for; None: the key does not say."""
    quantisations: tuple[str, ...] = ()
    """Quantisations of the weights that it accepts; empty: any."""
    work: Work = field(default_factory=Work, compare=False)
    """How much work looking through it has cost, and may cost."""


def private_header(value: bytes | None) -> bool:
    """Tell whether ``x-hotseat-private`` says so. Whatever is not a plain no is a yes."""
    return value is not None and value.strip().lower() not in _NO


def task_header(value: bytes | None) -> Task | None:
    """Read ``x-hotseat-task``: what the request is for.

    Raises:
        BadArgumentError: There is no such task.
    """
    if value is None:
        return None
    word = value.decode("latin-1").strip().lower().replace("-", "_").replace(" ", "_")
    try:
        return Task(word)
    except ValueError:
        raise BadArgumentError(f"x-hotseat-task must be one of {', '.join(Task)}") from None


def deadline_header(value: bytes | None) -> float | None:
    """Read ``x-hotseat-deadline-s``: seconds until the first byte is wanted.

    Raises:
        BadArgumentError: It is not a number above 0 and at most a day.
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
