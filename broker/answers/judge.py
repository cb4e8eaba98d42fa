"""The verdict on a complete answer, from the facts: one numbered list."""

from broker.answers.facts import Facts
from broker.answers.names import same_model
from broker.answers.verdict import Expected, Reason

CUT_WORDS = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
"""The token limit ended it: chat and text, Anthropic, responses."""
WITHHELD_WORDS = frozenset({"content_filter", "refusal"})
"""Somebody's rules ended it: an answer, though an empty one."""


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

    1. An error inside is an error, whatever came before it.
    2. Another model than the expected ones answered: its content is worth nothing.
    3. Content is an answer.
    4. Text that cannot be seen is garbage; white space alone is as good as nothing (7).
    5. Withheld by a filter, or allowed to be empty: an answer.
    6. Only reasoning, and the token limit ended it.
    7. Nothing: in a stream, or whole. What could not be read at all is garbage.
    """
    if facts.error is not None:  # 1
        return Reason.ERROR_INSIDE, f"error {facts.error!r} inside a 200"
    if is_another_model(facts, expected):  # 2
        return Reason.WRONG_MODEL, f"answered by {facts.model!r}, expected {expected.models[0]!r}"
    if facts.content:  # 3
        return Reason.FINE, ""
    if facts.garbled:  # 4
        return Reason.GARBAGE, "no printable character"
    if facts.finish in WITHHELD_WORDS or (expected.may_be_empty and not facts.unreadable):  # 5
        return Reason.FINE, "empty, as it may be"
    if facts.reasoning and facts.finish in CUT_WORDS:  # 6
        return Reason.ONLY_REASONING, "the token limit was reached before the reasoning ended"
    if facts.unreadable:  # 7
        return Reason.GARBAGE, "not the JSON of this protocol"
    what = "only reasoning" if facts.reasoning else "only white space" if facts.blank else "nothing"
    return (Reason.NO_CONTENT if streamed else Reason.EMPTY), f"{what}, ended by {facts.finish or 'no word'}"
