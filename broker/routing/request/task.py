"""What a request is for, in one word: as it says, as its key or its name usually means, else as it shows.

A request that says nothing is taken for the first of these that holds:

1. ``embedding``: that is what is asked for.
2. ``fill_in_the_middle``: a text is to be written between two others.
3. ``agent``: three calls of tools or more were made in the conversation.
4. By the schema of its answer: ``classification`` where that is a label, ``extraction`` where it is flat, else
   ``structured``.
5. By what its user asks in so many words, or its instructions do: ``classification``, ``extraction``; ``summary`` where
   what is to be made shorter is not long.
6. ``code``: code in what is asked, tools that write it, or instructions to.
7. ``structured``: JSON, or another form without a schema.
8. ``chat``.
"""

from broker.routing.request.answer_form import AnswerForm
from broker.routing.request.purpose import Task
from broker.routing.request.request import Content, RequestKind
from broker.routing.text.wording import (
    asks_for_a_class,
    asks_for_less,
    asks_for_what_is_in_it,
    is_of_code,
    speaks_to_a_coder,
)

AGENT_CALLS = 3
"""Calls of tools from which on a conversation is a loop of an agent's."""
FLAT_DEPTH = 2
"""A list of single values in an object; what is deeper has a structure of its own."""
SHORT_TOKENS = 8_000
"""A summary of more is no short one."""


def task_of(kind: RequestKind, content: Content) -> Task:
    """What a request shows; see the list above."""
    purpose, form = content.purpose, content.form
    if kind is RequestKind.EMBEDDINGS:  # 1
        return Task.EMBEDDING
    if purpose.fills_gap:  # 2
        return Task.FILL_IN_THE_MIDDLE
    if content.tool_calls >= AGENT_CALLS:  # 3
        return Task.AGENT
    if form.is_given:  # 4
        return _of_form(form)
    asked = _of_words(purpose.question, content.prompt_tokens) or _of_words(purpose.instructions, content.prompt_tokens)
    if asked is not None:  # 5
        return asked
    if purpose.has_code_tools or is_of_code(purpose.question) or speaks_to_a_coder(purpose.instructions):  # 6
        return Task.CODE
    return Task.STRUCTURED if content.structured else Task.CHAT  # 7, 8


def _of_form(form: AnswerForm) -> Task:
    if form.is_label:
        return Task.CLASSIFICATION
    return Task.EXTRACTION if form.depth <= FLAT_DEPTH else Task.STRUCTURED


def _of_words(text: str, prompt_tokens: int) -> Task | None:
    if asks_for_less(text):
        return Task.SUMMARY if prompt_tokens <= SHORT_TOKENS else None
    if asks_for_a_class(text):
        return Task.CLASSIFICATION
    return Task.EXTRACTION if asks_for_what_is_in_it(text) else None
