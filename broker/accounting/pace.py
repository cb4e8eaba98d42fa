"""How fast one answer came, as far as it shows: routing learns from it who is fast."""

import msgspec

from broker.answers.verdict import Verdict, VerdictReason

BYTES_PER_TOKEN = 250
"""Bytes per token of a stream that does not count its tokens: an event with one token of OpenAI or llama.cpp is as
long."""


class AnswerPace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast one answer came: the moment it ended, its first token, and how many followed in which time."""

    ended_s: float
    """When the answer ended, seconds of the event loop's clock."""
    first_s: float | None
    """How long the first token took from the question on, seconds; None: the answer was no stream."""
    tokens: int
    over_s: float
    """How long the tokens took, seconds: from the first token on, or from the question where it was no stream."""


def pace_of(verdict: Verdict | None, asked_s: float | None, *, sent: int, ended_s: float) -> AnswerPace | None:
    """Measure an answer that is over; None: it was not good, or shows nothing.

    Args:
        verdict: What the answer was worth; None: nobody answered.
        asked_s: When the lease was granted, or the cloud asked, seconds of the loop's clock.
        sent: Bytes that were passed on.
        ended_s: When the answer ended, seconds of the loop's clock.
    """
    if verdict is None or asked_s is None or verdict.reason is not VerdictReason.FINE:
        return None
    tokens, first_s = verdict.usage.completion, verdict.marks.first_token_s
    if not verdict.streamed:
        return AnswerPace(ended_s=ended_s, first_s=None, tokens=tokens, over_s=ended_s - asked_s) if tokens else None
    if first_s is None:
        return None
    counted = sent // BYTES_PER_TOKEN if tokens is None else tokens
    return AnswerPace(ended_s=ended_s, first_s=max(0.0, first_s - asked_s), tokens=counted, over_s=ended_s - first_s)
