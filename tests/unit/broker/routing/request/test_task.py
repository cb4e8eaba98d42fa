"""What a request is for, by what it shows: bodies as real clients send them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.routing.request.contents import content_of
from broker.routing.request.request import RequestKind
from broker.routing.request.task import SHORT_TOKENS, Task, task_of
from tests.unit.broker.routing.request.test_answer_form import DEEP, FLAT, LABEL


def task(kind: RequestKind, **fields: object) -> Task:
    return task_of(kind, content_of(kind, json.dumps({"model": "x", **fields}).encode()))


def said(text: str, **fields: object) -> Task:
    return task(RequestKind.CHAT, messages=[{"role": "user", "content": text}], **fields)


def schema(inner: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": inner}}


def test_embeddings_are_a_task_of_their_own():
    assert task(RequestKind.EMBEDDINGS, input="Classify this") is Task.EMBEDDING


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "def add(a, b):\n    ", "suffix": "\n\nprint(add(1, 2))"},
        {"prompt": "<|fim_prefix|>def add(<|fim_suffix|>return<|fim_middle|>"},
        {"prompt": "<fim_prefix>a<fim_suffix>b<fim_middle>"},
        {"prompt": "<PRE> def f(): <SUF>return x <MID>"},
        {"prompt": "[SUFFIX]return x[PREFIX]def f():"},
        {"prompt": "<\uff5cfim\u2581begin\uff5c>def f():<\uff5cfim\u2581hole\uff5c>return<\uff5cfim\u2581end\uff5c>"},
    ],
)
def test_a_gap_between_two_texts_is_fill_in_the_middle(fields):
    assert task(RequestKind.COMPLETION, **fields) is Task.FILL_IN_THE_MIDDLE


def test_a_chat_may_fill_a_gap_too():
    assert said("<|fim_prefix|>x = <|fim_suffix|>\nprint(x)<|fim_middle|>") is Task.FILL_IN_THE_MIDDLE
    assert task(RequestKind.COMPLETION, prompt="Once upon a time", suffix="") is Task.CHAT


CALL = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}


@pytest.mark.parametrize(
    "kind, fields",
    [
        (RequestKind.CHAT, {"messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "tool_calls": [CALL, CALL]}, {"role": "tool", "content": "x"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "content": "x"}]}),
        (RequestKind.CHAT, {"messages": [
            {"role": "user", "content": "go"},
            *[{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}] * 3]}),
        (RequestKind.MESSAGES, {"messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}] * 3},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x"}]}]}),
        (RequestKind.RESPONSES, {"input": [
            {"role": "user", "content": "go"},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"},
            {"type": "custom_tool_call", "name": "f", "input": "", "call_id": "2"},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "3"}]}),
    ],
)  # fmt: skip
def test_three_calls_of_tools_are_a_loop_of_an_agents_in_every_protocol(kind, fields):
    assert task(kind, **fields) is Task.AGENT
    content = content_of(kind, json.dumps({"model": "x", **fields}).encode())
    assert content.tool_calls == 3


def test_one_call_of_a_tool_is_no_loop():
    turns = [{"role": "user", "content": "What is the weather in Berne?"}, {"role": "assistant", "tool_calls": [CALL]}]
    assert task(RequestKind.CHAT, messages=turns) is Task.CHAT


def test_a_schema_says_whether_the_answer_is_a_label_flat_or_deep():
    assert said("Look at this mail", response_format=schema(LABEL)) is Task.CLASSIFICATION
    assert said("Look at this mail", response_format=schema(FLAT)) is Task.EXTRACTION
    assert said("Look at this mail", response_format=schema(DEEP)) is Task.STRUCTURED
    assert said("Look at this mail", guided_choice=["yes", "no"]) is Task.CLASSIFICATION
    assert said("Tell me a story", response_format={"type": "json_object"}) is Task.STRUCTURED


@pytest.mark.parametrize(
    "text",
    [
        "Classify the following mail as spam or ham:\n\nYou have won!",
        "Please categorize these expenses: taxi 20, lunch 15",
        "You have won!\n\nIs this spam? Answer only with yes or no.",
        "What is the sentiment of this review? 'The food was cold.'",
        "Label each sentence: positive, negative or neutral.",
        "Klassifiziere diesen Text als Rechnung oder Brief: …",
        "Bitte ordne die folgende Anfrage einer Abteilung zu: Mein Drucker brennt.",
        "Classifique o texto a seguir: …",
        "Read it, then classify it: hello",
    ],
)
def test_who_asks_for_a_class_asks_for_classification(text):
    assert said(text) is Task.CLASSIFICATION


@pytest.mark.parametrize(
    "text",
    [
        "Extract all names and dates from this letter: Dear Ada, on 3 May …",
        "From the text below, extract the invoice number.",
        "Could you pull out every address in here?\n…",
        "List all people mentioned in the article.\n…",
        "Extrahiere alle Termine aus der Mail: …",
        "Extrais les noms des personnes : …",
        "Extrae los nombres del texto: …",
    ],
)
def test_who_asks_for_what_stands_in_a_text_asks_for_extraction(text):
    assert said(text) is Task.EXTRACTION


@pytest.mark.parametrize(
    "text",
    [
        "Summarize this:\n\nThe committee met …",
        "The committee met …\n\nTL;DR",
        "Please write a short summary of the minutes: …",
        "Give me a one-sentence summary. …",
        "Generate a concise, 3-5 word title for this chat: …",
        "Fasse den Text in zwei Sätzen zusammen: …",
        "Résume ce texte : …",
        "Resume el texto siguiente: …",
        "Riassumi questo articolo: …",
    ],
)
def test_who_wants_it_shorter_wants_a_summary(text):
    assert said(text) is Task.SUMMARY


def test_a_summary_of_much_is_no_short_one():
    long = "Summarize this:\n\n" + "The committee met and talked. " * 2000
    body = json.dumps({"messages": [{"role": "user", "content": long}]}).encode()
    assert content_of(RequestKind.CHAT, body).prompt_tokens > SHORT_TOKENS
    assert said(long) is Task.CHAT


@pytest.mark.parametrize(
    "text",
    [
        "Why does this fail?\n```python\nprint(1 / 0)\n```",
        'Traceback (most recent call last):\n  File "x.py", line 1\nZeroDivisionError',
        "Write a function that reverses a list.",
        "Refactor this so that it has one loop, then write unit tests for the module.",
        "Extract the validation into a helper function.",
        "diff --git a/x b/x\n@@ -1 +1 @@\n-a\n+b",
        "What does broker/routing/request/task.py do?",
        "Schreibe mir ein kurzes Programm, das Primzahlen findet.",
        'fn main() {\n    println!("hi");\n}',
    ],
)  # fmt: skip
def test_code_is_seen(text):
    assert said(text) is Task.CODE


@pytest.mark.parametrize("name", ["Bash", "bash", "apply_patch", "str_replace_based_edit_tool", "edit_file", "Edit"])
def test_tools_that_write_code_are_seen(name):
    assert said("go on", tools=[{"type": "function", "function": {"name": name}}]) is Task.CODE
    assert (
        task(RequestKind.MESSAGES, messages=[{"role": "user", "content": "go on"}], tools=[{"name": name}]) is Task.CODE
    )


def test_instructions_tell_too_but_what_is_asked_last_comes_first():
    coder = {"role": "system", "content": "You are an expert software engineer."}
    assert task(RequestKind.CHAT, messages=[coder, {"role": "user", "content": "go on"}]) is Task.CODE
    assert task(RequestKind.CHAT, messages=[coder, {"role": "user", "content": "Summarize this: …"}]) is Task.SUMMARY
    classifier = "You sort mail. Classify each message as urgent or not; answer with one of the words."
    assert (
        task(RequestKind.MESSAGES, system=classifier, messages=[{"role": "user", "content": "Help!"}])
        is Task.CLASSIFICATION
    )
    parts = [{"type": "text", "text": classifier}]
    assert (
        task(RequestKind.MESSAGES, system=parts, messages=[{"role": "user", "content": "Help!"}]) is Task.CLASSIFICATION
    )
    assert task(RequestKind.RESPONSES, instructions=classifier, input="Help!") is Task.CLASSIFICATION


def test_the_last_word_of_the_user_counts_not_an_earlier_one():
    turns = [
        {"role": "user", "content": "Summarize this: …"},
        {"role": "assistant", "content": "It is about bees."},
        {"role": "user", "content": [{"type": "text", "text": "And why do they dance?"}]},
    ]
    assert task(RequestKind.CHAT, messages=turns) is Task.CHAT
    tool_answer = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "Classify this"}]}
    assert task(RequestKind.MESSAGES, messages=[*turns[:1], tool_answer]) is Task.SUMMARY


@pytest.mark.parametrize(
    "text",
    [
        "Hello, how are you?",
        "Resume where we left off.",
        "What is an extract of vanilla?",
        "Tell me about the history of librarians and their catalogues.",
        "How did people classify plants before Linnaeus?",
        "I import shoes from Italy.",
        "Write a poem about the sea.",
        "Who wrote the summary judgment in that case?",
        "",
    ],
)
def test_what_shows_nothing_is_chat(text):
    assert said(text) is Task.CHAT


def test_a_body_that_cannot_be_read_is_chat():
    assert task_of(RequestKind.CHAT, content_of(RequestKind.CHAT, b"{")) is Task.CHAT


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ("role", "content", "type", "text", "tool_calls", "name", "function", "system", "schema", "quantizations")
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(
    st.sampled_from(RequestKind),
    st.dictionaries(st.sampled_from(
        ("messages", "input", "prompt", "suffix", "system", "tools", "instructions", "provider", "response_format")
    ), anything),
)  # fmt: skip
def test_no_shape_of_a_body_is_an_error(kind, fields):
    assert task_of(kind, content_of(kind, json.dumps(fields).encode())) in Task


def test_a_text_that_is_made_to_be_tried_for_ever_is_only_talk():
    assert said("write a " + "1 aaaaaaaa " * 200) is Task.CHAT
    assert said("\n" * 2_500 + "!") is Task.CHAT
    tools = [{"type": "function", "function": {"name": "_str_replace" * 50_000 + "!"}}]
    assert said("Hello there", tools=tools) is Task.CHAT
