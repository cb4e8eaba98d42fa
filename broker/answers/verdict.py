"""The words about an answer: what was asked for, how much of it passed, and the verdict with its reason."""

from enum import StrEnum

import msgspec

from broker.answers.asking import FEW_TOKENS, Asking


class Shape(StrEnum):
    """What an answer looks like; the gateway's endpoints use the same words."""

    CHAT = "chat"
    """OpenAI's chat completions, whole or as chunks."""
    TEXT = "text"
    """OpenAI's (legacy) text completions, whole or as chunks."""
    RESPONSES = "responses"
    """OpenAI's responses, whole or as typed events."""
    MESSAGES = "messages"
    """Anthropic's messages, whole or as typed events."""
    WHOLE = "whole"
    """Any other answer: embeddings, rankings, counts, audio, images."""


class ExpectedAnswer(msgspec.Struct, frozen=True, kw_only=True):
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
    """There were bytes, but nothing a reader could see: roles, identifiers, white space."""
    REASONING = "reasoning"
    """There was reasoning, which some clients show."""
    CONTENT = "content"
    """There was text, a tool call, a vector or an image."""


class VerdictReason(StrEnum):
    """Why an answer is good or not."""

    FINE = "fine"
    UNJUDGED = "unjudged"
    """It was no 200, or nothing that can be read (compressed)."""
    ABANDONED = "abandoned"
    """It broke off, or the client went away, before its end."""
    EMPTY = "empty"
    """It is whole, and has no content."""
    NO_CONTENT = "no_content"
    """It is a stream that ended without content."""
    ONLY_REASONING = "only_reasoning"
    """The token limit cut it when there was nothing but reasoning."""
    GARBAGE = "garbage"
    """It has no printable text, or is not what the protocol says."""
    WRONG_MODEL = "wrong_model"
    """The answer names another model than the one that was asked."""
    ERROR_INSIDE = "error_inside"
    """It told an error inside a 200."""
    REFUSED_INSIDE = "refused_inside"
    """It told an error inside a 200, and the error is about the request: too long, not supported."""
    UNPARSED = "unparsed"
    """The server could not read the form that it had to find in the model's words: a call of a tool, a schema."""
    SERVER_ERROR = "server_error"
    """It was a 5xx that is not about the request."""


FAILURES = frozenset(
    {
        VerdictReason.EMPTY,
        VerdictReason.NO_CONTENT,
        VerdictReason.ONLY_REASONING,
        VerdictReason.GARBAGE,
        VerdictReason.WRONG_MODEL,
        VerdictReason.ERROR_INSIDE,
        VerdictReason.UNPARSED,
    }
)
"""Answers that a client has no use for."""

BLAMED = (FAILURES | {VerdictReason.SERVER_ERROR}) - {VerdictReason.ONLY_REASONING, VerdictReason.UNPARSED}
"""What makes the model suspect; a budget too small for its reasoning and a form that cannot be read are the request's
doing. A 5xx is the client's to see, so it is no failure that is made up for."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the answer counts them; None where it says nothing."""

    prompt: int | None = None
    """How many tokens the prompt has, cached ones included."""
    completion: int | None = None
    """How many tokens were generated, reasoning included."""
    cached: int | None = None
    """How many of the prompt's tokens were read from a cache."""
    reasoning: int | None = None
    """How many of the completion's tokens were reasoning."""


class AnswerTimes(msgspec.Struct, frozen=True, kw_only=True):
    """When what passed, by the caller's clock, seconds; None: it did not."""

    begun_s: float
    """When the status and the headers came."""
    first_byte_s: float | None = None
    first_token_s: float | None = None
    """When the first reasoning or content came, whichever was first."""
    first_content_s: float | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an answer."""

    reason: VerdictReason
    detail: str
    """What is written to the log; it holds nothing of the prompt or the answer."""
    passed: Passed
    streamed: bool
    model: str | None
    """The name that the answer gives its model, shortened to 256 characters."""
    finish: str | None
    """The answer's own word for why it ended."""
    has_content: bool = False
    """Was there something that a client can use, and not only nothing where nothing may be?"""
    usage: Usage
    marks: AnswerTimes

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
        return self.reason is VerdictReason.FINE and self.has_content

    @property
    def says_nothing(self) -> bool:
        """Is it empty where it may be?"""
        return self.reason is VerdictReason.FINE and not self.has_content
