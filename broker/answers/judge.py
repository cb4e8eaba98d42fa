"""The verdict on a complete answer, from the facts: one numbered list."""

from broker.answers.asking import CUT_WORDS
from broker.answers.facts import Facts
from broker.answers.names import same_model
from broker.answers.verdict import ExpectedAnswer, VerdictReason

WITHHELD_WORDS = frozenset(
    {
        "content_filter", "content_filtered", "refusal", "safety", "sensitive", "recitation", "blocklist",
        "prohibited_content", "spii", "guardrail_intervened",
    }
)  # fmt: skip
"""Words for an end that somebody's rules made: it is an answer, though an empty one. OpenAI, Anthropic, Gemini, GLM and
Bedrock use them."""
CALL_WORDS = frozenset({"tool_calls", "tool_use", "function_call"})
"""Words that say that an answer ended with a call of a tool."""
NO_FAULT = frozenset({501, 503, 505, 529})
"""Those 5xx that say that the server cannot do this, or not now."""


def is_another_model(facts: Facts, expected: ExpectedAnswer) -> bool:
    """Does it name a model that is none of the expected ones? Where the others are known: is it one of them?"""
    name = facts.model
    if name is None or name in expected.models or not expected.models:
        return False
    if any(same_model(name, known) for known in expected.models):
        return False
    return expected.others is None or any(same_model(name, other) for other in expected.others)


def judge(facts: Facts, expected: ExpectedAnswer, *, streamed: bool) -> tuple[VerdictReason, str]:
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
        return VerdictReason.WRONG_MODEL, f"answered by {facts.model!r}, expected {expected.models[0]!r}"
    if facts.content:  # 3
        return VerdictReason.FINE, ""
    if facts.garbled and not expected.allows_fragments:  # 4
        return VerdictReason.GARBAGE, "no printable character"
    if _is_withheld(facts) or (not facts.unreadable and _may_be_empty(facts, expected)):  # 5
        return VerdictReason.FINE, "empty, as it may be"
    return _of_nothing(facts, streamed=streamed)


def _of_nothing(facts: Facts, *, streamed: bool) -> tuple[VerdictReason, str]:
    """Give the reason for an answer without anything that a client can use: points 6 to 8 of the list in ``judge``."""
    if facts.reasoning and facts.finish in CUT_WORDS:  # 6
        return VerdictReason.ONLY_REASONING, "the token limit was reached before the reasoning ended"
    if facts.shown_reasoning:
        return VerdictReason.FINE, "reasoning that the client sees"
    if facts.finish in CALL_WORDS:  # 7
        return VerdictReason.UNPARSED, f"no call, though ended by {facts.finish}"
    if facts.unreadable:  # 8
        return VerdictReason.GARBAGE, "not the JSON of this protocol"
    what = "only hidden reasoning" if facts.reasoning else "only white space" if facts.blank else "nothing"
    return (
        VerdictReason.NO_CONTENT if streamed else VerdictReason.EMPTY
    ), f"{what}, ended by {facts.finish or 'no word'}"


def judge_failure(status: int, facts: Facts, expected: ExpectedAnswer) -> tuple[VerdictReason, str]:
    """The reason of an answer that is no 200, from what its body says; a 4xx is about the request."""
    if status < 500 or status in NO_FAULT or error_reason(facts, expected) is not VerdictReason.ERROR_INSIDE:
        return VerdictReason.UNJUDGED, f"status {status}"
    return VerdictReason.SERVER_ERROR, f"status {status}"


def error_reason(facts: Facts, expected: ExpectedAnswer) -> VerdictReason:
    """Decide from an error that was told who caused it."""
    if facts.unparsed and expected.wants_a_form:
        return VerdictReason.UNPARSED
    return VerdictReason.REFUSED_INSIDE if facts.refused else VerdictReason.ERROR_INSIDE


def _may_be_empty(facts: Facts, expected: ExpectedAnswer) -> bool:
    """Tell whether the request allows an answer without content."""
    is_blank_for_a_start = facts.blank and facts.finish in CUT_WORDS
    return expected.allows_nothing(facts.finish) or (is_blank_for_a_start and expected.allows_white_space)


def _is_withheld(facts: Facts) -> bool:
    return facts.finish is not None and facts.finish.casefold() in WITHHELD_WORDS
