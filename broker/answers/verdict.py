"""The words about an answer: what was asked for, how much of it passed, and the verdict with its reason."""

from enum import StrEnum

import msgspec

from broker.answers.asking import FEW_TOKENS, Asking


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
        asking: The request, for what it allows its answer to be; None: nothing is known of it.
        may_be_empty: An answer without content is right, whatever the request.
    """

    shape: Shape
    models: tuple[str, ...] = ()
    others: tuple[str, ...] | None = None
    asking: Asking | None = None
    may_be_empty: bool = False

    def allows_nothing(self, finish: str | None) -> bool:
        """May an answer without content that ended by this word be right?"""
        return self.may_be_empty or (self.asking is not None and self.asking.may_be_empty(finish))

    @property
    def allows_fragments(self) -> bool:
        """May a text be no more than a piece of a character?"""
        return self.asking is not None and self.asking.most_tokens <= 1

    @property
    def allows_white_space(self) -> bool:
        """May a text that the token limit ended be white space alone?"""
        return self.asking is not None and self.asking.most_tokens <= FEW_TOKENS

    @property
    def wants_a_form(self) -> bool:
        """Had the server to read a call of a tool, or a schema, in what the model wrote?"""
        return self.asking is not None and self.asking.wants_a_form

    @property
    def is_hearing(self) -> bool:
        """Is it a transcript: a JSON object, a JSON string or plain text, whatever the headers say?"""
        return self.asking is not None and self.asking.is_hearing


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
    REFUSED_INSIDE = "refused_inside"
    """An error told inside a 200 that is about the request: too long, not supported."""
    UNPARSED = "unparsed"
    """The server could not read the form that it had to find in the model's words: a call of a tool, a schema."""
    SERVER_ERROR = "server_error"
    """A 5xx that is not about the request."""


FAILURES = frozenset(
    {
        Reason.EMPTY,
        Reason.NO_CONTENT,
        Reason.ONLY_REASONING,
        Reason.GARBAGE,
        Reason.WRONG_MODEL,
        Reason.ERROR_INSIDE,
        Reason.UNPARSED,
    }
)
"""Answers that a client has no use for."""

BLAMED = (FAILURES | {Reason.SERVER_ERROR}) - {Reason.ONLY_REASONING, Reason.UNPARSED}
"""What makes the model suspect; a budget too small for its reasoning and a form that cannot be read are the request's
doing. A 5xx is the client's to see, so it is no failure that is made up for."""


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
    has_content: bool = False
    """Was there something that a client can use, and not only nothing where nothing may be?"""
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

    @property
    def vouches(self) -> bool:
        """Does it speak for the model? An empty answer, right as it may be, says nothing of it."""
        return self.reason is Reason.FINE and self.has_content

    @property
    def says_nothing(self) -> bool:
        """Is it empty where it may be?"""
        return self.reason is Reason.FINE and not self.has_content
