"""The words about an answer: what was asked for, how much of it passed, and the verdict with its reason."""

from enum import StrEnum

import msgspec


class Shape(StrEnum):
    """What an answer looks like; the gateway's endpoints use the same words."""

    CHAT = "chat"
    """OpenAI's chat completions, whole or as chunks."""
    TEXT = "text"
    """OpenAI's completions."""
    RESPONSES = "responses"
    """OpenAI's responses, whole or as typed events."""
    MESSAGES = "messages"
    """Anthropic's messages, whole or as typed events."""
    WHOLE = "whole"
    """Any other: embeddings, rankings, counts, audio, images."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What the request leads one to expect.

    Attributes:
        models: Names the right model may give itself; empty: not checked.
        others: Names of other models; None: every name but ``models`` is one. An upstream may well answer by a name
            that nobody told us.
        may_be_empty: The request allows an answer without content (no tokens wanted, a cache warmed).
    """

    shape: Shape
    models: tuple[str, ...] = ()
    others: tuple[str, ...] | None = None
    may_be_empty: bool = False


class Passed(StrEnum):
    """How much of an answer went through the watcher so far."""

    NOTHING = "nothing"
    PREAMBLE = "preamble"
    """Bytes, but nothing a reader could see: roles, identifiers, white space."""
    REASONING = "reasoning"
    """Reasoning, which some clients show."""
    CONTENT = "content"
    """Text, a tool call, a vector, an image."""


class Reason(StrEnum):
    """Why an answer is good or not."""

    FINE = "fine"
    UNJUDGED = "unjudged"
    """Not a 200, or nothing that can be read (compressed)."""
    ABANDONED = "abandoned"
    """It broke off, or the client went away, before its end."""
    EMPTY = "empty"
    """Whole, and without content."""
    NO_CONTENT = "no_content"
    """A stream that ended without content."""
    ONLY_REASONING = "only_reasoning"
    """Cut at the token limit with nothing but reasoning: the budget was eaten."""
    GARBAGE = "garbage"
    """No printable text, or not what the protocol says."""
    WRONG_MODEL = "wrong_model"
    """Another model answered."""
    ERROR_INSIDE = "error_inside"
    """An error told inside a 200."""


FAILURES = frozenset(
    {
        Reason.EMPTY,
        Reason.NO_CONTENT,
        Reason.ONLY_REASONING,
        Reason.GARBAGE,
        Reason.WRONG_MODEL,
        Reason.ERROR_INSIDE,
    }
)
"""Answers that a client has no use for."""

BLAMED = FAILURES - {Reason.ONLY_REASONING}
"""Failures that make the model suspect; a budget too small for its reasoning is the request's doing."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the answer counts them; None where it says nothing."""

    prompt: int | None = None
    """All tokens of the prompt, cached ones included."""
    completion: int | None = None
    """All generated tokens, reasoning included."""
    cached: int | None = None
    """Of the prompt, read from a cache."""
    reasoning: int | None = None
    """Of the completion."""


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """When what passed, by the caller's clock, seconds; None: it did not."""

    begun_s: float
    """Status and headers."""
    first_byte_s: float | None = None
    first_token_s: float | None = None
    """Reasoning or content, whichever came first."""
    first_content_s: float | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an answer."""

    reason: Reason
    detail: str
    """For the log: no content of prompt or answer."""
    passed: Passed
    streamed: bool
    model: str | None
    """As the answer names it, shortened to 256 characters."""
    finish: str | None
    """The answer's own word for why it ended."""
    usage: Usage
    marks: Marks

    @property
    def failed(self) -> bool:
        """Is it of no use to the client?"""
        return self.reason in FAILURES

    @property
    def blames_model(self) -> bool:
        """Does it count against the model (see ``suspicion``)?"""
        return self.reason in BLAMED
