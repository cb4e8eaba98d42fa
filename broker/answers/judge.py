"""The verdict on a complete answer, from the facts: one numbered list."""

from broker.answers.asking import CUT_WORDS
from broker.answers.facts import Facts
from broker.answers.names import same_model
from broker.answers.verdict import Expected, Reason

WITHHELD_WORDS = frozenset(
    {
        "content_filter", "content_filtered", "refusal", "safety", "sensitive", "recitation", "blocklist",
        "prohibited_content", "spii", "guardrail_intervened",
    }
)  # fmt: skip
"""Somebody's rules ended it: an answer, though an empty one. Words of OpenAI, Anthropic, Gemini, GLM and Bedrock."""
CALL_WORDS = frozenset({"tool_calls", "tool_use", "function_call"})
"""It is said to end with a call."""
NO_FAULT = frozenset({501, 503, 505, 529})
"""Of the 5xx: it cannot do this, or not now."""


def is_another_model(facts: Facts, expected: Expected) -> bool:
    """Does it name a model that is none of the expected ones? Where the others are known: is it one of them?"""
    name = facts.model
    if name is None or name in expected.models or not expected.models:
        return False
    if any(same_model(name, known) for known in expected.models):
        return False
    return expected.others is None or any(same_model(name, other) for other in expected.others)


def judge(facts: Facts, expected: Expected, *, streamed: bool) -> tuple[Reason, str]:
    """The reason and a detail without content.

    1. An error inside is an error, whatever came before it; whose doing it is, its words say.
    2. Another model than the expected ones answered: its content is worth nothing.
    3. Content is an answer.
    4. Text that cannot be seen is garbage, but for a piece of a character where one token was asked for; white space
       alone is as good as nothing (8).
    5. Withheld by a filter, or allowed to be empty: an answer.
    6. Reasoning in words is content where the client sees it; the token limit may have ended it too early.
    7. It should end with a call of a tool, and the server found none in what the model wrote.
    8. Nothing: in a stream, or whole. What could not be read at all is garbage.
    """
    if facts.error is not None:  # 1
        return error_reason(facts, expected), f"error {facts.error!r} inside a 200"
    if is_another_model(facts, expected):  # 2
        return Reason.WRONG_MODEL, f"answered by {facts.model!r}, expected {expected.models[0]!r}"
    if facts.content:  # 3
        return Reason.FINE, ""
    if facts.garbled and not expected.allows_fragments:  # 4
        return Reason.GARBAGE, "no printable character"
    if _is_withheld(facts) or (not facts.unreadable and _may_be_empty(facts, expected)):  # 5
        return Reason.FINE, "empty, as it may be"
    return _of_nothing(facts, streamed=streamed)


def _of_nothing(facts: Facts, *, streamed: bool) -> tuple[Reason, str]:
    """The rest of the list."""
    if facts.reasoning and facts.finish in CUT_WORDS:  # 6
        return Reason.ONLY_REASONING, "the token limit was reached before the reasoning ended"
    if facts.shown_reasoning:
        return Reason.FINE, "reasoning that the client sees"
    if facts.finish in CALL_WORDS:  # 7
        return Reason.UNPARSED, f"no call, though ended by {facts.finish}"
    if facts.unreadable:  # 8
        return Reason.GARBAGE, "not the JSON of this protocol"
    what = "only hidden reasoning" if facts.reasoning else "only white space" if facts.blank else "nothing"
    return (Reason.NO_CONTENT if streamed else Reason.EMPTY), f"{what}, ended by {facts.finish or 'no word'}"


def judge_failure(status: int, facts: Facts, expected: Expected) -> tuple[Reason, str]:
    """The reason of an answer that is no 200, from what its body says; a 4xx is about the request."""
    if status < 500 or status in NO_FAULT or error_reason(facts, expected) is not Reason.ERROR_INSIDE:
        return Reason.UNJUDGED, f"status {status}"
    return Reason.SERVER_ERROR, f"status {status}"


def error_reason(facts: Facts, expected: Expected) -> Reason:
    """Whose doing an error that was told is."""
    if facts.unparsed and expected.wants_a_form:
        return Reason.UNPARSED
    return Reason.REFUSED_INSIDE if facts.refused else Reason.ERROR_INSIDE


def _may_be_empty(facts: Facts, expected: Expected) -> bool:
    """Does the request allow that?"""
    is_blank_for_a_start = facts.blank and facts.finish in CUT_WORDS
    return expected.allows_nothing(facts.finish) or (is_blank_for_a_start and expected.allows_white_space)


def _is_withheld(facts: Facts) -> bool:
    return facts.finish is not None and facts.finish.casefold() in WITHHELD_WORDS
